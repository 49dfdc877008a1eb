"""What the page says without a script: verdicts, table, what is missing, how to read it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from html import escape
from typing import Any, Literal

from synpriv.report.html.shape import Beside, Cell, Kind, Verdict, View
from synpriv.report.html.strip import strip
from synpriv.terminal import one_line

MANY = 12  # cells above which verdicts are grouped
ROW = 3  # cards of a group that are seen at once
KINDS: tuple[Kind, ...] = ("leak", "none", "unresolved")
_SHAPES = {  # told apart without colour
    "leak": '<path d="M10 1.5 19 18H1z"/><path class="sign" d="M10 7v5M10 14.2v1.6"/>',
    "none": '<circle cx="10" cy="10" r="7.4"/>',
    "unresolved": (
        '<rect x="1.6" y="1.6" width="16.8" height="16.8" rx="2"/>'
        '<path class="sign" d="M7 7.6c0-4 6-4 6-.4 0 2.4-3 2.4-3 4.8M10 14.2v1.6"/>'
    ),
}
BASELINE = "baseline: what releases are compared with"
WIDE = "wide"  # a class of page.css
RATES = {"tpr@fpr=0.01": "TPR at 1% FPR", "tpr@fpr=0.001": "TPR at 0.1% FPR"}


def parts(view: View) -> dict[str, str]:
    """HTML by the name of its place in page.html."""
    return {
        "title": words(view["title"]),
        "version": words(view["version"]),
        "cards": _cards(view["cells"]),
        "head": _head(),
        "rows": "\n".join(_row(cell, view["cells"]) for cell in view["cells"]),
        "details": "\n".join(_details(cell) for cell in view["cells"]),
        "missing": _missing(view),
        "family": words(view["family"]),
        "reading": _reading(view),
        "empty": "" if view["cells"] else "empty",
    }


def words(text: str) -> str:
    """Text that is shown as it is: no tag, no line, nothing that turns what is read around."""
    return escape(one_line(text))


def icon(kind: Kind) -> str:
    """The shape and colour of a verdict; words beside it say the same."""
    return f'<svg class="icon {kind}" viewBox="0 0 20 20" aria-hidden="true">{_SHAPES[kind]}</svg>'


def _cards(cells: list[Cell]) -> str:
    if not cells:
        return (
            "<p>There is no audit to show yet. An audit is made when all shadow models of a cell "
            "are trained.</p>"
        )
    if len(cells) > MANY:
        kinds = ([cell for cell in cells if cell["verdict"]["kind"] == kind] for kind in KINDS)
        return "\n".join(_group(kind) for kind in kinds if kind)
    return _grid(_card(cell) for cell in cells)


def _group(cells: list[Cell]) -> str:
    """All cards of one verdict: a row of them, the others behind a line that opens."""
    verdict = cells[0]["verdict"]
    first, rest = cells[:ROW], cells[ROW:]
    title = f"{icon(verdict['kind'])}{words(verdict['words'])}: {len(cells)}"
    more = _grid(_card(cell, level=4) for cell in rest)
    opened = f'<details class="more"><summary>{len(rest)} more</summary>{more}</details>\n'
    return (
        f'<div class="kind"><h3 class="group">{title}</h3>\n'
        f"{_grid(_card(cell, level=4) for cell in first)}\n{opened * bool(rest)}</div>"
    )


def _grid(cards: Iterable[str]) -> str:
    return f'<div class="cards">\n{"".join(cards)}</div>'


def _card(cell: Cell, *, level: int = 3) -> str:
    verdict = cell["verdict"]
    return (
        f'<article class="card {verdict["kind"]}{_baseline(cell)}" '
        f'data-cell="{words(cell["id"])}">\n'
        f'<p class="verdict">{icon(verdict["kind"])}{words(verdict["words"])}</p>\n'
        f"<h{level}>{_link(cell, cell['name'])}</h{level}>\n"
        f"{_tags(cell)}<p><strong>{words(cell['plain'])}</strong></p>\n"
        f"<p>{words(verdict['sentence'])}</p>\n{_reasons(verdict)}</article>\n"
    )


def _reasons(verdict: Verdict) -> str:
    if not verdict["reasons"]:
        return ""
    lines = "".join(f"<li>{words(reason)}</li>" for reason in verdict["reasons"])
    return f"<details><summary>Why</summary><ul>{lines}</ul></details>\n"


def _tags(cell: Cell) -> str:
    said = [*(["partial"] * cell["partial"]), *([BASELINE] * (cell["method"] == "undefended"))]
    tags = (f'<span class="tag">{tag}</span>' for tag in said)
    return f'<p class="tags">{" ".join(tags)}</p>\n' if said else ""


def _baseline(cell: Cell) -> str:
    """A class of what nobody releases, which page.css keeps quiet."""
    return " baseline" if cell["method"] == "undefended" else ""


def _link(cell: Cell, text: str) -> str:
    return f'<a href="#cell-{words(cell["id"])}"><bdi>{words(text)}</bdi></a>'


def _head() -> str:
    return "".join(
        f'<th scope="col" aria-sort="none"><button type="button">{name}</button></th>'
        for name in COLUMNS
    )


COLUMNS = (
    *("Method", "Data set", "Verdict", "Accuracy", *RATES.values(), "AUC"),
    *("Epsilon proven", "Epsilon bound", "Nearness", "Cost per model"),
)


def _row(cell: Cell, cells: list[Cell]) -> str:
    verdict = cell["verdict"]
    shown = f"{icon(verdict['kind'])}{words(verdict['words'])}"
    columns = [
        _td(cell["short"], _link(cell, cell["short"]), _dominated(cell, cells)),
        _td(cell["dataset"], words(cell["dataset"]), words(f"{cell['canary']}, {cell['attack']}")),
        _td(KINDS.index(verdict["kind"]), f'<span class="said">{shown}</span>', "", WIDE),
        _beside(cell["accuracy"], cell["random_subset"], line="linear"),
        *(_beside(cell["rates"].get(key), line="log") for key in RATES),
        _beside(cell["auc"], line="linear"),
        _td(_leading(cell["epsilon_proven"]), words(cell["epsilon_proven"]), ""),
        _beside(cell["epsilon_bound"]),
        _beside(cell["nearness"], absent="no released images to compare"),
        _cost(cell),
    ]
    classes = "dominated" if cell["dominated_by"] else "undominated"
    named = (f'<td data-label="{n}"{td}' for n, td in zip(COLUMNS, columns, strict=True))
    ident = words(cell["id"])
    return f'<tr class="{classes}{_baseline(cell)}" data-cell="{ident}">{"".join(named)}</tr>'


def _td(value: str | float | None, shown: str, beside: str, width: str = "middle") -> str:
    """A cell of the table after its label: sorted by, saying, and read against what."""
    sort = "" if value is None else f' data-sort="{words(str(value))}"'
    under = f'<span class="beside">{beside}</span>' if beside else ""
    return f' class="{width}"{sort}><div>{shown}{under}</div></td>'


def _beside(
    number: Beside | None,
    more: str | None = None,
    *,
    absent: str = "not reported",
    line: Literal["log", "linear"] | None = None,
) -> str:
    """A number above what it is read against; line: also drawn, if it is a share."""
    if number is None:
        return _td(None, "-", absent)
    beside = "; ".join(words(text) for text in (number["reference"], more) if text)
    why = beside or ("not known" if number["value"] is None else "")
    drawn = "" if line is None else strip(number, log=line == "log")
    return _td(number["value"], words(number["in_words"]) + drawn, why, WIDE)


def _leading(text: str) -> float | None:
    """The number that a column of words is sorted by; what is not proven comes last."""
    if text.startswith("infinite"):
        return sys.float_info.max
    found = re.match(r"(?:at most )?(\d[\d.]*(?:e[+-]?\d+)?)", text)
    return float(found[1]) if found else None


def _cost(cell: Cell) -> str:
    if cell["train_s"] is None:
        return _td(None, "-", "its trainings were not timed")
    peak = max((stage["peak_mb"] for stage in cell["stages"]), default=None)
    memory = "memory not recorded" if peak is None else f"at most {peak:,.0f} MB"
    flops = "" if cell["train_flops"] is None else f"{cell['train_flops']:.2g} FLOPs; "
    return _td(cell["train_s"], f"{cell['train_s']:,.1f} s", flops + memory)


def _dominated(cell: Cell, cells: list[Cell]) -> str:
    by = [_link(other, other["short"]) for other in cells if other["id"] in cell["dominated_by"]]
    at = f" (accuracy and {cell['dominated_at']})"
    tags = [*(["partial"] * cell["partial"]), *([BASELINE] * (cell["method"] == "undefended"))]
    return "; ".join([*tags, *(["dominated by " + ", ".join(by) + words(at)] if by else [])])


def _details(cell: Cell) -> str:
    """A place that is filled when it is opened."""
    ident = words(cell["id"])
    return (
        f'<details class="cell{_baseline(cell)}" id="cell-{ident}" data-cell="{ident}"><summary>'
        f"{icon(cell['verdict']['kind'])}<h3><bdi>{words(cell['name'])}</bdi></h3></summary>"
        '<div class="body"></div></details>'
    )


def _missing(view: View) -> str:
    if not view["missing"]:
        if not view["cells"]:
            return "<p>Nothing was found: no audit and no shadow model.</p>"
        return "<p>Nothing: all that was found is shown.</p>"
    lines = (
        f"<dt><bdi>{words(one['name'])}</bdi></dt><dd>{words(one['why'])}</dd>"
        for one in view["missing"]
    )
    return f"<dl>{''.join(lines)}</dl>"


def _reading(view: View) -> str:
    marks = "".join(f"<dt>{words(k)}</dt><dd>{words(v)}</dd>" for k, v in view["marks"].items())
    lines = "".join(f"<li>{words(line)}</li>" for line in view["legend"])
    defined: dict[str, Any] = view["definitions"]
    terms = "".join(f"<dt>{words(k)}</dt><dd>{words(v)}</dd>" for k, v in defined.items())
    return (
        f'<dl class="marks">{marks}</dl><ul>{lines}</ul>'
        f"<details><summary>Definitions</summary><dl>{terms}</dl></details>"
    )
