"""Text that is safe to print: nothing that steers a terminal, nothing that its encoding lacks."""

from __future__ import annotations

import codecs
import sys
import unicodedata

_SPELT = {
    "\N{PLUS-MINUS SIGN}": "+-",
    "\N{HORIZONTAL ELLIPSIS}": "...",
}
_ACTIVE = ("Cc", "Cf", "Cs", "Zl", "Zp")  # controls, directions, halves of characters, line ends


def _spell(error: UnicodeError) -> tuple[str, int]:
    """What is written for characters that an encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_SPELT.get(char) or _escaped(char) for char in lacking), error.end


def _escaped(char: str) -> str:
    byte = ord(char) - 0xDC00  # of a file's name that is not of the locale's encoding
    return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else char.encode("unicode_escape").decode()


codecs.register_error("synpriv_spell", _spell)


def never_fail() -> None:
    """From now on print() and log lines spell what stdout or stderr cannot encode.

    A training must not be lost to the name of a folder.
    """
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # a file's, also where Ray wraps it
        if reconfigure is not None:
            reconfigure(errors="synpriv_spell")


def one_line(text: str) -> str:
    """Without what could steer a terminal, end a line or reverse what is read."""
    return "".join(map(_plain, text)).strip()


def _plain(char: str) -> str:
    if char in "\t\n\r\v\f":
        return " "
    return _escaped(char) if unicodedata.category(char) in _ACTIVE else char


def shown(text: str) -> str:
    """The line that stdout will show, so that columns can be aligned."""
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    return one_line(text).encode(encoding, "synpriv_spell").decode(encoding)
