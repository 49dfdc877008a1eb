"""What the stages of a run cost."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from synpriv.results.store import METRICS


@dataclass
class Stage:
    """What one part of a run cost."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_mb: float = 0.0  # of the process so far on a CPU, of this stage on a GPU

    def __add__(self, other: Stage) -> Stage:
        """Of a stage that was interrupted and taken up again."""
        return Stage(
            round(self.wall_s + other.wall_s, 3),
            round(self.cpu_s + other.cpu_s, 3),
            max(self.peak_mb, other.peak_mb),
        )


class Costs:
    """Wall seconds, CPU seconds and peak memory per stage."""

    def __init__(self) -> None:
        self.stages: dict[str, Stage] = {}
        self._running = dict[str, tuple[float, float]]()  # when a stage began

    def add_earlier(self, stages: Mapping[str, Stage]) -> None:
        """What interrupted processes have spent on what is gone on with."""
        for name, stage in stages.items():
            self.stages[name] = self.stages.get(name, Stage()) + stage

    def so_far(self) -> dict[str, Stage]:
        """All stages, with what those that are not over have cost until now."""
        now = dict(self.stages)
        for name, (wall, cpu) in self._running.items():
            part = Stage(time.perf_counter() - wall, time.process_time() - cpu)
            now[name] = now.get(name, Stage()) + part
        return now

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        on_gpu = torch.cuda.is_available() and torch.cuda.is_initialized()
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        wall, cpu = self._running[name] = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            del self._running[name]
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            torch.cuda.synchronize()
            peak = torch.cuda.max_memory_allocated() / 2**20
        else:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        self.stages[name] = self.stages.get(name, Stage()) + Stage(
            time.perf_counter() - wall,
            time.process_time() - cpu,
            round(peak, 1),
        )

    def summary(self, basis: Mapping[str, Path]) -> dict[str, Any]:
        """Seconds of one shadow model, the runs it builds on included; public ones are paid once.

        basis: the files of those runs that are used.
        """
        before = {
            name: json.loads((file.parent / METRICS).read_bytes()) for name, file in basis.items()
        }
        own = sum(self.stages[name].wall_s for name in ("fit", "student") if name in self.stages)
        private = sum(run["train_s"] for name, run in before.items() if name != "public_model")
        return {
            "train_s": round(own + private, 3),
            "stages": {name: asdict(stage) for name, stage in self.stages.items()},
            "builds_on": {
                name: {
                    "cell": run["cell"],
                    "train_s": run["train_s"],
                    "sha256": run["artefacts"][basis[name].name],
                }
                for name, run in before.items()
            },
        }
