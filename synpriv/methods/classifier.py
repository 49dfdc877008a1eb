"""Plain supervised training: the undefended model, and every teacher, proxy and student."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from synpriv.data.images import LabelledImages, ShuffledBatches, crop_and_flip, num_batches
from synpriv.methods.base import Method, Release, stream
from synpriv.models import Network


class Classifier(Method):
    """SGD with Nesterov momentum on cross-entropy; the last iterate is released.

    schedule: `one_cycle` (peak `lr` after `warmup_epochs`), or `step` (linear warm-up, then times
    `gamma` at each of `milestones`, epochs counted after the warm-up).
    ema_decay: release an exponential moving average of the weights instead of the last ones.
    record: keep the logits of all private images after each epoch, and their last features, for
    coreset selections.
    """

    provenance = ("pixels", "labels")
    releases_images = False

    def __init__(
        self,
        *,
        private: LabelledImages,
        model: Callable[[], Network],
        num_epochs: int,
        batch_size: int,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        schedule: str = "one_cycle",
        warmup_epochs: float = 1.0,
        milestones: Sequence[float] = (),
        gamma: float = 0.2,
        crop: bool = True,
        flip: bool = False,
        label_smoothing: float = 0.0,
        ema_decay: float | None = None,
        record: bool = False,
    ) -> None:
        super().__init__(private=private, model=model)
        _check(num_epochs=num_epochs, batch_size=batch_size, lr=lr, schedule=schedule)
        if not 0 <= warmup_epochs < num_epochs:
            raise ValueError(f"warmup_epochs={warmup_epochs}: must be 0 <= . < {num_epochs} epochs")
        if ema_decay is not None and not 0 < ema_decay < 1:
            raise ValueError(f"ema_decay={ema_decay}: must be between 0 and 1, or null")
        self.network = model()
        if batch_size == 1:
            _check_single(self.network, private.images[:1])
        self.average = (
            AveragedModel(
                self.network, multi_avg_fn=get_ema_multi_avg_fn(ema_decay), use_buffers=True
            )
            if ema_decay
            else None
        )
        self.max_epochs, self.batch_size = num_epochs, batch_size
        self.lr, self.momentum, self.weight_decay = lr, momentum, weight_decay
        self.schedule, self.warmup_epochs = schedule, warmup_epochs
        self.milestones, self.gamma = tuple(milestones), gamma
        self.crop, self.flip, self.label_smoothing = crop, flip, label_smoothing
        self.record, self.recorded = record, list[Tensor]()

    def train_dataloader(self) -> ShuffledBatches:
        return ShuffledBatches(len(self.private), self.batch_size, stream("order"))

    def configure_optimizers(self) -> tuple[list[torch.optim.SGD], list[LRScheduler]]:
        optimiser = torch.optim.SGD(
            self.network.parameters(),
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            nesterov=self.momentum > 0,
            fused=True,
        )
        steps_per_epoch = num_batches(len(self.private), self.batch_size)
        factor = lr_factor(
            schedule=self.schedule,
            num_steps=self.max_epochs * steps_per_epoch,
            warmup_steps=round(self.warmup_epochs * steps_per_epoch),
            milestones=[round(epoch * steps_per_epoch) for epoch in self.milestones],
            gamma=self.gamma,
        )
        return [optimiser], [torch.optim.lr_scheduler.LambdaLR(optimiser, factor)]

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.network.train()

    def training_step(self, chunk: list[Tensor], batch_idx: int) -> None:
        total = torch.zeros((), device=self.device)
        for batch in chunk:
            loss = cross_entropy(
                self.network(self.augment(self.private.images[batch])),
                self.private.labels[batch],
                label_smoothing=self.label_smoothing,
            )
            self.optimise(loss)
            if self.average is not None:
                self.average.update_parameters(self.network)
            total += loss.detach() * len(batch)
        self.log(
            "train/loss",
            total / sum(map(len, chunk)),
            on_step=False,
            on_epoch=True,
            batch_size=sum(map(len, chunk)),
        )

    def on_train_epoch_end(self) -> None:
        if self.record:
            features = self._features()
            with torch.no_grad():
                self.recorded.append(self.network.head(features).float().cpu())
            self.last_features = features.float().cpu()

    @torch.no_grad()
    def _features(self) -> Tensor:
        """Features [N,D] of all private images, in eval mode."""
        self.network.eval()
        batches = self.private.images.split(self.batch_size)
        features = [self.network.features(self.network.normalise(batch)) for batch in batches]
        self.network.train()
        return torch.cat(features)

    def records(self) -> dict[str, NDArray]:
        """Logits [E,N,K] after each epoch, features [N,D] after the last, labels [N]."""
        if not self.record:
            return {}
        return {
            "logits": torch.stack(self.recorded).numpy(),
            "features": self.last_features.numpy(),
            "labels": self.private.labels.cpu().numpy(),
        }

    def augment(self, images: Tensor) -> Tensor:
        """As the recipe says, uint8 [B,ch,H,W]."""
        return crop_and_flip(images, self.generator, crop=self.crop, flip=self.flip)

    def release(self) -> Release:
        network = self.network if self.average is None else self.average.module
        assert isinstance(network, Network)
        return Release(classifier=network.eval())


def _check(*, num_epochs: int, batch_size: int, lr: float, schedule: str) -> None:
    for name, value in (("num_epochs", num_epochs), ("batch_size", batch_size), ("lr", lr)):
        if not value > 0:
            raise ValueError(f"{name}={value}: must be positive")
    if schedule not in ("one_cycle", "step"):
        raise ValueError(f"schedule={schedule}: must be one_cycle or step")


def _check_single(network: Network, image: Tensor) -> None:
    """Refuse batches of one image where a norm would see one value per channel."""
    try:
        copy.deepcopy(network)(image)  # a copy: a forward pass moves running statistics
    except ValueError as error:
        right = "at least 2: a norm layer of this network sees one value per channel"
        raise ValueError(f"batch_size=1: must be {right}") from error


def lr_factor(
    *,
    schedule: str,
    num_steps: int,
    warmup_steps: int,
    milestones: Sequence[int],
    gamma: float,
) -> Callable[[int], float]:
    """Learning rate of step 0, 1, ... as a share of the peak.

    Warm-up is linear from 1/warmup_steps to 1. After it `one_cycle` falls along a half cosine to 0
    (Smith and Topin 2018, in the form of torch's OneCycleLR), `step` multiplies by `gamma` at each
    milestone, counted in steps after the warm-up.
    """

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        after = step - warmup_steps
        if schedule == "step":
            return gamma ** sum(after >= milestone for milestone in milestones)
        return 0.5 * (1 + math.cos(math.pi * after / max(1, num_steps - warmup_steps)))

    return factor
