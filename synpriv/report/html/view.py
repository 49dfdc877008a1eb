"""What the page shows of all audits, from their reports: the only maker of a `View`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from synpriv import __version__
from synpriv.audit import quality
from synpriv.report import marks, members, networks, pairs, table, threat, trade_off
from synpriv.report.audited import Audited
from synpriv.report.html import compared, curves, exposed, releases
from synpriv.report.html.shape import Cell, Missing, StageCost, View
from synpriv.report.verdict import verdict
from synpriv.results import names

Report = dict[str, Any]
MOST_CANARIES, MANY_CELLS, FEW_CANARIES = 10, 20, 6  # with pictures; fewer beyond so many cells
_PICTURES = (
    "pictures of canaries are private images of the data set: whoever gets this page gets them "
    "(--no-pictures leaves them out)"
)


def view(
    cells: Sequence[Audited],
    *,
    missing: Sequence[Missing] = (),
    over: marks.Correction | None = None,
) -> View:
    """The page of these audits, in their order; marks are corrected over all of them.

    cells: as they were read; missing: what is there but cannot be shown; over: the correction where
    more audits are there than these. Of nothing at all the page says so.
    """
    reports, family = marks.corrected([cell.report for cell in cells], over)
    marked = [cell._replace(report=report) for cell, report in zip(cells, reports, strict=True)]
    album, groups = exposed.Album(len(cells)), compared.groups_of(reports)
    group_of = {place: group for group in groups for place in group.members}
    long, short = names.distinct_names(reports), names.distinct_methods(reports)
    shown = [
        _cell(place, marked, (long[place], short[place]), group_of[place], album)
        for place in range(len(marked))
    ]
    return {
        "title": _title(reports),
        "version": __version__,
        "family": family,
        "marks": dict(table.MARKS),
        "legend": [
            *table.LEGEND.splitlines(),
            *table.about_groups(reports),
            *([members.step(reports)] if reports else []),
            *([_PICTURES] if album.pictures else []),
            *([f"{album.left_out} pictures had no room on this page"] if album.left_out else []),
        ],
        "releases": releases.releases(reports, [cell["verdict"] for cell in shown]),
        "cells": shown,
        "heat": exposed.heat_maps(marked, long),
        "missing": [{"name": lack["name"], "why": lack["why"]} for lack in missing],
        "pictures": album.pictures,
        "definitions": _definitions(reports),
    }


def _title(reports: Sequence[Report]) -> str:
    num = len({report["cell"] for report in reports})
    if not reports:
        return "No audit yet"
    audits = f"{len(reports)} audit{'s' * (len(reports) > 1)}"
    data = ", ".join(dict.fromkeys(report["dataset"] for report in reports))
    return f"{audits} of {num} cell{'s' * (num > 1)}: {data}"


def _cell(
    place: int,
    cells: Sequence[Audited],
    called: tuple[str, str],
    group: compared.Group,
    album: exposed.Album,
) -> Cell:
    """One audit among the others; `called`: its long and its short name."""
    album.next_cell()
    cell, reports = cells[place], [other.report for other in cells]
    report, every = cell.report, exposed.everyone(cell)
    said = verdict(report)
    words = dict(zip(table.HEADER, table.row(report, called[1]), strict=True))
    others = [reports[i] for i in group.members]
    better = compared.dominated_by(report, others, panel := group.panels[0])
    num = MOST_CANARIES if len(cells) <= MANY_CELLS else FEW_CANARIES
    found: Cell = {
        "id": f"c{place}",
        "name": called[0],
        "short": called[1],
        **{key: report[key] for key in ("cell", "method", "dataset", "attack", "membership")},  # type: ignore[typeddict-item]
        "paradigm": trade_off.paradigm(report),
        "canary": members.kind(report),
        "partial": report["partial"],
        "threat_model": threat.in_words(report),
        "verdict": said,
        "plain": releases.in_plain_words(report, said["kind"]),
        "comparable": group.name,
        "dominated_by": [f"c{group.members[i]}" for i in better],
        "dominated_at": trade_off.RATES.get(panel, "AUC"),
        "accuracy": compared.accuracy(report, words, compared.undefended_of(report, reports)),
        "random_subset": compared.random_subset(cell, cells),
        "rates": {key: compared.rate(report[key]) for key in sorted(trade_off.RATES)},
        "auc": compared.auc(report, words),
        "epsilon_proven": words["epsilon"],
        "epsilon_bound": compared.epsilon_bound(report, words),
        "nearness": compared.nearness(report),
        "nearness_in_words": pairs.verdict(report["nearness"]) if "nearness" in report else None,
        "quality": quality.in_words(report["quality"]) if "quality" in report else None,
        "train_s": None if report["train_s"] is None else report["train_s"]["mean"],
        "train_flops": report["train_flops"]["mean"] if "train_flops" in report else None,
        "stages": stage_costs(cell.runs),
        "points": compared.points(report, group.panels),
        "roc": curves.curve(cell.roc, report["n_out"]),
        "scores": curves.scores(cell.statistic, cell.member, cell.roc),
        **{k: report[k] for k in ("n_in", "n_out", "num_models", "num_canaries")},
        "most_exposed_null": report.get("most_exposed_null"),
        "canaries": exposed.most_exposed(cell, every, album, num=num),
        "all_canaries": every,
        "settings": report["settings"] | names.flat(report["attack_options"], "attack."),
        "provenance": _provenance(cell),
        "about": _about(report, words),
        "warnings": report["warnings"],
    }
    return found


def stage_costs(runs: Sequence[dict[str, Any]]) -> list[StageCost]:
    """Mean over the shadow models of each stage, in the order in which stages are gone through."""
    stages = dict.fromkeys(stage for run in runs for stage in run.get("stages", {}))
    found: list[StageCost] = []
    for stage in stages:
        costs = [run["stages"][stage] for run in runs if stage in run.get("stages", {})]
        found.append(
            {
                "stage": stage,
                "wall_s": round(_mean(costs, "wall_s"), 3),
                "cpu_s": round(_mean(costs, "cpu_s"), 3),
                "peak_mb": round(_mean(costs, "peak_mb"), 1),
                "rise_mb": _mean_if_known(costs, "rise_mb"),
                "flops": _mean_if_known(costs, "flops"),
            }
        )
    return found


def _mean(costs: Sequence[dict[str, Any]], key: str) -> float:
    return float(np.mean([cost[key] for cost in costs]))


def _mean_if_known(costs: Sequence[dict[str, Any]], key: str) -> float | None:
    """None where a run, such as an older one, does not say."""
    known = all(cost.get(key) is not None for cost in costs)
    return round(_mean(costs, key), 1) if known else None


def _provenance(cell: Audited) -> list[str]:
    """What of the private data the method used directly, and what made the shadow models."""
    report = cell.report
    lines = [f"what the method took from the private data: {', '.join(report['provenance'])}"]
    for label, key in (("trained by", "command"), ("commit", "git_commit"), ("device", "device")):
        values = dict.fromkeys(str(run[key]) for run in cell.runs if run.get(key))
        if values:
            lines.append(f"{label}: {' | '.join(values)}")
    versions = [run["versions"] for run in cell.runs if run.get("versions")]
    if versions:
        lines.append(", ".join(f"{name} {number}" for name, number in versions[0].items()))
    lines.append(f"evidence and attack: {report['inputs_sha256'][:16]}")
    return [*lines, f"canaries: {report['canaries_sha256'][:16]}"]


def _about(report: Report, words: dict[str, str]) -> list[str]:
    """Networks, data, guarantee and who the members are, in words."""
    lines = [networks.in_words(report["settings"])] if report["settings"] else []
    lines.append(f"data: {report['data']['in_words']}")
    if words["guarantee"] != "-":
        lines.append(f"guarantee: epsilon {words['epsilon']}; {words['guarantee']}")
    about = [members.in_words(report), members.most_exposed(report)]
    return [*lines, *(line for line in about if line is not None)]


def _definitions(reports: Sequence[Report]) -> dict[str, str]:
    """What keys mean; where two audits differ (in their rounds) both are said."""
    found: dict[str, dict[str, None]] = {}
    for report in reports:
        for key, words in report["definitions"].items():
            found.setdefault(key, {})[words] = None
    return {key: " | ".join(words) for key, words in found.items()}
