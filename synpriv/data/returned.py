"""What came back from somebody else's code, checked before a student is trained on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from synpriv.data import archive

SOFT = 1e-3  # how far the probabilities of an image may be from a sum of 1
FEWEST = 2  # images, and classes among the labels: one alone teaches nothing
ARRAYS = ("images", "labels")


class Wanted(NamedTuple):
    """What a set must fit: the private images' (ch, H, W) and K."""

    image_shape: tuple[int, int, int]
    num_classes: int


def taken(images: Any, labels: Any, wanted: Wanted, where: str) -> tuple[NDArray, NDArray]:
    """Images uint8 [M,ch,H,W] and labels int64 [M] or float32 [M,K] of a synthetic set.

    images: uint8 [M,H,W,ch], or [M,H,W] if grey. labels: int [M], or float [M,K] whose rows sum to
    1. ValueError, beginning with `where`, says what is wrong and what would be right.
    """
    check_arrays(images, labels, wanted, where)
    _check_labels(labels, wanted.num_classes, where)
    channels, height, width = wanted.image_shape
    pixels = images.reshape(-1, height, width, channels).transpose(0, 3, 1, 2)
    soft = labels.ndim == 2
    return np.array(pixels, order="C"), labels.astype(np.float32 if soft else np.int64)


def read(file: Path, wanted: Wanted, where: str) -> tuple[NDArray, NDArray]:
    """The set in an npz archive of `images` and `labels`, its headers checked first."""
    check_archive(file, wanted, where)
    arrays = archive.read(file, ARRAYS)
    return taken(arrays["images"], arrays["labels"], wanted, where)


def check_archive(file: Path, wanted: Wanted, where: str) -> None:
    """Refuse an archive that can hold no such set, by its headers alone."""
    try:
        found = archive.headers(file, ARRAYS)
    except ValueError as error:
        raise ValueError(f"{where}: {str(error).removeprefix(f'{file}: ')}") from error
    if any(found.get(name) is None for name in ARRAYS):
        raise ValueError(f"{where}: has arrays {sorted(found)}; must have images and labels")
    images, labels = (found[name] for name in ARRAYS)
    assert images is not None
    assert labels is not None
    check_arrays(images, labels, wanted, where)
    archive.refuse_too_large(images.num_bytes + labels.num_bytes, f"{where}: its arrays take")


def check_arrays(images: Any, labels: Any, wanted: Wanted, where: str) -> None:
    """Refuse what cannot be such a set, by shape and type alone: arrays, or headers of arrays."""
    for name, array in zip(ARRAYS, (images, labels), strict=True):
        if not (hasattr(array, "shape") and isinstance(getattr(array, "dtype", None), np.dtype)):
            kind = f"{type(array).__module__}.{type(array).__name__}".removeprefix("builtins.")
            hint = f": {name}.cpu().numpy()" if kind.startswith("torch.") else ""
            raise ValueError(f"{where}: {name} are a {kind}; must be a NumPy array{hint}")
    channels, height, width = wanted.image_shape
    shape = tuple(images.shape)
    wrong = (
        f"{where}: images are {images.dtype} {list(shape)}; must be uint8 "
        f"[M,{height},{width},{channels}], the size of the private images"
    )
    if images.dtype != np.uint8:
        raise ValueError(wrong + _advice(images))
    if shape[1:] not in ((height, width, channels), *[(height, width)] * (channels == 1)):
        first = "; these have channels first: images.transpose(0, 2, 3, 1)"
        raise ValueError(wrong + first * (shape[1:] == wanted.image_shape))
    if shape[0] < FEWEST:
        raise ValueError(f"{where}: {shape[0]} images; must be at least {FEWEST}")
    _check_kind(labels, shape[0], wanted.num_classes, where)


def _advice(images: Any) -> str:
    """What makes bytes of floats, where their values are at hand: a header has none."""
    if not np.issubdtype(images.dtype, np.floating):
        return ""
    unit = isinstance(images, np.ndarray) and images.size > 0
    if unit and not np.isfinite(images).all():
        return f"; {int((~np.isfinite(images)).sum())} values are NaN or infinite"
    if unit and images.max() > 1:
        return "; return images.round().clip(0, 255).astype(np.uint8)"
    return "; of images in 0..1 return (255 * images).round().clip(0, 255).astype(np.uint8)"


def _check_kind(labels: Any, num: int, num_classes: int, where: str) -> None:
    hard = labels.shape == (num,) and labels.dtype.kind in "iu"
    soft = labels.shape == (num, num_classes) and np.issubdtype(labels.dtype, np.floating)
    if not (hard or soft):
        raise ValueError(
            f"{where}: labels are {labels.dtype} {list(labels.shape)}; must be integers "
            f"[{num}], or probabilities as floats [{num},{num_classes}]"
        )


def _check_labels(labels: NDArray, num_classes: int, where: str) -> None:
    if labels.ndim == 2:
        if not np.isfinite(labels).all():
            raise ValueError(f"{where}: soft labels are NaN or infinite; must be probabilities")
        sums = labels.sum(1, dtype=np.float64)
        worst = sums[np.abs(sums - 1).argmax()]
        if labels.min() < 0 or abs(worst - 1) > SOFT:
            given = f"down to {labels.min():.3g}, sums of rows as {worst:.4g}"
            raise ValueError(f"{where}: soft labels {given}; must be at least 0 and sum to 1")
        labels = labels.argmax(1)
    elif labels.min() < 0 or labels.max() >= num_classes:
        ends = f"{labels.min()}..{labels.max()}"
        raise ValueError(f"{where}: labels are {ends}; must be 0..{num_classes - 1}")
    if len(classes := np.unique(labels)) < FEWEST:
        raise ValueError(f"{where}: all images are of class {classes[0]}; must be of two or more")


def missing_classes(labels: NDArray, num_classes: int) -> list[int]:
    """Classes of which there is no image, by labels int [M] or soft [M,K]."""
    hard = labels if labels.ndim == 1 else labels.argmax(1)
    return sorted(set(range(num_classes)) - set(hard.tolist()))
