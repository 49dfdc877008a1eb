"""A user's images become pixels: which ones can be used, and what is done to them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from synpriv.data.folder import File, some
from synpriv.hardware import usable_cores
from synpriv.signatures import require

if TYPE_CHECKING:
    from PIL.Image import Image

FITS = ("stretch", "crop", "pad")


def read(
    files: Sequence[File], *, root: Path, size: int, channels: int, fit: str
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Pixels uint8 [N,ch,size,size] of the files, and in words what was done to them.

    All files that cannot be used are named at once. fit: `stretch` to a square, `crop` its middle,
    or `pad` with black; the last two keep the aspect.
    """
    require(channels in (1, 3), f"dataset.channels={channels}", "1 or 3")
    require(size >= 1, f"dataset.size={size}", "at least 1")
    require(fit in FITS, f"dataset.fit={fit}", f"one of {', '.join(FITS)}")

    def try_one(file: File) -> tuple[NDArray[np.uint8], tuple[int, int]] | str:
        try:
            return _read_one(file.path, size=size, channels=channels, fit=fit)
        except Exception as error:  # noqa: BLE001 - decoders raise anything; all are named below
            why = str(error).partition(": ")[0].removesuffix(f" {str(file.path)!r}")
            return f"{file.path.relative_to(root)} ({why or type(error).__name__})"

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
    return images, _about_sizes({shape for _, shape in good}, size, fit)


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
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Pixels uint8 [ch,size,size], and width and height as stored, once upright."""
    from PIL import Image, ImageOps

    with Image.open(path) as stored:
        pixels, most = stored.width * stored.height, Image.MAX_IMAGE_PIXELS
        require(most is None or pixels <= most, f"{pixels} pixels, more than {most}", "fewer")
        frames = getattr(stored, "n_frames", 1)
        require(frames == 1, f"{frames} frames", "one")
        image = to_8_bit(ImageOps.exif_transpose(stored), stored.format)
    shape = image.size
    image = image.convert("L" if channels == 1 else "RGB")
    if shape != (size, size):
        if fit == "crop":
            image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
        elif fit == "pad":
            image = ImageOps.pad(image, (size, size), Image.Resampling.BICUBIC)
        else:
            image = image.resize((size, size), Image.Resampling.BICUBIC)
    array = np.asarray(image)
    return (array[None] if channels == 1 else array.transpose(2, 0, 1)), shape


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
