"""Content hashes of the files that users bring: what names their cells."""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path

from synpriv.data import listing
from synpriv.data.folder import File, below
from synpriv.signatures import require

FileVersion = tuple[str, int, int, int]


def expanded(path: str, given: str) -> Path:
    """A path with the home folder that a leading ~ or ~user means; `given`: how it was said."""
    found = os.path.expanduser(path)
    if found.startswith("~"):
        user = found.partition("/")[0]
        raise ValueError(f"{given}: no home folder of {user}; must be written without ~")
    return Path(found)


def file_sha256(path: str) -> str:
    """Content hash of a user's file, read again only when the file has changed."""
    require(isinstance(path, str), f"path={path}", "the name of an npz archive")
    file = Path(path).expanduser()
    if file.is_dir():
        raise ValueError(f"{file.absolute()}: is a folder; for one of images write dataset=folder")
    if not file.is_file():
        raise ValueError(f"{file.absolute()}: no such file; `path` must name an npz archive")
    return sha256(file)


def optional_sha256(path: str | None) -> str | None:
    """`file_sha256` of a file that there may be; None if there is none."""
    return None if path is None else file_sha256(path)


def sha256(file: Path) -> str:
    """Content hash of a file, read again only when it has changed."""
    status = file.stat()
    version = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return _hash_file(file.absolute(), version)


@functools.cache
def _hash_file(file: Path, version: tuple[int, ...]) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def versions(folder: Path) -> tuple[FileVersion, ...]:
    """Name, size, time and inode of the visible files right in a folder: what a change changes."""
    files = sorted(file for file in folder.glob("[!.]*") if file.is_file())
    status = [(file.name, file.stat()) for file in files]
    return tuple((name, s.st_size, s.st_mtime_ns, s.st_ino) for name, s in status)


def folder_sha256(
    path: str,
    table: str | None = None,
    groups: str | int | None = None,
    test_path: str | None = None,
) -> str:
    """Hash of the images that are read below a user's folder, in their order, with their classes.

    And with their groups, if these are asked for (listing.find has the options). What is left out
    does not count, nor does where an image lies or what its file is called.
    """
    found = listing.find(path, table=table, groups=groups, test_path=test_path)
    root = Path(path).expanduser()
    _refuse_unreadable(root, [*found.private, *(found.test or [])])
    lines = _lines("train", found.private)
    if found.test is not None:
        lines += _lines("test", found.test)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _lines(part: str, files: list[File]) -> list[str]:
    whose = ["" if file.group is None else f"\0{file.group}" for file in files]
    every = zip(files, whose, strict=True)
    return [f"{part} {sha256(file.path)} {file.label}{group}" for file, group in every]


def _refuse_unreadable(root: Path, files: list[File]) -> None:
    """Name all files that cannot be opened at once: broken links, no permission."""
    bad = [below(root, file.path) for file in files if not os.access(file.path, os.R_OK)]
    if bad:
        listed = ", ".join(bad[:10]) + (f" and {len(bad) - 10} more" if len(bad) > 10 else "")
        raise ValueError(
            f"{root}: {len(bad)} of {len(files)} images cannot be used: {listed}; "
            "mend or remove them (broken links, no permission)"
        )
