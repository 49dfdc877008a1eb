"""`python -m synpriv.status [RESULTS]`: how far the cells of a results folder are.

It only looks and writes nothing, so it may be asked at any time, from another machine that sees the
folder too. Exit code 0: all that sweeps asked for is there and audited; 1: something failed, is
damaged or cannot be read; 3: something is missing, running, begun or not audited yet.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from synpriv import interrupts, terminal
from synpriv.status import cells, text, totals
from synpriv.status.totals import Totals

_WATCH_S = 5.0


def main(argv: Sequence[str]) -> int:
    """Print it once, or again and again; returns the exit code."""
    given = _parser().parse_args(argv)
    if given.watch is None:
        return _show(given, screen=None).exit_code
    screen = _Screen() if sys.stdout.isatty() and not given.json else None
    while (total := _show(given, screen)).ahead:
        time.sleep(given.watch)
    return total.exit_code


class _Screen:
    """The lines that were printed last are replaced by the next ones."""

    def __init__(self) -> None:
        self._printed = 0

    def show(self, lines: Sequence[str]) -> None:
        """What does not fit is left out, the last line stays: else it could not be replaced."""
        width, height = shutil.get_terminal_size()
        room = max(2, height - 1)
        if len(lines) > room:
            hidden = f"... {len(lines) - room + 1} more lines"
            lines = [*lines[: room - 2], hidden, lines[-1]]
        up = f"\033[{self._printed}F" if self._printed else ""
        print(f"{up}\033[J" + "\n".join(line[: width - 1] for line in lines), flush=True)
        self._printed = len(lines)


def _show(given: argparse.Namespace, screen: _Screen | None) -> Totals:
    """Read the folder and print what it holds."""
    found, wrong = cells.read(given.results)
    now = time.time()
    total = totals.of(found, now, unreadable=len(wrong))
    if given.json:
        indent = None if given.watch else 1
        print(json.dumps(text.plain(found, total, wrong, now), indent=indent), flush=True)
        return total
    notes = [terminal.shown(f"note: {words}") for words in wrong]
    if screen is not None:
        clock = time.strftime("%T", time.localtime(now))
        screen.show([*notes, *text.lines(found, total, now), f"{clock}, Ctrl-C ends it"])
    elif given.watch is None:
        print("\n".join([*notes, *text.lines(found, total, now)]))
    else:
        clock = time.strftime("%F %T", time.localtime(now))
        print(terminal.shown(f"{clock} {text.in_words(total)}"), flush=True)
    return total


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m synpriv.status",
        usage="%(prog)s [-h] [RESULTS] [--watch [SECONDS]] [--json]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("results", nargs="?", default="multirun", type=Path, metavar="RESULTS", help="multirun")
    add(
        "--watch",
        nargs="?",
        const=_WATCH_S,
        type=_seconds,
        metavar="SECONDS",
        help=f"look again every {_WATCH_S:.0f} s, until nothing is missing, begun or running",
    )
    add("--json", action="store_true", help="as JSON, for programs; with --watch a line per look")
    return parser


def _seconds(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"{word}: must be seconds, 0.1 to 86400")
    return value


if __name__ == "__main__":
    terminal.never_fail()
    interrupts.raise_in_main()
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt as stop:
        sys.exit(interrupts.exit_code(stop))
    except Exception as error:
        from synpriv.cli import errors_in_one_line  # Hydra, half a second, for an error alone

        with errors_in_one_line():
            raise error
