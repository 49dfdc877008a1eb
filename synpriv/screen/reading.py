"""The images of a release, of the private set and of a holdout, as one of each was brought."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synpriv.data import archive, arrays
from synpriv.data import groups as people
from synpriv.data.folder import IMAGES, some
from synpriv.data.pixels import to_8_bit
from synpriv.data.pool import Bools, Ints
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
    size = f"--{what} {path}: images of {images.shape[2]}x{images.shape[3]} pixels"
    require(min(images.shape[2:]) > 1, size, "2x2 or more: one pixel has no pattern to compare")
    return images


def read_groups(path: Path, what: str, name: str) -> NDArray:
    """Of whom each image of `read` is, [N]: a npz's array `name`, or the folder at a level.

    Level 1 is that of class/person/image.png, as in dataset.groups=1; 0 is person/image.png.
    """
    path = path.expanduser()
    given = f"--{what} {path}: --groups {name}"
    if path.is_dir():
        right = "how many folders above its own a group's has: 1 in class/person/image.png"
        require(name.isdecimal(), given, right)
        parts = [file.relative_to(path).parts for file in _images_below(path)]
        bare = [str(Path(*each)) for each in parts if len(each) < int(name) + 2]
        require(not bare, f"{given}: {len(bare)} images lie in no such folder: {some(bare)}", right)
        return np.array([each[int(name)] for each in parts])
    found = archive.headers(path, (name, "images"))
    header, images = found.get(name), found["images"]
    require(header is not None, given, f"one of its arrays {sorted(found)}")
    assert header is not None
    assert images is not None
    shape = f"{given} is {header.shape}"
    require(header.shape == images.shape[:1], shape, f"[{images.shape[0]}], one per image")
    return archive.read(path, [name])[name]


def sides(private: NDArray, held_out: NDArray, name: str) -> tuple[Ints, Ints]:
    """Groups as given, numbered over both sets; ValueError where one has images in both."""
    where = f"--groups {name}"
    mine, names = people.number(private, where=f"--private: {where}")
    others, more = people.number(held_out, where=f"--holdout: {where}")
    both = sorted(set(names) & set(more))
    if both:
        raise ValueError(
            f"{where}: {len(both)} groups have images in --private and in --holdout: "
            f"{some(both)}; must be whole in one: hold out whole groups at random, or name them "
            "apart if they are others (removing them from one set alone would bias what is found)"
        )
    return mine, others + len(names)


def check(synthetic: Images, private: Images, held_out: Images) -> None:
    """ValueError unless shapes agree."""
    for what, images in (("synthetic", synthetic), ("holdout", held_out)):
        shapes = images.shape[1:], private.shape[1:]
        both = f"--{what} has images {shapes[0]} and --private {shapes[1]} [ch,H,W]"
        require(shapes[0] == shapes[1], both, "of one shape; resize one of them")


def apart(private: Images, held_out: Images) -> tuple[Bools, Bools]:
    """Which private and which held-out images are in one set only, [N] and [M].

    Images of both sets must leave both: left in one, as all placeholders would be in the private
    set, they make it another law than the other. ValueError where too few stay.
    """
    mine, others = keys(private), keys(held_out)
    kept = ~np.isin(mine, others), ~np.isin(others, mine)
    for stay, what, other in zip(kept, ("private", "holdout"), ("holdout", "private"), strict=True):
        found = f"{int((~stay).sum())} of {len(stay)} images of --{what} are in --{other} too"
        require(int(stay.sum()) >= FEWEST, f"{found}, {int(stay.sum())} are not", f"{FEWEST}")
    return kept


def keys(images: Images) -> NDArray[np.str_]:
    """A hash of each image's pixels, [N]."""
    return np.array([hashlib.sha256(image.tobytes()).hexdigest() for image in images])


def _of_npz(file: Path) -> Images:
    header = archive.headers(file, ("images",)).get("images")
    if header is None:
        raise ValueError(f"{file}: has no array 'images'; must be uint8 [N,H,W] or [N,H,W,ch]")
    arrays.check_numbers(file, "images", header)
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


def _images_below(root: Path) -> list[Path]:
    return sorted(file for file in root.rglob("[!.]*") if file.suffix.lower() in IMAGES)


def _of_folder(root: Path) -> Images:
    files = _images_below(root)
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
