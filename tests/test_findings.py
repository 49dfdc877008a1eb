"""What a report says in words, for every mixture of what the rates and the AUC read."""

import numpy as np
import pytest

from synpriv.audit.audit import audit
from synpriv.audit.evidence import Evidence
from synpriv.audit.findings import warnings_of
from synpriv.audit.metrics import clopper_pearson, cluster_interval
from synpriv.data.draws import membership


def rate(*, above: bool, resolvable: bool = True) -> dict:
    found = {"tpr": 0.5 if above else 0.01, "low": 0.4, "high": 0.6, "null_band": [0.0, 0.02]}
    return found | {"above_chance": above, "resolvable": resolvable}


def report(strict: dict, lenient: dict, auc: float) -> dict:
    counts = {"num_undefined": 0, "num_canaries": 30, "num_models": 6, "n_out": 90}
    band = {"auc": auc, "auc_null_band": [0.46, 0.54]}
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
def test_a_rate_that_is_not_resolvable_is_a_statement_at_no_false_positive(
    above: bool, verdict: str
) -> None:
    low = rate(above=above, resolvable=False)
    warnings = warnings_of(report(low, low, 0.7 if above else 0.5))
    (line,) = [warning for warning in warnings if "not resolvable" in warning]
    assert line.startswith("tpr@fpr=0.001 and tpr@fpr=0.1 are not resolvable")
    assert "1/n_out = 1/90" in line
    assert "at 0 false positives of 90" in line
    assert verdict in line


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
    (line,) = found["warnings"]
    assert "100.0% [96.0%, 100.0%] of the members" in line
    assert line.endswith("evidence of a leak")


def test_inverted_scores_are_told_and_not_called_chance() -> None:
    values, evidence = gaussian(50, 16, leak=2.0)
    found, _ = audit(lambda _: -values, evidence, null_rounds=40)
    (line,) = [warning for warning in found["warnings"] if warning.startswith("AUC ")]
    assert "is below" in line


def test_no_round_of_the_interval_at_no_false_positive_has_one() -> None:
    # 998 of 1,000 would be one false positive; resampled counts are now above, now below that.
    values, evidence = gaussian(499, 4, leak=2.5)
    found, _ = audit(lambda _: values, evidence, null_rounds=5)
    strict = found["tpr@fpr=0.001"]
    assert not strict["resolvable"]
    low, high = cluster_interval(values, evidence.member, [1e-9])[0]
    assert [strict["low"], strict["high"]] == [low, high]
    assert cluster_interval(values, evidence.member, [0.001])[0][1] > high


def test_the_interval_at_no_false_positive_covers() -> None:
    # How much a canary leaks is drawn per canary; the truth is the rate of very many of them at
    # the threshold that this audit found.
    def draw(num_canaries: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        member = membership(num_canaries, 6, seed=seed)
        own = rng.exponential(3.0, size=(num_canaries, 1))
        return rng.normal(size=member.shape) + own * member, member

    values, member = draw(40_000, 999)
    population = values[member]
    covered = []
    for seed in range(100):
        values, member = draw(30, seed)
        truth = (population >= np.nextafter(values[~member].max(), np.inf)).mean()
        low, high = cluster_interval(values, member, [1e-9], rounds=150)[0]
        covered.append(low <= truth <= high)
    assert np.mean(covered) >= 0.9
