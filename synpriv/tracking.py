"""A mirror of runs and audits in W&B (or a csv file): never blocks, prompts or stops a run.

Local files are the source of truth.
"""

from __future__ import annotations

import csv
import io
import logging
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from synpriv import config, schema, wandb_session
from synpriv.results import store

log = logging.getLogger(__name__)


class Tracker(ABC):
    """Rows over epochs, then one summary."""

    @abstractmethod
    def log(self, row: dict[str, float], epoch: int) -> None: ...

    @abstractmethod
    def summary(self, values: dict[str, Any]) -> None: ...

    @abstractmethod
    def picture(self, key: str, file: Path) -> None: ...

    @abstractmethod
    def finish(self, *, failed: bool = False) -> None: ...


class NoTracker(Tracker):
    """Keeps nothing."""

    def log(self, row: dict[str, float], epoch: int) -> None:
        pass

    def summary(self, values: dict[str, Any]) -> None:
        pass

    def picture(self, key: str, file: Path) -> None:
        pass

    def finish(self, *, failed: bool = False) -> None:
        pass


class CsvTracker(NoTracker):
    """history.csv in the run's folder; summaries and pictures are local files already."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._rows: list[dict[str, float]] = []

    def log(self, row: dict[str, float], epoch: int) -> None:
        self._rows.append({"epoch": epoch, **row})

    def finish(self, *, failed: bool = False) -> None:
        if not self._rows:
            return
        columns = list(dict.fromkeys(key for row in self._rows for key in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        writer.writerows(self._rows)
        store.write_bytes(self._file, text.getvalue().encode())


class WandbTracker(Tracker):
    """A W&B run. The first failure is reported once and ends the mirroring of this run.

    replaces: folders of offline runs that this one makes obsolete, removed when it is complete.
    """

    def __init__(self, run: Any, replaces: Sequence[Path] = ()) -> None:
        self._run, self._replaces = run, replaces

    def _guard(self, call: Callable[[Any], object]) -> None:
        if self._run is None:
            return
        try:
            call(self._run)
        except Exception as error:  # noqa: BLE001 - a mirror must never stop an experiment
            log.warning("W&B stopped mirroring this run: %s", error)
            self._run = None

    def log(self, row: dict[str, float], epoch: int) -> None:
        self._guard(lambda run: run.log({**row, "epoch": epoch}))

    def summary(self, values: dict[str, Any]) -> None:
        self._guard(lambda run: run.summary.update(values))

    def picture(self, key: str, file: Path) -> None:
        self._guard(lambda run: run.log({key: wandb_session.image(file)}))

    def finish(self, *, failed: bool = False) -> None:
        self._guard(lambda run: run.finish(exit_code=int(failed)))
        if self._run is not None and not failed:
            for folder in self._replaces:
                shutil.rmtree(folder, ignore_errors=True)

    def place(self) -> str | None:
        """The address of the run, or the folder of an offline one; None if nothing is mirrored."""
        if self._run is None:
            return None
        offline = self._run.offline  # asking such a run for its address prints a warning
        return str(Path(self._run.dir).parent) if offline else self._run.url


def check(cfg: DictConfig) -> None:
    """Refuse, before anything is trained, an environment with which nothing would be mirrored."""
    if cfg.logger.name == "wandb":
        wandb_session.check()


def settle(cfg: DictConfig) -> None:
    """Ask the server once, before the processes of a sweep are started, and say what it answers."""
    if cfg.logger.name == "wandb":
        wandb_session.settle(Path(cfg.results))


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
    if cfg.logger.name == "csv" and job_type != "audit":
        return CsvTracker(folder / "history.csv")
    if cfg.logger.name != "wandb" or (job_type != "audit" and not cfg.logger.per_seed):
        return NoTracker()
    account = {"project": cfg.logger.project, "entity": cfg.logger.entity}
    content, results = config.science(cfg), Path(cfg.results)
    if job_type == "audit":
        place = Path(cfg.reports or cfg.results)
        return _audit(cell, content, config.plain(cfg.attack), place, account)
    return _open(
        f"{cell}-{'public' if job_type == 'public' else cfg.seed}",
        {"group": cell, "job_type": job_type, "config": content | {"cell": cell, "seed": cfg.seed}},
        results,
        account,
    )


def mirror(
    report: Mapping[str, Any],
    *,
    summary: Mapping[str, Any],
    pictures: Mapping[str, Path],
    results: Path,
    project: str | None = None,
    entity: str | None = None,
) -> str | None:
    """Mirror an audit that is on disk, as the run that its sweep would have made of it.

    Returns where it is: an address, or the folder of an offline run. None: nothing was mirrored, a
    warning has said why. summary: flat; pictures: by key. Project and entity are those of
    WANDB_PROJECT and WANDB_ENTITY by default.
    """
    wandb_session.check()
    account = {
        "project": project or os.environ.get("WANDB_PROJECT") or schema.Logger.project,
        "entity": entity,
    }
    science = _nested(report["settings"])
    tracker = _audit(report["cell"], science, report["attack_options"], results, account)
    tracker.summary(dict(summary))
    for key, file in pictures.items():
        tracker.picture(key, file)
    tracker.finish()
    return tracker.place()


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as nested settings."""
    found: dict[str, Any] = {}
    for key, value in flat.items():
        *path, last = key.split(".")
        node = found
        for part in path:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise ValueError(f"settings of the report: {key} is within a value")
        node[last] = value
    return found


def _audit(
    cell: str,
    science: dict[str, Any],
    attack: dict[str, Any],
    results: Path,
    account: dict[str, Any],
) -> WandbTracker:
    return _open(
        f"{cell}-{attack['name']}",
        {"group": cell, "job_type": "audit", "config": science | {"cell": cell, "attack": attack}},
        results,
        account,
    )


def _open(name: str, about: dict[str, Any], results: Path, account: dict[str, Any]) -> WandbTracker:
    """A run whose id is its name: a resumed sweep makes no duplicates."""
    obsolete = wandb_session.folders(results, name, "offline-run")
    run = wandb_session.begin(id=name, name=name, dir=str(results), **about, **account)
    return WandbTracker(run, obsolete)
