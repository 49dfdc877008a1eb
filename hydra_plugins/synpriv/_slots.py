"""Where the jobs of one machine run: a slot per CPU worker, or some per GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hydra_plugins.synpriv._launching import at_least_one
from synpriv import hardware


class Slots(NamedTuple):
    """What a user asks for, checked when a launcher is made and looked up on the machine itself."""

    num_workers: int | None = None
    devices: str | int | Sequence[int | str] = "auto"
    jobs_per_device: int | str = 1
    cores: int | None = None  # that a cluster lends, where it does not confine processes to them

    def check(self) -> None:
        """ValueError for what no machine can give."""
        at_least_one("num_workers", self.num_workers, None)
        at_least_one("jobs_per_device", self.jobs_per_device, "auto")
        if isinstance(self.devices, int | str) and self.devices != "auto":
            raise ValueError(
                f"hydra.launcher.devices={self.devices}: must be a list, [{self.devices}]"
            )

    def found(self, accelerator: str) -> list[str | None]:
        """One entry per worker: the GPU it sees, or None for a CPU worker."""
        gpus = hardware.Gpus([]) if accelerator == "cpu" else hardware.gpus()
        chosen = gpus.ids
        if not isinstance(self.devices, int | str) and accelerator != "cpu":
            asked = [str(device) for device in self.devices]
            name = f"hydra.launcher.devices=[{','.join(asked)}]"
            chosen = hardware.chosen_gpus(gpus.ids, asked, name)
        if not chosen:
            if accelerator == "gpu":
                raise ValueError("trainer.accelerator=gpu: no GPU here; use trainer=auto or cpu")
            return [None] * (self.num_workers or hardware.usable_cores())
        each = self.jobs_per_device
        if isinstance(each, str):
            each = hardware.jobs_per_gpu(gpus._replace(ids=chosen))
        # In turn, so that a few jobs spread over all GPUs; a job keeps one core busy.
        slots: list[str | None] = [gpu for _ in range(each) for gpu in chosen]
        most = max(len(chosen), self.cores or hardware.usable_cores())
        if len(slots) > most:
            print(f"note: {most} GPU workers instead of {len(slots)}: one per CPU core")
        return slots[:most]
