"""Content hashes of the files that users bring: what names their cells."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path


def file_sha256(path: str) -> str:
    """Content hash of a user's file, read again only when the file has changed."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise ValueError(f"{file}: no such file; `path` must name an npz archive")
    status = file.stat()
    return _hash_file(file, status.st_size, status.st_mtime_ns)


@functools.cache
def _hash_file(file: Path, size: int, modified_ns: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def folder_sha256(path: str) -> str:
    """Hash of the names and contents of all files below a user's folder."""
    root = Path(path).expanduser()
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder; `path` must hold one folder per class")
    names = sorted(file for file in root.rglob("*") if file.is_file())
    listing = [f"{file.relative_to(root)} {file_sha256(str(file))}" for file in names]
    return hashlib.sha256("\n".join(listing).encode()).hexdigest()
