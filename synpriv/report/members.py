"""Who the members of an audit are, images or groups of them, and where the canaries come from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

Report = dict[str, Any]
_CALLED_BY = ("canary_names", "canary_source")
_OF_A_GROUP = re.compile(r"group .+ (?=has \d+% of class )")  # `synpriv.data.groups.warnings_of`


def kind(report: Report) -> str:
    """What a table calls the canaries: their kind, and that they are groups."""
    return f"{report['canary']} groups" if "groups" in report else str(report["canary"])


def canaries(report: Report) -> str:
    """How many canaries of which kind there are."""
    what = "canary groups" if "groups" in report else "canaries"
    return f"{report['num_canaries']} {report['canary']} {what}"


def in_words(report: Report) -> str | None:
    """That an audit speaks of groups; None where it is of images, as if not said otherwise."""
    if "groups" not in report:
        return None
    found, num = report["groups"], f"{report['num_canaries']:,}"
    low, high = found["smallest"], found["largest"]
    each = f"{low}" if low == high else f"{low} to {high}"
    every = report["data"].get("groups")  # unknown of models trained elsewhere
    which = f"{num} groups" if every is None else f"{num} of {every['num']:,} groups"
    return (
        f"members are groups of {each} image{'s' * (high > 1)}, not images: "
        f"{which} are canaries, IN or OUT as a whole"
    )


def step(reports: Sequence[Report]) -> str:
    """What an epsilon in a table of these reports is of: one image added or removed, or a group."""
    grouped = ["groups" in report for report in reports]
    if not any(grouped):
        return "epsilon: add or remove one image"
    rows = "" if all(grouped) else " in rows of groups"
    return f"epsilon: proven of one image more or less, all else of one group{rows}"


def most_exposed(report: Report, num: int = 5) -> str | None:
    """The canaries of largest effect by their place in the data; None where it is not known."""
    source = report.get("canary_source")
    first = report.get("most_exposed", [])[:num]
    if source is None or not first:
        return None
    named = "; ".join(f"{place(source, int(i))} ({effect:.1f})" for i, effect in first)
    chance = report.get("most_exposed_null")
    beside = "" if chance is None else f", the largest by chance up to {chance:.1f}"
    return f"most exposed (effect size in sd{beside}), of {source['of']}: {named}"


def place(source: dict[str, Any], canary: int, num: int = 3) -> str:
    """A canary's file or row, or a group's name with its first rows."""
    if "groups" not in source:
        return (
            str(source["files"][canary]) if "files" in source else f"row {source['rows'][canary]}"
        )
    rows = [row for row, of in zip(source["rows"], source["group"], strict=True) if of == canary]
    some = ", ".join(map(str, rows[:num])) + ", ..." * (len(rows) > num)
    return f"group {source['groups'][canary]} (row{'s' * (len(rows) > 1)} {some})"


def nameless(report: Report) -> Report:
    """The report without what canaries and groups are called by, which may be a person's name.

    Files, rows, groups and names that were brought go, and out of warnings too, which else stay.
    """
    names = re.compile("|".join(rf"(?<!\w){re.escape(name)}(?!\w)" for name in _names(report)))
    data, kept = report["data"], {k: v for k, v in report.items() if k not in _CALLED_BY}

    def without(lines: Sequence[str]) -> list[str]:
        found = [_OF_A_GROUP.sub("one group ", line) for line in lines]
        return [names.sub("(a name)", line) for line in found] if names.pattern else found

    kept["data"] = data | {"warnings": without(data["warnings"])} if "warnings" in data else data
    return kept | {"warnings": without(report["warnings"])}


def _names(report: Report) -> list[str]:
    """All names of canaries that say more than a number, the longest first."""
    source = report.get("canary_source", {})
    every = [report.get("canary_names", []), source.get("files", []), source.get("groups", [])]
    texts = {str(name) for some in every for name in some}
    return sorted((t for t in texts if t and not t.isdigit()), key=len, reverse=True)
