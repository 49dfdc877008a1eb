"""Which label the released models give to the canaries themselves: it explains many a null row.

A model that never gives a canary its wrong label has not memorised it in the way that the attack on
that label looks for, however much else it may tell.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from synpriv.audit.evidence import Evidence

Shares = dict[str, float]
RARELY = 0.02  # of the members; about what a classifier's mistakes give anyway


def answers(evidence: Evidence) -> dict[str, Shares] | None:
    """Shares of the members ("in") and of the non-members ("out") that get their label.

    Keys `trained_label`, the one that the canary is trained on, and `true_label`. The answer is the
    largest logit of the canary itself (view 0), the first of equal ones. None without logits.
    """
    if evidence.logits is None:
        return None
    said = evidence.logits[:, :, 0].argmax(-1)  # [C,S]
    found = {}
    for name, labels in (("trained_label", evidence.labels), ("true_label", evidence.true_labels)):
        right = said == labels[:, None]
        sides = (("in", evidence.member), ("out", ~evidence.member))
        found[name] = {side: float(np.mean(right[members])) for side, members in sides}
    return found


def warnings_of(report: dict[str, Any], evidence: Evidence) -> list[str]:
    """Why a row without evidence of a leak has none, where the answers tell; empty if they do not.

    Said where no rate is above chance and members hardly ever get a label that is not their own.
    """
    if report["answers"] is None:
        return []
    shares = report["answers"]["trained_label"]
    wrong = (evidence.labels != evidence.true_labels).any()
    found = any(report[key]["above_chance"] for key in report if key.startswith("tpr@"))
    if found or not wrong or shares["in"] > max(RARELY, shares["out"]):
        return []
    true = report["answers"]["true_label"]
    return [
        f"the models give members their wrong label in {shares['in']:.1%} of the cases "
        f"(non-members {shares['out']:.1%}) and their true one in {true['in']:.1%} "
        f"({true['out']:.1%}): the wrong labels were not learnt, so an attack on them has little "
        "to see; no proof of privacy"
    ]
