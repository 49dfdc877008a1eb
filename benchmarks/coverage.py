"""How often the 95% intervals of a report contain the truth, and how wide they are.

Usage: python -m benchmarks.coverage [REPLICATIONS [CxS ...]]

The truth is the pooled ROC of all replications; the ideal width is 2 x 1.96 standard deviations of
the estimate over them.
"""

from __future__ import annotations

import itertools
import sys

import numpy as np

from synpriv.audit.attacks.lira import by_view, log_ratios
from synpriv.audit.intervals import draws, draws_of_all, intervals, resampled
from synpriv.audit.metrics import Bools, Floats, resolvable
from synpriv.audit.references import left_out
from synpriv.audit.scores import aligned

SIZES = ("100x8", "125x16", "250x16", "100x64", "500x64")
LEAKS = {"none": 0.0, "weak": 0.5, "mid": 1.5, "strong": 3.0}
FPRS = (0.001, 0.01, 0.1)
ROUNDS = 200  # of the bootstrap; an audit has 2,000


def world(
    num_canaries: int,
    num_models: int,
    rng: np.random.Generator,
    *,
    leak: float,
    noise: str,
    effect: float,
) -> tuple[Floats, Bools]:
    """Scores [C,S] of paired models and membership.

    Canaries have means of standard deviation 2, lognormal spreads and shifts; a model shifts all
    its scores by `effect` standard deviations. Noise is `normal`, or `t3` of the same variance.
    """
    first = rng.random((num_canaries, num_models // 2)) < 0.5
    member = np.stack([first, ~first], axis=2).reshape(num_canaries, num_models)
    column = (num_canaries, 1)
    mean, spread = 2 * rng.normal(size=column), np.exp(0.2 * rng.normal(size=column))
    shift = leak * np.exp(0.5 * rng.normal(size=column))
    wider = np.exp(0.2 * rng.normal(size=column)) if leak else np.ones(column)
    normal = noise == "normal"
    error = (
        rng.normal(size=member.shape) if normal else rng.standard_t(3, member.shape) / np.sqrt(3)
    )
    error = error * spread * np.where(member, wider, 1) + effect * rng.normal(size=num_models)
    return mean + shift * member + error, member


def statistic(scores: Floats, member: Bools) -> Floats:
    """Default LiRA of one view, one pair left out: [C,S]."""
    first = np.arange(0, member.shape[1], 2)
    without = left_out(member, (first, first + 1))
    return log_ratios(by_view(aligned(scores[:, :, None])), without)[0][0]


def row(size: tuple[int, int], leak: str, noise: str, effect: float, replications: int) -> None:
    """Print coverage and width ratio of each resolvable rate and of the AUC."""
    rng = np.random.default_rng(0)
    num_canaries, num_models = size
    pair = np.arange(num_models) // 2
    fprs = [fpr for fpr in FPRS if resolvable(fpr, num_canaries * num_models // 2)]
    statistics, members, found, centres = [], [], [], []
    for seed in range(replications):
        given = world(*size, rng, leak=LEAKS[leak], noise=noise, effect=effect)
        values, member = statistic(*given), given[1]
        drawn = draws(num_canaries, pair, rounds=ROUNDS, seed=seed)
        sampled = resampled(values, member, fprs, drawn)
        found.append(intervals(values, member, pair, fprs, sampled))
        centres.append(resampled(values, member, fprs, draws_of_all(num_canaries, pair))[0])
        statistics.append(values)
        members.append(member)
    everyone = draws_of_all(num_canaries * replications, pair)
    truth = resampled(np.concatenate(statistics), np.concatenate(members), fprs, everyone)[0]
    ends, ideal = np.array(found), 2 * 1.96 * np.std(centres, axis=0, ddof=1)
    inside = (ends[:, :, 0] <= truth) & (truth <= ends[:, :, 1])
    width = (ends[:, :, 1] - ends[:, :, 0]).mean(axis=0) / ideal
    for j, name in enumerate([*(f"tpr@fpr={fpr:g}" for fpr in fprs), "auc"]):
        print(
            f"{num_canaries}x{num_models} {leak} {noise} {effect} {name}: truth {truth[j]:.4f}, "
            f"covered {inside[:, j].mean():.3f}, width {width[j]:.2f} of ideal, n {replications}",
            flush=True,
        )


def main() -> None:
    """One line per size, leak, noise, model effect and quantity."""
    replications = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    for size in sys.argv[2:] or SIZES:
        num_canaries, num_models = map(int, size.split("x"))
        for leak, noise, effect in itertools.product(LEAKS, ("normal", "t3"), (0.3, 1.0)):
            row((num_canaries, num_models), leak, noise, effect, replications)


if __name__ == "__main__":
    main()
