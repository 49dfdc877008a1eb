"""What a report says in words, for every mixture of what the rates and the AUC read."""

import numpy as np
import pytest

from synpriv.audit.audit import audit
from synpriv.audit.evidence import Evidence
from synpriv.audit.findings import resolution, warnings_of
from synpriv.audit.intervals import draws, intervals, resampled
from synpriv.audit.metrics import clopper_pearson
from synpriv.data.draws import membership


def rate(*, above: bool, resolvable: bool = True) -> dict:
    found = {"tpr": 0.5 if above else 0.01, "low": 0.4, "high": 0.6, "null_band": [0.0, 0.02]}
    found |= {"p": 0.001 if above else 0.4, "expected_fpr": 0.022}
    return found | {"above_chance": above, "resolvable": resolvable}


def report(strict: dict, lenient: dict, auc: float) -> dict:
    counts = {"num_undefined": 0, "num_canaries": 30, "num_models": 6, "n_out": 90}
    band = {"auc": auc, "auc_p": 0.001 if auc > 0.54 else 0.5, "auc_null_band": [0.46, 0.54]}
    return {"tpr@fpr=0.001": strict, "tpr@fpr=0.1": lenient} | counts | band


@pytest.mark.parametrize(
    ("strict", "lenient", "auc", "said"),
    [
        (True, True, 0.7, []),
        (False, True, 0.7, ["is above", "in the bulk", "tpr@fpr=0.001 is no more than chance"]),
        (False, False, 0.7, ["is above", "tpr@fpr=0.001 and tpr@fpr=0.1 are no more"]),
        (True, False, 0.5, ["is inside", "tpr@fpr=0.001 is above chance", "in the tail"]),
        (True, True, 0.5, ["is inside", "tpr@fpr=0.001 and tpr@fpr=0.1 are above chance"]),
        (False, False, 0.5, []),
        (False, False, 0.4, ["is below", "inverted or biased", "one audit in 40"]),
        (True, False, 0.4, ["is below", "inverted", "tpr@fpr=0.001 is above chance all the same"]),
    ],
)
def test_what_rates_and_auc_say_is_told_whenever_they_disagree(
    strict: bool, lenient: bool, auc: float, said: list[str]
) -> None:
    warnings = warnings_of(report(rate(above=strict), rate(above=lenient), auc))
    about = [warning for warning in warnings if warning.startswith("AUC ")]
    assert len(about) == bool(said)
    for words in said:
        assert words in about[0]
    silent = [w.partition(" =")[0] for w in warnings if "no evidence of a leak at this FPR" in w]
    expected = {"tpr@fpr=0.001": strict, "tpr@fpr=0.1": lenient}
    assert silent == [key for key, above in expected.items() if not above]


@pytest.mark.parametrize(("above", "verdict"), [(True, ": evidence"), (False, ": no evidence")])
def test_a_rate_that_is_not_resolvable_says_what_would_resolve_it(
    above: bool, verdict: str
) -> None:
    low = rate(above=above, resolvable=False)
    lines = [w for w in warnings_of(report(low, low, 0.5)) if "not resolvable" in w]
    assert [line.partition(" ")[0] for line in lines] == ["tpr@fpr=0.001", "tpr@fpr=0.1"]
    strict, lenient = lines
    assert "0.001 of 90 non-members allows 0 false positives, 10 are needed" in strict
    assert "(30 canaries x 668 models, or 3,334 x 6)" in strict
    assert "(30 canaries x 8 models, or 34 x 6)" in lenient
    assert "at an expected FPR of 2.20%" in strict
    assert all(verdict in line for line in lines)
    assert all(line.endswith(" of a leak by itself") for line in lines)  # no table corrects it


def test_what_a_size_resolves_is_what_reports_of_it_say() -> None:
    table = resolution((0.001, 0.01), [(30, 6), (500, 16), (500, 40)])
    rows = [" ".join(line.split()) for line in table.splitlines()]
    assert rows == [
        "canaries x models FPR 0.001 FPR 0.01",
        "30 x 6 no, 668 models would no, 68 models would",
        "500 x 16 no, 40 models would yes",
        "500 x 40 yes yes",
    ]


def gaussian(num_canaries: int, num_models: int, leak: float, seed: int = 0) -> tuple:
    member = membership(num_canaries, num_models, seed=seed)
    values = np.random.default_rng(seed).normal(size=member.shape) + leak * member
    logits = np.zeros((*member.shape, 1, 2), dtype=np.float32)
    labels = np.zeros(num_canaries, dtype=np.int64)
    return values, Evidence(logits, member, labels, labels)


def test_a_perfect_leak_of_ninety_non_members_is_evidence() -> None:
    values, evidence = gaussian(30, 6, leak=50.0)
    found, _ = audit(lambda _: values, evidence, null_rounds=40)
    strict = found["tpr@fpr=0.001"]
    assert (strict["tpr"], strict["false_positives"]) == (1.0, 0)
    assert not strict["resolvable"]
    assert strict["above_chance"]
    assert (strict["low"], strict["high"]) == pytest.approx(clopper_pearson(90, 90))
    strict_line, *_, last = found["warnings"]
    assert "100.0% [96.0%, 100.0%] of the members at an expected FPR of 1.10%" in strict_line
    assert all(line.endswith(": evidence of a leak by itself") for line in found["warnings"])
    assert "tpr@fpr=0.1" in last


def test_inverted_scores_are_told_and_not_called_chance() -> None:
    values, evidence = gaussian(50, 16, leak=2.0)
    found, _ = audit(lambda _: -values, evidence, null_rounds=40)
    (line,) = [warning for warning in found["warnings"] if warning.startswith("AUC ")]
    assert "is below" in line


def test_the_interval_of_what_is_not_resolvable_is_that_at_the_expected_fpr() -> None:
    values, evidence = gaussian(100, 6, leak=2.5)
    found, _ = audit(lambda _: values, evidence, null_rounds=5, bootstrap_rounds=200)
    rate = found["tpr@fpr=0.01"]
    assert (rate["false_positives"], rate["expected_fpr"]) == (3, 4 / 301)
    assert not rate["resolvable"]
    assert rate["low"] < rate["tpr"] < rate["high"]
    models = np.arange(6)
    drawn = draws(100, models, rounds=200)
    sampled = resampled(values, evidence.member, [4 / 301], drawn)
    (ends, _) = intervals(values, evidence.member, models, [4 / 301], sampled)
    assert [rate["low"], rate["high"]] == ends.tolist()
