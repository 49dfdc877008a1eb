"""The private, test and public pools of a data set, as uint8 tensors."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from synpriv.data.content import file_sha256, folder_sha256
from synpriv.data.images import LabelledImages


@dataclass(frozen=True)
class Source:
    """A data set before anyone is a member: the pools from which an audit is built."""

    private: LabelledImages
    test: LabelledImages
    public: LabelledImages | None = None
    own_constants: bool = False  # the normalisation constants are the private images' own mean

    @property
    def num_classes(self) -> int:
        return int(max(self.private.labels.max(), self.test.labels.max())) + 1


def digits() -> Source:
    """The real 8x8 digits that come with scikit-learn: 1,000 private, 397 public, 400 test."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = np.rint(data.images * (255 / 16)).astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(images))
    private, public, test = (
        _labelled(images[part], data.target[part]) for part in np.split(order, [1000, 1397])
    )
    return Source(private, test, public)


def from_torchvision(dataset: str, *, root: str, download: bool) -> Source:
    """One of torchvision's data sets by class name; files are looked for (and put) under `root`."""
    from filelock import FileLock
    from torchvision import datasets

    folder = Path(root).expanduser().absolute()
    parts = (
        {"train": {"split": "train"}, "test": {"split": "test"}}
        if dataset == "SVHN"
        else {"train": {"train": True}, "test": {"train": False}}
    )
    if not download and not folder.is_dir():
        raise ValueError(_not_found(dataset, folder, "and dataset.download is false"))
    try:
        if download:
            folder.mkdir(parents=True, exist_ok=True)
        # Workers of a sweep start together; a folder that is only read may be read-only.
        with FileLock(folder / ".synpriv.lock") if download else nullcontext():
            train, test = (
                getattr(datasets, dataset)(folder, download=download, **which)
                for which in parts.values()
            )
    except (RuntimeError, OSError) as error:
        why = str(error).splitlines()[0]
        raise ValueError(_not_found(dataset, folder, f"or could not be fetched ({why})")) from error
    return Source(_from_arrays(train), _from_arrays(test))


def _not_found(name: str, folder: Path, why: str) -> str:
    return (
        f"{name}: no data in {folder} {why}: put torchvision's files there, "
        "set dataset.root to where they are, or dataset.download=true with a network"
    )


def _from_arrays(dataset: object) -> LabelledImages:
    labels = getattr(dataset, "targets", None)
    if labels is None:  # SVHN
        labels = dataset.labels  # type: ignore[attr-defined]
    return _labelled(np.asarray(dataset.data), np.asarray(labels))  # type: ignore[attr-defined]


