"""What an audit says in words, with its reasons: decided by rates at a low FPR, never by the AUC.

A rate counts if its FPR is resolved: 1%, and 0.1% where that is resolved too. Where neither is, the
rate at 1% counts for a leak, at the FPR that is to be expected there, and never against one.
"""

from __future__ import annotations

import math
from typing import Any

from synpriv.audit.metrics import models_needed, needed
from synpriv.audit.null import ALPHA
from synpriv.report import content, marks, members, threat
from synpriv.report.html.shape import Kind, Verdict
from synpriv.results import flat

Report = dict[str, Any]
HEADLINE = marks.SHOWN[0]
WORDS: dict[Kind, str] = {
    "leak": "evidence of a leak",
    "none": "no evidence at this FPR",
    "unresolved": "not resolvable with these canaries and models",
}
FEW_MODELS = 16  # below it LiRA finds less than it could: docs/results.md
_NOT_LEARNT = 0.5  # of the members; below it a wrong label is seldom what a model answers


def verdict(report: Report) -> Verdict:
    """Of a report whose marks are corrected (`marks.corrected`), which alone decide."""
    found = above_chance(report)
    kind: Kind = "leak" if found else "none" if report[HEADLINE]["resolvable"] else "unresolved"
    reasons = [*_first(report, kind), *_of_rates(report, found)]
    weak = [] if kind == "leak" else what_weakens(report)
    return {
        "kind": kind,
        "words": WORDS[kind],
        "sentence": " ".join([*_contradiction(report), sentence(report, _told(report, found))]),
        "reasons": [*reasons, *weak],
    }


def above_chance(report: Report) -> list[str]:
    """Keys of the tested rates that are marked as above chance."""
    return [key for key in marks.tested(report) if report[key]["above_chance"]]


def _told(report: Report, found: list[str]) -> str:
    """The rate that the sentence is about: the headline unless only the stricter one is found."""
    return HEADLINE if HEADLINE in found or not found else found[0]


def sentence(report: Report, key: str) -> str:
    """One sentence: who, what of which canaries, at which FPR, in what data and models."""
    rate, (low, high) = report[key], report[key]["null_band"]
    fpr = fpr_of(key) if rate["resolvable"] else rate["expected_fpr"]
    reached = f"an{'' if rate['resolvable'] else ' expected'} FPR of {100 * fpr:.2g}%"
    private = report["data"]["num_private"]
    data = report["dataset"] + (f" ({private:,} private images)" if private else "")
    return (
        f"{threat.attacker(report)} finds {rate['tpr']:.1%} [{rate['low']:.1%}, "
        f"{rate['high']:.1%}] of the {members.canaries(report)} by {report['attack']} at "
        f"{reached}, where chance gives {low:.1%} to {high:.1%}: {report['method']} on {data}, "
        f"over {report['num_models']} {report['membership']} shadow models."
    )


def fpr_of(key: str) -> float:
    """0.01 of `tpr@fpr=0.01`."""
    return float(key.removeprefix("tpr@fpr="))


def _first(report: Report, kind: Kind) -> list[str]:
    """What must be read before all else: evidence beside the rates, then what is lacking."""
    reasons = _contradiction(report)
    auc = f"AUC {report['auc']:.3f} [{report['auc_low']:.3f}, {report['auc_high']:.3f}]"
    low, high = report["auc_null_band"]
    if kind != "leak" and flat.auc_above_chance(report):
        reasons.append(
            f"members score higher than non-members on average all the same ({auc}, chance "
            f"{low:.3f} to {high:.3f}, p = {report['auc_p']:.2g}): a leak is to be expected at "
            "larger FPRs, so this verdict is not `no leak`"
        )
    near = report.get("nearness")
    if near and near["above_chance"]:
        reasons.append(
            f"released images come nearer to members: {near['nearer']:,} of {near['pairs']:,} "
            f"pairs are nearer than in every model without the canary, chance gives "
            f"{near['chance']:.0f} (p = {near['p']:.2g}, by itself): evidence that the release "
            "depends on them, whatever the attack finds"
        )
    reasons += _of_bound(report)
    if kind == "unresolved":
        reasons.append(_what_would_resolve(report))
    if kind == "leak" and not report[HEADLINE]["resolvable"]:
        reasons.append(
            "no FPR of 1% or below is resolved here: the leak is evidence at the FPR that is "
            f"named, which no interval holds tightly; {_what_would_resolve(report)}"
        )
    if report["auc"] < low:
        reasons.append(
            f"below the null: {auc} is under the {low:.3f} to {high:.3f} that chance gives, so "
            "scores are inverted or biased, or this is the one audit in 40 where chance does it"
        )
    return reasons


