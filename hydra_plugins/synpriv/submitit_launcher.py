"""Launchers of Slurm jobs, or of processes like them, each of which is a pool on its node."""

from __future__ import annotations

import importlib.util
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra_plugins.synpriv import _clusters, _site
from hydra_plugins.synpriv._batch import Batch
from hydra_plugins.synpriv._journal import Journals
from hydra_plugins.synpriv._launching import SweepLauncher, at_least_one, is_number
from hydra_plugins.synpriv._pack import Pack, Planned
from hydra_plugins.synpriv._slots import Slots
from synpriv import config, hardware, interrupts

if TYPE_CHECKING:
    from submitit import Job


class SubmititLauncher(SweepLauncher):
    """Packs `seeds_per_job` jobs into one Slurm job, which runs them as the pool launcher does.

    executor: slurm (an array, `array_parallelism` at once) or local (one process after the other).
    A Slurm job that is killed loses what it had not finished; one that is preempted or timed out
    is requeued, at most `max_num_timeout` times, and goes on.
    """

    def __init__(
        self,
        *,
        executor: str = "slurm",
        seeds_per_job: int | None = 8,
        timeout_min: int | float | None = 240,
        partition: str | None = None,
        account: str | None = None,
        qos: str | None = None,
        gpus_per_node: int | None = None,
        cpus_per_task: int | None = 4,
        mem_gb: int | float | None = None,
        setup: Sequence[str] | None = None,
        additional_parameters: Mapping[str, Any] | None = None,
        array_parallelism: int = 256,
        max_num_timeout: int = 3,
        signal_delay_s: int = 90,
        jobs_per_device: int | str = 1,
        fail_fast: bool = False,
    ) -> None:
        super().__init__(fail_fast=fail_fast)
        if executor not in ("slurm", "local"):
            raise ValueError(f"hydra.launcher.executor={executor}: must be slurm or local")
        counts = {"gpus_per_node": gpus_per_node, "cpus_per_task": cpus_per_task}
        limits = {"timeout_min": timeout_min, "mem_gb": mem_gb}
        for name, count in (counts | {"seeds_per_job": seeds_per_job}).items():
            at_least_one(name, count, None)
        at_least_one("array_parallelism", array_parallelism)
        for name, limit in limits.items():
            if limit is not None and not (is_number(limit) and limit > 0):
                raise ValueError(f"hydra.launcher.{name}={limit}: must be a number above 0")
        for name, least in (
            ("max_num_timeout", max_num_timeout),
            ("signal_delay_s", signal_delay_s),
        ):
            if not is_number(least, integer=True):
                raise ValueError(f"hydra.launcher.{name}={least}: must be an integer, at least 0")
        given = counts | limits | {"partition": partition, "account": account, "qos": qos}
        given |= {"array_parallelism": array_parallelism, "signal_delay_s": signal_delay_s}
        given |= {"setup": config.plain(setup)}
        given |= {"additional_parameters": config.plain(additional_parameters)}
        self.options = {name: value for name, value in given.items() if value is not None}
        self.executor, self.seeds_per_job = executor, seeds_per_job
        self.leaves_machine = executor == "slurm"
        self.max_num_timeout = max_num_timeout
        self.slots = Slots(cpus_per_task, jobs_per_device=jobs_per_device, cores=cpus_per_task)
        self.slots.check()
        _require(executor)

    def _run(self, batch: Batch) -> None:
        away = self.leaves_machine
        with _site.opened(self.results, self.shared(), leaves_machine=away) as site:
            _Submitted(self._cluster(site.folder), batch, site).run(self._packs(batch, site))

    def _cluster(self, folder: Path) -> _clusters.Cluster:
        if self.executor == "local":
            return _clusters.Local(folder, self.options, self.max_num_timeout)
        gpus = {"gpus_per_node": 1} if self.accelerator == "gpu" else {}
        return _clusters.Slurm(folder, gpus | self.options, self.max_num_timeout)

    def _visible(self) -> str | None:
        """The GPUs of a local job: submitit shows those that it asks for, none by itself."""
        if self.executor != "local" or self.accelerator == "cpu":
            return None
        return os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(hardware.gpus().ids)

    def _packs(self, batch: Batch, site: _site.Site) -> list[Pack]:
        each = self.seeds_per_job or len(batch.jobs)
        planned = zip(range(len(batch.jobs)), batch.jobs, batch.folders, strict=True)
        jobs = [Planned(*each) for each in planned]
        return [
            Pack(
                site,
                jobs[start : start + each],
                self.slots,
                self.accelerator,
                batch.first + start,
                fail_fast=self.fail_fast,
                visible=self._visible(),
                stays_alone=self.leaves_machine,
            )
            for start in range(0, len(jobs), each)
        ]


