"""From what was read to what an audit is built on: the checks that every data set meets."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synpriv.data import canaries, groups
from synpriv.data.canaries import Own
from synpriv.data.datasets import Source
from synpriv.data.pool import Bools, Ints, Pool, class_balanced, found_in, twins
from synpriv.data.subsets import rows_kept, subsets, without_members
from synpriv.signatures import require

FLAT = 8  # grey levels, of 256, that an image has at least between its darkest and brightest pixel
DARK = 64  # the brightest pixel of a data set is brighter
FLAT_SHARE = 0.01  # of the images below that: worth a warning
Record = dict[str, Any]


@dataclass(frozen=True, eq=False)  # by identity: a cell's draw is kept as long as its pools
class Pools:
    """The private, test and public images of an audit, labels numbered 0..K-1."""

    private: Pool  # with rows; its last images are canaries of one's own, if there are any
    test: Pool
    public: Pool | None
    class_names: tuple[str, ...]  # as they were given, by label
    twins: Bools  # private images that occur there more than once, [N]
    own_constants: bool = False  # the normalisation constants are the private images' own mean
    notes: tuple[str, ...] = ()  # what was done and left out, in words
    warnings: tuple[str, ...] = ()
    evaluated_on: str = "test"  # what `test` is: test images, or held-out "validation" images
    group_names: tuple[str, ...] | None = None  # of the private groups 0..G-1
    files: tuple[str, ...] | None = None  # by row, see `Source`
    own: Own | None = None  # the canaries of one's own, labels numbered

    @property
    def num_classes(self) -> int:
        """K: classes with private images, which are also those of wrong labels."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        channels, height, width = self.private.images.shape[1:]
        return channels, height, width

    @property
    def num_own(self) -> int:
        """Canaries of one's own: the last private images."""
        return 0 if self.own is None else len(self.own.pool)

    @property
    def natural(self) -> Pool:
        """The private images without canaries of one's own."""
        if self.own is None:
            return self.private
        return self.private[np.arange(len(self.private) - self.num_own)]


def take_in(
    source: Source,
    *,
    num_train: int | None = None,
    num_test: int | None = None,
    num_validation: int | None = None,
    named: Sequence[int] = (),
    public: Source | None = None,
    num_public: int | None = None,
    mean: Sequence[float] = (),
    own: Own | None = None,
) -> Pools:
    """Number the labels, take subsets, drop test images that are private ones, check the pools.

    num_validation: so many private images are held out in place of the test set, which is then not
    looked at. named: rows of canaries, none of which is held out. public: takes the place of the
    source's own public pool. mean: the constants that networks normalise by, compared with the
    private images' own. own: canaries that join the private images.
    """
    height, width = source.private.images.shape[2:]
    require(height == width, f"images are {height}x{width}", "square: networks take one size")
    values = np.unique(source.private.labels)
    names = _names(source, values)
    everything = rows_kept(_known(source.private, values))
    natural, held_out = subsets(everything, names, num_train, num_validation, named)
    pool = None if source.public is None else _known(source.public, values)
    if public is not None:
        pool = class_balanced(_by_name(public, names), num_public, seed=0, name="public.num_train")
    if own is not None:
        own = canaries.numbered(own, values)
        canaries.check(own, natural, pool)
    # Groups keep their source's numbers until the test images of private groups are dropped.
    test = _known(source.test, values) if held_out is None else held_out
    test, about_test = without_members(test, natural, own)
    if num_validation is None:
        test = class_balanced(test, num_test, seed=0, name="dataset.num_test")
    private, group_names = groups.without_gaps(natural, source.group_names)
    groups.require_others(private, group_names)
    about = groups.warnings_of(private, group_names, tuple(names))
    if own is not None:
        private, group_names = canaries.join(private, group_names, own)
    if pool is not None:
        _check_public(pool, private, test)
    doubles = twins(private)
    return Pools(
        private=private,
        test=replace(test, groups=None),  # nobody looks at them any more
        public=pool,
        class_names=tuple(names),
        twins=doubles,
        own_constants=bool(mean) and is_own_mean(everything.images, mean),
        notes=source.notes,
        warnings=(*about_test, *_about_twins(doubles), *about, *_about_pixels(natural.images)),
        evaluated_on="test" if num_validation is None else "validation",
        group_names=group_names,
        files=source.files,
        own=own,
    )


def _names(source: Source, values: Ints) -> list[str]:
    given = source.class_names
    names = [str(value) if given is None else given[value] for value in values]
    there = f"one class, {names[0]}" if names else "no image"
    require(len(names) > 1, f"the private set has {there}", "two or more classes")
    return names


def _numbered(labels: Ints, values: Ints) -> Ints:
    """Place of each label among the sorted ones that occur, int64 [N]."""
    return np.searchsorted(values, labels).astype(np.int64)


