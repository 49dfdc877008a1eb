"""What the stages of a run cost."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from synpriv.methods import flops
from synpriv.results.store import METRICS
from synpriv.shadow.peaks import Watch

TRAINED = ("fit", "student")  # stages that are a training


@dataclass
class Stage:
    """What one part of a run cost."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_mb: float = 0.0  # of the process on a CPU, of torch on a GPU
    rise_mb: float | None = None  # above what was held before; None: the peak is one so far
    flops: float | None = None  # None: nothing of it is counted


class Costs:
    """Wall seconds, CPU seconds, FLOPs and peak memory per stage."""

    def __init__(self) -> None:
        self.stages: dict[str, Stage] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Measure a part; its Stage is filled in when it is over."""
        watch, stage = Watch(), Stage()
        wall, cpu = time.perf_counter(), time.process_time()
        with flops.counted() as count:
            yield stage
        peak = watch.read()
        stage.wall_s = round(time.perf_counter() - wall, 3)
        stage.cpu_s = round(time.process_time() - cpu, 3)
        stage.peak_mb, stage.rise_mb = peak.peak_mb, peak.rise_mb
        stage.flops = count.total
        self.stages[name] = stage

    def summary(self, basis: Mapping[str, Path]) -> dict[str, Any]:
        """Seconds and FLOPs of one shadow model, the runs it builds on included.

        Public ones are paid once. FLOPs are None where those of a training are not known. basis:
        the files of those runs that are used.
        """
        before = {
            name: json.loads((file.parent / METRICS).read_bytes()) for name, file in basis.items()
        }
        own = [self.stages[name] for name in TRAINED if name in self.stages]
        private = [run for name, run in before.items() if name != "public_model"]
        seconds = sum(stage.wall_s for stage in own) + sum(run["train_s"] for run in private)
        counts = [stage.flops for stage in own] + [run.get("train_flops") for run in private]
        known = [count for count in counts if count is not None]
        return {
            "train_s": round(seconds, 3),
            "train_flops": sum(known) if len(known) == len(counts) else None,
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
