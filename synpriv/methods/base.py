"""What every training method shares: a private set goes in, a release comes out."""

from __future__ import annotations

import copy
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from pytorch_lightning import LightningModule
from torch import Tensor, nn

from synpriv.data.images import LabelledImages, PoissonBatches, ShuffledBatches, StepChunks
from synpriv.models import Network


@dataclass(frozen=True)
class Release:
    """Everything the attacker may ever see."""

    classifier: Network | None = None
    synthetic: LabelledImages | None = None
    indices: Tensor | None = None  # int64 [k], which private images a coreset releases
    generator: nn.Module | None = None


def stream(purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
    """A random stream of its own for each purpose, derived from the seed of the run.

    Generators with one and the same seed would draw the same numbers for, say, the order of the
    images and their augmentation.
    """
    content = f"{torch.initial_seed()} {purpose}".encode()
    seed = int.from_bytes(hashlib.sha256(content).digest()[:8], "big") >> 1
    return torch.Generator(device).manual_seed(seed)


class MovingAverage(nn.Module):
    """Exponential moving average of a network's weights and buffers; the first update copies.

    As torch's AveragedModel, which keeps its count on the device and asks for it twice a step.
    warm_up: update t, from 0, has decay min(decay, (1+t)/(10+t)).
    """

    def __init__(self, network: nn.Module, decay: float, *, warm_up: bool = False) -> None:
        super().__init__()
        self.module = copy.deepcopy(network).requires_grad_(False)
        self.decay, self.warm_up, self.num_updates = decay, warm_up, 0

    @torch.no_grad()
    def update_parameters(self, network: nn.Module) -> None:
        now, decay = self.num_updates, self.decay
        if self.warm_up:
            decay = min(decay, (1 + now) / (10 + now))
        weight = 1 - decay if now else 1.0
        (own, own_counts), (current, counts) = map(_tensors, (self.module, network))
        torch._foreach_lerp_(own, current, weight)
        for count, value in zip(own_counts, counts, strict=True):
            count.copy_(value)
        self.num_updates += 1


def _tensors(network: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Weights and statistics, and counts of batches, which have no average."""
    every = [*network.parameters(), *network.buffers()]
    floating = [tensor for tensor in every if tensor.is_floating_point()]
    return floating, [tensor for tensor in every if not tensor.is_floating_point()]


class Method(LightningModule, ABC):
    """Sees the private set while it is fitted; only `release()` leaves.

    A method steps its optimiser itself, a chunk of steps per `training_step`: Lightning's cost per
    step would otherwise exceed that of a small network (docs/sharp_edges.md). `max_epochs` is how
    often the trainer goes through `train_dataloader`.
    """

    max_epochs: int
    provenance: tuple[str, ...]  # every channel through which private data reach the release
    promises_privacy = False  # whether there is an epsilon, which all channels must respect
    releases_images = True  # whether the release holds a synthetic set
    stepping = "eager"  # `trainer.step`, for those that know other ways (methods/steps.py)
    not_kept: frozenset[str] = frozenset()  # attributes that `on_fit_start` makes anew after a kill

    private: LabelledImages  # absent where a method never sees it
    model: Callable[[], Network]  # absent where it trains no classifier

    def __init__(
        self, *, private: LabelledImages | None, model: Callable[[], Network] | None
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        if private is not None:
            self.private = private
        if model is not None:
            self.model = model

    @abstractmethod
    def release(self) -> Release:
        """What is published after training."""

    @abstractmethod
    def train_dataloader(self) -> ShuffledBatches | StepChunks | PoissonBatches: ...

    def metrics(self) -> dict[str, Any]:
        """What the method has to say about itself in metrics.json, after training."""
        return {}

    def records(self) -> dict[str, NDArray]:
        """What an instrumented training kept for others to select by; never released."""
        return {}

    def on_fit_start(self) -> None:
        if hasattr(self, "private"):
            self.private = self.private.to(self.device)
        self.generator = stream("augmentation", self.device)  # draws where the images are

    def optimise(self, loss: Tensor) -> None:
        """One step of the optimiser, and of the schedule if there is one, on `loss`."""
        self.descend(loss)
        self.advance()

    def descend(self, loss: Tensor) -> None:
        """One step of the optimiser on `loss`."""
        optimiser = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimiser, torch.optim.Optimizer)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    def advance(self) -> None:
        """The learning rate of the next step, if there is a schedule."""
        scheduler = self.lr_schedulers()
        if isinstance(scheduler, torch.optim.lr_scheduler.LRScheduler):
            scheduler.step()


class Untrained(Method):
    """A method that has no weights of its own to train: its student learns what it releases."""

    max_epochs = 1

    def train_dataloader(self) -> StepChunks:
        return StepChunks(1)

    def configure_optimizers(self) -> None:
        return None

    def training_step(self, chunk: list[int], batch_idx: int) -> None:
        """All is done when the fit begins; a Trainer wants a step all the same."""
