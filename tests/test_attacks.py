"""Every attack of conf/attack, by globbing: its reading without a leak and with a perfect one."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Compose
from omegaconf import OmegaConf

from synpriv import config
from synpriv.audit.audit import FPRS, audit
from synpriv.audit.crossfit import statistic_of
from synpriv.audit.evidence import Evidence
from synpriv.audit.metrics import auc, tpr_at_fpr
from synpriv.audit.trial import check
from synpriv.data.draws import membership

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


def statistics(attack: functools.partial, given: Evidence) -> list[np.ndarray]:
    """What an attack gives: its variants, and what the audit makes of them."""
    found = attack(given)
    variants = list(found.values()) if isinstance(found, dict) else [found]
    return [*variants, statistic_of(found, given.member)]


def test_no_leak_reads_as_chance(attack: functools.partial) -> None:
    first = np.random.default_rng(0).random((100, 16)) < 0.5
    pairs = np.stack([first, ~first], axis=2).reshape(100, 32)  # nothing leaks, whoever is IN
    calm = (
        dataclasses.replace(evidence(0.0, seed=s), member=pairs, design="paired") for s in range(5)
    )
    values = [[auc(s, e.member) for s in statistics(attack, e)] for e in calm]
    # 4 sd of 8,000 statistics on each side
    np.testing.assert_allclose(np.mean(values, axis=0), 0.5, atol=4 * np.sqrt(2 / 8000 / 12))


def test_a_perfect_leak_reads_as_one(attack: functools.partial) -> None:
    perfect = evidence(50.0)
    assert tpr_at_fpr(statistics(attack, perfect)[-1], perfect.member, 0.01) == 1.0


def test_evidence_is_not_modified(attack: functools.partial) -> None:
    given = evidence(1.0)
    before = [given.logits.copy(), given.member.copy(), given.labels.copy()]
    attack(given)
    for old, new in zip(before, (given.logits, given.member, given.labels), strict=True):
        np.testing.assert_array_equal(old, new)


def test_canaries_are_scored_one_by_one(attack: functools.partial) -> None:
    given, order = evidence(1.0), np.random.default_rng(1).permutation(100)
    arrays = (given.logits, given.member, given.labels, given.true_labels, given.nearest)
    # Not by the design `balanced`: its equalising draw goes by position.
    given = dataclasses.replace(given, design="bernoulli")
    mixed = Evidence(*(array[order] for array in arrays), design="bernoulli")
    variants = zip(statistics(attack, mixed)[:-1], statistics(attack, given)[:-1], strict=True)
    for found, expected in variants:  # not what the audit makes of them: its folds go by position
        np.testing.assert_allclose(found, expected[order], rtol=2e-7, atol=2e-6)


def lira(**options: object) -> object:
    node = OmegaConf.load(CONF / "attack" / "lira.yaml")
    return config.build(OmegaConf.merge(node, options), "attack")


def test_report_of_a_leak_and_of_none() -> None:
    def brief(leak: float) -> tuple[dict[str, Any], np.ndarray]:
        return audit(lira(), evidence(leak), null_rounds=40, bootstrap_rounds=100)

    report, statistic = brief(2.0)
    assert statistic.shape == (100, 32)
    rate = report["tpr@fpr=0.01"]
    assert rate["low"] < rate["tpr"] < rate["high"]
    assert rate["tpr"] > rate["null_band"][1]
    (line,) = report["warnings"]
    assert line.startswith("tpr@fpr=0.001 is not resolvable")
    assert (report["n_in"], report["n_out"], report["num_undefined"]) == (1600, 1600, 0)
    none, _ = brief(0.0)
    assert any("no evidence of a leak" in warning for warning in none["warnings"])


def test_a_leak_that_only_the_auc_shows_is_told() -> None:
    scores = np.random.default_rng(1).normal(size=(100, 64))
    given = evidence(0.0, num_models=64)
    hidden = scores + 0.3 * given.member  # of a threshold on all: no single canary stands out

    def weak(with_member: Evidence) -> np.ndarray:
        return np.minimum(hidden, 0.5)  # whatever is above is tied: nothing at a low FPR

    report, _ = audit(weak, given, null_rounds=50, bootstrap_rounds=100)
    low, high = report["auc_null_band"]
    assert low < report["null_auc"] < high < report["auc"]
    assert not any(report[f"tpr@fpr={fpr:g}"]["above_chance"] for fpr in FPRS)
    assert [w for w in report["warnings"] if w.startswith("AUC ")]
    none, _ = audit(lambda e: scores, given, null_rounds=50, bootstrap_rounds=100)
    assert not [w for w in none["warnings"] if w.startswith("AUC ")]


def test_every_experiment_can_be_attacked_by_every_attack(compose: Compose) -> None:
    """But one that sets options of its attack, as a published protocol does: that attack alone."""
    groups = {name: OmegaConf.load(CONF / "attack" / f"{name}.yaml") for name in NAMES}
    for file in CONF.glob("experiment/*.yaml"):
        cfg = compose(f"experiment={file.stem}")
        cell, options = cfg.cell, OmegaConf.load(file).get("attack", {})
        for name in NAMES:
            cfg.attack = {**groups[name], **options}
            if set(options) <= set(groups[name]):
                assert config.cell_name(_root_=cfg) == cell, (file.stem, name)
            else:
                with pytest.raises(ValueError, match=r"^attack\.\w+: no such option"):
                    config.validate(cfg)


def test_report_says_when_a_rate_cannot_be_resolved() -> None:
    report, _ = audit(
        lira(), evidence(2.0, num_canaries=20, num_models=8), null_rounds=40, bootstrap_rounds=100
    )
    assert not report["tpr@fpr=0.001"]["resolvable"]
    assert any("0.001 of 80 non-members" in warning for warning in report["warnings"])


def test_a_variant_without_any_statistic_is_one_line() -> None:
    given = evidence(0.0, 8, 6)

    def attack(one: Evidence) -> dict[str, np.ndarray]:
        return {"a": one.scores("hinge")[:, :, 0], "b": np.full(one.member.shape, np.nan)}

    with pytest.raises(ValueError, match=r"no finite statistic: too few shadow models"):
        audit(attack, given)


def test_undefined_statistics_are_counted_and_left_out() -> None:
    whole = evidence(2.0, num_models=16)
    member = whole.member.copy()
    member[0] = False
    member[0, 0] = True  # without the target nobody is IN
    report, statistic = audit(
        lira(),
        Evidence(whole.logits, member, whole.labels, whole.true_labels, design="bernoulli"),
        null_rounds=5,
        bootstrap_rounds=100,
    )
    assert report["num_undefined"] == np.isnan(statistic).sum() == 1
    assert report["n_in"] + report["n_out"] == statistic.size - report["num_undefined"]
    assert any("not finite" in warning for warning in report["warnings"])


def test_most_exposed_canaries_are_those_that_leak() -> None:
    given = evidence(0.0, num_models=32)
    given.logits[7, given.member[7], :, given.labels[7]] += 20
    report, _ = audit(lira(), given, null_rounds=5, bootstrap_rounds=100)
    assert report["most_exposed"][0][0] == 7


def test_check_refuses_options_that_no_cell_of_this_shape_allows(compose: Compose) -> None:
    with pytest.raises(ValueError, match="num_models >= 6"):
        check(lira(), 4, num_views=9)
    with pytest.raises(ValueError, match=r"attack\.views=\['second'\]: must be one or more of all"):
        check(lira(views=["second"]), 8, num_views=9)
    with pytest.raises(ValueError, match=r"attack\.scores='hinge': must be a list of words"):
        lira(scores="hinge")
    parent = functools.partial(published, compose)
    with pytest.raises(ValueError, match=r"attack\.queries=18"):
        check(parent("attack.queries=18"), 8, num_views=9)
    with pytest.raises(ValueError, match=r"variance=per_sample needs 3 .*num_models >= 6"):
        check(parent(), 4, num_views=9)
    check(parent("attack.variance=pooled_raw"), 4, num_views=9)
    with pytest.raises(ValueError, match=r"variance=raw: must be one of per_sample, pooled"):
        check(parent("attack.variance=raw"), 6, num_views=9)


def published(compose: Compose, *options: str) -> functools.partial:
    return config.build(compose("attack=lira_parent", *options).attack, "attack")


def test_six_models_show_a_leak_that_the_published_variance_hides(compose: Compose) -> None:
    given = evidence(4.0, num_canaries=30, num_models=6)
    strict = 1e-9  # no false positive
    hidden = published(compose)(given)
    assert tpr_at_fpr(hidden, given.member, strict) < 0.2
    assert tpr_at_fpr(statistics(lira(), given)[-1], given.member, strict) > 0.9
