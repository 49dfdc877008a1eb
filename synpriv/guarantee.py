"""What a guarantee (epsilon, delta) is, and what tuning adds to it.

All of it concerns adding or removing one sample. A Renyi curve is a pair of arrays: orders and the
Renyi divergence bounds there.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

Floats = NDArray[np.float64]
DISTRIBUTIONS = ("poisson", "logarithmic", "geometric", "fixed")


def from_renyi(orders: ArrayLike, divergences: ArrayLike, delta: float) -> float:
    """Smallest epsilon that a Renyi curve proves at `delta`; infinite if it proves none.

    Canonne, Kamath and Steinke, "The Discrete Gaussian for Differential Privacy" (2020),
    proposition 12.
    """
    order, divergence = _curve(orders, divergences)
    if not len(order):
        return math.inf
    return float(max(0.0, _epsilons(order, divergence, delta).min()))


def _epsilons(order: Floats, divergence: Floats, delta: float) -> Floats:
    """What each order alone proves."""
    return divergence + np.log1p(-1 / order) - np.log(delta * order) / (order - 1)


def of_group(orders: ArrayLike, divergences: ArrayLike, delta: float, size: int) -> float:
    """Epsilon at `delta` of adding or removing a whole group of `size` samples at once.

    What is (e, d)-DP for one sample is (k e, k exp((k - 1) e) d)-DP for k of them (Vadhan, "The
    Complexity of Differential Privacy", 2017, lemma 2.2). Of each order, whose e falls as d grows,
    that d is taken at which the group's delta is the given one; the smallest k e is proven.
    Infinite if no order is above `size`.
    """
    if size < 1:
        raise ValueError(f"size={size}: must be at least 1")
    order, divergence = _curve(orders, divergences)
    order, divergence = order[order > size], divergence[order > size]
    if not len(order):
        return math.inf
    shared = math.log(delta / size)
    base = divergence + np.log1p(-1 / order) - np.log(order) / (order - 1)
    # log d = shared - (k - 1) e and e = base - log d / (order - 1), solved for log d.
    log_delta = (shared - (size - 1) * base) / (1 - (size - 1) / (order - 1))
    of_one = base - np.minimum(log_delta, shared) / (order - 1)
    return float(size * max(0.0, of_one.min()))


def is_loose(orders: ArrayLike, divergences: ArrayLike, delta: float) -> bool:
    """Whether `from_renyi` would find less if the curve had more orders: its best one is the last.

    The epsilon found is proven all the same, "at most"; how far below it the best one lies is open.
    """
    order, divergence = _curve(orders, divergences)
    if not len(order):
        return False
    best = order[_epsilons(order, divergence, delta).argmin()]
    return bool(best in (order.min(), order.max()))


def delta_from_renyi(orders: ArrayLike, divergences: ArrayLike, epsilon: float) -> float:
    """Smallest delta that a Renyi curve proves at `epsilon`; the same proposition solved for it."""
    order, divergence = _curve(orders, divergences)
    log_delta = (order - 1) * (divergence - epsilon + np.log1p(-1 / order)) - np.log(order)
    return float(np.exp(min(0.0, log_delta.min(initial=0.0))))


def _curve(orders: ArrayLike, divergences: ArrayLike) -> tuple[Floats, Floats]:
    order = np.asarray(orders, dtype=np.float64)
    divergence = np.asarray(divergences, dtype=np.float64)
    usable = np.isfinite(divergence) & (order > 1)
    return order[usable], divergence[usable]


def tuned(
    orders: ArrayLike,
    divergences: ArrayLike,
    delta: float,
    *,
    num_trials: float,
    distribution: str,
) -> float:
    """Epsilon of training a random number of configurations and releasing the best one.

    The curve is that of one training (the costliest of those tried), `num_trials` the *expected*
    number of trainings, drawn beforehand from `distribution`: `poisson` (Papernot and Steinke,
    "Hyperparameter Tuning with Renyi Differential Privacy", ICLR 2022, theorem 6), `logarithmic` or
    `geometric` (truncated negative binomial with eta 0 and 1, theorem 2). `fixed`: exactly
    `num_trials` trainings, a grid, which costs their whole composition.
    """
    order, divergence = _curve(orders, divergences)
    if distribution not in DISTRIBUTIONS:
        raise ValueError(f"distribution={distribution}: must be one of {', '.join(DISTRIBUTIONS)}")
    if not num_trials >= 1:
        raise ValueError(f"num_trials={num_trials}: must be at least 1")
    if distribution == "fixed":
        curve = divergence * num_trials
    elif distribution == "poisson":
        allowed = np.log1p(1 / (order - 1))
        deltas = np.array([delta_from_renyi(order, divergence, e) for e in allowed])
        curve = divergence + num_trials * deltas + np.log(num_trials) / (order - 1)
    else:
        eta = {"logarithmic": 0.0, "geometric": 1.0}[distribution]
        gamma = _gamma(eta, num_trials)
        # The second order is free: the best one is taken.
        other = (1 - 1 / order) * divergence - np.log(gamma) / order
        curve = divergence + (1 + eta) * other.min(initial=np.inf)
        curve = curve + np.log(num_trials) / (order - 1)
    return from_renyi(order, curve, delta)


def _gamma(eta: float, mean: float) -> float:
    """Parameter of the truncated negative binomial with this mean (definition 1)."""
    if mean < 1 + 1e-6:
        return 1.0
    if eta == 1:
        return 1 / mean
    return float(brentq(lambda g: (1 / g - 1) / -math.log(g) - mean, 1e-12, 1 - 1e-12, xtol=1e-15))
