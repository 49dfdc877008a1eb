"""The tracker that a config asks for."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omegaconf import DictConfig

from synpriv import config, wandb_session
from synpriv.tracking import mlflow, tensorboard, wandb
from synpriv.tracking.base import About, NoTracker, Tracker
from synpriv.tracking.csv import CsvTracker

EXTRAS = ("tensorboard", "mlflow")  # trackers that are not installed with the package


def check(cfg: DictConfig) -> None:
    """Refuse, before anything is trained, an environment with which nothing would be mirrored."""
    name = cfg.logger.name
    if name in EXTRAS and importlib.util.find_spec(name) is None:
        raise ValueError(f"logger={name}: {name} is not installed; pip install 'synpriv[{name}]'")
    if name == "wandb":
        wandb_session.check()
    if name == "mlflow":
        mlflow.check()


def settle(cfg: DictConfig) -> None:
    """Ask the server once, before the processes of a sweep are started, and say what it answers."""
    if cfg.logger.name == "wandb":
        wandb_session.settle(Path(cfg.results))


def is_awaited(cfg: DictConfig) -> bool:
    """Whether somebody waits to be told of an audit, even of one that is there already."""
    return cfg.logger.name == "wandb" and wandb.is_awaited(Path(cfg.reports or cfg.results))


@contextmanager
def track(
    cfg: DictConfig, folder: Path, *, job_type: str, cell: str | None = None
) -> Iterator[Tracker]:
    """The configured tracker for one shadow model (`train`) or one audit (`audit`).

    Or for a model of public data alone (`public`), whose `cell` is not the config's.
    """
    tracker = _start(cfg, folder, job_type, cell or cfg.cell)
    try:
        yield tracker
    except BaseException:
        tracker.finish(failed=True)
        raise
    tracker.finish()


def _start(cfg: DictConfig, folder: Path, job_type: str, cell: str) -> Tracker:
    logger = cfg.logger
    if logger.name == "csv" and job_type != "audit":
        return CsvTracker(folder / "history.csv")
    if logger.name in ("csv", "none") or (job_type != "audit" and not logger.per_seed):
        return NoTracker()
    about = _about(cfg, job_type, cell)
    if logger.name == "tensorboard":
        return tensorboard.begin(about)
    if logger.name == "mlflow":
        return mlflow.begin(about, experiment=logger.project)
    return wandb.begin(about, project=logger.project, entity=logger.entity)


def _about(cfg: DictConfig, job_type: str, cell: str) -> About:
    science = config.science(cfg)
    if job_type == "audit":
        results = Path(cfg.reports or cfg.results)
        return About.of_audit(cell, science, config.plain(cfg.attack), results)
    name = f"{cell}-{'public' if job_type == 'public' else cfg.seed}"
    settings = science | {"cell": cell, "seed": cfg.seed}
    return About(name, cell, job_type, settings, Path(cfg.results))
