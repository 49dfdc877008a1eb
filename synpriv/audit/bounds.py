"""What the statistics of an audit say about epsilon, from below: estimates, no bounds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Measure = Callable[[Floats, Floats, int, int], Floats]  # of true and false positives, n_in, n_out
DELTA = 1e-5  # at which a Gaussian mechanism is read where the method itself has no delta
ASSUMES = (
    "estimate at 95%, not a bound, as epsilon_audited; and it rests on the assumption that the "
    "method leaks as a Gaussian mechanism does"
)


@dataclass(frozen=True)
class Estimate:
    """What an audit says from below, of the most that so many statistics could show."""

    value: float
    largest: float


def audited(
    statistic: ArrayLike, member: ArrayLike, *, delta: float, level: float = 0.95, seed: int = 0
) -> Estimate:
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

    def measure(tp: Floats, fp: Floats, n_in: int, n_out: int) -> Floats:
        return refuted(tp, fp, n_in, n_out, delta=delta, error=(1 - level) / 4)

    return _by_halves(statistic, member, measure, seed)


def gaussian(
    statistic: ArrayLike, member: ArrayLike, *, level: float = 0.95, seed: int = 0
) -> Estimate:
    """Estimate from below of mu, if the attacked mechanism is mu-Gaussian: the GDP reading.

    Nasr et al., "Tight Auditing of Differentially Private Machine Learning" (USENIX Security 2023):
    every test of a mu-GDP mechanism (Dong, Roth and Su, 2022) obeys
    Phi^-1(1 - FPR) - Phi^-1(FNR) <= mu, so one threshold speaks about all of the trade-off curve.
    Rates, thresholds and what is not independent are those of `audited`; that the curve is Gaussian
    is assumed. `gaussian_epsilon` turns mu into epsilon.
    """

    def measure(tp: Floats, fp: Floats, n_in: int, n_out: int) -> Floats:
        from scipy.special import ndtri

        fpr, fnr = (_upper(x, n, (1 - level) / 4) for x, n in ((fp, n_out), (n_in - tp, n_in)))
        return np.maximum(0, -ndtri(fpr) - ndtri(fnr))

    return _by_halves(statistic, member, measure, seed)


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Epsilon of a mu-GDP mechanism at delta > 0 (Balle and Wang, ICML 2018, theorem 8)."""
    if not 0 < delta < 1 or not mu >= 0:
        raise ValueError(f"mu={mu}, delta={delta}: need mu >= 0 and a delta between 0 and 1")
    from scipy.optimize import brentq
    from scipy.special import log_ndtr, ndtr, ndtri

    def excess(epsilon: float) -> float:
        far = math.exp(epsilon + log_ndtr(-mu / 2 - epsilon / mu))
        return float(ndtr(mu / 2 - epsilon / mu) - far - delta)

    if mu == 0 or excess(0) <= 0:
        return 0.0
    return float(brentq(excess, 0, mu**2 / 2 - mu * ndtri(delta), xtol=1e-9))


def _by_halves(statistic: ArrayLike, member: ArrayLike, measure: Measure, seed: int) -> Estimate:
    """The larger reading of two halves of the canaries, each at the best threshold of the other."""
    values = np.asarray(statistic, dtype=np.float64)
    truth = np.asarray(member, dtype=bool)
    order = np.random.default_rng(seed).permutation(len(values))
    halves = [order[: len(order) // 2], order[len(order) // 2 :]]
    best, largest = 0.0, 0.0
    for chosen_on, judged_on in (halves, halves[::-1]):
        threshold = _best_threshold(values[chosen_on], truth[chosen_on], measure)
        tp, fp, n_in, n_out = _counts(values[judged_on], truth[judged_on], np.array([threshold]))
        if n_in == 0 or n_out == 0:
            continue
        best = max(best, float(measure(tp, fp, n_in, n_out)[0]))
        perfect = np.array([n_in]), np.array([0])
        largest = max(largest, float(measure(*perfect, n_in, n_out)[0]))
    return Estimate(best, largest)


def _best_threshold(values: Floats, truth: Bools, measure: Measure) -> float:
    thresholds = np.unique(values[np.isfinite(values)])
    if not len(thresholds):
        return math.inf
    tp, fp, n_in, n_out = _counts(values, truth, thresholds)
    if n_in == 0 or n_out == 0:
        return math.inf
    return float(thresholds[measure(tp, fp, n_in, n_out).argmax()])


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


def report(statistic: ArrayLike, member: ArrayLike, *, delta: float) -> dict[str, Any]:
    """The estimates' part of a report."""
    estimate, mu = audited(statistic, member, delta=delta), gaussian(statistic, member)
    return {
        "epsilon_audited": estimate.value,
        "epsilon_audited_largest": estimate.largest,
        "epsilon_audited_delta": delta,
        "gdp_mu": mu.value,
        "epsilon_gdp": gaussian_epsilon(mu.value, delta or DELTA),
        "epsilon_gdp_delta": delta or DELTA,
    }