def _known(pool: Pool, values: Ints) -> Pool:
    """A pool with its labels numbered as the private set's; others are refused."""
    unknown = np.setdiff1d(pool.labels, values)
    if len(unknown):
        raise ValueError(
            f"label {unknown[0]} of the test or public images has no private image: "
            f"must be one of {', '.join(map(str, values[:10]))}{', ...' * (len(values) > 10)}"
        )
    return replace(pool, labels=_numbered(pool.labels, values))


def _by_name(public: Source, names: list[str]) -> Pool:
    """A public pool with the private labels of its classes if it has no others.

    Labels of other classes begin at K: they must not be taken for private ones.
    """
    values = np.unique(public.private.labels)
    given = public.class_names
    own = [str(value) if given is None else given[value] for value in values]
    known = set(own) <= set(names)
    place = [names.index(name) if known else len(names) + i for i, name in enumerate(own)]
    labels = np.array(place, dtype=np.int64)[_numbered(public.private.labels, values)]
    return Pool(public.private.images, labels)


def _check_public(public: Pool, private: Pool, test: Pool) -> None:
    if public.images.shape[1:] != private.images.shape[1:]:
        raise ValueError(
            f"public pool has images {tuple(public.images.shape[1:])}, "
            f"the private set {tuple(private.images.shape[1:])}; they must agree"
        )
    for name, part in (("private", private), ("test", test)):
        shared = int(found_in(part, public).sum())
        if shared:
            raise ValueError(
                f"public pool holds {shared} images of the {name} set: "
                "a public pool must be disjoint from it, remove them"
            )


def _about_twins(doubles: Bools) -> list[str]:
    if not doubles.any():
        return []
    return [
        f"{doubles.sum()} private images occur more than once: what is learnt of one stays "
        "when it is taken out, so canaries are drawn from the others; remove the copies"
    ]


def _about_pixels(images: NDArray[np.uint8]) -> list[str]:
    spread = np.ptp(images.reshape(len(images), -1), axis=1)
    flat = int((spread < FLAT).sum())
    if images.max() < DARK:
        return [
            f"values go up to {images.max()} of 255: were they stored with more bits than used?"
        ]
    if flat < max(1, FLAT_SHARE * len(images)):
        return []
    return [
        f"{flat} of {len(images)} private images are of one colour or nearly so "
        f"(values {images.min()} to {images.max()} in all): was the right file read?"
    ]


def is_own_mean(images: NDArray[np.uint8], mean: Sequence[float]) -> bool:
    """Whether normalisation constants are what one gets by computing them on these images.

    Constants in unit range, one or one per channel; published ones have four digits.
    """
    total = images.sum(axis=(0, 2, 3), dtype=np.int64)  # exact, and no copy as floats
    own = total / (images.size // images.shape[1]) / 255
    return bool(np.abs(own - np.asarray(mean, dtype=np.float64)).max() < 1e-3)


def record(pools: Pools) -> Record:
    """What was seen of the data, for metrics.json and the report."""
    images, sizes = pools.private.images, np.bincount(pools.private.labels)
    seen = {
        "num_private": len(pools.private),
        "num_test": len(pools.test),
        "evaluated_on": pools.evaluated_on,
        "num_public": 0 if pools.public is None else len(pools.public),
        "num_classes": pools.num_classes,
        "class_names": list(pools.class_names),
        "class_sizes": sizes.tolist(),
        "image_shape": list(pools.image_shape),
        "value_range": [int(images.min()), int(images.max())],
        "num_duplicates": int(pools.twins.sum()),
        "num_own": pools.num_own,
        "groups": groups.sizes(pools.private),
        "notes": list(pools.notes),
        "warnings": list(pools.warnings),
        "sha256": content_sha256(pools),
        "public_sha256": None if pools.public is None else pools.public.digest(),
    }
    return seen | {"in_words": in_words(seen)}


def content_sha256(pools: Pools) -> str:
    """Hash of the private and test images and labels: shadow models of a cell must agree on it."""
    parts = [pools.private.digest(), pools.test.digest(), *pools.class_names]
    parts += [] if pools.own is None else [pools.own.pool.digest()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def in_words(seen: Mapping[str, Any]) -> str:
    """A record as one line."""
    sizes, names = seen["class_sizes"], seen["class_names"]
    low, high = min(sizes), max(sizes)
    each = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    shape = "x".join(map(str, seen["image_shape"]))
    many = len(names) > 10
    listed = f"{', '.join(names[:3])}, ..., {names[-1]}" if many else ", ".join(names)
    public = f", {seen['num_public']:,} public" if seen["num_public"] else ""
    copies = f"{seen['num_duplicates']:,} duplicates" if seen["num_duplicates"] else "no duplicates"
    line = (
        f"{seen['num_private']:,} private images of {len(names)} classes ({listed}; {each} each), "
        f"{shape}, values {seen['value_range'][0]}..{seen['value_range'][1]}; "
        f"{seen['num_test']:,} {seen['evaluated_on']}{public}; {copies}"
    )
    own = seen["num_own"]
    about = [f"{own:,} of the private images are canaries of your own"] if own else []
    about += [groups.in_words(seen["groups"])] if seen["groups"] else []
    return "; ".join([line, *about, *seen["notes"]])
