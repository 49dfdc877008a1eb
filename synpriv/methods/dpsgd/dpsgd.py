"""DP-SGD: the defence with a guarantee, which the synthetic-data methods have to beat."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import AveragedModel

from synpriv.data.images import LabelledImages, PoissonBatches, crop_and_flip
from synpriv.methods.base import Method, Release, stream
from synpriv.methods.dpsgd import accounting
from synpriv.methods.dpsgd.per_sample import clipped_sum
from synpriv.models import Network
from synpriv.signatures import require

EXPECTED = "the expected number of private images"
Tensors = list[Tensor] | tuple[Tensor, ...]


class DPSGD(Method):
    """SGD on clipped, noised gradients; the moving average of the weights is released.

    Abadi et al., "Deep Learning with Differential Privacy" (CCS 2016), with augmentation
    multiplicity and weight averaging as in De et al., "Unlocking High-Accuracy Differentially
    Private Image Classification through Scale" (2022).

    Exactly one of noise_multiplier and target_epsilon is given. Every step draws each sample with
    rate batch_size / expected_size; `expected_size` is public: the same for all shadow models,
    where the true size would depend on who is a member. num_views: augmented views K over which a
    sample's gradient is averaged before it is clipped. physical_batch_size: samples whose gradients
    are in memory at a time, K views each. ema_decay: at most; it warms up as (1+t)/(10+t).
    """

    provenance = ("clipped and noised gradients",)
    promises_privacy = True
    releases_images = False

    def __init__(
        self,
        *,
        private: LabelledImages,
        model: Callable[[], Network],
        expected_size: int,
        num_epochs: int,
        batch_size: int,
        lr: float,
        delta: float,
        noise_multiplier: float | None = None,
        target_epsilon: float | None = None,
        max_grad_norm: float = 1.0,
        num_views: int = 1,
        physical_batch_size: int = 64,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        ema_decay: float | None = 0.9999,
        crop: bool = True,
        flip: bool = False,
        accountant: str = "prv",
    ) -> None:
        super().__init__(private=private, model=model)
        positive = {"num_epochs": num_epochs, "batch_size": batch_size, "lr": lr}
        positive |= {"max_grad_norm": max_grad_norm, "num_views": num_views}
        for name, value in {**positive, "physical_batch_size": physical_batch_size}.items():
            require(value > 0, f"{name}={value}", "positive")
        fits = batch_size <= expected_size
        require(fits, f"batch_size={batch_size}", f"at most {expected_size}, {EXPECTED}")
        low = 0 < delta < 1 / expected_size
        require(low, f"delta={delta}", f"above 0 and below 1/{expected_size}, one over {EXPECTED}")
        require(accountant in accounting.ACCOUNTANTS, f"accountant={accountant}", "prv or rdp")
        varied = num_views == 1 or crop or flip
        require(varied, f"num_views={num_views}", "1 without crop and flip: all views are the same")
        average = ema_decay is None or 0 < ema_decay < 1
        require(average, f"ema_decay={ema_decay}", "between 0 and 1, or null")
        self.network = model()
        _refuse_batch_norm(self.network)
        self.average = AveragedModel(self.network, multi_avg_fn=_warmed_up(ema_decay or 0.0))
        self.max_epochs = num_epochs
        self.steps_per_epoch = max(1, round(expected_size / batch_size))
        self.batch_size, self.physical_batch_size = batch_size, physical_batch_size
        self.lr, self.momentum, self.weight_decay = lr, momentum, weight_decay
        self.max_grad_norm, self.num_views = max_grad_norm, num_views
        self.crop, self.flip, self.delta, self.accountant = crop, flip, delta, accountant
        self.sample_rate = batch_size / expected_size
        self.steps_done = 0
        self.noise_multiplier = self._noise_multiplier(noise_multiplier, target_epsilon)

    @property
    def num_steps(self) -> int:
        return self.max_epochs * self.steps_per_epoch

    def _noise_multiplier(self, given: float | None, target_epsilon: float | None) -> float:
        if (given is None) == (target_epsilon is None):
            none = "both are null" if given is None else f"{given} and {target_epsilon}"
            raise ValueError(
                f"noise_multiplier, target_epsilon: {none}; exactly one decides, the other must be "
                "null: method.target_epsilon=null method.noise_multiplier=0.5, say"
            )
        if given is not None:
            require(given >= 0, f"noise_multiplier={given}", "at least 0")
            return given
        assert target_epsilon is not None
        require(target_epsilon > 0, f"target_epsilon={target_epsilon}", "positive")
        return accounting.noise_for(
            target_epsilon=target_epsilon,
            sample_rate=self.sample_rate,
            steps=self.num_steps,
            delta=self.delta,
            accountant=self.accountant,
        )

    def train_dataloader(self) -> PoissonBatches:
        return PoissonBatches(
            len(self.private), self.sample_rate, self.steps_per_epoch, stream("sampling")
        )

    def configure_optimizers(self) -> torch.optim.SGD:
        return torch.optim.SGD(
            self.network.parameters(),
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            fused=True,
        )

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.noise = stream("noise", self.device)
        self.network.train()

    def training_step(self, chunk: list[Tensor], batch_idx: int) -> None:
        clipped = torch.zeros((), device=self.device)
        for batch in chunk:
            clipped += self.step(batch)
        drawn = max(1, sum(map(len, chunk)))
        share = clipped / drawn
        self.log("train/clipped_share", share, on_step=False, on_epoch=True, batch_size=drawn)

    def step(self, batch: Tensor) -> Tensor:
        """One logical step on the samples `batch`, int64 [B], in pieces that fit in memory.

        Returns how many gradients were clipped.
        """
        optimiser = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimiser, torch.optim.Optimizer)
        named = {name: p for name, p in self.network.named_parameters() if p.requires_grad}
        total = {name: torch.zeros_like(p) for name, p in named.items()}
        num_clipped = torch.zeros((), device=self.device)
        for piece in batch.split(self.physical_batch_size):
            gradients, norms = self.clipped_sum(piece)
            for name, gradient in gradients.items():
                total[name] += gradient
            num_clipped += (norms > self.max_grad_norm).sum()
        scale = self.noise_multiplier * self.max_grad_norm
        for name, parameter in named.items():
            noise = torch.randn(parameter.shape, generator=self.noise, device=self.device)
            parameter.grad = (total[name] + scale * noise) / self.batch_size
        optimiser.step()
        self.average.update_parameters(self.network)
        self.steps_done += 1
        return num_clipped

    def clipped_sum(self, piece: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Sum of the clipped gradients of the samples `piece`, int64 [B], and their norms."""
        views = self.private.images[piece].repeat_interleave(self.num_views, 0)
        labels = self.private.labels[piece].repeat_interleave(self.num_views, 0)
        views = crop_and_flip(views, self.generator, crop=self.crop, flip=self.flip)
        return clipped_sum(
            self.network,
            views,
            lambda logits: cross_entropy(logits, labels, reduction="none"),
            max_grad_norm=self.max_grad_norm,
            num_views=self.num_views,
        )

    def metrics(self) -> dict[str, Any]:
        """The guarantee for the steps that were taken."""
        return accounting.guarantee(
            noise_multiplier=self.noise_multiplier,
            sample_rate=self.sample_rate,
            steps=self.steps_done,
            delta=self.delta,
            max_grad_norm=self.max_grad_norm,
            accountant=self.accountant,
        )

    def release(self) -> Release:
        assert self.steps_done == self.num_steps, (self.steps_done, self.num_steps)
        network = self.average.module
        assert isinstance(network, Network)
        return Release(classifier=network.eval())


def _refuse_batch_norm(network: nn.Module) -> None:
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules()):
        raise ValueError(
            "model.norm=batch: BatchNorm mixes the samples of a batch, so that no sample's "
            "influence is bounded; DP-SGD needs model.norm=group"
        )


def _warmed_up(decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    """Moving average, at update t of decay min(decay, (1+t)/(10+t)); 0 keeps the last weights."""

    @torch.no_grad()
    def update(average: Tensors, current: Tensors, step: Tensor | int) -> None:
        now = min(decay, (1 + int(step)) / (10 + int(step)))
        torch._foreach_lerp_(average, current, 1 - now)

    return update
