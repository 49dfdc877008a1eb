"""CPU seconds per 1,000 training images in each arithmetic, and which is faster on this machine.

float32 and bf16, contiguous and channels-last, interleaved; bf16 pays on CPUs with instructions for
it (avx512_bf16, amx_bf16), and costs where it is emulated.
Usage: python -m benchmarks.arithmetic [rounds]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import functools
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from synpriv import models
from synpriv.models import Network

BATCH, STEPS = 64, 2
grey: dict[str, Any] = {"channels": 1, "size": 28, "num_classes": 10, "mean": [0.3], "std": [0.3]}
colour: dict[str, Any] = {**grey, "channels": 3, "size": 32}
NETWORKS: dict[str, tuple[Callable[..., Network], tuple[int, ...]]] = {
    "convnet width 16, 28x28": (functools.partial(models.convnet, width=16, **grey), (1, 28, 28)),
    "convnet width 32, 32x32": (functools.partial(models.convnet, width=32, **colour), (3, 32, 32)),
    "resnet18 width 16, 32x32": (
        functools.partial(models.resnet18, width=16, **colour),
        (3, 32, 32),
    ),
    "wrn16_4, 32x32": (functools.partial(models.wrn16_4, **colour), (3, 32, 32)),
}
WAYS = {
    "float32": (False, False),
    "float32 channels-last": (False, True),
    "bf16": (True, False),
    "bf16 channels-last": (True, True),
}


def trainer(make: Callable[..., Network], mixed: bool, last: bool) -> Callable[..., None]:
    """Takes steps of SGD on images and labels as fitting does."""
    layout = torch.channels_last if last else torch.contiguous_format
    network = make().train().to(memory_format=layout)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, fused=True)

    def train(images: torch.Tensor, labels: torch.Tensor) -> None:
        for _ in range(STEPS):
            with torch.autocast("cpu", torch.bfloat16, enabled=mixed, cache_enabled=False):
                loss = cross_entropy(network(images), labels)
                optimiser.zero_grad()
                loss.backward()
            optimiser.step()

    return train


def compare(name: str, rounds: int) -> None:
    """Print the median CPU seconds of each way, and their range."""
    make, shape = NETWORKS[name]
    images = torch.randint(0, 256, (BATCH, *shape), dtype=torch.uint8)
    labels = torch.randint(0, 10, (BATCH,))
    ways = {way: trainer(make, *how) for way, how in WAYS.items()}
    taken: dict[str, list[float]] = {way: [] for way in WAYS}
    for i in range(rounds + 1):
        for way, train in ways.items():
            start = time.process_time()
            train(images, labels)
            if i:
                taken[way].append((time.process_time() - start) * 1000 / (BATCH * STEPS))
    words = [
        f"{way} {statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f})"
        for way, times in taken.items()
    ]
    print(f"{name}, CPU s per 1,000 images, n={rounds}:", "; ".join(words), flush=True)


def main(rounds: int) -> None:
    """Print what the CPU has, then all comparisons."""
    torch.set_num_threads(1)
    flags = Path("/proc/cpuinfo").read_text().split("flags", 1)[-1].split("\n", 1)[0].split()
    has = sorted({"avx2", "avx512f", "avx512_bf16", "amx_bf16"} & set(flags))
    print(f"this CPU has {', '.join(has)}")
    for name in NETWORKS:
        compare(name, rounds)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
