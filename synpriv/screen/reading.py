"""The images of a release, of the private set and of a holdout, as one of each was brought."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synpriv.data import archive
from synpriv.data.folder import IMAGES, some
from synpriv.data.pixels import to_8_bit
from synpriv.hardware import usable_cores
from synpriv.signatures import require

Images = NDArray[np.uint8]  # [N,ch,H,W]
FEWEST = 20  # images of each set


def read(path: Path, what: str) -> Images:
    """The images of an npz (`images`, uint8) or below a folder; ValueError names the set `what`.

    Labels, and other arrays of an npz, are not looked at. Images of a folder are read in the order
    of their names; grey ones become coloured where others are.
    """
    path = path.expanduser()
    if path.is_dir():
        images = _of_folder(path)
    elif path.is_file():
        images = _of_npz(path)
    else:
        raise ValueError(f"--{what} {path}: no such file or folder; must be an npz or images")
    require(len(images) >= FEWEST, f"--{what} {path}: {len(images)} images", f"{FEWEST} or more")
    return images


def check(synthetic: Images, private: Images, held_out: Images) -> None:
    """ValueError unless shapes agree and no private image is held out too."""
    for what, images in (("synthetic", synthetic), ("holdout", held_out)):
        shapes = images.shape[1:], private.shape[1:]
        both = f"--{what} has images {shapes[0]} and --private {shapes[1]} [ch,H,W]"
        require(shapes[0] == shapes[1], both, "of one shape; resize one of them")
    shared = int(np.isin(keys(held_out), keys(private)).sum())
    if shared:
        raise ValueError(
            f"{shared} of {len(held_out)} held-out images are private images too: the generator "
            "must not have seen a held-out one; remove them from --holdout"
        )


def keys(images: Images) -> NDArray[np.str_]:
    """A hash of each image's pixels, [N]."""
    return np.array([hashlib.sha256(image.tobytes()).hexdigest() for image in images])


def _of_npz(file: Path) -> Images:
    header = archive.headers(file, ("images",)).get("images")
    if header is None:
        raise ValueError(f"{file}: has no array 'images'; must be uint8 [N,H,W] or [N,H,W,ch]")
    shape = header.shape
    channels = len(shape) == 4 and (shape[1] in (1, 3) or shape[3] in (1, 3))
    if header.dtype != np.uint8 or not (len(shape) == 3 or channels) or 0 in shape:
        raise ValueError(
            f"{file}: images are {header.dtype} {shape}; must be uint8 (0..255) [N,H,W], "
            "[N,H,W,ch] or [N,ch,H,W] with 1 or 3 channels"
        )
    archive.refuse_too_large(3 * header.num_bytes, f"{file}: screening takes about")
    images = archive.read(file, ["images"])["images"]
    if images.ndim == 3:
        return images[:, None]
    last = shape[1] not in (1, 3) and shape[3] in (1, 3)
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)) if last else images


def _of_folder(root: Path) -> Images:
    files = sorted(file for file in root.rglob("[!.]*") if file.suffix.lower() in IMAGES)
    require(bool(files), f"{root}: no images below it", "an npz or a folder of images")

    def try_one(file: Path) -> NDArray[np.uint8] | str:
        try:
            return _read_one(file)
        except Exception as error:  # noqa: BLE001 - decoders raise anything; all are named below
            return f"{file.relative_to(root)} ({str(error) or type(error).__name__})"

    with ThreadPoolExecutor(usable_cores()) as pool:
        every = list(pool.map(try_one, files))
    bad = [one for one in every if isinstance(one, str)]
    if bad:
        raise ValueError(f"{root}: {len(bad)} of {len(files)} images cannot be used: {some(bad)}")
    good = [one for one in every if not isinstance(one, str)]
    sizes = sorted({one.shape[:2] for one in good})
    shown = some([f"{height}x{width}" for height, width in sizes])
    require(len(sizes) == 1, f"{root}: images of sizes {shown}", "of one size; resize them")
    if len({one.ndim for one in good}) > 1:  # some are grey
        good = [np.repeat(one[..., None], 3, axis=2) if one.ndim == 2 else one for one in good]
    stacked = np.stack(good)
    return (
        stacked[:, None] if stacked.ndim == 3 else np.ascontiguousarray(np.moveaxis(stacked, 3, 1))
    )


def _read_one(path: Path) -> NDArray[np.uint8]:
    """Pixels uint8 [H,W] or [H,W,3]."""
    from PIL import Image, ImageOps

    with Image.open(path) as stored:
        require(getattr(stored, "n_frames", 1) == 1, "several frames", "one")
        image = to_8_bit(ImageOps.exif_transpose(stored), stored.format)
    return np.asarray(image if image.mode == "L" else image.convert("RGB"))
