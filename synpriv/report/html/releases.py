"""May it be released? A plain line for each way of training, for whoever reads no table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from synpriv.audit.metrics import models_needed
from synpriv.report.html.shape import Kind, Release, Verdict
from synpriv.report.verdict import HEADLINE, above_chance, fpr_of, refuted
from synpriv.results import flat, names, vouched

Report = dict[str, Any]
BASELINE = "undefended"
_WORST: tuple[Kind, ...] = ("leak", "unresolved", "none")
_ASKED = ("canary.", "attack.")  # settings of the question, not of what is released


def releases(reports: Sequence[Report], verdicts: Sequence[Verdict]) -> list[Release]:
    """One per method, settings and data, its audits together: the worst verdict is what counts.

    Those with the worst verdict first, what is undefended last: that is no release.
    """
    groups: dict[str, list[int]] = {}
    for place, report in enumerate(reports):
        groups.setdefault(_trained(report), []).append(place)
    first = [reports[places[0]] for places in groups.values()]
    asked = {"canary": "", "attack": "", "attack_options": {}}
    named = names.distinct_methods([r | asked | {"settings": _settings(r)} for r in first])
    found = []
    for name, places in zip(named, groups.values(), strict=True):
        audits = [(i, reports[i], verdicts[i]) for i in places]
        audits.sort(key=lambda one: (_WORST.index(one[2]["kind"]), -one[1][HEADLINE]["tpr"]))
        found.append(_release(name, audits))
    return sorted(found, key=lambda one: (one["baseline"], _WORST.index(one["kind"])))


def _trained(report: Report) -> str:
    """The same for audits of one way of training on the same data."""
    own = _settings(report) or report["cell"]  # models trained elsewhere have no settings
    return vouched.json_sha256([report["method"], report["data"]["sha256"], own])


def _settings(report: Report) -> dict[str, Any]:
    return {k: v for k, v in report["settings"].items() if not k.startswith(_ASKED)}


def _release(name: str, audits: Sequence[tuple[int, Report, Verdict]]) -> Release:
    """audits: place, report and verdict of each; the worst first, which is what is told."""
    _, worst, verdict = audits[0]
    baseline, kind = worst["method"] == BASELINE, verdict["kind"]
    advice = [_ADVICE[kind], *_all_the_same(worst, kind)]
    others = [f"by {report['attack']}: {said['words']}" for _, report, said in audits[1:]]
    decides = f"The worst of {len(audits)} audits, by {worst['attack']}; {'; '.join(others)}."
    return {
        "name": f"{name} ({worst['dataset']})",
        "baseline": baseline,
        "kind": kind,
        "words": verdict["words"],
        "cells": [f"c{place}" for place, *_ in audits],
        "found": in_plain_words(worst, kind),
        "advice": "" if baseline else " ".join(advice),
        "audits": decides if others else "",
        "partial": any(report["partial"] for _, report, _ in audits),
    }


_ADVICE: dict[Kind, str] = {
    "leak": "Do not release it as protected.",
    "none": "This audit found nothing; that is no proof.",
    "unresolved": "Nothing can be said yet.",
}


def in_plain_words(report: Report, kind: Kind) -> str:
    """What an audit found, as somebody would say it who does not speak of rates."""
    found = above_chance(report)
    key = HEADLINE if HEADLINE in found or not found else found[0]
    rate = report[key]
    if kind == "leak":
        alarm = fpr_of(key) if rate["resolvable"] else rate["expected_fpr"]
        share = _share(rate["tpr"], _who(report))
        return f"{share} found, at one false alarm in about {round(1 / alarm):,}."
    at = f"one false alarm in {round(1 / fpr_of(HEADLINE))}"
    if kind == "none":
        most = _share(rate["high"], _who(report))
        return (
            f"No more is found than by chance, at {at}. Not excluded: that "
            f"{most[0].lower()}{most[1:]} found."
        )
    what = "groups" if "groups" in report else "canaries"
    models = models_needed(fpr_of(HEADLINE), report["num_canaries"])
    return (
        f"Too little was audited for an answer at {at}: {report['num_canaries']:,} {what} x "
        f"{models:,} models would do, {report['num_models']:,} were there."
    )


def _who(report: Report) -> str:
    images = "groups of images" if "groups" in report else "images"
    return f"{'worst-case' if report['canary'] == 'mislabelled' else 'tested'} {images}"


def _share(share: float, who: str) -> str:
    """`About 1 in 6 of the worst-case images is`; ends with the verb."""
    if share >= 0.95:
        return f"{'All' if share == 1 else 'Nearly all'} of the {who} are"
    if share > 0.25:
        return f"About {round(10 * share)} in 10 of the {who} are"
    if share == 0:
        return f"None of the {who} is"
    return f"About 1 in {round(1 / share):,} of the {who} is"


def _all_the_same(report: Report, kind: Kind) -> list[str]:
    """What a verdict without a leak must not hide, and a proof that does not hold."""
    signs = []
    if kind != "leak" and flat.auc_above_chance(report):
        signs.append("members score higher than others on average")
    if kind != "leak" and (report.get("nearness") or {}).get("above_chance"):
        signs.append("released images come nearer to members")
    if refuted(report) is not None:
        signs.append("its proven epsilon is contradicted")
    return [f"Yet {' and '.join(signs)}: read why before you decide."] if signs else []
