"""Where this code lies, in a checkout or installed from a wheel, and how it is called there."""

from __future__ import annotations

import functools
import os
import shlex
import subprocess
from pathlib import Path

_PACKAGE = Path(__file__).parent


def root() -> Path | None:
    """The checkout that this package is part of; None where it is installed, conf/ inside it."""
    return None if (_PACKAGE / "conf").is_dir() else _PACKAGE.parent


def conf() -> Path:
    """The folder of the configuration groups: a wheel carries the checkout's conf/ in the package.

    Looked for inside first: what lies beside an installed package is somebody else's.
    """
    checkout = root()
    return (_PACKAGE if checkout is None else checkout) / "conf"


def program() -> str:
    """What a user types to run it, as our own messages say it."""
    return "synpriv" if root() is None else "python run.py"


def as_typed(argv: list[str]) -> str:
    """The command line as a user types it: the console script and a package by their names."""
    program = Path(argv[0])
    if program.stem == "synpriv":
        words = ["synpriv"]
    elif program.name == "__main__.py":
        words = ["python", "-m", program.parent.name]
    else:
        words = ["python", argv[0]]
    return shlex.join([*words, *argv[1:]])


@functools.cache
def commit() -> str | None:
    """The code's commit; None outside its own git checkout, also inside somebody else's."""
    here = root()
    if here is None:
        return None
    command = ["git", "-C", str(here), "rev-parse", "--show-toplevel", "HEAD"]
    # In a hook of git its variables name another repository.
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=5, check=False, env=env
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    top, _, found = answer.stdout.strip().rpartition("\n")
    return found if top and Path(top).resolve() == here.resolve() else None
