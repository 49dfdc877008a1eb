"""What trackers are told of a report on disk: the same by its sweep and by whoever finds it.

A file of its own: a sweep's start imports the other trackers, this takes most of a second.
"""

from __future__ import annotations

from pathlib import Path

from synpriv.report import content
from synpriv.report.audited import with_files
from synpriv.report.html.view import view
from synpriv.report.html.write import html
from synpriv.results import flat, reports
from synpriv.results.reports import Report
from synpriv.tracking.findings import Findings

_PUBLISHED = ("digits", "from_torchvision")  # readers of data sets that everybody has


def of_audit(
    file: Path,
    report: Report,
    *,
    admission: float | None = None,
    pictures: bool | None = None,
) -> Findings:
    """All of the report in `file`; admission: the rule of its study, `Report["admission"]`.

    pictures: whether images of canaries and releases are told, which may leave this machine, and
    the names, files, rows and groups that canaries are called by (`members.nameless`). None: of
    published data sets alone.
    """
    told = content.under_rule(report, admission)
    shown = pictures if pictures is not None else _is_public(report)
    page = view([with_files(file, told, pictures=shown)])
    files = {
        key: picture
        for key, picture in reports.pictures(file, report).items()
        if shown or key == "roc"
    }
    return Findings(flat.flatten(told), files, page, html(page).encode())


def _is_public(report: Report) -> bool:
    """Whether its images are those of a published data set; unknown ones are not."""
    settings = report["settings"]
    published = settings.get("dataset.load._target_") in _PUBLISHED
    return published and settings.get("canary.kind") != "path"
