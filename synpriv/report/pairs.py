"""Visual privacy: the canaries that released images come nearest to, side by side.

What counts is not how near a release comes to a canary, but whether it comes nearer than where the
canary is OUT: some canaries look like others of their class, or like everything.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from synpriv.audit import nearness
from synpriv.audit.evidence import Evidence
from synpriv.report import inert

Pairs = dict[str, NDArray]  # of synpriv.shadow.visual.closest_pairs


class Shown(NamedTuple):
    """One canary in one model where it is IN, and how it compares with both controls."""

    seed: int
    pair: Pairs  # one row of each array
    rank: nearness.Rank


def closest(
    runs: Sequence[tuple[int, Pairs]], evidence: Evidence, seeds: Sequence[int], num: int
) -> list[Shown]:
    """The `num` pairs that fewest OUT models come as near to, each canary once.

    runs: (seed, candidates) of the models that have them; seeds: of the columns of the evidence.
    """
    assert evidence.nearest is not None
    best = best_of_each(runs, evidence.nearest, evidence.member, seeds)
    return list(best.values())[:num]


def best_of_each(
    runs: Sequence[tuple[int, Pairs]],
    distance: nearness.Floats,
    member: NDArray[np.bool_],
    seeds: Sequence[int],
) -> dict[int, Shown]:
    """Of each canary the pair that fewest OUT models come as near to, the closest canary first.

    distance, member: [C,S], columns of `seeds`; runs: as in `closest`. Of equals the one that
    fewest held-out images of its class are nearer than, then the nearest.
    """
    column = {seed: place for place, seed in enumerate(seeds)}
    every = []
    for seed, found in runs:
        for i, canary in enumerate(found["canary"]):
            if not member[canary].all():  # else there is no control
                one = {name: values[i] for name, values in found.items()}
                rank = nearness.rank(distance[canary], member[canary], column[seed])
                every.append(Shown(seed, one, rank))
    every.sort(key=lambda s: (s.rank.as_near / s.rank.out, s.pair["closer"], s.pair["distance"]))
    best: dict[int, Shown] = {}
    for shown in every:
        best.setdefault(int(shown.pair["canary"]), shown)
    return best


def verdict(found: dict[str, Any]) -> str:
    """What the pairs of all models say together; `found`: of `nearness`."""
    words = (
        f"{found['nearer']:,} of {found['pairs']:,} pairs (canary x model that had it) are nearer "
        f"than in every model without it; chance gives {found['chance']:.0f}"
    )
    if found["above_chance"]:
        return f"{words} (p {found['p']:.3f}): the release comes nearer to members"
    return f"{words} (p {found['p']:.2f}): no more than chance, so no picture below shows a leak"


def png(shown: Sequence[Shown], found: dict[str, Any], *, title: str, num: int = 10) -> bytes:
    """A PNG: canaries in the upper row, the released image nearest to each below it.

    shown: of `closest`; found: of `nearness`, for the title.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.25 * num, 4.2), layout="constrained")
    none = dict.fromkeys(("xticks", "yticks"), ())  # off anyway, but the layout would measure them
    axes = figure.subplots(2, num, squeeze=False, subplot_kw=none)
    for column in axes.T:
        for place in column:
            place.set_axis_off()
    for column, (seed, pair, rank) in zip(axes.T, shown, strict=False):
        for place, name in zip(column, ("images", "synthetic"), strict=True):
            place.imshow(np.moveaxis(pair[name], 0, -1), cmap="gray", vmin=0, vmax=255)
        column[0].set_title(f"canary {pair['canary']}\nmodel {seed}", fontsize=8)
        column[1].set_title(
            f"L2 {pair['distance']:.2f}\nOUT: {rank.as_near} of {rank.out}\n"
            f"class: {pair['closer']:.0%}",
            fontsize=8,
        )
    figure.suptitle(
        f"Visual privacy (no measure of membership): {inert.label(title)}\n{verdict(found)}\n"
        "above: canaries, below: the released image nearest to each; OUT: models without the "
        "canary whose release is as near to it;\nclass: share of the held-out images of its class "
        "that have a nearer released image",
        fontsize=9,
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=120, format="png")
    return buffer.getvalue()
