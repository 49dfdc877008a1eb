"""What the stages of a run cost."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

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

    def __add__(self, other: Stage) -> Stage:
        """Of a stage that was interrupted and taken up again."""
        rises = [part.rise_mb for part in (self, other) if part.rise_mb is not None]
        counts = [part.flops for part in (self, other) if part.flops is not None]
        return Stage(
            round(self.wall_s + other.wall_s, 3),
            round(self.cpu_s + other.cpu_s, 3),
            max(self.peak_mb, other.peak_mb),
            max(rises, default=None),
            sum(counts) if counts else None,
        )


class _Running(NamedTuple):
    """A stage that is not over: when it began, and what counts its FLOPs."""

    wall: float
    cpu: float
    counted: flops.Count
    watch: Watch

    def so_far(self) -> Stage:
        peak = self.watch.read()  # waits for a GPU
        wall_s, cpu_s = time.perf_counter() - self.wall, time.process_time() - self.cpu
        return Stage(wall_s, cpu_s, peak.peak_mb, peak.rise_mb, self.counted.total)


class Costs:
    """Wall seconds, CPU seconds, FLOPs and peak memory per stage."""

    def __init__(self) -> None:
        self.stages: dict[str, Stage] = {}
        self.parts: dict[str, dict[str, float]] = {}  # FLOPs of one image, by stage and part
        self._running = dict[str, _Running]()

    def add_earlier(
        self, stages: Mapping[str, Stage], parts: Mapping[str, dict[str, float]]
    ) -> None:
        """What interrupted processes have spent on what is gone on with, and counted of it."""
        for name, stage in stages.items():
            self._add(name, stage)
        self.parts.update(parts)

    def forget_earlier(self, name: str) -> None:
        """What they have spent on a stage that is running here, and was begun anew."""
        self.stages.pop(name, None)
        self.parts[name].clear()

    def so_far(self) -> dict[str, Stage]:
        """All stages, with what those that are not over have cost until now."""
        now = dict(self.stages)
        for name, running in self._running.items():
            now[name] = now.get(name, Stage()) + running.so_far()
        return now

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure a part of the run, in addition to what interrupted processes spent on it."""
        watch = Watch()
        with flops.counted(self.parts.setdefault(name, {})) as count:
            running = _Running(time.perf_counter(), time.process_time(), count, watch)
            self._running[name] = running
            try:
                yield
            finally:
                del self._running[name]
        self._add(name, running.so_far())

    def _add(self, name: str, part: Stage) -> None:
        self.stages[name] = self.stages.get(name, Stage()) + part

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
