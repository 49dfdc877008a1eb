"""`python -m synpriv.report`: all audited cells as a page, tables and figures, and as a gate."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from synpriv import audits, checkout, interrupts, terminal, tracking, wandb_session
from synpriv.audit.audit import FPRS
from synpriv.audit.findings import resolution
from synpriv.cli import errors_in_one_line, one_line
from synpriv.report import files, gate, marks, table
from synpriv.report.audited import Audited, with_files
from synpriv.results import names, reports, store, vouched
from synpriv.results.reports import Report
from synpriv.tracking.told import of_audit

_SIZES = ((100, 8), (125, 16), (250, 16), (125, 64), (500, 16), (500, 64), (500, 128))
_RESOLVED = f"which TPR an audit resolves:\n{resolution(FPRS, _SIZES)}"
MALFORMED = 2  # exit code for an expectations file that cannot be read


class Found(NamedTuple):
    """What lies below a results folder: audits, and what is there but cannot be shown."""

    cells: list[Audited]
    missing: list[gate.Lost]


def audited(results: Path, *, pictures: bool = True) -> Found:
    """Every audit with all that lies beside it below a results folder, sorted by cell and attack.

    What is damaged is made again or named, report by report. pictures: as in `with_files`.
    """
    found = Found([], [])
    for file in sorted(results.glob("*/[!.]*.json")):
        try:
            report, made_again, not_compared = audits.on_disk(file)
            cell = with_files(file, report, pictures=pictures)
        except Exception as error:  # noqa: BLE001 - one cell must not hide the others
            why = _of(file, error)
            found.missing.append({"name": file.parent.name, "why": why, **_asked(file)})
            print(f"left out: {why}", file=sys.stderr)
            continue
        if made_again:
            print(terminal.one_line(f"made again: {made_again}"), file=sys.stderr)
        if not_compared:
            note = f"this report was not compared with {not_compared}: it may be of others"
            warned = report | {"warnings": [*report["warnings"], note]}
            cell = cell._replace(report=warned | {gate.NOT_COMPARED: not_compared})
        found.cells.append(cell)
    return found


def _asked(file: Path) -> dict[Any, Any]:
    """What a report that is left out was asked; {} if that is lost too or of another file."""
    heading = reports.heading_of(file)
    if heading is None or (heading["cell"], heading["attack"]) != (file.parent.name, file.stem):
        return {}
    return {"asked": heading}


def _of(file: Path, error: Exception) -> str:
    """What is wrong, with the name of the report if the error has none."""
    words = one_line(error)
    return words if file.parent.name in words else terminal.one_line(f"{file}: {words}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m synpriv.report",
        description=__doc__,
        epilog=_RESOLVED,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("results", nargs="?", default="multirun", type=Path)
    add("--out", type=Path, help="where the files go; RESULTS if it is not given")
    add("--cells", metavar="GLOB", help="only audits whose folder or name in the table fits")
    add("--no-pictures", action="store_true", help="no image and no name of a canary")
    add("--expect", metavar="YAML", type=Path, help="exit 1 where a bound in this file is broken")
    add("--write-expect", metavar="YAML", type=Path, help="write bounds that these audits keep to")
    add("--wandb", action="store_true", help="mirror the audits in W&B too")
    return parser


def main(argv: list[str]) -> int:
    """Print and write the report; returns the exit code."""
    terminal.never_fail()
    given = _parser().parse_args(argv)
    entries = None
    try:
        if given.expect is not None:
            entries = _expected(given.expect)
    except ValueError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return MALFORMED
    try:
        found, over = _report(given)
    except ValueError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 1
    return 0 if entries is None else _judged(entries, found, over)


def _expected(file: Path) -> list[gate.Entry]:
    try:
        return gate.read(file)
    except OSError as error:
        raise ValueError(f"--expect={file} cannot be read ({error.strerror})") from error


def _judged(entries: Sequence[gate.Entry], found: Found, over: marks.Correction) -> int:
    """Name what breaks a bound, one line each; returns the exit code."""
    marked, _ = marks.corrected([cell.report for cell in found.cells], over)
    broken = gate.violations(entries, marked, found.missing)
    for line in broken:
        print(terminal.one_line(f"violation: {line}"), file=sys.stderr)
    for name in gate.unjudged(entries, marked):
        print(terminal.one_line(f"not judged, no expectation is of it: {name}"))
    num = len(entries)
    kept = f"expectations: all {num} kept" if not broken else f"expectations: {len(broken)} broken"
    print(kept)
    return 1 if broken else 0


def _report(given: argparse.Namespace) -> tuple[Found, marks.Correction]:
    """What was shown, and the correction over all that is there, whatever is chosen of it.

    ValueError where there is nothing to show or no place to write it.
    """
    results, place = given.results, given.out or given.results
    if given.wandb:
        wandb_session.check()
    if not results.is_dir():
        raise ValueError(f"{results}: no such folder; must be the `results` of a sweep")
    if (results / "cell.yaml").is_file():
        raise ValueError(f"{results}: is a cell; name the folder above it, {results.parent}")
    every = audited(results, pictures=not given.no_pictures)
    left_out = {lack["name"] for lack in every.missing}  # their reports are, and are named
    unaudited = _unaudited(results, every)
    for cell, num in unaudited.items():
        there = f"{num} models" if num else "no finished model"
        print(terminal.one_line(f"not audited: {results / cell}, {there} there"))
        why = f"not audited yet, {num} models are there" if num else f"not audited, {there}"
        if cell not in left_out:
            every.missing.append({"name": cell, "why": why})
    over = marks.correction([cell.report for cell in every.cells])
    found = every if given.cells is None else _chosen(every, given.cells)
    if found.cells:
        marked, family = marks.corrected([cell.report for cell in found.cells], over)
        print(table.text(marked, family=family, rest=str(place / "report.md")))
    try:
        files.write_page(found.cells, place, missing=found.missing, over=over)
        if not found.cells:
            print(f"written: {place / files.PAGE}, which names what is there")
            raise ValueError(_nothing(results, unaudited))
        written = files.write_tables(found.cells, place, over)
        if given.wandb:
            _mirror(found.cells, results, place, pictures=not given.no_pictures)
        if given.write_expect is not None:
            store.write_bytes(given.write_expect, gate.expectations(marked).encode())
            written.append(str(given.write_expect))
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ValueError(f"{one_line(error)}; --out DIR writes elsewhere") from error
    print(f"written: {place / files.PAGE}, {', '.join(written)}")
    return found, over


def _nothing(results: Path, unaudited: dict[str, int]) -> str:
    first = f"run {checkout.program()} method=distill -m seed=0..63 first"
    again = "run the command of a cell's sweep again (partial=true audits what is there)"
    return f"{results.absolute()}: no audited cell; {again if any(unaudited.values()) else first}"


def _chosen(found: Found, pattern: str) -> Found:
    """The audits whose folder or name a glob is of, and what is missing of such folders."""
    every = [cell.report for cell in found.cells]
    called = names.distinct_names(every)
    pairs = list(zip(called, found.cells, strict=True))
    cells = [cell for name, cell in pairs if gate.matches(pattern, name, cell.report)]
    if pairs and not cells:
        there = "; ".join(f"{cell.report['cell']} ({name})" for name, cell in pairs)
        raise ValueError(f"--cells={pattern} is of no audit; there are {there}")
    return Found(cells, gate.lacking(pattern, found.missing, every))


def _mirror(cells: Sequence[Audited], results: Path, place: Path, *, pictures: bool) -> None:
    """Audits as their sweeps would have mirrored them; those that did are not doubled."""
    for cell in cells:
        report: Report = cell.report
        file = results / report["cell"] / f"{report['attack']}.json"
        told = of_audit(file, report, pictures=report.get("pictures_told") if pictures else False)
        there = tracking.mirror(report, told, results=place)
        done = f"mirrored: {there}" if there else "not mirrored"
        print(f"{report['cell']}, {report['attack']}: {done}")


def _unaudited(results: Path, found: Found) -> dict[str, int]:
    """Shadow models of cells without an audit, also of none, but for those that are only built on.

    Damaged ones are named and added to what is missing.
    """
    shown = {cell.report["cell"] for cell in found.cells}
    twins = {cell.report["accuracy_cell"] for cell in found.cells}
    runs = [run for cell in found.cells for run in cell.runs]
    models: dict[str, int] = {}
    copies = set()
    for file in sorted(results.glob("*/*/metrics.json")):
        if file.parts[-3] in shown:
            continue  # its runs were read, and what is wrong with them is said
        metrics, why = vouched.read_metrics(file)
        if metrics is None:
            print(f"left out: {terminal.one_line(str(why))}", file=sys.stderr)
            found.missing.append({"name": file.parts[-3], "why": str(why)})
        elif metrics["cell"] != file.parts[-3]:
            copies.add(file.parts[-3])
        else:
            runs.append(metrics)
            models[metrics["cell"]] = models.get(metrics["cell"], 0) + 1
    said = {lack["name"] for lack in found.missing} | copies | shown
    begun = {file.parent.name for file in results.glob("*/cell.yaml")}
    models |= dict.fromkeys(begun - said - models.keys(), 0)  # crashed before the first model
    used = {basis["cell"] for run in runs for basis in run.get("builds_on", {}).values()}
    return {cell: models[cell] for cell in sorted(models.keys() - twins - used)}


if __name__ == "__main__":
    with errors_in_one_line():
        interrupts.raise_in_main()
        sys.exit(main(sys.argv[1:]))
