"""Errors that nobody foresaw, in one line: what was raised, what it says, and where."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

_OURS = (Path(__file__).parent, Path(__file__).parents[1] / "hydra_plugins")
_LIBRARIES = tuple(Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib"))
_LONGEST = 300  # characters of a message
# What torch says of memory, of whichever device: it raises a RuntimeError.
_OUT_OF_MEMORY = ("allocate memory", "out of memory")


def is_foreseen(error: BaseException) -> bool:
    """Whether our own code refused a value; its message then says all there is to say.

    An error without a traceback came from another process, which has put it in words.
    """
    frames = traceback.extract_tb(error.__traceback__)
    return not frames or (
        isinstance(error, ValueError) and _is_in(Path(frames[-1].filename), _OURS)
    )


def unforeseen(error: BaseException) -> str:
    """Class and message of an error, and the innermost line of our own or the user's code."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _is_own(frame.filename)]
    said = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
    if not said and own:
        said = own[-1].line or ""  # of an assert, the condition
    if len(said) > _LONGEST:
        said = f"{said[:_LONGEST]}..."
    kind = "not enough memory" if _is_of_memory(error) else type(error).__name__
    where = f" ({_readable(own[-1].filename)}:{own[-1].lineno})" if own else ""
    return f"{kind}: {said}{where}" if said else f"{kind}{where}"


def _is_of_memory(error: BaseException) -> bool:
    torch_s = isinstance(error, RuntimeError) and any(x in str(error) for x in _OUT_OF_MEMORY)
    return torch_s or isinstance(error, MemoryError)


def _is_own(file: str) -> bool:
    """Whether somebody who reads the line can look at the file: no library's, no frozen module."""
    path = Path(file)
    return path.is_absolute() and (_is_in(path, _OURS) or not _is_in(path, _LIBRARIES))


def _is_in(file: Path, folders: tuple[Path, ...]) -> bool:
    return any(file.is_relative_to(folder) for folder in folders)


def _readable(file: str) -> str:
    path, here = Path(file), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else file
