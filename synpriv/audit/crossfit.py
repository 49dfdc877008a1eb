"""Which of several variants of an attack to believe, decided without the canaries it judges.

A setting that is right for one method is blind to another, and the best of several tried on the
same canaries is too good: it has seen the answers. Cross-fitting chooses on other canaries.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from synpriv.audit.scores import Floats

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
FOLDS = 5
LARGEST_FPR = 0.05  # up to which a variant's ROC decides


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
        self._descending: list[tuple[Ints, Bools]] = []
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
        read = [self._without_each_fold(i, both) for i in range(len(self.variants))]
        return np.argmax(read, axis=0)[self.fold]

    def merge(self, chosen: Ints) -> Floats:
        """The statistic [C,S] in which variant chosen[c] judges canary c."""
        used = np.unique(chosen)
        if len(used) == 1:
            return self.variants[used[0]]
        merged = np.empty(self.variants.shape[1:])
        for index in used:
            merged[chosen == index] = self._ranks_of(index)[chosen == index]
        return merged

    def _without_each_fold(self, index: int, both: Floats) -> Floats:
        """Partial AUC of a variant on the canaries outside each fold: float64 [folds].

        both [2,C*S]: how often each pair counts as a non-member, and as a member.
        """
        order, ends = self._order_of(index)
        num_folds = self.fold.max() + 1
        finite = slice(None) if len(order) == both.shape[1] else order
        sizes = np.stack([np.bincount(self._of_pair[finite], b[finite], num_folds) for b in both])
        rest = sizes.sum(axis=1, keepdims=True) - sizes  # outside each fold
        allowed = LARGEST_FPR * rest[0][:, None]
        last = self._place(both[0][order], order, allowed.max())
        last += int(np.argmax(ends[last - 1 :]))
        top, groups = order[:last], np.flatnonzero(ends[:last])
        spread = np.zeros((2, num_folds, last))
        spread[:, self._of_pair[top], np.arange(last)] = both[:, top]
        counts = np.cumsum(spread, axis=2)[:, :, groups]
        counts = counts.sum(axis=1, keepdims=True) - counts
        passed = np.minimum(counts[0], allowed)
        ties = np.diff(passed, axis=1, prepend=0)
        members = np.diff(counts[1], axis=1, prepend=0)
        won = (members * (allowed - passed + ties / 2)).sum(axis=1)
        best = allowed[:, 0] * rest[1]
        return np.divide(won, best, out=np.zeros(num_folds), where=best > 0)

    def _place(self, outside: Floats, order: Ints, allowed: float) -> int:
        """Places in `order` that hold `allowed` non-members even without any one fold.

        outside [N]: how often each of `order` counts as a non-member.
        """
        met = np.cumsum(outside)
        for share in (1.5, 3.0):  # of what would do with a single fold: mostly enough
            last = min(int(np.searchsorted(met, share * allowed)) + 1, len(order))
            of_folds = np.bincount(self._of_pair[order[:last]], outside[:last])
            if met[last - 1] - of_folds.max() >= allowed:
                return last
        return len(order)

    def _order_of(self, index: int) -> tuple[Ints, Bools]:
        """Finite values from high to low, and whether a group of ties ends there."""
        for values in self.variants[len(self._descending) : index + 1]:
            flat = values.ravel()
            order = np.argsort(-flat)
            if not np.isfinite(flat.sum()):
                order = order[np.isfinite(flat[order])]
            ordered = flat[order]
            self._descending.append((order, np.append(ordered[1:] != ordered[:-1], True)))
        return self._descending[index]

    def _ranks_of(self, index: int) -> Floats:
        """Mid-ranks of a variant among all finite pairs [C,S], the highest last; else NaN."""
        if index not in self._ranks:
            order, ends = self._order_of(index)
            last = np.flatnonzero(ends)
            size = np.diff(last, prepend=-1)
            ranks = np.full(self.variants[index].shape, np.nan)
            ranks.ravel()[order] = np.repeat(len(order) - last + (size - 1) / 2, size)
            self._ranks[index] = ranks
        return self._ranks[index]


def fold_of(num_canaries: int, *, folds: int = FOLDS, seed: int = 0) -> Ints:
    """The fold of each canary, int [C]: sizes differ by one at the most."""
    order = np.random.default_rng(seed).permutation(num_canaries)
    fold = np.empty(num_canaries, dtype=np.int64)
    fold[order] = np.arange(num_canaries) % min(folds, num_canaries)
    return fold


def statistic_of(
    found: Floats | Mapping[str, Floats], member: Bools, *, weight: Ints | None = None
) -> Floats:
    """The statistic [C,S] of whatever an attack returns: one, or named variants."""
    if not isinstance(found, Mapping):
        return found
    return combine(np.stack(list(found.values())), member, weight=weight)[0]
