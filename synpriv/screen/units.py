"""What is assigned to private or held out as a whole: an image, or all images of one person."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from synpriv.data.pool import Bools, Ints
from synpriv.screen import spaces

Floats = NDArray[np.float64]
NEAREST_SHARE = 0.01  # of all judged units: those whose nearest released image is nearest
FEWEST_NEAREST = 20
FEWEST = 10  # of each set: fewer have too few permutations
_COMPARED = 4000  # images of each set that near-copies are looked for in
_CERTAIN, _MANY = 4.0, 0.05  # standard deviations and share of images that say near-copies


def numbered(values: NDArray) -> Ints:
    """Numbers 0..U-1 for equal values [N], in the order of their first ones."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def halves(unit: Ints) -> tuple[Ints, Ints]:
    """Rows of two halves of the units of [N] images, drawn at random."""
    order = np.random.default_rng(0).permutation(int(unit.max()) + 1)
    place = np.argsort(order)[unit]
    rows = np.argsort(place, kind="stable")
    second = place[rows] % 2 == 1
    return rows[~second], rows[second]


def largest(values: Floats, unit: Ints) -> Floats:
    """The largest value [N] of each unit [U]: a group is as near as its nearest image."""
    found = np.full(int(unit.max()) + 1, -np.inf)
    np.maximum.at(found, unit, values)
    return found


def above_expected(chosen: Bools, is_private: Bools) -> dict[str, Any]:
    """Private ones among chosen units, what chance gives, and Fisher's exact p (one-sided)."""
    from scipy.stats import hypergeom

    num, total = int(chosen.sum()), len(chosen)
    private, of_private = int((chosen & is_private).sum()), int(is_private.sum())
    p = float(hypergeom.sf(private - 1, total, of_private, num)) if num else 1.0
    return {
        "private": private,
        "control": num - private,
        "expected_private": num * of_private / total,
        "p": min(1.0, p),
    }


def nearest(statistic: Floats, is_private: Bools) -> dict[str, Any]:
    """How many of the units that the release comes nearest to are private ones."""
    num = min(len(statistic), max(FEWEST_NEAREST, round(NEAREST_SHARE * len(statistic))))
    bound = np.sort(statistic)[::-1][num - 1]
    found = above_expected(statistic >= bound, is_private)  # ties at the bound all count
    return found | {"largest_distance": float(-bound)}


def near_copies(private: Floats, held_out: Floats, floor: float) -> float | None:
    """The share of images whose nearest other one is of their own set, or None if it is a half.

    private [N,D] and held_out [M,D] are points of distinct images. Of as many of each drawn at
    random the nearest is of either set alike (Henze, Annals of Statistics 1988), unless images are
    of one person: "near" is looked at as it is, and as less than half as far as in the other set.
    """
    num = min(len(private), len(held_out), _COMPARED)
    rng = np.random.default_rng(0)
    both = [points[rng.permutation(len(points))[:num]] for points in (private, held_out)]
    own, other = [], []
    for mine, theirs in (both, both[::-1]):
        own.append(spaces.to_neighbours(mine, mine, floor, 2)[:, 1])
        other.append(spaces.to_neighbours(mine, theirs, floor, 1)[:, 0])
    within, across = np.concatenate(own), np.concatenate(other)
    for ratio in (0.5, 1.0):
        nearer, farther = (within < ratio * across).sum(), (across < ratio * within).sum()
        excess = nearer - farther
        if excess > max(_CERTAIN * np.sqrt(nearer + farther), _MANY * 2 * num):
            return float((within < across).mean())
    return None
