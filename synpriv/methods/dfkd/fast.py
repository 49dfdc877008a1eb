"""FastDFKD: a student imitates its teacher on a growing pool of synthesised images."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from synpriv.data.images import LabelledImages, ShuffledBatches, StepChunks, crop_and_flip
from synpriv.methods.base import Method, Release, stream
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
    return temperature**2 * divergence(teacher / temperature, student / temperature).mean()


class DFKD(Method):
    """Images are synthesised from the teacher, and the student imitates it on them.

    FastDFKD (Fang et al., AAAI 2022) without meta-learning, as audited by Aerni et al. (CCS 2024;
    their values are in conf/method/dfkd.yaml). A round draws new codes, trains generator and codes
    for `synthesis_steps` Adam steps on the weighted `losses` of augmented images, and adds the best
    iterate's images, rounded to uint8, to a pool. After `warmup_rounds`, passes over the pool train
    the student.

    losses: weight of each term in `LOSSES`. statistics_momentum: share of past rounds in the
    statistics that are matched. cosine_rounds: rounds over which lr falls; null = all.
    """

    def __init__(
        self,
        *,
        model: Callable[[], Network],
        teacher: Network,
        num_classes: int,
        image_shape: tuple[int, int, int],
        num_rounds: int,
        warmup_rounds: int,
        codes_per_round: int,
        losses: Mapping[str, float],
        code_size: int = 256,
        width: int = 64,
        synthesis_steps: int = 2,
        generator_lr: float = 5e-3,
        code_lr: float = 0.015,
        betas: Sequence[float] = (0.5, 0.999),
        statistics_momentum: float = 0.9,
        passes_per_round: int = 5,
        batch_size: int = 256,
        temperature: float = 20.0,
        lr: float = 0.1,
        final_lr: float = 2e-4,
        cosine_rounds: int | None = None,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        crop: bool = True,
        flip: bool = False,
    ) -> None:
        _check(locals())
        super().__init__(private=None, model=model)
        # The generator is drawn first: else the student would start from the weights that its
        # teacher started from, as both begin from the seed of the run.
        self.synthesiser = Generator(code_size=code_size, image_shape=image_shape, width=width)
        self.network, self.teacher = model(), teacher.eval().requires_grad_(False)
        self.max_epochs, self.warmup_rounds = num_rounds, warmup_rounds
        self.num_classes, self.image_shape = num_classes, image_shape
        self.codes_shape, self.synthesis_steps = (codes_per_round, code_size), synthesis_steps
        self.generator_lr, self.code_lr, self.betas = generator_lr, code_lr, (betas[0], betas[1])
        self.losses, self.statistics_momentum = dict(losses), statistics_momentum
        self.passes_per_round, self.batch_size = passes_per_round, batch_size
        self.temperature, self.lr, self.final_lr = temperature, lr, final_lr
        self.cosine_rounds = cosine_rounds or num_rounds - warmup_rounds
        self.momentum, self.weight_decay, self.crop, self.flip = momentum, weight_decay, crop, flip
        self.pooled, self.past = 0, Statistics()  # images so far, statistics of past rounds
        matched = ("teacher's BatchNorm statistics",) if losses.get("batch_norm") else ()
        self.provenance = (*matched, "teacher's logits")

    def train_dataloader(self) -> StepChunks:
        return StepChunks(1)  # one item and one epoch per round

    def configure_optimizers(self) -> torch.optim.SGD:
        """The student's; the generator's starts afresh each round, with the codes."""
        weights = self.network.parameters()
        return torch.optim.SGD(
            weights, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay, fused=True
        )

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.draw, self.order = stream("codes", self.device), stream("order")
        total = self.max_epochs * self.codes_shape[0]
        self.pool = torch.zeros(total, *self.image_shape, dtype=torch.uint8, device=self.device)
        self.soft_labels = torch.zeros(total, self.num_classes, device=self.device)

    def training_step(self, chunk: list[int], batch_idx: int) -> None:
        losses: dict[str, Any] = {"train/synthesis_loss": self.grow()}
        trained = self.current_epoch - self.warmup_rounds
        if trained >= 0:
            fallen = (1 - math.cos(math.pi * trained / self.cosine_rounds)) / 2
            losses["train/loss"] = self.distil(self.lr + (self.final_lr - self.lr) * fallen)
        self.log_dict(losses, on_step=False, on_epoch=True, batch_size=1)

    def grow(self) -> float:
        """Append one round's images to the pool; returns their synthesis loss."""
        loss, images, self.past = self.synthesise()
        rows = slice(self.pooled, self.pooled + len(images))
        self.pool[rows] = (images.float() * 255).round().to(torch.uint8)
        with torch.no_grad():
            self.soft_labels[rows] = self.teacher(self.pool[rows]).float().softmax(1)
        self.pooled = rows.stop
        return loss

    def synthesise(self) -> tuple[float, Tensor, Statistics]:
        """Loss, images [B,ch,H,W] in 0..1 and statistics of the round's best iterate."""
        self.network.eval()  # the adversarial term must not change the student's statistics
        codes = torch.randn(self.codes_shape, generator=self.draw, device=self.device)
        codes.requires_grad_()
        size = self.codes_shape[:1]
        targets = torch.randint(self.num_classes, size, generator=self.draw, device=self.device)
        weights = list(self.synthesiser.parameters())
        sets: list[dict[str, Any]] = [{"params": weights}, {"params": [codes], "lr": self.code_lr}]
        optimiser = torch.optim.Adam(sets, lr=self.generator_lr, betas=self.betas)
        best: tuple[float, Tensor, Statistics] | None = None
        for _ in range(self.synthesis_steps):
            images = self.synthesiser(codes)
            loss, statistics = self.loss(images, targets)
            value = loss.item()
            if best is None or value < best[0]:
                best = value, images.detach(), statistics
            optimiser.zero_grad()
            loss.backward(inputs=[*weights, codes])  # not those of the student
            optimiser.step()
        assert best is not None
        if not math.isfinite(best[0]):  # as uint8, images that are not a number would be black
            rates = f"generator_lr={self.generator_lr}, code_lr={self.code_lr}"
            raise ValueError(f"{rates}: the synthesis diverged, its loss is {best[0]}; lower them")
        return best

    def loss(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Statistics]:
        """The synthesis loss of a batch, and its statistics averaged with earlier rounds'.

        The networks see the images augmented, as the teacher's training data were when they left
        their statistics behind.
        """
        images = self.augment(images)
        logits, batch, running = look(self.teacher, images)
        if self.past:
            pairs = zip(batch, self.past, strict=True)
            batch = [torch.lerp(new, old, self.statistics_momentum) for new, old in pairs]
        seen = Synthesis(logits, lambda: self.network(images), targets, batch, running)
        terms = [weight * LOSSES[name](seen) for name, weight in self.losses.items() if weight]
        return torch.stack(terms).sum(), [value.detach() for value in batch]

    def distil(self, lr: float) -> Tensor:
        """Train the student on passes over the pool; returns the mean loss."""
        self.network.train()
        optimiser = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimiser, torch.optim.Optimizer)
        optimiser.param_groups[0]["lr"] = lr
        total = torch.zeros((), device=self.device)
        for _ in range(self.passes_per_round):
            chunks = ShuffledBatches(self.pooled, self.batch_size, self.order)
            for batch in chain.from_iterable(chunks):
                images = self.augment(self.pool[batch])
                with torch.no_grad():
                    teacher = self.teacher(images)
                loss = distillation_loss(teacher, self.network(images), self.temperature)
                self.optimise(loss)
                total += loss.detach() * len(batch)
        return total / (self.passes_per_round * self.pooled)

    def augment(self, images: Tensor) -> Tensor:
        """As the recipe says, [B,ch,H,W]."""
        return crop_and_flip(images, self.generator, crop=self.crop, flip=self.flip)

    def release(self) -> Release:
        pool = LabelledImages(self.pool.cpu(), self.soft_labels.cpu())
        return Release(classifier=self.network.eval(), synthetic=pool)


