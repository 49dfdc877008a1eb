"""The randomisation test: exact by enumeration, the same law as the membership's design."""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from synpriv.audit import metrics, null
from synpriv.audit.attacks.lira import lira
from synpriv.audit.audit import FPRS, audit
from synpriv.audit.crossfit import statistic_of
from synpriv.audit.evidence import Evidence
from synpriv.audit.metrics import effect_size, readings
from synpriv.data.draws import membership

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def given(member: Bools, design: str, *, seed: int = 0, seeds: object = None) -> Evidence:
    """Random logits of one view that know nothing of membership."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(*member.shape, 1, 3)).astype(np.float32)
    labels = np.zeros(len(member), dtype=np.int64)
    return Evidence(logits, member, labels, labels + 1, design=design, seeds=seeds)  # type: ignore[arg-type]


def paired(num_canaries: int, num_models: int, rng: np.random.Generator) -> Bools:
    first = rng.random((num_canaries, num_models // 2)) < 0.5
    return np.stack([first, ~first], axis=2).reshape(num_canaries, num_models)


def drawn(design: str, num_canaries: int, num_models: int, seed: int) -> Bools:
    rng = np.random.default_rng(seed)
    if design == "paired":
        return paired(num_canaries, num_models, rng)
    if design == "balanced":
        return membership(num_canaries, num_models, seed=seed)
    return rng.random((num_canaries, num_models)) < 0.5


@pytest.mark.parametrize("design", ["paired", "balanced", "bernoulli"])
def test_a_redraw_is_of_the_design(design: str) -> None:
    member = drawn(design, 200, 8, 0)
    rng = np.random.default_rng(1)
    many = np.array([null.redraw(given(member, design), rng) for _ in range(200)])
    np.testing.assert_allclose(many.mean(axis=(0, 1)), 0.5, atol=0.01)
    by_model = many.reshape(-1, 8).T
    expected = {"paired": -1.0, "balanced": -1 / 7, "bernoulli": 0.0}[design]
    assert np.corrcoef(by_model)[0, 1] == pytest.approx(expected, abs=0.03)
    apart = {"paired": 0.0, "balanced": -1 / 7, "bernoulli": 0.0}[design]
    assert np.corrcoef(by_model)[1, 2] == pytest.approx(apart, abs=0.03)
    by_canary = np.corrcoef(many[:, :, 0].T)
    assert abs(by_canary[0, 1:]).max() < 0.35  # 200 draws each


def test_models_without_partner_get_new_bits() -> None:
    member = paired(300, 6, np.random.default_rng(0))[:, [0, 1, 2, 5]]
    evidence = given(member, "paired", seeds=np.array([0, 1, 2, 5]))
    bits = null.redraw(evidence, np.random.default_rng(1))
    assert (bits[:, 0] != bits[:, 1]).all()
    assert 0.4 < (bits[:, 2] != member[:, 2]).mean() < 0.6
    assert 0.4 < (bits[:, 2] != bits[:, 3]).mean() < 0.6


def every_draw() -> list[Bools]:
    """All memberships of 2 canaries x 3 pairs, which are equally likely."""
    coins = [np.array(c).reshape(2, 3) for c in itertools.product([True, False], repeat=6)]
    return [np.stack([first, ~first], axis=2).reshape(2, 6) for first in coins]


def test_the_swap_test_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """P is the share of all draws that read no less, whichever of them is the true one."""
    scores = np.random.default_rng(3).normal(size=(2, 6)).round(1)

    def procedure(member: Bools) -> Floats:  # it sees the other bits, and ties
        others = member.sum(axis=1, keepdims=True) - member
        return (scores + 0.4 * others * scores.mean(axis=1, keepdims=True)).round(1)

    draws = every_draw()
    reads = np.array([readings(procedure(member), member, [0.2]) for member in draws])
    exact = (reads[None] >= reads[:, None]).mean(axis=1)
    assert len(np.unique(exact[:, 1])) > 10
    for place in (0, 13, 40, 63):
        for enough in (null.ENOUGH, 10**6):  # stopped at an exceedance, or not
            monkeypatch.setattr(null, "ENOUGH", enough)
            evidence = given(draws[place], "paired")
            found = null.randomisation(procedure, evidence, reads[place], [0.2], rounds=1500)
            error = exact[place] / np.sqrt(enough) + np.sqrt(exact[place] / 1500) + 1 / 1500
            assert (abs(found.p - exact[place]) <= 4 * error).all(), (place, enough)


def test_the_loop_draws_all_memberships_alike() -> None:
    evidence = given(every_draw()[5], "paired")
    rng = np.random.default_rng(0)
    drawn = [null.redraw(evidence, rng).tobytes() for _ in range(6400)]
    counts = [drawn.count(member.tobytes()) for member in every_draw()]
    assert sum(counts) == 6400
    assert sum((count - 100) ** 2 / 100 for count in counts) < 120  # chi-squared, 63 degrees


def test_what_a_draw_reads_does_not_depend_on_the_true_bits() -> None:
    draws = [np.tile(m, (3, 2))[:, [0, 1, 2, 3, 4, 5, 6, 7]] for m in every_draw()[:6]]
    for one, other in itertools.pairwise(draws):
        there = given(one, "paired").with_member(other)
        lira(given(one, "paired"))
        found, afresh = lira(there), lira(given(other, "paired"))
        np.testing.assert_array_equal(statistic_of(found, other), statistic_of(afresh, other))


def test_sampling_stops_when_every_p_is_decided() -> None:
    member = paired(30, 8, np.random.default_rng(0))
    evidence, values = given(member, "paired"), np.random.default_rng(1).normal(size=member.shape)
    low = null.randomisation(lambda _: values, evidence, np.array([0.0, 0.0]), [0.1])
    assert len(low.readings) == null.FEWEST
    np.testing.assert_array_equal(low.p, 1.0)  # each of the first 25 rounds is an exceedance
    high = null.randomisation(lambda _: values, evidence, np.array([0.0, 1.1]), [0.1], rounds=300)
    assert len(high.readings) == 300
    assert high.p.tolist() == [1.0, 1 / 301]


def test_p_is_that_of_all_rounds_or_of_the_last_exceedance_that_counts() -> None:
    member = paired(30, 8, np.random.default_rng(0))
    evidence, values = given(member, "paired"), np.random.default_rng(1).normal(size=member.shape)
    observed = np.array([0.15, 0.52])
    found = null.randomisation(lambda _: values, evidence, observed, [0.1], rounds=400)
    for reads, seen, p in zip(found.readings.T, observed, found.p, strict=True):
        hits = np.flatnonzero(reads >= seen) + 1
        enough = len(hits) >= null.ENOUGH
        expected = null.ENOUGH / hits[null.ENOUGH - 1] if enough else (1 + len(hits)) / 401
        assert p == expected
    low, high = found.band(1)
    assert [low, high] == np.quantile(found.readings[:, 1], [0.025, 0.975]).tolist()


def test_the_most_exposed_has_its_own_null() -> None:
    member = paired(30, 8, np.random.default_rng(0))
    values = np.random.default_rng(1).normal(size=member.shape)
    evidence = given(member, "paired")
    found = null.randomisation(lambda _: values, evidence, np.zeros(2), [0.1], rounds=60)
    rng = np.random.default_rng(0)
    largest = [effect_size(values, null.redraw(evidence, rng)).max() for _ in range(60)]
    np.testing.assert_allclose(found.largest_effect, largest)
    assert found.most_exposed == pytest.approx(np.quantile(largest, 0.95))


def against_others(scores: Floats, member: Bools) -> Floats:
    """Score times how much higher members than non-members score in the other models: [C,S]."""
    sides = []
    for side in (member, ~member):
        count = side.sum(axis=1, keepdims=True) - side
        sides.append(((scores * side).sum(axis=1, keepdims=True) - scores * side) / count)
    return scores * (sides[0] - sides[1])


@pytest.mark.parametrize("design", ["paired", "balanced", "bernoulli"])
def test_no_leak_is_marked_as_rarely_as_said(design: str) -> None:
    # 50 audits of two correlated quantities at 2.5%: more than 8% of them once in a thousand.
    marked = []
    for seed in range(50):
        evidence = given(drawn(design, 16, 8, seed), design)
        scores = np.random.default_rng(1000 + seed).normal(size=(16, 8))
        with np.errstate(invalid="ignore", divide="ignore"):
            observed = readings(against_others(scores, evidence.member), evidence.member, [0.1])
            found = null.randomisation(
                lambda bits, scores=scores: against_others(scores, bits),
                evidence,
                observed,
                [0.1],
                rounds=39,
            )
        marked.append(found.p <= null.ALPHA)
    assert np.mean(marked) <= 0.08


def test_a_whole_audit_reports_the_procedure() -> None:
    evidence = given(paired(40, 8, np.random.default_rng(0)), "paired")
    evidence.logits[:, :, 0, 0] += 4 * evidence.member
    report, statistic = audit(lira, evidence, null_rounds=60, bootstrap_rounds=100)
    np.testing.assert_array_equal(statistic, statistic_of(lira(evidence), evidence.member))
    assert report["membership"] == "paired"
    assert sum(report["variants_chosen"].values()) == pytest.approx(1.0)
    assert set(report["variants"]) == set(lira(evidence))
    for name, values in lira(evidence).items():
        assert (
            list(report["variants"][name].values())
            == readings(values, evidence.member, FPRS).tolist()
        )
    rate = report["tpr@fpr=0.1"]
    assert rate["low"] < rate["tpr"] < rate["high"]
    assert rate["p"] == 1 / 61
    assert rate["above_chance"]
    assert rate["resolvable"]
    assert not report["tpr@fpr=0.01"]["resolvable"]
    assert report["tpr@fpr=0.01"]["expected_fpr"] == 2 / 161
    assert report["auc_low"] < report["auc"] < report["auc_high"]
    assert report["auc_p"] == 1 / 61
    assert report["most_exposed"][0][1] > 0
    alone, _ = audit(lambda e: e.scores("hinge")[:, :, 0], evidence, null_rounds=5)
    assert (alone["variants"], alone["variants_chosen"]) == ({}, {})


@pytest.mark.parametrize("leak", [0.0, 3.0])
def test_the_number_of_threads_changes_nothing(leak: float) -> None:
    member = drawn("paired", 30, 8, 0)
    statistic = np.random.default_rng(0).normal(size=member.shape) + leak * member
    evidence, fprs = given(member, "paired"), (0.01, 0.1)
    observed = metrics.readings(statistic, member, fprs)
    alone, many = (
        null.randomisation(
            lambda bits: statistic * bits, evidence, observed, fprs, rounds=250, workers=workers
        )
        for workers in (1, 3)
    )
    np.testing.assert_array_equal(alone.readings, many.readings)
    np.testing.assert_array_equal(alone.p, many.p)
    np.testing.assert_array_equal(alone.largest_effect, many.largest_effect)
