"""The choice among variants made again in every bootstrap round: it is part of what is uncertain.

The ROC's start is read at a grid of thresholds, fixed per variant: a count above a threshold is
then bilinear in how often canaries and clusters of models are drawn, which makes all rounds a few
matrix products.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from synpriv.audit.crossfit import LARGEST_FPR, Ranked, fold_of
from synpriv.audit.intervals import Draws, resampled
from synpriv.audit.metrics import Bools, Floats

_GRID = 0.15 * np.linspace(0, 1, 17)[1:] ** 2  # FPRs in the data; a round's may be larger or less
_BLOCK = 1 << 22  # float32 handled at once


def reselected(
    variants: Floats, member: Bools, fprs: Sequence[float], drawn: Draws, *, workers: int = 1
) -> Floats:
    """TPR at each population FPR, then AUC, of the chosen variants in each round: [R,F+1].

    variants [V,C,S], fixed; folds as in `crossfit.combine`. workers: threads, of which the result
    does not depend.
    """
    if len(variants) == 1:
        return resampled(variants[0], member, fprs, drawn)
    fold = fold_of(len(member))
    chosen, ranked = choices(variants, member, drawn), Ranked(variants)
    found = np.empty((len(chosen), len(fprs) + 1))
    patterns, which = np.unique(chosen, axis=0, return_inverse=True)

    def fill_in(index: int) -> None:
        rounds = np.flatnonzero(which == index)
        some = Draws(drawn.canary[rounds], drawn.cluster[rounds], drawn.of_model)
        found[rounds] = resampled(ranked.merge(patterns[index][fold]), member, fprs, some)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(fill_in, range(len(patterns))))  # raises what they raise
    return found


def choices(variants: Floats, member: Bools, drawn: Draws) -> NDArray[np.int64]:
    """The variant that judges each fold in each round, int [R,folds]: largest partial AUC.

    As `crossfit.Ranked.choose` has it for the weights of a round, but for the grid.
    """
    areas = np.stack([_partial_areas(variant, member, drawn) for variant in variants])
    return areas.argmax(axis=0)


def _partial_areas(statistic: Floats, member: Bools, drawn: Draws) -> Floats:
    """Mean TPR over FPR up to LARGEST_FPR without each fold's canaries: float [R,folds]."""
    fold = fold_of(len(member))
    order = np.argsort(fold, kind="stable")
    starts = np.searchsorted(fold[order], np.arange(fold.max() + 1))
    outside = np.sort(statistic[~member & np.isfinite(statistic)])[::-1]
    bounds = [outside[min(int(rate * len(outside)), len(outside) - 1)] for rate in _GRID]
    to_cluster = np.eye(drawn.cluster.shape[1], dtype=np.float32)[drawn.of_model]  # [S,P]
    with np.errstate(invalid="ignore"):
        hits = [side & (statistic > bound) for side in (member, ~member) for bound in bounds]
    sides = [side & np.isfinite(statistic) for side in (member, ~member)]
    counts = np.stack([*hits, *sides], axis=1)[order] @ to_cluster  # [C,2G+2,P]
    step = max(1, _BLOCK // (counts.shape[0] * counts.shape[1]))
    found = []
    for start in range(0, len(drawn.canary), step):
        block = slice(start, start + step)
        above = counts @ drawn.cluster[block].T.astype(np.float32)  # [C,2G+2,b]
        above *= drawn.canary[block].T[order][:, None].astype(np.float32)
        of_fold = np.add.reduceat(above, starts, axis=0)
        found.append(_area(of_fold.sum(axis=0) - of_fold).T)
    return np.concatenate(found)


def _area(counts: NDArray[np.float32]) -> Floats:
    """Trapezoids below the ROC up to LARGEST_FPR over that FPR; counts [folds,2G+2,b] -> [folds,b].

    Members above each of G thresholds, non-members above each, all members, all non-members.
    """
    num = len(_GRID)
    tpr = counts[:, :num] / np.maximum(counts[:, -2:-1], 1)
    fpr = counts[:, num : 2 * num] / np.maximum(counts[:, -1:], 1)
    total, x, y = (np.zeros_like(tpr[:, 0], dtype=np.float64) for _ in range(3))
    for g in range(num):
        width = fpr[:, g] - x
        inside = np.clip(LARGEST_FPR - x, 0, width)
        part = np.divide(inside, width, out=np.zeros_like(width), where=width > 0)
        total += inside * (y + part * (tpr[:, g] - y) / 2)
        x, y = fpr[:, g], tpr[:, g]
    rest = np.clip(LARGEST_FPR - x, 0, None)
    return (total + rest * y) / LARGEST_FPR
