"""Networks: each takes uint8 or unit-range images [B,ch,H,W] and gives logits [B,K].

Their options, and what these may be, are in architectures.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from synpriv import architectures


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


def _norm(kind: str, channels: int, groups: int = 8) -> nn.Module:
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "group":
        return nn.GroupNorm(math.gcd(groups, channels), channels)
    return nn.GroupNorm(channels, channels)  # instance


def convnet(
    *,
    channels: int,
    size: int,
    num_classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    **options: Any,
) -> Network:
    """Small VGG-like net for any size: conv-norm-relu twice per resolution, down to 4 pixels."""
    own = architectures.convnet(**options)
    width, norm = own.width, own.norm
    layers: list[nn.Module] = []
    inputs, outputs = channels, width
    while True:
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), _norm(norm, outputs)]
        layers += [nn.ReLU(inplace=True)]
        layers += [nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), _norm(norm, outputs)]
        layers += [nn.ReLU(inplace=True)]
        if size < 8:
            break
        layers.append(nn.MaxPool2d(2))
        inputs, outputs, size = outputs, min(2 * outputs, 8 * width), size // 2
    layers += [nn.AdaptiveAvgPool2d(2 if size > 1 else 1), nn.Flatten()]
    features = outputs * (4 if size > 1 else 1)
    return Network(nn.Sequential(*layers), nn.Linear(features, num_classes), mean, std)


def convnet3(
    *,
    channels: int,
    size: int,
    num_classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    **options: Any,
) -> Network:
    """ConvNet-D3 of the distillation literature (Zhao, Mopuri and Bilen, ICLR 2021).

    `depth` blocks of conv3x3, norm, relu, average pooling; 28x28 images are padded to 32x32.
    """
    own = architectures.convnet3(**options)
    width, norm = own.width, own.norm
    layers: list[nn.Module] = []
    inputs = channels
    for block in range(own.depth):
        padding = 3 if block == 0 and size == 28 else 1
        size += 2 * padding - 2
        layers += [nn.Conv2d(inputs, width, 3, padding=padding), _norm(norm, width)]
        layers.append(nn.ReLU(inplace=True))
        if size > 1:
            layers.append(nn.AvgPool2d(2))
            size //= 2
        inputs = width
    layers.append(nn.Flatten())
    return Network(nn.Sequential(*layers), nn.Linear(width * size**2, num_classes), mean, std)


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al., CVPR 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: str) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            _norm(norm, outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            _norm(norm, outputs),
        )
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), _norm(norm, outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.main(x) + self.shortcut(x))


def resnet18(
    *,
    channels: int,
    size: int,
    num_classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    **options: Any,
) -> Network:
    """ResNet-18 with the CIFAR stem: one 3x3 convolution, no pooling, strides 1-2-2-2."""
    own = architectures.resnet18(**options)
    width, norm = own.width, own.norm
    stem = nn.Conv2d(channels, width, 3, padding=1, bias=False)
    layers: list[nn.Module] = [stem, _norm(norm, width), nn.ReLU(inplace=True)]
    inputs = width
    for stage in range(4):
        outputs = width * 2**stage
        layers.append(_BasicBlock(inputs, outputs, 1 if stage == 0 else 2, norm))
        layers.append(_BasicBlock(outputs, outputs, 1, norm))
        inputs = outputs
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return Network(nn.Sequential(*layers), nn.Linear(inputs, num_classes), mean, std)


class _WideBlock(nn.Module):
    """Pre-activation block of the audit protocol: stride on the second convolution.

    BatchNorm: norm-relu-conv twice, 1x1 shortcut on the raw input.
    GroupNorm (for DP-SGD): relu-norm-conv twice, and on the shortcut too where it is projected.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, norm: str) -> None:
        super().__init__()
        self.main = nn.Sequential(
            *_activation(norm, inputs),
            nn.Conv2d(inputs, outputs, 3, 1, 1),
            *_activation(norm, outputs),
            nn.Conv2d(outputs, outputs, 3, stride, 1),
        )
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            convolution = nn.Conv2d(inputs, outputs, 1, stride)
            before = _activation(norm, inputs) if norm == "group" else []
            self.shortcut = nn.Sequential(*before, convolution)

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x) + self.shortcut(x)


def _activation(norm: str, channels: int) -> list[nn.Module]:
    pair = [_norm(norm, channels, 16), nn.ReLU()]
    return pair[::-1] if norm == "group" else pair


def wrn16_4(
    *,
    channels: int,
    size: int,
    num_classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    **options: Any,
) -> Network:
    """Wide ResNet-16-4 in the two variants of Aerni et al. (CCS 2024), convolutions with bias.

    On CIFAR-10: 2,751,146 parameters with norm=batch, 2,751,562 with norm=group (16 groups).
    """
    own = architectures.wrn16_4(**options)
    width, norm = own.width, own.norm
    layers: list[nn.Module] = [nn.Conv2d(channels, 16, 3, padding=1)]
    inputs = 16
    for stage in range(3):
        outputs = 16 * width * 2**stage
        layers.append(_WideBlock(inputs, outputs, 1 if stage == 0 else 2, norm))
        layers.append(_WideBlock(outputs, outputs, 1, norm))
        inputs = outputs
    layers += [*_activation(norm, inputs), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    network = Network(nn.Sequential(*layers), nn.Linear(inputs, num_classes), mean, std)
    if norm == "group":
        network.apply(_truncated_normal)
    return network


def _truncated_normal(module: nn.Module) -> None:
    """Standard deviation 1/sqrt(fan_in), cut at the values -2 and 2; zero bias."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        std = 1 / math.sqrt(module.weight[0].numel())
        nn.init.trunc_normal_(module.weight, std=std, a=-2.0, b=2.0)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
