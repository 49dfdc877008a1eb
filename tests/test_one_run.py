"""The valid bound: against naive sums, exact binomials, and mechanisms whose epsilon is known."""

import dataclasses
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from scipy.stats import binom

from synpriv.audit import one_run
from synpriv.audit.attacks.lira import lira
from synpriv.audit.attacks.lira_parent import lira_parent
from synpriv.audit.attacks.nearest import nearest
from synpriv.audit.attacks.threshold import threshold
from synpriv.audit.audit import audit
from synpriv.audit.evidence import Evidence
from synpriv.audit.one_run import Attack, attainable, divide, refuted, unfit
from synpriv.audit.scores import Floats


def drawn(num_canaries: int, num_models: int, design: str, rng: np.random.Generator) -> np.ndarray:
    """Membership bits [C,S] of a design."""
    member = rng.random((num_canaries, num_models)) < 0.5
    if design == "paired":
        member[:, 1::2] = ~member[:, ::2]
    if design == "balanced":
        member = np.argsort(rng.random(member.shape), axis=1) < num_models // 2
    return member


def evidence(
    leak: float, shape: tuple[int, int] = (40, 16), design: str = "paired", seed: int = 0
) -> Evidence:
    """Logits of three classes and two views, in which members' labels stand out by `leak`."""
    rng = np.random.default_rng(seed)
    member = drawn(*shape, design, rng)
    logits = rng.normal(size=(*shape, 2, 3)) + rng.normal(scale=2, size=(shape[0], 1, 1, 3))
    logits[..., 0] += leak * member[..., None]
    distance = (10 + rng.normal(size=shape) - leak * member).astype(np.float32)
    first = np.zeros(shape[0], dtype=np.int64)
    return Evidence(
        logits.astype(np.float32), member, first, first + 1, nearest=distance, design=design
    )


def randomised_response(
    epsilon: float, shape: tuple[int, int], seed: int, design: str = "paired"
) -> Evidence:
    """Each model answers each canary's bit, with the truth as often as epsilon allows."""
    rng = np.random.default_rng(seed)
    member = drawn(*shape, design, rng)
    answer = member == (rng.random(shape) < 1 / (1 + math.exp(-epsilon)))
    logits = np.zeros((*shape, 1, 2), dtype=np.float32)
    logits[..., 0, 0] = answer
    labels = np.zeros(shape[0], dtype=np.int64)
    return Evidence(logits, member, labels, labels, design=design)


def answers(given: Evidence) -> Floats:
    """The best attack on randomised response."""
    return given.logits[:, :, 0, 0].astype(np.float64)


def bound(attack: Attack, given: Evidence, *, delta: float = 0.0, seed: int = 0) -> float:
    found = one_run.one_run(attack, given, delta=delta, seed=seed)
    assert found is not None
    return found.epsilon


# --- the theorem ---------------------------------------------------------------------------------


def naive_probability(
    bits: int, guesses: int, right: int, delta: float, epsilon: float
) -> float:  # term by term
    known = binom(guesses, 1 / (1 + math.exp(-epsilon)))
    beta = sum(known.pmf(k) for k in range(right, guesses + 1))
    below = [sum(known.pmf(right - j) for j in range(1, i + 1)) for i in range(1, right + 1)]
    excess = max(mass / i for i, mass in enumerate(below, 1))
    return beta + 2 * bits * delta * excess


def test_the_published_example() -> None:
    # m = 1000, r = 100, v = 95, delta = 1e-5 at 95%.
    assert refuted(1000, 100, 95, delta=1e-5) == pytest.approx(2.165, abs=1e-3)


@pytest.mark.parametrize("counts", [(20, 20, 20), (50, 30, 25), (400, 30, 29), (60, 60, 45)])
@pytest.mark.parametrize("delta", [0.0, 1e-5, 1e-3])
def test_refuted_is_where_the_naive_probability_is_the_error(
    counts: tuple[int, int, int], delta: float
) -> None:
    found = refuted(*counts, delta=delta)
    if found == 0:
        assert naive_probability(*counts, delta, 0.0) >= 0.05
    else:
        assert naive_probability(*counts, delta, found) == pytest.approx(0.05, rel=1e-4)
        assert naive_probability(*counts, delta, found - 0.01) < 0.05


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("delta", [0.0, 1e-4])
def test_a_known_epsilon_is_refuted_in_a_twentieth_of_all_cases_at_most(
    epsilon: float, delta: float
) -> None:
    for guesses in (10, 60, 200):  # all that can come out, each with its exact probability
        right = np.arange(guesses + 1)
        mass = binom.pmf(right, guesses, 1 / (1 + math.exp(-epsilon)))
        wrong = [refuted(200, guesses, int(v), delta=delta) > epsilon + 1e-6 for v in right]
        assert mass[wrong].sum() <= 0.05


