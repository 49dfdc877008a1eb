"""The table for a paper: what stands in it is text, read back by a parser of LaTeX."""

from __future__ import annotations

import re

import pytest
from example_reports import report_of
from hypothesis import given, settings
from hypothesis import strategies as st
from pylatexenc.latex2text import LatexNodes2Text
from pylatexenc.latexwalker import LatexWalker

from synpriv.report import inert, latex, table
from synpriv.terminal import one_line

HOSTILE = [
    r"\input{/etc/passwd}",
    r"\write18{rm -rf /} & \\ \hline",
    "50% & more_of #1 ^2 ~ $x$ {a} <b> |c| \"d\" 'e' `f` [g] *h* --- ?`",
    "x" * 300,
    "\u202eevil\u2028 \N{GRINNING FACE} m\xfcll \u4e2d",
]


def read_back(text: str) -> str:
    """What a reader sees, by pylatexenc, which lacks three commands of LaTeX itself."""
    for command, char in (("textless{}", "<"), ("textgreater{}", ">"), ("textbar{}", "|")):
        text = text.replace(f"\\{command}", char)
    text = text.replace(r"\symbol{34}", '"')
    shown = str(LatexNodes2Text(math_mode="text", keep_braced_groups=False).latex_to_text(text))
    same = {"\N{MODIFIER LETTER CIRCUMFLEX ACCENT}": "^", "\N{SMALL TILDE}": "~"}
    same |= {"\N{RIGHT SINGLE QUOTATION MARK}": "'", "\N{LEFT SINGLE QUOTATION MARK}": "`"}
    return shown.translate(str.maketrans(same))


@given(st.text(max_size=60))
@settings(max_examples=80, derandomize=True)
def test_a_text_is_itself_and_nothing_else(text: str) -> None:
    written = inert.latex(text)
    LatexWalker(written, tolerant_parsing=False).get_latex_nodes()  # every brace has its partner
    commands = set(re.findall(r"\\([A-Za-z]+|.)", written))
    names = {"textbackslash", "textasciitilde", "textasciicircum", "textless", "textgreater"}
    assert commands <= {*"#$%&_{}", *names, "textbar", "symbol", "pm", "ldots"}
    assert "\n" not in written
    plain = "".join(c if c.isascii() or "\xc0" <= c <= "\xff" else "" for c in one_line(text))
    shown = re.sub(r"\[U\+[0-9A-F]{4,6}\]", "", read_back(written)) if "U+" not in text else None
    if shown is not None:
        assert re.sub(r"[\s\N{PLUS-MINUS SIGN}\N{HORIZONTAL ELLIPSIS}]", "", shown) == re.sub(
            r"\s", "", plain
        )


@pytest.mark.parametrize("text", HOSTILE)
def test_a_table_of_hostile_names_has_its_rows_and_columns(text: str) -> None:
    reports = [report_of(text, cell="a-0"), report_of("fine", cell="b-0", tpr=0.01, p=0.5)]
    written = latex.latex(reports, family=text)
    body = written.partition(r"\begin{tabular}")[2].partition(r"\end{tabular}")[0]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 3
    for row in rows:
        assert len(re.split(r"(?<!\\)&", row)) == len(latex.COLUMNS) + 1
    assert r"\input" not in written
    assert r"\write" not in written
    assert written.count(r"\hline") == 3
    assert written.isascii() or "\xfc" in written


def test_the_table_says_what_the_terminal_says() -> None:
    reports = [report_of(), report_of("dfkd", dataset="other", tpr=0.01, p=0.5, cell="d-0")]
    written = read_back(latex.latex(reports, family="corrected over 6 tests"))
    for row in table.rows_of(reports):
        words = dict(zip(table.HEADER, row, strict=True))
        for column in ("method", "dataset", "accuracy", table.TPR_1, "AUC [95%]", "epsilon"):
            assert words[column].replace(" ", "") in written.replace(" ", "").replace("\n", "")
    assert "evidence of a leak" in written
    assert "no evidence at this FPR" in written
    assert "corrected over 6 tests" in written
    assert "mislabelled, threshold" in written  # what all rows share is in the caption
