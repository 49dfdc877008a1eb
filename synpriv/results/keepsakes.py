"""The canaries of a cell as images, kept once beside cell.yaml: what a report shows of them."""

from __future__ import annotations

import hashlib
import logging
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synpriv.results import store

log = logging.getLogger(__name__)
CANARIES = "canaries.npz"


def digest(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> str:
    """What metrics.json calls `canaries_sha256`: of images [C,ch,H,W] and trained labels [C]."""
    content = hashlib.sha256(np.ascontiguousarray(images).data)
    content.update(np.ascontiguousarray(labels).data)
    return content.hexdigest()


def keep(
    folder: Path,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    true_labels: NDArray[np.int64],
) -> None:
    """Write the canaries of the cell in `folder` unless they are there, as they are.

    Runs of one cell write the same bytes, so it does not matter which comes first.
    """
    if read(folder, digest(images, labels)) is None:
        content = store.npz_bytes(images=images, labels=labels, true_labels=true_labels)
        store.write_bytes(folder / CANARIES, content)


def read(folder: Path, sha256: str) -> NDArray[np.uint8] | None:
    """The canary images [C,ch,H,W] of the cell in `folder`; None where they were not kept.

    sha256: the `canaries_sha256` of its runs. What is damaged or of other canaries is named in the
    log and left out.
    """
    file = folder / CANARIES
    if not file.is_file():
        return None
    try:
        with np.load(file, allow_pickle=False) as arrays:
            images, labels = arrays["images"], arrays["labels"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        log.warning("left out: %s is damaged (%s)", file, type(error).__name__)
        return None
    if images.dtype != np.uint8 or images.ndim != 4 or digest(images, labels) != sha256:
        log.warning("left out: %s is of other canaries, or damaged", file)
        return None
    return images
