"""What runs inside a worker of the pool launcher.

The leading underscore keeps Hydra's plugin scan away: it executes the modules it finds a second
time, which would empty `_state`.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
import traceback
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cloudpickle
from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import (
    JobReturn,
    JobStatus,
    filter_overrides,
    run_job,
    setup_globals,
)
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from hydra_plugins.synpriv._composition import Composer
from synpriv import terminal

SAID = "said"  # in the slots' folder: what workers warned of
CELLS = "SYNPRIV_CELLS"  # in the environment: the cells of the sweep, as it began
LOST_ITS_GPU = 86  # exit code of a worker whose CUDA context is of no more use


class JobFailed(Exception):
    """Why a job failed, in one line; the traceback is in its run.log."""


def failed(overrides: Sequence[str], reason: str) -> JobReturn:
    result = JobReturn(overrides=overrides, status=JobStatus.FAILED)
    result.return_value = JobFailed(reason)
    return result


class _ToParent(logging.Handler):
    """Hands warnings to the launcher, which prints each once: a run's log is read too late."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno != logging.WARNING:
            return
        line = f"{terminal.one_line(record.getMessage())}\n"
        file = _state["folder"] / SAID
        # Where the folder is gone, so is the launcher; run.log has the line too.
        with contextlib.suppress(OSError), file.open("a", encoding="utf-8") as stream:
            stream.write(line)


_state: dict[str, Any] = {}  # of this worker: slot, accelerator, folder, shared, jobs


def start(slots: Sequence[str | None], folder: str, shared: bytes) -> None:
    """Take a slot, see only its GPU, and go when the parent goes."""
    terminal.never_fail()
    _state["slot"], gpu = _take_slot(slots, folder)
    _state["accelerator"] = "cpu" if gpu is None else "gpu"
    _state["folder"] = Path(folder)
    logging.getLogger("synpriv").addHandler(_ToParent())
    os.environ["CUDA_VISIBLE_DEVICES"] = gpu or ""
    signal.signal(signal.SIGTERM, _leave)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def leave_with_parent() -> None:
        parent.join()
        shutil.rmtree(folder, ignore_errors=True)  # if the parent was killed, it could not
        os._exit(1)

    threading.Thread(target=leave_with_parent, daemon=True).start()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    _state["shared"] = shared


def _leave(*_: object) -> None:
    """Unwind, so that temporary files are removed; once, whoever repeats the signal."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _state["leaving"] = True
    sys.exit(143)


def _take_slot(slots: Sequence[str | None], folder: str) -> tuple[FileLock, str | None]:
    """A slot is held by a file lock, so that a dead worker's slot is free for its successor."""
    while True:
        for i, gpu in enumerate(slots):
            lock = FileLock(Path(folder) / f"{i}.lock")
            try:
                lock.acquire(blocking=False)
            except Timeout:
                continue
            return lock, gpu
        time.sleep(0.1)


def work(overrides: list[str], number: int) -> bytes:
    """Run one job as Hydra's own launcher does; whatever goes wrong comes back as its result.

    A CUDA error stays in its process and would fail every later job there: the worker leaves word
    of it and ends. Full memory is first emptied and the job tried once more.
    """
    outcome = _attempt(overrides, number)
    if "leaving" in _state:  # what unwinds may end as another error, or be swallowed by a library
        os._exit(143)
    if isinstance(outcome, Exception) and _is_full(outcome):
        _explained(overrides, outcome)
        _empty(outcome)
        outcome = _attempt(overrides, number)
    if isinstance(outcome, JobReturn):
        return cloudpickle.dumps(outcome)
    explained = _explained(overrides, outcome)
    if _is_full(outcome) or _is_of_cuda(outcome):
        word = str(explained._return_value)
        _word_of_loss(_state["folder"], number).write_text(word, "utf-8")
        os._exit(LOST_ITS_GPU)
    return cloudpickle.dumps(explained)


