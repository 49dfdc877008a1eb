"""The options of something heavy, checked without importing it.

torch and Lightning take seconds to import. A yaml's `_target_` is therefore a small dataclass that
knows which options there are, which values they take and which data they fit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from hydra.utils import get_object

from synpriv.signatures import require


@dataclass(frozen=True)
class Facts:
    """What a recipe may know of one shadow model before anything is trained: sizes, no image."""

    num_classes: int
    image_shape: tuple[int, int, int]
    expected_size: int  # of the private set, public
    num_train: int  # its true size
    smallest_class: int  # images, among classes 0..K-1 by the labels that are trained on
    num_public: int | None
    largest_public_label: int | None
    norm: str  # of the audited network
    teacher_norm: str | None = None
    proxy_epochs: int | None = None
    seed: int = 0  # of the shadow model
    split_sha256: Callable[[int], str] | None = None  # of a seed: which private set it has
    class_names: tuple[str, ...] = ()  # by label


@dataclass(frozen=True)
class Recipe:
    """Base class: each field is an option, wrong values are refused when it is made."""

    makes: ClassVar[str]  # dotted name of what takes these options
    parts: ClassVar[tuple[str, ...]] = ()  # sub-nodes of the yaml that are recipes of their own
    # Of methods, see `Method`.
    releases_images: ClassVar[bool] = True
    promises_privacy: ClassVar[bool] = False
    can_be_made_anew: ClassVar[bool] = True  # from any private set: sets made elsewhere cannot

    def check(self, facts: Facts) -> None:
        """Raise ValueError where these options cannot work on such data."""

    def warnings(self) -> tuple[str, ...]:
        """What whoever starts a training should know of these options, in words."""
        return ()

    def needs(self) -> dict[str, tuple[str, ...]]:
        """What networks need beyond logits, by the part whose they are; `model` is the audited one.

        `features` before a linear head, `batch_norm` statistics, `sample_gradients`.
        """
        return {}

    def make(self) -> Callable[..., Any]:
        """The heavy thing with its options, still to be given what it works on."""
        options = {field.name: getattr(self, field.name) for field in fields(self)}
        return functools.partial(get_object(self.makes), **options)


PADDINGS = ("zero", "reflect")  # of a random crop


def check_padding(padding: str) -> None:
    """What a random crop fills in."""
    require(padding in PADDINGS, f"padding={padding}", " or ".join(PADDINGS))


# Of differentiable siamese augmentation.
STRATEGIES = ("colour", "crop", "cutout", "flip", "scale", "rotate")


def check_strategies(names: Sequence[str]) -> None:
    """What siamese augmentation can draw from."""
    unknown = sorted(set(names) - set(STRATEGIES))
    require(not unknown, f"augment={unknown}", f"among {', '.join(STRATEGIES)}")


def strategies(names: Sequence[str], *, flip: bool) -> list[str]:
    """What siamese augmentation draws from where images may, or may not, be mirrored."""
    return [name for name in names if flip or name != "flip"]


def check_momentum(momentum: float, weight_decay: float) -> None:
    """What SGD takes."""
    require(0 <= momentum < 1, f"momentum={momentum}", "at least 0, below 1")
    require(weight_decay >= 0, f"weight_decay={weight_decay}", "at least 0")
