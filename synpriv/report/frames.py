"""All reports, runs and costs of a results folder as pandas data frames."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from synpriv.report.rows import rows
from synpriv.results import reports, vouched
from synpriv.signatures import require

if TYPE_CHECKING:
    import pandas

log = logging.getLogger(__name__)
Level = Literal["audits", "runs", "stages"]
LEVELS: tuple[Level, ...] = ("audits", "runs", "stages")
_OF_RUN = ("cell", "seed", "method", "membership", "test_accuracy", "train_s")
_NOT_SHOWN = ("stages", "metrics_sha256")
Row = dict[str, Any]


def frame(results: str | Path = "multirun", *, level: Level = "audits") -> pandas.DataFrame:
    """What lies below a results folder, one row per audit, per shadow model or per stage of one.

    level `audits`: the columns of `report.csv` (cell, name, method, ..., `auc`, `tpr@fpr=0.01`,
    `tpr@fpr=0.01/low`, `accuracy`, `epsilon`, `train_s`, ...: shares of 1, seconds; verdict: leak,
    none or unresolved, corrected over all of them; provenance), then the cell's settings with
    dotted names (`method.num_epochs`). `above_chance` is that of the audit alone.
    `runs`: cell, seed, method, test_accuracy, train_s and whatever else metrics.json says of a
    trained model, nested keys dotted. `stages`: cell, seed, method, stage, wall_s, cpu_s,
    peak_mb, rise_mb, flops.

    Sorted by cell, then attack or seed. What is not known is NaN or None; no row is corrected or
    made again: a report or run that is damaged is named in the log and in `frame.attrs["left_out"]`
    (`python -m synpriv.report` makes reports again). ValueError for a folder that is not there.
    """
    import pandas

    where = Path(results)
    require(where.is_dir(), f"{results}: no such folder", "the `results` of a sweep")
    require(level in LEVELS, f"level={level}", f"one of {', '.join(LEVELS)}")
    left_out: list[str] = []
    read = {"audits": _audits, "runs": _runs, "stages": _stages}[level]
    found = pandas.DataFrame(list(read(where, left_out)))
    for why in left_out:
        log.warning("left out: %s", why)
    found.attrs["left_out"] = left_out
    return found


def _audits(results: Path, left_out: list[str]) -> Iterator[Row]:
    found: list[Row] = []
    for file in sorted(results.glob("*/[!.]*.json")):
        report = reports.read(file)
        if report is None:
            left_out.append(str(reports.problem(file)))
            continue
        if report["cell"] != file.parent.name or report["attack"] != file.stem:
            named = f"{report['attack']} of {report['cell']}"
            left_out.append(f"{file} is {named}; name it as it was")
            continue
        found.append(report)
    for row, report in zip(rows(found), found, strict=True):
        yield {key: math.nan if v is None else v for key, v in row.items()} | report["settings"]


def _runs(results: Path, left_out: list[str]) -> Iterator[Row]:
    for run in _metrics(results, left_out):
        first = {key: run.get(key) for key in _OF_RUN}
        yield first | _flat({key: value for key, value in run.items() if key not in _NOT_SHOWN})


def _stages(results: Path, left_out: list[str]) -> Iterator[Row]:
    for run in _metrics(results, left_out):
        about = {key: run.get(key) for key in ("cell", "seed", "method")}
        for stage, costs in run.get("stages", {}).items():
            yield about | {"stage": stage} | costs


def _metrics(results: Path, left_out: list[str]) -> Iterator[Row]:
    """metrics.json of every trained model, by cell and seed, but of renamed copies of a cell."""
    files = sorted(results.glob("*/*/metrics.json"), key=lambda file: (file.parts[-3], _seed(file)))
    for file in files:
        run, why = vouched.read_metrics(file)
        if run is None:
            left_out.append(str(why))
        elif run["cell"] == file.parts[-3]:
            yield run


def _seed(file: Path) -> tuple[int, str]:
    name = file.parent.name
    return (int(name), "") if name.isdecimal() else (-1, name)


def _flat(node: Row, prefix: str = "") -> Row:
    """Nested values under dotted names; lists stay as they are."""
    found: Row = {}
    for key, value in node.items():
        inside = isinstance(value, dict)
        found |= _flat(value, f"{prefix}{key}.") if inside else {f"{prefix}{key}": value}
    return found
