"""One shadow model from its config: split, fit, student, evidence.

Everything heavy (torch, Lightning) is imported here, so that a finished cell is read without it.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import inspect
import logging
import platform
import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import safetensors.torch
import torch
from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger

from synpriv import query, store
from synpriv.audit_split import AuditSplit, make_split, run_seed
from synpriv.config import build
from synpriv.costs import Costs
from synpriv.datasets import Source, class_balanced, is_own_mean, with_public
from synpriv.methods.base import Method, Release
from synpriv.models import Network
from synpriv.tracking import Tracker

log = logging.getLogger(__name__)
NetworkFactory = Callable[[], Network]


def load_source(cfg: DictConfig) -> Source:
    """The data set's pools: subsets taken, public pool chosen and checked."""
    dataset = cfg.dataset
    source = build(dataset.load, "dataset.load")()
    _check_constants(source, dataset)
    subset = functools.partial(class_balanced, seed=0)
    source = replace(
        source,
        private=subset(source.private, dataset.num_train, name="num_train"),
        test=subset(source.test, dataset.num_test, name="num_test"),
        own_constants=is_own_mean(source.private.images, dataset.mean),
    )
    if cfg.public is None:
        return with_public(source, None)
    pool = build(cfg.public.load, "public.load")().private
    return with_public(source, subset(pool, cfg.public.num_train, name="num_train"))


def _check_constants(source: Source, dataset: DictConfig) -> None:
    channels = source.private.images.shape[1]
    for name in ("mean", "std"):
        if len(dataset[name]) not in (1, channels):
            raise ValueError(
                f"dataset.{name}={list(dataset[name])}: must be one number, "
                f"or one for each of the {channels} channels"
            )


def network_factory(
    node: DictConfig, where: str, source: Source, cfg: DictConfig
) -> NetworkFactory:
    """A factory of freshly initialised networks that fit the data set."""
    images = source.private.images
    return functools.partial(
        build(node, where),
        channels=images.shape[1],
        size=images.shape[2],
        num_classes=source.num_classes,
        mean=list(cfg.dataset.mean),
        std=list(cfg.dataset.std),
    )


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


def obtain(
    cfg: DictConfig, split: AuditSplit, source: Source, tracker: Tracker, costs: Costs
) -> tuple[Release, dict[str, Any]]:
    """Fit the configured method, and its student where the release is only a synthetic set.

    Returns the release and what the method adds to metrics.json, provenance included. Everything
    random derives from the run's seed.
    """
    seed = run_seed(cfg.seed, audit_seed=cfg.audit_seed, num_models=cfg.num_models)
    model = network_factory(cfg.model, "model", source, cfg)
    with costs.stage("fit"):
        lightning.seed_everything(seed, verbose=False)
        build_method = build(cfg.method, "method")
        offered = {
            "private": split.train,
            "model": model,
            "num_classes": source.num_classes,
            "expected_size": split.expected_size,
        }
        if "embedder" in cfg.method:
            embedder = network_factory(cfg.method.embedder, "method.embedder", source, cfg)
            offered["embedder"] = embedder
        wanted = inspect.signature(build_method).parameters
        method = build_method(**{k: value for k, value in offered.items() if k in wanted})
        provenance = list(method.provenance)
        if source.own_constants:
            if method.promises_privacy:
                raise ValueError(
                    f"dataset.mean={list(cfg.dataset.mean)}: is the mean of the private images, "
                    f"which the epsilon of method={cfg.method.name} does not cover; use public "
                    "constants, say dataset.mean=[0.5] dataset.std=[0.25]"
                )
            provenance.append("normalisation constants")
        release = fit(method, cfg.trainer, tracker, "fit")
    if release.classifier is None:
        with costs.stage("student"):
            lightning.seed_everything(stage_seed(seed, "student"), verbose=False)
            student = build(cfg.method.student, "method.student")
            fitted = student(private=release.synthetic, model=model)
            classifier = fit(fitted, cfg.trainer, tracker, "student").classifier
        release = replace(release, classifier=classifier)
    return release, {"provenance": provenance, **method.metrics()}


def stage_seed(seed: int, stage: str) -> int:
    """A later stage's own 32-bit seed, so that it does not repeat the first one's draws."""
    digest = hashlib.sha256(f"{seed} {stage}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def train_run(
    cfg: DictConfig, folder: Path, tracker: Tracker, *, extra: dict[str, Any]
) -> dict[str, Any]:
    """Train and query shadow model `cfg.seed`, write its run folder; returns its metrics."""
    quieten()
    device = device_of(cfg.trainer)
    torch.set_num_threads(cfg.trainer.num_threads)
    costs = Costs()
    with costs.stage("data"):
        source = load_source(cfg)
        split = make_split(
            source,
            kind=cfg.canary.kind,
            num_canaries=cfg.canary.num_canaries,
            member_draw=cfg.canary.membership,
            num_models=cfg.num_models,
            audit_seed=cfg.audit_seed,
            seed=cfg.seed,
        )
    release, of_method = obtain(cfg, split, source, tracker, costs)
    assert release.classifier is not None
    with costs.stage("query"):
        classifier = release.classifier.to(device)
        logits = query.canary_logits(classifier, split.canaries.to(device), flip=cfg.dataset.flip)
        accuracy = query.accuracy(classifier, split.test.to(device))
    if cfg.keep_release:
        save_release(folder, release)
    stages = {name: asdict(stage) for name, stage in costs.stages.items()}
    metrics = {
        "cell": cfg.cell,
        "seed": cfg.seed,
        "method": cfg.method.name,
        "test_accuracy": accuracy,
        "num_train": len(split.train),
        "num_synthetic": 0 if release.synthetic is None else len(release.synthetic),
        "train_s": round(sum(stages[k]["wall_s"] for k in ("fit", "student") if k in stages), 3),
        "stages": stages,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "canaries_sha256": split.canaries.digest(),
        "versions": versions(),
        **of_method,
        **extra,
    }
    store.save_run(
        folder,
        logits=logits,
        member=split.member.numpy(),
        labels=split.canaries.labels.numpy(),
        true_labels=split.true_labels.numpy(),
        metrics=metrics,
    )
    return metrics


def save_release(folder: Path, release: Release) -> None:
    """The released weights (safetensors) and synthetic set (npz)."""
    assert release.classifier is not None
    weights = safetensors.torch.save(
        {
            name: tensor.cpu().contiguous()
            for name, tensor in release.classifier.state_dict().items()
        }
    )
    store.write_bytes(folder / "release.safetensors", weights)
    if release.synthetic is not None:
        content = store.npz_bytes(
            images=release.synthetic.images.numpy(), labels=release.synthetic.labels.numpy()
        )
        store.write_bytes(folder / "release.npz", content)


def versions() -> dict[str, str]:
    """What the numbers were made with."""
    import numpy

    from synpriv import __version__

    return {
        "synpriv": __version__,
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "torch": torch.__version__,
        "pytorch_lightning": importlib.metadata.version("pytorch-lightning"),
    }


def quieten() -> None:
    """Keep Lightning from printing a banner, a tip and a device table per shadow model."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*GPU available but not used.*")
