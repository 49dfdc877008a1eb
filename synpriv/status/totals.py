"""All cells together: how many runs are what, and how long what is left will take."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from synpriv.results.locks import Holder
from synpriv.status.cells import Cell


class Totals(NamedTuple):
    """Of a results folder."""

    done: int
    running: int
    failed: int
    damaged: int
    missing: int
    begun: int  # and not trained; no sweep says that it asked for them
    unaudited: int  # reports that were asked for, of all runs or once others are asked for
    unreadable: int  # folders and files that would say more
    num_bytes: int
    workers: int  # processes that train now
    work_s: float  # of one worker, to finish what is missing and running
    unknown: int  # runs ahead in cells without a finished one, which `work_s` leaves out

    @property
    def left_s(self) -> float | None:
        """Until the workers of now are through; None where nobody works or it is not known."""
        known = self.workers and not self.unknown
        return self.work_s / self.workers if known else None

    @property
    def ahead(self) -> bool:
        """Whether anything is still to come, or to be asked for again."""
        return bool(self.running or self.missing or self.begun or self.unaudited)

    @property
    def exit_code(self) -> int:
        """0: all is there; 1: some failed, are damaged or unreadable; 3: not all is there yet."""
        if self.failed or self.damaged or self.unreadable:
            return 1
        return 3 if self.ahead else 0


def of(cells: Sequence[Cell], now: float, unreadable: int = 0) -> Totals:
    """now: seconds since 1970. unreadable: what `cells.read` names beside the cells."""
    holders = [holder for cell in cells for holder in cell.running.values()]
    ahead = [(cell, work_s(cell, now)) for cell in cells]
    return Totals(
        done=sum(len(cell.done) for cell in cells),
        running=len(holders),
        failed=sum(len(cell.failed) for cell in cells),
        damaged=sum(len(cell.damaged) for cell in cells),
        missing=sum(len(cell.missing) for cell in cells),
        begun=sum(len(cell.begun) for cell in cells),
        unaudited=sum(len(cell.lacking) + len(cell.waiting) for cell in cells),
        unreadable=unreadable,
        num_bytes=sum(cell.num_bytes for cell in cells),
        workers=workers(cells),
        work_s=sum(seconds for _, seconds in ahead if seconds is not None),
        unknown=sum(len(c.missing) + len(c.running) for c, seconds in ahead if seconds is None),
    )


def workers(cells: Sequence[Cell]) -> int:
    """Processes that train now: one holds a run and that of the teacher it is built on."""
    holders = [holder for cell in cells for holder in cell.running.values()]
    return len({(holder.pid, holder.host) for holder in holders})


def work_s(cell: Cell, now: float) -> float | None:
    """Seconds of one worker for what is missing and running in a cell.

    A run takes the median of the finished ones of its cell; of one that runs, what has gone by is
    taken off. None where a run is ahead and none is finished.
    """
    usual = cell.median_s
    running = cell.running.values()
    if usual is None:
        return None if cell.missing or running else 0.0
    rest = sum(max(0.0, usual - max(0.0, _elapsed_s(holder, now))) for holder in running)
    return usual * len(cell.missing) + rest


def _elapsed_s(holder: Holder, now: float) -> float:
    """Seconds since a lock was taken, by the clock of its holder; 0 where it does not say."""
    try:
        return now - time.mktime(time.strptime(holder.since, "%Y-%m-%d %H:%M:%S"))
    except (ValueError, OverflowError):
        return 0.0
