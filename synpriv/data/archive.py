"""A user's npz archive: what its headers say is checked before any of it is read into memory.

A header may lie about its size, and a small archive may expand to more than there is memory.
"""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from synpriv.signatures import require

_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class Header(NamedTuple):
    """What an archive says of one of its arrays."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def headers(file: Path, names: Collection[str]) -> dict[str, Header | None]:
    """All arrays of an archive by name, the headers of `names` read; ValueError if that fails."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            return {
                name: _header(archive, info) if name in names else None
                for name, info in members.items()
            }
    except Exception as error:
        raise _unreadable(file, error) from error


def _header(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Header:
    with archive.open(info) as stream:
        read = _HEADERS.get(npy.read_magic(stream))
        require(read is not None, f"{info.filename} of this version", "an array of numbers")
        assert read is not None
        shape, _, dtype = read(stream)
        header = Header(shape, dtype)
        objects = f"{info.filename} holds Python objects"
        require(not dtype.hasobject, objects, "an array of numbers")
        said, there = header.num_bytes, info.file_size - stream.tell()
    of = f"{info.filename} is said to be {dtype} {shape}, {said} bytes, and holds {there}"
    require(said == there and min(shape, default=0) >= 0, of, "whole")
    return header


def read(file: Path, names: Collection[str]) -> dict[str, NDArray]:
    """These arrays; ValueError if they cannot be read."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in names}
    except Exception as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> ValueError:
    why = str(error) or type(error).__name__
    if file.is_file():
        with file.open("rb") as stream:
            if stream.read(len(npy.MAGIC_PREFIX)) == npy.MAGIC_PREFIX:
                why = "it is a single array; write np.savez(file, images=..., labels=...)"
    return ValueError(f"{file}: not a readable npz archive ({why})")


def refuse_too_large(num_bytes: int, what: str) -> None:
    """ValueError if something does not fit in this machine's memory."""
    most = memory()
    has = f"less than the {readable(most)} of memory of this machine"
    require(num_bytes < most, f"{what} {readable(num_bytes)}", has)


def memory() -> int:
    """Bytes of memory of this machine, or of the container if that has fewer."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    limits = [Path(name).read_text().strip() for name in _LIMITS if Path(name).is_file()]
    return min([*found, *(int(limit) for limit in limits if limit.isdigit())])


def readable(num_bytes: int) -> str:
    """A number of bytes in decimal units."""
    power = max(0, min(5, (len(str(num_bytes)) - 1) // 3))
    return f"{num_bytes / 1000**power:.3g} {('bytes', 'kB', 'MB', 'GB', 'TB', 'PB')[power]}"
