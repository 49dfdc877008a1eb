"""What a report says beside the statistics: accuracy, cost, guarantee, and what to beware of."""

from __future__ import annotations

import math
from typing import Any

from synpriv import guarantee
from synpriv.audit import audit, quality, released
from synpriv.data import sets
from synpriv.data.draws import FEW_WRONG, wrong_label_share

Report = dict[str, Any]
CLEAN = "clean canaries"  # a source of accuracy
_WITHOUT = ": a sweep (-m) with accuracy_models=4 measures it without"
MECHANISM = ("delta", "noise_multiplier", "sample_rate", "steps", "max_grad_norm", "accountant")


def warnings_of(num_models: int, runs: list[dict[str, Any]], report: Report) -> list[str]:
    """What the reader must know of the shadow models behind a report."""
    found = [_about_part(num_models, runs, report)] if report["partial"] else []
    reached = report["test_accuracy"]["mean"]
    chance = max(runs[0]["data"]["class_sizes"]) / runs[0]["data"]["num_private"]
    if reached < 1.1 * chance:
        found.append(
            f"test accuracy {reached:.3f} is about what naming the largest class gives "
            f"({chance:.3f}): a classifier that has learnt nothing leaks nothing"
        )
    found += [f"data: {warning}" for warning in runs[0]["data"]["warnings"]]
    found += _about_synthetic_sets(runs, chance)
    found += sets.about_claims([run.get("set", {}).get("says_itself", True) for run in runs])
    if "quality" in report and "student" in runs[0]["stages"]:  # images are all that it learnt from
        found += quality.warnings_of(report["quality"])
    starts = {run["builds_on"].get("public_model", {}).get("sha256") for run in runs}
    if len(starts) > 1:
        found.append(f"the shadow models started from {len(starts)} different public models")
    on_cpu = [run["seed"] for run in runs if run.get("device") == "cpu"]
    if 0 < len(on_cpu) < len(runs):
        found.append(
            f"{len(on_cpu)} of {len(runs)} shadow models were trained on a CPU (seeds "
            f"{_some(on_cpu)}), the others on a GPU: their arithmetic differs in the last bits"
        )
    versions: dict[str | None, list[int]] = {}
    for run in runs:
        versions.setdefault(run.get("code_sha256"), []).append(run["seed"])
    if len(versions) > 1:
        groups = " | ".join(_some(seeds) for seeds in versions.values())
        found.append(
            f"the shadow models were trained by {len(versions)} versions of the code: seeds "
            f"{groups}; move the cell away and train again, or make sure that they agree"
        )
    return found


def warnings_of_accuracy(report: Report) -> list[str]:
    """What the reader must know of the accuracy in a report."""
    accuracy, found = report["accuracy"], []
    there = report.get("settings", {}).get("method._target_") == "Precomputed"
    if accuracy["source"] != CLEAN and accuracy["wrong_labels"] > FEW_WRONG:
        found.append(
            f"accuracy is that under {accuracy['wrong_labels']:.1%} wrong labels, the canaries'"
            f"{'' if there or report.get('canary') == 'path' else _WITHOUT}"
        )
    if report["data"].get("evaluated_on") == "validation":
        found.append("accuracy is on validation images; the test set was not looked at")
    return found


