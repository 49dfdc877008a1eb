"""Residual networks: ResNets for small images, wide ResNets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from synpriv import architectures
from synpriv.models.network import Network, norm_layer


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al., CVPR 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: str) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            norm_layer(norm, outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            norm_layer(norm, outputs),
        )
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm_layer(norm, outputs)
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
    """ResNet-18 for small images, 11,173,962 parameters on CIFAR-10."""
    own = architectures.resnet18(**options)
    facts: dict[str, Any] = {"num_classes": num_classes, "mean": mean, "std": std}
    return _resnet(own, (2, 2, 2, 2), channels=channels, **facts)


def resnet34(
    *,
    channels: int,
    size: int,
    num_classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    **options: Any,
) -> Network:
    """ResNet-34 for small images, 21,282,122 parameters on CIFAR-10."""
    own = architectures.resnet34(**options)
    facts: dict[str, Any] = {"num_classes": num_classes, "mean": mean, "std": std}
    return _resnet(own, (3, 4, 6, 3), channels=channels, **facts)


def _resnet(
    own: architectures.Architecture,
    num_blocks: Sequence[int],
    *,
    channels: int,
    num_classes: int,
    mean: Sequence[float],
    std: Sequence[float],
) -> Network:
    """Residual network with the CIFAR stem: one 3x3 convolution, no pooling, strides 1-2-2-2."""
    width, norm = own.width, own.norm
    stem = nn.Conv2d(channels, width, 3, padding=1, bias=False)
    layers: list[nn.Module] = [stem, norm_layer(norm, width), nn.ReLU(inplace=True)]
    inputs = width
    for stage, blocks in enumerate(num_blocks):
        outputs = width * 2**stage
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            layers.append(_BasicBlock(inputs, outputs, stride, norm))
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
    pair = [norm_layer(norm, channels, 16), nn.ReLU()]
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
    facts: dict[str, Any] = {"num_classes": num_classes, "mean": mean, "std": std}
    return _wide(own, 16, channels=channels, **facts)


def wrn28_2(
    *,
    channels: int,
    size: int,
    num_classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    **options: Any,
) -> Network:
    """Wide ResNet-28-2 in the same two variants.

    On CIFAR-10 with norm=batch 1,467,610 parameters as usually counted (Zagoruyko and Komodakis,
    BMVC 2016), whose convolutions have no bias, and their biases.
    """
    own = architectures.wrn28_2(**options)
    facts: dict[str, Any] = {"num_classes": num_classes, "mean": mean, "std": std}
    return _wide(own, 28, channels=channels, **facts)


def _wide(
    own: architectures.Architecture,
    depth: int,
    *,
    channels: int,
    num_classes: int,
    mean: Sequence[float],
    std: Sequence[float],
) -> Network:
    """Wide ResNet of `depth` layers, a multiple of 6 and 4 more; `own.width` times 16 channels."""
    width, norm = own.width, own.norm
    layers: list[nn.Module] = [nn.Conv2d(channels, 16, 3, padding=1)]
    inputs = 16
    for stage in range(3):
        outputs = 16 * width * 2**stage
        for block in range((depth - 4) // 6):
            stride = 2 if stage > 0 and block == 0 else 1
            layers.append(_WideBlock(inputs, outputs, stride, norm))
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
