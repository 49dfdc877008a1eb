"""What a method is offered of the data, and building it: for a training, or to try its options."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from hydra.utils import get_object
from omegaconf import DictConfig

from synpriv.audit import audit
from synpriv.config import build, of_prerequisite, prerequisites
from synpriv.data.datasets import Source
from synpriv.data.split import AuditSplit, make_split
from synpriv.methods.base import Method
from synpriv.methods.coreset.selection import Records
from synpriv.models import Network
from synpriv.shadow.pools import load_source, network_factory


def rehearse(cfg: DictConfig) -> None:
    """Build the method and its student with stand-ins for what they build on.

    A bad option costs a line now, not after a teacher has been trained.
    """
    for name in prerequisites(cfg.method):
        build(cfg.method[name], f"method.{name}")
    source = load_source(cfg)
    split = split_of(cfg, source)
    offered = offer_private(split) | offer(cfg, source)
    offered["model"] = network_factory(cfg.model, "model", source, cfg)
    if "teacher" in cfg.method:
        offered["teacher"] = untrained_teacher(cfg, source)
    if "proxy" in cfg.method:
        logits = torch.zeros(cfg.method.proxy.num_epochs, len(split.train), source.num_classes)
        offered["records"] = Records(logits, torch.zeros(len(split.train), 1), split.train.labels)
    make_method(cfg, offered)
    if "student" in cfg.method:
        student = build(cfg.method.student, "method.student")
        student(private=split.train, model=offered["model"])


def check_attack(cfg: DictConfig) -> None:
    """Refuse an attack on images that the method will not release, before it is trained."""
    images = get_object(cfg.method["_target_"]).releases_images
    num_views = 18 if cfg.dataset.flip else 9
    attack = build(cfg.attack, "attack")
    audit.check(attack, cfg.num_models, num_views=num_views, images=images)


def split_of(cfg: DictConfig, source: Source) -> AuditSplit:
    """The split of shadow model `cfg.seed`."""
    return make_split(
        source,
        kind=cfg.canary.kind,
        num_canaries=cfg.canary.num_canaries,
        member_draw=cfg.canary.membership,
        num_models=cfg.num_models,
        audit_seed=cfg.audit_seed,
        seed=cfg.seed,
    )


def untrained_teacher(cfg: DictConfig, source: Source) -> Network:
    """A network of the teacher's architecture."""
    teacher = of_prerequisite(cfg, "teacher")
    return network_factory(teacher.model, "model", source, teacher)()


def offer_private(split: AuditSplit) -> dict[str, Any]:
    """What a method may ask for of the private set."""
    return {"private": split.train, "expected_size": split.expected_size}


def offer(cfg: DictConfig, source: Source) -> dict[str, Any]:
    """What a method may ask for that no member changes."""
    offered: dict[str, Any] = {
        "public": source.public,
        "num_classes": source.num_classes,
        "image_shape": tuple(source.private.images.shape[1:]),
        "public_model": None,
    }
    if "embedder" in cfg.method:
        embedder = network_factory(cfg.method.embedder, "method.embedder", source, cfg)
        offered["embedder"] = embedder
    return offered


def make_method(cfg: DictConfig, offered: Mapping[str, Any]) -> Method:
    """The configured method with what its constructor names of the things offered."""
    construct = build(cfg.method, "method")
    wanted = inspect.signature(construct).parameters
    return construct(**{name: value for name, value in offered.items() if name in wanted})
