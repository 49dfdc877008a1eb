"""The reports beside a cell's runs, and whether they are of the runs that are there.

`synpriv.results.reports` reads a report to show it. Here only its checksums are looked at.
"""

from __future__ import annotations

import functools
import json
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synpriv import fingerprint
from synpriv.results import vouched
from synpriv.status import runs
from synpriv.status.runs import Run

CURRENT = "up to date"
DAMAGED = "damaged"
Report = dict[str, Any]


def read(file: Path) -> Report | None:
    """A report with all that lies beside it; None if it is damaged or none of ours."""
    try:
        report = json.loads(file.read_bytes())
        said = report.pop("report_sha256")
        of = (report["cell"], report["attack"])
        if vouched.json_sha256(report) != said or of != (file.parent.name, file.stem):
            return None
        beside = {name: file.with_name(name).stat() for name in (file.name, *report["files"])}
        if not all(stat.S_ISREG(status.st_mode) for status in beside.values()):
            return None  # a pipe would keep its reader waiting
        wrong = [
            runs.wrong(file.parent, beside, name, checksum, done=file.name)
            for name, checksum in report["files"].items()
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return None if any(wrong) else report


def state(
    report: Report | None, every: Mapping[str, Mapping[int, Run]], num_models: int | None
) -> str:
    """`CURRENT`, or in a few words what the report of `read` is instead.

    every: the runs of all cells. num_models: of how many a sweep asked it to be.
    """
    if report is None:
        return DAMAGED
    try:
        own = every[report["cell"]]
        clean = every.get(report["accuracy_cell"] or "", {})
        checksums = {seed: _checksum(own, seed) for seed in report["seeds"]}
        now = fingerprint.inputs_sha256(
            attack=report["attack_options"],
            code=_code(str(report["attack_options"]["_target_"])),
            tuning=report["tuning"],
            num_planned=report["num_planned"],
            runs=checksums,
            clean={seed: _checksum(clean, seed) for seed in report["accuracy_seeds"]},
            no_pairs=[seed for seed in checksums if own[seed].pairs_lost],
        )
        planned = report["num_planned"]
        partial = len(report["seeds"]) < planned
    except (KeyError, TypeError, ValueError, AttributeError):
        # It vouches for itself, but is of runs that are not there, or was made by no code of ours.
        return "of other runs"
    if report["inputs_sha256"] != now:
        return "of other runs or code"
    if partial:
        return f"of {len(report['seeds'])} of {planned} models"
    return CURRENT if num_models in (None, planned) else f"of {planned} models"


def _checksum(of: Mapping[int, Run], seed: int) -> str:
    """Of a run's evidence; KeyError or ValueError where it is not there or not intact."""
    checksum = of[seed].evidence_sha256
    if checksum is None:
        raise ValueError(f"seed {seed} is not intact")
    return checksum


@functools.cache
def _code(target: str) -> str:
    """The code of an attack, which some reports share."""
    return fingerprint.audit_sha256(target)
