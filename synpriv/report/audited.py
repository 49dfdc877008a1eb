"""An audit as it is shown: its report, what lies beside it, and what its shadow models say.

Of models trained elsewhere there is the report and its archive alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from synpriv.audit.metrics import Bools, Floats, Roc, roc
from synpriv.report import pairs
from synpriv.results import canary_images, store, vouched

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
    nearest: dict[int, pairs.Shown]  # by canary image, the released image that comes nearest


def with_files(file: Path, report: Report, *, pictures: bool = True) -> Audited:
    """A whole report with all that lies beside it; each file is read once.

    pictures: whether images are looked for. KeyError for an archive without the statistic.
    """
    with np.load(file.with_suffix(".npz"), allow_pickle=False) as arrays:
        statistic, member = arrays["statistic"], arrays["member"]
    usable = np.isfinite(statistic)
    curve = roc(statistic[usable], member[usable])
    runs = [] if "evidence_file" in report else _runs(file.parent, report)
    canaries, nearest = None, {}
    if runs:
        canaries = _canaries(file.parent, report, runs[0], pictures=pictures)
        if pictures and "nearness" in report:
            nearest = _nearest(store.Cell(file.parent.parent, report["cell"], 0), report, runs)
    return Audited(report, curve, statistic, member, runs, canaries, nearest)


def _runs(folder: Path, report: Report) -> list[dict[str, Any]]:
    """metrics.json of the shadow models that are there, intact and this cell's."""
    found = [
        vouched.read_metrics(folder / str(seed) / store.METRICS)[0] for seed in report["seeds"]
    ]
    return [run for run in found if run is not None and run["cell"] == report["cell"]]


def _canaries(
    folder: Path, report: Report, run: dict[str, Any], *, pictures: bool
) -> Canaries | None:
    """Labels from the evidence of one run; images where the cell has kept them."""
    file = folder / str(run["seed"]) / store.EVIDENCE
    if not file.is_file():
        return None
    with np.load(file, allow_pickle=False) as arrays:
        labels, true_labels = arrays["labels"], arrays["true_labels"]
        groups = arrays["groups"] if "groups" in arrays.files else None
    images = canary_images.read(folder, report["canaries_sha256"]) if pictures else None
    return Canaries(labels, true_labels, groups, images)


def _nearest(
    cell: store.Cell, report: Report, runs: list[dict[str, Any]]
) -> dict[int, pairs.Shown]:
    """Of each canary the pair that is closest, of the runs that kept theirs."""
    seeds = [run["seed"] for run in runs]
    if seeds != report["seeds"]:  # else the models without a canary would not all be counted
        return {}
    kept = cell.pairs(seeds)
    if not kept:
        return {}
    distances, members = [], []
    for seed in seeds:
        with np.load(cell.run(seed) / store.EVIDENCE, allow_pickle=False) as arrays:
            distances.append(arrays["nearest"])
            members.append(arrays["member"])
    return pairs.best_of_each(kept, np.stack(distances, 1), np.stack(members, 1), seeds)
