"""The one list of a user's images, which serves the hash, the classes and the reading."""

from __future__ import annotations

from pathlib import Path

from synpriv.data import folder, labels
from synpriv.data.folder import Listing, some
from synpriv.signatures import require


def find(
    path: str,
    *,
    table: str | None = None,
    groups: str | int | None = None,
    test_path: str | None = None,
) -> Listing:
    """The private and the test images below a user's folder.

    table: what says their classes (labels.listing), in place of one folder per class. groups: a
    column of the table, or how many folders below the class's the group's is. test_path: the test
    set, a folder of class folders or, beside a table, another table of images below `path`.
    """
    require(isinstance(path, str), f"path={path}", "the name of a folder")
    root = Path(path).expanduser()
    if table is None:
        found = folder.listing(root, groups=_level(groups))
    else:
        found = labels.listing(root, _place(table, root), groups=_column(groups))
    if test_path is None:
        return found
    given = f"dataset.test_path={test_path}"
    require(found.test is None, given, f"left out: {root.absolute()} has a test set")
    if table is None:
        own = Path(test_path).expanduser()
        held_out = folder.listing(own, groups=_level(groups), held_out=True)
    else:
        own = _place(test_path, root)
        held_out = labels.listing(root, own, groups=_column(groups))
    require(held_out.test is None, f"{given}: has parts of its own", "a test set alone")
    twice = {file.path for file in found.private} & {file.path for file in held_out.private}
    both = some(sorted(str(path) for path in twice))
    require(not twice, f"{given}: {len(twice)} of its images are private: {both}", "others")
    folder.check_known(held_out.private, found.private, own, root)
    left_out = dict.fromkeys((*found.left_out, *held_out.left_out))
    return Listing(found.private, held_out.private, tuple(left_out))


def _place(table: str, root: Path) -> Path:
    """Where a table lies: as it is written, or in the folder of the images."""
    require(isinstance(table, str), f"dataset.labels={table}", "the name of a table")
    written = Path(table).expanduser()
    return written if written.is_file() or not (root / written).is_file() else root / written


def _level(groups: str | int | None) -> int | None:
    right = "how many folders below its class's a group's is, as 1 in class/patient/image.png"
    fits = groups is None or (type(groups) is int and groups >= 1)
    require(fits, f"dataset.groups={groups}", f"{right}, or a column beside dataset.labels")
    return groups if isinstance(groups, int) else None


def _column(groups: str | int | None) -> str | None:
    fits = groups is None or isinstance(groups, str)
    require(fits, f"dataset.groups={groups}", "a column of dataset.labels, or null")
    return groups if isinstance(groups, str) else None
