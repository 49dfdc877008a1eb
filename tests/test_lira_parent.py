"""The published LiRA against plain loops, at the null, under perfect leaks, and its symmetries."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from reference import lira as naive

from synpriv.audit import references
from synpriv.audit.attacks import lira_parent as module
from synpriv.audit.attacks.lira import by_view
from synpriv.audit.attacks.lira_parent import VARIANCES, gaussian, lira_parent
from synpriv.audit.evidence import Evidence
from synpriv.audit.metrics import auc, tpr_at_fpr
from synpriv.data.draws import bernoulli_membership, membership

Scores = NDArray[np.float64]
Bools = NDArray[np.bool_]
variances = pytest.mark.parametrize("variance", VARIANCES)
equalised = pytest.mark.parametrize("equalise", [True, False])


def leave_one_out(
    scores: Scores, member: Bools, *, variance: str = "per_sample", equalise: bool = True
) -> Scores:
    without = references.left_out(member, equalise=equalise)
    return gaussian(by_view(scores).values[:, 0], without, variance=variance)


def noise(
    num_canaries: int, num_models: int, num_views: int = 1, *, seed: int = 0
) -> tuple[Scores, Bools]:
    """Scores without any leak (every canary with a mean of its own) and balanced membership."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(num_canaries, num_models, num_views))
    scores += 3 * rng.normal(size=(num_canaries, 1, num_views))
    return scores, membership(num_canaries, num_models, seed=seed)


def coins(num_canaries: int, num_models: int, fewest: int) -> Bools:
    """Independent bits, only rows with at least `fewest` models on each side."""
    drawn = bernoulli_membership(50 * num_canaries, num_models, seed=1)
    enough = np.minimum(drawn.sum(1), (~drawn).sum(1)) >= fewest
    return drawn[enough][:num_canaries]


@variances
@equalised
@pytest.mark.parametrize("num_models", [6, 8, 16])
@pytest.mark.parametrize("num_views", [1, 3])
def test_closed_form_is_the_loop(
    variance: str, equalise: bool, num_models: int, num_views: int
) -> None:
    scores, member = noise(7, num_models, num_views)
    removed = references._model_of_other_side(member) if equalise else None
    np.testing.assert_allclose(
        leave_one_out(scores, member, variance=variance, equalise=equalise),
        naive.leave_one_out(scores, member, variance=variance, removed=removed),
        rtol=2e-7,
        atol=2e-6,
    )


@variances
@equalised
@pytest.mark.parametrize("num_models", [8, 16])
def test_closed_form_is_the_loop_for_independent_bits(
    variance: str, equalise: bool, num_models: int
) -> None:
    member = coins(7, num_models, fewest=3)
    scores, _ = noise(len(member), num_models, 3)
    np.testing.assert_allclose(
        leave_one_out(scores, member, variance=variance, equalise=equalise),
        naive.leave_one_out(scores, member, variance=variance),
        rtol=2e-7,
        atol=2e-6,
    )


