"""A DP-SGD step against a plain SGD step of the same network and batch, and its memory.

CPU time on one thread, alternating, medians; memory settings as in the launcher's workers.
Usage: python -m benchmarks.dpsgd [rounds]
"""

from __future__ import annotations

import functools
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable

import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy

from synpriv import models
from synpriv.methods.dpsgd.per_sample import clipped_sum, set_gradients
from synpriv.models import Network

MEMORY = {"MALLOC_TRIM_THRESHOLD_": "1000000000", "MALLOC_MMAP_THRESHOLD_": "1000000000"}
digits = functools.partial(models.convnet, channels=1, size=8, mean=[0.5], std=[0.25], width=16)
colour = functools.partial(models.resnet18, channels=3, size=32, mean=[0.5], std=[0.25], width=16)
wide = functools.partial(models.wrn16_4, channels=3, size=32, mean=[0.5], std=[0.25], width=1)
NETWORKS: dict[str, tuple[Callable[..., Network], tuple[int, int, int]]] = {
    "convnet width 16, 8x8": (digits, (1, 8, 8)),
    "wrn16_4 width 1, 32x32": (wide, (3, 32, 32)),
    "resnet18 width 16, 32x32": (colour, (3, 32, 32)),
}
Step = Callable[[], object]


def sgd(network: Network, images: Tensor, labels: Tensor) -> Step:
    """The plain step."""
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01, fused=True)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        cross_entropy(network(images), labels).backward()
        optimiser.step()

    return step


def ours(network: Network, images: Tensor, labels: Tensor, num_views: int) -> Step:
    """What methods/dpsgd.py does with a physical batch."""
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01, fused=True)
    num = len(images) // num_views

    def step() -> None:
        total, _ = clipped_sum(
            network,
            images,
            lambda logits: cross_entropy(logits, labels, reduction="none"),
            max_grad_norm=1.0,
            num_views=num_views,
        )
        set_gradients(network, (total + torch.randn(total.shape)) / num)
        optimiser.step()

    return step


def with_vmap(network: Network, images: Tensor, labels: Tensor, num_views: int) -> Step:
    """Per-sample gradients by torch.func, clipped and noised by Opacus."""
    optimiser = _opacus_optimiser(network, len(images) // num_views)
    views, targets = images.unflatten(0, (-1, num_views)), labels.unflatten(0, (-1, num_views))

    def loss(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(functional_call(network, parameters, (x,)), y)

    per_sample = vmap(grad(loss), (None, 0, 0))

    def step() -> None:
        constant = {name: p.detach() for name, p in network.named_parameters()}
        found = per_sample(constant, views, targets)
        for name, parameter in network.named_parameters():
            parameter.grad_sample = found[name]  # type: ignore[attr-defined]
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def with_hooks(network: Network, images: Tensor, labels: Tensor, num_views: int) -> Step:
    """Opacus's default mode; a view counts as a sample, since it knows no others."""
    for module in network.modules():
        if isinstance(module, torch.nn.ReLU):
            module.inplace = False
    wrapped = GradSampleModule(network)
    optimiser = _opacus_optimiser(wrapped, len(images))

    def step() -> None:
        cross_entropy(wrapped(images), labels).backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def _opacus_optimiser(network: torch.nn.Module, num: int) -> DPOptimizer:
    plain = torch.optim.SGD(network.parameters(), lr=0.01, fused=True)
    return DPOptimizer(plain, noise_multiplier=1.0, max_grad_norm=1.0, expected_batch_size=num)


def compare(name: str, num: int, num_views: int, rounds: int) -> None:
    """Print the CPU time of each way as a multiple of plain SGD's."""
    factory, shape = NETWORKS[name]
    images = torch.randint(0, 256, (num * num_views, *shape), dtype=torch.uint8)
    labels = torch.randint(0, 10, (num,)).repeat_interleave(num_views)
    network = functools.partial(factory, num_classes=10, norm="group")
    steps = {
        "SGD": sgd(network(), images, labels),
        "synpriv": ours(network(), images, labels, num_views),
        "vmap": with_vmap(network(), images, labels, num_views),
        "opacus hooks": with_hooks(network(), images, labels, num_views),
    }
    seconds: dict[str, list[float]] = {key: [] for key in steps}
    for i in range(rounds + 2):
        for key, step in steps.items():
            start = time.process_time()
            step()
            if i >= 2:
                seconds[key].append(time.process_time() - start)
    plain = statistics.median(seconds["SGD"])
    ratios = {key: [t / plain for t in times] for key, times in seconds.items()}
    words = [
        f"{key} x{statistics.median(r):.2f} ({min(r):.2f} to {max(r):.2f})"
        for key, r in ratios.items()
    ]
    print(
        f"{name}, {num} samples of {num_views} views, SGD {plain * 1e3:.1f} ms:", "; ".join(words)
    )


def peak_mb(batch_size: int) -> float:
    """Peak memory of a process that takes logical steps of this size in pieces of 64."""
    code = f"""
import functools, resource, torch
from benchmarks.dpsgd import wide
from synpriv.data.images import LabelledImages
from synpriv.methods.dpsgd.dpsgd import DPSGD
images = torch.randint(0, 256, (8192, 3, 32, 32), dtype=torch.uint8)
method = DPSGD(
    private=LabelledImages(images, torch.zeros(8192, dtype=torch.int64)),
    model=functools.partial(wide, num_classes=10, norm="group"), expected_size=8192,
    num_epochs=1, batch_size={batch_size}, noise_multiplier=1.0, delta=1e-5, lr=0.1,
)
method.generator, method.noise = torch.Generator(), torch.Generator()
method.optimizers = lambda use_pl_optimizer: method.configure_optimizers()
method.step(torch.arange({batch_size}))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return float(done.stdout)


def main(rounds: int) -> None:
    """Print all comparisons."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    for name in NETWORKS:
        fewer = rounds if name.startswith("convnet") else max(3, rounds // 8)
        compare(name, 64, 1, fewer)
    compare("convnet width 16, 8x8", 32, 4, rounds)
    for batch_size in (64, 512, 4096):
        print(f"logical batch {batch_size}, physical 64: peak {peak_mb(batch_size):.0f} MB")


if __name__ == "__main__":
    if os.environ.get("MALLOC_TRIM_THRESHOLD_") is None:  # read only when a process starts
        again = [sys.executable, "-m", "benchmarks.dpsgd", *sys.argv[1:]]
        os.execve(sys.executable, again, os.environ | MEMORY | {"OMP_NUM_THREADS": "1"})
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
