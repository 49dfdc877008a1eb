"""Visual privacy: the canaries that released images come nearest to, side by side."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from synpriv.report import inert

Pairs = dict[str, NDArray]  # of synpriv.shadow.visual.closest_pairs


def closest(runs: Sequence[tuple[int, Pairs]], num: int) -> list[tuple[int, Pairs]]:
    """The `num` closest pairs of all shadow models, each canary once: (seed, one pair)."""
    every = [
        (seed, {name: rows[i] for name, rows in pairs.items()})
        for seed, pairs in runs
        for i in range(len(pairs["canary"]))
    ]
    every.sort(key=lambda one: (one[1]["closer"], one[1]["distance"]))
    best: dict[int, tuple[int, Pairs]] = {}
    for seed, pair in every:
        best.setdefault(int(pair["canary"]), (seed, pair))
    return list(best.values())[:num]


def png(runs: Sequence[tuple[int, Pairs]], *, title: str, num: int = 10) -> bytes:
    """A PNG: canaries in the upper row, the released image nearest to each below it."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    shown = closest(runs, num)
    figure, axes = plt.subplots(
        2, num, figsize=(1.25 * num, 3.6), layout="constrained", squeeze=False
    )
    for column in axes.T:
        for place in column:
            place.set_axis_off()
    for column, (seed, pair) in zip(axes.T, shown, strict=False):
        for place, name in zip(column, ("images", "synthetic"), strict=True):
            place.imshow(np.moveaxis(pair[name], 0, -1), cmap="gray", vmin=0, vmax=255)
        column[0].set_title(f"canary {pair['canary']}\nmodel {seed}", fontsize=8)
        caption = f"L2 {pair['distance']:.2f}\n{pair['closer']:.0%} closer"
        column[1].set_title(caption, fontsize=8)
    figure.suptitle(
        f"Visual privacy (no measure of membership): {inert.label(title)}\n"
        "above: canaries, below: the nearest released image; closer: share of the held-out images "
        "of its class that have a nearer one",
        fontsize=9,
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=120, format="png")
    plt.close(figure)
    return buffer.getvalue()
