"""ROC, TPR at a fixed FPR, and how sure one can be of it.

A statistic [C,S] holds one value per canary and shadow model, larger = more member-like; `member`
bool [C,S] says the truth. All C*S pairs are pooled into one ROC.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
ENOUGH_FALSE_POSITIVES = 10  # that an FPR must allow for its TPR to be resolvable


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
    expected_fpr: float  # of new non-members, see `expected_fpr`


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
    truth, curve = np.asarray(member, dtype=bool), roc(statistic, member)
    n_in = int(truth.sum())
    n_out = truth.size - n_in
    # Counts, not rates: k/n <= fpr must not depend on how k/n was rounded.
    false_positives = np.rint(curve.fpr * n_out)
    last = int(np.searchsorted(false_positives, allowed(fpr, n_out), side="right")) - 1
    return OperatingPoint(
        tpr=float(curve.tpr[last]),
        fpr=float(curve.fpr[last]),
        false_positives=int(false_positives[last]),
        threshold=float(curve.threshold[last]),
        n_in=n_in,
        n_out=n_out,
        expected_fpr=expected_fpr(fpr, n_out),
    )


def allowed(fpr: float, n_out: int) -> int:
    """The false positives of `n_out` that a FPR of at most `fpr` allows."""
    return math.floor(fpr * n_out * (1 + 1e-12))


def expected_fpr(fpr: float, n_out: int) -> float:
    """FPR, among new non-members, of the threshold that allows k = floor(fpr n_out) of these.

    The threshold is the k+1st largest of n_out values, beyond which lies (k+1)/(n_out+1) on average
    (David and Nagaraja, Order Statistics, 3rd ed., section 2.3): twice `fpr` where k is 1.
    """
    return min(1.0, (allowed(fpr, n_out) + 1) / (n_out + 1))


def models_needed(fpr: float, canaries: int) -> int:
    """The even number of shadow models that resolves `fpr` with so many canaries."""
    return 2 * math.ceil(needed(fpr) / canaries)


def needed(fpr: float) -> int:
    """Non-members (canary x model) that resolve a TPR at `fpr`."""
    return math.ceil(ENOUGH_FALSE_POSITIVES / fpr * (1 - 1e-12))


def resolvable(fpr: float, n_out: int) -> bool:
    """Whether `fpr` allows so many of `n_out` false positives that its TPR has an interval."""
    return n_out >= needed(fpr)


def readings(statistic: ArrayLike, member: ArrayLike, fprs: Sequence[float]) -> Floats:
    """TPR at each FPR, then AUC: float64 [F+1]. Values that are not finite are left out."""
    values = np.asarray(statistic, dtype=np.float64)
    usable = np.isfinite(values)
    inside, outside = _sides(values[usable], np.asarray(member, dtype=bool)[usable])
    # The threshold lies right above the first non-member that is one too many.
    strictest = [len(outside) - 1 - allowed(fpr, len(outside)) for fpr in fprs]
    bounds = [outside[place] if place >= 0 else -np.inf for place in strictest]
    rates = (len(inside) - np.searchsorted(inside, bounds, side="right")) / len(inside)
    return np.append(rates, _area(inside, outside))


def _sides(statistic: ArrayLike, member: ArrayLike) -> tuple[Floats, Floats]:
    """Values of members and of non-members, each in order."""
    values, truth = _pairs(statistic, member)
    return np.sort(values[truth]), np.sort(values[~truth])


def tpr_at_fpr(statistic: ArrayLike, member: ArrayLike, fpr: float) -> float:
    """TPR at the largest FPR <= `fpr`, no interpolation."""
    return operating_point(statistic, member, fpr).tpr


def auc(statistic: ArrayLike, member: ArrayLike) -> float:
    """Area under the ROC: P(member's value > non-member's), ties counting half."""
    return _area(*_sides(statistic, member))


def _area(inside: Floats, outside: Floats) -> float:
    """From sorted values: members beyond each non-member and half of those equal to it."""
    below = np.searchsorted(inside, outside, "left") + np.searchsorted(inside, outside, "right")
    return float(1 - below.sum() / (2 * len(inside) * len(outside)))


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


def clopper_pearson(successes: int, trials: int, *, level: float = 0.95) -> tuple[float, float]:
    """Exact binomial interval (Clopper and Pearson, Biometrika 1934)."""
    from scipy.stats import beta  # a second, which whoever shows a finished audit does without

    tail = (1 - level) / 2
    low = beta.ppf(tail, successes, trials - successes + 1) if successes else 0.0
    high = beta.ppf(1 - tail, successes + 1, trials - successes) if successes < trials else 1.0
    return float(low), float(high)
