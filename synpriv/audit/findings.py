"""What the numbers of a report say in words: where a leak shows, where not, what is missing."""

from __future__ import annotations

from typing import Any

from synpriv.audit.evidence import Evidence

Report = dict[str, Any]


def warnings_of(report: Report) -> list[str]:
    """What a reader must know of the rates, the AUC and the statistics, one sentence each.

    Empty if all rates and the AUC are above what chance gives and could be resolved.
    """
    rates = [key for key in report if key.startswith("tpr@")]
    missing = [key for key in rates if not report[key]["resolvable"]]
    found = _unresolved(report, missing) if missing else []
    found += [
        f"{key} = {report[key]['tpr']:.4f} is no evidence of a leak at this FPR: without any leak "
        f"this audit reads {_span(report[key]['null_band'])}"
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


def warnings_of_copies(evidence: Evidence) -> list[str]:
    """Released images that are canaries which the shadow model was not given."""
    if evidence.nearest is None:
        return []
    outside = ~evidence.member
    copies = int(((evidence.nearest == 0) & outside).sum())
    if not copies:
        return []
    return [
        f"{copies} of {outside.sum()} non-members (canary x model) lie in the released images bit "
        "for bit: the generator saw what it was not given (all private data, or one set for all "
        "seeds), or the data hold copies; a copy of everything reads as no evidence of a leak"
    ]


def _unresolved(report: Report, keys: list[str]) -> list[str]:
    """Rates whose FPR is below 1/n_out are all the same one: that at no false positive."""
    rate, n_out = report[keys[0]], report["n_out"]
    words = (
        f"{_names(keys)} {_is(keys)} not resolvable, the FPR is below 1/n_out = 1/{n_out}; "
        f"at 0 false positives of {n_out} the attack finds {rate['tpr']:.1%} "
        f"[{rate['low']:.1%}, {rate['high']:.1%}] of the members, "
    )
    band = f"{_span(rate['null_band'])} that this audit reads without any leak"
    if rate["above_chance"]:
        return [f"{words}above the {band}: evidence of a leak"]
    return [f"{words}no more than the {band}: no evidence of a leak"]


def _of_auc(report: Report, rates: list[str]) -> list[str]:
    """Where the AUC is below its band, or says something else than the rates do."""
    auc, (low, high) = report["auc"], report["auc_null_band"]
    band = f"the {low:.3f} to {high:.3f} that this audit reads without any leak"
    above = [key for key in rates if report[key]["above_chance"]]
    inside = [key for key in rates if key not in above]
    if auc < low:
        rest = f"; {_names(above)} {_is(above)} above chance all the same" if above else ""
        return [
            f"AUC {auc:.3f} is below {band}: members score lower than non-members, so scores are "
            f"inverted or biased, or this is the one audit in 40 where chance does it{rest}"
        ]
    if auc > high and inside:
        return [
            f"AUC {auc:.3f} is above {band}: evidence of a leak in the bulk; "
            f"{_names(inside)} {_is(inside)} no more than chance gives"
        ]
    if auc <= high and above:
        return [
            f"AUC {auc:.3f} is inside {band}: no evidence of a leak in the bulk; "
            f"{_names(above)} {_is(above)} above chance: evidence of one in the tail"
        ]
    return []


def _names(keys: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(keys[:-1]), keys[-1]]))


def _is(keys: list[str]) -> str:
    return "is" if len(keys) == 1 else "are"


def _span(band: list[float]) -> str:
    return f"{band[0]:.4f} to {band[1]:.4f}"
