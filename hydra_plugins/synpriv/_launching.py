"""What all launchers have in common: jobs in, a result for each out, stop at the first failure."""

from __future__ import annotations

import zlib
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

import cloudpickle
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.synpriv._batch import Batch, Progress
from hydra_plugins.synpriv._composition import Composer
from hydra_plugins.synpriv._worker import not_run, run_folder


class SweepLauncher(Launcher):
    """A launcher whose jobs fail alone: whatever befalls one, the others are run.

    leaves_machine: its jobs may run on others. fail_fast: after the first failure no further job
    is started and running ones are ended.
    """

    leaves_machine = False

    def __init__(self, *, fail_fast: bool = False) -> None:
        if not isinstance(fail_fast, bool):
            raise ValueError(f"hydra.launcher.fail_fast={fail_fast}: must be true or false")
        self.fail_fast = fail_fast
        self._stopped = False
        self.planned: dict[tuple[str, ...], Path] = {}  # a job's overrides -> the folder of its run

    def setup(
        self,
        *,
        hydra_context: HydraContext,
        task_function: TaskFunction,
        config: DictConfig,
    ) -> None:
        self.hydra_context, self.task_function = hydra_context, task_function
        self.config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        from synpriv.results import sharing

        setup_globals()
        if self._stopped:  # in an earlier batch
            return [not_run(job) for job in job_overrides]
        sharing.require_locks(self.results)
        batch = Batch(
            job_overrides,
            self._folders(job_overrides),
            initial_job_idx,
            Progress(job_overrides),
            fail_fast=self.fail_fast,
        )
        self._run(batch)
        self._stopped = batch.stopped
        return batch.ended()

    def _folders(self, jobs: Sequence[Sequence[str]]) -> list[Path]:
        """The run of each job; Hydra's own sweeper plans none."""
        composer = Composer(self.hydra_context.config_loader, self.config)
        return [self.planned.get(tuple(j)) or run_folder(composer.compose(j)) for j in jobs]

    @abstractmethod
    def _run(self, batch: Batch) -> None:
        """Put a result for each job into the batch, or stop where it is stopped."""

    @property
    def results(self) -> Path:
        """Where the jobs' folders are made."""
        return Path(self.config.hydra.sweep.dir).absolute()

    @property
    def accelerator(self) -> str:
        """What the jobs ask for: auto, cpu or gpu."""
        return OmegaConf.select(self.config, "trainer.accelerator", default="auto")

    def shared(self) -> bytes:
        """What all jobs have in common, for `_worker`."""
        context = (self.hydra_context, self.task_function, self.config, Singleton.get_state())
        # A worker that is killed while it starts leaves nobody to read from its pipe: what is more
        # than the pipe holds, 64 kB, would be written for ever.
        return zlib.compress(cloudpickle.dumps(context))


def is_number(value: object, least: int = 0, *, integer: bool = False) -> bool:
    """Whether an option is a number that is large enough; Python counts booleans as numbers."""
    kinds = int if integer else int | float
    return isinstance(value, kinds) and not isinstance(value, bool) and value >= least


def at_least_one(name: str, value: object, *words: object) -> None:
    """ValueError unless an option is a positive integer, or one of these words."""
    if is_number(value, 1, integer=True) or value in words:
        return
    others = "".join(f", or {'null' if word is None else word}" for word in words)
    raise ValueError(f"hydra.launcher.{name}={value}: must be an integer, at least 1{others}")
