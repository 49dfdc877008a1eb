"""What a target is compared with: mean and spread of IN and of OUT scores without the target.

Scores lie here as float64 [...,S,C], views first and canaries last: sums over models, pooling over
canaries and blocks of views all run over contiguous memory. `member` is bool [S,C].

Closed form: with n scores of mean mu and squared deviations SS on a side, taking out one that lies
d from mu leaves mean mu - d/(n-1) and SS - d^2 n/(n-1).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from synpriv.audit.scores import Floats

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
_LOST = 1e-7  # share of the squares below which a subtraction has lost too many digits


@dataclass(frozen=True)
class LeftOut:
    """Which models the references of a target leave out.

    partners: the target's whole pair, and all models without partner (`Evidence.partners`). Each
    side then has one model per other pair, whatever the target's bit.
    other: beside the target one model of the opposite side, int [S,C]. None: the target alone.
    """

    member: Bools  # [S,C]
    partners: tuple[Ints, Ints] | None = None
    other: Ints | None = None

    @functools.cached_property
    def lone(self) -> Ints:
        """Models without partner, int [U]."""
        assert self.partners is not None
        num_models = len(self.member)
        if 2 * len(self.partners[0]) == num_models:
            return np.empty(0, dtype=np.int64)
        return np.setdiff1d(np.arange(num_models), self.partners)

    @property
    def fewest(self) -> int:
        """The models that the better equipped canaries have on their smaller side, all in all."""
        if self.partners is not None:
            return len(self.partners[0])
        count = self.member.sum(axis=0)
        return int(min(count.max(), (len(self.member) - count).max()))


def left_out(
    member: Bools,
    partners: tuple[Ints, Ints] | None = None,
    *,
    equalise: bool = True,
    groups: Ints | None = None,
) -> LeftOut:
    """What is left out for member [C,S]: pairs if there are any, else as `equalise` says.

    equalise: with exactly S/2 models IN per canary, removing the target leaves its own side one
    model short, which alone makes an audit without any leak read AUC 0.44 at S=8. True removes one
    seeded random model of the other side too; False gives the published numbers. Rows that are not
    balanced (independent bits, an incomplete cell) are never equalised: there the target's bit
    does not follow from the others', and equalising would invent a leak (AUC 0.53 at S=12).
    groups: int [C]; canaries of one group lose the same model, as to combine several such draws
    invents a leak too.
    """
    rows = np.ascontiguousarray(member.T)
    if partners is not None:
        return LeftOut(rows, partners)
    balanced = bool((2 * member.sum(axis=1) == member.shape[1]).all())
    other = _model_of_other_side(member, groups).T if equalise and balanced else None
    return LeftOut(rows, None, other)


def _model_of_other_side(member: Bools, groups: Ints | None = None) -> Ints:
    """For each canary and target a seeded random model of the side opposite to the target [C,S].

    The same for all canaries of a group.
    """
    num_in = member.sum(axis=1, keepdims=True)
    size = np.where(member, member.shape[1] - num_in, num_in)
    draw = np.random.default_rng(0).random(member.shape)
    draw = draw if groups is None else draw[groups]
    place = (draw * size).astype(np.int64) + np.where(member, num_in, 0)
    in_first = np.argsort(~member, axis=1, kind="stable")
    return np.take_along_axis(in_first, place, axis=1)


@dataclass(frozen=True)
class Side:
    """IN or OUT for G groups of left-out models (G = 1: one for all)."""

    count: Floats  # [G,C], or of length 1 where equal: models that remain
    mean: Floats  # [...,G,C]
    squares: Floats  # [...,G,C] sum of squared deviations from that mean


class Target(NamedTuple):
    """Models whose statistics the same sides give, one per group or all of one group."""

    columns: Ints | slice  # [T]
    scores: Floats  # [...,T,C]


class Comparison(NamedTuple):
    """Targets, and the two sides that they are compared with."""

    targets: tuple[Target, ...]
    inside: Side
    outside: Side


def comparisons(scores: Floats, without: LeftOut) -> Iterator[Comparison]:
    """All targets of scores [...,S,C] with their references.

    There are none where the only pairs are the target's own.
    """
    if without.partners is None:
        everyone = Target(slice(None), scores)
        yield Comparison((everyone,), *_of_targets(scores, without))
        return
    first, second = map(columns_of, without.partners)
    held = without.member[first]
    one, two = scores[..., first, :], scores[..., second, :]
    sides = np.where(held, one, two), np.where(held, two, one)
    num_pairs = len(held)
    if num_pairs and len(without.lone):
        lone = Target(without.lone, scores[..., without.lone, :])
        yield Comparison((lone,), *map(_whole, sides))
    if num_pairs > 1:
        targets = Target(first, one), Target(second, two)
        yield Comparison(targets, *map(_without_each, sides))


def columns_of(index: Ints) -> Ints | slice:
    """As a slice, which copies nothing, where the models lie evenly."""
    steps = np.unique(np.diff(index))
    if len(steps) != 1 or steps[0] < 1:
        return index
    return slice(int(index[0]), int(index[-1]) + 1, int(steps[0]))


def _whole(values: Floats) -> Side:
    """A side of values [...,n,C] of which nothing is left out."""
    mean = values.mean(axis=-2, keepdims=True)
    squares = np.square(values - mean).sum(axis=-2, keepdims=True)
    return Side(np.full((1, 1), float(values.shape[-2])), mean, squares)


def _without_each(values: Floats) -> Side:
    """A side of values [...,n,C], each of them left out in turn."""
    left = values.shape[-2] - 1
    mean = values.sum(axis=-2, keepdims=True) / (left + 1)
    distance = values - mean
    rest = np.square(distance)
    total = rest.sum(axis=-2, keepdims=True)
    rest *= -(left + 1) / left
    rest += total
    distance *= -1 / left
    distance += mean
    lost = rest < _LOST * total
    if lost.any():
        *plane, gone, canary = np.nonzero(lost)
        others = np.arange(left + 1) != gone[:, None]
        _sum_again(rest, distance, lost, values.swapaxes(-1, -2)[*plane, canary], others)
    return Side(np.full((1, 1), float(left)), distance, rest)


def _of_targets(scores: Floats, without: LeftOut) -> Iterator[Side]:
    """IN, then OUT, each without the target or without the model of that side that goes with it."""
    own = np.arange(len(without.member))[:, None]
    for side in (without.member, ~without.member):
        if without.other is None:
            yield _without_target(scores, side, None)
        else:
            yield _without_target(scores, side, np.where(side, own, without.other))


def _without_target(scores: Floats, side: Bools, removed: Ints | None) -> Side:
    """`side` [S,C] of scores without model `removed` [S,C], or None: without each target of it."""
    weight = side.astype(np.float64)
    count = weight.sum(axis=0)  # [C]
    distance = scores * weight
    mean = distance.sum(axis=-2, keepdims=True) / count
    np.subtract(scores, mean, out=distance)
    distance *= weight
    squares = np.square(distance)
    total = squares.sum(axis=-2, keepdims=True)
    if removed is not None:
        num_canaries = scores.shape[-1]
        place = (removed * num_canaries + np.arange(num_canaries)).ravel()
        flat = distance.reshape(*scores.shape[:-2], -1)
        distance = np.take(flat, place, axis=-1).reshape(scores.shape)
        squares = np.square(distance)
    left = np.maximum(count - 1, 1)  # a side of one that loses it is empty: no statistic later
    squares *= -count / left
    squares += total
    distance *= -1 / left
    distance += mean
    lost = squares < _LOST * total
    if lost.any():
        *plane, target, canary = np.nonzero(lost)
        gone = target if removed is None else removed[target, canary]
        others = side[:, canary].T & (np.arange(len(side)) != gone[:, None])
        _sum_again(squares, distance, lost, scores.swapaxes(-1, -2)[*plane, canary], others)
    return Side(count - weight if removed is None else (count - 1)[None], distance, squares)


def _sum_again(squares: Floats, mean: Floats, lost: Bools, values: Floats, others: Bools) -> None:
    """Sum directly, in place, where the removed score made up almost all of the squares.

    values [L,n] and which of them remain, one row per True of `lost` [...,G,C]. Rare but for very
    few models or scores that tie.
    """
    centre = (values * others).sum(axis=1) / np.maximum(others.sum(axis=1), 1)
    mean[lost] = centre
    squares[lost] = (others * np.square(values - centre[:, None])).sum(axis=1)
