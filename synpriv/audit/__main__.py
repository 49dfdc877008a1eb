"""`python -m synpriv.audit FILE`: models trained elsewhere, from their logits or scores.

FILE is an npz with `logits` [C,S,Q,K] and `labels` [C], or with `scores` [C,S] or [C,S,Q], larger =
more member-like, and with `member` [C,S]; C canaries, S models, Q query views, K classes. Where
several canaries are of one person, `groups` [C] says so. Or a csv with the columns canary, model,
member, score (and group). docs/audit_your_models.md has more.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from synpriv import elsewhere, interrupts, terminal
from synpriv.audit.evidence import DESIGNS
from synpriv.cli import errors_in_one_line, one_line
from synpriv.report import marks, table
from synpriv.results import brought
from synpriv.results.reports import Report


def main(argv: list[str]) -> int:
    """Print and write the report; returns the exit code."""
    terminal.never_fail()
    parser = argparse.ArgumentParser(
        prog="python -m synpriv.audit",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--attack", default="lira", choices=sorted(elsewhere.ATTACKS))
    parser.add_argument("--out", type=Path, help="a folder for report, table and figure")
    parser.add_argument("--design", choices=DESIGNS, help="how members were drawn; see the rows")
    parser.add_argument("--delta", type=float, default=0.0, help="at which epsilon is read")
    parser.add_argument("--name", help="what tables call the models; the file's name")
    given = parser.parse_args(argv)
    try:
        _audit(given)
    except (ValueError, OSError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 1
    return 0


def _audit(given: argparse.Namespace) -> None:
    elsewhere.require_place(given.out)
    rest = "--out DIR writes them" if given.out is None else str(given.out / f"{given.attack}.md")
    elsewhere.of_evidence(
        brought.read(given.file, design=given.design),
        attack=given.attack,
        delta=given.delta,
        name=given.name or given.file.stem,
        source=str(given.file),
        out=given.out,
        show=lambda report: print(_in_words(report, rest)),
    )
    if given.out is not None:
        names = [str(given.out / f"{given.attack}.{kind}") for kind in ("json", "md", "png")]
        print(terminal.one_line(f"written: {', '.join(names)}"))


def _in_words(report: Report, rest: str) -> str:
    marked, family = marks.corrected([report])
    return table.text(marked, family=family, rest=rest)


if __name__ == "__main__":
    with errors_in_one_line():
        interrupts.raise_in_main()
        sys.exit(main(sys.argv[1:]))
