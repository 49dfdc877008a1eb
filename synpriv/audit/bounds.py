"""What an audit says about epsilon, from below."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Audited:
    """What an audit says about epsilon from below."""

    epsilon: float
    largest: float  # what this many statistics could show at most


def audited(
    statistic: ArrayLike, member: ArrayLike, *, delta: float, level: float = 0.95, seed: int = 0
) -> Audited:
    """Estimate from below of the epsilon of a mechanism attacked with this statistic [C,S].

    Any test of an (epsilon, delta) mechanism obeys TPR <= e^epsilon FPR + delta, and the same for
    its complement (Kairouz, Oh and Viswanath, ICML 2015), so rates that break the inequality refute
    epsilon. The rates are replaced by their Clopper-Pearson bounds at a threshold found on other
    canaries: these are halved at random, each half is judged at the threshold that served the other
    one best, and the error of 1 - level is divided among both halves and both rates.

    It would be a bound if all pairs were independent. They are not: leave-one-out statistics share
    models and canaries, so it is an estimate; a test measures how often it is above zero without
    any leak. NaN statistics are left out.
    """
    values = np.asarray(statistic, dtype=np.float64)
    truth = np.asarray(member, dtype=bool)
    order = np.random.default_rng(seed).permutation(len(values))
    halves = [order[: len(order) // 2], order[len(order) // 2 :]]
    error = (1 - level) / 4
    best, largest = 0.0, 0.0
    for chosen_on, judged_on in (halves, halves[::-1]):
        threshold = _best_threshold(values[chosen_on], truth[chosen_on], delta, error)
        tp, fp, n_in, n_out = _counts(values[judged_on], truth[judged_on], np.array([threshold]))
        if n_in == 0 or n_out == 0:
            continue
        best = max(best, float(refuted(tp, fp, n_in, n_out, delta=delta, error=error)[0]))
        perfect = np.array([n_in]), np.array([0])
        largest = max(largest, float(refuted(*perfect, n_in, n_out, delta=delta, error=error)[0]))
    return Audited(best, largest)


def _best_threshold(values: Floats, truth: Bools, delta: float, error: float) -> float:
    thresholds = np.unique(values[np.isfinite(values)])
    if not len(thresholds):
        return math.inf
    tp, fp, n_in, n_out = _counts(values, truth, thresholds)
    if n_in == 0 or n_out == 0:
        return math.inf
    found = refuted(tp, fp, n_in, n_out, delta=delta, error=error)
    return float(thresholds[found.argmax()])


def _counts(values: Floats, truth: Bools, thresholds: Floats) -> tuple[NDArray, NDArray, int, int]:
    """True and false positives at each threshold, and how many members and non-members."""
    found = []
    for side in (truth, ~truth):
        scores = np.sort(values[side & ~np.isnan(values)])
        found.append((len(scores) - np.searchsorted(scores, thresholds), len(scores)))
    (tp, n_in), (fp, n_out) = found
    return tp, fp, n_in, n_out


def refuted(
    true_positives: ArrayLike,
    false_positives: ArrayLike,
    n_in: int,
    n_out: int,
    *,
    delta: float,
    error: float,
) -> Floats:
    """Largest epsilon >= 0 that these counts refute, each rate bounded at confidence 1 - error.

    Valid for a threshold fixed beforehand and independent trials.
    """
    tp, fp = (np.asarray(x, dtype=np.float64) for x in (true_positives, false_positives))
    fpr, fnr = _upper(fp, n_out, error), _upper(n_in - tp, n_in, error)
    with np.errstate(divide="ignore"):
        accuse = np.log(np.maximum(1 - fnr - delta, 0)) - np.log(fpr)
        acquit = np.log(np.maximum(1 - fpr - delta, 0)) - np.log(fnr)
    return np.maximum(0, np.maximum(accuse, acquit))


def _upper(successes: Floats, trials: int, error: float) -> Floats:
    """Clopper-Pearson upper limit."""
    from scipy.stats import beta

    limit = beta.ppf(1 - error, successes + 1, np.maximum(trials - successes, 1))
    return np.where(successes >= trials, 1.0, limit)
