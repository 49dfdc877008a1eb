"""Log-log ROC of one or several cells, and how figures are written."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from synpriv.audit.metrics import Roc
from synpriv.report import inert
from synpriv.report.html.curves import kept_of
from synpriv.results import names

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_POINTS = 1000  # of a curve, as many as its picture has pixels across
# Without dates, so that the same figure gives the same bytes.
FORMATS: dict[str, dict[str, Any]] = {
    ".png": {"dpi": 150},
    ".svg": {"metadata": {"Date": None}},
    ".pdf": {"metadata": {"CreationDate": None}},
}


def written(figure: Figure, suffix: str) -> bytes:
    """A figure as .png, .svg or .pdf; the same figure gives the same bytes."""
    from matplotlib import rc_context

    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "synpriv"}):  # else ids in it are random
        figure.savefig(buffer, format=suffix[1:], **FORMATS[suffix])
    return buffer.getvalue()


def in_all_formats(figure: Figure) -> dict[str, bytes]:
    """A figure by the ending of its file; its layout is found once."""
    found = {}
    for suffix in FORMATS:
        found[suffix] = written(figure, suffix)
        figure.set_layout_engine("none")  # as it was found
    return found


def png(cells: Sequence[tuple[dict[str, Any], Roc]]) -> bytes:
    """The figure of `roc` as PNG."""
    return written(roc(cells), ".png")


def roc(cells: Sequence[tuple[dict[str, Any], Roc]]) -> Figure:
    """One curve per report, the chance line, and the smallest FPR that is resolved.

    The legend names a report by what tells it apart.

    Left of ten false positives a curve is mostly noise, which the picture says; left of one, at
    1/n_out, it cannot be told from zero: the axes end just below it.
    """
    from cycler import cycler
    from matplotlib import rcParams
    from matplotlib.figure import Figure  # pyplot would keep it alive until somebody closes it

    height = 4.8 + 0.19 * (len(cells) + 1)  # the legend lies below
    figure = Figure(figsize=(6.4, height), layout="constrained")
    axes = figure.subplots()
    colours = rcParams["axes.prop_cycle"]
    axes.set_prop_cycle(cycler(linestyle=["-", "--", ":"]) * colours)
    floor = min(1 / report["n_out"] for report, _ in cells)
    limit, resolved = floor / 2, 10 * floor
    chance = np.geomspace(limit, 1, 50)
    axes.plot(chance, chance, color="0.6", linestyle="--", linewidth=1, label="chance")
    reports = [report for report, _ in cells]
    for (report, curve), label in zip(cells, names.distinct_names(reports), strict=True):
        kept = kept_of(curve, report["n_out"], most=_POINTS)
        tpr = curve.tpr[kept]
        axes.step(
            np.maximum(curve.fpr[kept], limit),
            np.where(tpr > 0, tpr, np.nan),  # zero has no place on a log axis
            where="post",
            linewidth=1.6,
            label=inert.label(label),
        )
    axes.axvspan(limit, min(resolved, 1), color="0.95", zorder=0)
    axes.annotate(
        f"FPR below {resolved:.1e}: not resolved",
        (limit, limit * 1.15),
        xytext=(4, 0),
        textcoords="offset points",
        rotation=90,
        fontsize=8,
        color="0.3",
        verticalalignment="bottom",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
    )
    axes.set(xscale="log", yscale="log", xlim=(limit, 1), ylim=(limit, 1.05))
    axes.set(xlabel="false positive rate", ylabel="true positive rate")
    axes.grid(True, which="major", color="0.9")
    figure.legend(fontsize=8, loc="outside lower left")
    return figure
