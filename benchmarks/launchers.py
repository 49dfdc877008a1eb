"""What launchers cost beside the pool: one sweep of small models, wall time and processor time.

    python -m benchmarks.launchers --seeds 16 --repeats 3

Launchers alternate, so that a busy machine is busy for all of them; medians. Each sweep is a
process of its own with a results folder of its own. Processor time is that of its processes that
were waited for, which some of Ray's are not.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from synpriv import hardware

LAUNCHERS = ("pool", "submitit_local", "ray")
CELL = (
    *("method=undefended", "attack=threshold", "dataset.num_train=300", "canary.num_canaries=30"),
    *("accuracy_models=0", "logger=none", "trainer=cpu", "method.warmup_epochs=0"),
)


def sweep(launcher: str, seeds: int, epochs: int) -> tuple[float, float]:
    """Wall and processor seconds of a sweep that must succeed."""
    folder = Path(tempfile.mkdtemp(prefix="synpriv-launchers-"))
    words = [f"num_models={seeds}", f"method.num_epochs={epochs}", f"results={folder}/r"]
    command = [sys.executable, "run.py", *CELL, *words, f"hydra/launcher={launcher}"]
    before, start = _processor_s(), time.monotonic()
    try:
        subprocess.run(
            [*command, "-m", f"seed=0..{seeds - 1}"],
            check=True,
            stdout=subprocess.DEVNULL,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return time.monotonic() - start, _processor_s() - before


def _processor_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)  # of all that were waited for
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--launchers", nargs="+", default=LAUNCHERS)
    asked = parser.parse_args()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in asked.launchers}
    for _ in range(asked.repeats):
        for name in asked.launchers:
            found[name].append(sweep(name, asked.seeds, asked.epochs))
            print(f"{name}: {found[name][-1][0]:.1f} s", file=sys.stderr, flush=True)
    load = os.getloadavg()[0]
    print(f"{asked.seeds} models, {asked.epochs} epochs, {hardware.usable_cores()} cores, ", end="")
    print(f"median of {asked.repeats}; load at the end {load:.1f}")
    base = statistics.median(wall for wall, _ in found[asked.launchers[0]])
    for name, times in found.items():
        wall, cpu = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"{name:16} wall {wall:6.1f} s ({wall / base:.2f}x)   processor {cpu:6.1f} s")


if __name__ == "__main__":
    main()
