"""Recipes of the networks in models.py, named as these are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from synpriv.recipe import Recipe
from synpriv.signatures import require

NORMS = ("batch", "group", "instance")


@dataclass(frozen=True, kw_only=True)
class Architecture(Recipe):
    """Base class: every network has a width and a normalisation."""

    norms: ClassVar[tuple[str, ...]] = NORMS  # that it can have

    width: int
    norm: str

    def __post_init__(self) -> None:
        require(self.width >= 1, f"width={self.width}", "at least 1")
        *others, last = self.norms
        right = f"{', '.join(others)} or {last} for {type(self).__name__}"
        require(self.norm in self.norms, f"norm={self.norm}", right)


@dataclass(frozen=True, kw_only=True)
class convnet(Architecture):
    """Small VGG-like network, any image size."""

    makes = "synpriv.models.convnet"
    width: int = 32
    norm: str = "batch"


@dataclass(frozen=True, kw_only=True)
class convnet3(Architecture):
    """ConvNet-D3 of the distillation literature, `depth` blocks."""

    makes = "synpriv.models.convnet3"
    width: int = 128
    depth: int = 3
    norm: str = "instance"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.depth >= 1, f"depth={self.depth}", "at least 1")


@dataclass(frozen=True, kw_only=True)
class resnet18(Architecture):
    """ResNet-18 with the CIFAR stem."""

    makes = "synpriv.models.resnet18"
    width: int = 64
    norm: str = "batch"


@dataclass(frozen=True, kw_only=True)
class wrn16_4(Architecture):
    """Wide ResNet-16-4, with batch or group normalisation."""

    makes = "synpriv.models.wrn16_4"
    norms = ("batch", "group")
    width: int = 4
    norm: str = "batch"
