"""Labelled images as arrays: data are read, checked and drawn from without torch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


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
    """Which images occur more than once, whatever their labels: bool [N].

    Copies within one group do not count: they are taken out together.
    """
    _, image = np.unique(pool.hashes(), return_inverse=True)
    if pool.groups is not None:
        places = np.unique(np.stack([image, pool.groups]), axis=1)  # each group of an image once
        return np.bincount(places[0])[image] > 1
    return np.bincount(image)[image] > 1


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


def share_in_class(pool: Pool, *, seed: int) -> Floats:
    """Where each image lies in a random order of its own class, 0 < . < 1: float64 [N].

    Images of a group lie at its middle, in the class that most of them are of.
    """
    _, labels = np.unique(pool.labels, return_inverse=True)
    if pool.groups is None:
        return (rank_in_class(labels, seed=seed) + 0.5) / np.bincount(labels)[labels]
    groups = _in_class(pool.groups, labels, seed)
    total = np.bincount(groups.label, weights=groups.size)[groups.label]
    return ((groups.before + groups.size / 2) / total)[groups.of_image]


class _Groups(NamedTuple):
    """G groups in a random order within their class."""

    of_image: Ints  # [N] 0..G-1
    size: Ints  # [G]
    label: Ints  # [G] the class of most of its images
    before: Ints  # [G] images of groups before it in its class


def _in_class(groups: Ints, labels: Ints, seed: int) -> _Groups:
    _, of_image, size = np.unique(groups, return_inverse=True, return_counts=True)
    counts = np.zeros((len(size), labels.max() + 1), dtype=np.int64)
    np.add.at(counts, (of_image, labels), 1)
    label = counts.argmax(axis=1)
    order = np.lexsort((rank_in_class(label, seed=seed), label))
    before = np.empty(len(size), dtype=np.int64)
    before[order] = np.cumsum(size[order]) - size[order]
    of_class = np.bincount(label, weights=size).astype(np.int64)
    return _Groups(of_image, size, label, before - (np.cumsum(of_class) - of_class)[label])


def first_of_classes(pool: Pool, num: int, *, seed: int) -> Bools:
    """A seeded choice of `num` images, classes as equal as the data allow: bool [N].

    Groups are not cut: those that fit are taken, so it may be fewer.
    """
    chosen = np.zeros(len(pool), dtype=bool)
    if pool.groups is None:
        rank = rank_in_class(pool.labels, seed=seed)
        chosen[np.argsort(rank, kind="stable")[:num]] = True
        return chosen
    _, labels = np.unique(pool.labels, return_inverse=True)
    groups, left = _in_class(pool.groups, labels, seed), num
    taken = np.zeros(len(groups.size), dtype=bool)
    for group in np.argsort(groups.before, kind="stable"):
        taken[group] = groups.size[group] <= left
        left -= groups.size[group] * taken[group]
    return taken[groups.of_image]


def class_balanced(pool: Pool, num: int | None, *, seed: int, name: str) -> Pool:
    """The images of `first_of_classes`, in the given order; all for None."""
    if num is None:
        return pool
    if not 1 <= num <= len(pool):
        raise ValueError(f"{name}={num}: must be 1..{len(pool)} for this data set")
    chosen = first_of_classes(pool, num, seed=seed)
    if not chosen.any():
        raise ValueError(f"{name}={num}: must be more: no group is so small, and none is cut")
    return pool[chosen]
