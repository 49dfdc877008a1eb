"""Nearest synthetic images against a naive loop, and the control that they are held against."""

import dataclasses
from typing import Any

import pytest
import torch
from conftest import digits_as_tensors
from hypothesis import given, settings
from hypothesis import strategies as st

from synpriv.data.datasets import digits
from synpriv.data.draws import draw
from synpriv.data.images import LabelledImages
from synpriv.data.intake import take_in
from synpriv.data.split import AuditSplit, make_split
from synpriv.shadow import visual


def noise(num: int, seed: int, shape: tuple[int, ...] = (2, 3, 3)) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(256, (num, *shape), generator=draw, dtype=torch.uint8)


@settings(max_examples=25)
@given(num=st.integers(1, 6), many=st.integers(1, 9), block=st.integers(1, 4))
def test_nearest_is_the_naive_loop(num: int, many: int, block: int) -> None:
    ours, synthetic = noise(num, 0), noise(many, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(visual, "_BLOCK", block)
        found = visual.nearest(ours, synthetic)
    for i, image in enumerate(ours):
        each = [float(((image.double() - s.double()) / 255).norm()) for s in synthetic]
        assert float(found.distance[i]) == pytest.approx(min(each))
        assert each[int(found.index[i])] == pytest.approx(min(each))


def test_a_copy_is_at_distance_zero_and_one_grey_level_is_not() -> None:
    images = noise(4, 0, (3, 32, 32))
    other = images.clone()
    other[1, 0, 0, 0] ^= 1
    found = visual.nearest(images, torch.cat([noise(9, 5, (3, 32, 32)), other]))
    assert found.distance[[0, 2, 3]].tolist() == [0, 0, 0]
    assert float(found.distance[1]) == pytest.approx(1 / 255)
    assert found.index.tolist() == [9, 10, 11, 12]


@pytest.fixture(scope="module")
def split() -> AuditSplit:
    how: dict[str, Any] = {"kind": "mislabelled", "num_canaries": 40, "member_draw": "balanced"}
    pools = take_in(digits())
    return make_split(pools, draw(pools, **how, num_models=4, audit_seed=0), seed=1)


def pairs_of(split: AuditSplit, synthetic: torch.Tensor, num: int = 10) -> dict[str, torch.Tensor]:
    to_canaries = visual.nearest(split.canaries.images, synthetic)
    closer = visual.nearer_held_out(split, synthetic, to_canaries)
    return visual.closest_pairs(split, synthetic, to_canaries, closer, num=num)


def test_copies_of_members_come_first_and_non_members_never(split: AuditSplit) -> None:
    members = split.member.nonzero()[:, 0]
    assert 12 < len(members) < 28
    copied = members[[3, 7, 11]]
    synthetic = torch.cat([noise(50, 0, (1, 8, 8)), split.canaries.images[copied]])
    found = pairs_of(split, synthetic)
    assert set(found["canary"][:3].tolist()) == set(copied.tolist())
    assert found["distance"][:3].tolist() == found["closer"][:3].tolist() == [0, 0, 0]
    assert torch.equal(found["images"][:3], found["synthetic"][:3])
    assert split.member[found["canary"]].all()
    everything = pairs_of(split, split.canaries.images, num=1000)
    assert sorted(everything["canary"].tolist()) == members.tolist()


def test_closer_is_the_share_of_test_images_of_the_true_class(split: AuditSplit) -> None:
    synthetic = digits_as_tensors().public.images[:150]
    found = pairs_of(split, synthetic, num=1000)
    for canary, closer, distance in zip(
        *(found[k].tolist() for k in ("canary", "closer", "distance")), strict=True
    ):
        same = split.test.images[split.test.labels == split.true_labels[canary]]
        control = visual.nearest(same, synthetic).distance
        assert closer == pytest.approx(float((control < distance).double().mean()))
    assert found["closer"].tolist() == sorted(found["closer"].tolist())


def test_controls_are_spread_over_an_ordered_test_set() -> None:
    assert visual.evenly(5, 1000).tolist() == [0, 1, 2, 3, 4]
    chosen = visual.evenly(10_000, 1000)
    assert len(chosen.unique()) == 1000
    assert (chosen.min(), chosen.max()) == (0, 9999)


def test_a_class_without_test_images_is_left_out(split: AuditSplit) -> None:
    rest = split.test[(split.test.labels != 3).nonzero()[:, 0]]
    synthetic = noise(5, 0, (1, 8, 8))
    found = pairs_of(dataclasses.replace(split, test=rest), synthetic, num=1000)
    expected = (split.member & (split.true_labels != 3)).nonzero()[:, 0]
    assert sorted(found["canary"].tolist()) == expected.tolist()
    assert len(expected) < split.member.sum()
    none = dataclasses.replace(split, test=LabelledImages(rest.images, rest.labels + 10))
    assert len(pairs_of(none, synthetic)["canary"]) == 0


def test_non_members_rank_among_held_out_images_unless_the_release_is_a_noisy_copy(
    split: AuditSplit,
) -> None:
    """A vendor's copy with one grey level added is no copy to a hash."""
    tensors = digits_as_tensors()
    private = tensors.private.images.long()
    rng = torch.Generator().manual_seed(0)
    noisy = (private + torch.randint(0, 3, private.shape, generator=rng)).clamp(0, 255).byte()

    def mean_rank(synthetic: torch.Tensor) -> float:
        found = visual.nearest(split.canaries.images, synthetic)
        return float(visual.nearer_held_out(split, synthetic, found)[~split.member].nanmean())

    assert mean_rank(noisy) < 0.05
    assert 0.35 < mean_rank(tensors.public.images) < 0.65
    assert 0.35 < mean_rank(split.train.images) < 0.65  # of members alone: an honest leak
