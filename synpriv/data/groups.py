"""People, not pictures: images that are IN or OUT together and on one side of every split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synpriv.data.pool import Ints, Pool
from synpriv.signatures import require

LARGE = 0.5  # share of a class that one group may have before it is said


def number(values: NDArray, *, where: str) -> tuple[Ints, tuple[str, ...]]:
    """Groups as they are given, integers or words [N], as numbers 0..G-1 and their names.

    ValueError for other types and for empty names, which would make strangers one person.
    """
    integers = np.issubdtype(values.dtype, np.integer)
    plain = values.ndim == 1 and (integers or values.dtype.kind in "US")
    right = "integers or words, one per image"
    require(plain, f"{where}: groups are {values.dtype} {values.shape}", right)
    words = values.astype(str) if values.dtype.kind == "S" else values
    if not integers and (empty := np.flatnonzero(np.char.strip(words) == "")).size:
        raise ValueError(f"{where}: row {empty[0]} has no group; give each image one")
    names, numbers = np.unique(words, return_inverse=True)
    return numbers.astype(np.int64), tuple(map(str, names))


def grouped(
    private: Pool, tests: list[Pool], arrays: Mapping[str, NDArray], name: str, where: str
) -> tuple[Pool, list[Pool], tuple[str, ...]]:
    """The pools of an archive with the groups of its array `name`, and the names of these.

    Those of test images are in `test_<name>`, if it is there.
    """
    given = f"{where}: dataset.groups={name}"
    require(name in arrays, given, "the name of one of its arrays, groups of the private images")
    pools, columns = [private], [arrays[name]]
    if tests and f"test_{name}" in arrays:
        pools, columns = [private, *tests], [arrays[name], arrays[f"test_{name}"]]
    for pool, column in zip(pools, columns, strict=True):
        fits = column.shape == pool.labels.shape
        require(fits, f"{given} is {column.shape}", f"[{len(pool)}], one per image")
    numbers, names = number(np.concatenate(columns), where=given)
    parts = np.split(numbers, [len(private)])
    found = [replace(pool, groups=part) for pool, part in zip(pools, parts, strict=False)]
    return found[0], found[1:] or tests, names


def without_gaps(pool: Pool, names: tuple[str, ...] | None) -> tuple[Pool, tuple[str, ...] | None]:
    """The pool with the groups that it has numbered 0..G-1, and their names."""
    if pool.groups is None:
        return pool, None
    present, numbers = np.unique(pool.groups, return_inverse=True)
    kept = [str(group) if names is None else names[group] for group in present]
    return replace(pool, groups=numbers.astype(np.int64)), tuple(kept)


def check(private: Pool, names: tuple[str, ...] | None) -> None:
    """ValueError where one group is everything: out of it nothing is left to train on."""
    if names is not None and len(names) == 1:
        raise ValueError(
            f"dataset.groups: all {len(private)} private images are of one group, {names[0]}: "
            "when it is OUT nothing is left; must be two or more"
        )


def warnings_of(
    private: Pool, names: tuple[str, ...] | None, class_names: tuple[str, ...]
) -> list[str]:
    """What to know of groups of one image only, and of those that are most of a class."""
    if private.groups is None or names is None:
        return []
    if len(names) == len(private):
        return ["every group has one image: an audit of groups is one of images here"]
    counts = np.zeros((len(names), len(class_names)), dtype=np.int64)
    np.add.at(counts, (private.groups, private.labels), 1)
    share = counts / counts.sum(axis=0)
    large = np.argwhere(share > LARGE)
    if not len(large):
        return []
    group, label = large[0]
    more = f" (and {len(large) - 1} more such)" if len(large) > 1 else ""
    return [
        f"group {names[group]} has {share[group, label]:.0%} of class {class_names[label]}{more}: "
        "models without it differ in how common a class is, which is no matter of one person"
    ]


def sizes(private: Pool) -> dict[str, int] | None:
    """How many groups there are, and images in the smallest and the largest; None without."""
    if private.groups is None:
        return None
    size = np.bincount(private.groups)
    return {"num": len(size), "smallest": int(size.min()), "largest": int(size.max())}


def expected_images(num_canaries: int, seen: Mapping[str, Any]) -> float:
    """Images of so many canaries, by a record of the data: of groups as many as is to be expected.

    So that who only asks how many labels will be wrong need not draw them.
    """
    found = seen.get("groups")
    return num_canaries if found is None else num_canaries * seen["num_private"] / found["num"]


def in_words(found: dict[str, int]) -> str:
    """`sizes` as a few words."""
    low, high = found["smallest"], found["largest"]
    each = f"{low}" if low == high else f"{low} to {high}"
    return f"{found['num']:,} groups of {each} image{'s' * (high > 1)}, none of them cut"
