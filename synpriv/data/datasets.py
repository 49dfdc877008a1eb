"""The data sets: what is read, as the private, test and public pools."""

from __future__ import annotations

import gzip
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synpriv.data import arrays, listing, pixels
from synpriv.data import folder as folders
from synpriv.data.arrays import Arrays, labelled
from synpriv.data.content import FileVersion, file_sha256, folder_sha256, versions
from synpriv.data.folder import File
from synpriv.data.groups import grouped, require_others
from synpriv.data.pool import Pool, share_in_class
from synpriv.signatures import require

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
    groups: str | None = None,
    test_path: str | None = None,
    size: int | None = None,
    channels: int | None = None,
    fit: str | None = None,
    test_rate: float = TEST_RATE,
    sha256: str | None = None,
    test_sha256: str | None = None,
) -> Source:
    """A user's archive, its arrays named in one of the ways of arrays.NAMES.

    Its own test arrays, or else those of another archive `test_path`, are the test set; without
    either a seeded share `test_rate` of each class is held out. groups: the array that says of whom
    an image is. size, channels, fit: what images are brought to (pixels.convert), null = as they
    are stored. The hashes are of the content that the cell was named after.
    """
    file = Path(path).expanduser().absolute()
    private, test, notes, whose, test_whose = _archive(file, groups, sha256)
    if test_path is not None:
        given = f"dataset.test_path={test_path}"
        require(test is None, given, f"left out: {file} has a test set")
        other = Path(test_path).expanduser().absolute()
        test, none, more, test_whose, _ = _archive(other, groups, test_sha256)
        require(none is None, f"{given}: has two sets", "a test set alone")
        notes = (*notes, *more)
    _refuse_unused(test_rate, file, test is not None)
    sets = [private] if test is None else [private, test]
    turned = [pixels.convert(one.images, size=size, channels=channels, fit=fit) for one in sets]
    sets = [replace(s, images=images) for s, (images, _) in zip(sets, turned, strict=True)]
    shapes = [tuple(one.images.shape[1:]) for one in sets]
    if len(set(shapes)) > 1:
        raise ValueError(
            f"{file}: test images are {shapes[1]}, images {shapes[0]}; they must agree"
        )
    notes = tuple(dict.fromkeys((*notes, *(word for _, words in turned for word in words))))
    source = Source(sets[0], sets[-1], notes=notes)
    if groups is not None:
        source = _of_groups(source, whose, test_whose, groups, where=str(file))
    return hold_out(source, test_rate) if test is None else source


def _of_groups(
    source: Source, whose: NDArray | None, tests: NDArray | None, name: str, *, where: str
) -> Source:
    """A source whose images are of these people, one name per image; None = of nobody known."""
    columns = {name: whose, f"test_{name}": tests}
    given = {key: column for key, column in columns.items() if column is not None}
    private, (test,), names = grouped(source.private, [source.test], given, name, where=where)
    return replace(source, private=private, test=test, group_names=names)


def _archive(file: Path, groups: str | None, sha256: str | None) -> Arrays:
    if sha256 is not None and sha256 != file_sha256(str(file)):
        raise ValueError(f"{file}: changed while the sweep was running; start the sweep again")
    return arrays.read(file, groups=groups)


def folder(
    path: str,
    *,
    labels: str | None = None,
    groups: str | int | None = None,
    test_path: str | None = None,
    size: int = 32,
    channels: int = 3,
    fit: str = "stretch",
    test_rate: float = TEST_RATE,
    sha256: str | None = None,
) -> Source:
    """A user's images, scaled to `size` x `size` (pixels.read).

    Which they are, of which class and whom, `listing.find` says: one sub-folder per class, or a
    table `labels`. Without a test set there or in `test_path` a seeded share `test_rate` of each
    class is held out.
    """
    root = Path(path).expanduser().absolute()
    found = listing.find(str(root), table=labels, groups=groups, test_path=test_path)
    if sha256 is not None and sha256 != folder_sha256(str(root), labels, groups, test_path):
        raise ValueError(f"{root}: changed while the sweep was running; start the sweep again")
    tests = found.test or []
    files = [*found.private, *tests]
    images, notes = pixels.read(files, root=root, size=size, channels=channels, fit=fit)
    names = tuple(found.classes)
    number = {name: label for label, name in enumerate(names)}
    every = np.array([number[file.label] for file in files], dtype=np.int64)
    split = len(found.private)
    if found.left_out:
        notes = (*notes, f"left out: {', '.join(found.left_out)}")
    _refuse_unused(test_rate, root, found.test is not None)
    private = Pool(images[:split], every[:split])
    source = Source(
        private,
        test=Pool(images[split:], every[split:]) if tests else private,
        class_names=names,
        notes=notes,
        files=tuple(folders.below(root, file.path) for file in found.private),
    )
    if groups is not None:
        whose, of_tests = _whose(found.private), _whose(tests) if tests else None
        source = _of_groups(source, whose, of_tests, str(groups), where=str(root))
    return source if tests else hold_out(source, test_rate)


def _whose(files: Sequence[File]) -> NDArray:
    return np.array([file.group for file in files])


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
