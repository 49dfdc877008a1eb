"""LiRA's sums where all models come in pairs: the numbers of `lira`, in about half of the time.

Each canary then has one score IN and one OUT per pair, a and b, and what a target is compared with
leaves out its own pair alone. So a side without pair p has the squares SS - n/(n-1) e^2, where e is
the distance of p's own score from the side's mean; the distance of that score from the mean of the
others is n/(n-1) e, and that of its partner's follows from both e. Nothing depends on which model
of a pair is the target, so a and b stand for all of them until the end.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from synpriv.audit.references import LeftOut, columns_of
from synpriv.audit.scores import Floats

FARTHEST, MOST = 1e15, 20  # largest factor; a product of so many is still a float64
_LOST = 1e-7  # of the squares, below which a subtraction has lost too many digits


def sums(
    scores: Floats, floor: Floats, without: LeftOut, shrinkage: float
) -> tuple[Floats, Floats] | None:
    """Log ratios of scores [Q,A,S,C] summed over all views, and those of view 0: [A,S,C] each.

    floor: least variances, [Q,A,1,C]. None where models have no partner, or where the pooled
    variance does not outweigh what subtracting may lose and the floor: then each side has to be
    looked at by itself.
    """
    if without.partners is None or len(without.lone) or shrinkage <= 0:
        return None
    first, second = map(columns_of, without.partners)
    held = without.member[first]
    num_views, num_kinds = scores.shape[:2]
    found = np.empty((2, *scores.shape[1:]))
    ratios = _Ratios(held, shrinkage)
    for kind in range(num_kinds):
        total = np.zeros((2, *held.shape))
        for view in range(num_views):
            plane = scores[view, kind]
            if not ratios.take(plane[first], plane[second], floor[view, kind, 0]):
                return None
            if view == 0 or ratios.num_views == MOST or view == num_views - 1:
                total += ratios.log()
            if view == 0:
                _put(found[1, kind], total, held, first, second)
        _put(found[0, kind], total, held, first, second)
    return found[0], found[1]


def _put(
    place: Floats,
    sides: Floats,
    held: NDArray[np.bool_],
    first: NDArray[np.int64] | slice,
    second: NDArray[np.int64] | slice,
) -> None:
    """What is IN and OUT, [2,P,C], as what is of the first and of the second models."""
    place[first] = np.where(held, sides[0], sides[1])
    place[second] = np.where(held, sides[1], sides[0])


class _Ratios:
    """Products over views of the factors that `lira._Ratios` has, of a and of b, [P,C] each."""

    def __init__(self, held: NDArray[np.bool_], shrinkage: float) -> None:
        self.num_pairs, left = len(held), len(held) - 1
        self.shrinkage, self.nu = shrinkage, left - 1 + shrinkage
        self.left, self.spread = left, 1 + 1 / left
        # Bits of doubles are chosen by a mask: exact, and many times faster than np.where.
        self.mask = -held.astype(np.int64)
        self.chosen = np.empty(held.shape, dtype=np.int64)
        shape = held.shape
        self.inside, self.outside, self.to_out, self.to_in = np.empty((4, *shape))
        self.w_in, self.w_out, self.within, self.beyond = np.empty((4, *shape))
        self.of_in, self.of_out, self.width = np.ones((3, *shape))
        self.num_views = 0

    def take(self, one: Floats, two: Floats, floor: Floats) -> bool:
        """Multiply in one view of the first and second models [P,C]; False if digits are lost."""
        bits = one.view(np.int64), two.view(np.int64)
        np.bitwise_xor(*bits, out=self.chosen)
        self.chosen &= self.mask
        np.bitwise_xor(bits[1], self.chosen, out=self.inside.view(np.int64))
        np.bitwise_xor(bits[0], self.chosen, out=self.outside.view(np.int64))
        means = self.inside.mean(axis=0), self.outside.mean(axis=0)
        self.inside -= means[0]
        self.outside -= means[1]
        if not self._side(self.inside, self.within, self.w_in, floor):
            return False
        if not self._side(self.outside, self.beyond, self.w_out, floor):
            return False
        apart = means[0] - means[1]
        self._across(self.inside, self.outside, apart, self.w_out, self.to_out)
        self._across(self.outside, self.inside, -apart, self.w_in, self.to_in)
        _multiply(self.of_in, self.to_out, self.within)
        _multiply(self.of_out, self.beyond, self.to_in)
        _multiply(self.width, self.w_in, self.w_out)
        self.num_views += 1
        return True

    def _side(self, distance: Floats, own: Floats, w: Floats, floor: Floats) -> bool:
        """Fill in w = nu scale^2 of a side without each pair, and w + d^2 of the pair's score."""
        n, num_canaries = self.num_pairs, distance.shape[1]
        np.multiply(distance, distance, out=own)
        squares = own.sum(axis=0)
        np.multiply(own, -n / self.left * self.spread, out=w)
        w += squares * self.spread
        pooled = w.sum(axis=1, keepdims=True)
        pooled *= self.shrinkage / ((self.left - 1) * num_canaries)
        least = max(_LOST * squares.max(), self.nu * self.spread * floor.max())
        if not pooled.min() > least:
            return False
        w += pooled
        own *= (n / self.left) ** 2
        own += w
        return True

    def _across(self, own: Floats, partner: Floats, apart: Floats, w: Floats, out: Floats) -> None:
        """W + d^2 of scores on the other side, whose mean without the pair is `apart` from own."""
        np.multiply(partner, 1 / self.left, out=out)
        out += own
        out += apart
        out *= out
        out += w

    def log(self) -> Floats:
        """The sum over the views so far, of what is IN and of what is OUT [2,P,C]; starts anew."""
        both = np.stack([np.log(self.of_in), np.log(self.of_out)])
        both *= (self.nu + 1) / 2
        both += np.log(self.width) * (self.nu / 2)
        for product in (self.of_in, self.of_out, self.width):
            product.fill(1)
        self.num_views = 0
        return both


def _multiply(product: Floats, above: Floats, below: Floats) -> None:
    """Multiply a product by above / below, a factor that is cut."""
    above /= below
    if above.max() > FARTHEST or above.min() < 1 / FARTHEST:
        np.clip(above, 1 / FARTHEST, FARTHEST, out=above)
    product *= above
