"""The ROC and the scores of an audit, thinned to what a picture can show: exact points, fewer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from synpriv.audit.audit import FPRS
from synpriv.audit.metrics import ENOUGH_FALSE_POSITIVES, Bools, Floats, Roc, allowed
from synpriv.report.html.shape import Curve, Scores

MOST = 200  # points of a curve, thresholds of a slider
BINS = 60
_OUTSIDE = 0.005  # share of the scores on either side that the first and the last bin gather
_DIGITS = 5


def curve(roc: Roc, n_out: int) -> Curve:
    """Points of a ROC that lie evenly on a log axis of the FPR, the last before each place."""
    kept = kept_of(roc, n_out)
    return {
        "fpr": rounded(roc.fpr[kept]),
        "tpr": rounded(roc.tpr[kept]),
        "resolved_from": min(1.0, ENOUGH_FALSE_POSITIVES / n_out),
    }


def scores(statistic: Floats, member: Bools, roc: Roc) -> Scores:
    """Histograms of members and non-members, and thresholds with what they accuse.

    statistic, member: [C,S]; values that are not finite are left out. The first and the last bin
    hold what lies beyond them too, so that a few extreme scores do not flatten all others.
    """
    usable = np.isfinite(statistic)
    values, truth = statistic[usable], member[usable]
    n_in, n_out = int(truth.sum()), int((~truth).sum())
    edges = _edges(values)
    inside, outside = (_counts(values[side], edges) for side in (truth, ~truth))
    kept = kept_of(roc, n_out)
    kept = kept[np.isfinite(roc.threshold[kept])]
    return {
        "edges": edges.tolist(),
        "members": inside,
        "non_members": outside,
        "thresholds": roc.threshold[kept].tolist(),
        "true_positives": np.rint(roc.tpr[kept] * n_in).astype(int).tolist(),
        "false_positives": np.rint(roc.fpr[kept] * n_out).astype(int).tolist(),
    }


def rounded(values: Floats) -> list[float]:
    """To as many significant digits as a picture has pixels, and more."""
    return [float(f"{value:.{_DIGITS}g}") for value in values]


def _edges(values: Floats) -> Floats:
    """B + 1 edges over the bulk of the scores; a little around a single value."""
    low, high = np.quantile(values, [_OUTSIDE, 1 - _OUTSIDE])
    if low == high:
        low, high = low - 0.5, high + 0.5
    return np.array([float(f"{edge:.6g}") for edge in np.linspace(low, high, BINS + 1)])


def _counts(values: Floats, edges: Floats) -> list[int]:
    found: NDArray[np.intp] = np.histogram(values.clip(edges[0], edges[-1]), edges)[0]
    return found.tolist()


def kept_of(roc: Roc, n_out: int, *, most: int = MOST) -> NDArray[np.intp]:
    """Places of at most `most` points, in order: the ends, half by FPR and half by TPR.

    Of equal FPRs the highest TPR is what counts. Where a report reads its rates is always kept.
    """
    num = (most - 2 - len(FPRS)) // 2
    false_positives = np.rint(roc.fpr * n_out)
    read = [np.searchsorted(false_positives, allowed(f, n_out), side="right") - 1 for f in FPRS]
    by_fpr = np.append(0.0, np.geomspace(1 / n_out, 1, num))
    places = np.searchsorted(roc.fpr, by_fpr * (1 + 1e-12), side="right") - 1
    more = np.searchsorted(roc.tpr, np.linspace(0, 1, num), side="left")
    every = np.unique(np.concatenate([[0, len(roc.fpr) - 1], read, places, more]))
    return every[every < len(roc.fpr)]
