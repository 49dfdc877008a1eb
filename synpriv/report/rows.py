"""Audits as rows of figures: the same columns in report.csv and in data frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from synpriv.report import marks, verdict
from synpriv.results import flat, names

Report = dict[str, Any]
_ABOUT = ("cell", "name", "method", "dataset", "canary", "attack", "membership")
_PROOF = ("noise_multiplier", "sample_rate", "steps", "max_grad_norm", "num_trials", "delta")
_ALWAYS = ("epsilon", "epsilon_tuned", *_PROOF)  # also where no audit is of a DP method


def rows(reports: Sequence[Report], marked: Sequence[Report] | None = None) -> list[Report]:
    """One row per audit, all with the same columns: None where a report has no such figure.

    marked: the reports with marks that hold over all that is shown, which decide the verdict; None:
    over these. Every other figure is that of the audit alone. An epsilon of infinity: no noise.
    """
    if marked is None:
        marked, _ = marks.corrected(reports)
    every = [flat.flatten(report) for report in reports]
    numbers = list(dict.fromkeys(key for one in every for key in one))
    rest = [key for key in _ALWAYS if key not in numbers]
    found = []
    called = names.distinct_methods(reports)
    for report, its, one, name in zip(reports, marked, every, called, strict=True):
        about = {key: report.get(key) for key in _ABOUT} | {"name": name}
        figures = dict.fromkeys(numbers) | {key: report.get(key) for key in rest} | one
        if "epsilon" in report and report["epsilon"] is None:
            figures["epsilon"] = math.inf
        last = {
            "verdict": verdict.verdict(its)["kind"],
            "provenance": ", ".join(report["provenance"]),
        }
        found.append(about | figures | last)
    return found
