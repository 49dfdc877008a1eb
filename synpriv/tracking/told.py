"""What trackers are told of a report on disk: the same by its sweep and by whoever finds it.

A file of its own: a sweep's start imports the other trackers, this takes most of a second.
"""

from __future__ import annotations

from pathlib import Path

from synpriv.report import content
from synpriv.report.audited import Audited, with_files
from synpriv.report.html.view import view
from synpriv.report.html.write import html
from synpriv.results import flat, reports
from synpriv.results.reports import Report
from synpriv.tracking.findings import Findings

_WITHHELD = "data: what was noticed stands in the report on the machine that made it"
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
    the names of canaries (`members.nameless`), of classes and of the data, and the command. None:
    of published data sets alone.
    """
    told = content.under_rule(report, admission)
    shown = pictures if pictures is not None else _is_public(report)
    audited = with_files(file, told, pictures=shown)
    page = view([audited if shown else _nameless(audited)])
    files = {
        key: picture
        for key, picture in reports.pictures(file, report).items()
        if shown or key == "roc"
    }
    return Findings(flat.flatten(told), files, page, html(page).encode())


def _nameless(audited: Audited) -> Audited:
    """Without what a user's data, its classes and the command that read them are called.

    A class may be a diagnosis, a folder a person.
    """
    report = audited.report
    data, about = report["data"], list[str]()
    for line in report["warnings"]:
        about.append(_WITHHELD if line.startswith("data: ") else line)
    kept = {**data, "warnings": [], "notes": []}
    if classes := data.get("class_names"):
        kept["class_names"] = [f"class {number}" for number in range(len(classes))]
        size = f"{data['num_private']:,} private images of {len(classes)} classes"
        kept["in_words"] = f"{size}; names stay on the machine that read them"
    called = str(report["settings"].get("dataset.name", "own data"))
    told = {**report, "dataset": called, "data": kept, "warnings": list(dict.fromkeys(about))}
    runs = [{key: v for key, v in run.items() if key != "command"} for run in audited.runs]
    return audited._replace(report=told, runs=runs)


def _is_public(report: Report) -> bool:
    """Whether its images are those of a published data set; unknown ones are not."""
    settings = report["settings"]
    published = settings.get("dataset.load._target_") in _PUBLISHED
    return published and settings.get("canary.kind") != "path"
