"""Which images are canaries: drawn at random, named by their rows, or brought along in a file.

What is chosen are units that are IN or OUT as one: images, or groups if there are any.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from synpriv.data.intake import Pools
from synpriv.data.pool import Ints
from synpriv.signatures import require


def units(pools: Pools) -> Ints:
    """The unit of each private image, int [N]: its group, or itself."""
    groups = pools.private.groups
    return np.arange(len(pools.private)) if groups is None else groups


def own_units(pools: Pools) -> Ints:
    """Those of the canaries of one's own, as they first occur in their file."""
    own, name = pools.own, "canary.kind=path"
    require(own is not None, name, "brought a file: write canary=path canary.path=FILE")
    last = units(pools)[len(pools.private) - pools.num_own :]
    return last[np.sort(np.unique(last, return_index=True)[1])]


def named_units(pools: Pools, indices: Sequence[int]) -> Ints:
    """Those of rows of the data as they were read, in the order of the rows."""
    private, rows = pools.private, sorted(indices)
    assert private.rows is not None
    place = {row: position for position, row in enumerate(private.rows.tolist())}
    gone = [row for row in rows if row not in place]
    if gone:
        raise ValueError(
            f"canary.indices: rows {', '.join(map(str, gone[:10]))} are not private here: must be "
            f"rows of the data as read, 0..{max(place)}, that no subset (num_train), no held-out "
            "share (test_rate) and no test set takes away; dataset.test_path=FILE "
            "brings a test set, so that all rows stay private"
        )
    found = np.array([place[row] for row in rows], dtype=np.int64)
    copied = np.isin(units(pools)[found], units(pools)[pools.twins])
    if copied.any():
        row = rows[int(copied.argmax())]
        raise ValueError(
            f"canary.indices: row {row} or its group has a copy in the private set, which stays "
            "when it is taken out: must be without one"
        )
    chosen = units(pools)[found]
    for place_of, unit in enumerate(chosen):
        if unit in chosen[:place_of]:
            other = rows[int(np.flatnonzero(chosen == unit)[0])]
            raise ValueError(
                f"canary.indices: rows {other} and {rows[place_of]} are of one group or the same: "
                "name one image of each group"
            )
    return chosen


def images_of(chosen: Ints, pools: Pools) -> tuple[Ints, Ints]:
    """Positions of the images of the groups `chosen` [G], and 0..G-1 for the group of each, [C].

    ValueError where no other image of a class is left: a model without them would not know it.
    """
    unit = units(pools)
    images = [np.flatnonzero(unit == group) for group in chosen]
    canaries = np.concatenate(images)
    labels = pools.private.labels
    others = np.bincount(labels, minlength=pools.num_classes)
    others -= np.bincount(labels[canaries], minlength=pools.num_classes)
    lost = np.flatnonzero(others == 0)
    if len(lost):
        raise ValueError(
            f"dataset.groups: the {len(chosen)} canary groups have all images of class "
            f"{pools.class_names[lost[0]]}, which models without them would not know: take fewer "
            "(canary.num_canaries), or leave the class out"
        )
    return canaries, np.repeat(np.arange(len(chosen)), [len(some) for some in images])


def source_of(pools: Pools, canaries: Ints, groups: Ints | None) -> dict[str, Any]:
    """Where canaries [C] come from: their `rows` in what `of` names, the data or one's own file.

    With the `files` of these rows where they have some, and the name of each of the `groups`.
    """
    rows = pools.private.rows
    assert rows is not None
    own = pools.own is not None and canaries.min() >= len(pools.private) - pools.num_own
    found: dict[str, Any] = {"of": pools.own.file if own and pools.own else "the data"}
    found["rows"] = rows[canaries].tolist()
    if pools.files is not None and not own:
        found["files"] = [pools.files[row] for row in found["rows"]]
    if groups is not None and pools.group_names is not None:
        numbers = units(pools)[canaries][np.unique(groups, return_index=True)[1]]
        found["groups"] = [pools.group_names[number] for number in numbers]
        found["group"] = groups.tolist()
    return found


def require_num(num_canaries: int, chosen: Ints, where: str) -> None:
    """ValueError where another number of canaries was asked for than is named."""
    right = f"{len(chosen)}, the number that {where} has; leave it out"
    require(num_canaries == len(chosen), f"canary.num_canaries={num_canaries}", right)
