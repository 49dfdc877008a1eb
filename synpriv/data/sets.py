"""Synthetic sets that were made elsewhere, one per shadow model: which ones, from which split.

A set is an npz archive or a folder of images. It says itself which private set it was made from
(`split_sha256`, an array of the archive or a file of the folder), or `manifest.json` says it, which
lies in a folder above it where `python -m synpriv.split` wrote the private sets.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synpriv.data import archive, content, pixels, returned
from synpriv.data.draws import Draw
from synpriv.data.folder import listing, some
from synpriv.data.pool import Bools, Ints, Pool
from synpriv.data.returned import Wanted
from synpriv.signatures import require

CLAIM = "split_sha256"  # which private set a set was made from
MANIFEST = "manifest.json"
SEED = "{seed}"
ABOVE = 3  # folders above a set in which a manifest is looked for


def split_sha256(private_sha256: str, labels: Ints, included: Bools) -> str:
    """What tells the private set of one shadow model from all others.

    private_sha256: of all private images, from which this one has those that are `included` [N],
    with the labels [N] that it is trained on.
    """
    own = np.flatnonzero(included)
    said = hashlib.sha256(private_sha256.encode())
    said.update(own.astype("<i8").tobytes())
    said.update(labels[own].astype("<i8").tobytes())
    return said.hexdigest()


class Splits:
    """`split_sha256` of each shadow model of a cell, the images hashed once and only if asked."""

    def __init__(self, private: Pool, drawn: Draw) -> None:
        self.private, self.drawn = private, drawn

    @cached_property
    def _private_sha256(self) -> str:
        return self.private.digest()

    def sha256(self, seed: int) -> str:
        """That of shadow model `seed`."""
        return split_sha256(self._private_sha256, self.drawn.labels, self.drawn.included(seed))


def place(path: str, seed: int) -> Path:
    """Where the set of one shadow model lies; ValueError for a path without {seed}."""
    require(SEED in path, f"path={path}", "one set per shadow model, with {seed} in its path")
    return Path(path.replace(SEED, str(seed))).expanduser().absolute()


def sets_sha256(path: str, num_models: int) -> str:
    """The content of all sets of a cell, which names it; ValueError if some are missing."""
    require(isinstance(path, str), f"path={path}", "DIR/{seed}.npz")
    places = [place(path, seed) for seed in range(num_models)]
    if lacking := [str(seed) for seed, file in enumerate(places) if not file.exists()]:
        have = f"has no set of {len(lacking)} of {num_models} shadow models, seeds {some(lacking)}"
        raise ValueError(f"method.path={path}: {have}; make them, or lower num_models")
    every = [
        content.folder_sha256(str(file)) if file.is_dir() else content.sha256(file)
        for file in places
    ]
    return hashlib.sha256(" ".join(every).encode()).hexdigest()


def check(path: str, seed: int, sha256_of: Callable[[int], str], wanted: Wanted) -> None:
    """Refuse a set that is missing, of another split or cannot be one; of an npz by its headers.

    sha256_of: `Splits.sha256` of the splits as they are now.
    """
    file = place(path, seed)
    if not file.exists():
        raise ValueError(f"path={path}: no {file}; make it of the private set of seed {seed}")
    if not file.is_dir():
        returned.check_archive(file, wanted, str(file))
    claim = _claim_of(file, seed)
    if claim is None:
        raise ValueError(
            f"path={path}: nothing says which private set {file.name} was made from: keep the "
            f"array {CLAIM} of the set that it was made from, or {MANIFEST} above it"
        )
    if claim != sha256_of(seed):
        raise ValueError(
            f"path={path}: {file.name} was made from another private set than seed {seed} has now "
            "(other data, canaries, audit_seed or num_models); make it again from "
            "`python -m synpriv.split` with these options"
        )


def _claim_of(file: Path, seed: int) -> str | None:
    """Which private set a set says it was made from, or the manifest above it."""
    if file.is_dir():
        own = file / CLAIM
        if own.is_file():
            return own.read_text("utf-8", "replace").strip()
    elif archive.headers(file, [CLAIM]).get(CLAIM) is not None:
        return str(archive.read(file, [CLAIM])[CLAIM])
    for folder in list(file.parents)[:ABOVE]:
        if (folder / MANIFEST).is_file():
            return splits_in(folder / MANIFEST).get(str(seed))
    return None


def splits_in(manifest: Path) -> dict[str, str]:
    """`split_sha256` by seed, as a manifest has it; ValueError if it is none."""
    try:
        said = json.loads(manifest.read_text("utf-8"))
        return {seed: str(split[CLAIM]) for seed, split in said["splits"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        right = "as python -m synpriv.split wrote it"
        raise ValueError(f"{manifest}: cannot be read; must be {right}") from error


def read(
    path: str, seed: int, wanted: Wanted, class_names: tuple[str, ...]
) -> tuple[NDArray, NDArray]:
    """Images uint8 [M,ch,H,W] and labels int64 [M] or float32 [M,K] of one shadow model's set.

    class_names: by label, what the folders of an image folder are called.
    """
    file = place(path, seed)
    if not file.is_dir():
        return returned.read(file, wanted, str(file))
    files, (channels, size, _) = listing(file).private, wanted.image_shape
    if unknown := sorted({one.label for one in files} - set(class_names)):
        raise ValueError(f"{file}: folders {some(unknown)}; must be among {some(class_names)}")
    images, notes = pixels.read(files, root=file, size=size, channels=channels, fit="stretch")
    require(not notes, f"{file}: {'; '.join(notes)}", f"images of {size}x{size} pixels")
    labels = np.array([class_names.index(one.label) for one in files], dtype=np.int64)
    return returned.taken(images.transpose(0, 2, 3, 1), labels, wanted, str(file))