def _attempt(overrides: list[str], number: int) -> JobReturn | Exception:
    """The completed job, or why it is not."""
    log_file = None
    try:
        context, task, composer = _shared()
        job = composer.compose(overrides)
        with open_dict(job):
            job.hydra.job.id = number
            job.hydra.job.num = number
            if OmegaConf.select(job, "trainer.accelerator") == "auto":
                job.trainer.accelerator = _state["accelerator"]  # never the CPU in a GPU's slot
        HydraConfig.instance().set_config(job)
        # Resolved once: a cell's name is computed, and checks the config, whenever it is asked for.
        with read_write(job.hydra):
            subdir = job.hydra.sweep.subdir = str(job.hydra.sweep.subdir)
        _refuse_other_cell(job, subdir)
        log_file = _redirect_stderr(Path(job.hydra.sweep.dir) / subdir / "run.log")
        result = run_job(
            hydra_context=context,
            task_function=task,
            config=job,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
    except SystemExit as stop:  # a SIGTERM; pebble would take it for a job's result
        os._exit(stop.code if isinstance(stop.code, int) else 1)
    except Exception as error:  # noqa: BLE001 - one job must not end the sweep
        return error
    finally:
        if log_file is not None:
            os.close(log_file)
    if result.status != JobStatus.COMPLETED:
        return result._return_value
    # Without its config: those of a thousand jobs would be 140 MB in the sweep's process.
    slim = JobReturn(overrides=filter_overrides(overrides), status=result.status)
    slim.return_value = result.return_value
    return slim


def _refuse_other_cell(job: DictConfig, subdir: str) -> None:
    """What names a cell is looked at anew for each job: a change would split the cell in two."""
    planned = os.environ.get(CELLS, "").split()
    if planned and subdir.partition("/")[0] not in planned and job.cell not in planned:
        raise ValueError(
            f"{job.cell}: is no cell of this sweep: what names it, data, a generator's files or "
            "sets, changed while the sweep was running; start the sweep again"
        )


def _shared() -> tuple[HydraContext, TaskFunction, Composer]:
    """What all jobs of this worker have in common, unpickled for the first one."""
    if "jobs" not in _state:
        context, task, config, singletons = cloudpickle.loads(zlib.decompress(_state["shared"]))
        setup_globals()
        Singleton.set_state(singletons)
        _state["jobs"] = context, task, Composer(context.config_loader, config)
    return _state["jobs"]


def _is_full(error: BaseException) -> bool:
    """Whether a GPU's memory did not suffice; told by name, as torch may never be imported."""
    return type(error).__name__ == "OutOfMemoryError" or "cuda out of memory" in str(error).lower()


def _is_of_cuda(error: BaseException) -> bool:
    """Whether the process's CUDA context is lost, so far as one can tell."""
    if type(error).__name__ == "AcceleratorError":
        return True
    words = ("cuda error", "cublas", "cudnn")
    return isinstance(error, RuntimeError) and any(w in str(error).lower() for w in words)


def _empty(error: BaseException) -> None:
    """Give back the memory that a failed job held."""
    traceback.clear_frames(error.__traceback__)
    gc.collect()
    if "torch" in sys.modules:
        sys.modules["torch"].cuda.empty_cache()


def _word_of_loss(folder: Path, number: int) -> Path:
    return folder / f"{number}.lost"


def reason_of_loss(folder: Path, number: int) -> str:
    """Why the worker of a job ended itself, in one line."""
    return _word_of_loss(folder, number).read_text("utf-8")


def _explained(overrides: list[str], error: BaseException) -> JobReturn:
    """A failed result whose traceback is in the run's log."""
    from synpriv.cli import one_line

    logging.getLogger("synpriv").error("job failed", exc_info=error)
    return failed(overrides, one_line(error))


def _redirect_stderr(file: Path) -> int:
    """What libraries print goes to the run's own log."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 2)
    return descriptor
