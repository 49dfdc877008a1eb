"""Every attack of conf/attack, by globbing: its reading without a leak and with a perfect one."""

import functools
from pathlib import Path

import numpy as np
import pytest
from conftest import Compose
from omegaconf import OmegaConf

from synpriv import config
from synpriv.audit.audit import FPRS, audit
from synpriv.audit.evidence import Evidence
from synpriv.audit.metrics import auc, tpr_at_fpr
from synpriv.audit.trial import check
from synpriv.data.draws import membership
from synpriv.report import content

CONF = Path(__file__).parents[1] / "conf"
NAMES = sorted(file.stem for file in CONF.glob("attack/*.yaml"))


@pytest.fixture(params=NAMES)
def attack(request: pytest.FixtureRequest, compose: Compose) -> functools.partial:
    return config.build(compose(f"attack={request.param}").attack, "attack")


def evidence(leak: float, num_canaries: int = 100, num_models: int = 32, seed: int = 0) -> Evidence:
    """Gaussian logits; a member's logit of its label is `leak` standard deviations higher."""
    rng = np.random.default_rng(seed)
    member = membership(num_canaries, num_models, seed=seed)
    labels = rng.integers(0, 5, size=num_canaries)
    logits = rng.normal(size=(num_canaries, num_models, 9, 5)).astype(np.float32)
    logits[np.arange(num_canaries), :, :, labels] += leak * member[:, :, None]
    distance = rng.normal(100 - leak * member).astype(np.float32)
    return Evidence(logits, member, labels, (labels + 1) % 5, distance)


def test_no_leak_reads_as_chance(attack: functools.partial) -> None:
    values = [auc(attack(e), e.member) for e in (evidence(0.0, seed=s) for s in range(5))]
    assert np.mean(values) == pytest.approx(0.5, abs=0.012)  # 4 sd of 5 x 3,200 pairs


def test_a_perfect_leak_reads_as_one(attack: functools.partial) -> None:
    perfect = evidence(50.0)
    assert tpr_at_fpr(attack(perfect), perfect.member, 0.01) == 1.0


def test_evidence_is_not_modified(attack: functools.partial) -> None:
    given = evidence(1.0)
    before = [given.logits.copy(), given.member.copy(), given.labels.copy()]
    attack(given)
    for old, new in zip(before, (given.logits, given.member, given.labels), strict=True):
        np.testing.assert_array_equal(old, new)


def test_canaries_are_scored_one_by_one(attack: functools.partial) -> None:
    given, order = evidence(1.0), np.random.default_rng(1).permutation(100)
    arrays = (given.logits, given.member, given.labels, given.true_labels, given.nearest)
    mixed = Evidence(*(array[order] for array in arrays))
    if "equalise" in attack.keywords:  # its seeded draw goes by position: compare without it
        attack.keywords["equalise"] = False
    np.testing.assert_allclose(attack(mixed), attack(given)[order], rtol=2e-7, atol=2e-6)


def lira(**options: object) -> object:
    node = OmegaConf.load(CONF / "attack" / "lira.yaml")
    return config.build(OmegaConf.merge(node, options), "attack")


def test_report_of_a_leak_and_of_none() -> None:
    report, statistic = audit(lira(), evidence(2.0, num_models=64), null_rounds=40)
    assert statistic.shape == (100, 64)
    rate = report["tpr@fpr=0.01"]
    assert rate["low"] < rate["tpr"] < rate["high"]
    assert rate["tpr"] > rate["null_band"][1]
    assert report["warnings"] == []
    assert (report["n_in"], report["n_out"], report["num_undefined"]) == (3200, 3200, 0)
    none, _ = audit(lira(), evidence(0.0, num_models=64), null_rounds=40)
    assert any("no evidence of a leak" in warning for warning in none["warnings"])


def test_a_leak_that_only_the_auc_shows_is_told() -> None:
    scores = np.random.default_rng(0).normal(size=(100, 64))
    given = evidence(0.0, num_models=64)
    hidden = scores + 0.3 * given.member  # of a threshold on all: no single canary stands out

    def weak(with_member: Evidence) -> np.ndarray:
        return np.minimum(hidden, 0.5)  # whatever is above is tied: nothing at a low FPR

    report, _ = audit(weak, given, null_rounds=50)
    low, high = report["auc_null_band"]
    assert low < report["null_auc"] < high < report["auc"]
    assert not any(report[f"tpr@fpr={fpr:g}"]["above_chance"] for fpr in FPRS)
    assert [w for w in report["warnings"] if w.startswith("AUC ")]
    none, _ = audit(lambda e: scores, given, null_rounds=50)
    assert not [w for w in none["warnings"] if w.startswith("AUC ")]


