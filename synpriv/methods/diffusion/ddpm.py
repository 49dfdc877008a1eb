"""Training a denoiser on private images, from scratch or from one of the public pool."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from synpriv.data.images import LabelledImages, StepChunks, crop_and_flip
from synpriv.methods.base import Method, Release, stream
from synpriv.methods.classifier import lr_factor
from synpriv.methods.diffusion.denoising import (
    UNet,
    check_sampler,
    denoising_loss,
    drop_labels,
    generate,
    load,
    make_sampler,
    make_schedule,
    make_unet,
)
from synpriv.signatures import require


@dataclass(frozen=True)
class Recipe:
    """How a denoiser is trained: Adam on the denoising loss, a moving average of the weights.

    The learning rate warms up linearly and falls along a half cosine. The average's decay warms up
    as (1+t)/(10+t). null_rate: how often the label is hidden.
    """

    prediction: str
    num_iterations: int
    batch_size: int
    lr: float
    warmup_iterations: int
    ema_decay: float
    null_rate: float
    crop: bool
    flip: bool

    def __post_init__(self) -> None:
        for name in ("num_iterations", "batch_size", "lr"):
            value = getattr(self, name)
            require(value > 0, f"{name}={value}", "positive")
        warmup = self.warmup_iterations
        require(warmup >= 0, f"warmup_iterations={warmup}", "at least 0")
        for name in ("ema_decay", "null_rate"):
            value = getattr(self, name)
            require(0 <= value < 1, f"{name}={value}", "0 <= . < 1")


class DenoiserTraining(Method):
    """Train a denoiser on `data` by its recipe; `average` is what is sampled.

    Abstract: what is released differs.
    """

    def __init__(
        self,
        *,
        private: LabelledImages | None,
        data: LabelledImages,
        network: UNet,
        recipe: Recipe,
    ) -> None:
        super().__init__(private=private, model=None)
        self.max_epochs, self.steps_done = 1, 0
        self.data, self.network, self.recipe = data, network, recipe
        self.schedule = make_schedule(recipe.prediction)
        self.average = copy.deepcopy(network).requires_grad_(False)
        self.null = network.config.num_class_embeds - 1

    def train_dataloader(self) -> StepChunks:
        return StepChunks(self.recipe.num_iterations)

    def configure_optimizers(self) -> tuple[list[torch.optim.Adam], list[LambdaLR]]:
        optimiser = torch.optim.Adam(self.network.parameters(), lr=self.recipe.lr, fused=True)
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
        self.batches = torch.cat(passes).split(self.recipe.batch_size)

    def training_step(self, chunk: list[int], batch_idx: int) -> None:
        total = torch.zeros((), device=self.device)
        for step in chunk:
            batch = self.data[self.batches[step].to(self.device)]
            labels = drop_labels(
                batch.labels, null=self.null, rate=self.recipe.null_rate, draw=self.noise
            )
            images = self.augment(batch.images).float() / 127.5 - 1
            loss = denoising_loss(self.network, self.schedule, images, labels, self.noise)
            self.optimise(loss)
            self._update_average()
            total += loss.detach()
        if not total.isfinite():  # as uint8, images that are not a number would be black
            raise ValueError(f"lr={self.recipe.lr}: the denoising loss diverged; use a lower one")
        self.log("train/loss", total / len(chunk), on_step=False, on_epoch=True, batch_size=1)

    def augment(self, images: Tensor) -> Tensor:
        """As the recipe says, uint8 [B,ch,H,W]."""
        recipe = self.recipe
        return crop_and_flip(images, self.generator, crop=recipe.crop, flip=recipe.flip)

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.recipe.ema_decay, (1 + self.steps_done) / (10 + self.steps_done))
        averaged, current = (list[Tensor](n.parameters()) for n in (self.average, self.network))
        torch._foreach_lerp_(averaged, current, 1 - decay)
        self.steps_done += 1


class Diffusion(DenoiserTraining):
    """Learn the private images, from scratch or from a public model, and release generated ones.

    As many as num_generated (`expected_size` if null) with labels in turn: neither depends on the
    private set. guidance: weight of the label's prediction against no label's; 1 = none.
    """

    def __init__(
        self,
        *,
        private: LabelledImages,
        num_classes: int,
        image_shape: tuple[int, int, int],
        expected_size: int,
        public_model: Mapping[str, Tensor] | None,
        channels: Sequence[int],
        layers_per_block: int,
        prediction: str,
        num_iterations: int,
        batch_size: int,
        lr: float,
        warmup_iterations: int,
        ema_decay: float,
        null_rate: float,
        sampler: str,
        num_inference_steps: int,
        guidance: float,
        num_generated: int | None = None,
        crop: bool = False,
        flip: bool = False,
    ) -> None:
        recipe = Recipe(
            prediction=prediction,
            num_iterations=num_iterations,
            batch_size=batch_size,
            lr=lr,
            warmup_iterations=warmup_iterations,
            ema_decay=ema_decay,
            null_rate=null_rate,
            crop=crop,
            flip=flip,
        )
        number = expected_size if num_generated is None else num_generated
        check_sampler(sampler, num_inference_steps)
        _check_guidance(guidance, null_rate)
        fewest = f"at least {num_classes}, one per class, or null"
        require(number >= num_classes, f"num_generated={number}", fewest)
        network = make_unet(
            image_shape,
            num_classes=num_classes,
            channels=channels,
            layers_per_block=layers_per_block,
        )
        if public_model is not None:
            load(network, public_model)
        super().__init__(private=private, data=private, network=network, recipe=recipe)
        self.sampler = make_sampler(sampler, self.schedule)
        self.steps, self.guidance = num_inference_steps, guidance
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
            self.average, self.sampler, labels, steps=self.steps, guidance=self.guidance, draw=draw
        )
        return LabelledImages(images.cpu(), self.labels)

    def release(self) -> Release:
        return Release(synthetic=self.synthetic, generator=self.average)


def _check_guidance(guidance: float, null_rate: float) -> None:
    require(guidance >= 0, f"guidance={guidance}", "at least 0")
    learnt = guidance == 1 or null_rate > 0
    require(learnt, f"guidance={guidance}", "1 with null_rate=0: no null class is learnt")


class DiffusionPretraining(DenoiserTraining):
    """Learn the public pool once, for all shadow models to start from.

    conditional: on its labels; null = if they are below `num_classes`. Otherwise only the null
    class is learnt, and every class is released as a copy of it.
    """

    provenance = ()  # no private data

    def __init__(
        self,
        *,
        public: LabelledImages | None,
        num_classes: int,
        image_shape: tuple[int, int, int],
        channels: Sequence[int],
        layers_per_block: int,
        prediction: str,
        num_iterations: int,
        batch_size: int,
        lr: float,
        warmup_iterations: int,
        ema_decay: float,
        null_rate: float,
        conditional: bool | None = None,
        crop: bool = False,
        flip: bool = False,
    ) -> None:
        if public is None:
            raise ValueError("public=null: pre-training needs a pool, say dataset@public=cifar100")
        shape, last = tuple(public.images.shape[1:]), int(public.labels.max())
        require(shape == tuple(image_shape), f"public images of {shape}", str(image_shape))
        use_labels = last < num_classes if conditional is None else conditional
        known = last < num_classes or not use_labels
        require(known, "conditional=true", f"false or null: public labels go up to {last}")
        recipe = Recipe(
            prediction=prediction,
            num_iterations=num_iterations,
            batch_size=batch_size,
            lr=lr,
            warmup_iterations=warmup_iterations,
            ema_decay=ema_decay,
            null_rate=null_rate,
            crop=crop,
            flip=flip,
        )
        null = torch.full_like(public.labels, num_classes)
        data = public if use_labels else LabelledImages(public.images, null)
        network = make_unet(
            image_shape,
            num_classes=num_classes,
            channels=channels,
            layers_per_block=layers_per_block,
        )
        super().__init__(private=None, data=data, network=network, recipe=recipe)
        self.conditional = use_labels

    @torch.no_grad()
    def release(self) -> Release:
        if not self.conditional:
            classes = self.average.class_embedding.weight
            classes.copy_(classes[self.null].clone().expand_as(classes))
        return Release(generator=self.average)
