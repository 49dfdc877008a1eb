"""Numbers beside what they have to be read against, and which audits can be compared at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from synpriv.report import content, table, trade_off
from synpriv.report.audited import Audited
from synpriv.report.html.shape import Beside, Point
from synpriv.report.verdict import proven_epsilon

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

    Beyond doubt: the 95% intervals of the accuracies, or of the rate (AUC) of `panel`, are apart. A
    partial audit reads too low and dominates nothing.
    """
    return [i for i, other in enumerate(others) if _dominates(other, report, panel)]


def _dominates(one: Report, other: Report, panel: str) -> bool:
    if one["partial"] or one["accuracy"] is None or other["accuracy"] is None:
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


def accuracy(report: Report, words: dict[str, str], undefended: Sequence[Report]) -> Beside:
    """The accuracy beside the best of the undefended models that it can be compared with."""
    mean, half = (None, 0.0) if report["accuracy"] is None else content.accuracy_95(report)
    reference = "no whole undefended cell of the same data, network, canaries and kind of accuracy"
    low, high = None, None
    if report["method"] == "undefended":
        reference = "this is the undefended model"
    elif undefended:
        theirs, their_half, of_several = _best(undefended)
        low, high = _within(theirs, their_half)
        reference = f"undefended {theirs:.3f} {table.PLUS_MINUS} {their_half:.3f}{of_several}"
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


def undefended_of(report: Report, reports: Sequence[Report]) -> list[Report]:
    """Undefended cells that differ in the method alone, as far as a figure can tell."""
    return [other for other in reports if _is_reference(other, "undefended", report)]


def _is_reference(one: Report, method: str, report: Report) -> bool:
    """Whether it is such a cell, whole, trained and measured as the other one was."""
    if one["method"] != method or one["partial"] or one["accuracy"] is None:
        return False
    return trade_off.trained_alike(one) == trade_off.trained_alike(report)


def _best(reports: Sequence[Report]) -> tuple[float, float, str]:
    """Accuracy of the most accurate and half of its interval, and in words of how many cells."""
    num = len({report["cell"] for report in reports})
    best = max(map(content.accuracy_95, reports))
    return *best, f" (the most accurate of {num})" if num > 1 else ""


def random_subset(cell: Audited, cells: Sequence[Audited]) -> str | None:
    """Accuracy of a coreset of as many random images; None where no such cell is there."""
    size = released_size(cell)
    if size is None or cell.report["method"] == _RANDOM:
        return None
    alike = [other for other in cells if _is_reference(other.report, _RANDOM, cell.report)]
    sizes = {one.report["cell"]: theirs for one in alike if (theirs := released_size(one))}
    near = {key: theirs for key, theirs in sizes.items() if abs(theirs - size) <= _SAME_SIZE * size}
    found = [other.report for other in alike if other.report["cell"] in near]
    if not found:
        return None
    mean, half, of_several = _best(found)
    images = " or ".join(dict.fromkeys(f"{theirs:.0f}" for theirs in near.values()))
    return f"{mean:.3f} {table.PLUS_MINUS} {half:.3f} ({images} random images){of_several}"


def released_size(cell: Audited) -> float | None:
    """Images of the released sets, the mean over shadow models; None where none are released."""
    sizes = [run["num_synthetic"] for run in cell.runs if run.get("num_synthetic")]
    return float(np.mean(sizes)) if sizes else None


def epsilon_bound(report: Report, words: dict[str, str]) -> Beside:
    """The valid lower bound beside what is proven, and the most that this audit would show."""
    bound = report.get("epsilon_bound")
    proven = proven_epsilon(report)
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
