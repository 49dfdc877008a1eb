"""The highest memory of a part of a run, of a GPU where torch uses one, else of the process."""

from __future__ import annotations

import re
import resource
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

_OWN = Path("/proc/self")
_RESET = "5"  # of the highest resident memory, see proc_pid_clear_refs(5)


@dataclass(frozen=True)
class Peak:
    """Megabytes, 2^20 bytes each."""

    peak_mb: float
    rise_mb: float | None  # above what was held before; None: the peak is of the process so far


class Watch:
    """Watches from when it is made.

    A worker keeps memory of the runs before, so a peak on a CPU holds Python, libraries, data and
    what is not given back; the rise is what a part needed beyond. Where the system does not reset
    the highest memory (Linux does), there is only the peak of the process so far.
    """

    def __init__(self) -> None:
        self._before: float | None = 0.0
        if _on_gpu():
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated() / 2**20
        self._resident = _resident("VmRSS") if _reset() else None

    def read(self) -> Peak:
        """The peak until now."""
        if _on_gpu():
            torch.cuda.synchronize()
            peak, before = torch.cuda.max_memory_allocated() / 2**20, self._before
        else:
            before = self._resident
            peak = _so_far() if before is None else _resident("VmHWM")
        return Peak(round(peak, 1), None if before is None else round(max(0.0, peak - before), 1))


def _on_gpu() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_initialized()


def _reset() -> bool:
    """Begin anew with the highest resident memory of this process, where the system can."""
    try:
        (_OWN / "clear_refs").write_text(_RESET)
    except OSError:  # no Linux, or a container that does not allow it
        return False
    return True


def _resident(name: str) -> float:
    found = re.search(rf"^{name}:\s*(\d+) kB$", (_OWN / "status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) / 2**10


def _so_far() -> float:
    """Of the process since it began; macOS tells bytes, Linux kilobytes."""
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
