"""Imported by the process that workers are forked from: what all of them import, once.

`MODULES` in the environment is json: `path`, the search path of the process that wants workers, as
the server of forks is given none, and `modules`, the names of what is imported.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import sys
from collections.abc import Iterator

MODULES = "SYNPRIV_PRELOAD"


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Nothing reaches stdout and stderr, whatever writes there; both are as before at the end."""
    kept = [os.dup(stream) for stream in (1, 2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for stream in (1, 2):
            os.dup2(nowhere, stream)
        yield
    finally:
        for stream, before in zip((1, 2), kept, strict=True):
            os.dup2(before, stream)
            os.close(before)
        os.close(nowhere)


def _import_all(wanted: str) -> None:
    asked = json.loads(wanted)
    sys.path[:] = asked["path"]
    for name in asked["modules"]:
        # The job that needs it imports it again, and says in its own log what is wrong with it.
        with contextlib.suppress(Exception):
            importlib.import_module(name)


if MODULES in os.environ:
    with _silence():
        _import_all(os.environ[MODULES])
    # To take down what was imported takes seconds, in which whoever reads our output would wait.
    # Forks never come here: multiprocessing ends them by itself.
    atexit.register(os._exit, 0)
