"""How much of a known leak the default attack finds, by the number of shadow models.

Usage: python -m benchmarks.power [ROUNDS]
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

from synpriv.audit.attacks.lira import by_view, log_ratios
from synpriv.audit.attacks.lira_parent import gaussian
from synpriv.audit.metrics import tpr_at_fpr
from synpriv.audit.references import left_out

Floats = NDArray[np.float64]
CANARIES, FPR = 500, 0.01
ATTACKS = ("lira", "per_sample", "pooled", "known")


def world(
    num_models: int, rng: np.random.Generator, *, effect: float = 0.3
) -> tuple[Floats, NDArray[np.bool_], Floats]:
    """Scores [C,S] of paired models, membership, and the log ratio of who knows all parameters.

    Canaries have means of standard deviation 2, spreads and shifts that are lognormal (0.3 around
    1, 0.8 around 1 in logarithm); a model shifts all its scores by `effect` standard deviations.
    """
    first = rng.random((CANARIES, num_models // 2)) < 0.5
    member = np.stack([first, ~first], axis=2).reshape(CANARIES, num_models)
    column = (CANARIES, 1)
    spread = np.exp(0.3 * rng.normal(size=column))
    centre = 2 * rng.normal(size=column) + effect * rng.normal(size=num_models)
    shift = np.exp(0.8 * rng.normal(size=column))
    scores = centre + shift * member + spread * rng.normal(size=member.shape)
    known = shift * (scores - centre - shift / 2) / spread**2
    return scores, member, known


def found(num_models: int, rng: np.random.Generator) -> list[float]:
    """TPR@1%FPR of each of `ATTACKS`."""
    scores, member, known = world(num_models, rng)
    first = np.arange(0, num_models, 2)
    without = left_out(member, (first, first + 1))
    statistics = [
        log_ratios(by_view(scores[:, :, None]), without)[0][0],
        *(gaussian(scores.T[None], without, variance=v) for v in ATTACKS[1:3]),
        known,
    ]
    return [tpr_at_fpr(statistic, member, FPR) for statistic in statistics]


def main() -> None:
    """Print the mean over rounds and its standard error."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    for num_models in (8, 16, 32, 64):
        rng = np.random.default_rng(num_models)
        read = np.array([found(num_models, rng) for _ in range(rounds)])
        error = read.std(axis=0, ddof=1) / np.sqrt(rounds)
        words = ", ".join(
            f"{name} {mean:.3f} ± {e:.3f}"
            for name, mean, e in zip(ATTACKS, read.mean(axis=0), error, strict=True)
        )
        print(f"S={num_models}, n={rounds}: {words}")


if __name__ == "__main__":
    main()
