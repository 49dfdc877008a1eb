"""Synthetic sets that were made elsewhere, one per shadow model: which ones, from which split.

A set is an npz archive or a folder of images. It says itself which private set it was made from
(`split_sha256`, an array of the archive or a file of the folder), or `manifest.json` says it, which
lies in a folder above it where `python -m synpriv.split` wrote the private sets.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
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
    return content.expanded(path.replace(SEED, str(seed)), f"path={path}").absolute()


def sets_sha256(path: str, num_models: int) -> str:
    """The content of all sets of a cell, which names it; ValueError if some are missing."""
    require(isinstance(path, str), f"method.path={path}", "DIR/{seed}.npz")
    try:
        places = [place(path, seed) for seed in range(num_models)]
    except ValueError as error:
        raise ValueError(f"method.{error}") from error
    if lacking := [str(seed) for seed, file in enumerate(places) if not file.exists()]:
        have = f"has no set of {len(lacking)} of {num_models} shadow models, seeds {some(lacking)}"
        raise ValueError(f"method.path={path}: {have}; make them, or lower num_models")
    every = [
        content.folder_sha256(str(file)) if file.is_dir() else content.sha256(file)
        for file in places
    ]
    return hashlib.sha256(" ".join(every).encode()).hexdigest()


def check_unchanged(path: str, num_models: int, sha256: str) -> None:
    """Refuse sets that are not, or not any more, the ones that their cell is called after."""
    if sets_sha256(path, num_models) != sha256:
        changed = "changed while the sweep was running; start the sweep again"
        raise ValueError(f"method.path={path}: {changed}")


def check(
    path: str,
    seed: int,
    sha256_of: Callable[[int], str],
    wanted: Wanted,
    class_names: tuple[str, ...],
) -> None:
    """Refuse a set that is missing, of another split or cannot be one.

    An npz archive is judged by its headers, a folder by all of its images. sha256_of:
    `Splits.sha256` of the splits as they are now; class_names: as in `read`.
    """
    file = place(path, seed)
    if not file.exists():
        raise ValueError(f"path={path}: no {file}; make it of the private set of seed {seed}")
    if file.is_dir():
        read(path, seed, wanted, class_names)
    else:
        returned.check_archive(file, wanted, str(file))
    claim = own_claim(file) or _claim_above(file, seed)
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


def own_claim(file: Path) -> str | None:
    """Which private set a set says it was made from; None if it does not say."""
    if file.is_dir():
        own = file / CLAIM
        if own.is_file():
            return own.read_text("utf-8", "replace").strip()
    elif archive.headers(file, [CLAIM]).get(CLAIM) is not None:
        return str(archive.read(file, [CLAIM])[CLAIM])
    return None


def _claim_above(file: Path, seed: int) -> str | None:
    """Which private set a set in this place is to be made from, by the manifest above it."""
    for folder in list(file.parents)[:ABOVE]:
        if (folder / MANIFEST).is_file():
            return splits_in(folder / MANIFEST).get(str(seed))
    return None


def about_claims(say: Sequence[bool]) -> list[str]:
    """A warning of sets that do not say themselves what they were made from, one bool per set."""
    silent = len(say) - sum(say)
    of = f"{silent} of {len(say)} sets do not say which private set they were made from"
    why = f"{MANIFEST} stands for them by their place, and a stale or swapped set passes"
    return [f"{of}: {why}; copy {CLAIM} into each"] if silent else []


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
    found, (channels, size, _) = listing(file), wanted.image_shape
    beside = [words for words in found.left_out if words != f"1 {CLAIM}"]
    beside += [f"{len(found.test)} held-out images"] if found.test is not None else []
    require(not beside, f"{file}: holds {', '.join(beside)}", "one folder of images per class")
    files = found.private
    if unknown := sorted({one.label for one in files} - set(class_names)):
        raise ValueError(f"{file}: folders {some(unknown)}; must be among {some(class_names)}")
    images, notes = pixels.read(files, root=file, size=size, channels=3, fit="stretch")
    scaled = [words for words in notes if words.startswith("images of")]  # others are of colours
    require(not scaled, f"{file}: {'; '.join(scaled)}", f"images of {size}x{size} pixels")
    if channels == 1:  # grey images may be stored as colour ones
        coloured = int((images != images[:, :1]).any(axis=(1, 2, 3)).sum())
        given = f"{file}: {coloured} of {len(images)} images are coloured"
        require(not coloured, given, "of 1 channel (grey), as the private images are")
        images = images[:, :1]
    labels = np.array([class_names.index(one.label) for one in files], dtype=np.int64)
    return returned.taken(images.transpose(0, 2, 3, 1), labels, wanted, str(file))
