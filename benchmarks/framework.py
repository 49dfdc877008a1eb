"""What training through the framework costs on top of a bare PyTorch loop, and counting FLOPs.

All do the same optimiser steps on the digits default; CPU time, in turn, medians.
Usage: python -m benchmarks.framework [rounds]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import functools
import statistics
import sys
import time

import pytorch_lightning as lightning
import torch
from omegaconf import OmegaConf

from synpriv import models, schema, tracking
from synpriv.data import datasets
from synpriv.data.images import LabelledImages, random_crop
from synpriv.methods import flops
from synpriv.methods.classifier import Classifier, lr_factor
from synpriv.shadow import fitting

EPOCHS, BATCH, LR = 30, 64, 0.05
network = functools.partial(
    models.convnet, channels=1, size=8, num_classes=10, mean=[0.3], std=[0.37], width=16
)


def bare(data: LabelledImages) -> None:
    """The steps of `Classifier`, written as one would without any framework."""
    net = network()
    optimiser = torch.optim.SGD(
        net.parameters(), lr=LR, momentum=0.9, weight_decay=5e-4, nesterov=True, fused=True
    )
    steps = -(-len(data) // BATCH)
    factor = lr_factor(
        schedule="one_cycle", num_steps=EPOCHS * steps, warmup_steps=steps, milestones=(), gamma=1
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
    generator = torch.Generator().manual_seed(0)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(data), generator=generator).split(BATCH):
            logits = net(random_crop(data.images[batch], 1, generator))
            loss = torch.nn.functional.cross_entropy(logits, data.labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()


def framework(data: LabelledImages) -> None:
    """The same through Classifier, Trainer and tracker."""
    method = Classifier(
        private=data, model=network, num_epochs=EPOCHS, batch_size=BATCH, lr=LR, crop=True
    )
    trainer = OmegaConf.structured(schema.Trainer(accelerator="cpu"))
    fitting.fit(method, trainer, tracking.NoTracker(), "fit")


def counting(data: LabelledImages) -> None:
    """As a run does it, which counts its operations."""
    with flops.counted():
        framework(data)


def main(rounds: int) -> None:
    """Print the median of each, and the ratios of what was timed side by side."""
    torch.set_num_threads(1)
    fitting.quieten()
    data = LabelledImages.of(datasets.digits().private)
    calls = (bare, framework, counting)
    taken: dict[str, list[float]] = {call.__name__: [] for call in calls}
    for _ in range(rounds + 1):
        for call in calls:
            lightning.seed_everything(1, verbose=False)
            start = time.process_time()
            call(data)
            taken[call.__name__].append(time.process_time() - start)
    for name, values in taken.items():
        print(f"{name}: {statistics.median(values[1:]):.2f} CPU s")
    for name, of in (("framework", "bare"), ("counting", "framework")):
        ratios = [a / b for a, b in zip(taken[name][1:], taken[of][1:], strict=True)]
        print(
            f"{name} against {of}: ratio of pairs: median {statistics.median(ratios):.3f}, "
            f"{min(ratios):.3f}..{max(ratios):.3f}, n={rounds}"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
