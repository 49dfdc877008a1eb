"""Fitting one method with Lightning: the only file with a Trainer."""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Callable
from typing import Any

import pytorch_lightning as lightning
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger

from synpriv import hardware
from synpriv.methods import steps
from synpriv.methods.base import Method, Release
from synpriv.shadow import cuda
from synpriv.shadow.checkpoints import Checkpoint
from synpriv.shadow.resuming import CannotResumeError, Chunks
from synpriv.tracking import Tracker

log = logging.getLogger(__name__)


class _Forward(Logger):
    """Hands Lightning's epoch metrics to a tracker."""

    def __init__(self, tracker: Tracker, stage: str) -> None:
        super().__init__()
        self._tracker, self._stage = tracker, stage

    @property
    def name(self) -> str:
        return self._stage

    @property
    def version(self) -> int:
        return 0

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        epoch = int(metrics.pop("epoch", 0))
        self._tracker.log({f"{self._stage}/{key}": value for key, value in metrics.items()}, epoch)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """The tracker holds the cell's config already."""


class _Keeping(lightning.Callback):
    """Tells when the first step is to come, and when the last one has been taken."""

    def __init__(self, chunks: Chunks) -> None:
        self.chunks = chunks

    def on_train_epoch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Begin with the epoch that was kept; the loader does the rest."""
        if self.chunks.graph is None and (epoch := self.chunks.begin()):
            progress: Any = trainer.fit_loop.epoch_progress.current
            progress.ready = epoch + 1
            progress.started = progress.processed = progress.completed = epoch

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """No chunk comes after the last epoch's, but much may: a diffusion model's sampling."""
        last = trainer.current_epoch + 1 == trainer.max_epochs
        if last and self.chunks.moved and self.chunks.checkpoint.due():
            self.chunks.keep()


def _attributes_of_lightning() -> frozenset[str]:
    return frozenset(vars(lightning.LightningModule())) - frozenset(vars(torch.nn.Module()))


def fit(
    method: Method,
    trainer: DictConfig,
    tracker: Tracker,
    stage: str,
    checkpoint: Checkpoint | None = None,
) -> Release:
    """Train a method to its last iterate and take its release.

    checkpoint: where the training is kept while it runs, and taken up if one of this stage is
    there; on a CPU the release is the same to the last bit.
    """
    if trainer.channels_last:
        method.to(memory_format=torch.channels_last)
    method.stepping = trainer.step
    chunks = None
    if checkpoint is not None and checkpoint.wanted:
        chunks = Chunks(method, checkpoint, stage, _attributes_of_lightning())
    loop = lightning.Trainer(
        max_epochs=method.max_epochs,
        accelerator=device_of(trainer).type,
        devices=1,
        # Else Slurm's variables make it expect other tasks of this job, and requeue it by itself.
        plugins=[LightningEnvironment()],
        precision=trainer.precision,
        benchmark=trainer.cudnn_benchmark,
        logger=_Forward(tracker, stage),
        log_every_n_steps=1,  # of Lightning's steps, each of which is a chunk of ours
        enable_checkpointing=False,  # Lightning's own resumes at the beginning of an epoch alone
        callbacks=[] if chunks is None else [_Keeping(chunks)],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    try:
        loop.fit(method, chunks)
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):  # Lightning's way to pass it on
            raise stop.__context__ from None
        raise
    return method.release()


def fitted(
    make: Callable[[], Method],
    seed: int,
    trainer: DictConfig,
    tracker: Tracker,
    *,
    stage: str,
    checkpoint: Checkpoint | None,
) -> tuple[Method, Release]:
    """A method after its training, which draws everything from `seed`, and its release."""
    lightning.seed_everything(seed, verbose=False)
    method = make()
    try:
        return method, fit(method, trainer, tracker, stage, checkpoint)
    except CannotResumeError as error:
        assert checkpoint is not None
        log.warning("%s: %s: the training begins anew", checkpoint.file, error)
        checkpoint.forget_training(stage)
    return fitted(make, seed, trainer, tracker, stage=stage, checkpoint=checkpoint)


def device_of(trainer: DictConfig) -> torch.device:
    """Where Lightning trains; it leaves the module on the CPU afterwards.

    Never the CPU in silence: ValueError where a GPU is asked for or there, but torch cannot use it.
    """
    if trainer.accelerator == "cpu":
        return torch.device("cpu")
    if not (why := cuda.why_not()):
        return torch.device("cuda")
    if trainer.accelerator == "gpu":
        raise ValueError(
            f"trainer.accelerator=gpu: no CUDA device here ({why}); use trainer=auto or cpu"
        )
    _refuse_unusable_gpus()
    return torch.device("cpu")


@functools.cache
def _refuse_unusable_gpus() -> None:
    hardware.gpus()  # seconds, where something hints at a GPU


def no_tf32() -> None:
    """Make 32-true what it says: torch by default runs a GPU's convolutions in TF32 (10 bits).

    In matrix products, where DP-SGD measures and clips norms, TF32 would exceed the clipping bound.
    """
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def arithmetic(trainer: DictConfig) -> dict[str, str | bool]:
    """What numbers are computed in; TF32 concerns GPUs alone."""
    return {
        "precision": trainer.precision,
        "channels_last": trainer.channels_last,
        "classifier_step": steps.taken(trainer.step, device_of(trainer)),
        "tf32_convolutions": torch.backends.cudnn.allow_tf32,
        "tf32_matmul": torch.backends.cuda.matmul.allow_tf32,
    }


def quieten() -> None:
    """Keep Lightning from printing a banner, a tip and a device table per shadow model."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*`srun` command is available.*")
    warnings.filterwarnings("ignore", message=".*across ranks is zero.*")  # no iterations
    warnings.filterwarnings("ignore", message=".*will run with no optimizer.*")
    warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")
    warnings.filterwarnings("ignore", message=".*GPU available but not used.*")