def npz(path: str, *, test_rate: float = 0.2, sha256: str | None = None) -> Source:
    """A user's archive with `images` uint8 [N,H,W], [N,H,W,ch] or [N,ch,H,W] and `labels` int [N].

    `test_images` and `test_labels`, if present, are the test set; otherwise a seeded share
    `test_rate` of each class is held out. `sha256` is the content that the cell was named after.
    """
    file = Path(path).expanduser()
    if sha256 is not None and sha256 != file_sha256(str(file)):
        raise ValueError(f"{file}: changed while the sweep was running; start the sweep again")
    try:
        archive = np.load(file, allow_pickle=False)
        arrays = {key: archive[key] for key in archive.files}
    except (OSError, ValueError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{file}: not a readable npz archive ({error})") from error
    if not {"images", "labels"} <= set(arrays):
        raise ValueError(f"{file}: has arrays {sorted(arrays)}; needs 'images' and 'labels'")
    private = _labelled(arrays["images"], arrays["labels"], where=str(file))
    given = {"test_images", "test_labels"} & set(arrays)
    if not given:
        return hold_out(private, test_rate)
    if len(given) == 1:
        raise ValueError(f"{file}: has {given.pop()} alone; needs test_images and test_labels")
    test = _labelled(arrays["test_images"], arrays["test_labels"], where=str(file))
    if test.images.shape[1:] != private.images.shape[1:]:
        raise ValueError(
            f"{file}: test images are {tuple(test.images.shape[1:])}, "
            f"images {tuple(private.images.shape[1:])}; they must agree"
        )
    return Source(private, test)


def folder(
    path: str,
    *,
    size: int = 32,
    channels: int = 3,
    test_rate: float = 0.2,
    sha256: str | None = None,
) -> Source:
    """A user's images, one sub-folder per class, resized to `size` x `size`.

    With sub-folders `train` and `test` these are the two sets; otherwise a seeded share `test_rate`
    of each class is held out.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder; dataset.path must hold one folder per class")
    if sha256 is not None and sha256 != folder_sha256(path):
        raise ValueError(f"{root}: changed while the sweep was running; start the sweep again")
    if (root / "train").is_dir() and (root / "test").is_dir():
        private, test = (_read_folder(root / part, size, channels) for part in ("train", "test"))
        return Source(private, test)
    return hold_out(_read_folder(root, size, channels), test_rate)


def _read_folder(root: Path, size: int, channels: int) -> LabelledImages:
    from torchvision.datasets import ImageFolder

    mode = {1: "L", 3: "RGB"}.get(channels)
    if mode is None:
        raise ValueError(f"dataset.channels={channels}: must be 1 or 3")
    try:
        found = ImageFolder(str(root))
    except FileNotFoundError as error:
        raise ValueError(f"{root}: {error}; needs one folder of images per class") from error
    images = [
        np.asarray(found.loader(file).convert(mode).resize((size, size)))
        for file, _ in found.samples
    ]
    return _labelled(np.stack(images), np.asarray(found.targets))


def hold_out(data: LabelledImages, rate: float) -> Source:
    """Split off a seeded share `rate` of each class as the test set."""
    if not 0 < rate < 1:
        raise ValueError(f"dataset.test_rate={rate}: must be between 0 and 1")
    labels = data.labels.numpy()
    share = (_rank_in_class(labels, seed=0) + 0.5) / np.bincount(labels)[labels]
    held_out = torch.from_numpy(share < rate)
    if not held_out.any() or held_out.all():
        raise ValueError(
            f"dataset.test_rate={rate}: holds out {int(held_out.sum())} of {len(data)} images; "
            "choose a rate that leaves some for both sets"
        )
    return Source(data[~held_out], data[held_out])


def is_own_mean(images: torch.Tensor, mean: Sequence[float]) -> bool:
    """Whether normalisation constants are what one gets by computing them on these images.

    Constants in unit range, one or one per channel; published ones have four digits.
    """
    own = images.transpose(0, 1).flatten(1).double().mean(1) / 255
    return bool((own - torch.tensor(mean, dtype=torch.float64)).abs().max() < 1e-3)


def class_balanced(
    data: LabelledImages, num: int | None, *, seed: int, name: str
) -> LabelledImages:
    """A seeded subset of `num` images, classes as equal as the data allow, in the given order."""
    if num is None:
        return data
    if not 1 <= num <= len(data):
        raise ValueError(f"dataset.{name}={num}: must be 1..{len(data)} for this data set")
    rank = _rank_in_class(data.labels.numpy(), seed=seed)
    chosen = np.sort(np.argsort(rank, kind="stable")[:num])
    return data[torch.from_numpy(chosen)]


def _rank_in_class(labels: NDArray[np.int64], *, seed: int) -> NDArray[np.int64]:
    """Place of each sample in a random order of its own class, int [N]."""
    rank = np.empty(len(labels), dtype=np.int64)
    rng = np.random.default_rng(seed)
    for label in np.unique(labels):
        where = np.flatnonzero(labels == label)
        rank[where] = rng.permutation(len(where))
    return rank


def with_public(source: Source, public: LabelledImages | None) -> Source:
    """Use `public` (or the source's own pool) as the public set, checked to be disjoint."""
    public = source.public if public is None else public
    if public is None:
        return source
    if public.images.shape[1:] != source.private.images.shape[1:]:
        raise ValueError(
            f"public pool has images {tuple(public.images.shape[1:])}, "
            f"the private set {tuple(source.private.images.shape[1:])}; they must agree"
        )
    pool = set(public.hashes())
    for name, part in (("private", source.private), ("test", source.test)):
        shared = sum(image in pool for image in part.hashes())
        if shared:
            raise ValueError(
                f"public pool holds {shared} images of the {name} set: "
                "a public pool must be disjoint from it, remove them"
            )
    return replace(source, public=public)


def _labelled(images: NDArray, labels: NDArray, where: str = "data set") -> LabelledImages:
    """Images in any of the usual layouts, as a uint8 tensor [N,ch,H,W]."""
    channels_first = images.ndim == 4 and images.shape[1] in (1, 3)
    channels_last = images.ndim == 4 and images.shape[3] in (1, 3) and not channels_first
    known = images.ndim == 3 or channels_first or channels_last
    if images.dtype != np.uint8 or not known or not len(images):
        raise ValueError(
            f"{where}: images are {images.dtype} {images.shape}; "
            "must be uint8 [N,H,W], [N,H,W,ch] or [N,ch,H,W] with 1 or 3 channels"
        )
    if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"{where}: labels are {labels.dtype} {labels.shape}; must be integers [{len(images)}]"
        )
    if labels.min() < 0:
        raise ValueError(f"{where}: label {labels.min()} is negative; classes are 0..K-1")
    height, width = images.shape[1:3] if images.ndim == 3 or channels_last else images.shape[2:]
    if height != width:
        raise ValueError(f"{where}: images are {height}x{width}; must be square, resize them")
    if images.ndim == 3:
        images = images[:, None]
    elif channels_last:
        images = images.transpose(0, 3, 1, 2)
    contiguous = np.ascontiguousarray(images)
    return LabelledImages(torch.from_numpy(contiguous), torch.from_numpy(labels.astype(np.int64)))
