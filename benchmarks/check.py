"""Seconds of `check=true` on the digits and on a folder of 5,000 JPEG files.

Usage: python -m benchmarks.check
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.startup import seconds

WIDTH, HEIGHT, CLASSES, IMAGES = 320, 240, 10, 5000


def make_folder(root: Path) -> None:
    """Smooth noise, which compresses about as photographs do."""
    rng = np.random.default_rng(0)
    for i in range(IMAGES):
        folder = root / f"class_{i % CLASSES}"
        folder.mkdir(exist_ok=True)
        coarse = rng.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        image.save(folder / f"{i}.jpg", quality=85)


def main() -> None:
    """Print medians."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else every start compiles every module
    check = [sys.executable, "run.py", "logger=none", "check=true"]
    seconds(*check)
    digits = [seconds(*check) for _ in range(7)]
    spread = f"{min(digits):.2f} to {max(digits):.2f}"
    print(f"digits: {statistics.median(digits):.2f} s (n=7, {spread})")
    with tempfile.TemporaryDirectory() as folder:
        make_folder(Path(folder))
        own = [*check, "dataset=folder", f"dataset.path={folder}"]
        times = [seconds(*own) for _ in range(3)]
        spread = f"{min(times):.1f} to {max(times):.1f}"
        size = f"{IMAGES} JPEG files of {WIDTH}x{HEIGHT}"
        print(f"folder of {size}: {statistics.median(times):.1f} s (n=3, {spread})")


if __name__ == "__main__":
    main()
