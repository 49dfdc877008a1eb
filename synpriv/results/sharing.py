"""Whether a results folder can be shared: locks that hold there, for processes on any machine.

Locks that one machine alone knows let two machines train one run at once, each over the other's
files, in silence. Mount options say some of it; a lock that is held and tried says the rest.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

_MOUNTS = Path("/proc/self/mountinfo")
_PRESENT, _BEAT = "present.lock", "beat"
_BEAT_S = 2.0
_PATIENCE_S = 30.0  # until a launcher counts as dead: attributes of files are cached on NFS
_ESCAPED = re.compile(r"\\([0-7]{3})")
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)
# Options with which flock is kept to one machine or does not exist, by the type of file system.
_ALONE = {
    "nfs": ("nolock", "local_lock=flock", "local_lock=all"),
    "lustre": ("localflock", "noflock"),
    "cifs": ("nobrl",),
    "smb3": ("nobrl",),
}
_RIGHT = {
    "nfs": "mount it without them",
    "lustre": "mount it with flock",
    "cifs": "mount it without nobrl",
    "smb3": "mount it without nobrl",
}


class Mount(NamedTuple):
    """What a folder lies on."""

    point: str
    kind: str
    options: frozenset[str]


def mount_of(folder: Path, mountinfo: str) -> Mount | None:
    """The mount of an absolute path without links, among the lines of proc(5)'s mountinfo."""
    found = None
    for line in mountinfo.splitlines():
        ours, _, others = line.partition(" - ")
        fields, super_fields = ours.split(" "), others.split(" ")
        if len(fields) < 6 or len(super_fields) < 3:
            continue
        point = _ESCAPED.sub(lambda match: chr(int(match[1], 8)), fields[4])
        inside = folder == Path(point) or Path(point) in folder.parents
        if inside and (found is None or len(point) >= len(found.point)):  # a later one lies above
            options = frozenset([*fields[5].split(","), *super_fields[2].split(",")])
            found = Mount(point, super_fields[0], options)
    return found


def require_shared(folder: Path, mountinfo: str | None = None) -> None:
    """ValueError if the mount's options keep locks to one machine."""
    if mountinfo is None:
        mountinfo = _MOUNTS.read_text() if _MOUNTS.is_file() else ""  # macOS has none
    mount = mount_of(folder.resolve(), mountinfo)
    kind = "" if mount is None else re.sub(r"^nfs4$", "nfs", mount.kind)
    bad = [] if mount is None else sorted(mount.options.intersection(_ALONE.get(kind, ())))
    if mount is not None and bad:
        raise ValueError(
            f"{folder}: {mount.kind} on {mount.point} is mounted with {', '.join(bad)}: file locks "
            f"do not reach other machines, and two would train one run; {_RIGHT[kind]}, "
            "or use hydra/launcher=pool on one machine"
        )


def require_locks(folder: Path) -> None:
    """ValueError if the folder's file system knows no file locks at all."""
    there = next(each for each in (folder, *folder.parents) if each.exists())
    with tempfile.TemporaryFile(dir=there) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            raise ValueError(
                f"{folder}: its file system has no file locks ({error.strerror}), without which "
                "two processes would train one run; mount it with them (nfs: lockd; lustre: "
                "flock), or choose another results=DIR"
            ) from error


@contextmanager
def presence(folder: Path) -> Iterator[None]:
    """Hold a lock in the folder and show that its holder lives, for `require_presence`."""
    stop = threading.Event()

    def beat() -> None:
        number = 0
        while not stop.wait(_BEAT_S):
            number += 1
            with contextlib.suppress(OSError):  # a full disk: who waits takes us for dead
                (folder / _BEAT).write_bytes(str(number).encode())  # makes no folder anew

    lock = FileLock(folder / _PRESENT)
    lock.acquire(timeout=0)
    (folder / _BEAT).write_bytes(b"0")
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        lock.release()


def is_present(folder: Path) -> bool:
    """Whether a process that this machine's locks reach holds the folder's lock."""
    try:
        with FileLock(folder / _PRESENT, timeout=0):
            return False
    except Timeout:
        return True
    except FileNotFoundError:  # it ended in peace
        return False


def require_presence(folder: Path, patience_s: float = _PATIENCE_S) -> None:
    """ValueError if this machine does not see a launcher's folder, or not its lock.

    Whoever can take the lock of a launcher that goes on beating is on a machine that the lock does
    not reach. A launcher that is dead is no error.
    """
    host = os.uname().nodename
    if not (folder / _PRESENT).is_file():
        raise ValueError(
            f"{host} does not see {folder}: results must lie on a file system that all nodes share"
        )
    if is_present(folder):
        return
    first, end = _last_beat(folder), time.monotonic() + patience_s
    while time.monotonic() < end:
        time.sleep(min(0.5, patience_s))
        if _last_beat(folder) != first:
            raise ValueError(
                f"{folder.parent}: a file lock that the launcher holds does not hold on {host}, so "
                "two nodes would train one run; mount the file system with locks that reach all "
                "nodes (nfs: no local_lock; lustre: flock), or choose another results=DIR"
            )


def _last_beat(folder: Path) -> bytes:
    with contextlib.suppress(FileNotFoundError):
        return (folder / _BEAT).read_bytes()
    return b""
