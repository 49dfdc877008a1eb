"""From the evidence of a cell to its report: the attack, its ROC, intervals and the null."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from synpriv.audit import (
    answers,
    bounds,
    crossfit,
    findings,
    groups,
    metrics,
    nearness,
    null,
    one_run,
)
from synpriv.audit.evidence import Evidence
from synpriv.audit.intervals import draws, intervals
from synpriv.audit.metrics import Bools
from synpriv.audit.reselection import reselected
from synpriv.audit.scores import Floats

FPRS = (0.001, 0.01, 0.1)
BOOTSTRAP_ROUNDS = 2000
Attack = Callable[[Evidence], Floats | Mapping[str, Floats]]


def audit(
    attack: Attack,
    evidence: Evidence,
    *,
    delta: float = 0.0,
    proven: float | None = None,
    audit_seed: int = 0,
    null_rounds: int = null.ROUNDS,
    bootstrap_rounds: int = BOOTSTRAP_ROUNDS,
    workers: int = 1,
) -> tuple[dict[str, Any], Floats]:
    """Attack a cell: the report's statistical part, and the statistic [C,S], of groups [G,S].

    An attack of several variants is audited as a whole: the choice among them is made again in
    every round of the null and of the bootstrap. Canaries with too few shadow models on a side
    have no statistic (NaN); they are counted in the report, never dropped silently. So are infinite
    ones of an attack of your own. Epsilon is read at `delta`; `proven` is the method's own, and
    `audit_seed` divides the models for a valid bound. workers: threads for the rounds of null and
    bootstrap, of which no number depends.
    """
    attack = groups.per_group(attack)
    variants = _run(attack, evidence)
    stacked, member = np.stack(list(variants.values())), evidence.bits
    if not np.isfinite(stacked).any(axis=(1, 2)).all():
        raise ValueError("the attack gave no finite statistic: too few shadow models are there")
    statistic, chosen = crossfit.combine(stacked, member)
    usable = np.isfinite(statistic)
    n_out = int((usable & ~member).sum())
    sure = _intervals(stacked, statistic, evidence, rounds=bootstrap_rounds, workers=workers)
    chance = null.randomisation(
        lambda bits: crossfit.statistic_of(_run(attack, evidence.with_member(bits)), bits),
        evidence,
        metrics.readings(statistic, member, FPRS),
        FPRS,
        rounds=null_rounds,
        workers=workers,
    )
    report = {
        "num_canaries": statistic.shape[0],
        "num_models": statistic.shape[1],
        **groups.report(evidence),
        "n_in": int((usable & member).sum()),
        "n_out": n_out,
        "num_undefined": int((~usable).sum()),
        "membership": evidence.design,
        **_rates(statistic[usable], member[usable], sure, chance),
        **_area(statistic[usable], member[usable], sure[-1], chance),
        "null_rounds": len(chance.readings),
        "balanced_accuracy": metrics.balanced_accuracy(statistic[usable], member[usable]),
        **bounds.report(statistic, member, delta=delta),
        **one_run.report(attack, evidence, delta=delta, proven=proven, seed=audit_seed),
        "most_exposed": _ranking(metrics.effect_size(statistic, member)),
        "most_exposed_null": chance.most_exposed,
        **_of_variants(variants, member, chosen),
        "answers": answers.answers(evidence),
        **({} if evidence.nearest is None else {"nearness": nearness.nearness(evidence)}),
        "definitions": _definitions(len(chance.readings), bootstrap_rounds, evidence),
    }
    return report | {"warnings": _warnings(report, evidence)}, statistic


def _warnings(report: dict[str, Any], evidence: Evidence) -> list[str]:
    found = [*findings.warnings_of_copies(evidence), *findings.warnings_of(report)]
    return found + answers.warnings_of(report, evidence)


def _intervals(
    variants: Floats, statistic: Floats, evidence: Evidence, *, rounds: int, workers: int
) -> Floats:
    """Of the TPR at each FPR, or at the one to be expected where that is too strict, and the AUC.

    Float64 [F+1,2]. The statistic [C,S] (of groups [G,S]) is the choice among variants [V,C,S].
    """
    member = evidence.bits
    cluster = evidence.pair if evidence.design == "paired" else np.arange(member.shape[1])
    n_out = int((np.isfinite(statistic) & ~member).sum())
    asked = [f if metrics.resolvable(f, n_out) else metrics.expected_fpr(f, n_out) for f in FPRS]
    drawn = draws(len(member), cluster, rounds=rounds)
    sampled = reselected(variants, member, asked, drawn, workers=workers)
    return intervals(statistic, member, cluster, asked, sampled)


def _run(attack: Attack, evidence: Evidence) -> dict[str, Floats]:
    """The statistic of each variant by name, NaN where it is not finite."""
    found = attack(evidence)
    variants = dict(found) if isinstance(found, Mapping) else {"": found}
    for values in variants.values():
        if values.shape != evidence.bits.shape:
            raise ValueError(f"attack gave {values.shape}, must be [C,S] {evidence.bits.shape}")
    return {name: np.where(np.isfinite(v), v, np.nan) for name, v in variants.items()}


def _rates(values: Floats, truth: Bools, sure: Floats, chance: null.Null) -> dict[str, Any]:
    """The TPR at each FPR; sure [F+1,2] holds the intervals."""
    found = {}
    for index, fpr in enumerate(FPRS):
        point = metrics.operating_point(values, truth, fpr)
        found[f"tpr@fpr={fpr:g}"] = {
            "tpr": point.tpr,
            "low": float(sure[index, 0]),
            "high": float(sure[index, 1]),
            "fpr": point.fpr,
            "expected_fpr": point.expected_fpr,
            "false_positives": point.false_positives,
            "threshold": point.threshold if np.isfinite(point.threshold) else None,
            "null_band": chance.band(index),
            "p": float(chance.p[index]),
            "above_chance": bool(chance.p[index] <= null.ALPHA),
            "resolvable": metrics.resolvable(fpr, point.n_out),
        }
    return found


def _area(values: Floats, truth: Bools, sure: Floats, chance: null.Null) -> dict[str, Any]:
    """The AUC; sure [2] holds its interval."""
    return {
        "auc": metrics.auc(values, truth),
        "auc_low": float(sure[0]),
        "auc_high": float(sure[1]),
        "auc_p": float(chance.p[-1]),
        "auc_null_band": chance.band(-1),
        "null_auc": float(chance.readings[:, -1].mean()),
    }


def _of_variants(
    variants: dict[str, Floats], member: Bools, chosen: np.ndarray
) -> dict[str, dict[str, Any]]:
    """What each variant reads on its own, and the share of canaries that it judged; {} if one."""
    if len(variants) == 1:
        return {"variants": {}, "variants_chosen": {}}
    keys = [*(f"tpr@fpr={fpr:g}" for fpr in FPRS), "auc"]
    return {
        "variants": {
            name: dict(zip(keys, metrics.readings(v, member, FPRS).tolist(), strict=True))
            for name, v in variants.items()
        },
        "variants_chosen": {
            name: float((chosen == index).mean()) for index, name in enumerate(variants)
        },
    }


def _definitions(null_rounds: int, bootstrap_rounds: int, evidence: Evidence) -> dict[str, str]:
    """What the report's keys mean, in words."""
    return {
        "tpr": "largest with FPR <= target, no interpolation, all canaries x models pooled",
        "expected_fpr": "(k+1)/(n_out+1), k = floor(FPR n_out): what the threshold that allows "
        "k false positives lets through among new non-members",
        "resolvable": f"FPR * n_out >= {metrics.ENOUGH_FALSE_POSITIVES}; else the interval is of "
        "the TPR at expected_fpr, and its coverage is not claimed",
        "interval": "95%, of the TPR at that population FPR and of the AUC: canaries x pairs (or "
        f"models) drawn anew, the variant chosen anew, {bootstrap_rounds} rounds, scaled to the "
        "two-way standard error; a rate's contains the binomial one",
        "p": f"one-sided, membership drawn anew {null_rounds} times and the whole attack run: "
        f"(1 + exceedances)/(1 + rounds), or {null.ENOUGH}/l where exceedance {null.ENOUGH} came "
        "at round l (Besag and Clifford 1991)",
        "above_chance": f"p <= {null.ALPHA}, not corrected for the number of rates or cells",
        "null_band": f"central 95% of those {null_rounds} rounds",
        "variants": "each on its own; the report's figures are those of the cross-fitted choice",
        "balanced_accuracy": "best threshold on these data",
        "epsilon_audited": "estimate from below, 95%, thresholds from other canaries; "
        "no bound: leave-one-out statistics are not independent",
        "epsilon_gdp": bounds.ASSUMES,
        "epsilon_bound_assumes": one_run.ASSUMES,
        "most_exposed": "canary and effect size (mean IN - mean OUT) / pooled sd",
        "most_exposed_null": "what the most exposed of so many canaries reads by chance: the 95% "
        "point of the largest effect size over the null's rounds",
    } | groups.definitions(evidence)


def _ranking(effects: Floats, num: int = 10) -> list[list[float]]:
    """The canaries of largest effect size: [index, effect] pairs."""
    order = np.argsort(-np.nan_to_num(effects, nan=-np.inf), kind="stable")[:num]
    return [[int(i), round(float(effects[i]), 4)] for i in order if np.isfinite(effects[i])]


def mean_and_sd(values: Sequence[float]) -> dict[str, float]:
    """Mean and standard deviation over shadow models (0 for a single one)."""
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": float(np.mean(values)), "sd": sd, "n": len(values)}
