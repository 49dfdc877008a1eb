"""ROC, TPR at a fixed FPR, and how sure one can be of it.

A statistic [C,S] holds one value per canary and shadow model, larger = more member-like; `member`
bool [C,S] says the truth. All C*S pairs are pooled into one ROC.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
NO_FALSE_POSITIVE = 1e-12  # an FPR below 1/n_out of any audit


class Roc(NamedTuple):
    """Empirical ROC, one point per distinct value and the origin, from strict to lenient.

    Predict "member" where statistic >= threshold; fpr, tpr and threshold are float64 [P].
    """

    fpr: Floats
    tpr: Floats
    threshold: Floats


class OperatingPoint(NamedTuple):
    """The most powerful threshold whose FPR does not exceed a target."""

    tpr: float
    fpr: float  # the realised one, <= target
    false_positives: int
    threshold: float  # infinite when no threshold qualifies
    n_in: int
    n_out: int


def _pairs(statistic: ArrayLike, member: ArrayLike) -> tuple[Floats, Bools]:
    values = np.asarray(statistic, dtype=np.float64).ravel()
    truth = np.asarray(member, dtype=bool).ravel()
    if values.shape != truth.shape:
        raise ValueError(f"statistic has {values.size} values, member {truth.size}")
    if np.isnan(values).any():
        raise ValueError(f"{np.isnan(values).sum()} of {values.size} statistics are NaN")
    if truth.all() or not truth.any():
        raise ValueError("need members and non-members, got only one of them")
    return values, truth


def roc(statistic: ArrayLike, member: ArrayLike) -> Roc:
    """Empirical ROC without interpolation; a group of ties is one point."""
    values, truth = _pairs(statistic, member)
    order = np.argsort(-values, kind="stable")
    values, truth = values[order], truth[order]
    ends = np.append(np.flatnonzero(values[1:] != values[:-1]), len(values) - 1)
    true_positives = np.cumsum(truth)[ends]
    false_positives = ends + 1 - true_positives
    return Roc(
        np.append(0.0, false_positives / false_positives[-1]),
        np.append(0.0, true_positives / true_positives[-1]),
        np.append(np.inf, values[ends]),
    )


def operating_point(statistic: ArrayLike, member: ArrayLike, fpr: float) -> OperatingPoint:
    """The ROC's point of largest FPR <= `fpr`, with the counts behind it."""
    if not 0 < fpr <= 1:
        raise ValueError(f"fpr={fpr}: must be in (0, 1]")
    curve = roc(statistic, member)
    truth = np.asarray(member, dtype=bool)
    n_in = int(truth.sum())
    n_out = truth.size - n_in
    # Counts, not rates: k/n <= fpr must not depend on how k/n was rounded.
    false_positives = np.rint(curve.fpr * n_out)
    last = int(np.searchsorted(false_positives, fpr * n_out * (1 + 1e-12), side="right")) - 1
    return OperatingPoint(
        tpr=float(curve.tpr[last]),
        fpr=float(curve.fpr[last]),
        false_positives=int(false_positives[last]),
        threshold=float(curve.threshold[last]),
        n_in=n_in,
        n_out=n_out,
    )


def tpr_at_fpr(statistic: ArrayLike, member: ArrayLike, fpr: float) -> float:
    """TPR at the largest FPR <= `fpr`, no interpolation."""
    return operating_point(statistic, member, fpr).tpr


def auc(statistic: ArrayLike, member: ArrayLike) -> float:
    """Area under the ROC: P(member's value > non-member's), ties counting half."""
    curve = roc(statistic, member)
    return float(np.trapezoid(curve.tpr, curve.fpr))


def balanced_accuracy(statistic: ArrayLike, member: ArrayLike) -> float:
    """Largest (TPR + 1 - FPR)/2 over all thresholds: chosen on the data, so optimistic."""
    curve = roc(statistic, member)
    return float((1 + (curve.tpr - curve.fpr).max()) / 2)


def effect_size(statistic: ArrayLike, member: ArrayLike) -> Floats:
    """Per canary (mean IN - mean OUT) / pooled standard deviation, float64 [C].

    NaN values are left out; NaN where a canary has fewer than two models left on a side.
    """
    values = np.asarray(statistic, dtype=np.float64)
    truth = np.asarray(member, dtype=bool)
    usable = ~np.isnan(values)
    means, squares = [], np.zeros(len(values))
    for side in (truth & usable, ~truth & usable):
        count = side.sum(axis=1)
        enough = np.where(count > 1, count, np.nan)
        mean = np.where(side, values, 0).sum(axis=1) / enough
        squares = squares + np.where(side, (values - mean[:, None]) ** 2, 0).sum(axis=1)
        means.append(mean)
    deviation = np.sqrt(squares / np.maximum(usable.sum(axis=1) - 2, 1))
    return (means[0] - means[1]) / np.maximum(deviation, 1e-30)


