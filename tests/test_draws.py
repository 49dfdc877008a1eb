"""Golden draws of the audit protocol."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from synpriv.data.draws import (
    bernoulli_membership,
    canary_indices,
    membership,
    run_seed,
    wrong_labels,
)

GOLDEN = json.loads((Path(__file__).parent / "golden" / "membership.json").read_text())
draws = pytest.mark.parametrize("draw", [membership, bernoulli_membership])


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


@pytest.mark.parametrize("num_models", [2, 6, 64])
def test_each_sample_is_in_exactly_half_the_models(num_models: int) -> None:
    member = membership(300, num_models, seed=3)
    assert member.shape == (300, num_models)
    np.testing.assert_array_equal(member.sum(axis=1), num_models // 2)


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


def test_the_seed_of_a_run_is_unique_over_audits_and_models() -> None:
    assert run_seed(0, audit_seed=0, num_models=64) == 1
    assert run_seed(5, audit_seed=3, num_models=64) == 3 * 65 + 6
    seeds = [run_seed(s, audit_seed=a, num_models=8) for a in range(4) for s in range(8)]
    assert len(set(seeds)) == 32


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
