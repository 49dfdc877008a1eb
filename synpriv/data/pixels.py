"""A user's images become pixels: which ones can be used, and what is done to them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from synpriv.data import archive
from synpriv.data.folder import File, below, some
from synpriv.hardware import usable_cores
from synpriv.signatures import require

if TYPE_CHECKING:
    from PIL.Image import Image

FITS = ("stretch", "crop", "pad")


class AsStored(NamedTuple):
    """What an image was before it was scaled."""

    size: tuple[int, int]  # width and height, once upright
    grey: bool


def read(
    files: Sequence[File], *, root: Path, size: int, channels: int, fit: str
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Pixels uint8 [N,ch,size,size] of the files, and in words what was done to them.

    All files that cannot be used are named at once. fit: `stretch` to a square, `crop` its middle,
    or `pad` with black; the last two keep the aspect.
    """
    check_options(size=size, channels=channels, fit=fit)
    archive.refuse_too_large(
        len(files) * channels * size**2, f"{root}: {len(files)} images of {size}x{size} take"
    )

    def try_one(file: File) -> tuple[NDArray[np.uint8], AsStored] | str:
        try:
            return _read_one(file.path, size=size, channels=channels, fit=fit)
        except Exception as error:  # noqa: BLE001 - decoders raise anything; all are named below
            why = str(error).partition(": ")[0].removesuffix(f" {str(file.path)!r}")
            return f"{below(root, file.path)} ({why or type(error).__name__})"

    # Of an image that Pillow only warns of; it is refused below.
    warnings.filterwarnings("ignore", message=".*could be decompression bomb")
    with ThreadPoolExecutor(usable_cores()) as pool:
        every = list(pool.map(try_one, files))
    bad = [one for one in every if isinstance(one, str)]
    if bad:
        total = f"{root}: {len(bad)} of {len(files)} images cannot be used: {some(bad)}"
        raise ValueError(f"{total}; mend or remove them")
    good = [one for one in every if not isinstance(one, str)]
    images = np.stack([pixels for pixels, _ in good])
    stored = [about for _, about in good]
    colours = _about_colours(sum(about.grey for about in stored), len(stored), channels)
    return images, (*_about_sizes({about.size for about in stored}, size, fit), *colours)


def check_options(*, size: int | None, channels: int | None, fit: str | None) -> None:
    """Refuse values that no image can be brought to; None leaves it as it is stored."""
    require(channels in (None, 1, 3), f"dataset.channels={channels}", "1 or 3")
    require(size is None or size >= 1, f"dataset.size={size}", "at least 1")
    require(fit is None or fit in FITS, f"dataset.fit={fit}", f"one of {', '.join(FITS)}")


