"""From the evidence of a cell to its report: the attack, its ROC, intervals and the null band."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from synpriv.audit import answers, bounds, crossfit, findings, metrics, nearness
from synpriv.audit.evidence import Evidence
from synpriv.audit.scores import Floats

FPRS = (0.001, 0.01, 0.1)
Attack = Callable[[Evidence], Floats | Mapping[str, Floats]]


def audit(
    attack: Attack, evidence: Evidence, *, delta: float = 0.0, null_rounds: int = 100
) -> tuple[dict[str, Any], Floats]:
    """Attack a cell: the report's statistical part, and the statistic [C,S].

    Canaries with too few shadow models on a side have no statistic (NaN); they are counted in the
    report, never dropped silently. So are infinite ones of an attack of your own. Epsilon is
    estimated at `delta`.
    """
    statistic = crossfit.statistic_of(attack(evidence), evidence.member)
    if statistic.shape != evidence.member.shape:
        raise ValueError(f"attack gave {statistic.shape}, must be [C,S] {evidence.member.shape}")
    usable = np.isfinite(statistic)
    if not usable.any():
        raise ValueError("the attack gave no finite statistic: too few shadow models are there")
    values, member = statistic[usable], evidence.member[usable]
    masked = np.where(usable, statistic, np.nan)
    asked = [fpr if _resolvable(fpr, member) else metrics.NO_FALSE_POSITIVE for fpr in FPRS]
    intervals = metrics.cluster_interval(masked, evidence.member, asked)
    null = metrics.null_readings(
        lambda shuffled: _finite(
            crossfit.statistic_of(attack(evidence.with_member(shuffled)), shuffled)
        ),
        evidence.member,
        FPRS,
        rounds=null_rounds,
        partners=evidence.partners if evidence.design == "paired" else None,
    )
    rates = {
        f"tpr@fpr={fpr:g}": _rate(values, member, fpr, interval, at_null)
        for fpr, interval, at_null in zip(FPRS, intervals, null.T[:-1], strict=True)
    }
    refuted = bounds.audited(masked, evidence.member, delta=delta)
    report = {
        "num_canaries": statistic.shape[0],
        "num_models": statistic.shape[1],
        "n_in": int(member.sum()),
        "n_out": int((~member).sum()),
        "num_undefined": int((~usable).sum()),
        **rates,
        "auc": metrics.auc(values, member),
        "null_auc": float(null[:, -1].mean()),
        "auc_null_band": _band(null[:, -1]),
        "balanced_accuracy": metrics.balanced_accuracy(values, member),
        "epsilon_audited": refuted.epsilon,
        "epsilon_audited_largest": refuted.largest,
        "epsilon_audited_delta": delta,
        "most_exposed": _ranking(metrics.effect_size(masked, evidence.member)),
        "answers": answers.answers(evidence),
        **({} if evidence.nearest is None else {"nearness": nearness.nearness(evidence)}),
        "definitions": {
            "tpr": "largest with FPR <= target, no interpolation, all canaries x models pooled",
            "resolvable": "FPR * n_out >= 1; else the rate is that at 0 false positives",
            "interval": "95%, canary x model cluster bootstrap, 1000 rounds, "
            "no narrower than binomial",
            "null_band": f"central 95% of {null_rounds} rounds with shuffled membership",
            "balanced_accuracy": "best threshold on these data",
            "epsilon_audited": "estimate from below, 95%, thresholds from other canaries; "
            "no bound: leave-one-out statistics are not independent",
            "most_exposed": "canary and effect size (mean IN - mean OUT) / pooled sd",
        },
    }
    warnings = [*findings.warnings_of_copies(evidence), *findings.warnings_of(report)]
    warnings += answers.warnings_of(report, evidence)
    return report | {"warnings": warnings}, statistic


def _finite(statistic: Floats) -> Floats:
    return np.where(np.isfinite(statistic), statistic, np.nan)


def _rate(
    values: Floats, member: np.ndarray, fpr: float, interval: Floats, at_null: Floats
) -> dict[str, Any]:
    point = metrics.operating_point(values, member, fpr)
    band = _band(at_null)
    return {
        "tpr": point.tpr,
        "low": float(interval[0]),
        "high": float(interval[1]),
        "fpr": point.fpr,
        "false_positives": point.false_positives,
        "threshold": point.threshold if np.isfinite(point.threshold) else None,
        "null_band": band,
        "above_chance": point.tpr > band[1],
        "resolvable": _resolvable(fpr, member),
    }


def _resolvable(fpr: float, member: np.ndarray) -> bool:
    """Whether a threshold can have a false positive and an FPR of at most `fpr`."""
    return bool(fpr * np.count_nonzero(~member) >= 1)


def _band(at_null: Floats) -> list[float]:
    """The central 95% of what is read without a leak."""
    low, high = np.quantile(at_null, [0.025, 0.975])
    return [float(low), float(high)]


def _ranking(effects: Floats, num: int = 10) -> list[list[float]]:
    """The canaries of largest effect size: [index, effect] pairs."""
    order = np.argsort(-np.nan_to_num(effects, nan=-np.inf), kind="stable")[:num]
    return [[int(i), round(float(effects[i]), 4)] for i in order if np.isfinite(effects[i])]


def mean_and_sd(values: Sequence[float]) -> dict[str, float]:
    """Mean and standard deviation over shadow models (0 for a single one)."""
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": float(np.mean(values)), "sd": sd, "n": len(values)}
