"""`python -m synpriv.report`: all audited cells as one table, figure, Markdown and csv."""

from __future__ import annotations

import argparse
import json
import sys
import zipfile
from pathlib import Path

import numpy as np

from synpriv import terminal
from synpriv.audit.metrics import Roc
from synpriv.report import figure, table, trade_off
from synpriv.results import store


def audited(results: Path) -> list[tuple[dict, Roc]]:
    """Report and ROC of every audit below a results folder, sorted by cell and attack."""
    found = []
    for file in sorted(results.glob("*/*.json")):
        report = store.read_report(file)
        if report is None:
            continue
        try:
            with np.load(file.with_suffix(".npz"), allow_pickle=False) as arrays:
                fpr, tpr = arrays["roc_fpr"], arrays["roc_tpr"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            print(f"left out {file}: its npz is damaged ({error})", file=sys.stderr)
            continue
        found.append((report, Roc(fpr, tpr, np.full_like(fpr, np.nan))))
    return found


def main(argv: list[str]) -> int:
    """Print and write the report; returns the exit code."""
    terminal.never_fail()
    parser = argparse.ArgumentParser(prog="python -m synpriv.report", description=__doc__)
    parser.add_argument("results", nargs="?", default="multirun", type=Path)
    results = parser.parse_args(argv).results
    cells = audited(results) if results.is_dir() else []
    if not cells:
        print(
            f"error: no audited cell in {results.absolute()}; "
            "run python run.py method=distill -m seed=0..63 first",
            file=sys.stderr,
        )
        return 1
    reports = [report for report, _ in cells]
    print(table.text(reports))
    _print_unaudited(results, {report["cell"] for report in reports})
    try:
        trade_offs = trade_off.draw_groups(reports, results / "trade_off")
        pictures = ["report.png", *(file.name for file in trade_offs)]
        content = table.markdown(reports, pictures=pictures)
        store.write_bytes(results / "report.md", content.encode())
        store.write_bytes(results / "report.csv", table.as_csv(reports).encode())
        figure.draw(cells, results / "report.png")
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    print(f"written: {results / 'report.md'}, report.csv, {', '.join(pictures)}")
    return 0


def _print_unaudited(results: Path, audited: set[str]) -> None:
    """Name cells without an audit, but for those that are only built on (proxies, teachers)."""
    models: dict[str, list[dict]] = {}
    for file in sorted(results.glob("*/*/metrics.json")):
        try:
            models.setdefault(file.parts[-3], []).append(json.loads(file.read_bytes()))
        except ValueError as error:
            print(f"left out {file}: it is damaged ({error})", file=sys.stderr)
    runs = [run for of_cell in models.values() for run in of_cell]
    used = {basis["cell"] for run in runs for basis in run.get("builds_on", {}).values()}
    for cell in sorted(models.keys() - audited - used):
        print(f"not audited: {results / cell}, {len(models[cell])} models there")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
