"""Plain supervised training: the undefended model, and every teacher, proxy and student."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from synpriv.data import dsa
from synpriv.data.images import (
    LabelledImages,
    ShuffledBatches,
    crop_and_flip,
    forward_batch,
    num_batches,
)
from synpriv.methods import flops, recipe, steps
from synpriv.methods.base import Method, MovingAverage, Release, stream
from synpriv.models import Network
from synpriv.recipe import strategies


class Classifier(Method):
    """SGD, or AdamW, on cross-entropy; the last iterate is released."""

    provenance = ("pixels", "labels")
    releases_images = recipe.Classifier.releases_images
    not_kept = frozenset({"take_step"})  # a recording cannot be kept

    def __init__(
        self, *, private: LabelledImages, model: Callable[[], Network], **options: Any
    ) -> None:
        super().__init__(private=private, model=model)
        self.recipe = recipe.Classifier(**options)
        self.max_epochs, self.network = self.recipe.num_epochs, model()
        decay = self.recipe.ema_decay
        if self.recipe.batch_size == 1:
            _check_single(self.network, private.images[:1])
        self.average = MovingAverage(self.network, decay) if decay else None
        self.recorded = list[Tensor]()
        self.draw = stream("siamese")  # on the CPU: a strategy is chosen there

    def train_dataloader(self) -> ShuffledBatches:
        return ShuffledBatches(
            len(self.private), self.recipe.batch_size, stream("order"), self.device
        )

    def configure_optimizers(self) -> tuple[list[torch.optim.Optimizer], list[LRScheduler]]:
        optimiser = self._optimiser()
        steps_per_epoch = num_batches(len(self.private), self.recipe.batch_size)
        factor = lr_factor(
            schedule=self.recipe.schedule,
            num_steps=self.max_epochs * steps_per_epoch,
            warmup_steps=round(self.recipe.warmup_epochs * steps_per_epoch),
            milestones=[round(epoch * steps_per_epoch) for epoch in self.recipe.milestones],
            gamma=self.recipe.gamma,
        )
        return [optimiser], [torch.optim.lr_scheduler.LambdaLR(optimiser, factor)]

    def _optimiser(self) -> torch.optim.Optimizer:
        own, weights = self.recipe, self.network.parameters()
        if own.optimiser == "adamw":
            return torch.optim.AdamW(
                weights,
                lr=own.adamw_lr,
                weight_decay=own.adamw_weight_decay,
                fused=True,
                capturable=self.device.type == "cuda",  # a step may be one CUDA graph
            )
        return torch.optim.SGD(
            weights,
            lr=own.lr,
            momentum=own.momentum,
            weight_decay=own.weight_decay,
            nesterov=own.nesterov and own.momentum > 0,
            fused=True,
        )

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.network.train()
        self.take_step = self._stepper()

    def _stepper(self) -> steps.Step:
        eager = functools.partial(self.step, steps.label_loss)
        kind = steps.taken(self.stepping, self.device)
        if kind == "eager":
            return eager
        loss = steps.compiled() if kind == "compile" else steps.label_loss
        fast: steps.Step = functools.partial(self.step, loss)
        if self.device.type == "cuda":
            optimiser = self.optimizers(use_pl_optimizer=False)
            assert isinstance(optimiser, torch.optim.Optimizer)
            fast = steps.Recorded(fast, optimiser)
        size = min(self.recipe.batch_size, len(self.private))
        return steps.FullBatches(fast, eager, size)

    def step(self, loss_of: steps.Loss, images: Tensor, labels: Tensor) -> Tensor:
        """Optimiser and moving average move on; returns the loss."""
        loss = loss_of(self.network, images, labels, self.recipe.label_smoothing)
        self.descend(loss)
        if self.average is not None:
            self.average.update_parameters(self.network)
        return loss.detach()

    def training_step(self, chunk: list[Tensor], batch_idx: int) -> None:
        total = torch.zeros((), device=self.device)
        for batch in chunk:
            with flops.part("step", len(batch)):
                images = self.augment(self.private.images[batch])
                total += self.take_step(images, self.private.labels[batch]) * len(batch)
            self.advance()
        self.log(
            "train/loss",
            total / sum(map(len, chunk)),
            on_step=False,
            on_epoch=True,
            batch_size=sum(map(len, chunk)),
        )

    def on_train_end(self) -> None:
        self.take_step = functools.partial(self.step, steps.label_loss)  # frees a recording
        for parameter in self.network.parameters():
            parameter.grad = None

    def on_train_epoch_end(self) -> None:
        if self.recipe.record:
            with torch.no_grad(), flops.part("records", len(self.private)):
                features = self._features()
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
        """As the recipe says, uint8 [B,ch,H,W] -> uint8 or float of unit range and beyond."""
        own, net = self.recipe, self.network
        images = crop_and_flip(
            images, self.generator, crop=own.crop, flip=own.flip, padding=own.padding
        )
        if not (names := strategies(own.augment, flip=own.flip)):
            return images
        return dsa.each(net.normalise(images), names, self.draw) * net.std + net.mean

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
