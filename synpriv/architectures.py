"""Recipes of the networks in models.py, named as these are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from synpriv.recipe import Facts, Recipe
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
        several = f"{', '.join(others)} or " if others else ""
        right = f"{several}{last} for {type(self).__name__}"
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
class resnet34(Architecture):
    """ResNet-34 with the CIFAR stem."""

    makes = "synpriv.models.resnet34"
    width: int = 64
    norm: str = "batch"


@dataclass(frozen=True, kw_only=True)
class wrn16_4(Architecture):
    """Wide ResNet-16-4, with batch or group normalisation."""

    makes = "synpriv.models.wrn16_4"
    norms = ("batch", "group")
    width: int = 4
    norm: str = "batch"


@dataclass(frozen=True, kw_only=True)
class wrn28_2(Architecture):
    """Wide ResNet-28-2, with batch or group normalisation."""

    makes = "synpriv.models.wrn28_2"
    norms = ("batch", "group")
    width: int = 2
    norm: str = "batch"


@dataclass(frozen=True, kw_only=True)
class Patched(Architecture, ABC):
    """Base class of networks that see squares of `patch_size` pixels: LayerNorm alone.

    Nothing is dropped unless it is asked for: dropping regularises, and would lower what a model
    remembers of its private images for a reason that has nothing to do with the method.
    """

    norms = ("layer",)

    patch_size: int | None

    def __post_init__(self) -> None:
        super().__post_init__()
        patch = self.patch_size
        require(patch is None or patch >= 1, f"patch_size={patch}", "at least 1")

    def check(self, facts: Facts) -> None:
        self.patch(facts.image_shape[1])

    @abstractmethod
    def patch(self, size: int) -> int:
        """Pixels a side of a patch; ValueError where images of `size` cannot be cut so."""


@dataclass(frozen=True, kw_only=True)
class vit_tiny(Patched):
    """Vision transformer; `width` is that of a token, 3 heads of 64 each, `depth` blocks."""

    makes = "synpriv.models.vit_tiny"
    width: int = 192
    depth: int = 12
    num_heads: int = 3
    patch_size: int = 4
    dropout: float = 0.0
    norm: str = "layer"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.depth >= 1, f"depth={self.depth}", "at least 1")
        heads, dropout = self.num_heads, self.dropout
        fits = heads >= 1 and self.width % heads == 0
        require(fits, f"num_heads={heads}", f"a divisor of width={self.width}")
        require(0 <= dropout < 1, f"dropout={dropout}", "at least 0, below 1")

    def patch(self, size: int) -> int:
        patch = self.patch_size
        right = f"a divisor of {size}, the side of the images in pixels"
        require(size % patch == 0, f"patch_size={patch}", right)
        return patch


@dataclass(frozen=True, kw_only=True)
class convnext_tiny(Patched):
    """ConvNeXt: `depths` blocks at each resolution, which is halved between them.

    patch_size: null = 2, or 1 where images are too small for that.
    """

    makes = "synpriv.models.convnext_tiny"
    width: int = 96
    depths: Sequence[int] = (3, 3, 9, 3)
    patch_size: int | None = None
    layer_scale: float = 1e-6
    stochastic_depth: float = 0.0
    norm: str = "layer"

    def __post_init__(self) -> None:
        super().__post_init__()
        depths, dropped = list(self.depths), self.stochastic_depth
        fits = all(depth >= 1 for depth in depths) and sum(depths) >= 2
        require(fits, f"depths={depths}", "blocks per stage, each at least 1, 2 in all")
        require(self.layer_scale > 0, f"layer_scale={self.layer_scale}", "positive")
        require(0 <= dropped < 1, f"stochastic_depth={dropped}", "at least 0, below 1")

    def patch(self, size: int) -> int:
        stages = len(self.depths)
        least = 2 ** (stages - 1)
        patch = self.patch_size or (2 if size >= 2 * least else 1)
        places = size // patch
        given = f"patch_size={patch}: images of {size}x{size} leave {places}x{places} places"
        right = f"smaller, or depths shorter: {stages} stages need {least}x{least}"
        require(places >= least, given, right)
        return patch
