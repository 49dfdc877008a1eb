"""The default launcher: a pool of persistent worker processes, one per device slot or CPU core."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import cloudpickle
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf
from pebble import ProcessExpired, ProcessPool

from hydra_plugins.synpriv import _worker
from hydra_plugins.synpriv._worker import failed

# glibc gives freed tensors back to the kernel and fetches them again page by page; keeping them
# halves the time of large convolutions on a CPU (docs/results.md). Read once, at process start.
_MALLOC = {
    "MALLOC_TRIM_THRESHOLD_": "1000000000",
    "MALLOC_MMAP_THRESHOLD_": "1000000000",
}


class PoolLauncher(Launcher):
    """Runs jobs on `num_workers` CPU workers, or on `jobs_per_device` workers per GPU.

    A worker keeps its imports from job to job. One that dies (killed, out of memory, CUDA abort)
    fails its job only and is replaced.
    """

    def __init__(
        self,
        num_workers: int | None = None,
        devices: str | int | Sequence[int | str] = "auto",
        jobs_per_device: int = 1,
    ) -> None:
        for name, value in (
            ("num_workers", num_workers),
            ("jobs_per_device", jobs_per_device),
        ):
            if value is not None and not (isinstance(value, int) and value >= 1):
                raise ValueError(f"hydra.launcher.{name}={value}: must be an integer, at least 1")
        if isinstance(devices, int):
            raise ValueError(f"hydra.launcher.devices={devices}: must be a list, [{devices}]")
        self.num_workers, self.jobs_per_device = num_workers, jobs_per_device
        self.devices = devices if isinstance(devices, str) else [str(d) for d in devices]

    def setup(
        self,
        *,
        hydra_context: HydraContext,
        task_function: TaskFunction,
        config: DictConfig,
    ) -> None:
        self.hydra_context, self.task_function, self.config = (
            hydra_context,
            task_function,
            config,
        )

    def slots(self) -> list[str | None]:
        """One entry per worker: the GPU it sees, or None for a CPU worker."""
        accelerator = OmegaConf.select(self.config, "trainer.accelerator", default="auto")
        if accelerator == "cpu":
            found: list[str] = []
        else:
            found = visible_gpus() if isinstance(self.devices, str) else list(self.devices)
        if found:
            return [gpu for gpu in found for _ in range(self.jobs_per_device)]
        return [None] * (self.num_workers or len(os.sched_getaffinity(0)))

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        setup_globals()
        slots = self.slots()[: len(job_overrides)]
        kind = "CPU" if slots[0] is None else "GPU"
        print(f"jobs: {len(job_overrides)}, {kind} workers: {len(slots)}", flush=True)
        shared = cloudpickle.dumps(
            (self.hydra_context, self.task_function, self.config, Singleton.get_state())
        )
        folder = Path(tempfile.mkdtemp(prefix="synpriv-slots-"))
        saved = {key: os.environ.get(key) for key in _MALLOC}
        os.environ.update({k: v for k, v in _MALLOC.items() if saved[k] is None})
        try:
            return _Sweep(shared, slots, folder).run(job_overrides, initial_job_idx)
        finally:
            for key in (key for key, value in saved.items() if value is None):
                del os.environ[key]
            shutil.rmtree(folder, ignore_errors=True)


class _Sweep:
    """One batch of jobs on its way through the pool."""

    def __init__(self, shared: bytes, slots: Sequence[str | None], folder: Path) -> None:
        self.shared, self.slots, self.folder = shared, slots, folder
        self.returns: dict[int, JobReturn] = {}

    def run(self, jobs: Sequence[Sequence[str]], first: int) -> list[JobReturn]:
        progress = Progress(len(jobs))
        for _ in range(3):  # pebble gives a pool up if a worker dies between two jobs
            waiting = [i for i in range(len(jobs)) if i not in self.returns]
            if waiting:
                self._drain(waiting, jobs, first, progress)
        for i in range(len(jobs)):
            self.returns.setdefault(i, failed(jobs[i], "the workers died before it started"))
        progress.close()
        return [self.returns[i] for i in range(len(jobs))]

    def _drain(
        self,
        waiting: list[int],
        jobs: Sequence[Sequence[str]],
        first: int,
        progress: Progress,
    ) -> None:
        pool = ProcessPool(
            max_workers=min(len(self.slots), len(waiting)),
            initializer=_worker.start,
            initargs=(self.slots, str(self.folder), self.shared),
            context=multiprocessing.get_context("spawn"),
        )
        try:
            futures: dict[Future, int] = {
                pool.schedule(_worker.work, args=(list(jobs[i]), first + i)): i for i in waiting
            }
            pending = set(futures)
            while pending:
                done, pending = wait(pending, timeout=1.0, return_when=FIRST_COMPLETED)
                for future in done:
                    i = futures[future]
                    if not isinstance(future.exception(), BrokenProcessPool):
                        self.returns[i] = _job_return(future, jobs[i])
                progress.show(self.returns)
            pool.close()
        except BaseException:
            pool.stop()
            raise
        finally:
            pool.join()


def _job_return(future: Future, overrides: Sequence[str]) -> JobReturn:
    error = future.exception()
    if error is None:
        return cloudpickle.loads(future.result())
    if isinstance(error, ProcessExpired):
        return failed(overrides, f"its worker died ({_exit(error.exitcode)})")
    return failed(overrides, f"{type(error).__name__}: {error}")


def _exit(code: int) -> str:
    if code < 0:
        hint = ", out of memory?" if -code == signal.SIGKILL else ""
        return f"{signal.Signals(-code).name}{hint}"
    return f"exit code {code}"


def visible_gpus() -> list[str]:
    """Ids of the GPUs this process may use, without importing torch."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [gpu.strip() for gpu in chosen.split(",") if gpu.strip() and gpu.strip() != "-1"]
    try:
        command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return answer.stdout.split()


class Progress:
    """One live line on a terminal; elsewhere a plain line now and then."""

    def __init__(self, total: int, every_s: float = 30.0) -> None:
        self.total, self.every_s = total, every_s
        self.start = time.monotonic()
        self.last = self.start
        self.live = sys.stdout.isatty()

    def line(self, done: int, bad: int, elapsed_s: float) -> str:
        ahead = f"ETA {_duration(elapsed_s / done * (self.total - done))}" if done else "ETA ?"
        lost = f", {bad} failed" if bad else ""
        return f"{done}/{self.total} jobs{lost}, {_duration(elapsed_s)} elapsed, {ahead}"

    def show(self, returns: dict[int, JobReturn]) -> None:
        now = time.monotonic()
        bad = sum(result.status != JobStatus.COMPLETED for result in returns.values())
        line = self.line(len(returns), bad, now - self.start)
        if self.live:
            print(f"\r\033[K{line}", end="", flush=True)
        elif now - self.last >= self.every_s or len(returns) == self.total:
            self.last = now
            print(line, flush=True)

    def close(self) -> None:
        if self.live:
            print(flush=True)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
    )
