"""`python -m synpriv.report`: all audited cells as one table, figure, Markdown and csv."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from synpriv import audits, terminal, tracking
from synpriv.audit.metrics import Roc
from synpriv.cli import one_line
from synpriv.report import content, figure, table, trade_off
from synpriv.results import reports, store
from synpriv.results.reports import Report


def audited(results: Path) -> list[tuple[Report, Roc]]:
    """Report and ROC of every audit below a results folder, sorted by cell and attack.

    What is damaged is made again or named, report by report.
    """
    found = []
    notes = Counter[str]()
    for file in sorted(results.glob("*/[!.]*.json")):
        try:
            report, note = audits.on_disk(file)
            with np.load(file.with_suffix(".npz"), allow_pickle=False) as arrays:
                fpr, tpr = arrays["roc_fpr"], arrays["roc_tpr"]
        except (ValueError, OSError) as error:
            print(f"left out: {one_line(error)}", file=sys.stderr)
            continue
        notes += Counter([note] if note else [])
        found.append((report, Roc(fpr, tpr, np.full_like(fpr, np.nan))))
    for note, count in notes.items():
        many = f" ({count} reports)" if count > 1 else ""
        print(f"note: {terminal.one_line(note)}{many}", file=sys.stderr)
    return found


def main(argv: list[str]) -> int:
    """Print and write the report; returns the exit code."""
    terminal.never_fail()
    parser = argparse.ArgumentParser(prog="python -m synpriv.report", description=__doc__)
    parser.add_argument("results", nargs="?", default="multirun", type=Path)
    parser.add_argument("--out", type=Path, help="where the files go; RESULTS if it is not given")
    parser.add_argument("--wandb", action="store_true", help="mirror the audits in W&B too")
    given = parser.parse_args(argv)
    cells = audited(given.results) if given.results.is_dir() else []
    found = [report for report, _ in cells]
    if cells:
        print(table.text(found))
    _print_unaudited(given.results, {report["cell"] for report in found})
    if not cells:
        print(
            f"error: no audited cell in {given.results.absolute()}; "
            "run python run.py method=distill -m seed=0..63 first",
            file=sys.stderr,
        )
        return 1
    place = given.out or given.results
    try:
        _write(cells, place)
        if given.wandb:
            _mirror(found, given.results, place)
    except OSError as error:
        print(f"error: {one_line(error)}; --out DIR writes elsewhere", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 1
    return 0


def _write(cells: Sequence[tuple[Report, Roc]], place: Path) -> None:
    """The table as Markdown and csv, all curves, and what can be compared side by side."""
    found = [report for report, _ in cells]
    trade_offs = trade_off.draw_groups(found, place / "trade_off")
    pictures = ["report.png", *(file.name for file in trade_offs)]
    store.write_bytes(place / "report.md", table.markdown(found, pictures=pictures).encode())
    store.write_bytes(place / "report.csv", table.as_csv(found).encode())
    store.write_bytes(place / "report.png", figure.png(cells))
    print(f"written: {place / 'report.md'}, report.csv, {', '.join(pictures)}")


def _mirror(found: Sequence[Report], results: Path, place: Path) -> None:
    """Audits as their sweeps would have mirrored them; those that did are not doubled."""
    keys = {reports.CLOSEST: "visual_privacy"}
    for report in found:
        names = [name for name in report["files"] if name.endswith(".png")]
        there = tracking.mirror(
            report,
            summary=content.flatten(report),
            pictures={keys.get(n, "roc"): results / report["cell"] / n for n in names},
            results=place,
        )
        print(f"mirrored: {report['cell']}, {report['attack']}: {there or 'nowhere'}")


def _print_unaudited(results: Path, audited: set[str]) -> None:
    """Name cells without an audit, but for those that are only built on (proxies, teachers)."""
    models: dict[str, list[dict]] = {}
    for file in sorted(results.glob("*/*/metrics.json")):
        metrics, why = store.read_metrics(file)
        if metrics is None:
            print(f"left out: {terminal.one_line(str(why))}", file=sys.stderr)
        else:
            models.setdefault(file.parts[-3], []).append(metrics)
    runs = [run for of_cell in models.values() for run in of_cell]
    used = {basis["cell"] for run in runs for basis in run.get("builds_on", {}).values()}
    for cell in sorted(models.keys() - audited - used):
        print(terminal.one_line(f"not audited: {results / cell}, {len(models[cell])} models there"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
