"""What runs inside a worker, of a pool or of a cluster.

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
import socket
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

SAID = "said"  # what files begin with in which workers leave for their launcher what they warn of
CELLS = "SYNPRIV_CELLS"  # in the environment: the cells of the sweep, as it began
LOST_ITS_GPU = 86  # exit code of a worker whose CUDA context is of no more use


class JobFailed(Exception):
    """Why a job failed, in one line; the traceback is in its run.log."""


class Died(JobFailed):
    """What ran the job ended under it, whatever the job was."""


class NotRun(JobFailed):
    """The job was not run, or not to its end, as another one had failed."""


def failed(overrides: Sequence[str], reason: str) -> JobReturn:
    """The result of a job that failed, for this reason."""
    return _unsuccessful(overrides, JobFailed(reason))


def died(overrides: Sequence[str], reason: str) -> JobReturn:
    """The result of a job whose worker, GPU or node was lost."""
    return _unsuccessful(overrides, Died(reason))


def not_run(overrides: Sequence[str]) -> JobReturn:
    """The result of a job that `fail_fast` left out."""
    return _unsuccessful(overrides, NotRun("not run: hydra.launcher.fail_fast=true"))


def _unsuccessful(overrides: Sequence[str], error: JobFailed) -> JobReturn:
    result = JobReturn(overrides=overrides, status=JobStatus.FAILED)
    result.return_value = error
    return result


class _ToParent(logging.Handler):
    """Hands warnings to the launcher, which prints each once: a run's log is read too late."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno != logging.WARNING:
            return
        line = f"{terminal.one_line(record.getMessage())}\n"
        file = _state["folder"] / f"{SAID}-{socket.gethostname()}-{os.getpid()}"
        # Where the folder is gone, so is the launcher; run.log has the line too.
        with contextlib.suppress(OSError), file.open("a", encoding="utf-8") as stream:
            stream.write(line)


_state: dict[str, Any] = {}  # of this worker: slot, accelerator, folder, shared, jobs, run


def start(slots: Sequence[str | None], folder: str, shared: bytes) -> None:
    """Take a slot, see only its GPU, and go when the parent goes."""
    _state["slot"], gpu = _take_slot(slots, folder)
    begin(Path(folder), shared, "cpu" if gpu is None else "gpu")
    os.environ["CUDA_VISIBLE_DEVICES"] = gpu or ""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def leave_with_parent() -> None:
        parent.join()
        shutil.rmtree(folder, ignore_errors=True)  # if the parent was killed, it could not
        os._exit(1)

    threading.Thread(target=leave_with_parent, daemon=True).start()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def begin(folder: Path, shared: bytes, accelerator: str) -> None:
    """Be ready for jobs: `folder` is seen by the launcher too, `shared` is what jobs have alike."""
    terminal.never_fail()
    _state.update(folder=folder, shared=shared, accelerator=accelerator)
    logging.getLogger("synpriv").addHandler(_ToParent())
    signal.signal(signal.SIGTERM, _leave)


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
    with contextlib.suppress(OSError):  # a full disk: if it exits with 0, the pool waits for it
        _word_of_process(_state["folder"], number).write_text(str(os.getpid()), "utf-8")
    outcome = _attempt(overrides, number)
    if "leaving" in _state:  # what unwinds may end as another error, or be swallowed by a library
        os._exit(143)
    if isinstance(outcome, Exception) and _is_full(outcome):
        _log(outcome)
        _empty(outcome)
        outcome = _attempt(overrides, number)
    if isinstance(outcome, JobReturn):
        return cloudpickle.dumps(outcome)
    reason = _log(outcome)
    if _is_full(outcome) or _is_of_cuda(outcome):
        _word_of_loss(_state["folder"], number).write_text(reason, "utf-8")
        os._exit(LOST_ITS_GPU)
    _note(reason)
    return cloudpickle.dumps(failed(overrides, reason))


def _attempt(overrides: list[str], number: int) -> JobReturn | Exception:
    """The completed job, or why it is not."""
    log_file = _state["run"] = None
    try:
        context, task, composer = _shared()
        job = composer.compose(overrides)
        with open_dict(job):
            job.hydra.job.id = number
            job.hydra.job.num = number
            if OmegaConf.select(job, "trainer.accelerator") == "auto":
                job.trainer.accelerator = _state["accelerator"]  # never the CPU in a GPU's slot
        HydraConfig.instance().set_config(job)
        folder = run_folder(job)
        _refuse_other_cell(job)
        _state["run"] = folder
        log_file = _redirect_stderr(folder / "run.log")
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


def run_folder(job: DictConfig) -> Path:
    """Where a job's run lies.

    Resolved once: a cell's name is computed, and checks the config, whenever it is asked for.
    """
    with read_write(job.hydra):
        subdir = job.hydra.sweep.subdir = str(job.hydra.sweep.subdir)
    return Path(job.hydra.sweep.dir) / subdir


def _refuse_other_cell(job: DictConfig) -> None:
    """What names a cell is looked at anew for each job: a change would split the cell in two."""
    planned, subdir = os.environ.get(CELLS, "").split(), job.hydra.sweep.subdir
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


def _word_of_process(folder: Path, number: int) -> Path:
    return folder / f"{number}.process"


def process_of(folder: Path, number: int) -> int | None:
    """The process that began a job; None if none did."""
    with contextlib.suppress(FileNotFoundError, ValueError):  # ValueError: it is just written
        return int(_word_of_process(folder, number).read_text("utf-8"))
    return None


def _word_of_loss(folder: Path, number: int) -> Path:
    return folder / f"{number}.lost"


def reason_of_loss(folder: Path, number: int) -> str | None:
    """Why the worker of a job ended itself, in one line; None if it did not."""
    file = _word_of_loss(folder, number)
    return file.read_text("utf-8") if file.is_file() else None


def _log(error: BaseException) -> str:
    """Why a job failed, in one line; its traceback goes to the run's log."""
    from synpriv.cli import one_line

    logging.getLogger("synpriv").error("job failed", exc_info=error)
    return one_line(error)


def _note(reason: str) -> None:
    """Leave word of a failure in the run's folder, if the job came so far."""
    from synpriv.results import failures

    if _state["run"] is not None:
        with contextlib.suppress(OSError):  # a full disk: the launcher is told, and run.log
            failures.note(_state["run"], reason)


def _redirect_stderr(file: Path) -> int:
    """What libraries print goes to the run's own log."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 2)
    return descriptor
