"""The table of audits for a paper: plain LaTeX, no package needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from synpriv.report import inert, table
from synpriv.report.verdict import verdict

Report = dict[str, Any]
COLUMNS = ("method", "accuracy", table.TPR_1, table.TPR_01, "AUC [95%]", "epsilon", "bound", "cost")
_COST = {"s/model": "s", "FLOPs/model": "FLOPs", "peak MB": "MB"}  # one column, its units
_SHARED = ("dataset", "canary", "attack")  # columns where rows differ, else in the caption
_VERDICT = "verdict"


def latex(reports: Sequence[Report], *, family: str) -> str:
    r"""A `table` with `tabular`, to be \input; `family`: of `marks.corrected`, for the caption."""
    rows = [dict(zip(table.HEADER, row, strict=True)) for row in table.rows_of(reports)]
    rows = [row | {"cost": _cost(row)} for row in rows]
    rows = [row | {_VERDICT: verdict(r)["words"]} for row, r in zip(rows, reports, strict=True)]
    differ = [key for key in _SHARED if len({row[key] for row in rows}) > 1]
    columns = [COLUMNS[0], *differ, *COLUMNS[1:], _VERDICT]
    lines = [columns, *([row[key] for key in columns] for row in rows)]
    head, *body = [" & ".join(map(inert.latex, line)) + r" \\" for line in lines]
    return "\n".join(
        [
            "% written by python -m synpriv.report",
            r"\begin{table}",
            r"\centering\small",
            rf"\caption{{{_caption(rows, differ, family)}}}",
            rf"\begin{{tabular}}{{{'l' * len(columns)}}}",
            r"\hline",
            head,
            r"\hline",
            *body,
            r"\hline",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _cost(row: dict[str, str]) -> str:
    """Seconds, FLOPs and memory of a shadow model, as far as they are known."""
    known = [f"{row[key]} {unit}" for key, unit in _COST.items() if row[key] != "-"]
    return ", ".join(known) or "-"


def _caption(rows: Sequence[dict[str, str]], differ: Sequence[str], family: str) -> str:
    """What all rows share, what the marks that occur mean, and over what they are corrected."""
    shared = [rows[0][key] for key in _SHARED if key not in differ]
    shown = "".join(row[key] for row in rows for key in (*COLUMNS, _VERDICT))
    marks = [f"{mark} {words}" for mark, words in table.MARKS.items() if mark in shown]
    sentences = [*filter(None, [", ".join(shared)]), *marks, family]
    return inert.latex("; ".join(sentences) + ".")
