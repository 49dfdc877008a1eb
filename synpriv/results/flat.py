"""A report as one flat number per key, for tables, data frames and dashboards."""

from __future__ import annotations

from typing import Any

from synpriv.audit.null import ALPHA

Report = dict[str, Any]
EPSILONS = (
    *("epsilon", "epsilon_tuned", "epsilon_group"),
    *("epsilon_audited", "epsilon_audited_largest", "epsilon_gdp"),
    *("epsilon_bound", "epsilon_bound_largest", "epsilon_bound_at_proven"),
)


def auc_above_chance(report: Report) -> bool:
    """Whether its AUC is marked as above chance, corrected if the report is of `corrected`."""
    return bool(report.get("auc_above_chance", report["auc_p"] <= ALPHA))


def admitted(report: Report) -> bool:
    """Whether its accuracy is what its study asks for; of a study that asks for none it is."""
    asked = report.get("admission")
    return asked is None or (report["accuracy"] is not None and report["accuracy"]["mean"] >= asked)


def flatten(report: Report) -> dict[str, Any]:
    """What a dashboard or a spreadsheet compares: one flat number per key, 0 or 1 for yes and no.

    `above_chance` and `p` belong beside every rate: without them one without any leak reads as a
    finding. Keys of what a report has not are left out.
    """
    low, high = report["auc_null_band"]
    flat: dict[str, Any] = {"auc": report["auc"], "auc/low": report["auc_low"]}
    flat |= {"auc/high": report["auc_high"], "auc/p": report["auc_p"]}
    flat |= {"auc/null_low": low, "auc/null_high": high}
    flat |= {"auc/above_chance": int(auc_above_chance(report))}
    for key in (name for name in report if name.startswith("tpr@")):
        flat |= _flat_rate(key, report[key])
    if accuracy := report["accuracy"]:
        flat |= {"accuracy": accuracy["mean"], "accuracy/se": accuracy["se"]}
        flat |= {"accuracy/wrong_labels": accuracy["wrong_labels"]}
    if reached := report["test_accuracy"]:
        measured = f"{report['data'].get('evaluated_on', 'test')}_accuracy"
        flat |= {measured: reached["mean"], f"{measured}/sd": reached["sd"]}
    if seconds := report["train_s"]:
        flat |= {"train_s": seconds["mean"]}
    flat |= {key: report[key]["mean"] for key in ("train_flops", "peak_mb") if key in report}
    for label, sides in (report["answers"] or {}).items():
        flat |= {f"answers/{label}/{side}": share for side, share in sides.items()}
    if near := report.get("nearness"):
        flat |= {f"nearness/{key}": float(value) for key, value in near.items()}
    if selected := report.get("canary_selection_rate"):
        flat["canary_selection_rate"] = selected["mean"]
    flat |= {f"quality/{key}": value for key, value in report.get("quality", {}).items()}
    flat |= {key: report[key] for key in EPSILONS if report.get(key) is not None}
    counts = ("n_in", "n_out", "num_models", "num_canaries")
    flat |= {key: report[key] for key in ("balanced_accuracy", *counts)}
    flat |= {f"groups/{key}": value for key, value in report.get("groups", {}).items()}
    if "admission" in report:
        flat["admitted"] = int(admitted(report))
    return flat | {"partial": int(report["partial"])}


def _flat_rate(key: str, rate: dict[str, Any]) -> dict[str, Any]:
    ends = ("low", "high", "fpr", "expected_fpr", "p")
    flat = {key: rate["tpr"]} | {f"{key}/{end}": rate[end] for end in ends}
    flat |= dict(zip((f"{key}/null_low", f"{key}/null_high"), rate["null_band"], strict=True))
    return flat | {f"{key}/{end}": int(rate[end]) for end in ("above_chance", "resolvable")}
