"""Golden draws of the audit protocol."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from synpriv.data.draws import (
    MEMBERSHIPS,
    _streams,
    bernoulli_membership,
    canary_indices,
    membership,
    paired_membership,
    run_seed,
    wrong_labels,
)

GOLDEN = json.loads((Path(__file__).parent / "golden" / "membership.json").read_text())
draws = pytest.mark.parametrize("draw", [membership, paired_membership, bernoulli_membership])
grows = pytest.mark.parametrize("draw", [paired_membership, bernoulli_membership])


@pytest.fixture(scope="module")
def golden_canaries() -> NDArray[np.int64]:
    alone = np.zeros(GOLDEN["num_samples"], dtype=bool)
    return canary_indices(alone, GOLDEN["num_canaries"], seed=GOLDEN["seed"])


@pytest.fixture(scope="module")
def golden_member(golden_canaries: NDArray[np.int64]) -> NDArray[np.bool_]:
    drawn = membership(GOLDEN["num_samples"], GOLDEN["num_models"], seed=GOLDEN["seed"])
    return drawn[golden_canaries]


def test_golden_canaries(golden_canaries: NDArray[np.int64]) -> None:
    assert golden_canaries[:10].tolist() == GOLDEN["first_canaries"]
    assert len(np.unique(golden_canaries)) == GOLDEN["num_canaries"]


@pytest.mark.parametrize("label", range(10))
def test_golden_wrong_labels(label: int, golden_canaries: NDArray[np.int64]) -> None:
    labels = np.full(GOLDEN["num_samples"], label)
    wrong = wrong_labels(labels, GOLDEN["num_classes"], seed=GOLDEN["seed"])
    expected = [k if k < label else k + 1 for k in GOLDEN["first_draws"]]
    assert wrong[golden_canaries[:10]].tolist() == expected


def test_golden_membership(golden_member: NDArray[np.bool_]) -> None:
    in_models = np.flatnonzero(golden_member[0, :16]).tolist()
    assert in_models == GOLDEN["canary_0_in_first_16_models"]
    per_model = golden_member.sum(axis=0)
    assert per_model[0] == GOLDEN["canaries_in_model_0"]
    assert per_model.min() == GOLDEN["fewest_canaries_in_a_model"]
    assert per_model.max() == GOLDEN["most_canaries_in_a_model"]


@pytest.mark.parametrize("draw", [membership, paired_membership])
@pytest.mark.parametrize("num_models", range(2, 66, 2))
def test_each_sample_is_in_exactly_half_the_models(
    draw: Callable[..., NDArray[np.bool_]], num_models: int
) -> None:
    member = draw(300, num_models, seed=3)
    assert member.shape == (300, num_models)
    np.testing.assert_array_equal(member.sum(axis=1), num_models // 2)


@grows
def test_the_first_columns_of_a_larger_matrix_are_the_smaller_one(
    draw: Callable[..., NDArray[np.bool_]],
) -> None:
    for seed in (0, 1, 2**32 - 1):
        whole = draw(50, 64, seed=seed)
        for num_models in range(1, 65):
            np.testing.assert_array_equal(draw(50, num_models, seed=seed), whole[:, :num_models])


def test_each_sample_is_in_one_model_of_each_pair() -> None:
    member = paired_membership(200, 32, seed=4)
    for pair in range(16):
        np.testing.assert_array_equal(member[:, 2 * pair], ~member[:, 2 * pair + 1])


@grows
def test_coins_are_fair_and_independent(draw: Callable[..., NDArray[np.bool_]]) -> None:
    coins = draw(500, 1000, seed=0)[:, ::2] - 0.5  # of pairs one model: 500 x 500 coins
    flips = coins.size
    assert coins.mean() == pytest.approx(0, abs=4 * 0.5 / flips**0.5)
    for rows in (coins, coins.T):  # between samples, between pairs: of the products of two rows
        products = 4 * (rows @ rows.T)[np.triu_indices(500, 1)] / 500**0.5
        assert np.abs(products).max() < 6  # of 124,750 standard normal values
        assert products.var() == pytest.approx(1, abs=0.02)
        assert products.mean() == pytest.approx(0, abs=4 / len(products) ** 0.5)
    others = draw(500, 1000, seed=1)[:, ::2] - 0.5
    assert (coins * others).mean() == pytest.approx(0, abs=4 * 0.25 / flips**0.5)


def test_the_streams_that_grow_are_none_of_the_protocol_s() -> None:
    """Spawned generators are told apart by their key alone, the protocol's begin with 0..2."""
    for stream in _streams(0):
        assert stream.bit_generator.seed_seq.spawn_key[0] < 3  # type: ignore[attr-defined]
    # By hand: the words are the letters of pair, modl and runs.
    for word, drawn in (
        (0x70616972, paired_membership(40, 8, seed=7)[:, 6]),
        (0x6D6F646C, bernoulli_membership(40, 8, seed=7)[:, 3]),
    ):
        own = np.random.PCG64(np.random.SeedSequence(7, spawn_key=(word, 3)))
        np.testing.assert_array_equal(drawn, np.random.Generator(own).random(40) < 0.5)


