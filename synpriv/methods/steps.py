"""How a classifier's step is taken: eager, compiled, or recorded once and replayed."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from synpriv.models import Network

WARM_UP = 3  # eager steps before a recording: they allocate momenta and choose algorithms
Step = Callable[[Tensor, Tensor], Tensor]  # images [B,ch,H,W], labels -> their loss, detached
Loss = Callable[[Network, Tensor, Tensor, float], Tensor]


def label_loss(network: Network, images: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Mean cross-entropy of uint8 images [B,ch,H,W] and labels int64 [B] or float [B,K]."""
    return cross_entropy(network(images), labels, label_smoothing=smoothing)


@functools.cache
def compiled() -> Loss:
    """`label_loss` by torch.compile, once per process.

    A function of the network: other networks of the same architecture use the same code.
    """
    return torch.compile(label_loss, dynamic=False)


def taken(kind: str, device: torch.device) -> str:
    """What `trainer.step` comes to on a device: a CPU has no graphs."""
    return "eager" if kind == "graph" and device.type == "cpu" else kind


def record(step: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
    """A step as a CUDA graph: what replays it, and the tensor that holds its result after that.

    Recording runs nothing. A replay reads and writes the memory that the recording saw.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = step()
    return graph.replay, result


def aside(step: Callable[[], Tensor]) -> Tensor:
    """Take a step on another stream than the default one, as must come before a recording."""
    here, stream = torch.cuda.current_stream(), torch.cuda.Stream()
    stream.wait_stream(here)
    with torch.cuda.stream(stream):
        result = step()
    here.wait_stream(stream)
    return result


class FullBatches:
    """Takes `fast` on batches of `size` images, and `eager` on all others.

    Of an epoch's batches only the last one differs, which is not worth compiling or recording.
    """

    def __init__(self, fast: Step, eager: Step, size: int) -> None:
        self.fast, self.eager, self.size = fast, eager, size

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        return (self.fast if len(images) == self.size else self.eager)(images, labels)


class Recorded:
    """Steps on batches of one shape: eager ones, then one that is recorded and replayed.

    A replay launches forward pass, backward pass, optimiser and moving average in one call, where
    the host would spend as long on launching some hundred kernels one by one. The learning rate
    becomes a tensor, which a schedule fills; any other number would stay what it was.
    """

    def __init__(self, step: Step, optimiser: torch.optim.Optimizer) -> None:
        self.step, self.optimiser = step, optimiser
        self.num_steps = 0

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        self.num_steps += 1
        if self.num_steps <= WARM_UP:
            return aside(functools.partial(self.step, images, labels))
        if self.num_steps == WARM_UP + 1:
            self._record(images, labels)
        self.images.copy_(images)
        self.labels.copy_(labels)
        self.replay()
        return self.loss

    def _record(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images.clone(), labels.clone()
        self._rates_as_tensors(images.device)
        self.optimiser.zero_grad(set_to_none=True)  # gradients belong to the recording
        self.replay, self.loss = record(functools.partial(self.step, self.images, self.labels))

    def _rates_as_tensors(self, device: torch.device) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = torch.tensor(float(group["lr"]), device=device)
