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

    The smaller of two proofs: `by_vadhan`, and the group's own Renyi curve, one sample after the
    other by the weak triangle inequality. Infinite if neither proves anything.
    """
    if size < 1:
        raise ValueError(f"size={size}: must be at least 1")
    order, divergence = _curve(orders, divergences)
    order, first = np.unique(order, return_index=True)
    divergence = divergence[first]
    whole = divergence
    for _ in range(size - 1):
        whole = _both(order, whole, divergence)
    by_renyi = from_renyi(order, whole, delta)
    return min(by_renyi, by_vadhan(order, divergence, delta, size))


def _both(order: Floats, one: Floats, other: Floats) -> Floats:
    """Renyi curve between P and Q from those of P and R (`one`) and of R and Q (`other`).

    Weak triangle inequality (Mironov, "Renyi Differential Privacy", CSF 2017, proposition 11): for
    1/p + 1/q = 1 it is at most (a - 1/p) / (a - 1) D_pa(P, R) + D_q(a - 1/p)(R, Q) at order a. p is
    chosen so that p a is one of the orders; the other order is rounded up, where D is no smaller.
    """
    a, above = order[:, None], order[None, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        p = above / a
        second = p / (p - 1) * (a - 1 / p)
        place = np.searchsorted(order, np.where(p > 1, second * (1 - 1e-12), np.inf))
        rest = np.append(other, np.inf)[place]
        found = np.where(p > 1, (a - 1 / p) / (a - 1) * one[None, :] + rest, np.inf)
    return found.min(axis=1, initial=np.inf)


def by_vadhan(order: Floats, divergence: Floats, delta: float, size: int) -> float:
    """What is (e, d)-DP for one sample is (k e, k exp((k - 1) e) d)-DP for k = `size` of them.

    Vadhan, "The Complexity of Differential Privacy" (2017), lemma 2.2. Of each order, whose e falls
    as d grows, that d is taken at which the group's delta is the given one; the smallest k e is
    proven. Infinite if no order is above `size`.
    """
    divergence, order = divergence[order > size], order[order > size]
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
