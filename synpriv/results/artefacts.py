"""What a run leaves for others: released weights and synthetic sets, a proxy's records.

No pickles: weights are safetensors, arrays npz.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from synpriv.methods.base import Release
from synpriv.methods.coreset.selection import Records
from synpriv.results import store


def save_release(folder: Path, release: Release) -> dict[str, str]:
    """Write what is there of a release; returns {file: sha256}."""
    files = {}
    if release.classifier is not None:
        files[store.CLASSIFIER] = weights_bytes(release.classifier)
    if release.generator is not None:
        files[store.GENERATOR] = weights_bytes(release.generator)
    if release.synthetic is not None:
        arrays = {
            "images": release.synthetic.images.numpy(),
            "labels": release.synthetic.labels.numpy(),
        }
        if release.indices is not None:
            arrays["indices"] = release.indices.numpy()
        files[store.SYNTHETIC] = store.npz_bytes(**arrays)
    return {name: _write(folder / name, content) for name, content in files.items()}


def save_arrays(file: Path, arrays: Mapping[str, NDArray]) -> dict[str, str]:
    """Write an npz if there is anything to write; returns {file name: sha256}."""
    return {file.name: _write(file, store.npz_bytes(**arrays))} if arrays else {}


def _write(file: Path, content: bytes) -> str:
    store.write_bytes(file, content)
    return hashlib.sha256(content).hexdigest()


def weights_bytes(module: nn.Module) -> bytes:
    """All parameters and persistent buffers as safetensors."""
    return safetensors.torch.save(
        {name: tensor.cpu().contiguous() for name, tensor in module.state_dict().items()}
    )


def read_weights(file: Path) -> dict[str, Tensor]:
    """A state dict on the CPU."""
    return safetensors.torch.load(file.read_bytes())


def read_records(file: Path) -> Records:
    """What a proxy recorded."""
    with np.load(file, allow_pickle=False) as arrays:
        return Records(**{name: torch.from_numpy(arrays[name]) for name in arrays.files})
