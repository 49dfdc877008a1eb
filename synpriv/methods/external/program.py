"""Somebody's program, run on an npz archive to make another: its own process and environment."""

from __future__ import annotations

import logging
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from synpriv import terminal
from synpriv.methods.external import watch

log = logging.getLogger(__name__)
T = TypeVar("T")
WHERE = "method.command"
HEAD, TAIL = 2**16, 2**13  # bytes of what a program says that are kept
LINE = 2**10  # of one line
SHOWN = 200  # characters of its last line in an error
_RECORD = 64  # that the log adds to a line
_CHUNK = 2**16


def run(
    command: Sequence[str],
    arrays: Mapping[str, NDArray],
    *,
    values: Mapping[str, str],
    timeout_s: float,
    read: Callable[[Path], T],
) -> T:
    """What `read` finds in the archive that a program has made of `arrays`.

    In the words of the command {input} and {output} stand for the two archives, and {name} for
    `values`; a leading ~ is the home folder, as in a shell. What it says is logged, of a lot the
    beginning and the end. ValueError in one line where it ends with an error, runs too long or
    writes nothing.
    """
    with tempfile.TemporaryDirectory(prefix="synpriv-", ignore_cleanup_errors=True) as folder:
        given, made = Path(folder, "input.npz"), Path(folder, "output.npz")
        np.savez(given, allow_pickle=False, **arrays)
        said = {"input": str(given), "output": str(made), **values}
        _to_its_end([fill(os.path.expanduser(word), said) for word in command], folder, timeout_s)
        if not made.is_file():
            raise ValueError(f"{WHERE}: wrote no file to {{output}}; must be an npz archive there")
        return read(made)


def fill(word: str, values: Mapping[str, str]) -> str:
    """A word of a command with its placeholders filled in; other braces stay."""
    names = "|".join(values)
    return re.sub(rf"\{{({names})\}}", lambda found: values[found[1]], word)


def _to_its_end(command: Sequence[str], folder: str, timeout_s: float) -> None:
    last, output = time.monotonic() + timeout_s, Output()
    watcher = subprocess.Popen(
        [sys.executable, "-I", "-S", watch.__file__, folder, *command],
        stdin=subprocess.PIPE,  # closed when this process ends, however that is
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C is this process's to hear
    )
    assert watcher.stdin is not None
    assert watcher.stdout is not None
    try:
        in_time = _listen(watcher, output, last)
        output.finish()
    finally:
        watcher.stdin.close()
        code = watcher.wait()
        watcher.stdout.close()
    if not in_time:
        raise ValueError(
            f"{WHERE}: still running after method.timeout_s={timeout_s:g} seconds, and was ended"
        )
    if code != 0:
        shown = output.last[:SHOWN] + "..." * (len(output.last) > SHOWN)
        last_words = f"; it said last: {shown}" if shown else ""
        raise ValueError(f"{WHERE}: {_ended(code)}{last_words} (run.log has all of it)")


def _listen(watcher: subprocess.Popen[bytes], output: Output, last: float) -> bool:
    """Log what is said until the program ends; False if that is not before `last`."""
    assert watcher.stdout is not None
    pipe, is_open = watcher.stdout.fileno(), True
    while (left := last - time.monotonic()) > 0:
        ended = watcher.poll() is not None  # asked before the pipe, which may hold its last words
        if is_open and select.select([pipe], [], [], 0 if ended else min(left, 0.5))[0]:
            chunk = os.read(pipe, _CHUNK)
            output.hear(chunk)
            is_open = bool(chunk)
        elif ended:
            return True
        elif not is_open:
            time.sleep(min(left, 0.05))
    return False


def _ended(code: int) -> str:
    if code > 128 and code - 128 in set(signal.Signals):
        name = signal.Signals(code - 128).name
        return f"ended by {name}" + ", out of memory?" * (name == "SIGKILL")
    return f"exit code {code}"


class Output:
    """What a program says, line by line in the log: the first `HEAD` bytes and the last `TAIL`."""

    def __init__(self) -> None:
        self.last = ""  # line that says anything
        self._rest = b""  # of a line that goes on, then the end of all that is not logged yet
        self._logged = self._left_out = 0

    def hear(self, chunk: bytes) -> None:
        """The next bytes; a line may be in several chunks, and is cut where it is long."""
        self._rest += chunk
        while self._logged < HEAD and (line := self._next_line()) is not None:
            self._log(line)
        if self._logged >= HEAD:  # a gigabyte is not looked at line by line
            self._left_out += max(0, len(self._rest) - TAIL)
            self._rest = self._rest[-TAIL:]

    def finish(self) -> None:
        """Log what was held back."""
        if self._left_out:
            log.info("... %s bytes left out ...", f"{self._left_out:,}")
        for line in self._rest.splitlines():
            self._log(line)

    def _next_line(self) -> bytes | None:
        """The first line that is whole, or a long one's beginning; None if there is none yet."""
        line, end, rest = self._rest.partition(b"\n")
        if not end and len(line) < LINE:
            return None
        self._rest = rest if end else b""
        return line

    def _log(self, line: bytes) -> None:
        text = terminal.one_line(line[:LINE].decode("utf-8", "replace"))
        self._logged += len(line) + _RECORD
        self.last = text or self.last
        log.info("%s", text)
