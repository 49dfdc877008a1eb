"""Labelled images as one tensor, and the batched crop and flip on the device they live on."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from synpriv.data.pool import Pool


@dataclass(frozen=True)
class LabelledImages:
    """A whole data set in memory.

    images: uint8 [N,ch,H,W]; labels: int64 [N], or float [N,K] when soft.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        assert self.images.dtype == torch.uint8, self.images.dtype
        assert self.images.ndim == 4, self.images.shape
        assert len(self.images) == len(self.labels)

    @classmethod
    def of(cls, pool: Pool) -> LabelledImages:
        """A pool's images and labels as tensors of their own.

        NumPy may leave any stride at a single channel; torch takes some of them for channels-last
        and computes convolutions another way, to other bits.
        """
        images = torch.empty(pool.images.shape, dtype=torch.uint8)
        images.numpy()[...] = pool.images
        return cls(images, torch.tensor(pool.labels))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Tensor) -> LabelledImages:
        """Rows by an index or mask tensor, never a single image."""
        return LabelledImages(self.images[index], self.labels[index])

    def to(self, device: torch.device) -> LabelledImages:
        return LabelledImages(self.images.to(device), self.labels.to(device))

    def digest(self) -> str:
        """One hash of all images and labels in their order."""
        content = hashlib.sha256(self.images.cpu().contiguous().numpy().data)
        content.update(self.labels.cpu().contiguous().numpy().data)
        return content.hexdigest()


def forward_batch(device: torch.device) -> int:
    """Images per forward pass without gradients.

    A CPU is quicker while a batch stays in its cache (64 against 500 at 32x32: 1.1 to 1.2 times,
    the same bits); a GPU needs many to be busy.
    """
    return 64 if device.type == "cpu" else 1000


def shift_for(height: int) -> int:
    """The protocol's shift: 4 pixels at 32x32, H/8 elsewhere, at least 1."""
    return max(1, height // 8)


def shift(images: Tensor, dy: Tensor, dx: Tensor, padding: int, *, fill: str = "zero") -> Tensor:
    """Move image i by (dy[i], dx[i]) pixels; `fill` what moves in, zeros or (`reflect`) mirrored.

    images [N,ch,H,W] of any dtype, dy and dx int64 [N] in -padding..padding. A mirror lies in the
    middle of the outermost pixels, as torch's.
    """
    num, _, height, width = images.shape
    rows = torch.arange(height, device=images.device) - dy[:, None]  # [N,H]
    columns = torch.arange(width, device=images.device) - dx[:, None]  # [N,W]
    if fill == "reflect":  # torch's own pad takes no uint8
        rows, columns = _mirrored(rows, height), _mirrored(columns, width)
    else:
        images = torch.nn.functional.pad(images, (padding,) * 4)
        rows, columns = rows + padding, columns + padding
    which = torch.arange(num, device=images.device)[:, None, None]
    # Advanced indices around the channel slice put the channels last.
    return images[which, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def _mirrored(index: Tensor, size: int) -> Tensor:
    """Indices up to size - 1 beyond either end, back inside; of one pixel there is only itself."""
    last = size - 1
    return (last - (last - index.abs()).abs()).clamp(min=0)


def random_crop(
    images: Tensor, padding: int, generator: torch.Generator, *, fill: str = "zero"
) -> Tensor:
    """Pad by `padding` and cut the original size at a random place, one place per image."""
    offsets = torch.randint(
        -padding, padding + 1, (2, len(images)), generator=generator, device=images.device
    )
    return shift(images, offsets[0], offsets[1], padding, fill=fill)


def random_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image left to right with probability 1/2."""
    coin = torch.rand(len(images), generator=generator, device=images.device) < 0.5
    return torch.where(coin[:, None, None, None], images.flip(-1), images)


def crop_and_flip(
    images: Tensor, generator: torch.Generator, *, crop: bool, flip: bool, padding: str
) -> Tensor:
    """Random crop, with a padding of H/8 (`zero` or `reflect`), and flip, if wanted, [N,ch,H,W]."""
    if crop:
        images = random_crop(images, shift_for(images.shape[2]), generator, fill=padding)
    return random_flip(images, generator) if flip else images


CHUNK = 50  # optimiser steps per Lightning step


class StepChunks:
    """Step numbers 0..num_steps-1 in lists of up to `CHUNK`.

    One Lightning `training_step` works through a chunk, so Lightning's cost per step is paid once
    per chunk (see docs/sharp_edges.md).
    """

    def __init__(self, num_steps: int) -> None:
        self.num_steps = num_steps

    def __len__(self) -> int:
        return math.ceil(self.num_steps / CHUNK)

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(0, self.num_steps, CHUNK):
            yield list(range(start, min(start + CHUNK, self.num_steps)))


def num_batches(num: int, batch_size: int) -> int:
    """How many batches `ShuffledBatches` makes of `num` samples."""
    return math.ceil(num / batch_size) - _last_is_single(num, batch_size)


def _last_is_single(num: int, batch_size: int) -> bool:
    return num > batch_size > 1 and num % batch_size == 1


class ShuffledBatches:
    """An epoch of shuffled index batches, in chunks: lists of up to `CHUNK` int64 [B] tensors.

    Every sample comes once per epoch and the last, smaller batch is kept. A single sample that is
    left over joins the batch before it: BatchNorm has no variance of one value per channel.
    generator: on the CPU; device: where the images are, moved to at once and not batch by batch.
    """

    def __init__(
        self,
        num: int,
        batch_size: int,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
    ) -> None:
        self.num, self.batch_size = num, batch_size
        self.generator, self.device = generator, device

    @property
    def num_steps(self) -> int:
        """Optimiser steps in one epoch."""
        return num_batches(self.num, self.batch_size)

    def __len__(self) -> int:
        return len(StepChunks(self.num_steps))

    def __iter__(self) -> Iterator[list[Tensor]]:
        order = torch.randperm(self.num, generator=self.generator).to(self.device)
        batches = list(order.split(self.batch_size))
        if _last_is_single(self.num, self.batch_size):
            batches[-2:] = [torch.cat(batches[-2:])]
        for steps in StepChunks(self.num_steps):
            yield list(batches[steps[0] : steps[-1] + 1])


class PoissonBatches:
    """`num_steps` index batches in chunks; each sample joins each batch with `sample_rate`.

    Batches are int64 [B] with a random B that may be 0: what accounting for DP-SGD assumes.
    """

    def __init__(
        self, num: int, sample_rate: float, num_steps: int, generator: torch.Generator
    ) -> None:
        self.num, self.sample_rate = num, sample_rate
        self.num_steps, self.generator = num_steps, generator

    def __len__(self) -> int:
        return len(StepChunks(self.num_steps))

    def __iter__(self) -> Iterator[list[Tensor]]:
        for steps in StepChunks(self.num_steps):
            yield [self._batch() for _ in steps]

    def _batch(self) -> Tensor:
        joins = torch.rand(self.num, generator=self.generator, dtype=torch.float64)
        return torch.nonzero(joins < self.sample_rate)[:, 0]
