"""LiRA: the likelihood-ratio attack, leave-one-out over shadow models.

Carlini et al., "Membership Inference Attacks From First Principles" (S&P 2022), with every shadow
model the target once (Aerni et al., CCS 2024).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synpriv.audit.evidence import Evidence
from synpriv.audit.scores import SCORES, Floats

VARIANCES = ("per_sample", "pooled", "pooled_raw")
AUTO = "auto"  # one of them, by the number of shadow models
FEW_MODELS = 32  # below it `auto` pools
_BLOCK = 1 << 17  # scores handled at once: one float64 array of this size fits the cache
_TINY = 1e-30
_FARTHEST = 1e4


def lira(
    evidence: Evidence,
    *,
    score: str = "hinge",
    queries: int | None = None,
    variance: str = AUTO,
    equalise: bool = True,
) -> Floats:
    """Leave-one-out LiRA on the first `queries` views (all by default): statistic [C,S].

    variance: as in `chosen_variance` and `leave_one_out`.
    """
    if score not in SCORES:
        raise ValueError(f"attack.score={score}: must be one of {', '.join(SCORES)}")
    num_views = evidence.logits.shape[2]
    if queries is not None and not 1 <= queries <= num_views:
        raise ValueError(f"attack.queries={queries}: must be 1..{num_views}")
    scores = evidence.scores(score)[:, :, :queries]
    variance = chosen_variance(variance, evidence.member.shape[1])
    return leave_one_out(scores, evidence.member, variance=variance, equalise=equalise)


def chosen_variance(variance: str, num_models: int) -> str:
    """The variance that an attack on `num_models` shadow models uses: what `auto` stands for.

    With few models a standard deviation per canary and side is itself mostly noise, and canaries
    whose estimate happens to be small fill the low end of the FPR. One shared by all canaries
    has many more degrees of freedom, at the price of a bias where canaries differ, which matters
    once each has enough models of its own. docs/protocol.md has the measurement.
    """
    allowed = (AUTO, *VARIANCES)
    if variance not in allowed:
        raise ValueError(f"attack.variance={variance}: must be one of {', '.join(allowed)}")
    if variance != AUTO:
        return variance
    return "pooled" if num_models < FEW_MODELS else "per_sample"


def leave_one_out(
    scores: ArrayLike,
    member: ArrayLike,
    *,
    variance: str = "per_sample",
    equalise: bool = True,
) -> Floats:
    """Log-likelihood ratio of IN to OUT for each canary and model, from the other models only.

    scores [C,S,Q], member bool [C,S] -> float64 [C,S], the mean over views of
    log N(s; in) - log N(s; out). NaN where a side keeps too few models to estimate.

    variance: `per_sample` one standard deviation per canary, view and side; `pooled` one per side,
    around each canary's and view's own mean; `pooled_raw` one per side around the common mean (the
    `fix_variance` of Carlini et al.).

    equalise: with exactly S/2 models IN per canary, removing the target leaves its own side one
    model short, which alone makes an audit without any leak read AUC 0.44 at S=8. True drops one
    seeded random model from the other side too; False gives the published numbers. Rows that are
    not balanced (independent bits, an incomplete cell) are never equalised: there the target's bit
    does not follow from the others', and equalising would invent a leak (AUC 0.53 at S=12).

    Closed form: with n scores of mean mu and squared deviations SS on a side, taking out one that
    lies d from mu leaves mean mu - d/(n-1) and SS - d^2 n/(n-1).
    """
    scores = np.asarray(scores, dtype=np.float64)
    member = np.asarray(member, dtype=bool)
    if scores.ndim != 3 or member.shape != scores.shape[:2]:
        raise ValueError(f"scores {scores.shape} and member {member.shape}: need [C,S,Q] and [C,S]")
    if not np.isfinite(scores).all():
        raise ValueError(f"{(~np.isfinite(scores)).sum()} scores are not finite")
    if variance not in VARIANCES:
        raise ValueError(f"attack.variance={variance}: must be one of {', '.join(VARIANCES)}")
    fewest = _fewest_per_side(variance)
    if min(member.sum(1).max(), (~member).sum(1).max()) < fewest:
        raise ValueError(
            f"attack.variance={variance} needs {fewest} models IN and OUT per canary, there are "
            f"{member.sum(1).max()} and {(~member).sum(1).max()}: "
            "train more (num_models >= 6), or use attack.variance=pooled_raw"
        )
    balanced = bool((2 * member.sum(1) == member.shape[1]).all())
    other = _model_of_other_side(member) if equalise and balanced else None
    pooled = None if variance == "per_sample" else _pooled(scores, member, other, variance)
    statistic = np.empty(member.shape)
    with np.errstate(invalid="ignore", divide="ignore"):
        for block in _blocks(scores.shape):
            likelihoods = [
                _log_density(side, scores[block], None if pooled is None else pooled[i])
                for i, side in enumerate(_sides(scores, member, other, block))
            ]
            statistic[block] = (likelihoods[0] - likelihoods[1]).mean(axis=2)
    # Rounding errors depend on which model was removed, hence on membership: between scores that
    # tie they would read as a leak. Logits are float32, so the digits dropped here mean nothing.
    return statistic.round(6).astype(np.float32).astype(np.float64)


def _fewest_per_side(variance: str) -> int:
    """Models a canary needs on each side so that a mean and a variance remain after one goes."""
    return 2 if variance == "pooled_raw" else 3


def _model_of_other_side(member: NDArray[np.bool_]) -> NDArray[np.int64]:
    """For each canary and target a seeded random model of the side opposite to the target [C,S]."""
    num_in = member.sum(axis=1, keepdims=True)
    size = np.where(member, member.shape[1] - num_in, num_in)
    draw = np.random.default_rng(0).random(member.shape)
    place = (draw * size).astype(np.int64) + np.where(member, num_in, 0)
    in_first = np.argsort(~member, axis=1, kind="stable")
    # A row without an opposite side has no such model; its statistic is NaN whatever is named here.
    return np.take_along_axis(in_first, np.minimum(place, member.shape[1] - 1), axis=1)


@dataclass(frozen=True)
class _Side:
    """One side (IN or OUT) of a block of canaries, for each target without what it must not see."""

    count: Floats  # [c,S,1] models that remain
    mean: Floats  # [c,S,Q]
    squares: Floats  # [c,S,Q] sum of squared deviations from that mean


def _blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices of canaries, so that memory stays bounded and arrays stay in the cache."""
    step = max(1, _BLOCK // (shape[1] * shape[2]))
    return (slice(start, start + step) for start in range(0, shape[0], step))


def _sides(
    scores: Floats, member: NDArray[np.bool_], other: NDArray[np.int64] | None, block: slice
) -> Iterator[_Side]:
    """The IN side, then the OUT side."""
    own = np.arange(member.shape[1])
    for side in (member[block], ~member[block]):
        removed = np.where(side, own, own if other is None else other[block])
        yield _without(scores[block], side, removed, side if other is None else None)


def _without(
    scores: Floats,
    side: NDArray[np.bool_],
    removed: NDArray[np.int64],
    only: NDArray[np.bool_] | None,
) -> _Side:
    """Moments of `side` [c,S] without model `removed` [c,S], where `only` (None: everywhere)."""
    weight = side.astype(np.float64)[:, None]  # [c,1,S]
    count = weight.sum(axis=2, keepdims=True)  # [c,1,1]
    mean = (weight @ scores) / count  # [c,1,Q]
    centred = scores - mean
    squares = weight @ np.square(centred)  # [c,1,Q]
    distance = np.take_along_axis(centred, removed[:, :, None], axis=1)
    if only is not None:
        distance = distance * only[:, :, None]
    taken = 1.0 if only is None else only[:, :, None].astype(np.float64)
    left = np.maximum(count - 1, 1)  # a side of one that loses it has no variance: NaN further down
    mean = mean - distance / left
    total, squares = squares, squares - np.square(distance) * (count / left)
    lost = squares < 1e-4 * total
    if lost.any():
        _mend_cancellation(squares, mean, lost, scores=scores, side=side, removed=removed)
    return _Side(
        np.broadcast_to(count - taken, (*removed.shape, 1)),
        mean,
        np.maximum(squares, 0, out=squares),
    )


def _mend_cancellation(
    squares: Floats,
    mean: Floats,
    lost: NDArray[np.bool_],
    *,
    scores: Floats,
    side: NDArray[np.bool_],
    removed: NDArray[np.int64],
) -> None:
    """Sum again, in place, where the removed score made up almost all of the squares.

    The subtraction has then `lost` [c,S,Q] most of its digits. Rare but for very few models or
    scores that tie.
    """
    canary, target, view = np.nonzero(lost)
    rest = side[canary] & (np.arange(side.shape[1]) != removed[canary, target][:, None])
    values = scores[canary, :, view]
    centre = (values * rest).sum(1) / np.maximum(rest.sum(1), 1)
    mean[canary, target, view] = centre
    squares[canary, target, view] = (rest * np.square(values - centre[:, None])).sum(1)


def _pooled(
    scores: Floats,
    member: NDArray[np.bool_],
    other: NDArray[np.int64] | None,
    variance: str,
) -> list[Floats]:
    """One variance per target and side over all canaries and views: IN [S], OUT [S]."""
    num_views = scores.shape[2]
    centre = scores.mean()  # any common shift will do; this one keeps the sums small
    total = np.zeros((2, 4, member.shape[1]))
    with np.errstate(invalid="ignore", divide="ignore"):
        for block in _blocks(scores.shape):
            for sums, side in zip(total, _sides(scores, member, other, block), strict=True):
                count, mean = side.count[:, :, 0], side.mean - centre
                usable = count >= _fewest_per_side(variance) - 1
                sums[0] += side.squares.sum(2).sum(0, where=usable)
                sums[1] += (count * usable * num_views).sum(0)
                sums[2] += (count * mean.sum(2)).sum(0, where=usable)
                sums[3] += (count * np.square(mean).sum(2)).sum(0, where=usable)
                if variance == "pooled":  # one mean per canary and view was fitted
                    sums[1] -= usable.sum(0) * num_views
    if variance == "pooled":
        return [squares / degrees for squares, degrees, _, _ in total]
    return [
        (squares + between - np.square(shifted) / count) / (count - 1)
        for squares, count, shifted, between in total
    ]


def _log_density(side: _Side, scores: Floats, pooled: Floats | None) -> Floats:
    """Log N(s; side) up to the constant that cancels between the sides, [c,S,Q]."""
    if pooled is None:
        variance = side.squares / np.where(side.count > 1, side.count - 1, np.nan)
    else:
        variance = np.where(side.count > 0, pooled[None, :, None], np.nan)
    # A spread below the resolution of float32 logits is not known; neither is a distance of more
    # than 10,000 standard deviations, where two sides would differ by rounding only.
    resolution = np.abs(side.mean) * np.finfo(np.float32).eps
    deviation = np.maximum(np.sqrt(variance), resolution + _TINY)
    distance = np.clip((scores - side.mean) / deviation, -_FARTHEST, _FARTHEST)
    return -0.5 * np.square(distance) - np.log(deviation)
