"""Leave-one-out LiRA: the closed form against the naive loop of the tests.

Usage: python -m benchmarks.lira
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable

import numpy as np

from synpriv.audit.attacks.lira import leave_one_out
from synpriv.data.draws import membership
from tests.reference import lira as naive

SIZES = ((500, 64, 18), (5000, 256, 18))


def seconds(call: Callable[[], object], rounds: int) -> float:
    """Median wall seconds."""
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def main() -> None:
    """Print seconds per size and variance, peak memory, and the ratio to the naive loop."""
    rng = np.random.default_rng(0)
    for num_canaries, num_models, num_views in SIZES:
        scores = rng.normal(size=(num_canaries, num_models, num_views))
        member = membership(num_canaries, num_models, seed=0)
        for variance in ("per_sample", "pooled", "pooled_raw"):
            taken = seconds(
                lambda s=scores, m=member, v=variance: leave_one_out(s, m, variance=v),  # type: ignore[misc]
                rounds=7 if num_canaries == 500 else 3,
            )
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            size = f"{num_canaries}x{num_models}x{num_views}"
            print(f"lira {size:12s} {variance:10s} {taken:.3f} s, process peak {peak:.2f} GB")
    scores, member = rng.normal(size=(20, 64, 18)), membership(20, 64, seed=0)
    fast = seconds(lambda: leave_one_out(scores, member, equalise=False), rounds=7)
    slow = seconds(lambda: naive.leave_one_out(scores, member), rounds=1)
    print(f"lira 20x64x18: naive loop {slow:.2f} s, closed form {fast:.4f} s: {slow / fast:.0f}x")


if __name__ == "__main__":
    main()
