"""What the numbers of a report say in words: where a leak shows, where not, what is missing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from synpriv.audit.evidence import Evidence
from synpriv.audit.metrics import ENOUGH_FALSE_POSITIVES, allowed, models_needed, needed, resolvable
from synpriv.audit.null import ALPHA

Report = dict[str, Any]


def warnings_of(report: Report) -> list[str]:
    """What a reader must know of the rates, the AUC and the statistics, one sentence each.

    Empty if all rates and the AUC are above what chance gives and could be resolved.
    """
    rates = [key for key in report if key.startswith("tpr@")]
    missing = [key for key in rates if not report[key]["resolvable"]]
    found = [_unresolved(report, key) for key in missing]
    found += [
        f"{key} = {report[key]['tpr']:.4f} is no evidence of a leak at this FPR "
        f"(p = {report[key]['p']:.2g}): without any leak this audit reads "
        f"{_span(report[key]['null_band'])}"
        for key in rates
        if key not in missing and not report[key]["above_chance"]
    ]
    found += _of_auc(report, rates)
    if report["num_undefined"]:
        found.append(
            f"{report['num_undefined']} of {report['num_canaries'] * report['num_models']} "
            "statistics are not finite (too few shadow models on a side?) and left out of the ROC"
        )
    return found


def resolution(fprs: Sequence[float], sizes: Sequence[tuple[int, int]]) -> str:
    """What C canaries and S shadow models resolve, as lines of text: a table FPR x (C,S)."""
    head = "canaries x models" + "".join(f"{f'FPR {fpr:g}':>22}" for fpr in fprs)
    lines = [head]
    for canaries, models in sizes:
        n_out = canaries * models // 2
        words = [
            "yes" if resolvable(fpr, n_out) else f"no, {models_needed(fpr, canaries)} models would"
            for fpr in fprs
        ]
        lines.append(f"{f'{canaries} x {models}':<17}" + "".join(f"{word:>22}" for word in words))
    return "\n".join(lines)


def warnings_of_copies(evidence: Evidence) -> list[str]:
    """Released images that are canaries which the shadow model was not given."""
    if evidence.nearest is None:
        return []
    outside, what = ~evidence.member, "canary" if evidence.groups is None else "image"
    copies = int(((evidence.nearest == 0) & outside).sum())
    if not copies:
        return []
    return [
        f"{copies} of {outside.sum()} non-members ({what} x model) lie in the released images bit "
        "for bit: the generator saw what it was not given (all private data, or one set for all "
        "seeds), or the data hold copies; a copy of everything reads as no evidence of a leak"
    ]


def _unresolved(report: Report, key: str) -> str:
    """A rate whose FPR allows too few false positives: what it is, and what would resolve it."""
    rate, n_out = report[key], report["n_out"]
    fpr = float(key.removeprefix("tpr@fpr="))
    canaries, models = report["num_canaries"], report["num_models"]
    what = "groups" if "groups" in report else "canaries"
    verdict = "evidence of a leak" if rate["above_chance"] else "no evidence of a leak"
    return (
        f"{key} is not resolvable: {fpr:g} of {n_out:,} non-members allows "
        f"{allowed(fpr, n_out)} false positives, {ENOUGH_FALSE_POSITIVES} are needed "
        f"({canaries:,} {what} x {models_needed(fpr, canaries):,} models, or "
        f"{math.ceil(2 * needed(fpr) / models):,} x {models}); the attack finds {rate['tpr']:.1%} "
        f"[{rate['low']:.1%}, {rate['high']:.1%}] of the members at an expected FPR of "
        f"{rate['expected_fpr']:.2%}, p = {rate['p']:.2g}: {verdict} by itself"
    )


def _of_auc(report: Report, rates: list[str]) -> list[str]:
    """Where the AUC is below its band, or says something else than the rates do."""
    auc, p, (low, high) = report["auc"], report["auc_p"], report["auc_null_band"]
    band = f"the {low:.3f} to {high:.3f} that this audit reads without any leak"
    above = [key for key in rates if report[key]["above_chance"]]
    inside = [key for key in rates if key not in above]
    if auc < low:
        rest = f"; {_names(above)} {_is(above)} above chance all the same" if above else ""
        return [
            f"AUC {auc:.3f} is below {band}: members score lower than non-members, so scores are "
            f"inverted or biased, or this is the one audit in 40 where chance does it{rest}"
        ]
    if p <= ALPHA and inside:
        return [
            f"AUC {auc:.3f} is above {band} (p = {p:.2g}): evidence of a leak in the bulk by itself"
            f"; {_names(inside)} {_is(inside)} no more than chance gives"
        ]
    if p > ALPHA and above:
        return [
            f"AUC {auc:.3f} is inside {band} (p = {p:.2g}): no evidence of a leak in the bulk; "
            f"{_names(above)} {_is(above)} above chance: evidence of one in the tail by itself"
        ]
    return []


def _names(keys: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(keys[:-1]), keys[-1]]))


def _is(keys: list[str]) -> str:
    return "is" if len(keys) == 1 else "are"


def _span(band: list[float]) -> str:
    return f"{band[0]:.4f} to {band[1]:.4f}"
