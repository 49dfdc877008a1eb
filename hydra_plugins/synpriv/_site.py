"""A sweep that leaves its machine: the folder through which launcher and nodes see each other."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hydra_plugins.synpriv._pool import ENVIRONMENT
from hydra_plugins.synpriv._worker import CELLS

FOLDER = ".launch-"  # what its name begins with, in the results folder
_PASSED_ON = (CELLS, "SYNPRIV_COMMAND")


@dataclass(frozen=True)
class Site:
    """What a node needs to know to run jobs as the launcher's own machine would."""

    folder: Path
    working_directory: str  # relative paths of a config begin there
    environment: dict[str, str]
    shared: bytes  # what all jobs have in common, for `_worker`

    def enter(self) -> None:
        """Be where the launcher is; ValueError if this node cannot share its results."""
        from synpriv.results import sharing

        host = socket.gethostname()
        try:
            os.chdir(self.working_directory)
        except OSError as error:
            raise ValueError(
                f"{host} does not see {self.working_directory} ({error.strerror}): nodes need the "
                "folder in which the sweep was started, on a file system that all share"
            ) from error
        sharing.require_presence(self.folder)
        os.environ.update(self.environment)

    def keep(self) -> None:
        """Leave the folder when the sweep ends: it says how a node failed."""
        (self.folder / "keep").touch()


@contextmanager
def opened(results: Path, shared: bytes, *, leaves_machine: bool) -> Iterator[Site]:
    """A folder of its own in the results, read and written by this user alone."""
    from synpriv.results import sharing

    results.mkdir(parents=True, exist_ok=True)
    if leaves_machine:
        sharing.require_shared(results)
    folder = Path(tempfile.mkdtemp(prefix=FOLDER, dir=results))
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    environment = ENVIRONMENT | {k: os.environ[k] for k in ENVIRONMENT if k in os.environ}
    try:
        with sharing.presence(folder):
            yield Site(folder, os.getcwd(), environment | passed_on, shared)
    finally:
        if not (folder / "keep").exists():
            shutil.rmtree(folder, ignore_errors=True)
