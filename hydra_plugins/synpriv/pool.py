"""The default launcher: a pool of persistent worker processes, one per device slot or CPU core."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import resource_tracker
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
from synpriv import hardware, interrupts

# What libraries read once, at process start, unless the user has set it. glibc gives freed tensors
# back to the kernel and fetches them again page by page; keeping them halves the time of large
# convolutions on a CPU (docs/results.md). Workers fill the cores, each with one thread for BLAS.
_ENVIRONMENT = {
    "MALLOC_TRIM_THRESHOLD_": "1000000000",
    "MALLOC_MMAP_THRESHOLD_": "1000000000",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
}
_WARNINGS = 10  # of workers, printed at the most


class PoolLauncher(Launcher):
    """Runs jobs on `num_workers` CPU workers, or on `jobs_per_device` workers per GPU.

    A worker keeps its imports from job to job. One that dies (killed, out of memory, CUDA abort)
    fails its job only and is replaced; one that lost its GPU is replaced and its job tried again.
    """

    def __init__(
        self,
        num_workers: int | None = None,
        devices: str | int | Sequence[int | str] = "auto",
        jobs_per_device: int | str = 1,
    ) -> None:
        for name, value, word in (
            ("num_workers", num_workers, None),
            ("jobs_per_device", jobs_per_device, "auto"),
        ):
            if value != word and not (isinstance(value, int) and value >= 1):
                right = "an integer, at least 1" + (f", or {word}" if word else "")
                raise ValueError(f"hydra.launcher.{name}={value}: must be {right}")
        if isinstance(devices, int | str) and devices != "auto":
            raise ValueError(f"hydra.launcher.devices={devices}: must be a list, [{devices}]")
        self.num_workers, self.jobs_per_device = num_workers, jobs_per_device
        self.devices = None if isinstance(devices, int | str) else [str(d) for d in devices]

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
        self._slots: list[str | None] | None = None

    def slots(self) -> list[str | None]:
        """One entry per worker: the GPU it sees, or None for a CPU worker."""
        accelerator = OmegaConf.select(self.config, "trainer.accelerator", default="auto")
        found = hardware.Gpus([]) if accelerator == "cpu" else hardware.gpus()
        chosen = found.ids
        if self.devices is not None and accelerator != "cpu":
            name = f"hydra.launcher.devices=[{','.join(self.devices)}]"
            chosen = hardware.chosen_gpus(found.ids, self.devices, name)
        if not chosen:
            if accelerator == "gpu":
                raise ValueError("trainer.accelerator=gpu: no GPU here; use trainer=auto or cpu")
            return [None] * (self.num_workers or hardware.usable_cores())
        each = self.jobs_per_device
        if isinstance(each, str):
            each = hardware.jobs_per_gpu(found._replace(ids=chosen))
        # In turn, so that a few jobs spread over all GPUs; a job keeps one core busy.
        slots: list[str | None] = [gpu for _ in range(each) for gpu in chosen]
        most = max(len(chosen), hardware.usable_cores())
        if len(slots) > most:
            print(f"note: {most} GPU workers instead of {len(slots)}: one per CPU core")
        return slots[:most]

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        setup_globals()
        if self._slots is None:  # asking for GPUs takes seconds, and a sweep may have many batches
            self._slots = self.slots()
        slots = self._slots[: len(job_overrides)]
        kind = "CPU" if slots[0] is None else "GPU"
        print(f"jobs: {len(job_overrides)}, {kind} workers: {len(slots)}", flush=True)
        context = (self.hydra_context, self.task_function, self.config, Singleton.get_state())
        # A worker that is killed while it starts leaves nobody to read from its pipe: what is more
        # than the pipe holds, 64 kB, would be written for ever.
        shared = zlib.compress(cloudpickle.dumps(context))
        folder = Path(tempfile.mkdtemp(prefix="synpriv-slots-"))
        try:
            with _environment():
                return _Sweep(shared, slots, folder).run(job_overrides, initial_job_idx)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _environment() -> Iterator[None]:
    """What workers find in their environment when they start."""
    added = {key: value for key, value in _ENVIRONMENT.items() if key not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for key in added:
            del os.environ[key]


class _Sweep:
    """One batch of jobs on its way through the pool."""

    def __init__(self, shared: bytes, slots: Sequence[str | None], folder: Path) -> None:
        self.shared, self.slots, self.folder = shared, slots, folder
        self.returns: dict[int, JobReturn] = {}
        self.said: list[str] = []  # warnings of workers that were printed
        self.lost: dict[int, str] = {}  # jobs whose worker lost its GPU once, and how

    def run(self, jobs: Sequence[Sequence[str]], first: int) -> list[JobReturn]:
        progress = Progress(len(jobs))
        # Again for jobs that lost their GPU, and as pebble gives a pool up if a worker dies between
        # two jobs.
        for _ in range(3):
            waiting = [i for i in range(len(jobs)) if i not in self.returns]
            if waiting:
                self._drain(waiting, jobs, first, progress)
        for i in range(len(jobs)):
            reason = self.lost.get(i, "the workers died before it started")
            self.returns.setdefault(i, failed(jobs[i], reason))
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
            # Begun here, as its start would end the deafness; it ignores both signals by itself.
            resource_tracker.ensure_running()
            with interrupts.deaf_children():
                futures: dict[Future, int] = {
                    pool.schedule(_worker.work, args=(list(jobs[i]), first + i)): i for i in waiting
                }
            pending = set(futures)
            while pending:
                done, pending = wait(pending, timeout=1.0, return_when=FIRST_COMPLETED)
                for future in done:
                    i = futures[future]
                    if _lost_its_gpu(future) and i not in self.lost:
                        self.lost[i] = _worker.reason_of_loss(self.folder, first + i)
                        progress.say(f"{' '.join(jobs[i])}: {self.lost[i]}; it will be tried again")
                    elif not isinstance(future.exception(), BrokenProcessPool):
                        self.returns[i] = self._job_return(future, jobs[i], first + i)
                self._pass_on(progress)
                progress.show(self.returns)
            pool.close()
        except BaseException:
            pool.stop()
            for worker in multiprocessing.active_children():
                worker.terminate()  # all at once; the pool waits for one after the other
            raise
        finally:
            pool.join()

    def _pass_on(self, progress: Progress) -> None:
        """Print what workers warned of, each line once, and not all if there are many."""
        file = self.folder / _worker.SAID
        lines = file.read_text("utf-8").splitlines() if file.is_file() else []
        for line in dict.fromkeys(lines):
            if line not in self.said:
                self.said.append(line)
                more = len(self.said) - _WARNINGS
                if more <= 0:
                    progress.say(f"warning: {line}")
                elif more == 1:
                    progress.say("more warnings are in the run.log of each run")

    def _job_return(self, future: Future, overrides: Sequence[str], number: int) -> JobReturn:
        error = future.exception()
        if error is None:
            return cloudpickle.loads(future.result())
        if _lost_its_gpu(future):
            return failed(overrides, _worker.reason_of_loss(self.folder, number))
        if isinstance(error, ProcessExpired):
            return failed(overrides, f"its worker died ({_exit(error.exitcode)})")
        return failed(overrides, f"{type(error).__name__}: {error}")


def _lost_its_gpu(future: Future) -> bool:
    error = future.exception()
    return isinstance(error, ProcessExpired) and error.exitcode == _worker.LOST_ITS_GPU


def _exit(code: int) -> str:
    if code < 0:
        hint = ", out of memory?" if -code == signal.SIGKILL else ""
        return f"{signal.Signals(-code).name}{hint}"
    return f"exit code {code}"


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

    def say(self, text: str) -> None:
        """A line of its own."""
        print(f"\r\033[K{text}" if self.live else text, flush=True)

    def close(self) -> None:
        if self.live:
            print(flush=True)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
    )
