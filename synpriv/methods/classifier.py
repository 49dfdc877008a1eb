"""Plain supervised training: the undefended model, and every teacher, proxy and student."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from synpriv.data.images import (
    LabelledImages,
    ShuffledBatches,
    crop_and_flip,
    forward_batch,
    num_batches,
)
from synpriv.methods import recipe
from synpriv.methods.base import Method, Release, stream
from synpriv.models import Network


class Classifier(Method):
    """SGD with Nesterov momentum on cross-entropy; the last iterate is released."""

    provenance = ("pixels", "labels")
    releases_images = recipe.Classifier.releases_images

    def __init__(
        self, *, private: LabelledImages, model: Callable[[], Network], **options: Any
    ) -> None:
        super().__init__(private=private, model=model)
        self.recipe = recipe.Classifier(**options)
        self.max_epochs, self.network = self.recipe.num_epochs, model()
        decay = self.recipe.ema_decay
        if self.recipe.batch_size == 1:
            _check_single(self.network, private.images[:1])
        self.average = (
            AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
            if decay
            else None
        )
        self.recorded = list[Tensor]()

    def train_dataloader(self) -> ShuffledBatches:
        return ShuffledBatches(
            len(self.private), self.recipe.batch_size, stream("order"), self.device
        )

    def configure_optimizers(self) -> tuple[list[torch.optim.SGD], list[LRScheduler]]:
        optimiser = torch.optim.SGD(
            self.network.parameters(),
            lr=self.recipe.lr,
            momentum=self.recipe.momentum,
            weight_decay=self.recipe.weight_decay,
            nesterov=self.recipe.momentum > 0,
            fused=True,
        )
        steps_per_epoch = num_batches(len(self.private), self.recipe.batch_size)
        factor = lr_factor(
            schedule=self.recipe.schedule,
            num_steps=self.max_epochs * steps_per_epoch,
            warmup_steps=round(self.recipe.warmup_epochs * steps_per_epoch),
            milestones=[round(epoch * steps_per_epoch) for epoch in self.recipe.milestones],
            gamma=self.recipe.gamma,
        )
        return [optimiser], [torch.optim.lr_scheduler.LambdaLR(optimiser, factor)]

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.network.train()
        if self.average is not None:  # compared in every step: on a GPU the host would wait for it
            self.average.n_averaged = self.average.n_averaged.cpu()

    def training_step(self, chunk: list[Tensor], batch_idx: int) -> None:
        total = torch.zeros((), device=self.device)
        for batch in chunk:
            loss = cross_entropy(
                self.network(self.augment(self.private.images[batch])),
                self.private.labels[batch],
                label_smoothing=self.recipe.label_smoothing,
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
        if self.recipe.record:
            features = self._features()
            with torch.no_grad():
                self.recorded.append(self.network.head(features).float().cpu())
            self.last_features = features.float().cpu()

    @torch.no_grad()
    def _features(self) -> Tensor:
        """Features [N,D] of all private images, in eval mode."""
        self.network.eval()
        batches = self.private.images.split(forward_batch(self.device))
        features = [self.network.features(self.network.normalise(batch)) for batch in batches]
        self.network.train()
        return torch.cat(features)

    def records(self) -> dict[str, NDArray]:
        """Logits [E,N,K] after each epoch, features [N,D] after the last, labels [N]."""
        if not self.recipe.record:
            return {}
        return {
            "logits": torch.stack(self.recorded).numpy(),
            "features": self.last_features.numpy(),
            "labels": self.private.labels.cpu().numpy(),
        }

    def augment(self, images: Tensor) -> Tensor:
        """As the recipe says, uint8 [B,ch,H,W]."""
        return crop_and_flip(images, self.generator, crop=self.recipe.crop, flip=self.recipe.flip)

    def release(self) -> Release:
        network = self.network if self.average is None else self.average.module
        assert isinstance(network, Network)
        return Release(classifier=network.eval())


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
