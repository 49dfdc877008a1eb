"""Differentiable siamese augmentation."""

import pytest
import torch
from torch import Tensor

from synpriv import recipe
from synpriv.data import dsa
from synpriv.data.dsa import STRATEGIES
from synpriv.data.images import shift
from synpriv.recipe import strategies

every = pytest.mark.parametrize("strategy", STRATEGIES)
shapes = pytest.mark.parametrize("shape", [(5, 1, 8, 8), (4, 3, 32, 32), (2, 3, 28, 28)])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def siamese(batches: list[Tensor], names: list[str], generator: torch.Generator) -> list[Tensor]:
    """All images of one class."""
    labels = [torch.zeros(len(batch), dtype=torch.long) for batch in batches]
    return dsa.siamese(batches, labels, names, generator, num_classes=1)


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=seeded(seed))


@every
@shapes
def test_shape_is_kept_and_gradients_flow(strategy: str, shape: tuple[int, ...]) -> None:
    for seed in range(4):
        batch = images(*shape).requires_grad_()
        (result,) = siamese([batch], [strategy], seeded(seed))
        assert result.shape == batch.shape
        assert torch.isfinite(result).all()
        result.square().sum().backward()
        assert batch.grad is not None
        assert torch.isfinite(batch.grad).all()
        assert (batch.grad != 0).float().mean() > 0.4  # cutout and crop drop some pixels


@every
def test_all_batches_are_transformed_alike(strategy: str) -> None:
    # Batches of different sizes, the shorter one the beginning of the longer.
    batch = images(6, 3, 16, 16)
    for seed in range(10):
        real, synthetic = siamese([batch, batch[:2]], [strategy], seeded(seed))
        torch.testing.assert_close(synthetic, real[:2])


@every
def test_an_image_does_not_depend_on_its_neighbours(strategy: str) -> None:
    batch, others = images(4, 3, 16, 16), images(4, 3, 16, 16, seed=1)
    mixed = torch.cat([batch[:1], others[1:]])
    first, second = (siamese([given], [strategy], seeded(2))[0][0] for given in (batch, mixed))
    torch.testing.assert_close(first, second)


