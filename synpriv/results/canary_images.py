"""The canaries of a cell as images, kept once beside cell.yaml: what a page shows of them."""

from __future__ import annotations

import logging
import zipfile
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
    if read(folder, canaries.digest()) is None:
        content = store.npz_bytes(
            images=canaries.images, labels=canaries.labels, true_labels=true_labels
        )
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
            canaries = Pool(arrays["images"], arrays["labels"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        log.warning("left out: %s is damaged (%s)", file, type(error).__name__)
        return None
    if canaries.digest() != sha256:
        log.warning("left out: %s is of other canaries, or damaged", file)
        return None
    return canaries.images
