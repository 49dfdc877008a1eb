"""Removing files that are of no use any more."""

from __future__ import annotations

import logging
from pathlib import Path

log = logging.getLogger(__name__)


def remove(file: Path) -> None:
    """Unless it is gone already; where it cannot be removed, that costs a warning alone."""
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        log.warning("a file of no use any more stays: %s", error)
