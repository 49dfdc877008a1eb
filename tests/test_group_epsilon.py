"""Epsilon of a whole group: against a Gaussian's own, the lemma by hand, and a naive search."""

import math

import numpy as np
import pytest

from synpriv.guarantee import by_vadhan, from_renyi, of_group

ORDERS = np.concatenate([1 + np.geomspace(1e-3, 1, 40), np.arange(2.2, 64), [128, 256, 512]])
DELTA = 1e-5


@pytest.mark.parametrize("rho", [0.001, 0.05, 0.5])
@pytest.mark.parametrize("size", [2, 3, 8])
def test_a_group_s_epsilon_lies_above_a_gaussian_s_own_and_near_it(rho: float, size: int) -> None:
    """A Gaussian of D = rho a has size^2 rho a for a group: nothing smaller can be proven."""
    own = from_renyi(ORDERS, size**2 * rho * ORDERS, DELTA)
    found = of_group(ORDERS, rho * ORDERS, DELTA, size)
    assert own <= found + 1e-9
    assert found <= 1.5 * own
    assert found <= by_vadhan(ORDERS, rho * ORDERS, DELTA, size) + 1e-12


def test_a_group_of_one_is_a_sample() -> None:
    curve = 0.05 * ORDERS
    assert of_group(ORDERS, curve, DELTA, 1) == pytest.approx(from_renyi(ORDERS, curve, DELTA))


@pytest.mark.parametrize("size", [2, 5])
def test_the_lemma_s_delta_is_the_one_that_was_asked_for(size: int) -> None:
    """K exp((k - 1) e) d of what the curve proves at d, searched for on a fine grid of d."""
    curve = 0.02 * ORDERS
    small = np.geomspace(1e-40, DELTA, 4000)
    epsilons = np.array([from_renyi(ORDERS[size * 2 :], curve[size * 2 :], d) for d in small])
    fits = np.log(size) + (size - 1) * epsilons + np.log(small) <= math.log(DELTA)
    naive = size * epsilons[fits].min()
    lemma = by_vadhan(ORDERS[size * 2 :], curve[size * 2 :], DELTA, size)
    assert lemma == pytest.approx(naive, rel=0.01)


def test_two_samples_by_a_naive_search_for_p() -> None:
    """A curve that is no line; of all p whose first order is there."""
    orders = np.array([1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 16.0, 32.0])
    curve = 0.01 * orders + 1e-4 * orders**2
    whole = []
    for a in orders:
        sums = [math.inf]
        for above in orders[orders > a]:
            p = above / a
            second = p / (p - 1) * (a - 1 / p)
            beyond = [d for o, d in zip(orders, curve, strict=True) if o >= second - 1e-9]
            if beyond:
                first = curve[list(orders).index(above)]
                sums.append((a - 1 / p) / (a - 1) * first + beyond[0])
        whole.append(min(sums))
    by_renyi = from_renyi(orders, whole, DELTA)
    lemma = by_vadhan(orders, curve, DELTA, 2)
    assert of_group(orders, curve, DELTA, 2) == pytest.approx(min(by_renyi, lemma))


def test_it_grows_with_the_group_and_ends_where_nothing_is_proven() -> None:
    curve = 0.05 * ORDERS
    every = [of_group(ORDERS, curve, DELTA, size) for size in range(1, 12)]
    assert every == sorted(every)
    assert of_group([1.5, 2.0], [0.1, 0.2], DELTA, 9) == math.inf
    assert of_group([], [], DELTA, 2) == math.inf
    assert of_group(ORDERS, np.full(len(ORDERS), np.inf), DELTA, 2) == math.inf
    with pytest.raises(ValueError, match="size=0"):
        of_group(ORDERS, curve, DELTA, 0)
