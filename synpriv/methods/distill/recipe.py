"""The recipe of dataset distillation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from synpriv.recipe import Facts, Recipe, check_momentum, check_strategies
from synpriv.signatures import require

# Through what else private data reach the synthetic set, by where it starts.
CHANNELS: dict[str, tuple[str, ...]] = {
    "real": ("initial pixels",),
    "average": ("class pixel means",),
    "public": (),
    "noise": (),
}


@dataclass(frozen=True, kw_only=True)
class DistributionMatching(Recipe):
    """Options of `methods.distill.dm.DistributionMatching`.

    init: `real` starts from random private images of each class, `average` from means of disjoint
    groups of them (each a channel of its own), `public` from random public images, whose labels are
    not used, `noise` from N(0,1). num_iterations: 0 releases the start as it is. real_per_class:
    private images per class and iteration, all if null. flip: false leaves that strategy out.
    """

    makes = "synpriv.methods.distill.dm.DistributionMatching"
    parts = ("embedder", "student")

    images_per_class: int
    num_iterations: int
    lr: float = 1.0
    momentum: float = 0.5
    init: str = "real"
    real_per_class: int | None = None
    augment: Sequence[str] = ()
    flip: bool = True

    def __post_init__(self) -> None:
        require(self.init in CHANNELS, f"init={self.init}", f"one of {', '.join(CHANNELS)}")
        for name, least in (("images_per_class", 1), ("num_iterations", 0), ("real_per_class", 1)):
            value = getattr(self, name)
            require(value is None or value >= least, f"{name}={value}", f"at least {least}")
        require(self.lr >= 0, f"lr={self.lr}", "at least 0")
        check_momentum(self.momentum, 0)
        check_strategies(self.augment)

    def needs(self) -> dict[str, tuple[str, ...]]:
        return {"embedder": ("features",)}

    def check(self, facts: Facts) -> None:
        own, smallest, public = self.images_per_class, facts.smallest_class, facts.num_public
        if self.init in ("real", "average") and smallest < own:
            raise ValueError(f"images_per_class={own}: the smallest class has {smallest} images")
        if self.init == "public" and (public is None or public < own * facts.num_classes):
            raise ValueError(
                f"init=public: needs a public pool of at least {own * facts.num_classes} images, "
                "say dataset@public=npz public.path=FILE"
            )
