"""Ctrl-C and SIGTERM (timeout, scancel, docker stop) end a command alike, with one line."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

LINE = "interrupted: finished runs are kept, the same command continues"
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_NOT_FOR_CHILDREN = (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
_REPEAT_S = 3.0  # `timeout` sends SIGTERM twice at once; the second would end the tidying up


_came: list[int] = []  # the signal that was raised last


class Terminated(KeyboardInterrupt):
    """SIGTERM; whatever handles Ctrl-C handles it too."""


def exit_code(stop: KeyboardInterrupt) -> int:
    """What a shell reports of a program that a signal ended.

    The signal counts where it is known: Ray's core makes a plain KeyboardInterrupt of either.
    """
    if _came:
        return 128 + _came[-1]
    return 128 + (signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT)


def exit_at_once() -> None:
    """Print the line and exit on a signal: while imports run there is nothing to tidy up."""
    _handle(_leave)


def raise_in_main() -> None:
    """Raise KeyboardInterrupt or Terminated on a signal, once for one that is repeated at once.

    Later imports are still left at once: torch imports Python from C++, which an exception aborts.
    """
    last = -_REPEAT_S
    _came.clear()

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal last
        if _is_importing(frame):
            _leave(number, frame)
        before, last = last, time.monotonic()
        if last - before >= _REPEAT_S:
            _came.append(number)
            raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    _handle(stop)


def _leave(number: int, _: FrameType | None) -> None:
    os.write(2, f"{LINE}\n".encode())
    os._exit(128 + number)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _handle(handler: Callable[[int, FrameType | None], None]) -> None:
    for number in _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # as a shell starts background jobs
            signal.signal(number, handler)


@contextmanager
def deaf_children() -> Iterator[None]:
    """Threads and processes begun inside never hear Ctrl-C, from their first instruction on.

    Nor a cluster's SIGUSR1 and SIGUSR2, which are for the job's first process and end any other.
    Processes that such threads begin later do not either. A signal to this process waits for the
    end of the block: an interrupted start would leave a process that nobody knows.
    """
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    _handle(lambda number, _: came.append(number))  # a mask leaves them to some library's thread
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _NOT_FOR_CHILDREN)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def hear_again() -> None:
    """End the deafness of a process that was begun in `deaf_children` and has workers itself."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _NOT_FOR_CHILDREN)
