"""The default attack: seconds of a first pass, of a null round, and against the tests' naive loop.

Usage: python -m benchmarks.lira
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable

import numpy as np

from synpriv.audit.attacks.lira import by_view, lira, log_ratios
from synpriv.audit.crossfit import statistic_of
from synpriv.audit.evidence import Evidence
from synpriv.audit.references import left_out
from synpriv.data.draws import membership
from tests.reference import lira as naive

SIZES = ((125, 16, 9), (500, 64, 18))


def seconds(call: Callable[[], object], rounds: int) -> float:
    """Median processor seconds."""
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        call()
        taken.append(time.process_time() - start)
    return statistics.median(taken)


def pairs(num_canaries: int, num_models: int, rng: np.random.Generator) -> np.ndarray:
    """Paired membership [C,S]: a fair coin per canary and pair."""
    first = rng.random((num_canaries, num_models // 2)) < 0.5
    return np.stack([first, ~first], axis=2).reshape(num_canaries, num_models)


def main() -> None:
    """Print seconds per size and design, peak memory, and the ratio to the naive loop."""
    rng = np.random.default_rng(0)
    for num_canaries, num_models, num_views in SIZES:
        logits = rng.normal(size=(num_canaries, num_models, num_views, 10)).astype(np.float32)
        labels = rng.integers(0, 10, size=num_canaries)
        for design in ("paired", "balanced", "bernoulli"):
            drawn = pairs(num_canaries, num_models, rng)
            given = Evidence(logits, drawn, labels, (labels + 1) % 10, design=design)
            first = seconds(lambda e=given: _procedure(e), rounds=1)  # type: ignore[misc]
            again = given.with_member(pairs(num_canaries, num_models, rng))
            next_one = seconds(lambda e=again: _procedure(e), rounds=9)  # type: ignore[misc]
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            print(
                f"lira {num_canaries}x{num_models}x{num_views} {design}: first pass {first:.3f} s, "
                f"null round {next_one:.4f} s, process peak {peak:.2f} GB"
            )
    scores, member = rng.normal(size=(20, 64, 18)), membership(20, 64, seed=0)
    fast = seconds(lambda: log_ratios(by_view(scores), left_out(member)), rounds=7)
    slow = seconds(lambda: naive.leave_one_out(scores, member), rounds=1)
    print(f"lira 20x64x18: naive loop {slow:.2f} s, closed form {fast:.4f} s: {slow / fast:.0f}x")


def _procedure(evidence: Evidence) -> object:
    return statistic_of(lira(evidence), evidence.member)


if __name__ == "__main__":
    main()