@every
def test_the_generator_decides(strategy: str) -> None:
    batch, state = images(3, 3, 16, 16), torch.get_rng_state()
    before = batch.clone()
    results = [siamese([batch], [strategy], seeded(seed))[0] for seed in range(8)]
    again = [siamese([batch], [strategy], seeded(seed))[0] for seed in range(8)]
    assert all(torch.equal(a, b) for a, b in zip(results, again, strict=True))
    assert any(not torch.equal(results[0], other) for other in results[1:])
    assert torch.equal(batch, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_one_generator_gives_another_transform_at_each_call() -> None:
    batch, generator = images(3, 3, 16, 16), seeded()
    results = [siamese([batch], ["rotate"], generator)[0] for _ in range(3)]
    assert not torch.equal(results[0], results[1])
    assert not torch.equal(results[1], results[2])


def test_every_strategy_of_the_list_is_drawn() -> None:
    # Of ones, only cutout makes zeros.
    batch, generator = torch.ones(1, 1, 8, 8), seeded()
    zeros = [
        bool((siamese([batch], ["flip", "cutout"], generator)[0] == 0).any()) for _ in range(60)
    ]
    assert 15 < sum(zeros) < 45


def test_crop_is_a_shift_by_up_to_an_eighth_with_zeros() -> None:
    batch = images(2, 1, 16, 16)
    shifts = {
        (dy, dx): shift(batch, torch.full((2,), dy), torch.full((2,), dx), 2)
        for dy in range(-2, 3)
        for dx in range(-2, 3)
    }
    found = []
    for seed in range(300):
        (result,) = siamese([batch], ["crop"], seeded(seed))
        found += [moves for moves, wanted in shifts.items() if torch.equal(result, wanted)]
    assert len(found) == 300  # each draw is one of the shifts
    assert set(found) == set(shifts)  # and each shift is drawn


def test_flip_mirrors_half_of_the_time() -> None:
    batch = images(2, 3, 8, 8)
    results = [siamese([batch], ["flip"], seeded(seed))[0] for seed in range(100)]
    mirrored = sum(torch.equal(result, batch.flip(-1)) for result in results)
    kept = sum(torch.equal(result, batch) for result in results)
    assert mirrored + kept == 100
    assert 30 < mirrored < 70


def test_cutout_zeroes_one_square_of_half_the_size() -> None:
    batch = torch.ones(1, 1, 16, 16)
    areas = set()
    for seed in range(200):
        hole = siamese([batch], ["cutout"], seeded(seed))[0][0, 0] == 0
        rows, columns = hole.any(1), hole.any(0)
        assert torch.equal(hole, rows[:, None] & columns)  # a rectangle
        assert 4 <= int(rows.sum()) <= 8
        assert 4 <= int(columns.sum()) <= 8
        areas.add(int(hole.sum()))
    assert max(areas) == 64


def test_colour_keeps_the_pattern_of_a_grey_image() -> None:
    # Without colours only brightness and contrast remain: an affine map of the pixels.
    grey = images(1, 1, 8, 8).expand(1, 3, 8, 8).contiguous()
    (result,) = siamese([grey], ["colour"], seeded(1))
    centred, before = result - result.mean(), grey - grey.mean()
    factor = (centred * before).sum() / before.square().sum()
    assert 0.5 <= factor <= 1.5
    torch.testing.assert_close(centred, factor * before, rtol=1e-4, atol=1e-5)
    assert abs(float(result.mean() - grey.mean())) <= 0.5


@pytest.mark.parametrize("strategy", ["scale", "rotate"])
def test_autocast_moves_no_pixel(strategy: str) -> None:
    batch = images(4, 3, 32, 32)
    (expected,) = siamese([batch], [strategy], seeded(1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (found,) = siamese([batch], [strategy], seeded(1))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("strategy", ["scale", "rotate"])
def test_geometry_keeps_the_centre(strategy: str) -> None:
    # A centred blob stays where it is, whatever the factor or the angle.
    axis = torch.arange(17) - 8.0
    blob = torch.exp(-(axis[:, None] ** 2 + axis**2) / 8)[None, None]
    for seed in range(10):
        (result,) = siamese([blob], [strategy], seeded(seed))
        assert int(result.argmax()) == 8 * 17 + 8
        assert float((result.sum((0, 1, 3)) * axis).sum()) == pytest.approx(0, abs=1e-2)


def test_no_strategy_leaves_the_batches_alone() -> None:
    batch = images(2, 3, 8, 8)
    assert siamese([batch, batch], [], seeded())[1] is batch


def test_the_recipe_knows_the_strategies() -> None:
    assert tuple(STRATEGIES) == recipe.STRATEGIES


def test_each_class_draws_for_itself_and_alike_in_all_batches() -> None:
    names, num = list(STRATEGIES), 40
    one = images(1, 3, 16, 16)
    classes = torch.randint(0, num, (200,), generator=seeded(1))
    other = torch.arange(num).flip(0)
    first, second = dsa.siamese(
        [one.expand(200, -1, -1, -1), one.expand(num, -1, -1, -1)],
        [classes, other], names, seeded(), num_classes=num,
    )  # fmt: skip
    draw = seeded()
    which = torch.randint(len(names), (num,), generator=draw).tolist()
    numbers = torch.rand(num, 3, generator=draw)
    assert set(which) == set(range(len(names)))
    for k in range(num):
        alone = STRATEGIES[names[which[k]]](one, numbers[k : k + 1])[0]
        for batch, labels in ((first, classes), (second, other)):
            for image in batch[labels == k]:
                torch.testing.assert_close(image, alone)


def test_training_draws_one_strategy_per_batch_and_numbers_per_image() -> None:
    ramp = torch.arange(8.0).expand(500, 1, 8, 8)
    seen = set()
    for seed in range(10):
        result = dsa.each(ramp, ["flip", "cutout"], seeded(seed))
        mirrored = (result == ramp.flip(-1)).flatten(1).all(1)
        kept = (result == ramp).flatten(1).all(1)
        flips = bool((mirrored | kept).all())
        assert 0.4 < mirrored.float().mean() < 0.6 if flips else not mirrored.any()
        assert len(result.unique(dim=0)) == 2 if flips else len(result.unique(dim=0)) > 20
        seen.add(flips)
    assert seen == {True, False}


def test_images_that_may_not_be_mirrored_never_are() -> None:
    assert strategies(["flip", "crop"], flip=False) == ["crop"]
    assert strategies(["flip", "crop"], flip=True) == ["flip", "crop"]
