"""Differentiable siamese augmentation (Zhao and Bilen, ICML 2021).

One strategy is drawn per call and applied with the same random parameters to every image of every
batch passed in, so that real and synthetic images stay comparable. Strengths are the paper's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, pad

BRIGHTNESS, SATURATION, CONTRAST = 1.0, 2.0, 0.5
CROP_SHARE, CUTOUT_SHARE = 0.125, 0.5
SCALE, ROTATE_DEGREES = 1.2, 15.0

Transform = Callable[[Tensor], Tensor]


def siamese(
    batches: Sequence[Tensor], strategies: Sequence[str], generator: torch.Generator
) -> list[Tensor]:
    """Augment all batches, float [B,ch,H,W] in normalised space, in the same random way.

    `generator` is on the CPU: a few numbers are drawn per call, whatever the device.
    """
    if not strategies:
        return list(batches)
    name = strategies[int(torch.randint(len(strategies), (), generator=generator))]
    transform = STRATEGIES[name](torch.rand(3, generator=generator).tolist(), batches[0])
    return [transform(batch) for batch in batches]


def _colour(draw: list[float], like: Tensor) -> Transform:
    """Brightness shift, then saturation, then contrast around the image's own mean."""

    def transform(images: Tensor) -> Tensor:
        images = images + BRIGHTNESS * (draw[0] - 0.5)
        grey = images.mean(dim=1, keepdim=True)
        images = grey + (images - grey) * SATURATION * draw[1]
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        return mean + (images - mean) * (CONTRAST + draw[2])

    return transform


def _crop(draw: list[float], like: Tensor) -> Transform:
    """Shift by up to H/8 in both directions, zeros moving in."""
    height, width = like.shape[2:]
    reach = round(height * CROP_SHARE)
    top, left = (int(number * (2 * reach + 1)) for number in draw[:2])

    def transform(images: Tensor) -> Tensor:
        return pad(images, (reach,) * 4)[:, :, top : top + height, left : left + width]

    return transform


def _cutout(draw: list[float], like: Tensor) -> Transform:
    """Zero a square of half the size at a random centre."""
    height, width = like.shape[2:]
    side = round(height * CUTOUT_SHARE)
    top, left = int(draw[0] * height) - side // 2, int(draw[1] * width) - side // 2
    mask = torch.ones(height, width, device=like.device)
    mask[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)] = 0
    return lambda images: images * mask


def _flip(draw: list[float], like: Tensor) -> Transform:
    return (lambda images: images.flip(-1)) if draw[0] < 0.5 else (lambda images: images)


def _scale(draw: list[float], like: Tensor) -> Transform:
    """Stretch height and width by factors in 1/1.2..1.2."""
    low = 1 / SCALE
    x, y = (low + number * (SCALE - low) for number in draw[:2])
    return _affine([[x, 0.0, 0.0], [0.0, y, 0.0]])


def _rotate(draw: list[float], like: Tensor) -> Transform:
    """Turn by up to 15 degrees."""
    angle = math.radians((draw[0] - 0.5) * 2 * ROTATE_DEGREES)
    cos, sin = math.cos(angle), math.sin(angle)
    return _affine([[cos, -sin, 0.0], [sin, cos, 0.0]])


def _affine(matrix: list[list[float]]) -> Transform:
    def transform(images: Tensor) -> Tensor:
        theta = torch.tensor(matrix, device=images.device, dtype=images.dtype)
        size = [1, *images.shape[1:]]
        with torch.autocast(images.device.type, enabled=False):  # bf16 is off by up to 0.07 pixels
            grid = affine_grid(theta[None], size, align_corners=False)
        return grid_sample(images, grid.expand(len(images), -1, -1, -1), align_corners=False)

    return transform


STRATEGIES: dict[str, Callable[[list[float], Tensor], Transform]] = {
    "colour": _colour,
    "crop": _crop,
    "cutout": _cutout,
    "flip": _flip,
    "scale": _scale,
    "rotate": _rotate,
}
