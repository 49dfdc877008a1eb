"""Why a run failed when it was last tried: a file in its folder, until it is trained.

It is for people and for `python -m synpriv.status`. Whether a run is there is for metrics.json
alone to say, so a word that a killed process left behind or could not leave changes nothing.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from pathlib import Path
from typing import NamedTuple

from synpriv.results import store

FAILURE = "failure.json"


class Failure(NamedTuple):
    """What went wrong, in one line, when and where."""

    reason: str
    at: float  # seconds since 1970
    host: str


def note(run: Path, reason: str) -> None:
    """Leave word of why this run failed."""
    about = {"reason": reason, "at": round(time.time(), 3), "host": socket.gethostname()}
    store.write_bytes(run / FAILURE, json.dumps(about).encode())


def of(run: Path) -> Failure | None:
    """Why the run failed; None if it has not, or nothing legible says so."""
    try:
        about = json.loads((run / FAILURE).read_bytes())
        return Failure(str(about["reason"]), float(about["at"]), str(about["host"]))
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def forget(run: Path) -> None:
    """The run is tried again, or is there."""
    with contextlib.suppress(FileNotFoundError):
        (run / FAILURE).unlink()