@variances
def test_small_blocks_give_the_same_numbers(variance: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scores, member = noise(23, 8, 3)
    whole = leave_one_out(scores, member, variance=variance)
    for size in (1, 2 * 8 * 23):  # one view; two, which do not divide 3
        monkeypatch.setattr(module, "_BLOCK", size)
        blocks = leave_one_out(scores, member, variance=variance)
        np.testing.assert_allclose(blocks, whole, rtol=1e-12)


def test_inputs_are_not_modified() -> None:
    scores, member = noise(5, 8)
    before = scores.copy(), member.copy()
    leave_one_out(scores, member)
    np.testing.assert_array_equal(scores, before[0])
    np.testing.assert_array_equal(member, before[1])


def test_the_equalising_model_is_of_the_opposite_side_and_uniform() -> None:
    member = membership(3000, 8, seed=0)
    other = references._model_of_other_side(member)
    assert (np.take_along_axis(member, other, axis=1) != member).all()
    np.testing.assert_array_equal(other, references._model_of_other_side(member))
    # 24,000 draws over 8 models: 3,000 each, sd 51.
    np.testing.assert_allclose(np.bincount(other.ravel(), minlength=8), 3000, atol=250)


# --- the null ------------------------------------------------------------------------------------


def null_auc(num_models: int, *, equalise: bool, rounds: int = 8) -> float:
    read = []
    for seed in range(rounds):
        scores, member = noise(500, num_models, seed=seed)
        read.append(auc(leave_one_out(scores, member, equalise=equalise), member))
    return float(np.mean(read))


@pytest.mark.parametrize(("num_models", "expected"), [(6, 0.37), (8, 0.44), (16, 0.489)])
def test_without_equalising_few_models_underreport(num_models: int, expected: float) -> None:
    assert null_auc(num_models, equalise=False) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("num_models", [6, 8, 16])
def test_equalising_restores_chance(num_models: int) -> None:
    assert null_auc(num_models, equalise=True) == pytest.approx(0.5, abs=0.01)


@equalised
def test_independent_bits_read_as_chance(equalise: bool) -> None:
    read = []
    for seed in range(8):
        scores, _ = noise(500, 12, seed=seed)
        member = bernoulli_membership(500, 12, seed=seed)
        statistic = leave_one_out(scores, member, equalise=equalise)
        usable = ~np.isnan(statistic)
        read.append(auc(statistic[usable], member[usable]))
    assert np.mean(read) == pytest.approx(0.5, abs=0.01)


@variances
def test_rows_that_are_not_balanced_are_never_equalised(variance: str) -> None:
    scores, member = noise(20, 12)
    member[0] = [True] * 5 + [False] * 7  # one such row is enough: the draw was not balanced
    np.testing.assert_array_equal(
        leave_one_out(scores, member, variance=variance, equalise=True),
        leave_one_out(scores, member, variance=variance, equalise=False),
    )


@pytest.mark.parametrize(("num_models", "mean", "sd"), [(16, 0.067, 0.059), (64, 0.112, 0.044)])
def test_null_tpr_lies_in_the_published_band(num_models: int, mean: float, sd: float) -> None:
    read = []
    for seed in range(12):
        scores, member = noise(500, num_models, seed=seed)
        statistic = leave_one_out(scores, member, equalise=False)
        read.append(100 * tpr_at_fpr(statistic, member, 0.001))
    assert np.mean(read) == pytest.approx(mean, abs=sd / 2)


@equalised
def test_a_target_does_not_stand_in_its_own_gaussian(equalise: bool) -> None:
    # An outlier that took part in its side's fit would look at home there.
    scores, member = noise(1, 8)
    target = int(np.flatnonzero(member[0])[0])
    before = leave_one_out(scores, member, equalise=equalise)[0, target]
    scores[0, target] = 100.0
    after = leave_one_out(scores, member, equalise=equalise)[0, target]
    assert abs(after) > 50 * abs(before)


@pytest.mark.parametrize("num_models", [6, 8])
@pytest.mark.parametrize("values", [(0.0, 1.0), (0.1, 0.3)])
def test_tied_scores_without_a_leak_read_as_chance(
    num_models: int, values: tuple[float, float]
) -> None:
    # Sides that are all equal have no spread at all. What rounding leaves of it must not depend on
    # whether the target was taken out of that side: that would be a leak made by the audit.
    read = []
    for seed in range(12):
        member = membership(300, num_models, seed=seed)
        scores = np.random.default_rng(seed).choice(values, size=(300, num_models, 1), p=[0.8, 0.2])
        read.append(auc(leave_one_out(scores, member), member))
    assert np.mean(read) == pytest.approx(0.5, abs=0.015)


@variances
@equalised
def test_an_outlying_target_leaves_the_digits_of_its_side(variance: str, equalise: bool) -> None:
    scores, member = noise(7, 8, 2)
    scores[np.arange(7), np.arange(7)] += 1e3
    removed = references._model_of_other_side(member) if equalise else None
    np.testing.assert_allclose(
        leave_one_out(scores, member, variance=variance, equalise=equalise),
        naive.leave_one_out(scores, member, variance=variance, removed=removed),
        rtol=1e-6,
        atol=2e-6,
    )


# --- leaks ---------------------------------------------------------------------------------------


@variances
@equalised
@pytest.mark.parametrize("num_models", [8, 32])
def test_a_perfect_leak_reads_as_one(variance: str, equalise: bool, num_models: int) -> None:
    scores, member = noise(100, num_models)
    scores += 1000 * member[:, :, None]
    statistic = leave_one_out(scores, member, variance=variance, equalise=equalise)
    assert tpr_at_fpr(statistic, member, 0.001) == 1.0


def test_constant_scores_are_finite_and_say_nothing() -> None:
    # A saturated classifier: every deviation is zero and stands in as 1e-30.
    _, member = noise(10, 8)
    statistic = leave_one_out(np.full((10, 8, 2), 7.0), member)
    np.testing.assert_array_equal(statistic, 0.0)


def test_a_leak_in_the_spread_alone_is_found() -> None:
    scores, member = noise(200, 32)
    centre = scores.mean(axis=1, keepdims=True)
    scores = np.where(member[:, :, None], centre + 0.1 * (scores - centre), scores)
    assert auc(leave_one_out(scores, member), member) > 0.9


def test_one_strong_canary_does_not_hide_the_others() -> None:
    scores, member = noise(50, 16)
    statistic = leave_one_out(scores, member)
    scores[0] += 1e6 * member[0][:, None]
    np.testing.assert_allclose(
        leave_one_out(scores, member)[1:], statistic[1:], rtol=2e-7, atol=2e-6
    )


# --- symmetries ----------------------------------------------------------------------------------

seeds = st.integers(0, 2**32 - 1)
sizes = st.sampled_from([6, 8, 12])
kinds = st.sampled_from(VARIANCES)


@settings(max_examples=25)
@given(seed=seeds, num_models=sizes, variance=kinds)
def test_canaries_may_be_permuted(seed: int, num_models: int, variance: str) -> None:
    scores, member = noise(9, num_models, 2, seed=seed)
    order = np.random.default_rng(seed).permutation(9)
    np.testing.assert_allclose(
        leave_one_out(scores[order], member[order], variance=variance, equalise=False),
        leave_one_out(scores, member, variance=variance, equalise=False)[order],
        rtol=1e-6,
        atol=1e-9,
    )


@settings(max_examples=25)
@given(seed=seeds, num_models=sizes, variance=kinds)
def test_models_may_be_permuted(seed: int, num_models: int, variance: str) -> None:
    # Not with equalise=True: its seeded draw goes by position.
    scores, member = noise(9, num_models, 2, seed=seed)
    order = np.random.default_rng(seed).permutation(num_models)
    np.testing.assert_allclose(
        leave_one_out(scores[:, order], member[:, order], variance=variance, equalise=False),
        leave_one_out(scores, member, variance=variance, equalise=False)[:, order],
        rtol=1e-6,
        atol=1e-9,
    )


@settings(max_examples=25)
@given(
    seed=seeds,
    num_models=st.just(16),  # fewer come close to float32 resolution, which a shift changes
    variance=kinds,
    equalise=st.booleans(),
    factor=st.floats(0.01, 100) | st.floats(-100, -0.01),
    offset=st.floats(-100, 100),
)
def test_scores_may_be_shifted_and_scaled(
    seed: int, num_models: int, variance: str, equalise: bool, factor: float, offset: float
) -> None:
    scores, member = noise(9, num_models, 2, seed=seed)
    np.testing.assert_allclose(
        leave_one_out(factor * scores + offset, member, variance=variance, equalise=equalise),
        leave_one_out(scores, member, variance=variance, equalise=equalise),
        rtol=1e-4,
        atol=1e-4,
    )


@settings(max_examples=25)
@given(seed=seeds, num_models=sizes, variance=kinds)
def test_flipping_all_bits_negates(seed: int, num_models: int, variance: str) -> None:
    scores, member = noise(9, num_models, 2, seed=seed)
    np.testing.assert_allclose(
        leave_one_out(scores, ~member, variance=variance, equalise=False),
        -leave_one_out(scores, member, variance=variance, equalise=False),
        rtol=1e-6,
        atol=1e-9,
    )


# --- what cannot be estimated --------------------------------------------------------------------


@pytest.mark.parametrize("num_in", [0, 1, 2])
@variances
def test_a_short_row_spoils_only_itself(variance: str, num_in: int) -> None:
    scores, member = noise(8, 8, 2)
    member[3] = np.arange(8) < num_in
    statistic = leave_one_out(scores, member, variance=variance)
    expected = naive.leave_one_out(scores, member, variance=variance)
    assert np.isfinite(np.delete(statistic, 3, axis=0)).all()
    np.testing.assert_allclose(
        np.delete(statistic, 3, 0), np.delete(expected, 3, 0), rtol=2e-7, atol=2e-6
    )


@pytest.mark.parametrize("short", ["in", "out"])
def test_a_target_whose_side_keeps_one_model_reads_nan(short: str) -> None:
    scores, member = noise(8, 8)
    member[3] = (np.arange(8) < 2) == (short == "in")
    statistic = leave_one_out(scores, member)
    np.testing.assert_array_equal(np.isnan(statistic[3]), np.arange(8) < 2)


def test_a_canary_without_members_reads_nan() -> None:
    scores, member = noise(8, 8)
    member[3] = False
    assert np.isnan(leave_one_out(scores, member)[3]).all()


@pytest.mark.parametrize(("num_models", "variance"), [(2, "pooled_raw"), (4, "per_sample")])
def test_too_few_models_are_refused(num_models: int, variance: str) -> None:
    scores, member = noise(5, num_models)
    with pytest.raises(ValueError, match=f"{variance} needs . models IN and OUT"):
        leave_one_out(scores, member, variance=variance)


def test_four_models_are_enough_for_pooled_raw() -> None:
    scores, member = noise(5, 4)
    np.testing.assert_allclose(
        leave_one_out(scores, member, variance="pooled_raw", equalise=False),
        naive.leave_one_out(scores, member, variance="pooled_raw"),
        rtol=2e-7,
        atol=2e-6,
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_counted(bad: float) -> None:
    scores, member = noise(5, 8)
    scores[0, 0], scores[4, 7] = bad, bad
    with pytest.raises(ValueError, match="2 scores are not finite"):
        leave_one_out(scores, member)


def test_unknown_variance_and_wrong_shapes_are_refused() -> None:
    scores, member = noise(5, 8)
    with pytest.raises(ValueError, match=r"attack\.variance=raw: must be one of per_sample"):
        leave_one_out(scores, member, variance="raw")
    with pytest.raises(ValueError, match=r"need \[C,S,Q\]"):
        leave_one_out(scores[:, :, 0], member)


# --- the attack ----------------------------------------------------------------------------------


@pytest.fixture
def evidence() -> Evidence:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, size=20)
    logits = rng.normal(size=(20, 8, 9, 4)).astype(np.float32)
    return Evidence(logits, membership(20, 8, seed=0), labels, (labels + 1) % 4)


def test_the_attack_reads_only_the_first_views(evidence: Evidence) -> None:
    cut = dataclasses.replace(evidence, logits=evidence.logits[:, :, :3])
    np.testing.assert_array_equal(lira_parent(evidence, queries=3), lira_parent(cut))
    assert not np.array_equal(lira_parent(evidence), lira_parent(cut))


def test_the_attack_names_wrong_options(evidence: Evidence) -> None:
    with pytest.raises(ValueError, match=r"attack\.score=loss: must be one of hinge, logit"):
        lira_parent(evidence, score="loss")
    for queries in (0, 10):
        with pytest.raises(ValueError, match=rf"attack\.queries={queries}: must be 1\.\.9"):
            lira_parent(evidence, queries=queries)
