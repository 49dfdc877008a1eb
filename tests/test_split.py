"""Golden draws of the audit protocol, and what a split holds."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from synpriv.data.datasets import Source
from synpriv.data.images import LabelledImages
from synpriv.data.split import (
    AuditSplit,
    bernoulli_membership,
    canary_indices,
    make_split,
    membership,
    run_seed,
    wrong_labels,
)

GOLDEN = json.loads((Path(__file__).parent / "golden" / "membership.json").read_text())
draws = pytest.mark.parametrize("draw", [membership, bernoulli_membership])


@pytest.fixture(scope="module")
def golden_canaries() -> NDArray[np.int64]:
    return canary_indices(
        GOLDEN["num_samples"],
        GOLDEN["num_canaries"],
        seed=GOLDEN["seed"],
        num_models=GOLDEN["num_models"],
    )


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
    few = canary_indices(1000, 20, seed=0, num_models=8)
    many = canary_indices(1000, 100, seed=0, num_models=64)
    np.testing.assert_array_equal(many[:20], few)


def test_the_seed_of_a_run_is_unique_over_audits_and_models() -> None:
    assert run_seed(0, audit_seed=0, num_models=64) == 1
    assert run_seed(5, audit_seed=3, num_models=64) == 3 * 65 + 6
    seeds = [run_seed(s, audit_seed=a, num_models=8) for a in range(4) for s in range(8)]
    assert len(set(seeds)) == 32


# --- make_split ----------------------------------------------------------------------------------

NUM, CLASSES = 40, 4


@pytest.fixture
def source() -> Source:
    """Images that carry their own position, so that any subset shows which samples it holds."""

    def pool(start: int, num: int) -> LabelledImages:
        images = torch.arange(start, start + num, dtype=torch.uint8).view(-1, 1, 1, 1)
        return LabelledImages(images.expand(-1, 1, 2, 2).contiguous(), torch.arange(num) % CLASSES)

    return Source(pool(0, NUM), pool(100, 12), pool(200, 8))


def split(source: Source, seed: int = 0, **changes: object) -> AuditSplit:
    options: dict = {
        "kind": "mislabelled",
        "num_canaries": 10,
        "member_draw": "balanced",
        "num_models": 6,
        "audit_seed": 0,
    }
    return make_split(source, **(options | changes), seed=seed)


def positions(images: LabelledImages) -> list[int]:
    return images.images[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("member_draw", ["balanced", "bernoulli"])
@pytest.mark.parametrize("seed", range(6))
def test_train_holds_all_but_the_canaries_left_out(
    source: Source, seed: int, member_draw: str
) -> None:
    made = split(source, seed, member_draw=member_draw)
    canaries = np.array(positions(made.canaries))
    left_out = set(canaries[~made.member.numpy()])
    # In the order of the data set, so that the order says nothing about who is a canary.
    assert positions(made.train) == [i for i in range(NUM) if i not in left_out]


def test_splits_of_all_models_are_the_drawn_membership(source: Source) -> None:
    chosen = canary_indices(NUM, 10, seed=0, num_models=6)
    drawn = membership(NUM, 6, seed=0)[chosen]
    made = [split(source, seed) for seed in range(6)]
    np.testing.assert_array_equal(torch.stack([s.member for s in made], 1).numpy(), drawn)
    assert all(positions(s.canaries) == chosen.tolist() for s in made)


def test_mislabelled_canaries_have_one_wrong_label_everywhere(source: Source) -> None:
    made = [split(source, seed) for seed in range(6)]
    canaries = made[0].canaries
    assert (canaries.labels != made[0].true_labels).all()
    label = dict(zip(positions(canaries), canaries.labels.tolist(), strict=True))
    for each in made:
        torch.testing.assert_close(each.canaries.labels, canaries.labels)
        for position, trained_on in zip(
            positions(each.train), each.train.labels.tolist(), strict=True
        ):
            assert trained_on == label.get(position, position % CLASSES)


def test_clean_canaries_keep_their_label(source: Source) -> None:
    made = split(source, kind="clean")
    torch.testing.assert_close(made.canaries.labels, made.true_labels)
    assert made.train.labels.tolist() == [p % CLASSES for p in positions(made.train)]


def test_true_labels_are_those_of_the_data(source: Source) -> None:
    made = split(source)
    assert made.true_labels.tolist() == [p % CLASSES for p in positions(made.canaries)]


def test_membership_does_not_depend_on_the_number_of_canaries(source: Source) -> None:
    few, many = split(source, num_canaries=4), split(source, num_canaries=NUM)
    assert many.member[:4].tolist() == few.member.tolist()
    assert many.canaries.labels[:4].tolist() == few.canaries.labels.tolist()


def test_the_source_is_left_alone_and_other_pools_pass_through(source: Source) -> None:
    labels = source.private.labels.clone()
    made = split(source)
    torch.testing.assert_close(source.private.labels, labels)
    assert made.test is source.test
    assert made.public is source.public


def test_another_audit_seed_draws_other_canaries(source: Source) -> None:
    assert positions(split(source).canaries) != positions(split(source, audit_seed=1).canaries)


@pytest.mark.parametrize("num_canaries", [0, NUM + 1])
def test_impossible_numbers_of_canaries_are_refused(source: Source, num_canaries: int) -> None:
    with pytest.raises(ValueError, match=rf"num_canaries={num_canaries}: must be 1\.\.{NUM}"):
        split(source, num_canaries=num_canaries)


@pytest.mark.parametrize("num_models", [0, 1, 7])
def test_balanced_membership_needs_an_even_number_of_models(num_models: int) -> None:
    with pytest.raises(ValueError, match=f"num_models={num_models}: must be even"):
        membership(10, num_models, seed=0)


def test_canaries_need_a_model() -> None:
    with pytest.raises(ValueError, match="num_models=0: must be positive"):
        canary_indices(10, 2, seed=0, num_models=0)
