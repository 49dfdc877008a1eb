"""A user's arrays: how those of an archive are named, and what they must be to be images."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from synpriv.data import archive
from synpriv.data.archive import Header
from synpriv.data.pool import Pool


class Names(NamedTuple):
    """What the arrays of a set are called."""

    images: str
    labels: str


# Of the private set and of the test set: ours, MedMNIST's and Keras's. Validation arrays are not
# read: `num_validation` holds private images out where some are wanted.
NAMES = (
    (Names("images", "labels"), Names("test_images", "test_labels")),
    (Names("train_images", "train_labels"), Names("test_images", "test_labels")),
    (Names("x_train", "y_train"), Names("x_test", "y_test")),
)


class Arrays(NamedTuple):
    """What an archive holds; and of whom its images are, where groups are asked for and there."""

    private: Pool
    test: Pool | None
    notes: tuple[str, ...]  # what was done, in words
    groups: NDArray | None = None  # of the private images, as stored
    test_groups: NDArray | None = None


def read(file: Path, *, groups: str | None = None) -> Arrays:
    """The sets of an archive; ValueError if its arrays are no images and labels.

    groups: the array that says of whom each private image is; that of test images, if there is one,
    is called `test_` and so.
    """
    known = {name for pair in NAMES for names in pair for name in names}
    whose = () if groups is None else (groups, f"test_{groups}")
    found = archive.headers(file, {*known, *whose})
    sets = _sets(file, found)
    headers = {name: header for names in sets for name in names if (header := found[name])}
    for names in sets:
        check_numbers(file, names.images, headers[names.images])
        check_layout(headers[names.images], _column(headers[names.labels]), where=str(file))
    headers |= {n: h for n in whose[: len(sets)] if (h := found.get(n)) is not None}
    archive.refuse_too_large(sum(h.num_bytes for h in headers.values()), f"{file}: its arrays take")
    content = archive.read(file, headers)
    notes = []
    if unread := sorted(set(found) - set(headers)):
        notes.append(f"arrays left out: {', '.join(unread)}")
    if any(headers[names.labels].shape[1:] == (1,) for names in sets):
        notes.append("labels of one column read as a list")
    private, *test = (
        labelled(content[names.images], content[names.labels].reshape(-1), where=str(file))
        for names in sets
    )
    of_whom = (content.get(name) for name in whose or ("", ""))
    return Arrays(private, test[0] if test else None, tuple(notes), *of_whom)


def _sets(file: Path, found: dict[str, Header | None]) -> list[Names]:
    """The arrays of the private set and, if there are any, of the test set."""
    whole = [pair for pair in NAMES if set(pair[0]) <= set(found)]
    if not whole:
        ways = " or ".join(f"{pair[0].images!r} and {pair[0].labels!r}" for pair in NAMES)
        raise ValueError(f"{file}: has arrays {sorted(found)}; needs {ways}")
    private, test = whole[0]
    given = set(test) & set(found)
    if len(given) == 1:
        raise ValueError(f"{file}: has {given.pop()} alone; needs {' and '.join(test)}")
    return [private, test] if given else [private]


def _column(labels: Header) -> Header:
    """Labels [N,1] are [N]."""
    return Header(labels.shape[:1], labels.dtype) if labels.shape[1:] == (1,) else labels


def check_numbers(file: Path, name: str, header: Header) -> None:
    """Refuse images that are no bytes, with what would make them so; their range is looked at."""
    if header.dtype == np.uint8 or header.dtype.kind not in "fiu":
        return
    archive.refuse_too_large(header.num_bytes, f"{file}: {name} take")
    values = archive.read(file, [name])[name]
    known = values[np.isfinite(values)]
    low, high = (known.min(), known.max()) if known.size else (np.nan, np.nan)
    write = "scale them to 0..255 by constants that are not the images' own, and cast"
    if low >= 0 and high <= 255:
        scaled = f"np.rint({name} * 255)" if high <= 1 else name
        write = f"write {scaled}.astype(np.uint8)"
    if known.size < values.size:
        write = f"{values.size - known.size} values are NaN or infinite: mend or remove them"
    raise ValueError(
        f"{file}: {name} are {header.dtype} {header.shape}, values {low:g}..{high:g}; "
        f"must be uint8 0..255: {write}"
    )


def labelled(images: NDArray, labels: NDArray, where: str = "data set") -> Pool:
    """Images in any of the usual layouts, as a pool uint8 [N,ch,H,W]."""
    check_layout(images, labels, where)
    if labels.min() < 0:
        raise ValueError(f"{where}: label {labels.min()} is negative; labels are 0 or more")
    if labels.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{where}: label {labels.max()}; must fit into 64 bits with a sign")
    if images.ndim == 3:
        images = images[:, None]
    elif _channels_last(images.shape):
        images = images.transpose(0, 3, 1, 2)
    return Pool(np.ascontiguousarray(images), labels.astype(np.int64))


class Array(Protocol):
    """An array, or what its header says of it."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...


def check_layout(images: Array, labels: Array, where: str) -> None:
    """Raise ValueError where these cannot be images and their labels, by shape and type alone."""
    shape = images.shape
    channels = len(shape) == 4 and (shape[1] in (1, 3) or shape[3] in (1, 3))
    known = (len(shape) == 3 or channels) and 0 not in shape
    if images.dtype != np.uint8 or not known:
        raise ValueError(
            f"{where}: images are {images.dtype} {shape}; "
            "must be uint8 [N,H,W], [N,H,W,ch] or [N,ch,H,W] with 1 or 3 channels"
        )
    if labels.shape != shape[:1] or labels.dtype.kind not in "iu":
        several = " (one class per image: several at once, or one-hot, are no class)"
        raise ValueError(
            f"{where}: labels are {labels.dtype} {labels.shape}; must be integers [{shape[0]}]"
            f"{several * (len(labels.shape) > 1)}"
        )


def _channels_last(shape: tuple[int, ...]) -> bool:
    return shape[1] not in (1, 3) and shape[3] in (1, 3)