def _check(given: Mapping[str, Any]) -> None:
    losses, rounds, betas = given["losses"], given["num_rounds"], given["betas"]
    zero = {"warmup_rounds", "final_lr", "momentum", "weight_decay", "statistics_momentum"}
    numbers = {name: value for name, value in given.items() if type(value) in (int, float)}
    limits = [
        *((name, value > 0 or name in zero, "positive") for name, value in numbers.items()),
        *((name, given[name] >= 0, "at least 0") for name in zero),
        ("codes_per_round", given["codes_per_round"] > 1, "at least 2"),
        ("warmup_rounds", given["warmup_rounds"] < rounds, f"below num_rounds={rounds}"),
        ("statistics_momentum", given["statistics_momentum"] < 1, "below 1"),
        ("betas", len(betas) == 2 and all(0 <= b < 1 for b in betas), "two numbers, 0 <= . < 1"),
        ("losses", any(losses.values()), "positive for at least one term"),
    ]
    for name, holds, right in limits:
        if not holds:
            raise ValueError(f"{name}={given[name]}: must be {right}")
    for name, weight in losses.items():
        if name not in LOSSES:
            raise ValueError(f"losses.{name}: no such term; there are {', '.join(LOSSES)}")
        if not isinstance(weight, int | float) or weight < 0:
            raise ValueError(f"losses.{name}={weight}: must be a number of at least 0")
    if not batch_norms(given["teacher"]):
        raise ValueError("dfkd needs a teacher with BatchNorm: model.norm=batch")
