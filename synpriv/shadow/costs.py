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


class Costs:
    """Wall seconds, CPU seconds and peak memory per stage."""

    def __init__(self) -> None:
        self.stages: dict[str, Stage] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        on_gpu = torch.cuda.is_available() and torch.cuda.is_initialized()
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            torch.cuda.synchronize()
            peak = torch.cuda.max_memory_allocated() / 2**20
        else:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        self.stages[name] = Stage(
            round(time.perf_counter() - wall, 3),
            round(time.process_time() - cpu, 3),
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
