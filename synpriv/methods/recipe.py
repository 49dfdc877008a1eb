"""The recipe of plain supervised training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from synpriv.recipe import Recipe, check_momentum, check_padding, check_strategies
from synpriv.signatures import require

SCHEDULES = ("one_cycle", "step")
OPTIMISERS = ("sgd", "adamw")


@dataclass(frozen=True, kw_only=True)
class Classifier(Recipe):
    """Options of `methods.classifier.Classifier`.

    optimiser: `sgd` reads lr, momentum, nesterov and weight_decay, `adamw` adamw_lr and
    adamw_weight_decay in their place, so that one sweep may hold networks that need either.
    schedule: `one_cycle` (peak `lr` after `warmup_epochs`), or `step` (linear warm-up, then times
    `gamma` at each of `milestones`, epochs counted after the warm-up). padding: of the crop.
    augment: strategies of siamese augmentation, of which each batch draws one, after crop and flip;
    that named flip only where flip holds.
    ema_decay: release an exponential moving average of the weights instead of the last ones.
    record: keep the logits of all private images after each epoch, and their last features, for
    coreset selections.
    """

    makes = "synpriv.methods.classifier.Classifier"
    releases_images = False

    num_epochs: int
    batch_size: int
    lr: float
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    schedule: str = "one_cycle"
    warmup_epochs: float = 1.0
    milestones: Sequence[float] = ()
    gamma: float = 0.2
    crop: bool = True
    padding: str = "zero"
    augment: Sequence[str] = ()
    flip: bool = False
    label_smoothing: float = 0.0
    ema_decay: float | None = None
    optimiser: str = "sgd"
    adamw_lr: float = 1e-3
    adamw_weight_decay: float = 0.05
    record: bool = False

    def __post_init__(self) -> None:
        check_padding(self.padding)
        check_strategies(self.augment)
        for name in ("num_epochs", "batch_size", "lr", "adamw_lr"):
            value = getattr(self, name)
            require(value > 0, f"{name}={value}", "positive")
        optimiser, decay = self.optimiser, self.adamw_weight_decay
        require(optimiser in OPTIMISERS, f"optimiser={optimiser}", " or ".join(OPTIMISERS))
        require(decay >= 0, f"adamw_weight_decay={decay}", "at least 0")
        require(self.schedule in SCHEDULES, f"schedule={self.schedule}", " or ".join(SCHEDULES))
        warmup, average = self.warmup_epochs, self.ema_decay
        fits = 0 <= warmup < self.num_epochs
        require(
            fits, f"warmup_epochs={warmup}", f"at least 0 and below num_epochs={self.num_epochs}"
        )
        fits = average is None or 0 < average < 1
        require(fits, f"ema_decay={average}", "between 0 and 1, or null")
        check_momentum(self.momentum, self.weight_decay)
        smoothing, steps = self.label_smoothing, list(self.milestones)
        require(0 <= smoothing < 1, f"label_smoothing={smoothing}", "at least 0, below 1")
        require(self.gamma > 0, f"gamma={self.gamma}", "positive")
        require(steps == sorted(steps), f"milestones={steps}", "in rising order")
