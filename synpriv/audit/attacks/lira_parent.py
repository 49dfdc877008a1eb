"""LiRA as published: Gaussians, one score, unshrunk variance, no correction of few models.

Carlini et al. (S&P 2022) and the leave-one-out of Aerni et al. (CCS 2024): for comparison with
published numbers. `lira` finds more, above all from few shadow models.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from synpriv.audit.attacks.lira import by_view, readable, references_of, require_models
from synpriv.audit.evidence import Evidence
from synpriv.audit.references import LeftOut, Side, comparisons
from synpriv.audit.scores import SCORES, Floats

VARIANCES = ("per_sample", "pooled", "pooled_raw")
_BLOCK = 1 << 17  # scores handled at once
_TINY = 1e-30
_FARTHEST = 1e4


def lira_parent(
    evidence: Evidence,
    *,
    score: str = "hinge",
    queries: int | None = None,
    variance: str = "per_sample",
    equalise: bool = False,
) -> Floats:
    """Gaussian leave-one-out LiRA on the first `queries` views (all by default): statistic [C,S].

    variance: as in `gaussian`. equalise: as in `left_out`, of balanced membership only.
    """
    if score not in SCORES:
        raise ValueError(f"attack.score={score}: must be one of {', '.join(SCORES)}")
    num_views = evidence.num_views
    if queries is not None and not 1 <= queries <= num_views:
        raise ValueError(f"attack.queries={queries}: must be 1..{num_views}")
    values = evidence.kept(f"by view {score}", lambda: by_view(evidence.scores(score)).values[:, 0])
    return gaussian(values[:queries], references_of(evidence, equalise=equalise), variance=variance)


def gaussian(values: Floats, without: LeftOut, *, variance: str = "per_sample") -> Floats:
    """Log-likelihood ratio of IN to OUT for each canary and model, from the other models only.

    Scores [Q,S,C] -> float64 [C,S], the mean over views of log N(s; in) - log N(s; out). NaN where
    a side keeps too few models to estimate.

    variance: `per_sample` one standard deviation per canary, view and side; `pooled` one per side,
    around each canary's and view's own mean; `pooled_raw` one per side around the common mean (the
    `fix_variance` of Carlini et al.).
    """
    if variance not in VARIANCES:
        raise ValueError(f"attack.variance={variance}: must be one of {', '.join(VARIANCES)}")
    require_models(without, _fewest(variance), f"attack.variance={variance}")
    statistic = np.full(without.member.shape, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        pooled = None if variance == "per_sample" else _pooled(values, without, variance)
        sums = np.zeros(without.member.shape)
        for block in _blocks(values.shape):
            for group, comparison in enumerate(comparisons(values[block], without)):
                common = (None, None) if pooled is None else pooled[group]
                for columns, own in comparison.targets:
                    ratio = _log_density(comparison.inside, own, common[0])
                    ratio -= _log_density(comparison.outside, own, common[1])
                    sums[columns] += ratio.sum(axis=0)
                    statistic[columns] = sums[columns]
    return readable(statistic / len(values))


def _fewest(variance: str) -> int:
    """Models a canary needs on each side so that a mean and a variance remain after one goes."""
    return 2 if variance == "pooled_raw" else 3


def _blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices of views, so that memory stays bounded."""
    step = max(1, _BLOCK // (shape[1] * shape[2]))
    return (slice(start, start + step) for start in range(0, shape[0], step))


def _pooled(values: Floats, without: LeftOut, variance: str) -> list[list[Floats]]:
    """One variance per group of targets and side over all canaries and views: IN, OUT, [G,1]."""
    centre = values.mean()  # any common shift will do; this one keeps the sums small
    totals: dict[tuple[int, int], Floats] = {}
    for block in _blocks(values.shape):
        for group, comparison in enumerate(comparisons(values[block], without)):
            for s, side in enumerate((comparison.inside, comparison.outside)):
                found = _sums(side, centre, _fewest(variance) - 1)
                totals[group, s] = totals.get((group, s), 0.0) + found
    groups = range(1 + max(group for group, _ in totals))
    return [[_variance(totals[group, s], variance) for s in (0, 1)] for group in groups]


def _sums(side: Side, centre: float, fewest: int) -> Floats:
    """Of usable canaries: squares, scores, fitted means, sum and squares of means [5,G]."""
    count = np.broadcast_to(side.count, side.mean.shape)
    usable = count >= fewest
    mean = np.where(usable, side.mean - centre, 0)
    count = count * usable
    each = (np.where(usable, side.squares, 0), count, usable, count * mean, count * mean**2)
    return np.stack([array.sum(axis=(0, 2)) for array in each])


def _variance(sums: Floats, variance: str) -> Floats:
    squares, count, fitted, shifted, between = sums
    if variance == "pooled":  # one mean per canary and view was fitted
        return (squares / (count - fitted))[:, None]
    return ((squares + between - np.square(shifted) / count) / (count - 1))[:, None]


def _log_density(side: Side, scores: Floats, pooled: Floats | None) -> Floats:
    """Log N(s; side) up to the constant that cancels between the sides, [q,G,C]."""
    if pooled is None:
        variance = np.maximum(side.squares, 0) / np.where(side.count > 1, side.count - 1, np.nan)
    else:
        variance = np.where(side.count > 0, pooled, np.nan)
    # A spread below the resolution of float32 logits is not known; neither is a distance of more
    # than 10,000 standard deviations, where two sides would differ by rounding only.
    resolution = np.abs(side.mean) * np.finfo(np.float32).eps
    deviation = np.maximum(np.sqrt(variance), resolution + _TINY)
    distance = np.clip((scores - side.mean) / deviation, -_FARTHEST, _FARTHEST)
    return -0.5 * np.square(distance) - np.log(deviation)
