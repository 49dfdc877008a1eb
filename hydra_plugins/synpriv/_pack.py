"""Jobs that one cluster job runs, on the node it got, in a pool of its own."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hydra.core.utils import JobStatus

from hydra_plugins.synpriv import _pool
from hydra_plugins.synpriv._batch import Batch
from hydra_plugins.synpriv._journal import Journal
from hydra_plugins.synpriv._site import Site
from hydra_plugins.synpriv._slots import Slots
from synpriv import interrupts

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission


class Planned(NamedTuple):
    """A job of a launcher: its number there, its overrides and the folder of its run."""

    number: int
    overrides: Sequence[str]
    folder: Path


class Pack:
    """What submitit calls on a node; its results are in a journal, whatever happens to it.

    visible: the GPUs that it may see; None = those that it is given. stays_alone: whether it goes
    on when its launcher was killed.
    """

    def __init__(
        self,
        site: Site,
        jobs: Sequence[Planned],
        slots: Slots,
        accelerator: str,
        first: int,
        *,
        fail_fast: bool,
        visible: str | None = None,
        stays_alone: bool = True,
    ) -> None:
        self.site, self.jobs, self.slots, self.accelerator = site, list(jobs), slots, accelerator
        self.first, self.fail_fast = first, fail_fast
        self.visible, self.stays_alone = visible, stays_alone
        self._batch: Batch | None = None  # while it runs

    def __call__(self) -> None:
        numbers = [job.number for job in self.jobs]
        journal = Journal(self.site.folder, f"jobs-{numbers[0]}", numbers)
        try:
            # Not submitit's, which ignores a SIGTERM: workers get it too, and must not be replaced.
            interrupts.raise_in_main()
            interrupts.hear_again()
            threading.Thread(target=self._leave_with_parent, daemon=True).start()
            self.site.enter()
            if self.visible is not None:
                os.environ["CUDA_VISIBLE_DEVICES"] = self.visible
            self._run(journal)
        except ValueError as error:
            journal.fatal(str(error))
        except KeyboardInterrupt as stop:
            sys.exit(interrupts.exit_code(stop))

    def _run(self, journal: Journal) -> None:
        jobs = [job.overrides for job in self.jobs]
        folders = [job.folder for job in self.jobs]
        self._batch = Batch(jobs, folders, self.first, journal, fail_fast=self.fail_fast)
        slots = self.slots.found(self.accelerator)[: len(jobs)]
        kind, host = "CPU" if slots[0] is None else "GPU", os.uname().nodename
        journal.say(f"{host}: jobs: {len(jobs)}, {kind} workers: {len(slots)}")
        _pool.run(self._batch, slots, self.site.shared)

    def checkpoint(self) -> DelayedSubmission:
        """What is to be run when the node is taken away, called by submitit on a signal."""
        from submitit.helpers import DelayedSubmission

        done = self._batch.returns if self._batch else {}
        left = [
            job
            for i, job in enumerate(self.jobs)
            if i not in done or done[i].status != JobStatus.COMPLETED
        ]
        return DelayedSubmission(self.of(left or self.jobs))

    def of(self, jobs: Sequence[Planned]) -> Pack:
        """A pack like this one, of other jobs."""
        return Pack(
            *(self.site, jobs, self.slots, self.accelerator, self.first),
            fail_fast=self.fail_fast,
            visible=self.visible,
            stays_alone=self.stays_alone,
        )

    def _leave_with_parent(self) -> None:
        """End when what started this job was killed and could not end it."""
        from synpriv.results import sharing

        parent = os.getppid()
        while os.getppid() == parent:
            time.sleep(1.0)
            if not self.stays_alone and not sharing.is_present(self.site.folder):
                break
        os.kill(os.getpid(), signal.SIGTERM)