def _what_would_resolve(report: Report) -> str:
    """How many canaries or models the headline asks for."""
    fpr, canaries, models = fpr_of(HEADLINE), report["num_canaries"], report["num_models"]
    what = "groups" if "groups" in report else "canaries"
    return (
        f"an FPR of {fpr:.0%} needs {needed(fpr):,} non-members and has {report['n_out']:,}: "
        f"{canaries:,} {what} x {models_needed(fpr, canaries):,} models, or "
        f"{math.ceil(2 * needed(fpr) / models):,} x {models}, would resolve it"
    )


def _of_rates(report: Report, found: list[str]) -> list[str]:
    """Each rate beside its chance band; of rates that are not tested only what is above it."""
    tested = marks.tested(report)
    every = (key for key in report if key.startswith("tpr@"))
    return [
        _of_rate(report[key], key, holds=key in found, tested=key in tested)
        for key in every
        if key in tested or report[key]["p"] <= ALPHA
    ]


def _of_rate(rate: dict[str, Any], key: str, *, holds: bool, tested: bool) -> str:
    low, high = rate["null_band"]
    words = "above chance" if holds else "not above chance, corrected as all marks are"
    if not tested:
        words = "above chance by itself, but not among what decides the verdict"
    at = f"{100 * fpr_of(key):g}% FPR"
    where = "" if rate["resolvable"] else f" (not resolved: expect {rate['expected_fpr']:.2%})"
    return (
        f"TPR at {at}{where}: {rate['tpr']:.1%} [{rate['low']:.1%}, {rate['high']:.1%}], chance "
        f"{low:.1%} to {high:.1%}, p = {rate['p']:.2g}: {words}"
    )


def refuted(report: Report) -> tuple[float, float] | None:
    """The valid bound of epsilon and what is proven, where the bound is above it; else None."""
    bound, proven = report.get("epsilon_bound"), proven_epsilon(report)
    return (bound, proven) if bound and proven is not None and bound > proven else None


def proven_epsilon(report: Report) -> float | None:
    """What a bound is of, of a group of images where members are groups; None: nothing finite."""
    proven: float | None = report.get("epsilon_group", report.get("epsilon"))
    return proven


def _contradiction(report: Report) -> list[str]:
    """That a proof does not hold, or the audit does not: one of both is wrong."""
    both = refuted(report)
    if both is None:
        return []
    return [
        f"The proof is contradicted: epsilon is at least {both[0]:.2f} (valid lower bound, 95%), "
        f"above the {both[1]:.3g} that is proven, so one of both must be wrong."
    ]


def _of_bound(report: Report) -> list[str]:
    """A valid bound above zero, which is evidence by itself; `_contradiction` says the rest."""
    bound, proven = report.get("epsilon_bound"), proven_epsilon(report)
    if not bound or refuted(report) is not None:
        return []
    words = f"epsilon is at least {bound:.2f} (valid lower bound, 95%, by itself)"
    return [words if proven is None else f"{words}; at most {proven:.3g} is proven"]


def what_weakens(report: Report) -> list[str]:
    """Why a null result says less than it seems: of the audit itself and of its shadow models."""
    reasons = []
    learnt = (report["answers"] or {}).get("trained_label")
    said = any("wrong labels were not learnt" in warning for warning in report["warnings"])
    if report["canary"] != "clean" and learnt and learnt["in"] < _NOT_LEARNT and not said:
        reasons.append(
            f"models that were given a canary answer its wrong label in {learnt['in']:.0%} of "
            f"cases (without it {learnt['out']:.0%}): what is hardly learnt can hardly be found"
        )
    if report["num_models"] < FEW_MODELS:
        reasons.append(
            f"{report['num_models']} shadow models: the attack finds more with {FEW_MODELS} or more"
        )
    wrong = content.wrong_labels(report)
    if wrong is not None and wrong > 0.1:
        reasons.append(f"{wrong:.0%} of the labels are wrong, which is another task")
    return reasons + [warning for warning in report["warnings"] if _weakens(warning)]


def _weakens(warning: str) -> bool:
    """Whether a warning is about what was attacked, and not about a figure of the report."""
    figures = ("tpr@", "AUC ", "accuracy is ", "epsilon")
    return not warning.startswith(figures)