def _about_part(num_models: int, runs: list[dict[str, Any]], report: Report) -> str:
    """What an incomplete cell means for an audit, which depends on how membership was drawn."""
    there = f"partial: {len(runs)} of {num_models} shadow models"
    if report["membership"] == "balanced":
        return (
            f"{there}, rows are not balanced and not equalised; "
            f"without any leak this audit reads AUC {report['null_auc']:.3f}"
        )
    if report["membership"] == "paired":
        whole = len(runs) - len({run["seed"] // 2 for run in runs})
        return f"{there}; references are the {whole} whole pairs (seeds 2p and 2p + 1) alone"
    return there


def _about_synthetic_sets(runs: list[dict[str, Any]], largest_class: float) -> list[str]:
    """Saturated, collapsed and equal synthetic sets; nothing where none are released."""
    facts = [run["synthetic"] for run in runs if run.get("synthetic")]
    if not facts:
        return []
    provenance = runs[0]["provenance"]
    return released.warnings_of_cell(facts, largest_class=largest_class, provenance=provenance)


def _some(seeds: list[int], num: int = 6) -> str:
    more = f",... ({len(seeds)})" if len(seeds) > num else ""
    return ",".join(map(str, seeds[:num])) + more


def from_runs(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Cost over the shadow models, and what they saw."""
    found = {
        "train_s": audit.mean_and_sd([run["train_s"] for run in runs]),
        "provenance": runs[0]["provenance"],
        "data": runs[0]["data"],
        "canaries_sha256": runs[0]["canaries_sha256"],
    }
    counts = [run["train_flops"] for run in runs if run.get("train_flops") is not None]
    if len(counts) == len(runs):  # an older run does not say
        found["train_flops"] = audit.mean_and_sd(counts)
    stages = [list(run.get("stages", {}).values()) for run in runs]
    peaks = [[stage["peak_mb"] for stage in own if "peak_mb" in stage] for own in stages]
    if all(peaks):
        found["peak_mb"] = audit.mean_and_sd([max(own) for own in peaks])
    if source := runs[0].get("canary_source"):
        found["canary_source"] = source
    selected = "canary_selection_rate"  # of a coreset
    if rates := [run[selected] for run in runs if run.get(selected) is not None]:
        found[selected] = audit.mean_and_sd(rates)
    if images := [run["quality"] for run in runs if run.get("quality")]:
        found["quality"] = quality.mean(images)
    return found


def accuracy_of(
    canary: str,
    num_canaries: int,
    runs: list[dict[str, Any]],
    clean: list[dict[str, Any]],
    *,
    num_wrong: int = 0,
) -> dict[str, Any]:
    """Accuracy of the audited models, and that of the method: of clean-canary runs if there are.

    num_canaries: images; num_wrong: as `wrong_label_share` takes it.
    """
    num_test, seen = runs[0]["data"]["num_test"], runs[0]["data"]
    if any(run["data"]["sha256"] != seen["sha256"] for run in clean):
        raise ValueError(
            f"{clean[0]['cell']} was trained on other data than {runs[0]['cell']}; move it away"
        )
    audited = measured([_reached(run) for run in runs], num_test)
    good_for = measured([_reached(run) for run in clean], num_test) if clean else audited
    return {
        "test_accuracy": audited,
        "accuracy": {
            **{key: good_for[key] for key in ("mean", "se", "half", "n")},
            "source": CLEAN if clean else "audited models",
            "wrong_labels": wrong_label_share(
                canary, num_canaries, seen["num_private"], num_wrong=num_wrong
            ),
        },
    }


def _reached(run: dict[str, Any]) -> float:
    """Accuracy of a run; once that on validation images was called by the other name too."""
    on_validation = run.get("validation_accuracy")
    return run["test_accuracy"] if on_validation is None else on_validation


def measured(accuracies: list[float], num_test: int) -> dict[str, Any]:
    """Mean, sd over n models, standard error and half of the 95% interval of their accuracies.

    se^2 = sd^2 / n + p (1 - p) / num_test: models are drawn anew, and so are the test images, which
    all models share, so that more models do not make up for few images. The first term holds some
    of the second one's noise already, so it is rather too large. Few models make it uncertain:
    Student's t with Satterthwaite's degrees of freedom. Of one model sd counts as 0.
    """
    from scipy.special import stdtrit  # seconds, which whoever shows a report does without

    over = audit.mean_and_sd(accuracies)
    mean, of_models = over["mean"], over["sd"] ** 2 / over["n"]
    variance = of_models + mean * (1 - mean) / num_test
    degrees = (over["n"] - 1) * (variance / of_models) ** 2 if of_models else math.inf
    se = math.sqrt(variance)
    return {**over, "se": se, "half": float(stdtrit(min(degrees, 1e9), 0.975)) * se}


def guarantee_of(
    runs: list[dict[str, Any]], num_trials: float, distribution: str
) -> dict[str, Any]:
    """Epsilon of the training and of the tuned procedure, for a method that has one.

    Nothing in it depends on a seed. `epsilon` null: training adds no noise, there is no guarantee.
    `epsilon_tuned` null: no tuning was declared. `epsilon_group`: of the largest group of images,
    where the private set has groups; all others are of one image. `epsilon_at_most`: more Renyi
    orders would show a smaller epsilon, which goes for runs of a time when the orders ended at
    1.0001.
    """
    if "epsilon" not in runs[0]:
        return {}
    first = runs[0]
    if not all(_same(run[key], first[key]) for run in runs for key in MECHANISM):
        raise ValueError(f"the runs of {first['cell']} differ in their guarantee; train them again")
    # Runs of one mechanism may have been accounted on different orders: each proof holds for all.
    first = min(runs, key=lambda run: (run["epsilon_rdp"] or 0.0, run["epsilon"] or 0.0))
    curve, tuned = first["renyi"], None
    if first["epsilon"] is not None and num_trials > 1:
        tuned = guarantee.tuned(
            curve["orders"],
            curve["divergences"],
            first["delta"],
            num_trials=num_trials,
            distribution=distribution,
        )
    by_renyi = first["epsilon"] is not None and first["accountant"] == "rdp"
    loose = guarantee.is_loose(curve["orders"], curve["divergences"], first["delta"])
    return {key: first[key] for key in ("epsilon", "epsilon_rdp", *MECHANISM)} | {
        **_of_largest_group(first),
        "epsilon_at_most": by_renyi and loose,
        "epsilon_tuned": tuned,
        "num_trials": num_trials,
        "trials_distribution": distribution,
    }


def _of_largest_group(run: dict[str, Any]) -> dict[str, float | None]:
    """Epsilon of the largest group of a run's private set, null if infinite; {} without groups."""
    groups = run.get("data", {}).get("groups")
    if groups is None:
        return {}
    proven, curve, size = run["epsilon"], run["renyi"], groups["largest"]
    if proven is not None and size > 1:
        proven = guarantee.of_group(curve["orders"], curve["divergences"], run["delta"], size)
    return {"epsilon_group": proven if proven is not None and math.isfinite(proven) else None}


def _same(one: Any, other: Any) -> bool:
    """Equal, but for the last bits in which two machines may differ."""
    numbers = isinstance(one, float) and isinstance(other, float)
    return math.isclose(one, other, rel_tol=1e-9) if numbers else one == other


def accuracy_95(report: Report) -> tuple[float, float]:
    """Accuracy and half the width of its 95% interval."""
    accuracy = report["accuracy"]
    return accuracy["mean"], accuracy["half"]


def under_rule(report: Report, admission: float | None) -> Report:
    """The report as a table shows it whose study asks for this accuracy; the audit is the same."""
    return report if admission is None else {**report, "admission": admission}


def wrong_labels(report: Report) -> float | None:
    """The share of wrong labels that its accuracy suffers from, None below one in a hundred."""
    accuracy = report["accuracy"]
    if accuracy is None:
        return None
    share = 0.0 if accuracy["source"] == CLEAN else accuracy["wrong_labels"]
    return share if share > FEW_WRONG else None
