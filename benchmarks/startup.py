"""Seconds to --help, and to run again a finished sweep of 64 shadow models.

Usage: python -m benchmarks.startup
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time

TINY = ["method.num_epochs=1", "method.warmup_epochs=0", "logger=none"]


def seconds(*command: str) -> float:
    """Wall seconds of a command that must succeed."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    """Print medians."""
    python = sys.executable
    help_s = [seconds(python, "run.py", "--help") for _ in range(5)]
    import_s = [seconds(python, "-c", "import synpriv.cli") for _ in range(5)]
    print(f"run.py --help: {statistics.median(help_s):.2f} s (n=5)")
    print(f"import synpriv.cli: {statistics.median(import_s):.2f} s (n=5)")
    with tempfile.TemporaryDirectory() as folder:
        sweep = [python, "run.py", f"results={folder}", *TINY, "-m", "seed=0..63"]
        first = seconds(*sweep)
        again = [seconds(*sweep) for _ in range(3)]
        attack = seconds(*sweep, "attack=threshold")
    print(f"64 shadow models of one epoch: {first:.1f} s")
    print(f"the same command again: {statistics.median(again):.1f} s (n=3)")
    print(f"the same cell with attack=threshold: {attack:.1f} s")


if __name__ == "__main__":
    main()
