"""Dataset distillation by distribution matching."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from synpriv.data.dsa import siamese
from synpriv.data.images import LabelledImages, StepChunks
from synpriv.methods import flops
from synpriv.methods.base import Method, Release, stream
from synpriv.methods.distill import recipe
from synpriv.models import Network
from synpriv.recipe import strategies


def matching_loss(real_means: Tensor, synthetic_means: Tensor) -> Tensor:
    """Squared distance of the class means, summed over classes: means [K,D] -> scalar.

    Zhao and Bilen, "Dataset Condensation with Distribution Matching" (WACV 2023), equation 5.
    """
    return (real_means - synthetic_means).square().sum()


def class_means(features: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Mean feature of each class: features [N,D], labels int64 [N] -> [K,D], 0 where empty."""
    features = features.float()  # in bf16 the sums would lose the differences that are matched
    sums = features.new_zeros(num_classes, features.shape[1]).index_add(0, labels, features)
    ones = features.new_ones(len(labels))  # bincount would make the host wait for a GPU
    counts = features.new_zeros(num_classes).index_add(0, labels, ones).clamp(min=1)
    return sums / counts[:, None]


def rank_in_class(labels: Tensor, num_classes: int) -> Tensor:
    """1 for the first sample of its class, 2 for the second, ...: int64 [N] -> [N]."""
    one_hot = torch.nn.functional.one_hot(labels, num_classes)
    return one_hot.cumsum(0).gather(1, labels[:, None])[:, 0]


class Members:
    """The samples of each class, listed once; classes may be of different size.

    labels: int64 [N].
    """

    def __init__(self, labels: Tensor, num_classes: int) -> None:
        self.num, sizes = len(labels), torch.bincount(labels, minlength=num_classes)
        rank = rank_in_class(labels, num_classes) - 1
        self.rows = torch.full((num_classes, int(sizes.max())), self.num)  # N: no sample
        self.rows[labels, rank] = torch.arange(self.num)
        self.sizes = sizes.tolist()

    def first(self, order: Tensor, per_class: int) -> Tensor:
        """The first `per_class` samples of each class, as `order` (a permutation [N]) has them.

        All of a smaller class. Where a sample stands in the order is looked up through the lists,
        so that no step counts through all samples and classes.
        """
        place = torch.empty(self.num + 1, dtype=torch.long)
        place[order] = torch.arange(self.num)
        place[self.num] = self.num  # no sample comes last
        per_class = min(per_class, self.rows.shape[1])
        first = place[self.rows].topk(per_class, largest=False, sorted=False).values
        taken = sum(min(size, per_class) for size in self.sizes)
        return order[first.flatten().sort().values[:taken]]


class DistributionMatching(Method):
    """Learn `images_per_class` images whose mean features match the private set's.

    Every iteration draws a fresh random `embedder` and, for each class, an augmentation of its real
    and synthetic images alike, and takes one step on the pixels. Images live in normalised space
    but are kept inside the range of real pixels, so that the released uint8 set is what was
    optimised.
    """

    def __init__(
        self,
        *,
        private: LabelledImages,
        model: Callable[[], Network],
        embedder: Callable[[], Network],
        num_classes: int,
        public: LabelledImages | None = None,
        **options: Any,
    ) -> None:
        super().__init__(private=private, model=model)
        self.recipe = own = recipe.DistributionMatching(**options)
        self.embedder, self.num_classes = embedder, num_classes
        self.max_epochs = min(1, own.num_iterations)
        matched = ("class feature means", "labels") if own.num_iterations else ("labels",)
        self.provenance = (*matched, *recipe.CHANNELS[own.init])
        self.draw = stream("distillation")
        self.labels = torch.arange(num_classes).repeat_interleave(own.images_per_class)
        self.members = Members(private.labels, num_classes)
        # What stays on the CPU, where augmentation is drawn: labels of real and synthetic images.
        self.real_classes, self.synthetic_classes = private.labels, self.labels
        normalise = embedder().normalise
        black = torch.zeros_like(private.images[:1])
        self.low, self.high = normalise(black), normalise(black + 255)  # [1,ch,H,W]
        with flops.part("start"):
            self.pixels = torch.nn.Parameter(self._initial(normalise, public))

    def _initial(
        self, normalise: Callable[[Tensor], Tensor], public: LabelledImages | None
    ) -> Tensor:
        """Where the synthetic images start, float [K*ipc,ch,H,W] in normalised space."""
        if self.recipe.init == "noise":
            shape = (len(self.labels), *self.private.images.shape[1:])
            return torch.randn(shape, generator=self.draw).clamp(self.low, self.high)
        if self.recipe.init == "public":
            assert public is not None
            order = torch.randperm(len(public), generator=self.draw)
            return normalise(public.images[order[: len(self.labels)]])
        order = torch.randperm(len(self.private), generator=self.draw)
        shuffled = self.private[order]
        per_class = len(self.labels) // self.num_classes
        rank = rank_in_class(shuffled.labels, self.num_classes)
        if self.recipe.init == "average":  # image i of a class goes to its group i modulo IPC
            group = shuffled.labels * per_class + (rank - 1) % per_class
            pixels = normalise(shuffled.images).flatten(1)
            means = class_means(pixels, group, len(self.labels))
            return means.view(-1, *shuffled.images.shape[1:])
        chosen = shuffled[rank <= per_class]
        return normalise(chosen.images[chosen.labels.argsort(stable=True)])

    def train_dataloader(self) -> StepChunks:
        return StepChunks(self.recipe.num_iterations)

    def configure_optimizers(self) -> torch.optim.SGD:
        return torch.optim.SGD([self.pixels], lr=self.recipe.lr, momentum=self.recipe.momentum)

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.labels = self.labels.to(self.device)
        self.low, self.high = self.low.to(self.device), self.high.to(self.device)

    def training_step(self, chunk: list[int], batch_idx: int) -> None:
        total = torch.zeros((), device=self.device)
        for _ in chunk:
            with flops.part("iteration"):
                loss = self.loss()
                self.optimise(loss)
            with torch.no_grad():
                self.pixels.clamp_(self.low, self.high)
            total += loss.detach()
        self.log("train/loss", total / len(chunk), on_step=False, on_epoch=True, batch_size=1)

    def loss(self) -> Tensor:
        """The matching loss under a fresh random embedder and augmentation."""
        embedder = self.embedder().to(self.device).requires_grad_(False)
        private, classes = self._real_batch()
        real, synthetic = siamese(
            [embedder.normalise(private.images), self.pixels],
            [classes, self.synthetic_classes],
            strategies(self.recipe.augment, flip=self.recipe.flip),
            self.draw,
            num_classes=self.num_classes,
        )
        with torch.no_grad():
            real_means = class_means(embedder.features(real), private.labels, self.num_classes)
        means = class_means(embedder.features(synthetic), self.labels, self.num_classes)
        return matching_loss(real_means, means)

    def _real_batch(self) -> tuple[LabelledImages, Tensor]:
        """The private images of this iteration, and their labels on the CPU."""
        if self.recipe.real_per_class is None:
            return self.private, self.real_classes
        order = torch.randperm(len(self.private), generator=self.draw)
        chosen = self.members.first(order, self.recipe.real_per_class)
        return self.private[chosen.to(self.device)], self.real_classes[chosen]

    def release(self) -> Release:
        network = self.embedder().to(self.device)
        unit = self.pixels.detach() * network.std + network.mean
        images = (unit * 255).round().clamp(0, 255).to(torch.uint8)
        return Release(synthetic=LabelledImages(images.cpu(), self.labels.cpu()))
