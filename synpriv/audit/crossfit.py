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
FOLDS = 10
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

    weight: how often each (canary, model) counts, int [C,S], as in a bootstrap round.
    """
    chosen = choose(variants, member, weight=weight, folds=folds, seed=seed)
    return merge(variants, chosen), chosen


def choose(
    variants: Floats,
    member: Bools,
    *,
    weight: Ints | None = None,
    folds: int = FOLDS,
    seed: int = 0,
) -> Ints:
    """The variant [C] that judges each canary, as in `combine`."""
    num_canaries = member.shape[0]
    if variants.shape[1:] != member.shape:
        raise ValueError(f"variants {variants.shape}, member {member.shape}: need [V,C,S], [C,S]")
    chosen = np.zeros(num_canaries, dtype=np.int64)
    if len(variants) == 1 or num_canaries < 2:
        return chosen
    fold = fold_of(num_canaries, folds=folds, seed=seed)
    for judged in range(fold.max() + 1):
        others = fold != judged
        held = member[others]
        times = None if weight is None else weight[others]
        read = [partial_auc(variant[others], held, weight=times) for variant in variants]
        chosen[~others] = int(np.argmax(read))
    return chosen


def fold_of(num_canaries: int, *, folds: int = FOLDS, seed: int = 0) -> Ints:
    """The fold of each canary, int [C]: sizes differ by one at the most."""
    order = np.random.default_rng(seed).permutation(num_canaries)
    fold = np.empty(num_canaries, dtype=np.int64)
    fold[order] = np.arange(num_canaries) % min(folds, num_canaries)
    return fold


def merge(variants: Floats, chosen: Ints) -> Floats:
    """The statistic [C,S] in which the variant chosen[c] of [V,C,S] judges canary c."""
    used = np.unique(chosen)
    if len(used) == 1:
        return variants[used[0]]
    from scipy.stats import rankdata  # a second, which a check before training does without

    merged = np.full(variants.shape[1:], np.nan)
    for index in used:
        ranks = rankdata(variants[index], axis=None, nan_policy="omit").reshape(merged.shape)
        merged[chosen == index] = ranks[chosen == index]
    return merged


def partial_auc(
    statistic: Floats,
    member: Bools,
    *,
    weight: Ints | None = None,
    largest: float = LARGEST_FPR,
) -> float:
    """Mean TPR over FPR in (0, `largest`] of values of any shape; 0 without members or non-members.

    That is the chance that a member lies above one of the highest non-members, ties counting half.
    Values that are not finite are left out.
    """
    usable = np.isfinite(statistic)
    values, truth = statistic[usable], member[usable]
    if weight is not None:
        times = weight[usable]
        values, truth = np.repeat(values, times), np.repeat(truth, times)
    inside, outside = values[truth], values[~truth]
    if not len(inside) or not len(outside):
        return 0.0
    highest = max(1, round(largest * len(outside)))
    top = np.sort(np.partition(outside, len(outside) - highest)[-highest:])
    inside = inside[inside >= top[0]]
    above = np.searchsorted(top, inside, side="left") + np.searchsorted(top, inside, side="right")
    return float(above.sum() / (2 * highest * truth.sum()))


def statistic_of(
    found: Floats | Mapping[str, Floats], member: Bools, *, weight: Ints | None = None
) -> Floats:
    """The statistic [C,S] of whatever an attack returns: one, or named variants."""
    if not isinstance(found, Mapping):
        return found
    return combine(np.stack(list(found.values())), member, weight=weight)[0]
