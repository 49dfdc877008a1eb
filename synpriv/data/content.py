"""Content hashes of the files that users bring: what names their cells."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from synpriv.data.folder import File, listing


def file_sha256(path: str) -> str:
    """Content hash of a user's file, read again only when the file has changed."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise ValueError(f"{file.absolute()}: no such file; `path` must name an npz archive")
    return _sha256(file)


def _sha256(file: Path) -> str:
    status = file.stat()
    version = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return _hash_file(file.absolute(), version)


@functools.cache
def _hash_file(file: Path, version: tuple[int, ...]) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def folder_sha256(path: str) -> str:
    """Hash of the images that are read below a user's folder, in their order, with their classes.

    What is left out does not count, nor does where an image lies or what its file is called.
    """
    found = listing(Path(path).expanduser())
    lines = _lines("train", found.private)
    if found.test is not None:
        lines += _lines("test", found.test)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _lines(part: str, files: list[File]) -> list[str]:
    return [f"{part} {_sha256(file.path)} {file.label}" for file in files]
