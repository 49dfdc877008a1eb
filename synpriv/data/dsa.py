"""Differentiable siamese augmentation (Zhao and Bilen, ICML 2021), of floats in normalised space.

A strategy takes images [B,ch,H,W] and numbers [B,3] in 0..1, and gives image i the transform that
its numbers say. Strengths are the paper's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from synpriv.data.images import shift

BRIGHTNESS, SATURATION, CONTRAST = 1.0, 2.0, 0.5
CROP_SHARE, CUTOUT_SHARE = 0.125, 0.5
SCALE, ROTATE_DEGREES = 1.2, 15.0

Strategy = Callable[[Tensor, Tensor], Tensor]


def siamese(
    batches: Sequence[Tensor],
    labels: Sequence[Tensor],
    names: Sequence[str],
    generator: torch.Generator,
    *,
    num_classes: int,
) -> list[Tensor]:
    """Augment all images of a class in the same random way, in all batches; classes differ.

    Each class draws one of the strategies `names`. batches: [B,ch,H,W]; labels: int64 [B] each, on
    the CPU as the generator, so that a GPU is not waited for.
    """
    if not names:
        return list(batches)
    drawn = torch.randint(len(names), (num_classes,), generator=generator)
    numbers = torch.rand(num_classes, 3, generator=generator)
    classes = torch.cat([*labels])
    done = _by_strategy(torch.cat([*batches]), names, drawn[classes], numbers[classes])
    return list(done.split([len(batch) for batch in batches]))


def _by_strategy(images: Tensor, names: Sequence[str], drawn: Tensor, numbers: Tensor) -> Tensor:
    """Image i by strategy drawn[i] with numbers[i]; both on the CPU."""
    order = drawn.argsort(stable=True)
    sizes = torch.bincount(drawn, minlength=len(names)).tolist()
    device = images.device
    parts = zip(
        names, images[order.to(device)].split(sizes), numbers[order].to(device).split(sizes),
        strict=True,
    )  # fmt: skip
    done = [STRATEGIES[name](part, own) for name, part, own in parts if len(part)]
    return torch.cat(done)[order.argsort().to(device)]


def each(images: Tensor, names: Sequence[str], generator: torch.Generator) -> Tensor:
    """Augment every image [B,ch,H,W] by one drawn strategy, each in its own random way.

    That is how the paper trains on synthetic sets. `generator` is on the CPU.
    """
    name = names[int(torch.randint(len(names), (), generator=generator))]
    numbers = torch.rand(len(images), 3, generator=generator)
    return STRATEGIES[name](images, numbers.to(images.device))


def _colour(images: Tensor, numbers: Tensor) -> Tensor:
    """Brightness shift, then saturation, then contrast around the image's own mean."""
    brightness, saturation, contrast = (number.view(-1, 1, 1, 1) for number in numbers.unbind(1))
    images = images + BRIGHTNESS * (brightness - 0.5)
    grey = images.mean(dim=1, keepdim=True)
    images = grey + (images - grey) * SATURATION * saturation
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (images - mean) * (CONTRAST + contrast)


def _crop(images: Tensor, numbers: Tensor) -> Tensor:
    """Shift by up to H/8 in both directions, zeros moving in."""
    reach = round(images.shape[2] * CROP_SHARE)
    moves = (numbers[:, :2] * (2 * reach + 1)).long().clamp(max=2 * reach) - reach
    return shift(images, moves[:, 0], moves[:, 1], reach)


def _cutout(images: Tensor, numbers: Tensor) -> Tensor:
    """Zero a square of half the size at a random centre."""
    height, width = images.shape[2:]
    side = round(height * CUTOUT_SHARE)

    def inside(number: Tensor, length: int) -> Tensor:
        start = (number * length).long()[:, None] - side // 2
        place = torch.arange(length, device=images.device)
        return (place >= start) & (place < start + side)

    rows, columns = inside(numbers[:, 0], height), inside(numbers[:, 1], width)
    return images * ~(rows[:, :, None] & columns[:, None, :])[:, None]


def _flip(images: Tensor, numbers: Tensor) -> Tensor:
    return torch.where(numbers[:, 0].view(-1, 1, 1, 1) < 0.5, images.flip(-1), images)


def _scale(images: Tensor, numbers: Tensor) -> Tensor:
    """Stretch height and width by factors in 1/1.2..1.2."""
    low = 1 / SCALE
    x, y = (low + numbers[:, :2] * (SCALE - low)).unbind(1)
    return _affine(images, (x, torch.zeros_like(x)), (torch.zeros_like(y), y))


def _rotate(images: Tensor, numbers: Tensor) -> Tensor:
    """Turn by up to 15 degrees."""
    angle = (numbers[:, 0] - 0.5) * (2 * math.radians(ROTATE_DEGREES))
    cos, sin = angle.cos(), angle.sin()
    return _affine(images, (cos, -sin), (sin, cos))


def _affine(images: Tensor, *rows: tuple[Tensor, Tensor]) -> Tensor:
    """Sample image i where its 2x2 matrix of row vectors [B], without a shift, sends each place."""
    matrix = torch.stack([torch.stack([*row, torch.zeros_like(row[0])], 1) for row in rows], 1)
    with torch.autocast(images.device.type, enabled=False):  # bf16 is off by up to 0.07 pixels
        grid = affine_grid(matrix, list(images.shape), align_corners=False)
    return grid_sample(images, grid, align_corners=False)


STRATEGIES: dict[str, Strategy] = {
    "colour": _colour,
    "crop": _crop,
    "cutout": _cutout,
    "flip": _flip,
    "scale": _scale,
    "rotate": _rotate,
}
