"""A pool of persistent worker processes on this machine, one per slot."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import resource_tracker
from pathlib import Path

import cloudpickle
from pebble import ProcessExpired, ProcessPool

from hydra_plugins.synpriv import _worker
from hydra_plugins.synpriv._batch import Batch, Said
from synpriv import interrupts

# What libraries read once, at process start, unless the user has set it. glibc gives freed tensors
# back to the kernel and fetches them again page by page; keeping them halves the time of large
# convolutions on a CPU (docs/results.md). Workers fill the cores, each with one thread for BLAS.
ENVIRONMENT = {
    "MALLOC_TRIM_THRESHOLD_": "1000000000",
    "MALLOC_MMAP_THRESHOLD_": "1000000000",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
}
_PATIENCE_S = 2.0  # pebble looks at its workers ten times a second


def run(batch: Batch, slots: Sequence[str | None], shared: bytes) -> None:
    """Run the jobs that wait.

    A worker keeps its imports from job to job. One that dies (killed, out of memory, CUDA abort)
    fails its job only and is replaced; one that lost its GPU is replaced and its job tried again.
    """
    with _environment():
        # Again for jobs that lost their GPU, and as pebble gives a pool up if a worker dies
        # between two jobs.
        for _ in range(3):
            waiting = batch.waiting()
            if not waiting or batch.stopped:
                break
            folder = Path(tempfile.mkdtemp(prefix="synpriv-slots-"))
            try:
                _drain(batch, waiting, slots, shared, folder)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    for i in [] if batch.stopped else batch.waiting():
        batch.died(i, batch.lost.get(i, "the workers died before it started"))


@contextmanager
def _environment() -> Iterator[None]:
    """What workers find in their environment when they start."""
    added = {key: value for key, value in ENVIRONMENT.items() if key not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for key in added:
            del os.environ[key]


def _drain(
    batch: Batch, waiting: list[int], slots: Sequence[str | None], shared: bytes, folder: Path
) -> None:
    pool = ProcessPool(
        max_workers=min(len(slots), len(waiting)),
        initializer=_worker.start,
        initargs=(slots, str(folder), shared),
        context=multiprocessing.get_context("spawn"),
    )
    said = Said(folder)
    try:
        # Begun here, as its start would end the deafness; it ignores both signals by itself.
        resource_tracker.ensure_running()
        with interrupts.deaf_children():
            futures: dict[Future, int] = {
                pool.schedule(_worker.work, args=(list(batch.jobs[i]), batch.first + i)): i
                for i in waiting
            }
        pending, watch = set(futures), _Watch(folder)
        while pending and not batch.stopped:
            done, pending = wait(pending, timeout=1.0, return_when=FIRST_COMPLETED)
            for future in done:
                _take(batch, futures[future], future, folder)
            gone = watch.gone(batch.first + futures[future] for future in pending)
            for future in [each for each in pending if batch.first + futures[each] in gone]:
                if future.cancel():  # pebble replaced the worker, and would wait for its job
                    pending.remove(future)
                    batch.died(futures[future], "its worker ended itself (exit code 0)")
            said.pass_on(batch.tell)
            batch.tell.show(batch.returns)
        if batch.stopped:
            _end(pool)
        else:
            pool.close()
    except BaseException:
        _end(pool)
        raise
    finally:
        pool.join()


def _end(pool: ProcessPool) -> None:
    pool.stop()
    for worker in multiprocessing.active_children():
        worker.terminate()  # all at once; the pool waits for one after the other


def _take(batch: Batch, i: int, future: Future, folder: Path) -> None:
    error = future.exception()
    if error is None:
        batch.put(i, cloudpickle.loads(future.result()))
    elif isinstance(error, ProcessExpired) and error.exitcode == _worker.LOST_ITS_GPU:
        reason = _worker.reason_of_loss(folder, batch.first + i)
        batch.lose(i, reason or exit_in_words(error.exitcode))
    elif isinstance(error, ProcessExpired):
        batch.died(i, f"its worker died ({exit_in_words(error.exitcode)})")
    elif not isinstance(error, BrokenProcessPool):
        batch.died(i, f"{type(error).__name__}: {error}")


class _Watch:
    """Jobs whose process is gone although pebble waits for it.

    It takes exit code 0, with which a generator may end its process, for a worker at peace.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._since: dict[int, float] = {}  # by the job's number

    def gone(self, numbers: Iterable[int]) -> set[int]:
        """Those of these jobs; not at once, as pebble says by itself what else befell a worker."""
        alive, now = {worker.pid for worker in multiprocessing.active_children()}, time.monotonic()
        begun = {number: _worker.process_of(self._folder, number) for number in numbers}
        dead = [number for number, pid in begun.items() if pid is not None and pid not in alive]
        self._since = {number: self._since.get(number, now) for number in dead}
        return {number for number, since in self._since.items() if now - since >= _PATIENCE_S}


def exit_in_words(code: int) -> str:
    """What a process's exit code says."""
    if code < 0:
        hint = ", out of memory?" if -code == signal.SIGKILL else ""
        return f"{signal.Signals(-code).name}{hint}"
    return f"exit code {code}"
