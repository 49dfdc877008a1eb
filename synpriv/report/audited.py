"""An audit as it is shown: its report, what lies beside it, and what its shadow models say.

Of models trained elsewhere there is the report and its archive alone.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from synpriv.audit.metrics import Bools, Floats, Roc, roc
from synpriv.data.content import sha256
from synpriv.report import members, pairs
from synpriv.results import canary_images, store, vouched

log = logging.getLogger(__name__)
Report = dict[str, Any]
Labels = NDArray[np.int64]


class Canaries(NamedTuple):
    """The canary images of a cell: labels [C], and images uint8 [C,ch,H,W] unless not kept."""

    labels: Labels  # that they are trained on
    true_labels: Labels
    groups: Labels | None
    images: NDArray[np.uint8] | None


class Audited(NamedTuple):
    """One audit: a cell under one attack."""

    report: Report
    roc: Roc
    statistic: Floats  # [C,S], of groups [G,S]; NaN = none
    member: Bools
    runs: list[dict[str, Any]]  # metrics.json of its shadow models, as far as they are there
    canaries: Canaries | None
    nearest: dict[int, pairs.Shown]  # of images of the most exposed canaries, where it is known
    pictures: bool = True  # whether images were looked for


def with_files(file: Path, report: Report, *, pictures: bool = True) -> Audited:
    """A whole report with all that lies beside it; each file is read once.

    pictures: whether images are looked for, and canaries are called by their names (`nameless`).
    KeyError for an archive without the statistic.
    """
    report = report if pictures else members.nameless(report)
    with np.load(file.with_suffix(".npz"), allow_pickle=False) as arrays:
        statistic, member = arrays["statistic"], arrays["member"]
    usable = np.isfinite(statistic)
    curve = roc(statistic[usable], member[usable])
    runs = [] if "evidence_file" in report else _runs(file.parent, report)
    canaries, nearest, lost = None, {}, list[str]()
    if runs:
        canaries = _canaries(file.parent, report, runs, pictures=pictures)
        if canaries is None:
            lost.append("labels and images of the canaries are not shown: no evidence is intact")
        complete = [run["seed"] for run in runs] == report["seeds"]  # else models are not counted
        if pictures and canaries is not None and complete and "nearness" in report:
            of_images = member if canaries.groups is None else member[canaries.groups]
            found = _nearest(file.parent, report, runs, of_images, _shown(report, canaries))
            if found is None:
                lost.append("nearest released images are not shown: evidence of a model is damaged")
            nearest = found or {}
    warnings = [*report["warnings"], *(line for line in lost if line not in report["warnings"])]
    whole = report | {"warnings": warnings}
    return Audited(whole, curve, statistic, member, runs, canaries, nearest, pictures)


def _runs(folder: Path, report: Report) -> list[dict[str, Any]]:
    """metrics.json of the shadow models that are there, intact and this cell's."""
    found = [
        vouched.read_metrics(folder / str(seed) / store.METRICS)[0] for seed in report["seeds"]
    ]
    return [run for run in found if run is not None and run["cell"] == report["cell"]]


def _evidence(folder: Path, run: dict[str, Any]) -> Path | None:
    """The evidence of a run if it is as it was written; what is wrong is named in the log."""
    file = folder / str(run["seed"]) / store.EVIDENCE
    if file.is_file() and sha256(file) == run.get("evidence_sha256"):
        return file
    log.warning("left out: %s is damaged or missing", file)
    return None


def _canaries(
    folder: Path, report: Report, runs: Sequence[dict[str, Any]], *, pictures: bool
) -> Canaries | None:
    """Labels from the first evidence that is intact; images where the cell has kept them."""
    file = next(filter(None, (_evidence(folder, run) for run in runs)), None)
    if file is None:
        return None
    with np.load(file, allow_pickle=False) as arrays:
        labels, true_labels = arrays["labels"], arrays["true_labels"]
        groups = arrays["groups"] if "groups" in arrays.files else None
    images = canary_images.read(folder, report["canaries_sha256"]) if pictures else None
    return Canaries(labels, true_labels, groups, images)


def _shown(report: Report, canaries: Canaries) -> Labels:
    """Images of the canaries that the report names as most exposed."""
    first = np.array([int(canary) for canary, _ in report["most_exposed"]], dtype=np.int64)
    return first if canaries.groups is None else np.flatnonzero(np.isin(canaries.groups, first))


def _nearest(
    folder: Path, report: Report, runs: Sequence[dict[str, Any]], member: Bools, images: Labels
) -> dict[int, pairs.Shown] | None:
    """The closest pair of each of these images, of the runs that kept theirs; member [C,S].

    None where a distance is lost.
    """
    seeds = report["seeds"]
    found = store.Cell(folder.parent, report["cell"], 0).pairs(seeds, of=images)
    if not found:
        return {}
    distances = []
    for run in runs:
        if (file := _evidence(folder, run)) is None:
            return None
        with np.load(file, allow_pickle=False) as arrays:
            distances.append(arrays["nearest"])
    return pairs.best_of_each(found, np.stack(distances, 1), member, seeds)
