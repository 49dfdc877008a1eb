"""Canaries of one's own: images from a file that are IN or OUT, beside a private set all IN."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from synpriv.data import archive, groups
from synpriv.data.arrays import check_layout, labelled
from synpriv.data.content import file_sha256
from synpriv.data.pool import Bools, Ints, Pool, found_in
from synpriv.signatures import require

ARRAYS = ("images", "labels", "true_labels", "groups")


@dataclass(frozen=True)
class Own:
    """M canaries as a file has them."""

    file: str  # its name, for the report
    pool: Pool  # with the labels that they are trained on
    true_labels: Ints  # [M]
    group_names: tuple[str, ...] | None = None  # of the file's own groups


def count(path: str) -> int:
    """How many canaries a file has: images, or groups of them. Images are not read."""
    file = Path(path).expanduser().absolute()
    file_sha256(str(file))  # says what is wrong if there is no such file
    found = archive.headers(file, ARRAYS)
    images = found.get("images")
    require(images is not None, f"{file}: has arrays {sorted(found)}", "images and labels")
    assert images is not None
    if found.get("groups") is not None:
        return len(np.unique(archive.read(file, ["groups"])["groups"]))
    return images.shape[0] if images.shape else 0


def read(path: str, *, sha256: str | None = None) -> Own:
    """An archive with `images`, `labels`, and optionally `true_labels` and `groups`.

    Layouts are those of `datasets.npz`. `labels` are trained on; without `true_labels` they are
    true. `sha256` is the content that the cell was named after.
    """
    file = Path(path).expanduser().absolute()
    if sha256 is not None and sha256 != file_sha256(str(file)):
        raise ValueError(f"{file}: changed while the sweep was running; start the sweep again")
    found = archive.headers(file, ARRAYS)
    known = {name: header for name, header in found.items() if header is not None}
    require({"images", "labels"} <= set(known), f"{file}: has arrays {sorted(found)}", _NEEDED)
    for labels in {"labels", "true_labels"} & set(known):
        check_layout(known["images"], known[labels], where=f"{file} ({labels})")
    size = sum(header.num_bytes for header in known.values())
    archive.refuse_too_large(size, f"{file}: its arrays take")
    arrays = archive.read(file, known)
    pool = labelled(arrays["images"], arrays["labels"], where=str(file))
    true = arrays.get("true_labels", arrays["labels"]).astype(np.int64)
    if "groups" not in arrays:
        return Own(file.name, pool, true)
    numbers, names = groups.number(arrays["groups"], where=str(file))
    fits = len(numbers) == len(pool)
    require(fits, f"{file}: {len(numbers)} groups", f"{len(pool)}, one per image")
    return Own(file.name, replace(pool, groups=numbers), true, names)


_NEEDED = "images and labels, optionally true_labels and groups"


def numbered(own: Own, values: Ints) -> Own:
    """With labels numbered as the private set's, of which `values` are the sorted ones."""
    for name, labels in (("labels", own.pool.labels), ("true_labels", own.true_labels)):
        strange = np.flatnonzero(~np.isin(labels, values))
        if len(strange):
            raise ValueError(
                f"{own.file}: {name}[{strange[0]}] is {labels[strange[0]]}, no class of the "
                f"private set: must be one of {_some(values.tolist())}"
            )
    trained, true = (np.searchsorted(values, x) for x in (own.pool.labels, own.true_labels))
    return replace(own, pool=replace(own.pool, labels=trained), true_labels=true)


def check(own: Own, private: Pool, public: Pool | None) -> None:
    """ValueError for canaries that cannot be told from what every model sees.

    A copy that is always IN, in the private set or the public pool or as another canary, hides what
    is learnt of the canary.
    """
    theirs, ours = private.images.shape[1:], own.pool.images.shape[1:]
    if theirs != ours:
        raise ValueError(f"{own.file}: images are {ours}, the private ones {theirs}; must agree")
    for name, pool in (("private set", private), ("public pool", public)):
        if pool is not None:
            _refuse(own, found_in(own.pool, pool), f"in the {name} too")
    _refuse(own, _copies(own.pool), "in the file more than once")


def _copies(pool: Pool) -> Bools:
    _, image, times = np.unique(pool.hashes(), return_inverse=True, return_counts=True)
    return times[image] > 1


def _refuse(own: Own, which: Bools, where: str) -> None:
    if which.any():
        rows = np.flatnonzero(which).tolist()
        raise ValueError(
            f"{own.file}: {len(rows)} canaries are {where} (rows {_some(rows)}): a copy that stays "
            "hides what is learnt of the one that is taken out; must be other images"
        )


def _some(values: Sequence[int], num: int = 10) -> str:
    return ", ".join(map(str, values[:num])) + ", ..." * (len(values) > num)


def join(private: Pool, names: tuple[str, ...] | None, own: Own) -> tuple[Pool, tuple[str, ...]]:
    """The private set with the canaries as its last images, true labels on all; names of groups.

    In a private set of groups each canary is one of its own, unless the file has groups.
    """
    images = np.concatenate([private.images, own.pool.images])
    labels = np.concatenate([private.labels, own.true_labels])
    assert private.rows is not None
    rows = np.concatenate([private.rows, np.arange(len(own.pool))])
    if private.groups is None or names is None:
        given = "needs a private set of groups (dataset.groups)"
        require(own.pool.groups is None, f"{own.file}: groups", f"left out: {given}")
        return Pool(images, labels, rows=rows), ()
    theirs = own.group_names
    if own.pool.groups is None or theirs is None:
        numbers, theirs = np.arange(len(rows) - len(private)), ()
        theirs = tuple(f"{own.file} row {row}" for row in numbers.tolist())
    else:
        numbers = own.pool.groups
        shared = sorted(set(names) & set(theirs))
        right = "of people that the private set has not: there they are always IN"
        require(not shared, f"{own.file}: group {''.join(shared[:1])}", right)
    together = np.concatenate([private.groups, numbers + len(names)])
    return Pool(images, labels, together, rows), (*names, *theirs)
