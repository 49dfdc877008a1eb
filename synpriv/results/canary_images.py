"""The canaries of a cell as images, kept once beside cell.yaml: what a page shows of them."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synpriv.data.pool import Pool
from synpriv.results import store

log = logging.getLogger(__name__)
CANARIES = "canaries.npz"


def keep(folder: Path, canaries: Pool, true_labels: NDArray[np.int64]) -> None:
    """Write the canaries of the cell in `folder` unless they are there, as they are.

    canaries: images uint8 [C,ch,H,W] with the labels that they are trained on. Runs of one cell
    write the same bytes, so it does not matter which comes first.
    """
    if not (folder / CANARIES).is_file() or problem(folder, canaries.digest()) is not None:
        store.write_bytes(folder / CANARIES, _written(canaries, true_labels))


def read(folder: Path, sha256: str) -> NDArray[np.uint8] | None:
    """The canary images [C,ch,H,W] of the cell in `folder`; None where they were not kept.

    sha256: the `canaries_sha256` of its runs. What is damaged or of other canaries is named in the
    log and left out.
    """
    if not (folder / CANARIES).is_file():
        return None
    if why := problem(folder, sha256):
        log.warning("left out: %s", why)
        return None
    return store.read_arrays(folder / CANARIES)["images"]


def problem(folder: Path, sha256: str) -> str | None:
    """Why the file of `folder` cannot be used; None if it is as `keep` writes it, or not there."""
    file = folder / CANARIES
    if not file.is_file():
        return None
    try:
        arrays = store.read_arrays(file)
        canaries = Pool(arrays["images"], arrays["labels"])
        whole = file.read_bytes() == _written(canaries, arrays["true_labels"])
    except Exception as error:  # noqa: BLE001 - of damaged archives zipfile raises anything
        return f"{file} is damaged ({type(error).__name__})"
    if not whole:
        return f"{file} is damaged (not as it was written)"
    return None if canaries.digest() == sha256 else f"{file} is of other canaries, or damaged"


def _written(canaries: Pool, true_labels: NDArray[np.int64]) -> bytes:
    images, labels = canaries.images, canaries.labels
    return store.stored_npz_bytes(images=images, labels=labels, true_labels=true_labels)
