"""How much of a known leak each variance of LiRA finds, by the number of shadow models."""

from __future__ import annotations

import numpy as np

from synpriv.audit.attacks.lira import leave_one_out
from synpriv.audit.metrics import tpr_at_fpr
from synpriv.data.draws import membership

CANARIES, SHIFT, ROUNDS, FPR = 500, 1.5, 20, 0.01


def found(num_models: int, spread: float, seed: int) -> list[float]:
    """TPR@1%FPR of per_sample, pooled and of an attacker who knows all means and spreads.

    Scores of a canary are Gaussian around its own mean, members 1.5 higher; the logarithm of the
    standard deviation differs between canaries by `spread`.
    """
    rng = np.random.default_rng(seed)
    member = membership(CANARIES, num_models, seed=seed)
    deviation = np.exp(spread * rng.normal(size=(CANARIES, 1)))
    excess = deviation * rng.normal(size=member.shape) + SHIFT * member
    scores = (excess + 3 * rng.normal(size=(CANARIES, 1)))[:, :, None]
    known = (excess - SHIFT / 2) * SHIFT / deviation**2
    attacks = [leave_one_out(scores, member, variance=v) for v in ("per_sample", "pooled")]
    return [tpr_at_fpr(statistic, member, FPR) for statistic in (*attacks, known)]


def main() -> None:
    """Print the mean over rounds and its standard error."""
    for spread in (0.0, 0.2, 0.3, 0.5):
        for num_models in (8, 16, 24, 32, 64):
            read = np.array([found(num_models, spread, seed) for seed in range(ROUNDS)])
            means = read.mean(axis=0).round(3)
            error = (read.std(axis=0, ddof=1) / np.sqrt(ROUNDS)).max()
            print(
                f"spread {spread} S={num_models}: per_sample, pooled, known {means} ± {error:.3f}"
            )


if __name__ == "__main__":
    main()
