"""Which images are private, held out, or no test images: subsets that cut no group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from synpriv.data.canaries import Own
from synpriv.data.pool import Pool, class_balanced, first_of_classes, found_in
from synpriv.signatures import require

VALIDATION_SEED = 1  # of which images are held out; the subsets num_train and num_test have 0


def rows_kept(pool: Pool) -> Pool:
    """The pool whose images know their rows through all subsets."""
    return pool if pool.rows is not None else replace(pool, rows=np.arange(len(pool)))


def subsets(
    everything: Pool,
    names: list[str],
    num_train: int | None,
    num_validation: int | None,
    named: Sequence[int] = (),
) -> tuple[Pool, Pool | None]:
    """The private images of an audit, and the validation images if there are to be any.

    named: rows of canaries, which with their groups are no validation images.
    """
    enough = num_train is None or num_train >= len(names)
    least = f"at least {len(names)}, one image per class"
    require(enough, f"dataset.num_train={num_train}", least)
    private = class_balanced(everything, num_train, seed=0, name="dataset.num_train")
    _require_classes(private, names, f"dataset.num_train={num_train}", "more")
    if num_validation is None:
        return private, None
    private, validation = _hold_out(private, num_validation, named)
    _require_classes(private, names, f"dataset.num_validation={num_validation}", "fewer")
    return private, validation


def _require_classes(private: Pool, names: list[str], what: str, right: str) -> None:
    """ValueError where whole groups took all images of a class with them."""
    lost = np.flatnonzero(np.bincount(private.labels, minlength=len(names)) == 0)
    if len(lost):
        given = f"{what}: leaves no private image of class {names[lost[0]]}"
        raise ValueError(f"{given}, as groups are not cut; must be {right}")


def _hold_out(private: Pool, num: int, named: Sequence[int]) -> tuple[Pool, Pool]:
    """What remains private, and `num` validation images, classes as equal as the data allow."""
    assert private.rows is not None
    stays = np.isin(private.rows, named)
    if private.groups is not None:
        stays = np.isin(private.groups, private.groups[stays])
    free, num_classes = private[~stays], int(private.labels.max()) + 1
    name, sizes = f"dataset.num_validation={num}", np.bincount(free.labels, minlength=num_classes)
    most = len(sizes) * (int(sizes.min()) - 1)  # an image of the smallest class must remain
    require(1 <= num <= most, name, f"1..{most} for this data set, or null")
    held_out = np.zeros(len(private), dtype=bool)
    held_out[~stays] = first_of_classes(free, num, seed=VALIDATION_SEED)
    require(bool(held_out.any()), name, "more: no group is so small, and none is cut")
    return private[~held_out], private[held_out]


def without_members(test: Pool, private: Pool, own: Own | None) -> tuple[Pool, list[str]]:
    """The test images that are no private images or canaries, nor of their groups, and warnings."""
    seen = found_in(test, private)
    if own is not None:
        seen |= found_in(test, own.pool)
    require(not seen.all(), f"all {len(test)} test images are private images", "others")
    dropped, found = int(seen.sum()), []
    if dropped:
        found.append(f"{dropped} test images are private images too and were dropped")
    if private.groups is not None and test.groups is None:
        found.append("test images have no groups: whether theirs are private too is not known")
    if private.groups is not None and test.groups is not None:
        of_members = np.isin(test.groups, private.groups)
        all_known = bool((seen | of_members).all())
        require(not all_known, f"all {len(test)} test images are of private groups", "of others")
        if num := int((of_members & ~seen).sum()):
            found.append(f"{num} test images are of groups with private images and were dropped")
        seen |= of_members
    return (test[~seen] if seen.any() else test), found
