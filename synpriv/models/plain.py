"""Plain convolutional networks, and that of the distillation literature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from synpriv import architectures
from synpriv.models.network import Network, norm_layer


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
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), norm_layer(norm, outputs)]
        layers += [nn.ReLU(inplace=True)]
        layers += [nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), norm_layer(norm, outputs)]
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
        layers += [nn.Conv2d(inputs, width, 3, padding=padding), norm_layer(norm, width)]
        layers.append(nn.ReLU(inplace=True))
        if size > 1:
            layers.append(nn.AvgPool2d(2))
            size //= 2
        inputs = width
    layers.append(nn.Flatten())
    return Network(nn.Sequential(*layers), nn.Linear(width * size**2, num_classes), mean, std)