def test_wrong_counts_are_refused() -> None:
    for counts in ((10, 11, 5), (10, 5, 6), (10, 5, -1)):
        with pytest.raises(ValueError, match="must not fall"):
            refuted(*counts, delta=0.0)


def test_attainable_is_what_randomised_response_is_expected_to_show() -> None:
    assert attainable(500, math.inf, delta=1e-4) == refuted(500, 500, 500, delta=1e-4)
    assert attainable(500, 0.0, delta=0.0) == 0.0
    read = [bound(answers, randomised_response(2.0, (60, 16), seed)) for seed in range(30)]
    assert attainable(8 * 60 // 2, 2.0, delta=0.0) == pytest.approx(np.mean(read), abs=0.15)
    shown = [attainable(bits, 2.0, delta=0.0) for bits in (100, 1000, 10_000)]
    assert shown == sorted(shown)
    assert 1.9 < shown[-1] < 2.0


# --- from shadow models --------------------------------------------------------------------------


@pytest.mark.parametrize("design", ["paired", "bernoulli"])
@pytest.mark.parametrize("epsilon", [0.0, 0.5, 1.0, 3.0])
def test_the_bound_is_below_the_epsilon_of_randomised_response(epsilon: float, design: str) -> None:
    trials = 120
    read = np.array(
        [
            bound(answers, randomised_response(epsilon, (40, 12), seed, design), seed=seed)
            for seed in range(trials)
        ]
    )
    assert (read > epsilon).mean() <= 0.05 + 2.5 * math.sqrt(0.05 * 0.95 / trials)
    if epsilon >= 1:
        assert read.mean() > 0.5 * epsilon


def test_lira_without_a_leak_rarely_refutes_anything() -> None:
    trials = 100
    alarms = [bound(lira, evidence(0.0, seed=seed), seed=seed) > 0 for seed in range(trials)]
    assert np.mean(alarms) <= 0.05 + 2.5 * math.sqrt(0.05 * 0.95 / trials)


@pytest.mark.parametrize("design", ["paired", "bernoulli"])
def test_a_plain_leak_is_shown_nearly_as_far_as_the_bits_go(design: str) -> None:
    given = evidence(8.0, (80, 16), design)
    report = one_run.report(lira, given, delta=0.0, proven=None, seed=0)
    assert 3 < report["epsilon_bound"] <= report["epsilon_bound_largest"]
    assert report["epsilon_bound_counts"]["bits"] == 80 * (4 if design == "paired" else 8)
    assert "epsilon_bound_at_proven" not in report


ATTACKS: list[Callable[[Evidence], object]] = [
    lira,
    lira_parent,
    partial(lira_parent, variance="pooled"),
    nearest,
    threshold,
]


@pytest.mark.parametrize("design", ["paired", "bernoulli"])
@pytest.mark.parametrize(
    "attack", ATTACKS, ids=["lira", "lira_parent", "pooled", "nearest", "threshold"]
)
def test_no_bit_of_a_target_enters_a_guess(attack: Attack, design: str) -> None:
    given = evidence(1.0, design=design)
    references, targets = divide(given, 0)
    member = given.member.copy()
    if design == "paired":
        spared = np.setdiff1d(np.arange(16), references)  # the targets and their partners
        member[:, spared] = ~member[:, spared]
    else:
        member[:, targets] = ~member[:, targets]
    before, after = (
        one_run._statistics(attack, e, references, targets)
        for e in (given, given.with_member(member))
    )
    np.testing.assert_array_equal(before, after)
    flipped = given.member.copy()
    flipped[:, references] = ~flipped[:, references]
    other = one_run._statistics(attack, given.with_member(flipped), references, targets)
    assert (attack is threshold) == np.array_equal(before, other)


@pytest.mark.parametrize("design", ["paired", "bernoulli"])
def test_what_is_guessed_is_settled_without_the_targets(
    design: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their outputs carry their bits, so the number of guesses must not depend on these."""
    given = evidence(1.0, design=design)
    references, _ = divide(given, 0)
    logits = given.logits.copy()
    spared = np.setdiff1d(np.arange(logits.shape[1]), references)
    logits[:, spared] = 3 + 2 * np.random.default_rng(9).normal(size=logits[:, spared].shape)
    plans = []
    planned = one_run._plan
    monkeypatch.setattr(
        one_run, "_plan", lambda *a, **k: plans.append((a[0], p := planned(*a, **k))) or p
    )
    for one in (given, dataclasses.replace(given, logits=logits)):
        one_run.one_run(lira, one, delta=0.0)
    np.testing.assert_array_equal(plans[0][0], plans[1][0])
    assert plans[0][1] == plans[1][1]


def test_an_attack_that_looks_bits_up_finds_none() -> None:
    assert bound(lambda given: given.member.astype(float), evidence(0.0)) == 0.0


def test_pairs_are_compared_with_whole_pairs_as_in_the_audit_itself() -> None:
    given = evidence(2.0)
    assert given.nearest is not None
    references, targets = divide(given, 0)
    found = one_run._statistics(nearest, given, references, targets)
    for place, target in enumerate(targets):
        partner = target + 1 - 2 * (target % 2)
        columns = np.concatenate([references, [target, partner]])
        whole = Evidence(
            given.logits[:, columns],
            given.member[:, columns],
            given.labels,
            given.true_labels,
            nearest=given.nearest[:, columns],
            design="paired",
            seeds=columns,
        )
        np.testing.assert_array_equal(nearest(whole)[:, -2], found[0, :, place])


def test_one_model_of_each_target_pair_and_whole_pairs_of_references() -> None:
    for num_models in (8, 10, 16, 17, 64):
        given = evidence(0.0, (5, num_models), "paired" if num_models % 2 == 0 else "bernoulli")
        if num_models == 17:  # a model whose partner is missing
            cut = evidence(0.0, (5, 18))
            given = one_run._blanked(cut, np.arange(17), np.array([], dtype=int))
        references, targets = divide(given, 3)
        pairs = num_models // 2
        assert len(targets) == pairs - max(3, pairs - pairs // 2)
        assert set(references // 2).isdisjoint(targets // 2)
        assert len(set(targets // 2)) == len(targets)
        assert (np.bincount(references // 2)[np.unique(references // 2)] == 2).all()
        again, other = divide(given, 3), divide(given, 4)
        assert all(np.array_equal(*both) for both in zip((references, targets), again, strict=True))
        assert num_models < 10 or not np.array_equal(targets, other[1])


def test_seeds_not_columns_say_which_models_are_pairs() -> None:
    given = evidence(8.0)
    order = np.random.default_rng(0).permutation(16)
    mixed = one_run._blanked(given, order, np.array([], dtype=int))
    references, targets = divide(mixed, 0)
    assert mixed.seeds is not None
    assert set(mixed.seeds[references] // 2).isdisjoint(mixed.seeds[targets] // 2)
    assert bound(lira, mixed) > 2


def test_balanced_rows_and_few_pairs_have_no_bound_and_say_why() -> None:
    for given, why in (
        (evidence(8.0, design="balanced"), "each bit follows from the others"),
        (evidence(8.0, (40, 6)), "3 pairs: a bound needs 4"),
        (evidence(8.0, (40, 6), "bernoulli"), "6 models: a bound needs 7"),
    ):
        assert one_run.one_run(lira, given, delta=0.0) is None
        said = one_run.report(lira, given, delta=0.0, proven=1.0, seed=0)
        assert said == {"epsilon_bound": None, "epsilon_bound_none": unfit(given)}
        assert why in said["epsilon_bound_none"]


def test_the_highest_are_guessed_in_the_lowest_out_and_what_is_not_finite_is_not_guessed() -> None:
    statistic = np.array([[3.0, np.nan], [1.0, 2.0], [-1.0, -np.inf]])
    np.testing.assert_array_equal(one_run._guess(statistic, 1, 2), [[1, 0], [-1, 0], [-1, 0]])
    np.testing.assert_array_equal(one_run._guess(statistic, 3, 3), [[1, 0], [1, 1], [-1, 0]])

    def holed(given: Evidence) -> Floats:
        found = answers(given)
        found[:20] = np.nan
        return found

    found = one_run.one_run(holed, randomised_response(20.0, (40, 16), 0), delta=0.0)
    assert found is not None
    assert found.right < found.guesses <= found.bits == 160


def test_the_report_of_an_audit_has_it_beside_the_estimates() -> None:
    given = evidence(4.0, (60, 16))
    report, _ = audit(
        lira, given, delta=1e-4, proven=3.0, audit_seed=5, null_rounds=3, bootstrap_rounds=20
    )
    assert report["epsilon_bound"] == bound(lira, given, delta=1e-4, seed=5)
    assert report["epsilon_bound_at_proven"] == attainable(240, 3.0, delta=1e-4)
    assert 0 < report["epsilon_audited"] < report["epsilon_gdp"]
    assert report["epsilon_gdp_delta"] == report["epsilon_audited_delta"] == 1e-4
    assert "removing one image" in report["definitions"]["epsilon_bound_assumes"]
    assert "assumption" in report["definitions"]["epsilon_gdp"]