def convert(
    images: NDArray[np.uint8], *, size: int | None, channels: int | None, fit: str | None
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Arrays uint8 [N,ch,H,W] as a folder's images are brought to one size, and in words how.

    None = as stored; but images that are no square need a fit, whose size is their longer side with
    `pad` and the shorter one with `crop` if there is no other.
    """
    from PIL import Image

    check_options(size=size, channels=channels, fit=fit)
    num, own_channels, height, width = images.shape
    if height != width:
        given = f"images are {height}x{width}: dataset.fit={'null' if fit is None else fit}"
        right = "pad (with black), crop (the middle), or stretch with dataset.size=SIDE"
        require(fit in ("pad", "crop") or (fit is not None and size is not None), given, right)
        size = size or (max(height, width) if fit == "pad" else min(height, width))
    same = size is None or (height, width) == (size, size)
    channels = channels or own_channels
    if same and channels == own_channels:
        return images, ()
    shape = (num, channels, *((height, width) if size is None else (size, size)))
    size_in_words = "" if size is None else f"dataset.size={size}: "
    archive.refuse_too_large(math.prod(shape), f"{size_in_words}{num} images take")
    turned = np.empty(shape, dtype=np.uint8)

    def turn(index: int) -> None:
        array = images[index, 0] if own_channels == 1 else images[index].transpose(1, 2, 0)
        image = Image.fromarray(np.ascontiguousarray(array))
        turned[index] = _fitted(image, size=size, channels=channels, fit=fit or "stretch")

    with ThreadPoolExecutor(usable_cores()) as pool:
        list(pool.map(turn, range(num)))
    scaled = () if size is None else _about_sizes({(width, height)}, size, fit or "stretch")
    return turned, (*scaled, *_about_colours(num * (own_channels == 1), num, channels))


def _about_colours(num_grey: int, num: int, channels: int) -> tuple[str, ...]:
    turned = num_grey if channels == 3 else num - num_grey
    how = "grey made colour" if channels == 3 else "colour made grey"
    return (f"{turned} of {num} images {how}",) if turned else ()


def _about_sizes(shapes: set[tuple[int, int]], size: int, fit: str) -> tuple[str, ...]:
    if shapes == {(size, size)}:
        return ()
    low, high = (f"{w}x{h}" for w, h in (min(shapes), max(shapes)))
    sizes = low if low == high else f"{low} to {high}"
    done = {"stretch": "stretched", "crop": "cropped to the middle and scaled", "pad": "padded"}
    square = all(width == height for width, height in shapes)
    return (f"images of {sizes} {'scaled' if square else done[fit]} to {size}x{size}",)


def _read_one(
    path: Path, *, size: int, channels: int, fit: str
) -> tuple[NDArray[np.uint8], AsStored]:
    """Pixels uint8 [ch,size,size], and what they were."""
    from PIL import Image, ImageOps

    with Image.open(path) as stored:
        grey = stored.mode in ("1", "L", "LA", "La") or stored.mode.startswith("I")
        pixels, most = stored.width * stored.height, Image.MAX_IMAGE_PIXELS
        require(most is None or pixels <= most, f"{pixels} pixels, more than {most}", "fewer")
        frames = getattr(stored, "n_frames", 1)
        require(frames == 1, f"{frames} frames", "one")
        image = to_8_bit(ImageOps.exif_transpose(stored), stored.format)
    return _fitted(image, size=size, channels=channels, fit=fit), AsStored(image.size, grey)


def _fitted(image: Image, *, size: int | None, channels: int, fit: str) -> NDArray[np.uint8]:
    """Pixels uint8 [ch,size,size] of an image of 8 bits; without a size as large as it is."""
    from PIL import Image, ImageOps

    image = image.convert("L" if channels == 1 else "RGB")
    if size is not None and image.size != (size, size):
        if fit == "crop":
            image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
        elif fit == "pad":
            image = ImageOps.pad(image, (size, size), Image.Resampling.BICUBIC)
        else:
            image = image.resize((size, size), Image.Resampling.BICUBIC)
    array = np.asarray(image)
    return array[None] if channels == 1 else array.transpose(2, 0, 1)


def to_8_bit(image: Image, stored_as: str | None) -> Image:
    """An image of 8-bit grey or colour: deeper ones scaled, transparency laid on white.

    ValueError for what has no one meaning: floats, 32-bit integers, LAB.
    """
    from PIL import Image

    # Of a PNG or PGM, which have no 32 bits, "I" is how Pillow may open 16.
    if image.mode.startswith("I;16") or (image.mode == "I" and stored_as in ("PNG", "PPM")):
        deep = np.asarray(image).astype(np.int64)
        require(deep.min() >= 0 and deep.max() < 2**16, f"values up to {deep.max()}", "16-bit")
        return Image.fromarray(np.rint(deep / 257).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        coloured = image.convert("RGBA")
        white = Image.new("RGBA", coloured.size, "white")
        return Image.alpha_composite(white, coloured).convert("RGB")
    known = image.mode in ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr")
    require(known, f"pixels of mode {image.mode}", "8- or 16-bit grey or colour")
    return image
