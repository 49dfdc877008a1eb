"""Text of reports as text and nothing else, in each medium that would read more into it.

Names, settings and warnings come from users, their folders and from reports of other people.
"""

from __future__ import annotations

import re
from typing import Any

from synpriv.terminal import one_line

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;"}
# A link needs what follows its bracket, a bare address its colon or dot; an underscore within a
# word is no emphasis.
_MARKDOWN = re.compile(
    r"[\\`*~$@]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[:])|(?<=\[)\[|:(?=//)|(?<=www)\.", re.IGNORECASE
)
# What makes a heading, a list or a rule of a line; a cell may be a dash.
_AT_START = re.compile(r"^(?:[#=]|\+(?=\s|$)|-(?=[\s-])|\d{1,9}(?=[.)](?:\s|$)))")
# OWASP's list, with the wide forms that spreadsheets read alike.
_FORMULA = (*"=+-@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
# What TeX reads as a command, a ligature, or as belonging to the line break before it.
_LATEX = {
    **{char: f"\\{char}" for char in "#$%&_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\symbol{34}"},
    **{"[": "{[}", "]": "{]}", "*": "{*}", "-": "{-}", "`": "{`}", "'": "{'}"},
    "\N{PLUS-MINUS SIGN}": r"$\pm$",
    "\N{HORIZONTAL ELLIPSIS}": r"\ldots{}",
}
_LONGEST = 60  # characters of a text in a file's name


def markdown(text: str) -> str:
    """A whole line or cell of Markdown that shows this text."""
    escaped = _MARKDOWN.sub(lambda found: f"\\{found[0]}", one_line(text))
    escaped = _AT_START.sub(_not_at_start, escaped)
    return re.sub("[&<>|]", lambda found: _ENTITIES[found[0]], escaped)


def _not_at_start(found: re.Match[str]) -> str:
    return f"{found[0]}\\" if found[0].isdigit() else f"\\{found[0]}"


def cell(value: Any) -> Any:
    """A cell of a csv file: numbers as they are, an apostrophe before what is calculated."""
    if value is None or isinstance(value, bool | int | float):
        return value
    text = one_line(str(value))
    return f"'{text}" if text.startswith(_FORMULA) else text


def label(text: str) -> str:
    """A text in a figure: no formula between dollars, no underscore that would hide it."""
    plain = one_line(text).replace("$", r"\$")
    return f" {plain}" if plain.startswith("_") else plain


def file_name(text: str) -> str:
    """A part of a file's name, which leads into no other folder."""
    return re.sub(r"[^A-Za-z0-9_.+-]+|^\.+", "_", text)[:_LONGEST]


def latex(text: str) -> str:
    """A cell of a LaTeX table that shows this text; letters that need a package are spelt out."""
    return "".join(map(_in_latex, one_line(text)))


def _in_latex(char: str) -> str:
    if char.isascii() or char in _LATEX:
        return _LATEX.get(char, char)
    is_letter_of_latin_1 = "\N{LATIN CAPITAL LETTER A WITH GRAVE}" <= char <= "\xff"
    return char if is_letter_of_latin_1 else f"{{[}}U+{ord(char):04X}{{]}}"
