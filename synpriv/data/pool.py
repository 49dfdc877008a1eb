"""Labelled images as arrays: data are read, checked and drawn from without torch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Pool:
    """A set of images: uint8 [N,ch,H,W] with labels int64 [N]."""

    images: NDArray[np.uint8]
    labels: Ints
    groups: Ints | None = None  # [N] number of the person (say) that an image is of; None = no such
    rows: Ints | None = None  # [N] places in the data as they were read; None = 0..N-1

    def __post_init__(self) -> None:
        assert self.images.dtype == np.uint8, self.images.dtype
        assert self.images.ndim == 4, self.images.shape
        for column in (self.labels, self.groups, self.rows):
            assert column is None or column.shape == self.images.shape[:1], column.shape

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: NDArray) -> Pool:
        """Rows by an array of indices or a mask, never a single image."""
        groups, rows = (None if c is None else c[index] for c in (self.groups, self.rows))
        return Pool(self.images[index], self.labels[index], groups, rows)

    def hashes(self) -> list[str]:
        """One content hash per image (labels do not count)."""
        return [hashlib.sha256(image.tobytes()).hexdigest() for image in self.images]

    def digest(self) -> str:
        """One hash of all images and labels, and groups if there are any, in their order."""
        content = hashlib.sha256(np.ascontiguousarray(self.images).data)
        content.update(np.ascontiguousarray(self.labels).data)
        if self.groups is not None:
            content.update(np.ascontiguousarray(self.groups).data)
        return content.hexdigest()


def twins(pool: Pool) -> Bools:
    """Which images occur more than once, whatever their labels: bool [N]."""
    _, group, size = np.unique(pool.hashes(), return_inverse=True, return_counts=True)
    return size[group] > 1


def found_in(pool: Pool, others: Pool) -> Bools:
    """Which images of `pool` are images of `others` too, whatever their labels: bool [N]."""
    known = set(others.hashes())
    return np.array([image in known for image in pool.hashes()], dtype=bool)


def rank_in_class(labels: Ints, *, seed: int) -> Ints:
    """Place of each sample in a random order of its own class, int [N]."""
    rank = np.empty(len(labels), dtype=np.int64)
    rng = np.random.default_rng(seed)
    for label in np.unique(labels):
        where = np.flatnonzero(labels == label)
        rank[where] = rng.permutation(len(where))
    return rank


def class_balanced(pool: Pool, num: int | None, *, seed: int, name: str) -> Pool:
    """A seeded subset of `num` images, classes as equal as the data allow, in the given order."""
    if num is None:
        return pool
    if not 1 <= num <= len(pool):
        raise ValueError(f"{name}={num}: must be 1..{len(pool)} for this data set")
    rank = rank_in_class(pool.labels, seed=seed)
    return pool[np.sort(np.argsort(rank, kind="stable")[:num])]
