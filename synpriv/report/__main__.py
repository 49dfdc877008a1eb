"""`python -m synpriv.report`: all audited cells as one table, figure, Markdown and csv."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from synpriv import audits, interrupts, terminal, tracking, wandb_session
from synpriv.audit.audit import FPRS
from synpriv.audit.findings import resolution
from synpriv.audit.metrics import Roc
from synpriv.cli import errors_in_one_line, one_line
from synpriv.report import figure, marks, page, table, trade_off
from synpriv.results import store, vouched
from synpriv.results.reports import Report
from synpriv.tracking.told import of_audit

_SIZES = ((100, 8), (125, 16), (250, 16), (125, 64), (500, 16), (500, 64), (500, 128))
_RESOLVED = f"which TPR an audit resolves:\n{resolution(FPRS, _SIZES)}"


def audited(results: Path) -> list[tuple[Report, Roc]]:
    """Report and ROC of every audit below a results folder, sorted by cell and attack.

    What is damaged is made again or named, report by report.
    """
    found = []
    for file in sorted(results.glob("*/[!.]*.json")):
        try:
            report, made_again, not_compared = audits.on_disk(file)
            with np.load(file.with_suffix(".npz"), allow_pickle=False) as arrays:
                fpr, tpr = arrays["roc_fpr"], arrays["roc_tpr"]
        except Exception as error:  # noqa: BLE001 - one cell must not hide the others
            print(f"left out: {_of(file, error)}", file=sys.stderr)
            continue
        if made_again:
            print(terminal.one_line(f"made again: {made_again}"), file=sys.stderr)
        if not_compared:
            note = f"this report was not compared with {not_compared}: it may be of others"
            report = report | {"warnings": [*report["warnings"], note]}
        found.append((report, Roc(fpr, tpr, np.full_like(fpr, np.nan))))
    return found


def _of(file: Path, error: Exception) -> str:
    """What is wrong, with the name of the report if the error has none."""
    words = one_line(error)
    return words if file.parent.name in words else terminal.one_line(f"{file}: {words}")


def main(argv: list[str]) -> int:
    """Print and write the report; returns the exit code."""
    terminal.never_fail()
    parser = argparse.ArgumentParser(
        prog="python -m synpriv.report",
        description=__doc__,
        epilog=_RESOLVED,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", nargs="?", default="multirun", type=Path)
    parser.add_argument("--out", type=Path, help="where the files go; RESULTS if it is not given")
    parser.add_argument("--wandb", action="store_true", help="mirror the audits in W&B too")
    given = parser.parse_args(argv)
    try:
        _report(given)
    except ValueError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 1
    return 0


def _report(given: argparse.Namespace) -> None:
    """ValueError where there is nothing to show or no place to write it."""
    results, place = given.results, given.out or given.results
    if given.wandb:
        wandb_session.check()
    if not results.is_dir():
        raise ValueError(f"{results}: no such folder; must be the `results` of a sweep")
    if (results / "cell.yaml").is_file():
        raise ValueError(f"{results}: is a cell; name the folder above it, {results.parent}")
    cells = audited(results)
    found = [report for report, _ in cells]
    if cells:
        marked, family = marks.corrected(found)
        print(table.text(marked, family=family, rest=str(place / "report.md")))
    known = {cell for report in found for cell in (report["cell"], report["accuracy_cell"])}
    unaudited = _unaudited(results, known)
    for cell, num in unaudited.items():
        print(terminal.one_line(f"not audited: {results / cell}, {num} models there"))
    if not cells:
        first = "run python run.py method=distill -m seed=0..63 first"
        again = "run the command of a cell's sweep again (partial=true audits what is there)"
        raise ValueError(f"{results.absolute()}: no audited cell; {again if unaudited else first}")
    try:
        pictures = _write(cells, place)
        if given.wandb:
            _mirror(found, results, place)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ValueError(f"{one_line(error)}; --out DIR writes elsewhere") from error
    print(f"written: {place / 'report.md'}, report.csv, {', '.join(pictures)}")


def _write(cells: Sequence[tuple[Report, Roc]], place: Path) -> list[str]:
    """The table as Markdown and csv, all curves, and what can be compared; returns the pictures."""
    found = [report for report, _ in cells]
    marked, family = marks.corrected(found)
    trade_offs = trade_off.draw_groups(marked, place / "trade_off", family=family)
    for old in place.glob("trade_off-*"):  # of kinds that are there no more
        if old.suffix in (".png", ".svg") and old.with_suffix(".png") not in trade_offs:
            old.unlink()
    pictures = ["report.png", *(file.name for file in trade_offs)]
    written = page.markdown(marked, family=family, pictures=pictures)
    store.write_bytes(place / "report.md", written.encode())
    store.write_bytes(place / "report.csv", table.as_csv(found).encode())
    store.write_bytes(place / "report.png", figure.png(cells))
    return pictures


def _mirror(found: Sequence[Report], results: Path, place: Path) -> None:
    """Audits as their sweeps would have mirrored them; those that did are not doubled."""
    for report in found:
        file = results / report["cell"] / f"{report['attack']}.json"
        there = tracking.mirror(report, of_audit(file, report), results=place)
        done = f"mirrored: {there}" if there else "not mirrored"
        print(f"{report['cell']}, {report['attack']}: {done}")


def _unaudited(results: Path, audited: set[str | None]) -> dict[str, int]:
    """Shadow models of cells without an audit, but for those that are only built on."""
    models: dict[str, list[dict]] = {}
    for file in sorted(results.glob("*/*/metrics.json")):
        metrics, why = vouched.read_metrics(file)
        if metrics is None:
            print(f"left out: {terminal.one_line(str(why))}", file=sys.stderr)
        elif metrics["cell"] == file.parts[-3]:  # else it is a renamed copy
            models.setdefault(metrics["cell"], []).append(metrics)
    runs = [run for of_cell in models.values() for run in of_cell]
    used = {basis["cell"] for run in runs for basis in run.get("builds_on", {}).values()}
    return {cell: len(models[cell]) for cell in sorted(models.keys() - audited - used)}


if __name__ == "__main__":
    with errors_in_one_line():
        interrupts.raise_in_main()
        sys.exit(main(sys.argv[1:]))
