"""FastDFKD: a student imitates its teacher on a growing pool of synthesised images."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from synpriv.data.images import LabelledImages, ShuffledBatches, StepChunks, crop_and_flip
from synpriv.methods import flops
from synpriv.methods.base import Method, Release, stream
from synpriv.methods.dfkd import recipe
from synpriv.methods.dfkd.synthesis import (
    LOSSES,
    Generator,
    Statistics,
    Synthesis,
    batch_norms,
    divergence,
    look,
)
from synpriv.models import Network


def distillation_loss(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """KL(teacher || student) of logits [B,K] at T, times T^2, mean (Hinton et al., 2015)."""
    softened = (logits.float() / temperature for logits in (teacher, student))
    return temperature**2 * divergence(*softened).mean()


Iterate = tuple[Tensor, Tensor, Statistics]  # a loss, its images and their statistics


def _better(this: Iterate, best: Iterate) -> Iterate:
    """The iterate with the smaller loss, chosen where the tensors live."""
    smaller = this[0] < best[0]
    pairs = zip(this[2], best[2], strict=True)
    return (
        torch.where(smaller, this[0], best[0]),
        torch.where(smaller, this[1], best[1]),
        [torch.where(smaller, new, old) for new, old in pairs],
    )


class DFKD(Method):
    """Images are synthesised from the teacher, and the student imitates it on them.

    FastDFKD (Fang et al., AAAI 2022) without meta-learning, as audited by Aerni et al. (CCS 2024;
    their values are in conf/method/dfkd.yaml). A round draws new codes, trains generator and codes
    for `synthesis_steps` Adam steps on the weighted `losses` of augmented images, and adds the best
    iterate's images, rounded to uint8, to a pool. After `warmup_rounds`, passes over the pool train
    the student.
    """

    def __init__(
        self,
        *,
        model: Callable[[], Network],
        teacher: Network,
        num_classes: int,
        image_shape: tuple[int, int, int],
        **options: Any,
    ) -> None:
        super().__init__(private=None, model=model)
        self.recipe = own = recipe.DFKD(**options)
        if not batch_norms(teacher):
            raise ValueError(recipe.NO_STATISTICS)
        # The generator is drawn first: else the student would start from the weights that its
        # teacher started from, as both begin from the seed of the run.
        self.synthesiser = Generator(
            code_size=own.code_size, image_shape=image_shape, width=own.width
        )
        self.network, self.teacher = model(), teacher.eval().requires_grad_(False)
        self.max_epochs = own.num_rounds
        self.num_classes, self.image_shape = num_classes, image_shape
        self.cosine_rounds = own.cosine_rounds or own.num_rounds - own.warmup_rounds
        self.pooled, self.past = 0, Statistics()  # images so far, statistics of past rounds
        matched = ("teacher's BatchNorm statistics",) if own.losses.get("batch_norm") else ()
        self.provenance = (*matched, "teacher's logits")

    def train_dataloader(self) -> StepChunks:
        return StepChunks(1)  # one item and one epoch per round

    def configure_optimizers(self) -> torch.optim.SGD:
        """The student's; the generator's starts afresh each round, with the codes."""
        own = self.recipe
        return torch.optim.SGD(
            self.network.parameters(),
            lr=own.lr,
            momentum=own.momentum,
            weight_decay=own.weight_decay,
            fused=True,
        )

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.draw, self.order = stream("codes", self.device), stream("order")
        total = self.max_epochs * self.recipe.codes_per_round
        self.pool = torch.zeros(total, *self.image_shape, dtype=torch.uint8, device=self.device)
        self.soft_labels = torch.zeros(total, self.num_classes, device=self.device)

    def training_step(self, chunk: list[int], batch_idx: int) -> None:
        losses: dict[str, Any] = {"train/synthesis_loss": self.grow()}
        trained = self.current_epoch - self.recipe.warmup_rounds
        if trained >= 0:
            fallen = (1 - math.cos(math.pi * trained / self.cosine_rounds)) / 2
            lr, final_lr = self.recipe.lr, self.recipe.final_lr
            losses["train/loss"] = self.distil(lr + (final_lr - lr) * fallen)
        self.log_dict(losses, on_step=False, on_epoch=True, batch_size=1)

    def grow(self) -> float:
        """Append one round's images to the pool; returns their synthesis loss."""
        loss, images, self.past = self.synthesise()
        rows = slice(self.pooled, self.pooled + len(images))
        self.pool[rows] = (images.float() * 255).round().to(torch.uint8)
        with torch.no_grad(), flops.part("soft labels", len(images)):
            self.soft_labels[rows] = self.teacher(self.pool[rows]).float().softmax(1)
        self.pooled = rows.stop
        return loss

    def synthesise(self) -> tuple[float, Tensor, Statistics]:
        """Loss, images [B,ch,H,W] in 0..1 and statistics of the round's best iterate."""
        self.network.eval()  # the adversarial term must not change the student's statistics
        own, size = self.recipe, (self.recipe.codes_per_round,)
        codes = torch.randn((*size, own.code_size), generator=self.draw, device=self.device)
        codes.requires_grad_()
        targets = torch.randint(self.num_classes, size, generator=self.draw, device=self.device)
        weights = list(self.synthesiser.parameters())
        sets: list[dict[str, Any]] = [{"params": weights}, {"params": [codes], "lr": own.code_lr}]
        optimiser = torch.optim.Adam(sets, lr=own.generator_lr, betas=(own.betas[0], own.betas[1]))
        best: Iterate | None = None
        for _ in range(own.synthesis_steps):
            with flops.part("synthesis"):
                images = self.synthesiser(codes)
                loss, statistics = self.loss(images, targets)
                optimiser.zero_grad()
                loss.backward(inputs=[*weights, codes])  # not those of the student
            this = loss.detach(), images.detach(), statistics
            best = this if best is None else _better(this, best)
            optimiser.step()
        assert best is not None
        value = best[0].item()  # once per round: it makes the host wait for a GPU
        if not math.isfinite(value):  # as uint8, images that are not a number would be black
            rates = f"generator_lr={own.generator_lr}, code_lr={own.code_lr}"
            raise ValueError(f"{rates}: the synthesis diverged, its loss is {value}; lower them")
        return value, best[1], best[2]

    def loss(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Statistics]:
        """The synthesis loss of a batch, and its statistics averaged with earlier rounds'.

        The networks see the images augmented, as the teacher's training data were when they left
        their statistics behind.
        """
        images = self.augment(images)
        logits, batch, running = look(self.teacher, images)
        if self.past:
            pairs = zip(batch, self.past, strict=True)
            batch = [torch.lerp(new, old, self.recipe.statistics_momentum) for new, old in pairs]
        seen = Synthesis(logits, lambda: self.network(images), targets, batch, running)
        weights = self.recipe.losses
        terms = [weight * LOSSES[name](seen) for name, weight in weights.items() if weight]
        return torch.stack(terms).sum(), [value.detach() for value in batch]

    def distil(self, lr: float) -> Tensor:
        """Train the student on passes over the pool; returns the mean loss."""
        self.network.train()
        optimiser = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimiser, torch.optim.Optimizer)
        optimiser.param_groups[0]["lr"] = lr
        total = torch.zeros((), device=self.device)
        for _ in range(self.recipe.passes_per_round):
            chunks = ShuffledBatches(self.pooled, self.recipe.batch_size, self.order, self.device)
            for batch in chain.from_iterable(chunks):
                with flops.part("step", len(batch)):
                    loss = self.imitate(self.augment(self.pool[batch]))
                total += loss * len(batch)
        return total / (self.recipe.passes_per_round * self.pooled)

    def imitate(self, images: Tensor) -> Tensor:
        """One step of the student on augmented images [B,ch,H,W]; returns the loss."""
        with torch.no_grad():
            teacher = self.teacher(images)
        loss = distillation_loss(teacher, self.network(images), self.recipe.temperature)
        self.optimise(loss)
        return loss.detach()

    def augment(self, images: Tensor) -> Tensor:
        """As the recipe says, [B,ch,H,W]."""
        own = self.recipe
        return crop_and_flip(
            images, self.generator, crop=own.crop, flip=own.flip, padding=own.padding
        )

    def release(self) -> Release:
        pool = LabelledImages(self.pool.cpu(), self.soft_labels.cpu())
        return Release(classifier=self.network.eval(), synthetic=pool)