def test_golden_pairs_and_coins() -> None:
    """Pinned when they were first drawn: cells on disk grow only as long as these stay."""
    paired = paired_membership(1000, 64, seed=0)
    coins = bernoulli_membership(1000, 64, seed=0)
    assert np.flatnonzero(paired[:20, 0]).tolist() == [0, 3, 4, 7, 8, 11, 13, 14, 17, 18, 19]
    assert np.flatnonzero(paired[:20, 63]).tolist() == [1, 2, 3, 5, 7, 9, 11, 13, 14, 16, 19]
    assert np.flatnonzero(coins[:20, 63]).tolist() == [2, 5, 7, 8, 9, 11, 13, 14, 19]
    grown = [run_seed(s, audit_seed=3, member_draw="paired", num_models=64) for s in (0, 63)]
    assert grown == [3726834249, 2315309842]


def test_independent_bits_are_fair_and_not_balanced() -> None:
    member = bernoulli_membership(2000, 16, seed=0)
    assert member.mean() == pytest.approx(0.5, abs=0.01)  # 4 sd of 32,000 coins
    # The number of models IN is binomial, of variance S/4: no two models' bits are tied.
    assert member.sum(axis=1).var() == pytest.approx(4, abs=0.5)
    assert np.corrcoef(member.T)[np.triu_indices(16, 1)].mean() == pytest.approx(0, abs=0.01)


@draws
def test_draws_follow_their_seed(draw: Callable[..., NDArray[np.bool_]]) -> None:
    np.testing.assert_array_equal(draw(50, 8, seed=1), draw(50, 8, seed=1))
    assert not np.array_equal(draw(50, 8, seed=1), draw(50, 8, seed=2))


def test_wrong_labels_are_wrong_and_uniform() -> None:
    labels = np.random.default_rng(0).integers(0, 5, size=20_000)
    wrong = wrong_labels(labels, 5, seed=0)
    assert (wrong != labels).all()
    for label in range(5):
        share = np.bincount(wrong[labels == label], minlength=5) / (labels == label).sum()
        assert share == pytest.approx(np.where(np.arange(5) == label, 0, 0.25), abs=0.03)


def test_more_canaries_only_add_to_fewer() -> None:
    few = canary_indices(np.zeros(1000, dtype=bool), 20, seed=0)
    many = canary_indices(np.zeros(1000, dtype=bool), 100, seed=0)
    np.testing.assert_array_equal(many[:20], few)


def test_the_seed_of_a_balanced_run_is_the_protocol_s() -> None:
    assert run_seed(0, audit_seed=0, member_draw="balanced", num_models=64) == 1
    assert run_seed(5, audit_seed=3, member_draw="balanced", num_models=64) == 3 * 65 + 6


@pytest.mark.parametrize("member_draw", MEMBERSHIPS)
def test_the_seed_of_a_run_is_unique_over_audits_and_models(member_draw: str) -> None:
    def seeds(num_models: int) -> list[int]:
        return [
            run_seed(seed, audit_seed=audit, member_draw=member_draw, num_models=num_models)
            for audit in range(20)
            for seed in range(16)
        ]

    assert len(set(seeds(16))) == 320
    assert 0 <= min(seeds(16)) <= max(seeds(16)) < 2**32
    assert (seeds(16) == seeds(64)) == (member_draw != "balanced")  # as far as both have models


@pytest.mark.parametrize("num_models", [0, 1, 7])
def test_balanced_membership_needs_an_even_number_of_models(num_models: int) -> None:
    with pytest.raises(ValueError, match=f"num_models={num_models}: must be even"):
        membership(10, num_models, seed=0)


def test_canaries_have_no_copy_and_the_others_stay_in_their_order() -> None:
    copies = np.zeros(200, dtype=bool)
    copies[::3] = True
    order = canary_indices(np.zeros(200, dtype=bool), 200, seed=5)
    chosen = canary_indices(copies, 40, seed=5)
    assert chosen.tolist() == [i for i in order if not copies[i]][:40]


@pytest.mark.parametrize("num_canaries", [0, 7])
def test_more_canaries_than_images_without_a_copy_are_refused(num_canaries: int) -> None:
    copies = np.arange(10) < 4
    message = rf"num_canaries={num_canaries}: must be 1\.\.6 \(private images without a copy\)"
    with pytest.raises(ValueError, match=message):
        canary_indices(copies, num_canaries, seed=0)
