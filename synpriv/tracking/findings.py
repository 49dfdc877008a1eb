"""What is mirrored of an audit beside its figures: its ROC, canaries, nearest pairs and page.

All of it is read from the page's data, so that no tracker tells another story than the page does.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from synpriv.report.html.shape import Canary, Cell, View
from synpriv.terminal import one_line

MOST_ROWS = 1000  # of a table of canaries, the most exposed first
_LONGEST = 300  # characters of a name that comes from somebody's files
_PNG = "data:image/png;base64,"


class Findings(NamedTuple):
    """One audit. view: of the page that shows it alone; page: that page's bytes."""

    summary: Mapping[str, Any]  # flat
    pictures: Mapping[str, Path]  # by key, PNG
    view: View | None = None
    page: bytes | None = None


class Picture(NamedTuple):
    """A PNG that is in no file."""

    png: bytes
    caption: str


class Table(NamedTuple):
    """Rows of text, numbers, Picture or None, all as long as `columns`."""

    columns: list[str]
    rows: list[list[Any]]


def _cell(view: View) -> Cell:
    (cell,) = view["cells"]  # of several audits each has a page and a run of its own
    return cell


def limits(view: View) -> dict[str, Any]:
    """Left of which FPR the curve is mostly noise, and what the audit says in words."""
    cell = _cell(view)
    verdict = cell["verdict"]
    return {
        "roc/resolved_from": cell["roc"]["resolved_from"],
        "verdict": verdict["kind"],
        "verdict/words": _text(verdict["sentence"], 1000),
    }


def roc(view: View) -> Table:
    """The largest TPR at each FPR of the thinned ROC, as `report.figure` draws it.

    What is reached without any false positive stands at half of one, 1/(2 n_out): zero has no
    place on a log axis.
    """
    cell = _cell(view)
    curve, floor = cell["roc"], 1 / (2 * cell["n_out"])
    best: dict[float, float] = {}
    for fpr, tpr in zip(curve["fpr"], curve["tpr"], strict=True):
        if tpr > 0:
            at = max(fpr, floor)
            best[at] = max(tpr, best.get(at, 0.0))
    rows = [[fpr, best[fpr], int(fpr >= curve["resolved_from"])] for fpr in sorted(best)]
    return Table(["fpr", "tpr", "resolved"], rows)


def tables(view: View) -> dict[str, Table]:
    """By key: every canary, and the nearest released images where there are any."""
    cell = _cell(view)
    found = {"canaries": _canaries(cell, view["pictures"])}
    if near := _nearest(cell, view["pictures"]):
        found["nearest_pairs"] = near
    return found


def _canaries(cell: Cell, pictures: Mapping[str, str]) -> Table:
    """Every canary, the largest effect first; pictures of the few that have one."""
    keys = ("canary", "place", "trained_label", "true_label", "effect", "found", "accused")
    of = cell["all_canaries"]
    rows = [list(row) for row in zip(*(of[key] for key in keys), strict=True)]  # type: ignore[literal-required]
    rows.sort(key=lambda row: math.inf if row[4] is None else -row[4])
    shown = {canary["canary"]: canary for canary in cell["canaries"]}
    chance = cell["most_exposed_null"]
    for row in rows[:MOST_ROWS]:
        row[1:4] = [None if text is None else _text(text) for text in row[1:4]]
        canary = shown.get(row[0])
        row.insert(5, chance)
        named = None if canary is None else _named(canary, chance)
        row.append(_picture(pictures, canary["picture"], named) if canary and named else None)
    return Table([*keys[:5], "largest_by_chance", *keys[5:], "picture"], rows[:MOST_ROWS])


def _nearest(cell: Cell, pictures: Mapping[str, str]) -> Table | None:
    """A canary beside the released image nearest to it, and how many other releases are as near."""
    numbered = ("seed", "distance", "as_near", "out", "chance")
    rows: list[list[Any]] = []
    for canary in cell["canaries"]:
        if near := canary["nearest"]:
            named = _named(canary, cell["most_exposed_null"])
            own = _picture(pictures, canary["picture"], named)
            numbers = [near[key] for key in numbered]  # type: ignore[literal-required]
            released = _picture(pictures, near["picture"], _near(canary))
            rows.append([canary["canary"], own, released, *numbers])
    return Table(["canary", "picture", "released", *numbered], rows) if rows else None


def galleries(view: View) -> dict[str, list[Picture]]:
    """By key, with captions: the most exposed canaries, and the released images nearest to them."""
    cell, pictures = _cell(view), view["pictures"]
    named = [(one["picture"], _named(one, cell["most_exposed_null"])) for one in cell["canaries"]]
    canaries = [_picture(pictures, *one) for one in named]
    near = [
        _picture(pictures, one["nearest"]["picture"], _near(one))
        for one in cell["canaries"]
        if one["nearest"] is not None
    ]
    found = {"canaries/most_exposed": canaries, "nearest_pairs/released": near}
    kept = {key: [one for one in some if one is not None] for key, some in found.items()}
    return {key: some for key, some in kept.items() if some}


def _picture(pictures: Mapping[str, str], key: str | None, caption: str) -> Picture | None:
    """A picture of the page; None where it has none."""
    address = pictures.get(key) if key is not None else None
    if address is None or not address.startswith(_PNG):
        return None
    return Picture(base64.b64decode(address.removeprefix(_PNG)), caption)


def _named(canary: Canary, chance: float | None) -> str:
    """Beside up to what the largest effect of so many canaries goes by chance."""
    label, true = _text(canary["trained_label"], 60), _text(canary["true_label"], 60)
    beside = "not known" if chance is None else f"up to {chance:.1f}"
    effect = f"{canary['effect']:.1f} sd (largest by chance: {beside})"
    return f"canary {canary['canary']}: {label} (truly {true}), {effect}"


def _near(canary: Canary) -> str:
    """Beside the models without the canary, without which no distance says anything."""
    near = canary["nearest"]
    assert near is not None
    return (
        f"nearest to canary {canary['canary']} in model {near['seed']}: L2 {near['distance']:.2f}; "
        f"as near without it: {near['as_near']} of {near['out']} models (chance gives so few for "
        f"{near['chance']:.0%} of canaries)"
    )


def _text(text: str, longest: int = _LONGEST) -> str:
    """A name out of somebody's files: one line, without what steers a terminal."""
    line = one_line(text)
    return line if len(line) <= longest else f"{line[: longest - 3]}..."
