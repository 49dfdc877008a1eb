"""How sure one can be of a rate and an AUC: canaries and models resampled, with two-way variance.

One canary stands in S statistics and one model in C, so the C*S pairs are not independent. Models
come in clusters: pairs where membership is paired, else single models. What is estimated is the TPR
at a *population* FPR (and the AUC) over new canaries, models and noise of the same law.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from synpriv.audit.metrics import Bools, Floats, auc, clopper_pearson, operating_point

Ints = NDArray[np.int64]
# Standard errors are widened by it: targets share reference models, which no clustering of the
# finished statistics can see. `python -m benchmarks.coverage` has what it takes.
WIDER = 1.2
_BLOCK = 1 << 20  # counts handled at once


class Draws(NamedTuple):
    """How often each canary and each cluster of models is drawn in R rounds."""

    canary: Ints  # [R,C]
    cluster: Ints  # [R,P]
    of_model: Ints  # [S] the cluster of each model, 0..P-1


def draws(num_canaries: int, cluster: Ints, *, rounds: int, seed: int = 0) -> Draws:
    """Canaries and clusters drawn with replacement, each on its own (Owen, AOAS 2007).

    cluster: a name for the cluster of each model, int [S].
    """
    rng = np.random.default_rng(seed)
    names, of_model = np.unique(cluster, return_inverse=True)
    counts = [
        rng.multinomial(num, np.full(num, 1 / num), size=rounds)
        for num in (num_canaries, len(names))
    ]
    return Draws(counts[0], counts[1], of_model)


def resampled(statistic: Floats, member: Bools, fprs: Sequence[float], drawn: Draws) -> Floats:
    """TPR at each population FPR, then AUC, in each round: float64 [R,F+1].

    The threshold is found anew in each round. Values that are not finite are left out.
    """
    canary, model = np.nonzero(np.isfinite(statistic))
    order = np.argsort(-statistic[canary, model])  # in any order where values tie
    canary, model = canary[order], model[order]
    values, is_in = statistic[canary, model], member[canary, model]
    cluster = drawn.of_model[model]
    ends = np.append(np.flatnonzero(values[1:] != values[:-1]), len(values) - 1)
    rounds = len(drawn.canary)
    found = np.empty((rounds, len(fprs) + 1))
    step = max(1, _BLOCK // len(values))
    for start in range(0, rounds, step):
        block = slice(start, start + step)
        of_canary = np.ascontiguousarray(drawn.canary[block].T, dtype=np.int32)
        of_cluster = np.ascontiguousarray(drawn.cluster[block].T, dtype=np.int32)
        weight = of_canary[canary] * of_cluster[cluster]  # [n,b], models inside a row
        inside = np.cumsum(weight * is_in[:, None], axis=0, dtype=np.int32)
        outside = np.cumsum(weight, axis=0, dtype=np.int32) - inside
        if len(ends) < len(values):
            inside, outside = inside[ends], outside[ends]
        for j, fpr in enumerate(fprs):
            found[block, j] = _rate_at(inside, outside, fpr)
        found[block, -1] = _area(inside, outside)
    return found


def _rate_at(inside: NDArray, outside: NDArray, fpr: float) -> Floats:
    """TPR [b] at a population FPR from counts above each threshold, [G,b].

    The threshold that allows k false positives of n is the k+1st largest non-member, whose expected
    FPR is (k+1)/(n+1): between the whole k around fpr * (n+1) - 1 the TPR is interpolated. No k is
    below 0.
    """
    allowed = np.maximum(fpr * (outside[-1] + 1) - 1, 0)
    below = np.floor(allowed + 1e-9)
    part = np.clip(allowed - below, 0, 1)
    top = min(len(outside), int(3 * fpr * outside[-1].max()) + int(inside[-1].max()) + 40)
    column = np.arange(outside.shape[1])
    rates = []
    for k in (below, below + 1):
        last = (outside[:top] <= k).sum(axis=0) - 1
        if (last == top - 1).any():
            last = (outside <= k).sum(axis=0) - 1
        found = inside[np.maximum(last, 0), column]
        rates.append(np.where(last >= 0, found, 0) / np.maximum(inside[-1], 1))
    return (1 - part) * rates[0] + part * rates[1]


def _area(inside: NDArray, outside: NDArray) -> Floats:
    """AUC [b], ties counting half; a half where a round drew one side only."""
    gained = np.diff(inside, axis=0, prepend=0)
    half = np.diff(outside, axis=0, prepend=0) / 2
    pairs = inside[-1].astype(np.float64) * outside[-1]
    above = (gained * (outside[-1] - outside + half)).sum(axis=0)
    return np.where(pairs > 0, above / np.maximum(pairs, 1), 0.5)


def intervals(
    statistic: Floats,
    member: Bools,
    cluster: Ints,
    fprs: Sequence[float],
    sampled: Floats,
    *,
    level: float = 0.95,
) -> Floats:
    """Interval of the TPR at each population FPR, then of the AUC: float64 [F+1,2].

    statistic [C,S], NaN left out; cluster int [S]; sampled [R,F+1] as `resampled` gives them, of
    whatever procedure led to the statistic.

    Resampling canaries and models each on their own counts the variance of their interaction three
    times (Owen 2007). So quantiles, taken about the median on a scale where variance depends less
    on the value (arcsine of the root for rates, logit for the AUC), are shrunk by the ratio of the
    standard error by canary plus that by cluster less that by both (Cameron, Gelbach and Miller,
    JBES 2011) to the one that resampling has; both come from influence functions. Student's t with
    Satterthwaite's degrees of freedom allows for few models. The result contains the reported point
    and the binomial (Clopper-Pearson) interval of a rate: a bootstrap of 0% or 100% has no width.
    """
    found = np.empty((len(fprs) + 1, 2))
    usable = np.isfinite(statistic)
    values, truth = statistic[usable], member[usable]
    everyone = draws_of_all(statistic.shape[0], cluster)
    centre = resampled(statistic, member, fprs, everyone)[0]
    for j, fpr in enumerate(fprs):
        influence = _influence_on_rate(statistic, member, fpr, centre[j])
        factor = _factor(influence, everyone.of_model, level)
        low, high = _about(centre[j], sampled[:, j], factor, level, (_arcsine, _sine))
        point = operating_point(values, truth, fpr)
        floor, ceiling = clopper_pearson(round(point.tpr * point.n_in), point.n_in, level=level)
        found[j] = min(low, floor), max(high, ceiling)
    factor = _factor(_influence_on_auc(statistic, member), everyone.of_model, level)
    low, high = _about(centre[-1], sampled[:, -1], factor, level, (_logit, _expit))
    fewest = int(min(truth.sum(), (~truth).sum()))
    if centre[-1] in (0.0, 1.0):  # no width of its own: that of as many trials
        floor, ceiling = clopper_pearson(round(centre[-1] * fewest), fewest, level=level)
        low, high = min(low, floor), max(high, ceiling)
    area = auc(values, truth)
    found[-1] = min(low, area), max(high, area)
    return found


def draws_of_all(num_canaries: int, cluster: Ints) -> Draws:
    """One round that draws each canary and each cluster once: the data themselves."""
    names, of_model = np.unique(cluster, return_inverse=True)
    canary, each = (np.ones((1, num), dtype=np.int64) for num in (num_canaries, len(names)))
    return Draws(canary, each, of_model)


def _influence_on_rate(statistic: Floats, member: Bools, fpr: float, rate: float) -> Floats:
    """First-order effect of each value on the TPR at a population FPR: [C,S], sum 0.

    A member above the threshold adds to the rate; a non-member above it raises the threshold, which
    costs the slope of the ROC there, taken between FPRs a factor 1.8 away on both sides.
    """
    inside = np.sort(statistic[member & np.isfinite(statistic)])
    outside = np.sort(statistic[~member & np.isfinite(statistic)])

    def threshold(at: float) -> float:
        allowed = min(max(int(at * len(outside)), 0), len(outside) - 1)
        return float(outside[len(outside) - 1 - allowed])

    def above(values: Floats, bound: float) -> float:
        return 1 - np.searchsorted(values, bound, side="right") / len(values)

    strict, lenient = threshold(fpr / 1.8), threshold(min(1.8 * fpr, 1.0))
    width = above(outside, lenient) - above(outside, strict)
    slope = (above(inside, lenient) - above(inside, strict)) / width if width > 0 else 0.0
    hit = statistic > threshold(fpr)
    return _centred(
        np.where(member, (hit - rate) / len(inside), -slope * (hit - fpr) / len(outside)),
        statistic,
    )


def _influence_on_auc(statistic: Floats, member: Bools) -> Floats:
    """First-order effect of each value on the AUC, the share of the other side beyond it: [C,S]."""
    usable = np.isfinite(statistic)
    inside, outside = (np.sort(statistic[side & usable]) for side in (member, ~member))

    def below(values: Floats) -> Floats:
        left, right = (np.searchsorted(values, statistic, side=s) for s in ("left", "right"))
        return (left + right) / (2 * len(values))

    won, lost = below(outside), 1 - below(inside)
    area = won[member & usable].mean()
    influence = np.where(member, (won - area) / len(inside), (lost - area) / len(outside))
    return _centred(influence, statistic)


def _centred(influence: Floats, statistic: Floats) -> Floats:
    usable = np.isfinite(statistic)
    return np.where(usable, influence - influence[usable].mean(), 0.0)


def _factor(influence: Floats, of_model: Ints, level: float) -> float:
    """By what to multiply the bootstrap's deviations, see `intervals`."""
    from scipy.stats import norm, t

    num_canaries, num_clusters = len(influence), int(of_model.max()) + 1
    if min(num_canaries, num_clusters) < 2:
        return WIDER
    cell = influence @ np.eye(num_clusters)[of_model]  # [C,P]
    both = np.square(cell).sum()
    plain = np.square(cell.sum(axis=1)).sum(), np.square(cell.sum(axis=0)).sum()
    by_canary = plain[0] * num_canaries / (num_canaries - 1)
    by_cluster = plain[1] * num_clusters / (num_clusters - 1)
    resampling = plain[0] + plain[1] + both
    if resampling == 0:
        return WIDER
    variance = max(by_canary + by_cluster - both, by_canary, by_cluster)
    shared = max(by_cluster - both, 0.0)  # that of clusters beyond what canaries explain
    uncertain = by_canary**2 / (num_canaries - 1) + shared**2 / (num_clusters - 1)
    degrees = max(variance**2 / uncertain, 1.0) if uncertain else np.inf
    tail = (1 + level) / 2
    quantiles = t.ppf(tail, degrees) / norm.ppf(tail)
    return float(WIDER * quantiles * np.sqrt(variance / resampling))


def _about(
    centre: Floats,
    sampled: Floats,
    factor: float,
    level: float,
    scale: tuple[Callable[[Floats], Floats], Callable[[Floats], Floats]],
) -> tuple[float, float]:
    """Quantiles of `sampled` about their median, times `factor`, moved to `centre`, on a scale."""
    forth, back = scale
    tail = (1 - level) / 2
    low, middle, high = np.quantile(forth(sampled), [tail, 0.5, 1 - tail])
    ends = back(forth(centre) + factor * (np.array([low, high]) - middle))
    return float(ends[0]), float(ends[1])


def _arcsine(rate: Floats) -> Floats:
    return np.arcsin(np.sqrt(np.clip(rate, 0, 1)))


def _sine(angle: Floats) -> Floats:
    return np.square(np.sin(np.clip(angle, 0, np.pi / 2)))


def _logit(area: Floats) -> Floats:
    inside = np.clip(area, 1e-6, 1 - 1e-6)
    return np.log(inside / (1 - inside))


def _expit(value: Floats) -> Floats:
    return 1 / (1 + np.exp(-value))
