"""Stands between a worker and somebody's program, and ends the program when the worker is gone.

Run as a script of its own, `python watch.py FOLDER PROGRAM ARGUMENT...`, it imports nothing but the
standard library. Its standard input is a pipe that the worker holds open: however the worker ends,
SIGKILL included, the pipe closes, and the program with all that it started is ended, and the folder
of its files removed. The worker's own closing means the same. Exits as a shell would.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

CANNOT_START = 127  # as a shell's
GRACE_S = 3.0  # between SIGTERM and SIGKILL


def main(folder: str, command: list[str]) -> int:
    """Run the program to its end; its exit code, 128 + n if a signal ended it."""
    try:
        program = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        os.write(1, f"{command[0]}: {error.strerror}\n".encode())
        return CANNOT_START
    alone = threading.Event()
    tidying = threading.Thread(target=_end_when_alone, args=(program, folder, alone), daemon=True)
    tidying.start()
    code = program.wait()
    _signal(program.pid, signal.SIGKILL)  # what it has left running
    if alone.is_set():
        tidying.join()
    return code if code >= 0 else 128 - code


def _end_when_alone(program: subprocess.Popen[bytes], folder: str, alone: threading.Event) -> None:
    while os.read(0, 1):
        pass
    alone.set()
    _signal(program.pid, signal.SIGTERM)
    last = time.monotonic() + GRACE_S
    while program.returncode is None and time.monotonic() < last:
        time.sleep(0.05)
    _signal(program.pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(128 + signal.SIGTERM)


def _signal(group: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)


if __name__ == "__main__":
    os._exit(main(sys.argv[1], sys.argv[2:]))
