"""What a sweep costs as it gets longer: seconds, memory of its processes, looks at its folder.

Measured from outside, as a user starts it: a thousand of the smallest trainings that are one, 16
and 64 of the digits, and 220 of these by one worker. CPU seconds are those of all processes of a
sweep, so that others on the machine change them little.
Usage: python -m benchmarks.seeds [SEEDS] [ROUNDS]    (1000 and 3)
"""

from __future__ import annotations

import bisect
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from synpriv.results import store

DIGITS = ["method=undefended", "logger=none", "accuracy_models=0", "trainer=cpu"]
TINY = [
    *DIGITS,
    *("dataset.num_train=60", "canary.num_canaries=10", "model.width=2"),
    *("method.num_epochs=1", "method.warmup_epochs=0"),
]
EVERY_S = 0.25  # a look at the processes
TICKS = os.sysconf("SC_CLK_TCK")
PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 2**20


class Usage(NamedTuple):
    """What a process has used so far."""

    cpu_s: float
    rss_mb: float
    is_worker: bool


class Look(NamedTuple):
    """All processes of a sweep at one time."""

    at: float  # seconds since 1970
    usage: dict[int, Usage]


class Sweep(NamedTuple):
    """A sweep that has ended."""

    cpu_s: float  # of all its processes
    began: float
    ended: float
    handed_over_s: float | None  # until the first job was given to a worker; None without jobs
    looks: list[Look]
    done: list[float]  # when each run was, in order

    def jobs(self, look: Look) -> int:
        """Runs that were done by then."""
        return bisect.bisect_right(self.done, look.at)

    def own_cpu_s(self) -> float:
        """Of the sweep's own process."""
        return max(u.cpu_s for look in self.looks for u in look.usage.values() if not u.is_worker)

    def memory_mb(self, *, workers: bool, first: int, last: int) -> float:
        """The median, over looks while jobs first..last were done, of the largest process."""
        found = []
        for look in self.looks:
            of = [u.rss_mb for u in look.usage.values() if u.is_worker == workers]
            if of and first <= self.jobs(look) <= last:
                found.append(max(of))
        return statistics.median(found) if found else float("nan")

    def cpu_per_job(self, first: int, last: int) -> float:
        """CPU seconds of all workers between two jobs, per job."""
        inside = [look for look in self.looks if first <= self.jobs(look) <= last]
        ends = inside[0], inside[-1]
        begun, ended = (sum(u.cpu_s for u in e.usage.values() if u.is_worker) for e in ends)
        return (ended - begun) / max(1, self.jobs(ends[1]) - self.jobs(ends[0]))