def test_every_experiment_can_be_attacked_by_every_attack(compose: Compose) -> None:
    for file in CONF.glob("experiment/*.yaml"):
        cells = {compose(f"experiment={file.stem}", f"attack={name}").cell for name in NAMES}
        assert len(cells) == 1, file.stem


def test_report_says_when_a_rate_cannot_be_resolved() -> None:
    report, _ = audit(lira(), evidence(2.0, num_canaries=20, num_models=8), null_rounds=40)
    assert not report["tpr@fpr=0.001"]["resolvable"]
    assert any("1/n_out = 1/80" in warning for warning in report["warnings"])


def test_undefined_statistics_are_counted_and_left_out() -> None:
    whole = evidence(2.0, num_models=16)
    member = whole.member.copy()
    member[0] = False
    member[0, :2] = True  # too few IN for a variance without the target
    report, statistic = audit(
        lira(variance="per_sample"),
        Evidence(whole.logits, member, whole.labels, whole.true_labels),
        null_rounds=5,
    )
    assert report["num_undefined"] == np.isnan(statistic).sum() > 0
    assert report["n_in"] + report["n_out"] == statistic.size - report["num_undefined"]
    assert any("not finite" in warning for warning in report["warnings"])


def test_most_exposed_canaries_are_those_that_leak() -> None:
    given = evidence(0.0, num_models=32)
    given.logits[7, given.member[7], :, given.labels[7]] += 20
    report, _ = audit(lira(), given, null_rounds=5)
    assert report["most_exposed"][0][0] == 7


def test_check_refuses_options_that_no_cell_of_this_shape_allows() -> None:
    with pytest.raises(ValueError, match="num_models >= 6"):
        check(lira(), 4, num_views=9)
    with pytest.raises(ValueError, match=r"attack\.queries=18"):
        check(lira(queries=18), 8, num_views=9)
    check(lira(variance="pooled_raw"), 4, num_views=9)


# --- the variance that auto chooses --------------------------------------------------------------


@pytest.mark.parametrize("name", ["lira", "nearest"])
@pytest.mark.parametrize(
    ("num_models", "used"), [(6, "pooled"), (30, "pooled"), (32, "per_sample")]
)
def test_auto_is_to_the_bit_one_of_the_explicit_variances(
    name: str, num_models: int, used: str, compose: Compose
) -> None:
    given = evidence(1.0, num_models=num_models)
    built = {
        variance: config.build(compose(f"attack={name}", *options).attack, "attack")(given)
        for variance, options in {
            "auto": [],
            **{v: [f"attack.variance={v}"] for v in ("pooled", "per_sample")},
        }.items()
    }
    np.testing.assert_array_equal(built["auto"], built[used])
    assert not np.array_equal(built["pooled"], built["per_sample"])
    options = {"variance": "auto"}
    assert content.variance_of(options, num_models) == {"variance": used}


def test_a_trial_of_six_models_no_longer_hides_a_leak_that_they_have() -> None:
    given = evidence(4.0, num_canaries=30, num_models=6)
    strict = 1e-9  # no false positive
    found = {v: lira(variance=v)(given) for v in ("auto", "per_sample")}
    read = {v: tpr_at_fpr(statistic, given.member, strict) for v, statistic in found.items()}
    assert read["per_sample"] < 0.2
    assert read["auto"] > 0.9


def test_the_report_names_the_variance_only_where_an_attack_has_one() -> None:
    assert content.variance_of({"score": "hinge"}, 6) == {}
    assert content.variance_of({"variance": "pooled_raw"}, 64) == {"variance": "pooled_raw"}
    assert content.variance_of({"variance": 0.5}, 64) == {"variance": 0.5}  # of an attack of yours


def test_auto_refuses_four_models_and_an_unknown_word_before_training() -> None:
    with pytest.raises(ValueError, match=r"variance=pooled needs 3 .*num_models >= 6"):
        check(lira(variance="auto"), 4, num_views=9)
    check(lira(variance="auto"), 6, num_views=9)
    with pytest.raises(ValueError, match=r"variance=raw: must be one of auto, per_sample, pooled"):
        check(lira(variance="raw"), 6, num_views=9)
