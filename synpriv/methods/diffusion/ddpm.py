"""Training a denoiser on private images, from scratch or from one of the public pool."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pixel_unshuffle
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import LambdaLR

from synpriv.data.images import LabelledImages, StepChunks, crop_and_flip
from synpriv.methods import flops
from synpriv.methods.base import Method, Release, stream
from synpriv.methods.classifier import lr_factor
from synpriv.methods.diffusion import recipe
from synpriv.methods.diffusion.denoising import (
    denoising_loss,
    drop_labels,
    generate,
    load,
    make_sampler,
    make_schedule,
    make_unet,
)


class DenoiserTraining(Method):
    """Train a denoiser on `data` by its recipe; `average` is what is sampled.

    Abstract: what is released differs.
    """

    def __init__(
        self,
        own: recipe.DenoiserTraining,
        *,
        private: LabelledImages | None,
        data: LabelledImages,
        num_classes: int,
        image_shape: tuple[int, int, int],
    ) -> None:
        super().__init__(private=private, model=None)
        self.max_epochs, self.steps_done = 1, 0
        self.data, self.recipe, self.null = data, own, num_classes
        self.network = make_unet(
            image_shape,
            num_classes=num_classes,
            channels=own.channels,
            layers_per_block=own.layers_per_block,
            patch_size=own.patch_size,
            attention=own.attention,
            dropout=own.dropout,
        )
        self.schedule = make_schedule(own.prediction)
        self.average = copy.deepcopy(self.network).requires_grad_(False)

    def train_dataloader(self) -> StepChunks:
        return StepChunks(self.recipe.num_iterations)

    def configure_optimizers(self) -> tuple[list[torch.optim.AdamW], list[LambdaLR]]:
        own, weights = self.recipe, list(self.network.parameters())
        optimiser = torch.optim.AdamW(weights, lr=own.lr, weight_decay=own.weight_decay, fused=True)
        if own.max_grad_norm is not None:
            optimiser.register_step_pre_hook(self._clip_gradients)
        factor = lr_factor(
            schedule="one_cycle",
            num_steps=self.recipe.num_iterations,
            warmup_steps=self.recipe.warmup_iterations,
            milestones=(),
            gamma=1,
        )
        return [optimiser], [LambdaLR(optimiser, factor)]

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.noise, order = stream("noise", self.device), stream("order")
        size, needed = len(self.data), self.recipe.num_iterations * self.recipe.batch_size
        passes = [torch.randperm(size, generator=order) for _ in range(0, needed, size)]
        self.data = self.data.to(self.device)
        self.batches = torch.cat(passes).to(self.device).split(self.recipe.batch_size)

    def training_step(self, chunk: list[int], batch_idx: int) -> None:
        total = torch.zeros((), device=self.device)
        for step in chunk:
            batch = self.data[self.batches[step]]
            with flops.part("step", len(batch)):
                total += self.step(batch)
            self._update_average()
        if not total.isfinite():  # as uint8, images that are not a number would be black
            raise ValueError(f"lr={self.recipe.lr}: the denoising loss diverged; use a lower one")
        self.log("train/loss", total / len(chunk), on_step=False, on_epoch=True, batch_size=1)

    def step(self, batch: LabelledImages) -> Tensor:
        """One step of the optimiser on a batch; returns the loss."""
        own = self.recipe
        labels = drop_labels(batch.labels, null=self.null, rate=own.null_rate, draw=self.noise)
        images = self.augment(batch.images).float() / 127.5 - 1
        images = pixel_unshuffle(images, own.patch_size)
        loss = denoising_loss(self.network, self.schedule, images, labels, self.noise)
        self.optimise(loss)
        return loss.detach()

    def _clip_gradients(self, *_: Any) -> None:
        assert self.recipe.max_grad_norm is not None
        clip_grad_norm_(self.network.parameters(), self.recipe.max_grad_norm)

    def augment(self, images: Tensor) -> Tensor:
        """As the recipe says, uint8 [B,ch,H,W]."""
        recipe = self.recipe
        return crop_and_flip(
            images, self.generator, crop=recipe.crop, flip=recipe.flip, padding=recipe.padding
        )

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.recipe.ema_decay, (1 + self.steps_done) / (10 + self.steps_done))
        averaged, current = (list[Tensor](n.parameters()) for n in (self.average, self.network))
        torch._foreach_lerp_(averaged, current, 1 - decay)
        self.steps_done += 1


class Diffusion(DenoiserTraining):
    """Learn the private images, from scratch or from a public model, and release generated ones.

    As many as num_generated (`expected_size` if null) with labels in turn: neither depends on the
    private set.
    """

    def __init__(
        self,
        *,
        private: LabelledImages,
        num_classes: int,
        image_shape: tuple[int, int, int],
        expected_size: int,
        public_model: Mapping[str, Tensor] | None,
        **options: Any,
    ) -> None:
        own = recipe.Diffusion(**options)
        super().__init__(
            own,
            private=private,
            data=private,
            num_classes=num_classes,
            image_shape=image_shape,
        )
        if public_model is not None:
            for network in (self.network, self.average):
                load(network, public_model)
        self.sampler = make_sampler(own.sampler, self.schedule)
        self.own = own
        number = expected_size if own.num_generated is None else own.num_generated
        self.labels = torch.arange(number) % num_classes
        started = () if public_model is None else ("public pre-training",)
        self.provenance = ("denoising loss on pixels and labels", *started)

    def on_train_end(self) -> None:
        with self.trainer.precision_plugin.train_step_context():
            self.synthetic = self.generate()  # here, as Lightning leaves the device after it

    def generate(self) -> LabelledImages:
        """What the moving average generates, on the CPU."""
        labels, draw = self.labels.to(self.device), stream("sampling", self.device)
        images = generate(
            self.average,
            self.sampler,
            labels,
            steps=self.own.num_inference_steps,
            guidance=self.own.guidance,
            draw=draw,
            patch_size=self.own.patch_size,
        )
        return LabelledImages(images.cpu(), self.labels)

    def release(self) -> Release:
        return Release(synthetic=self.synthetic, generator=self.average)


class DiffusionPretraining(DenoiserTraining):
    """Learn the public pool once, for all shadow models to start from.

    conditional: on its labels; null = if they are below `num_classes`. Otherwise only the null
    class is learnt and the others keep their random start, as in training from scratch: from copies
    of the null class fine-tuning did not tell them apart.
    """

    provenance = ()  # no private data

    def __init__(
        self,
        *,
        public: LabelledImages,
        num_classes: int,
        image_shape: tuple[int, int, int],
        **options: Any,
    ) -> None:
        own = recipe.DiffusionPretraining(**options)
        known = int(public.labels.max()) < num_classes
        use_labels = known if own.conditional is None else own.conditional
        null = torch.full_like(public.labels, num_classes)
        data = public if use_labels else LabelledImages(public.images, null)
        super().__init__(
            own, private=None, data=data, num_classes=num_classes, image_shape=image_shape
        )
        self.conditional = use_labels

    def release(self) -> Release:
        return Release(generator=self.average)