def look(group: int) -> Look:
    """The processes of a group, read from /proc."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[2]) != group or fields[0] == "Z":
                continue
        except OSError:  # it ended meanwhile
            continue
        cpu_s = (int(fields[11]) + int(fields[12])) / TICKS
        pid = int(folder.name)
        found[pid] = Usage(cpu_s, int(fields[21]) * PAGE_MB, is_worker=pid != group)
    return Look(time.time(), found)


def sweep(results: Path, *words: str) -> Sweep:
    """Run a sweep to its end and watch it."""
    before, began, looks, handed = _of_children(), time.time(), list[Look](), None
    output = results.parent / f"{results.name}.out"
    command = [sys.executable, "run.py", *words, f"results={results}"]
    with output.open("wb") as stream:
        process = subprocess.Popen(
            command, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
        )
        while process.poll() is None:
            looks.append(look(process.pid))
            if handed is None and b"\njobs: " in output.read_bytes():
                handed = time.time() - began
            time.sleep(EVERY_S if handed else EVERY_S / 5)
    if process.returncode:
        raise SystemExit(output.read_text("utf-8"))
    done = sorted(file.stat().st_mtime for file in results.glob("*/*/metrics.json"))
    return Sweep(_of_children() - before, began, time.time(), handed, looks, done)


def _of_children() -> float:
    """CPU seconds of all processes begun here that have ended, and of those that they began."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def many(folder: Path, num: int) -> None:
    """The smallest trainings, `num` of them, and what is looked at when they are done."""
    words = [*TINY, f"num_models={num}", "-m", f"seed=0..{num - 1}"]
    few = sweep(folder / "few", *TINY, "num_models=16", "-m", "seed=0..15")
    first = sweep(folder / "many", *words)
    again = sweep(folder / "many", *words)
    tenth = max(1, num // 10)
    print(f"{num} seeds of the smallest training, against 16:")
    print(f"  jobs handed over after {first.handed_over_s:.1f} s against {few.handed_over_s:.1f} s")
    print(f"  in all {first.ended - first.began:.0f} s; after the last run was done ", end="")
    print(f"{first.ended - first.done[-1]:.1f} s against {few.ended - few.done[-1]:.1f} s")
    own = first.own_cpu_s()
    print(f"  own process: {own:.1f} CPU s, workers: {first.cpu_s - own:.1f} CPU s")
    early, late = first.cpu_per_job(tenth, 3 * tenth), first.cpu_per_job(num - 3 * tenth, num - 2)
    print(f"  per job: {early:.3f} CPU s early, {late:.3f} CPU s late ({late / early:.2f}x)")
    for who in (False, True):
        a = first.memory_mb(workers=who, first=tenth, last=2 * tenth)
        b = first.memory_mb(workers=who, first=num - tenth, last=num - 1)
        name = "largest worker" if who else "own process"
        print(f"  memory of the {name}: {a:.0f} MB early, {b:.0f} MB late ({b / a - 1:+.1%})")
    print(f"  the same command again: {again.ended - again.began:.1f} s, ", end="")
    print(f"{again.cpu_s:.1f} CPU s")


def status(folder: Path, cells: int = 50, models: int = 64) -> None:
    """What it takes to say how far things are, of the folders of `many` and of many cells."""
    (run,) = (folder / "few").glob("*/0")
    about = json.loads((run / "metrics.json").read_bytes())
    del about["metrics_sha256"]
    for cell in range(cells):
        for seed in range(models):
            own = folder / "cells" / f"{cell}" / f"{seed}"
            shutil.copytree(run, own)
            store.save_metrics(own, about | {"cell": f"{cell}", "seed": seed})
    for name in ("many", "cells"):
        taken = []
        for _ in range(5):
            before = _of_children()
            command = [sys.executable, "-m", "synpriv.status", str(folder / name)]
            said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
            taken.append(_of_children() - before)
        print(f"status: {_spread(taken)} CPU s for {said.splitlines()[-1]}")


def linear(folder: Path, rounds: int) -> None:
    """64 digits models against 16 with the same settings."""
    taken: dict[int, list[tuple[float, float]]] = {16: [], 64: []}
    for i in range(rounds):
        for num, found in taken.items():
            words = [*DIGITS, f"num_models={num}", "-m", f"seed=0..{num - 1}"]
            one = sweep(folder / f"{num}-{i}", *words)
            found.append((one.ended - one.began, one.cpu_s))
    for what, column in (("wall", 0), ("CPU", 1)):
        few, lots = ([pair[column] for pair in taken[num]] for num in (16, 64))
        ratios = [b / a for a, b in zip(few, lots, strict=True)]
        print(f"digits, 64 models against 16, {what} s: {_spread(lots)} against {_spread(few)}, ")
        print(f"  ratio {statistics.median(ratios):.2f} ({min(ratios):.2f}..{max(ratios):.2f})")


def worker(folder: Path, num: int = 220) -> None:
    """One worker from its tenth digits job on, 200 jobs long."""
    few = "method.num_epochs=3"
    words = [*DIGITS, few, "hydra.launcher.num_workers=1", f"num_models={num}"]
    one = sweep(folder / "worker", *words, "-m", f"seed=0..{num - 1}")
    a = one.memory_mb(workers=True, first=10, last=15)
    b = one.memory_mb(workers=True, first=num - 10, last=num - 2)
    print(
        f"a worker's memory after 10 digits jobs: {a:.0f} MB, after {num - 10}: {b:.0f} MB", end=""
    )
    print(f" ({b / a - 1:+.1%})")


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f}..{max(values):.1f})"


def main(num: int, rounds: int) -> None:
    """All of it, in a temporary folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        many(folder, num)
        status(folder)
        worker(folder)
        linear(folder, rounds)


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    main(*(given + [1000, 3][len(given) :]))
