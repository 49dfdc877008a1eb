"""Jobs on their way: what came back of each, and what is said of them meanwhile."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from hydra.core.utils import JobReturn, JobStatus

from hydra_plugins.synpriv import _worker
from hydra_plugins.synpriv._composition import without_seed
from synpriv import terminal

_LINES = 10  # of warnings, and of reasons, printed at the most


class Tell(Protocol):
    """Who is told of jobs while they run: a terminal, or the launcher of this node's jobs."""

    def result(self, i: int, result: JobReturn) -> None:
        """A job's end, or what replaces it."""

    def lost(self, i: int, reason: str) -> None:
        """A job that will be tried again."""

    def warn(self, line: str) -> None:
        """What a worker warned of."""

    def say(self, text: str) -> None:
        """A line of its own."""

    def show(self, returns: Mapping[int, JobReturn]) -> None:
        """How far all are."""

    def close(self) -> None:
        """Nothing follows."""


class Batch:
    """Jobs and their results, however they are run; the first job has the number `first`.

    folders: the run of each job, as it was planned. What names a cell may change or be gone since.
    """

    def __init__(
        self,
        jobs: Sequence[Sequence[str]],
        folders: Sequence[Path],
        first: int,
        tell: Tell,
        *,
        fail_fast: bool = False,
    ) -> None:
        self.jobs, self.folders, self.first, self.tell = jobs, folders, first, tell
        self.returns: dict[int, JobReturn] = {}
        self.lost: dict[int, str] = {}  # jobs that are tried again, and how they were lost
        self.stopped = False  # no further job is to be started
        self._fail_fast = fail_fast

    def waiting(self) -> list[int]:
        """Jobs of which nothing has come back."""
        return [i for i in range(len(self.jobs)) if i not in self.returns]

    def put(self, i: int, result: JobReturn) -> None:
        """What became of a job; a second try may replace a failure."""
        before = self.returns.get(i)
        if before is not None and before.status == JobStatus.COMPLETED:
            return
        self.returns[i] = result
        self.tell.result(i, result)
        if self._fail_fast and result.status != JobStatus.COMPLETED:
            self.stopped = True

    def lose(self, i: int, reason: str) -> bool:
        """Its GPU, worker or node was lost: True if the job is to be tried once more."""
        if i in self.lost:
            self.died(i, reason)
            return False
        self.lost[i] = reason
        self.tell.lost(i, reason)
        return True

    def died(self, i: int, reason: str) -> None:
        """Nothing will come back of a job: what is on disk counts as done, else it failed."""
        from synpriv.results import failures, store

        folder = self.folders[i]
        cell = store.Cell(folder.parent.parent, folder.parent.name, 1)
        if folder.name.isdigit() and cell.problem(int(folder.name)) is None:
            done = JobReturn(overrides=self.jobs[i], status=JobStatus.COMPLETED)
            done.return_value = None
            self.put(i, done)
            return
        with contextlib.suppress(OSError):  # a full disk: the reason is printed too
            failures.note(folder, reason)
        self.put(i, _worker.died(self.jobs[i], reason))

    def ended(self) -> list[JobReturn]:
        """A result for each job; whatever was not run says so."""
        self.tell.close()
        return [self.returns.get(i) or _worker.not_run(job) for i, job in enumerate(self.jobs)]


class Said:
    """What workers write into a folder for their launcher: each line once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._passed: set[str] = set()

    def pass_on(self, tell: Tell) -> None:
        """Tell what is new."""
        from hydra_plugins.synpriv._worker import SAID

        for file in sorted(self.folder.glob(f"{SAID}-*")):
            for line in file.read_text("utf-8", errors="replace").splitlines():
                if line not in self._passed:
                    self._passed.add(line)
                    tell.warn(line)


class Progress:
    """One live line on a terminal; elsewhere a plain line now and then."""

    def __init__(self, jobs: Sequence[Sequence[str]], every_s: float = 30.0) -> None:
        self.jobs, self.total, self.every_s = jobs, len(jobs), every_s
        self.start = time.monotonic()
        self.last = self.start
        self.live = sys.stdout.isatty()
        alike = set(jobs[0]).intersection(*jobs[1:])
        self._common = alike if len(jobs) > 1 else set(without_seed(jobs[0]))
        self._shown = 0
        self._warned: dict[str, None] = {}
        self._reasons: dict[str, None] = {}

    def line(self, done: int, bad: int, elapsed_s: float) -> str:
        """Jobs done and failed, time passed and ahead."""
        ahead = f"ETA {_duration(elapsed_s / done * (self.total - done))}" if done else "ETA ?"
        lost = f", {bad} failed" if bad else ""
        return f"{done}/{self.total} jobs{lost}, {_duration(elapsed_s)} elapsed, {ahead}"

    def show(self, returns: Mapping[int, JobReturn]) -> None:
        now = time.monotonic()
        bad = sum(result.status != JobStatus.COMPLETED for result in returns.values())
        line = self.line(len(returns), bad, now - self.start)
        if self.live:
            print(f"\r\033[K{line}", end="", flush=True)
        elif now - self.last >= self.every_s or len(returns) == self.total > self._shown:
            self.last, self._shown = now, len(returns)
            print(line, flush=True)

    def result(self, i: int, result: JobReturn) -> None:
        """Say why a job failed, each reason once and with the first job that it met."""
        if result.status == JobStatus.COMPLETED:
            return
        own, reason = self._own(i), str(result._return_value)
        more = "more reasons are in the run.log of each run"
        self._once(self._reasons, reason, f"failed: {own}{reason}" if own else reason, more)

    def lost(self, i: int, reason: str) -> None:
        self.say(terminal.one_line(f"{self._own(i)}{reason}; it will be tried again"))

    def _own(self, i: int) -> str:
        """What a job has of its own, before what befell it."""
        own = " ".join(word for word in self.jobs[i] if word not in self._common)
        return own and f"{own}: "

    def warn(self, line: str) -> None:
        """Each line once, and not all if there are many."""
        more = "more warnings are in the run.log of each run"
        self._once(self._warned, line, f"warning: {line}", more)

    def _once(self, said: dict[str, None], key: str, text: str, more: str) -> None:
        if key in said:
            return
        said[key] = None
        if len(said) <= _LINES:
            self.say(terminal.one_line(text))
        elif len(said) == _LINES + 1:
            self.say(more)

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
