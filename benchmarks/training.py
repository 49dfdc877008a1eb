"""Images per second of CIFAR training on two cores: two workers of ours, and two plain loops.

The same network, batches, augmentation and optimiser. Ours is what a sweep does: a worker per core,
channels-last, in bf16 where the CPU has instructions for it, else in float32. Plain loops are one
process on both cores with a DataLoader and torchvision's transforms, as people write them, in
float32 and in bf16 with channels-last.
Variants in turn, medians; per CPU second, since another process's load is not ours.
Usage: python -m benchmarks.training [DATA [rounds [images]]]
       DATA: the folder of torchvision's CIFAR-10, or an npz with `images` and `labels`
"""

from __future__ import annotations

import functools
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from hydra_plugins.synpriv._pool import ENVIRONMENT
from synpriv import models, schema, tracking
from synpriv.data import datasets
from synpriv.data.images import LabelledImages
from synpriv.data.pool import Pool, class_balanced
from synpriv.methods.classifier import Classifier
from synpriv.shadow import fitting

CORES, BATCH, LR = 2, 128, 0.05
MEAN, STD = [0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]
VARIANTS = ("ours", "float32", "bfloat16")


def network(size: int) -> models.Network:
    """The ConvNet of width 32."""
    return models.convnet(channels=3, size=size, num_classes=10, mean=MEAN, std=STD, width=32)


class Items(torch.utils.data.Dataset):
    """Images one by one, as torchvision's data sets give them."""

    def __init__(self, pool: Pool) -> None:
        self.images = pool.images.transpose(0, 2, 3, 1)
        self.labels = pool.labels
        steps = [v2.RandomCrop(pool.images.shape[2], padding=4), v2.RandomHorizontalFlip()]
        self.transform = v2.Compose([*steps, v2.PILToTensor()])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def plain(pool: Pool, *, bfloat16: bool) -> None:
    """One epoch of a loop without a framework."""
    net = network(pool.images.shape[2])
    if bfloat16:
        net.to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(
        net.parameters(), lr=LR, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    loader = torch.utils.data.DataLoader(Items(pool), BATCH, shuffle=True, num_workers=CORES)
    for images, labels in loader:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = torch.nn.functional.cross_entropy(net(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def ours(pool: Pool) -> None:
    """One epoch of the method that every cell begins with."""
    factory = functools.partial(network, pool.images.shape[2])
    options = {"num_epochs": 1, "warmup_epochs": 0, "batch_size": BATCH, "lr": LR}
    method = Classifier(
        private=LabelledImages.of(pool), model=factory, crop=True, flip=True, **options
    )
    how = schema.Trainer(accelerator="cpu", precision=precision(), channels_last=True)
    fitting.fit(method, OmegaConf.structured(how), tracking.NoTracker(), "fit")


def precision() -> str:
    """What `trainer=bf16` and `trainer=fast` are for, by what this CPU has."""
    flags = Path("/proc/cpuinfo").read_text().split()
    return "bf16-mixed" if {"avx512_bf16", "amx_bf16"} & set(flags) else "32-true"


def read(path: str, num: int) -> Pool:
    """`num` images of each class alike."""
    npz = Path(path).is_file()
    source = (
        datasets.npz(path)
        if npz
        else datasets.from_torchvision("CIFAR10", root=path, download=False)
    )
    return class_balanced(source.private, num, seed=0, name="images")


def one(variant: str, path: str, num: int) -> None:
    """Train in this process and print CPU and wall seconds of the second, warm epoch."""
    torch.set_num_threads(1 if variant == "ours" else CORES)
    fitting.quieten()
    pool = read(path, num)
    run: Callable[[Pool], None] = (
        ours if variant == "ours" else functools.partial(plain, bfloat16=variant == "bfloat16")
    )
    run(pool[np.arange(BATCH)])
    start, before = time.perf_counter(), _cpu_s()
    run(pool)
    print(json.dumps([_cpu_s() - before, time.perf_counter() - start]))


def _cpu_s() -> float:
    """Of this process and of its finished loaders."""
    used = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def measure(variant: str, path: str, num: int) -> tuple[float, float]:
    """Images per CPU second and per second of both cores."""
    workers = CORES if variant == "ours" else 1
    added = dict(ENVIRONMENT) if variant == "ours" else {}
    bare = {k: v for k, v in os.environ.items() if k not in ENVIRONMENT}
    command = [sys.executable, "-m", "benchmarks.training", "--one", variant, path, str(num)]
    running = [
        subprocess.Popen(command, env=bare | added, stdout=subprocess.PIPE, text=True)
        for _ in range(workers)
    ]
    printed = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        raise SystemExit(f"{variant}: failed, see above")
    taken = [json.loads(text.splitlines()[-1]) for text in printed]
    cpu, wall = (sum(column) for column in zip(*taken, strict=True))
    return workers * num / cpu, workers * num / (wall / workers)


def main(path: str, rounds: int, num: int) -> None:
    """Print the medians of all variants, and how many times faster ours is."""
    rates: dict[str, list[tuple[float, float]]] = {variant: [] for variant in VARIANTS}
    for _ in range(rounds):
        for variant in VARIANTS:
            rates[variant].append(measure(variant, path, num))
    for variant, found in rates.items():
        cpu, wall = (statistics.median(column) for column in zip(*found, strict=True))
        line = f"{variant:9} {cpu:6.0f} images per CPU second, {wall:6.0f} per second of {CORES}"
        if variant != "ours":
            pairs = list(zip(rates["ours"], found, strict=True))
            ratios = [[a[i] / b[i] for a, b in pairs] for i in (0, 1)]
            own = [f"{statistics.median(r):.2f} ({min(r):.2f}..{max(r):.2f})" for r in ratios]
            line += f"; ours is {own[0]} times that per CPU second, {own[1]} per second"
        print(line)
    load = Path("/proc/loadavg").read_text().split()[0]
    print(f"n={rounds}, {num} images per process, ConvNet width 32, load average {load}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        given = sys.argv[1:]
        numbers = [int(word) for word in given[1:3]]
        main(given[0] if given else "data", *[*numbers, *[3, 1536][len(numbers) :]])
