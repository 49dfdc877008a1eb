"""The default launcher: a pool of persistent worker processes, one per device slot or CPU core."""

from __future__ import annotations

from collections.abc import Sequence

from hydra_plugins.synpriv import _pool
from hydra_plugins.synpriv._batch import Batch
from hydra_plugins.synpriv._launching import SweepLauncher
from hydra_plugins.synpriv._slots import Slots


class PoolLauncher(SweepLauncher):
    """Runs jobs on `num_workers` CPU workers, or on `jobs_per_device` workers per GPU."""

    def __init__(
        self,
        num_workers: int | None = None,
        devices: str | int | Sequence[int | str] = "auto",
        jobs_per_device: int | str = 1,
        fail_fast: bool = False,
    ) -> None:
        super().__init__(fail_fast=fail_fast)
        self.asked = Slots(num_workers, devices, jobs_per_device)
        self.asked.check()
        self._slots: list[str | None] | None = None

    def _run(self, batch: Batch) -> None:
        if self._slots is None:  # asking for GPUs takes seconds, and a sweep may have many batches
            self._slots = self.asked.found(self.accelerator)
        slots = self._slots[: len(batch.jobs)]
        kind = "CPU" if slots[0] is None else "GPU"
        print(f"jobs: {len(batch.jobs)}, {kind} workers: {len(slots)}", flush=True)
        _pool.run(batch, slots, self.shared())
