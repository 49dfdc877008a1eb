"""The data sets: what is read, as the private, test and public pools."""

from __future__ import annotations

import gzip
import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from synpriv.data import archive, pixels
from synpriv.data import folder as folders
from synpriv.data.content import FileVersion, file_sha256, folder_sha256, versions
from synpriv.data.groups import grouped, require_others
from synpriv.data.pool import Pool, share_in_class
from synpriv.signatures import require

ARRAYS = ("images", "labels", "test_images", "test_labels")  # of an npz archive
TEST_RATE = 0.2  # share of each class that is held out where there is no test set


@dataclass(frozen=True)
class Source:
    """A data set as it is read, before anyone is a member: intake.py checks it."""

    private: Pool
    test: Pool
    public: Pool | None = None
    class_names: tuple[str, ...] | None = None  # of labels 0, 1, ...; None = they are numbers
    notes: tuple[str, ...] = ()  # what was done to it on reading, and what was left out
    group_names: tuple[str, ...] | None = None  # of groups 0, 1, ...; None = no pool has groups
    files: tuple[str, ...] | None = None  # of the private images by row (`Pool.rows`), if they have


def digits() -> Source:
    """The real 8x8 digits that come with scikit-learn: 1,000 private, 397 public, 400 test."""
    table = _digits_table()
    images = np.rint(table[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    labels = table[:, -1].astype(np.int64)
    order = np.random.default_rng(0).permutation(len(images))
    private, public, test = (
        labelled(images[part], labels[part]) for part in np.split(order, [1000, 1397])
    )
    return Source(private, test, public)


def _digits_table() -> NDArray[np.float64]:
    """64 pixels 0..16 and the digit, [1797,65]; read without importing scikit-learn (seconds)."""
    package = importlib.util.find_spec("sklearn")
    assert package is not None
    assert package.origin is not None
    file = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if not file.is_file():  # they may move it
        from sklearn.datasets import load_digits

        data = load_digits()
        return np.column_stack([data.data, data.target])
    with gzip.open(file) as stream:
        return np.loadtxt(stream, delimiter=",")


def from_torchvision(dataset: str, *, root: str, download: bool) -> Source:
    """One of torchvision's data sets by class name; files are looked for (and put) under `root`."""
    folder = Path(root).expanduser().absolute()
    if not download and not folder.is_dir():
        raise ValueError(_not_found(dataset, folder, "and dataset.download is false"))
    if download and not torchvision_files(dataset, root):
        return _fetched(dataset, folder)
    try:
        return _of_torchvision(dataset, folder, download=False)
    except Exception as error:
        if download:  # half of it may be there, or another process is just putting it there
            return _fetched(dataset, folder)
        raise _unusable(dataset, folder, error) from error


def _fetched(dataset: str, folder: Path) -> Source:
    """The data set, its files downloaded where they are not whole, by one process at a time."""
    from filelock import FileLock

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".synpriv.lock"):
            return _of_torchvision(dataset, folder, download=True)
    except Exception as error:
        raise _unusable(dataset, folder, error) from error


def _of_torchvision(dataset: str, folder: Path, *, download: bool) -> Source:
    from torchvision import datasets

    parts: list[dict[str, Any]] = [{"train": True}, {"train": False}]
    if dataset == "SVHN":
        parts = [{"split": "train"}, {"split": "test"}]
    kind = getattr(datasets, dataset)
    train, test = (_from_arrays(kind(folder, download=download, **part)) for part in parts)
    return Source(train, test)


def torchvision_files(dataset: str, root: str) -> tuple[FileVersion, ...]:
    """Versions of the files that a torchvision data set is read from, none if none is there."""
    from torchvision import datasets

    folder = Path(root).expanduser().absolute()
    kind: Any = getattr(datasets, dataset, None)
    if hasattr(kind, "base_folder"):
        return versions(folder / kind.base_folder)
    return versions(folder / dataset / "raw" if hasattr(kind, "raw_folder") else folder)


def _unusable(dataset: str, folder: Path, error: Exception) -> ValueError:
    why = next(iter(str(error).splitlines()), "") or type(error).__name__
    state = f"or they are damaged or could not be fetched ({why})"
    return ValueError(_not_found(dataset, folder, state))


def _not_found(name: str, folder: Path, why: str) -> str:
    return (
        f"{name}: no data in {folder} {why}: put torchvision's files there, "
        "name their folder (dataset.root, of a public pool public.root), or allow the download "
        "(dataset.download=true) with a network"
    )


def _from_arrays(dataset: object) -> Pool:
    labels = getattr(dataset, "targets", None)
    if labels is None:  # SVHN
        labels = dataset.labels  # type: ignore[attr-defined]
    return labelled(np.asarray(dataset.data), np.asarray(labels))  # type: ignore[attr-defined]


def npz(
    path: str,
    *,
    test_rate: float = TEST_RATE,
    groups: str | None = None,
    sha256: str | None = None,
) -> Source:
    """A user's archive with `images` uint8 [N,H,W], [N,H,W,ch] or [N,ch,H,W] and `labels` int [N].

    `test_images` and `test_labels`, if present, are the test set; otherwise a seeded share
    `test_rate` of each class is held out. `groups` names an array [N] that says which images are of
    one person; `test_` and that name, if present, is that of the test images. `sha256` is the
    content that the cell was named after.
    """
    file = Path(path).expanduser().absolute()
    if sha256 is not None and sha256 != file_sha256(str(file)):
        raise ValueError(f"{file}: changed while the sweep was running; start the sweep again")
    columns = [] if groups is None else [groups, f"test_{groups}"]
    found = archive.headers(file, [*ARRAYS, *columns])
    known = {name: header for name, header in found.items() if header is not None}
    given = {"test_images", "test_labels"} & set(known)
    if not {"images", "labels"} <= set(known):
        raise ValueError(f"{file}: has arrays {sorted(found)}; needs 'images' and 'labels'")
    if len(given) == 1:
        raise ValueError(f"{file}: has {given.pop()} alone; needs test_images and test_labels")
    parts = ("", "test_") if given else ("",)
    for part in parts:
        check_layout(known[f"{part}images"], known[f"{part}labels"], where=str(file))
    _refuse_unused(test_rate, file, bool(given))
    size = sum(header.num_bytes for header in known.values())
    archive.refuse_too_large(size, f"{file}: its arrays take")
    arrays = archive.read(file, known)
    private, *tests = (
        labelled(arrays[f"{part}images"], arrays[f"{part}labels"], where=str(file))
        for part in parts
    )
    unread = sorted(set(found) - set(known))
    notes = (f"arrays left out: {', '.join(unread)}",) if unread else ()
    named = None
    if groups is not None:
        private, tests, named = grouped(private, tests, arrays, groups, where=str(file))
    if not tests:
        return hold_out(Source(private, private, notes=notes, group_names=named), test_rate)
    (test,) = tests
    if test.images.shape[1:] != private.images.shape[1:]:
        raise ValueError(
            f"{file}: test images are {tuple(test.images.shape[1:])}, "
            f"images {tuple(private.images.shape[1:])}; they must agree"
        )
    return Source(private, test, notes=notes, group_names=named)


def folder(
    path: str,
    *,
    size: int = 32,
    channels: int = 3,
    fit: str = "stretch",
    test_rate: float = TEST_RATE,
    sha256: str | None = None,
) -> Source:
    """A user's images, one sub-folder per class, scaled to `size` x `size` (pixels.read).

    With sub-folders `train` and `test` (or `val`) these are the two sets; otherwise a seeded share
    `test_rate` of each class is held out.
    """
    root = Path(path).expanduser().absolute()
    found = folders.listing(root)
    if sha256 is not None and sha256 != folder_sha256(path):
        raise ValueError(f"{root}: changed while the sweep was running; start the sweep again")
    files = [*found.private, *(found.test or [])]
    images, notes = pixels.read(files, root=root, size=size, channels=channels, fit=fit)
    names = tuple(found.classes)
    labels = np.array([names.index(file.label) for file in files], dtype=np.int64)
    split = len(found.private)
    private = labelled(images[:split], labels[:split], where=str(root))
    if found.left_out:
        notes = (*notes, f"left out: {', '.join(found.left_out)}")
    _refuse_unused(test_rate, root, found.test is not None)
    if found.test is None:
        return hold_out(Source(private, private, class_names=names, notes=notes), test_rate)
    test = labelled(images[split:], labels[split:], where=str(root))
    return Source(private, test, class_names=names, notes=notes)


def _refuse_unused(test_rate: float, where: Path, has_test_set: bool) -> None:
    unread = has_test_set and test_rate != TEST_RATE
    require(not unread, f"dataset.test_rate={test_rate}", f"left out: {where} has a test set")


def hold_out(source: Source, rate: float) -> Source:
    """Split off a seeded share `rate` of each class of the private images as the test set.

    Groups are not cut: one whose middle lies within the share is held out.
    """
    if not 0 < rate < 1:
        raise ValueError(f"dataset.test_rate={rate}: must be between 0 and 1")
    data = source.private
    require_others(data, source.group_names)
    data = data if data.rows is not None else replace(data, rows=np.arange(len(data)))
    values, place = np.unique(data.labels, return_inverse=True)
    held_out = share_in_class(data, seed=0) < rate
    if not held_out.any() or held_out.all():
        raise ValueError(
            f"dataset.test_rate={rate}: holds out {int(held_out.sum())} of {len(data)} images; "
            "choose a rate that leaves some for both sets"
            f"{'' if data.groups is None else ' (groups are not cut)'}"
        )
    lost = values[np.bincount(place[~held_out], minlength=len(values)) == 0]
    if len(lost):
        raise ValueError(
            f"dataset.test_rate={rate}: leaves class {lost[0]} without private images; "
            "choose a lower rate"
        )
    return replace(source, private=data[~held_out], test=data[held_out])


def labelled(images: NDArray, labels: NDArray, where: str = "data set") -> Pool:
    """Images in any of the usual layouts, as a pool uint8 [N,ch,H,W]."""
    check_layout(images, labels, where)
    if labels.min() < 0:
        raise ValueError(f"{where}: label {labels.min()} is negative; labels are 0 or more")
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
    if labels.shape != shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"{where}: labels are {labels.dtype} {labels.shape}; must be integers [{shape[0]}]"
        )
    height, width = shape[1:3] if len(shape) == 3 or _channels_last(shape) else shape[2:]
    if height != width:
        raise ValueError(
            f"{where}: images are {height}x{width}; must be square: resize them, "
            "or use an image folder (dataset.fit)"
        )


def _channels_last(shape: tuple[int, ...]) -> bool:
    return shape[1] not in (1, 3) and shape[3] in (1, 3)
