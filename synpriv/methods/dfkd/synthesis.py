"""Images from a network alone: the generator, and the losses that its images are trained on."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax
from torch.nn.modules.batchnorm import _BatchNorm

Statistics = list[Tensor]  # mean and variance [D] of each BatchNorm layer's input, in turn


class Generator(nn.Module):
    """Codes [B,Z] -> images in 0..1, [B,ch,H,W]: linear, two upsamplings, cut to size."""

    def __init__(self, *, code_size: int, image_shape: tuple[int, int, int], width: int) -> None:
        super().__init__()
        channels, self.height, self.width = image_shape
        start = (2 * width, math.ceil(self.height / 4), math.ceil(self.width / 4))
        self.layers = nn.Sequential(
            nn.Linear(code_size, math.prod(start)),
            nn.Unflatten(1, start),
            nn.BatchNorm2d(2 * width),
            *_enlarge(2 * width, 2 * width),
            *_enlarge(2 * width, width),
            nn.Conv2d(width, channels, 3, padding=1),
            nn.Sigmoid(),
        )

    def forward(self, codes: Tensor) -> Tensor:
        return self.layers(codes)[:, :, : self.height, : self.width]


def _enlarge(inputs: int, outputs: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return [nn.Upsample(scale_factor=2), convolution, nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)]


@dataclass(frozen=True)
class Synthesis:
    """What the loss terms may look at: a batch of synthetic images as the networks see it."""

    teacher: Tensor  # logits [B,K]
    student: Callable[[], Tensor]  # its logits [B,K], computed only for a term that asks
    targets: Tensor  # random classes, int64 [B]
    batch: Statistics
    running: Statistics  # of the teacher's training data


def batch_norm_loss(batch: Statistics, running: Statistics) -> Tensor:
    """L2 distances, summed over layers (Yin et al., DeepInversion, CVPR 2020, equation 4)."""
    return torch.stack([(x - y).norm() for x, y in zip(batch, running, strict=True)]).sum()


def one_hot_loss(teacher: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of logits [B,K] and given classes (Chen et al., DAFL, ICCV 2019)."""
    return cross_entropy(teacher.float(), targets)


def adversarial_loss(teacher: Tensor, student: Tensor) -> Tensor:
    """Minus KL(teacher || student) where their classes agree (Fang et al., CMI, IJCAI 2021)."""
    return -(divergence(teacher, student) * (teacher.argmax(1) == student.argmax(1))).mean()


def balance_loss(teacher: Tensor) -> Tensor:
    """Sum of p log p, p the mean softmax of logits [B,K] (Chen et al., DAFL, ICCV 2019)."""
    mean = teacher.float().softmax(1).mean(0)
    return torch.special.xlogy(mean, mean).sum()


LOSSES: dict[str, Callable[[Synthesis], Tensor]] = {
    "batch_norm": lambda seen: batch_norm_loss(seen.batch, seen.running),
    "one_hot": lambda seen: one_hot_loss(seen.teacher, seen.targets),
    "adversarial": lambda seen: adversarial_loss(seen.teacher, seen.student()),
    "balance": lambda seen: balance_loss(seen.teacher),
}


def divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(teacher || student) of each row, logits [B,K] -> [B]."""
    log_teacher, log_student = log_softmax(teacher.float(), 1), log_softmax(student.float(), 1)
    return kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(1)


def batch_norms(network: nn.Module) -> list[_BatchNorm]:
    """The layers that keep running statistics."""
    return [x for x in network.modules() if isinstance(x, _BatchNorm) and x.track_running_stats]


def look(network: nn.Module, images: Tensor) -> tuple[Tensor, Statistics, Statistics]:
    """Logits of `images`, their statistics at the BatchNorm layers, and the running ones.

    The network stays in eval mode, which updates nothing; variances are unbiased, as running ones.
    """
    layers, inputs = batch_norms(network), dict[nn.Module, Tensor]()

    def keep(layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        inputs[layer] = arguments[0].float()

    with ExitStack() as hooks:
        for layer in layers:
            hooks.enter_context(layer.register_forward_pre_hook(keep))
        logits = network(images)
    flat = [inputs[layer].transpose(0, 1).flatten(1) for layer in layers]  # [D,*]
    names = ("running_mean", "running_var")
    running = [layer.get_buffer(name) for layer in layers for name in names]
    return logits, [value for x in flat for value in (x.mean(1), x.var(1))], running
