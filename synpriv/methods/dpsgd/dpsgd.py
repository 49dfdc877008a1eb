"""DP-SGD: the defence with a guarantee, which the synthetic-data methods have to beat."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from synpriv.data.images import LabelledImages, PoissonBatches, crop_and_flip
from synpriv.methods import flops
from synpriv.methods.base import Method, MovingAverage, Release, stream
from synpriv.methods.dpsgd import accounting, recipe
from synpriv.methods.dpsgd.per_sample import clipped_sum, set_gradients
from synpriv.models import Network


class DPSGD(Method):
    """SGD on clipped, noised gradients; the moving average of the weights is released.

    Abadi et al., "Deep Learning with Differential Privacy" (CCS 2016), with augmentation
    multiplicity and weight averaging as in De et al., "Unlocking High-Accuracy Differentially
    Private Image Classification through Scale" (2022).

    Every step draws each sample with rate batch_size / expected_size; `expected_size` is public:
    the same for all shadow models, where the true size would depend on who is a member.

    A training that is killed and taken up again (shadow/resuming.py) has the same guarantee:
    sampler and noise go on from where their generators stood, so steps that were taken after the
    checkpoint and before the kill are taken again, with the same batches and the same noise. They
    release nothing twice, let alone with fresh noise, and `steps_done` is put back with them: each
    counts once.
    """

    provenance = ("clipped and noised gradients",)
    promises_privacy = recipe.DPSGD.promises_privacy
    releases_images = recipe.DPSGD.releases_images

    def __init__(
        self,
        *,
        private: LabelledImages,
        model: Callable[[], Network],
        expected_size: int,
        **options: Any,
    ) -> None:
        super().__init__(private=private, model=model)
        self.recipe = own = recipe.DPSGD(**options)
        self.network = model()
        _refuse_batch_norm(self.network)
        self.average = MovingAverage(self.network, own.ema_decay or 0.0, warm_up=True)
        self.max_epochs = own.num_epochs
        self.steps_per_epoch = max(1, round(expected_size / own.batch_size))
        self.sample_rate = own.batch_size / expected_size
        self.steps_done = 0
        self.noise_multiplier = self._noise_multiplier()

    @property
    def num_steps(self) -> int:
        return self.max_epochs * self.steps_per_epoch

    def _noise_multiplier(self) -> float:
        if self.recipe.noise_multiplier is not None:
            return self.recipe.noise_multiplier
        assert self.recipe.target_epsilon is not None
        return accounting.noise_for(
            target_epsilon=self.recipe.target_epsilon,
            sample_rate=self.sample_rate,
            steps=self.num_steps,
            delta=self.recipe.delta,
            accountant=self.recipe.accountant,
        )

    def train_dataloader(self) -> PoissonBatches:
        return PoissonBatches(
            len(self.private), self.sample_rate, self.steps_per_epoch, stream("sampling")
        )

    def configure_optimizers(self) -> torch.optim.SGD:
        return torch.optim.SGD(
            self.network.parameters(),
            lr=self.recipe.lr,
            momentum=self.recipe.momentum,
            weight_decay=self.recipe.weight_decay,
            fused=True,
        )

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.noise = stream("noise", self.device)
        self.network.train()

    def training_step(self, chunk: list[Tensor], batch_idx: int) -> None:
        clipped = torch.zeros((), device=self.device)
        for batch in chunk:
            clipped += self.step(batch.to(self.device))
        drawn = max(1, sum(map(len, chunk)))
        share = clipped / drawn
        self.log("train/clipped_share", share, on_step=False, on_epoch=True, batch_size=drawn)

    def step(self, batch: Tensor) -> Tensor:
        """One logical step on the samples `batch`, int64 [B], in pieces that fit in memory.

        Returns how many gradients were clipped.
        """
        optimiser = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimiser, torch.optim.Optimizer)
        total = num_clipped = torch.zeros((), device=self.device)
        for piece in batch.split(self.recipe.physical_batch_size):
            with flops.part("clipped gradients", len(piece)):
                gradient, norms = self.clipped_sum(piece)
            total = total + gradient
            num_clipped = num_clipped + (norms > self.recipe.max_grad_norm).sum()
        # One draw for all parameters.
        noise = torch.randn(total.shape, generator=self.noise, device=self.device)
        total += self.noise_multiplier * self.recipe.max_grad_norm * noise
        set_gradients(self.network, total / self.recipe.batch_size)
        optimiser.step()
        self.average.update_parameters(self.network)
        self.steps_done += 1
        return num_clipped

    def clipped_sum(self, piece: Tensor) -> tuple[Tensor, Tensor]:
        """Sum [P] of the clipped gradients of the samples `piece`, int64 [B], and their norms."""
        views = self.private.images[piece].repeat_interleave(self.recipe.num_views, 0)
        labels = self.private.labels[piece].repeat_interleave(self.recipe.num_views, 0)
        own = self.recipe
        views = crop_and_flip(
            views, self.generator, crop=own.crop, flip=own.flip, padding=own.padding
        )
        return clipped_sum(
            self.network,
            views,
            lambda logits: cross_entropy(logits, labels, reduction="none"),
            max_grad_norm=self.recipe.max_grad_norm,
            num_views=self.recipe.num_views,
        )

    def metrics(self) -> dict[str, Any]:
        """The guarantee for the steps that were taken."""
        return accounting.guarantee(
            noise_multiplier=self.noise_multiplier,
            sample_rate=self.sample_rate,
            steps=self.steps_done,
            delta=self.recipe.delta,
            max_grad_norm=self.recipe.max_grad_norm,
            accountant=self.recipe.accountant,
        )

    def release(self) -> Release:
        assert self.steps_done == self.num_steps, (self.steps_done, self.num_steps)
        network = self.average.module
        assert isinstance(network, Network)
        return Release(classifier=network.eval())


def _refuse_batch_norm(network: nn.Module) -> None:
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules()):
        raise ValueError(recipe.BATCH_NORM)
