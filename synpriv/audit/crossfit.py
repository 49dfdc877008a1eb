"""Which of several variants of an attack to believe, decided without the canaries it judges.

A setting that is right for one method is blind to another, and the best of several tried on the
same canaries is too good: it has seen the answers. Cross-fitting chooses on other canaries.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from synpriv.audit.scores import Floats

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
FOLDS = 5
LARGEST_FPR = 0.05  # up to which a variant's ROC decides
_SHARES = (0.09, 0.3, 1.0)  # of all pairs, from the highest on: the first is mostly enough


def combine(
    variants: Floats,
    member: Bools,
    *,
    weight: Ints | None = None,
    folds: int = FOLDS,
    seed: int = 0,
) -> tuple[Floats, Ints]:
    """One statistic [C,S] of variants [V,C,S], and the variant that judged each canary, int [C].

    Canaries are dealt into folds at random (fixed seed). A fold is judged by the variant whose
    partial AUC (FPR up to 5%) is largest on all others. Its values are replaced by their ranks
    among all canaries and models of that variant, which no membership enters, so that folds with
    different choices share one scale; a unanimous choice keeps its values.

    weight: how often each (canary, model) counts, int [C,S], as in a bootstrap round. Whoever
    weighs the same variants many times keeps a `Ranked`.
    """
    return Ranked(variants, folds=folds, seed=seed).combine(member, weight=weight)


class Ranked:
    """Variants [V,C,S] in order, to be combined for one membership and weight after another."""

    def __init__(self, variants: Floats, *, folds: int = FOLDS, seed: int = 0) -> None:
        if variants.ndim != 3:
            raise ValueError(f"variants {variants.shape}: need [V,C,S]")
        self.variants = variants
        num_canaries, num_models = variants.shape[1:]
        self.fold = fold_of(num_canaries, folds=folds, seed=seed)
        self._of_pair = np.repeat(self.fold, num_models)
        self._values = variants.reshape(len(variants), -1)  # [V,N], N = C*S
        self._ranks: dict[int, Floats] = {}

    def combine(self, member: Bools, *, weight: Ints | None = None) -> tuple[Floats, Ints]:
        """As the function of this name."""
        chosen = self.choose(member, weight=weight)
        return self.merge(chosen), chosen

    def choose(self, member: Bools, *, weight: Ints | None = None) -> Ints:
        """The variant that judges each canary, int [C]: of equally good ones the first."""
        if member.shape != self.variants.shape[1:]:
            raise ValueError(f"variants {self.variants.shape} and member {member.shape} differ")
        if len(self.variants) == 1 or self.fold.max() == 0:
            return np.zeros(len(member), dtype=np.int64)
        times = np.ones(member.shape) if weight is None else weight
        both = np.stack([np.where(member, 0.0, times), np.where(member, times, 0.0)])
        both = both.reshape(2, -1)  # how often each pair counts as non-member, as member
        for share in _SHARES:
            read = self._areas(both, int(np.ceil(share * both.shape[1])))
            if read is not None:
                break
        assert read is not None  # all places hold all non-members
        return read.argmax(axis=0)[self.fold]

    def merge(self, chosen: Ints) -> Floats:
        """The statistic [C,S] in which variant chosen[c] judges canary c."""
        used = np.unique(chosen)
        if len(used) == 1:
            return self.variants[used[0]]
        merged = np.empty(self.variants.shape[1:])
        for index in used:
            merged[chosen == index] = self._ranks_of(index)[chosen == index]
        return merged

    def _highest(self, places: int) -> Ints:
        """The pairs of the highest values in their order, undefined ones last, [V,places]."""
        negative = -self._values
        if places >= negative.shape[1]:
            return np.argsort(negative, axis=1)
        some = np.argpartition(negative, places - 1, axis=1)[:, :places]
        order = np.argsort(np.take_along_axis(negative, some, axis=1), axis=1)
        return np.take_along_axis(some, order, axis=1)

    @functools.cached_property
    def _usable(self) -> Bools:
        """Which values are finite, [V,N]."""
        return np.isfinite(self._values)

    def _areas(self, both: Floats, places: int) -> Floats | None:
        """Partial AUC of each variant on the canaries outside each fold: float64 [V,folds].

        both [2,N]: how often each pair counts as a non-member, and as a member. Only the highest
        `places` of each variant are looked at; None if they hold too few non-members.
        """
        rest = self._outside_folds(both)
        allowed = LARGEST_FPR * rest[0]  # [V or 1,folds]
        each = np.arange(len(self._values))[:, None]
        highest = self._highest(places + 1)
        top = highest[:, :places]
        counted = both[:, top]  # [2,V,places]
        if not self._usable.all():
            counted = np.where(self._usable[each, top], counted, 0)
        counts = np.zeros((2, self.fold.max() + 1, *top.shape))
        counts[:, self._of_pair[top], each, np.arange(places)] = counted
        np.cumsum(counts, axis=3, out=counts)
        np.subtract(counts.sum(axis=1, keepdims=True), counts, out=counts)
        ends = self._ends(highest, places)
        if not ends.all():  # a place within a group of ties counts as the end of the one before
            np.multiply(counts, ends, out=counts)
            np.maximum.accumulate(counts, axis=3, out=counts)
        room = allowed.T[:, :, None]
        if (counts[0, :, :, -1:] < room).any():
            return None
        passed, members = np.minimum(counts[0], room), counts[1]
        members[:, :, 1:] -= members[:, :, :-1].copy()
        won = members[:, :, 0] * (room[:, :, 0] - passed[:, :, 0] / 2)
        middle = passed[:, :, 1:] + passed[:, :, :-1]
        middle *= -0.5
        middle += room
        won += np.einsum("fvp,fvp->fv", members[:, :, 1:], middle)
        best = allowed * rest[1]
        return np.divide(won.T, best, out=np.zeros(won.T.shape), where=best > 0)

    def _outside_folds(self, both: Floats) -> Floats:
        """How many non-members and members there are outside each fold, [2,V or 1,folds]."""
        of_fold = np.eye(self.fold.max() + 1)[self._of_pair]  # [N,folds]
        every = both[:, None] if self._usable.all() else both[:, None] * self._usable
        sizes = every @ of_fold
        return sizes.sum(axis=2, keepdims=True) - sizes

    def _ends(self, highest: Ints, places: int) -> Bools:
        """Whether a group of ties ends at each of the highest places, [V,places]."""
        values = np.take_along_axis(self._values, highest, axis=1)
        ends = values[:, 1:] != values[:, :-1]
        return (
            ends
            if ends.shape[1] == places
            else np.pad(ends, ((0, 0), (0, 1)), constant_values=True)
        )

    def _ranks_of(self, index: int) -> Floats:
        """Mid-ranks of a variant among all finite pairs [C,S], the highest last; else NaN."""
        if index not in self._ranks:
            order = np.argsort(-self._values[index])[: self._usable[index].sum()]
            values = self._values[index][order]
            last = np.flatnonzero(np.append(values[1:] != values[:-1], True))
            size = np.diff(last, prepend=-1)
            ranks = np.full(self.variants[index].shape, np.nan)
            ranks.ravel()[order] = np.repeat(len(order) - last + (size - 1) / 2, size)
            self._ranks[index] = ranks
        return self._ranks[index]


@functools.cache
def fold_of(num_canaries: int, *, folds: int = FOLDS, seed: int = 0) -> Ints:
    """The fold of each canary, int [C]: sizes differ by one at the most."""
    order = np.random.default_rng(seed).permutation(num_canaries)
    fold = np.empty(num_canaries, dtype=np.int64)
    fold[order] = np.arange(num_canaries) % min(folds, num_canaries)
    fold.flags.writeable = False
    return fold


def statistic_of(found: Floats | Mapping[str, Floats], member: Bools) -> Floats:
    """The statistic [C,S] of whatever an attack returns: one, or named variants."""
    if not isinstance(found, Mapping):
        return found
    return combine(np.stack(list(found.values())), member)[0]
