"""Who works on a folder: locks that die with their process, and what killed processes left.

Beside a held lock lies who holds it, for those who wait. Only the lock itself counts: a killed
holder's word may be left behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from synpriv import terminal

log = logging.getLogger(__name__)
LOCK, HOLDER = ".lock", ".lock.holder"
_SILENT_S = 2.0  # of waiting
_TEMPORARY = re.compile(r"\.(.+)\.([A-Za-z0-9_-]+)\.(\d+)\.tmp")  # store.write's: host, process
_OLD_S = 60.0  # without a write
_OLD_ELSEWHERE_S = 3600.0  # of a writer on another machine, whose clock may differ


def host() -> str:
    """This machine's name, as it stands in names of files."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname()) or "-"


def temporary(file: Path) -> Path:
    """Where this process writes what is to become `file`."""
    return file.with_name(f".{file.name}.{host()}.{os.getpid()}.tmp")


@contextmanager
def held(folder: Path, what: str) -> Iterator[None]:
    """Keep all others out of a folder, and sweep up in it. `what` it is about, in words."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=_SILENT_S)
    except Timeout:
        log.warning("waiting for %s: %s works on it", what, _holder(folder))
        lock.acquire()
    holder = folder / HOLDER
    try:
        about = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%F %T")}
        holder.unlink(missing_ok=True)
        with holder.open("x", encoding="utf-8") as stream:  # never through a link that lay there
            json.dump(about, stream)
        sweep_up(folder)
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


class Holder(NamedTuple):
    """Who holds a lock, as it says itself."""

    pid: int
    host: str
    since: str  # %F %T, by its own clock


def _holder(folder: Path) -> str:
    about = _said(folder)
    if about is None:  # it is just taking the lock
        return "another process"
    return terminal.one_line(f"process {about.pid} on {about.host}, since {about.since},")


def _said(folder: Path) -> Holder | None:
    """Who said last that it holds the lock, None if nothing legible does."""
    file = folder / HOLDER
    if not file.is_file():  # of a pipe nobody would ever see the end
        return None
    try:
        about = json.loads(file.read_text("utf-8"))
        return Holder(int(about["pid"]), str(about["host"]), str(about["since"]))
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def holder(folder: Path) -> Holder | None:
    """Who holds the lock of a folder now, None if nobody does.

    A killed holder's word may have stayed, so the lock itself is asked for, shared and for an
    instant: no holder notices that, who waits tries again after, and the right to read is enough.
    """
    about = _said(folder)
    if about is None:
        return None
    try:
        with (folder / LOCK).open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return None
    except OSError:  # it is held, or its file system cannot say and there is the word alone
        return about
    return None


def sweep_up(folder: Path, *, quiet_s: float = 0.0) -> None:
    """Remove temporary files of dead writers that nobody wrote to for so long, under the lock."""
    for file in stale(folder, ".*.tmp", quiet_s):
        with contextlib.suppress(OSError):  # what cannot be removed is no reason not to go on
            file.unlink()


def sweep_up_all(results: Path) -> None:
    """Remove what killed processes left in the results folder, in cells and in runs.

    A few files of the results folder and of cells are written without its lock: what was written
    to within a minute stays.
    """
    patterns = (".*.tmp", "*/.*.tmp", "*/*/.*.tmp")
    found = {f.parent for pattern in patterns for f in stale(results, pattern, _OLD_S)}
    for folder in found:
        # Somebody works on it, or it is read-only: no reason not to go on.
        with contextlib.suppress(OSError), FileLock(folder / LOCK, timeout=0):
            sweep_up(folder, quiet_s=_OLD_S)


def stale(folder: Path, pattern: str, quiet_s: float) -> list[Path]:
    """Temporary files of `store.write`, and of nobody else, whose writers are dead.

    A writer on another machine cannot be asked whether it lives: only what is old is its remains.
    """
    found = []
    for file in folder.glob(pattern):
        ours = _TEMPORARY.fullmatch(file.name)
        with contextlib.suppress(FileNotFoundError):  # it got its name meanwhile
            if not ours or (ours[2] == host() and _alive(int(ours[3]))):
                continue
            quiet = quiet_s if ours[2] == host() else max(quiet_s, _OLD_ELSEWHERE_S)
            status = file.lstat()
            if stat.S_ISREG(status.st_mode) and time.time() - status.st_mtime >= quiet:
                found.append(file)
    return found


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
