"""How members were drawn, as their rows say; and rows that no such draw gives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from synpriv.audit.evidence import DESIGNS
from synpriv.signatures import require

Bits = NDArray[np.bool_]
Ints = NDArray[np.int64]
_FAR = 5.0  # standard deviations that no fair draw of so many bits shows
_NEVER = 1e-9  # chance of what no draw shows


class Design(NamedTuple):
    """How members were drawn, one of `DESIGNS`."""

    name: str
    seeds: Ints | None = None  # [S] where pairs do not lie side by side: those of pair p 2p, 2p + 1


def design_of(
    member: Bits, asked: str | None = None, *, models: Sequence[str] | None = None
) -> Design:
    """How `member` [C,S] was drawn: as asked, or as its rows say; ValueError if they say otherwise.

    member has one row per coin, of canaries or of whole groups. paired: of two models one holds the
    canary, wherever their columns are. balanced: each canary is in as many models as it is, any of
    them; that also goes for bits of another probability than a half, or of unequal rows.
    bernoulli: fair coins, each on its own. A wrong design reads as a leak, so one that the bits
    refute is refused, and so are models that hold far more canaries than others do. models: their
    names, their places if not given.
    """
    require(asked is None or asked in DESIGNS, f"design={asked}", f"one of {', '.join(DESIGNS)}")
    named = list(map(str, range(member.shape[1]))) if models is None else models
    _refuse_uneven_models(member, named)
    if asked in (None, "paired"):
        if (seeds := _pairs(member)) is not None:
            beside = np.array_equal(seeds, np.arange(len(seeds)))
            return Design("paired", None if beside else seeds)
        _refuse_lone(member, named, asked=asked is not None)
    rows_equal = bool((2 * member.sum(axis=1) == member.shape[1]).all())
    share = float(member.mean())
    fair = abs(share - 0.5) * 2 * math.sqrt(member.size) < _FAR
    if asked == "bernoulli" and len(member) > 1 and (rows_equal or not fair):
        why = "every canary is IN exactly half" if rows_equal else f"canaries are IN {share:.0%}"
        raise ValueError(f"design=bernoulli, but {why} of the models: must be balanced")
    return Design(asked or ("bernoulli" if fair and not rows_equal else "balanced"))


def _pairs(member: Bits) -> Ints | None:
    """Pair of each model as a seed, int [S]; None unless each has its opposite.

    Those side by side come first: of few canaries a column may have several opposites.
    """
    num_models = member.shape[1]
    if num_models % 2 == 0 and (member[:, ::2] != member[:, 1::2]).all():
        return np.arange(num_models)
    opposite = _opposites(member)
    if any(len(found) != 1 for found in opposite):
        return None
    seeds = np.full(num_models, -1)
    for model, (other,) in enumerate(opposite):
        if model < other:
            seeds[[model, other]] = seeds.max() + 1, seeds.max() + 2
    return seeds


def _opposites(member: Bits) -> list[list[int]]:
    """For each model those that hold exactly the other canaries."""
    places: dict[bytes, list[int]] = {}
    for model, column in enumerate(member.T):
        places.setdefault(column.tobytes(), []).append(model)
    return [places.get((~column).tobytes(), []) for column in member.T]


def _refuse_lone(member: Bits, models: Sequence[str], *, asked: bool) -> None:
    """ValueError if paired was asked for, or if some models are pairs, and no accident, not all."""
    num_canaries, num_models = member.shape
    opposite = _opposites(member)
    lone = [models[model] for model, found in enumerate(opposite) if not found]
    accident = math.comb(num_models, 2) * 0.5**num_canaries > _NEVER
    if not asked and (accident or len(lone) == num_models):
        return
    several = [models[model] for model, found in enumerate(opposite) if len(found) > 1]
    which = f"model{'s' * (len(lone) > 1)} {some(lone)} ha{'ve' if len(lone) > 1 else 's'}"
    why = f"{which} no partner" if lone else f"model {some(several)} have several partners"
    if asked:
        raise ValueError(
            f"design=paired, but {why}, a model that holds exactly the other canaries: must be "
            "balanced or bernoulli"
        )
    one, other = next((model, found[0]) for model, found in enumerate(opposite) if found)
    raise ValueError(
        f"models {models[one]} and {models[other]} are a pair, one holds what the other "
        f"does not, but {why}: leave models without partner out, or say how members were drawn "
        "(design=balanced or bernoulli)"
    )


def _refuse_uneven_models(member: Bits, models: Sequence[str]) -> None:
    """Members that depend on the model, not on a draw per canary, cannot be told from a leak."""
    rate = member.mean(axis=1)
    expected, variance = rate.sum(), (rate * (1 - rate)).sum()
    held = member.sum(axis=0)
    far = np.abs(held - expected) > _FAR * math.sqrt(variance)
    if far.any():
        model = int(np.argmax(np.abs(held - expected)))
        raise ValueError(
            f"model {models[model]} holds {held[model]} of {len(member)} canaries, a fair draw "
            f"about {expected:.0f}: membership must be drawn for each canary alike in all models, "
            "or what differs between models reads as a leak"
        )


def refuse_one_sided(member: Bits, rows: Sequence[str]) -> None:
    """ValueError for canaries [C,S] that are IN everywhere or nowhere; `rows`: their names."""
    for side, words in ((member, "no"), (~member, "every")):
        lacking = np.flatnonzero(~side.any(axis=1))
        if len(lacking):
            which = some([rows[int(row)] for row in lacking])
            raise ValueError(
                f"{len(lacking)} of {len(member)} canaries are IN {words} model (rows {which}): "
                "each needs models with it and models without it; train more models or leave these "
                "canaries out"
            )


def refuse_repeated(member: Bits, rows: Sequence[str]) -> None:
    """ValueError if rows of `member` [C,S] repeat more often than a draw per row lets them.

    Coins that several rows share are fewer coins than the audit would count. Of n rows that fall
    into one of m patterns alike, n (n - 1) / (2 m) pairs are expected to agree; so many are too
    many by Poisson's law where patterns are rare, by Pearson's chi-square also where they are not.
    `rows`: their names. Persons of a few records each in few models are not seen by this.
    """
    held, paired = member.sum(axis=1), _pairs(member) is not None
    for count in [None] if paired else np.unique(held):
        inside = np.arange(len(member)) if count is None else np.flatnonzero(held == count)
        num_models = member.shape[1]
        num = 2.0 ** (num_models // 2) if count is None else float(math.comb(num_models, count))
        _, pattern, times = np.unique(
            member[inside], axis=0, return_inverse=True, return_counts=True
        )
        if not _too_many(times, num):
            continue
        same = inside[pattern.reshape(-1) == int(np.argmax(times))]
        which = some([rows[int(row)] for row in same])
        raise ValueError(
            f"rows {which} have the same members, more than coins of their own let agree: give "
            "groups, one number or name per canary (those of one person are IN or OUT together), "
            "or draw each canary on its own"
        )


def _too_many(times: Ints, num: float) -> bool:
    """Whether so many repeats, `times` [patterns that are there], of `num` patterns are no draw."""
    if times.max(initial=0) < 2:
        return False
    from scipy.special import chdtrc, pdtrc

    rows = float(times.sum())
    agree = float((times * (times - 1.0)).sum() / 2)
    if pdtrc(agree - 1, rows * (rows - 1) / (2 * num)) > _NEVER:
        return False
    if num > rows:
        return True
    squares = float((times.astype(float) ** 2).sum()) * num / rows - rows
    return bool(chdtrc(num - 1, squares) <= _NEVER)


def some(names: Sequence[str], most: int = 5) -> str:
    """The first of these names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
