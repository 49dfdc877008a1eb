"""The files that show all audits: page, tables and figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from synpriv.report import figure, latex, marks, page, table, trade_off
from synpriv.report.audited import Audited
from synpriv.report.html.shape import Missing
from synpriv.report.html.view import view
from synpriv.results import store

PAGE = "report.html"


def write_page(
    cells: Sequence[Audited],
    place: Path,
    *,
    missing: Sequence[Missing],
    over: marks.Correction | None = None,
) -> None:
    """Everything on one page, also of nothing; over: as in `marks.corrected`."""
    from synpriv.report.html import write

    store.write_bytes(place / PAGE, write.html(view(cells, missing=missing, over=over)).encode())


def write_tables(
    cells: Sequence[Audited], place: Path, over: marks.Correction | None = None
) -> list[str]:
    """The table as Markdown, csv and LaTeX, all curves, and what can be compared; their names.

    over: as in `marks.corrected`; csv alone has each p and mark as the audit itself has them.
    """
    found = [cell.report for cell in cells]
    marked, family = marks.corrected(found, over)
    trade_offs = trade_off.draw_groups(marked, place / "trade_off", family=family)
    _remove_old(place, trade_offs)
    pictures = ["report.png", *(file.name for file in trade_offs)]
    texts = {
        "report.md": page.markdown(marked, family=family, pictures=pictures),
        "report.csv": table.as_csv(found, marked),
        "report.tex": latex.latex(marked, family=family),
    }
    for name, text in texts.items():
        store.write_bytes(place / name, text.encode())
    curves = figure.roc([(cell.report, cell.roc) for cell in cells])
    for suffix, picture in figure.in_all_formats(curves).items():
        store.write_bytes(place / f"report{suffix}", picture)
    return [*texts, *pictures]


def _remove_old(place: Path, drawn: Sequence[Path]) -> None:
    """Figures of kinds of audits that are there no more."""
    for old in place.glob("trade_off-*"):
        if old.suffix in figure.FORMATS and old.with_suffix(".png") not in drawn:
            old.unlink()
