"""Calling somebody else's function: what it changes of the process is put back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as lightning
import torch

TERMINATED = 143  # what a worker exits with on SIGTERM


@contextmanager
def as_found(seed: int) -> Iterator[None]:
    """Global generators seeded for what is inside; torch's settings and the folder kept.

    A function that draws from the global generators repeats itself too. One that sets float64, more
    threads or another folder must not change how its student is trained.
    """
    folder, threads = os.getcwd(), torch.get_num_threads()
    dtype, deterministic = torch.get_default_dtype(), torch.are_deterministic_algorithms_enabled()
    lightning.seed_everything(seed, verbose=False)
    try:
        with torch.enable_grad():
            yield
    finally:
        os.chdir(folder)
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
        torch.use_deterministic_algorithms(deterministic)


def is_interruption(stop: SystemExit) -> bool:
    """Whether the process is told to stop, and not somebody's code has called sys.exit."""
    return stop.code == TERMINATED or isinstance(stop.__context__, KeyboardInterrupt)


def parts_of(returned: Any, where: str) -> tuple[Any, Any, torch.nn.Module | None]:
    """Images, labels and the generator, if one was returned, of what a function returned."""
    if not isinstance(returned, tuple | list) or len(returned) not in (2, 3):
        given = f"{type(returned).__name__}"
        given += f" of {len(returned)}" if isinstance(returned, tuple | list) else ""
        raise ValueError(f"{where}: returned a {given}; must be (images, labels)")
    images, labels, *rest = returned
    generator = rest[0] if rest else None
    if generator is not None and not isinstance(generator, torch.nn.Module):
        raise ValueError(
            f"{where}: returned a generator of type {type(generator).__name__}; must be a "
            "torch.nn.Module, whose weights are kept, or left out"
        )
    return images, labels, generator
