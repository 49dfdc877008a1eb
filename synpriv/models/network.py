"""What every network is: normalisation by public constants, features, a head."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Network(nn.Module):
    """Normalisation by public constants, features, linear head.

    Normalisation sits inside so that augmentation, query views and released images all live in
    pixel space, and padding is black before it is normalised. features: normalised images
    [B,ch,H,W] -> [B,D]; head: -> logits [B,K], an nn.Linear for methods that look at the features.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, features: nn.Module, head: nn.Module, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__()
        self.features, self.head = features, head
        # Not persistent: constants of the data set, not weights.
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 0..255 or float 0..1 -> zero mean, unit variance, float32."""
        if images.dtype == torch.uint8:
            images = images.float() / 255
        return (images - self.mean) / self.std

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(self.normalise(images)))


def norm_layer(kind: str, channels: int, groups: int = 8) -> nn.Module:
    """A normalisation by its name; `groups` are of kind=group, fewer where channels ask for it."""
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "group":
        return nn.GroupNorm(math.gcd(groups, channels), channels)
    return nn.GroupNorm(channels, channels)  # instance
