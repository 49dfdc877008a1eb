"""What trackers are told of a report on disk: the same by its sweep and by whoever finds it.

A file of its own: a sweep's start imports the other trackers, this takes most of a second.
"""

from __future__ import annotations

from pathlib import Path

from synpriv.report import content
from synpriv.results import reports
from synpriv.results.reports import Report
from synpriv.tracking.findings import Findings


def of_audit(file: Path, report: Report, *, admission: float | None = None) -> Findings:
    """All of the report in `file`; admission: the rule of its study, `Report["admission"]`."""
    summary = content.flatten(content.under_rule(report, admission))
    return Findings(summary, reports.pictures(file, report))
