"""Numbers beside what they have to be read against, and which audits can be compared at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from synpriv.report import content, table, trade_off
from synpriv.report.audited import Audited
from synpriv.report.html.shape import Beside, Point

Report = dict[str, Any]
_RANDOM = "coreset_random"
_SAME_SIZE = 0.05  # sizes of released sets that count as one: they follow from who is a member


class Group(NamedTuple):
    """Audits that can stand in one figure."""

    name: str
    panels: list[str]
    members: list[int]  # places among all


def groups_of(reports: Sequence[Report]) -> list[Group]:
    """All audits by what they share (`trade_off.kind`), each with a name of its own."""
    found: dict[tuple[str, ...], list[int]] = {}
    for place, report in enumerate(reports):
        found.setdefault(trade_off.kind(report), []).append(place)
    taken: dict[str, int] = {}
    groups = []
    for kind, places in found.items():
        name = ", ".join(kind[:-1])
        taken[name] = taken.get(name, 0) + 1
        name += f" ({taken[name]})" if taken[name] > 1 else ""
        groups.append(Group(name, trade_off.panels_of([reports[i] for i in places]), places))
    return groups


def dominated_by(report: Report, others: Sequence[Report], panel: str) -> list[int]:
    """Which of the others are at least as accurate and leak no more, one of both beyond doubt.

    Beyond doubt: the 95% intervals of the accuracies, or of the rate (AUC) of `panel`, are apart.
    """
    return [i for i, other in enumerate(others) if _dominates(other, report, panel)]


def _dominates(one: Report, other: Report, panel: str) -> bool:
    if one["accuracy"] is None or other["accuracy"] is None:
        return False
    (mean, half), (theirs, their_half) = (content.accuracy_95(r) for r in (one, other))
    leak, their_leak = trade_off.height(one, panel), trade_off.height(other, panel)
    apart = leak.high < their_leak.low or mean - half > theirs + their_half
    return mean >= theirs and leak.value <= their_leak.value and apart


def points(report: Report, panels: Sequence[str]) -> list[Point]:
    """Where an audit lies in each panel of its figure; none without an accuracy."""
    if report["accuracy"] is None:
        return []
    mean, half = content.accuracy_95(report)
    found: list[Point] = []
    for panel in panels:
        read = trade_off.height(report, panel)
        found.append(
            {
                "panel": panel,
                "x": mean,
                "x_half": half,
                "y": read.value,
                "y_low": read.low,
                "y_high": read.high,
                "above_chance": read.above_chance,
            }
        )
    return found


def rate(found: dict[str, Any]) -> Beside:
    """A rate beside the central 95% of what it reads without any leak."""
    low, high = found["null_band"]
    return {
        "value": found["tpr"],
        "low": found["low"],
        "high": found["high"],
        "in_words": table.rate_in_words(found),
        "reference": f"chance gives {low:.2%} to {high:.2%} (p = {found['p']:.2g})",
        "reference_low": low,
        "reference_high": high,
    }


def auc(report: Report, words: dict[str, str]) -> Beside:
    """The AUC beside its chance band; words: a row of the table by its columns."""
    low, high = report["auc_null_band"]
    return {
        "value": report["auc"],
        "low": report["auc_low"],
        "high": report["auc_high"],
        "in_words": words["AUC [95%]"],
        "reference": f"chance gives {low:.3f} to {high:.3f} (p = {report['auc_p']:.2g})",
        "reference_low": low,
        "reference_high": high,
    }


def accuracy(report: Report, words: dict[str, str], undefended: Report | None) -> Beside:
    """The accuracy beside that of the undefended model of the same data, network and canaries."""
    mean, half = (None, 0.0) if report["accuracy"] is None else content.accuracy_95(report)
    reference, low, high = "no undefended cell of the same data, network and canaries", None, None
    if report["method"] == "undefended":
        reference = "this is the undefended model"
    elif undefended is not None:
        theirs, their_half = content.accuracy_95(undefended)
        low, high = _within(theirs, their_half)
        reference = f"undefended {theirs:.3f} {table.PLUS_MINUS} {their_half:.3f}"
    return {
        "value": mean,
        "low": None if mean is None else _within(mean, half)[0],
        "high": None if mean is None else _within(mean, half)[1],
        "in_words": words["accuracy"],
        "reference": reference,
        "reference_low": low,
        "reference_high": high,
    }


def _within(mean: float, half: float) -> tuple[float, float]:
    """The ends of an interval of a share."""
    return max(0.0, mean - half), min(1.0, mean + half)


def undefended_of(report: Report, reports: Sequence[Report]) -> Report | None:
    """The undefended cell that differs in the method alone, as far as a figure can tell."""
    alike = trade_off.trained_alike(report)
    known = (r for r in reports if r["method"] == "undefended" and r["accuracy"] is not None)
    return next((r for r in known if trade_off.trained_alike(r) == alike), None)


def random_subset(cell: Audited, cells: Sequence[Audited]) -> str | None:
    """Accuracy of a coreset of as many random images; None where no such cell is there."""
    size = released_size(cell)
    if size is None or cell.report["method"] == _RANDOM:
        return None
    for other in cells:
        theirs = released_size(other)
        same = trade_off.trained_alike(other.report) == trade_off.trained_alike(cell.report)
        if other.report["method"] != _RANDOM or theirs is None or not same:
            continue
        if abs(theirs - size) <= _SAME_SIZE * size and other.report["accuracy"] is not None:
            mean, half = content.accuracy_95(other.report)
            return f"{mean:.3f} {table.PLUS_MINUS} {half:.3f} ({theirs:.0f} random images)"
    return None


def released_size(cell: Audited) -> float | None:
    """Images of the released sets, the mean over shadow models; None where none are released."""
    sizes = [run["num_synthetic"] for run in cell.runs if run.get("num_synthetic")]
    return float(np.mean(sizes)) if sizes else None


def epsilon_bound(report: Report, words: dict[str, str]) -> Beside:
    """The valid lower bound beside what is proven, and the most that this audit would show."""
    bound = report.get("epsilon_bound")
    proven = report.get("epsilon_group", report.get("epsilon"))
    if bound is None:
        reference = report.get("epsilon_bound_none", "no bound")
    elif "epsilon" not in report:
        reference = "nothing is proven"
    else:
        reference = "proven: infinite" if proven is None else f"proven: at most {proven:.3g}"
    if (most := report.get("epsilon_bound_largest")) is not None:
        reference += f"; this audit would show {most:.2f} at most"
    return {
        "value": bound,
        "low": None,
        "high": None,
        "in_words": words["bound"],
        "reference": reference,
        "reference_low": None,
        "reference_high": proven,
    }


def nearness(report: Report) -> Beside | None:
    """Pairs nearer than in every OUT model beside chance; None where no images are released."""
    found = report.get("nearness")
    if found is None:
        return None
    mark = "" if found["above_chance"] else "*"
    return {
        "value": float(found["nearer"]),
        "low": None,
        "high": None,
        "in_words": f"{found['nearer']:,}{mark} of {found['pairs']:,} pairs",
        "reference": f"chance gives {found['chance']:.0f} (p = {found['p']:.2g}): pairs nearer to "
        "the release than in every model without the canary",
        "reference_low": found["chance"],
        "reference_high": found["chance"],
    }