def _require(executor: str) -> None:
    name = f"hydra/launcher=submitit_{executor}"
    if importlib.util.find_spec("submitit") is None:
        raise ValueError(f"{name}: submitit is not installed; pip install 'synpriv[slurm]'")
    if executor == "slurm" and not _clusters.has_slurm():
        raise ValueError(
            f"{name}: there is no sbatch here; start it where Slurm jobs can be submitted, "
            "or use hydra/launcher=pool"
        )


class _Submitted:
    """The packs of a batch on their way through a cluster."""

    def __init__(self, cluster: _clusters.Cluster, batch: Batch, site: _site.Site) -> None:
        self.cluster, self.batch, self.site = cluster, batch, site
        self.journals = Journals(site.folder)
        self.running: dict[str, tuple[Job[None], Pack]] = {}
        self.every_s = 0.5

    def run(self, packs: Sequence[Pack]) -> None:
        waiting = list(packs)
        many = f"{len(packs)} cluster job{'s' * (len(packs) > 1)}"
        print(f"jobs: {len(self.batch.jobs)}, in {many}", flush=True)
        try:
            while (waiting or self.running) and not self.batch.stopped:
                free = len(waiting)
                if self.cluster.in_turn:
                    free = min(free, 1 - len(self.running))
                self._submit([waiting.pop(0) for _ in range(free)])
                time.sleep(self.every_s)
                self.journals.pass_on(self.batch)
                waiting += self._settle()
                self.batch.tell.show(self.batch.returns)
        finally:
            self.cluster.cancel(job for job, _ in self.running.values())

    def _submit(self, packs: Sequence[Pack]) -> None:
        if packs:
            with interrupts.deaf_children():  # an interrupted submission would leave a job alone
                for job, pack in zip(self.cluster.submit(packs), packs, strict=True):
                    self.running[job.job_id] = job, pack

    def _settle(self) -> list[Pack]:
        """Let go of the packs that are over; what is to be submitted again."""
        again = []
        ended = self.cluster.over(job for job, _ in self.running.values())
        for name, (job, pack) in list(self.running.items()):
            has_result = job.paths.result_pickle.exists()
            if not has_result and name not in ended:
                continue
            del self.running[name]
            self.journals.pass_on(self.batch)  # what it said last
            left = [planned for planned in pack.jobs if planned.number not in self.batch.returns]
            if not left:
                continue
            reason = _said(job) if has_result else ended[name]
            words = f"its cluster job {name} ended: {reason}"
            retried = [planned for planned in left if self._lost(planned.number, words, reason)]
            if retried:
                again.append(pack.of(retried))
            else:
                self.site.keep()
                self.batch.tell.say(f"{job.paths.stderr}: what cluster job {name} said")
        return again

    def _lost(self, i: int, words: str, state: str) -> bool:
        if state in _clusters.NODE_LOST:
            return self.batch.lose(i, words)
        self.batch.died(i, words)
        return False


def _said(job: Job[None]) -> str:
    """Why a job that came to its end has nothing to say of some of its seeds."""
    lines = str(job.exception() or "without a word").strip().splitlines()
    if any("timed-out too many times" in line for line in lines):
        return "out of time; set a larger hydra.launcher.timeout_min or max_num_timeout"
    told = [line for line in lines if re.match(r"\w[\w.]*(Error|Exception): ", line)]
    return (told or lines)[-1]
