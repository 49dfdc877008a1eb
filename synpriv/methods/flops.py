"""Floating-point operations of a training, counted in its first steps.

What a step takes follows from the shapes that it works on. So each part of a method is counted once
per stage, by torch's own counter, and then known for as often and as many images as it is gone
through: counting every step would cost a small network as much as the steps themselves.

Counted as torch counts: two for each multiplication with an addition, in matrix products,
convolutions and attention, forward and back; norms, activations and optimisers are not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count


class Count:
    """What a stage of a run has taken so far."""

    def __init__(self, of_one: dict[str, float]) -> None:
        self.total: float | None = None  # none of its parts was counted
        self.of_one = of_one  # by part

    def add(self, flops: float) -> None:
        self.total = (self.total or 0.0) + flops


def counter() -> FlopCounterMode:
    """A counter of whatever runs inside: torch's, right also for convolutions in groups.

    torch 2.15 counts their weights' gradients as if there were one group: for the per-sample
    gradients of DP-SGD too much by a factor of the batch, for depthwise ones by their channels.
    """
    backward = {torch.ops.aten.convolution_backward: _convolution_backward}
    return FlopCounterMode(display=False, custom_mapping=backward)


def _convolution_backward(
    grad_out: list[int], x: list[int], weight: list[int], *others: Any, **_: Any
) -> int:
    """Of shapes: what the forward pass takes, for each of both gradients that is asked for."""
    transposed, output_mask = others[4], others[7]
    return sum(output_mask[:2]) * conv_flop_count(x, weight, grad_out, transposed=transposed)


_current: ContextVar[Count | None] = ContextVar("count", default=None)


@contextmanager
def counted(of_one: dict[str, float] | None = None) -> Iterator[Count]:
    """Count the parts that are gone through inside.

    of_one: what one image takes of parts that are known already; those that become known are added.
    A step that is counted may round otherwise than one that is not (a UNet's does), so a training
    that is taken up must not count again.
    """
    count = Count({} if of_one is None else of_one)
    token = _current.set(count)
    try:
        yield count
    finally:
        _current.reset(token)


@contextmanager
def part(name: str, size: int = 1) -> Iterator[None]:
    """A part of a method, of a cost in proportion to `size`, as a rule its images.

    Its `name` stands for one cost per image: what takes more or less on another occasion is another
    part. Parts do not hold each other.
    """
    count = _current.get()
    if count is None or size == 0:
        yield
        return
    if name in count.of_one:
        yield
    else:
        with counter() as seen:
            yield
        count.of_one[name] = seen.get_total_flops() / size
    count.add(count.of_one[name] * size)
