"""Labelled images, augmentation on tensors, and the order of batches."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from synpriv.data.images import (
    CHUNK,
    LabelledImages,
    ShuffledBatches,
    StepChunks,
    crop_and_flip,
    num_batches,
    random_crop,
    random_flip,
    shift,
    shift_for,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images() -> Tensor:
    return torch.randint(1, 256, (6, 2, 7, 9), generator=seeded(), dtype=torch.uint8)


# --- LabelledImages ------------------------------------------------------------------------------


def test_only_uint8_images_with_one_label_each(images: Tensor) -> None:
    labels = torch.arange(6)
    assert len(LabelledImages(images, labels)) == 6
    for wrong in ((images.float(), labels), (images[0], labels), (images, labels[:5])):
        with pytest.raises(AssertionError):
            LabelledImages(*wrong)


def test_rows_by_index_and_by_mask(images: Tensor) -> None:
    data = LabelledImages(images, torch.arange(6))
    by_index = data[torch.tensor([4, 1])]
    assert by_index.labels.tolist() == [4, 1]
    assert torch.equal(by_index.images, images[[4, 1]])
    by_mask = data[torch.arange(6) % 2 == 0]
    assert by_mask.labels.tolist() == [0, 2, 4]
    assert torch.equal(by_mask.images, images[::2])


def test_digest_sees_pixels_labels_and_order(images: Tensor) -> None:
    labels = torch.arange(6)
    digest = LabelledImages(images, labels).digest()
    assert LabelledImages(images.clone(), labels.clone()).digest() == digest
    other = images.clone()
    other[0, 0, 0, 0] ^= 1
    assert LabelledImages(other, labels).digest() != digest
    assert LabelledImages(images, labels.roll(1)).digest() != digest
    assert LabelledImages(images, labels)[torch.arange(5, -1, -1)].digest() != digest


# --- shift, crop, flip ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16])
def test_shift_is_the_loop(images: Tensor, dtype: torch.dtype) -> None:
    given = images.to(dtype)
    dy, dx = torch.tensor([0, 2, -2, 1, 0, -1]), torch.tensor([0, -1, 2, 0, -2, -1])
    expected = torch.zeros_like(given)
    for i in range(6):
        for row in range(7):
            for column in range(9):
                y, x = row + int(dy[i]), column + int(dx[i])
                if 0 <= y < 7 and 0 <= x < 9:
                    expected[i, :, y, x] = given[i, :, row, column]
    result = shift(given, dy, dx, 2)
    assert result.dtype == dtype
    assert result.is_contiguous()
    assert torch.equal(result, expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_reflecting_shift_cuts_from_torch_s_reflecting_pad(
    images: Tensor, dtype: torch.dtype
) -> None:
    padded = torch.nn.functional.pad(images.float(), (3,) * 4, mode="reflect")
    dy, dx = torch.tensor([0, 3, -3, 1, 0, -1]), torch.tensor([0, -1, 3, 0, -3, -2])
    result = shift(images.to(dtype), dy, dx, 3, fill="reflect")
    assert result.dtype == dtype
    for i in range(6):
        top, left = 3 - int(dy[i]), 3 - int(dx[i])
        expected = padded[i, :, top : top + 7, left : left + 9]
        assert torch.equal(result[i].float(), expected)
    assert torch.equal(shift(images[:, :, :1, :1], dy.sign(), dx.sign(), 1, fill="reflect"),
                       images[:, :, :1, :1])  # fmt: skip


@pytest.mark.parametrize("crop", [True, False])
def test_padding_is_that_of_the_crop(images: Tensor, crop: bool) -> None:
    ones = torch.ones_like(images).repeat(4, 1, 1, 1)
    zero, reflect = (
        crop_and_flip(ones, seeded(), crop=crop, flip=True, padding=padding)
        for padding in ("zero", "reflect")
    )
    assert torch.equal(reflect, ones)
    assert (zero == 0).any() == crop


def test_shift_is_differentiable() -> None:
    images = torch.rand(2, 1, 4, 4, requires_grad=True)
    shift(images, torch.tensor([1, 0]), torch.tensor([0, 0]), 1).sum().backward()
    assert images.grad is not None
    assert images.grad.sum((1, 2, 3)).tolist() == [12, 16]  # the last row left the first image


@pytest.mark.parametrize(("height", "step"), [(4, 1), (8, 1), (28, 3), (32, 4), (224, 28)])
def test_the_protocols_shift(height: int, step: int) -> None:
    assert shift_for(height) == step


def test_random_crop_moves_every_image_on_its_own_by_at_most_the_padding() -> None:
    num, padding = 2000, 2
    dots = torch.zeros(num, 1, 9, 9, dtype=torch.uint8)
    dots[:, :, 4, 4] = 1
    place = random_crop(dots, padding, seeded()).flatten(1).argmax(1)
    offsets = torch.stack([place // 9 - 4, place % 9 - 4], 1)
    assert offsets.abs().max() == padding
    found, counts = offsets.unique(dim=0, return_counts=True)
    assert len(found) == 25  # all places, (5 x 5), each about equally often: 80, sd 9
    assert 40 < counts.min() <= counts.max() < 120


def test_random_flip_mirrors_half_of_the_images() -> None:
    ramp = torch.arange(4, dtype=torch.uint8).expand(2000, 1, 3, 4)
    mirrored = random_flip(ramp, seeded())[:, 0, 0, 0] == 3
    assert mirrored.float().mean().item() == pytest.approx(0.5, abs=0.05)  # 4 sd
    flipped = random_flip(ramp, seeded())
    for image, is_mirrored in zip(flipped[:20], mirrored[:20], strict=True):
        assert torch.equal(image, ramp[0].flip(-1) if is_mirrored else ramp[0])


@pytest.mark.parametrize("augment", [lambda x, g: random_crop(x, 2, g), random_flip])
def test_augmentation_follows_its_generator(
    augment: Callable[[Tensor, torch.Generator], Tensor], images: Tensor
) -> None:
    before, state = images.clone(), torch.get_rng_state()
    first = augment(images, seeded(1))
    assert torch.equal(first, augment(images, seeded(1)))
    assert any(not torch.equal(first, augment(images, seeded(seed))) for seed in range(2, 6))
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), state)  # the global generator is not touched


# --- batches -------------------------------------------------------------------------------------


@given(num=st.integers(1, 400), batch_size=st.integers(1, 70))
@example(num=65, batch_size=64)
@example(num=64, batch_size=64)
@example(num=3, batch_size=2)
@example(num=CHUNK + 1, batch_size=1)
def test_an_epoch_covers_every_sample_once_and_no_batch_is_a_single_image(
    num: int, batch_size: int
) -> None:
    batches = ShuffledBatches(num, batch_size, seeded())
    chunks = list(batches)
    flat = [batch for chunk in chunks for batch in chunk]
    assert sorted(torch.cat(flat).tolist()) == list(range(num))
    assert all(len(batch) == batch_size for batch in flat[:-1])
    if num > 1 and batch_size > 1:
        assert 2 <= len(flat[-1]) <= batch_size + 1
        joined = num % batch_size == 1 and num > batch_size
        assert len(flat[-1]) == (batch_size + 1 if joined else num % batch_size or batch_size)
    else:
        assert len(flat[-1]) == 1
    assert len(flat) == batches.num_steps == num_batches(num, batch_size)
    assert len(chunks) == len(batches)
    assert all(len(chunk) == CHUNK for chunk in chunks[:-1])
    assert 1 <= len(chunks[-1]) <= CHUNK


def test_batches_are_the_shuffled_order_in_pieces() -> None:
    for num in (100, 97):  # the second leaves a single image over
        flat = [batch for chunk in ShuffledBatches(num, 8, seeded(5)) for batch in chunk]
        assert torch.equal(torch.cat(flat), torch.randperm(num, generator=seeded(5)))


def test_epochs_differ_and_the_generator_decides() -> None:
    def order(batches: ShuffledBatches) -> list[int]:
        return [int(i) for chunk in batches for batch in chunk for i in batch]

    batches = ShuffledBatches(100, 8, seeded(3))
    first, second = order(batches), order(batches)
    assert first != second
    again = ShuffledBatches(100, 8, seeded(3))
    assert [order(again), order(again)] == [first, second]


@pytest.mark.parametrize("num_steps", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_chunks_number_all_steps(num_steps: int) -> None:
    chunks = StepChunks(num_steps)
    listed = list(chunks)
    assert [step for chunk in listed for step in chunk] == list(range(num_steps))
    assert len(chunks) == len(listed)
    assert all(len(chunk) == CHUNK for chunk in listed[:-1])
