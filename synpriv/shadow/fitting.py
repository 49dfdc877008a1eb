"""Fitting one method with Lightning: the only file with a Trainer."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import pytorch_lightning as lightning
import torch
from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger

from synpriv.methods.base import Method, Release
from synpriv.tracking import Tracker


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


def fit(method: Method, trainer: DictConfig, tracker: Tracker, stage: str) -> Release:
    """Train a method to its last iterate and take its release."""
    if trainer.channels_last:
        method.to(memory_format=torch.channels_last)
    loop = lightning.Trainer(
        max_epochs=method.max_epochs,
        accelerator=trainer.accelerator,
        devices=1,
        precision=trainer.precision,
        logger=_Forward(tracker, stage),
        log_every_n_steps=1,  # of Lightning's steps, each of which is a chunk of ours
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    try:
        loop.fit(method)
    except SystemExit as stop:
        if stop.code == 1 and loop.interrupted:  # Lightning's way to pass Ctrl-C on
            raise KeyboardInterrupt from stop
        raise
    return method.release()


def device_of(trainer: DictConfig) -> torch.device:
    """Where Lightning trains; it leaves the module on the CPU afterwards."""
    if trainer.accelerator == "gpu" and not torch.cuda.is_available():
        raise ValueError("trainer.accelerator=gpu: no CUDA device here; use trainer=auto or cpu")
    on_gpu = trainer.accelerator != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if on_gpu else "cpu")


def quieten() -> None:
    """Keep Lightning from printing a banner, a tip and a device table per shadow model."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*will run with no optimizer.*")
    warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")
    warnings.filterwarnings("ignore", message=".*GPU available but not used.*")
