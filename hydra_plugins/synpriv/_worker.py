"""What runs inside a worker of the pool launcher.

The leading underscore keeps Hydra's plugin scan away: it executes the modules it finds a second
time, which would empty `_state`.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
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
from omegaconf import open_dict

_THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


class JobFailed(Exception):
    """Why a job failed, in one line; the traceback is in its run.log."""


def failed(overrides: Sequence[str], reason: str) -> JobReturn:
    result = JobReturn(overrides=overrides, status=JobStatus.FAILED)
    result.return_value = JobFailed(reason)
    return result


_state: dict[str, Any] = {}


def start(slots: Sequence[str | None], folder: str, shared: bytes) -> None:
    """Take a slot, see only its GPU, use one thread, and go when the parent goes."""
    _state["slot"], gpu = _take_slot(slots, folder)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    else:
        for name in _THREADS:
            os.environ.setdefault(name, "1")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that temporary files are removed
    parent = multiprocessing.parent_process()
    assert parent is not None

    def leave_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=leave_with_parent, daemon=True).start()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    _state["shared"] = shared


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
    """Run one job as Hydra's own launcher does; whatever goes wrong comes back as its result."""
    context, task, config, singletons = cloudpickle.loads(_state["shared"])
    setup_globals()
    Singleton.set_state(singletons)
    log_file = None
    try:
        job = context.config_loader.load_sweep_config(config, overrides)
        with open_dict(job):
            job.hydra.job.id = number
            job.hydra.job.num = number
        HydraConfig.instance().set_config(job)
        log_file = _redirect_stderr(Path(job.hydra.sweep.dir) / job.hydra.sweep.subdir / "run.log")
        result = run_job(
            hydra_context=context,
            task_function=task,
            config=job,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
    except SystemExit as stop:  # the launcher's SIGTERM; pebble would take it for a job's result
        os._exit(stop.code if isinstance(stop.code, int) else 1)
    except Exception as error:  # noqa: BLE001 - one job must not end the sweep
        return cloudpickle.dumps(_explained(overrides, error))
    finally:
        if log_file is not None:
            os.close(log_file)
    if result.status != JobStatus.COMPLETED:
        return cloudpickle.dumps(_explained(overrides, result._return_value))
    slim = JobReturn(overrides=filter_overrides(overrides), cfg=result.cfg, status=result.status)
    slim.return_value = result.return_value
    return cloudpickle.dumps(slim)


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
