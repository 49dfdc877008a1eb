"""Reports as an audit writes them, with the numbers that a test asks for."""

from __future__ import annotations

from typing import Any

import numpy as np

Report = dict[str, Any]
ARRAYS = {  # of two canaries and two models: what lies beside a report
    "statistic": np.array([[0.9, 0.6], [0.4, 0.1]]),
    "member": np.array([[True, False], [True, False]]),
}
KEYS = ("tpr@fpr=0.001", "tpr@fpr=0.01", "tpr@fpr=0.1")


def rate_of(tpr: float, *, p: float = 0.001, n_out: int = 16_000, fpr: float = 0.01) -> Report:
    """A rate with an interval of a tenth of it on both sides."""
    allowed = int(fpr * n_out)
    return {
        **{"tpr": tpr, "low": 0.9 * tpr, "high": min(1.1 * tpr, 1.0), "fpr": allowed / n_out},
        "expected_fpr": (allowed + 1) / (n_out + 1),
        **{"false_positives": allowed, "threshold": 1.5, "null_band": [0.0, 2 * fpr]},
        **{"p": p, "above_chance": p <= 0.025, "resolvable": fpr * n_out >= 10},
    }


def report_of(
    method: str = "undefended",
    *,
    tpr: float = 0.5,
    p: float = 0.001,
    accuracy: float = 0.95,
    n_out: int = 16_000,
    **others: Any,
) -> Report:
    """A report of 64 models and 500 canaries; `others` replace or add keys."""
    auc = 0.5 + tpr / 2
    whole = {
        "cell": f"{method}-digits-mislabelled-0123abcd",
        **{"method": method, "dataset": "digits", "canary": "mislabelled", "attack": "threshold"},
        "attack_options": {"score": "hinge"},
        "membership": "paired",
        "settings": {"method.name": method, "method.num_epochs": 3, "model._target_": "a.convnet"},
        **{"partial": False, "num_models": 64, "num_canaries": 500, "n_in": n_out, "n_out": n_out},
        **{"seeds": list(range(64)), "num_planned": 64, "num_undefined": 0},
        **{"inputs_sha256": "0", "canaries_sha256": "0"},
        "data": {"in_words": "few images", "warnings": [], "sha256": "0", "num_private": 1000},
        "tuning": {"num_trials": 1, "distribution": "fixed"},
        "provenance": ["pixels", "labels"],
        **{"accuracy_cell": f"{method}-digits-clean-0123abcd", "accuracy_seeds": [0, 1, 2, 3]},
        "test_accuracy": {"mean": accuracy - 0.01, "sd": 0.01, "se": 0.005, "n": 64},
        "train_s": {"mean": 2.0, "sd": 0.1, "n": 64},
        "accuracy": {
            "mean": accuracy,
            "se": 0.002,
            "half": 0.004,
            "n": 4,
            "source": "clean canaries",
        }
        | {"wrong_labels": 0.06},
        **{key: rate_of(tpr, p=p, n_out=n_out, fpr=float(key.rpartition("=")[2])) for key in KEYS},
        **{"auc": auc, "auc_low": auc - 0.01, "auc_high": auc + 0.01, "auc_p": p},
        **{"auc_null_band": [0.48, 0.52], "null_auc": 0.5, "null_rounds": 1000},
        "balanced_accuracy": 0.6,
        **{"epsilon_audited": 1.25, "epsilon_audited_largest": 8.0, "epsilon_audited_delta": 0.0},
        **{"epsilon_gdp": 2.5, "epsilon_bound": 1.0, "epsilon_bound_largest": 7.0},
        "answers": {
            "trained_label": {"in": 0.9, "out": 0.01},
            "true_label": {"in": 0.08, "out": 0.97},
        },
        "variants": {
            "all/hinge/trained": {"tpr@fpr=0.01": 0.42, "auc": 0.75},
            "view 0/hinge/true": {"tpr@fpr=0.01": 0.11, "auc": 0.55},
        },
        "variants_chosen": {"all/hinge/trained": 1.0, "view 0/hinge/true": 0.0},
        "definitions": {"tpr": "largest with FPR <= target"},
        "warnings": [],
    }
    return whole | others