def cluster_interval(
    statistic: ArrayLike,
    member: ArrayLike,
    fprs: Sequence[float],
    *,
    rounds: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Floats:
    """Interval of TPR@FPR for each of `fprs`: float64 [F,2].

    One canary stands in S values and one model in C, so pairs are not independent. Canaries and
    models are resampled with replacement, each on its own (Owen, "The pigeonhole bootstrap", Annals
    of Applied Statistics 2007), the threshold is found anew in each round, and percentiles are
    taken. NaN values are left out. The interval covers at least at its level, at the price of some
    width. It is widened, where needed, to contain the binomial (Clopper-Pearson) interval of n_in
    trials: a bootstrap of 0% or 100% has no width of its own.
    """
    values = np.asarray(statistic, dtype=np.float64)
    truth = np.asarray(member, dtype=bool)
    canary, model = np.nonzero(~np.isnan(values))
    order = np.argsort(-values[canary, model], kind="stable")
    canary, model = canary[order], model[order]
    sorted_values, is_in = values[canary, model], truth[canary, model]
    ends = np.append(np.flatnonzero(sorted_values[1:] != sorted_values[:-1]), len(order) - 1)
    rng = np.random.default_rng(seed)
    sampled = np.empty((rounds, len(fprs)))
    for i in range(rounds):
        weight = _resample(rng, values.shape[0])[canary] * _resample(rng, values.shape[1])[model]
        of_members = weight * is_in
        true_positives = np.append(0, np.cumsum(of_members)[ends])
        false_positives = np.append(0, np.cumsum(weight - of_members)[ends])
        allowed = np.asarray(fprs) * false_positives[-1] * (1 + 1e-12)
        last = np.searchsorted(false_positives, allowed, side="right") - 1
        sampled[i] = true_positives[last] / max(true_positives[-1], 1)
    tail = (1 - level) / 2
    low, high = np.quantile(sampled, [tail, 1 - tail], axis=0)
    for j, fpr in enumerate(fprs):
        point = operating_point(sorted_values, is_in, fpr)
        floor, ceiling = clopper_pearson(round(point.tpr * point.n_in), point.n_in, level=level)
        low[j], high[j] = min(low[j], floor), max(high[j], ceiling)
    return np.stack([low, high], axis=1)


def _resample(rng: np.random.Generator, num: int) -> NDArray[np.int64]:
    """How often each of `num` units is drawn in `num` draws with replacement."""
    return np.bincount(rng.integers(0, num, size=num), minlength=num)


def clopper_pearson(successes: int, trials: int, *, level: float = 0.95) -> tuple[float, float]:
    """Exact binomial interval (Clopper and Pearson, Biometrika 1934)."""
    from scipy.stats import beta  # a second, which whoever shows a finished audit does without

    tail = (1 - level) / 2
    low = beta.ppf(tail, successes, trials - successes + 1) if successes else 0.0
    high = beta.ppf(1 - tail, successes + 1, trials - successes) if successes < trials else 1.0
    return float(low), float(high)


def null_readings(
    attack: Callable[[Bools], Floats],
    member: ArrayLike,
    fprs: Sequence[float],
    *,
    rounds: int = 100,
    seed: int = 0,
    partners: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
) -> Floats:
    """TPR@FPR and AUC that `attack` reads when nothing leaks: float64 [rounds,F+1], AUC last.

    A randomisation test: each canary's membership bits are shuffled over the models, which keeps
    their number, and the attack runs on the same scores. Shuffled bits say nothing about the
    models, so whatever TPR is read is what chance (and any bias of the attack) alone gives.

    partners: columns of the first and second model of each pair, of paired membership. Bits are
    then swapped within pairs, and drawn anew in models without a partner.
    """
    truth = np.asarray(member, dtype=bool)
    rng = np.random.default_rng(seed)
    read = np.empty((rounds, len(fprs) + 1))
    for i in range(rounds):
        if partners is None:
            shuffled = rng.permuted(truth, axis=1)
        else:
            shuffled = rng.random(truth.shape) < 0.5
            shuffled[:, partners[1]] = ~shuffled[:, partners[0]]
        statistic = attack(shuffled)
        usable = ~np.isnan(statistic)
        values, bits = statistic[usable], shuffled[usable]
        read[i] = [*(tpr_at_fpr(values, bits, fpr) for fpr in fprs), auc(values, bits)]
    return read
