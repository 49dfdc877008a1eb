"""A mirror of runs and audits in W&B (or a csv file): never blocks, prompts or stops a run.

Local files are the source of truth. This is the only file that imports wandb.
"""

from __future__ import annotations

import csv
import functools
import http.client
import io
import logging
import netrc
import os
import threading
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from omegaconf import DictConfig

from synpriv import config
from synpriv.results import store

log = logging.getLogger(__name__)
PROBE_TIMEOUT_S = 2.0
INIT_TIMEOUT_S = 8.0


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
    """A W&B run. The first failure is reported once and ends the mirroring of this run."""

    def __init__(self, run: Any) -> None:
        self._run = run

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
        def send(run: Any) -> None:
            import wandb

            run.log({key: wandb.Image(str(file))})

        self._guard(send)

    def finish(self, *, failed: bool = False) -> None:
        self._guard(lambda run: run.finish(exit_code=int(failed)))


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
    content = config.science(cfg) | {"cell": cell}
    content |= {"attack": config.plain(cfg.attack)} if job_type == "audit" else {"seed": cfg.seed}
    member = {"train": cfg.seed, "audit": cfg.attack.name, "public": "public"}[job_type]
    return WandbTracker(
        _init(
            project=cfg.logger.project,
            entity=cfg.logger.entity,
            id=f"{cell}-{member}",  # deterministic: a resumed sweep makes no duplicates
            name=f"{cell}-{member}",
            group=cell,
            job_type=job_type,
            config=content,
            dir=cfg.results,
        )
    )


def _init(**arguments: Any) -> Any:
    """An online run if W&B can be reached with a key, else an offline one, else None."""
    try:
        import wandb
    except ImportError as error:
        log.warning("W&B cannot be imported (%s): nothing is mirrored", error)
        return None
    settings = wandb.Settings(
        console="off",
        silent=True,
        init_timeout=INIT_TIMEOUT_S,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
        disable_git=True,
        disable_code=True,
    )
    for mode in _modes():
        more: dict[str, Any] = {"mode": mode, "reinit": "finish_previous", "settings": settings}
        if mode == "online":
            more["resume"] = "allow"
        try:
            Path(arguments["dir"]).mkdir(parents=True, exist_ok=True)
            return wandb.init(**more, **arguments)
        except Exception as error:  # noqa: BLE001 - a mirror must never stop an experiment
            log.warning("W&B %s mode failed: %s", mode, str(error).partition("\n")[0])
            _give_up_online()
    return None


def _modes() -> list[str]:
    """Modes to try in turn; the user's WANDB_MODE decides if it is set."""
    chosen = os.environ.get("WANDB_MODE")
    if chosen in ("offline", "disabled", "dryrun"):
        return [chosen if chosen != "dryrun" else "offline"]
    return ["online", "offline"] if reachable() and not _gave_up else ["offline"]


_gave_up: list[bool] = []


def _give_up_online() -> None:
    """After one failure this process stays offline: a slow server must not delay every run."""
    _gave_up.append(True)


@functools.cache
def reachable() -> bool:
    """Whether a W&B key is set and its server answers at all; asked once per process.

    `wandb.init` would wait over a minute for a server that does not. Name resolution has no time
    limit of its own, hence the thread.
    """
    url = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
    if not (os.environ.get("WANDB_API_KEY") or _in_netrc(urlparse(url).hostname or "")):
        return False
    connected = threading.Event()

    def probe() -> None:
        try:
            urllib.request.urlopen(url, timeout=PROBE_TIMEOUT_S).close()
            connected.set()
        except urllib.error.HTTPError:  # an answer, if not to this question
            connected.set()
        except (OSError, ValueError, http.client.HTTPException) as error:
            log.info("W&B at %s cannot be reached (%s): offline", url, error)

    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(PROBE_TIMEOUT_S)
    return connected.is_set()


def _in_netrc(host: str) -> bool:
    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
