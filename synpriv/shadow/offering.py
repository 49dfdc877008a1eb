"""What a method is offered of the data, and building it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from omegaconf import DictConfig

from synpriv.config import of_prerequisite
from synpriv.data.datasets import Source
from synpriv.data.split import AuditSplit, make_split
from synpriv.methods.base import Method
from synpriv.models import Network
from synpriv.recipe import Facts
from synpriv.shadow.pools import load_source, network_factory
from synpriv.shadow.recipes import (
    check_recipes,
    configured_facts,
    construct,
    recipes_of,
)


def check_data(cfg: DictConfig) -> None:
    """Refuse options that do not fit the data now, not after a teacher has been trained."""
    source = load_source(cfg)
    check_recipes(recipes_of(cfg), facts_of(cfg, source, split_of(cfg, source)))


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


def facts_of(cfg: DictConfig, source: Source, split: AuditSplit) -> Facts:
    """What recipes are checked against."""
    public = source.public
    images = torch.bincount(split.train.labels, minlength=source.num_classes)
    channels, height, width = source.private.images.shape[1:]
    return Facts(
        num_classes=source.num_classes,
        image_shape=(channels, height, width),
        expected_size=split.expected_size,
        num_train=len(split.train),
        smallest_class=int(images.min()),
        num_public=None if public is None else len(public),
        largest_public_label=None if public is None else int(public.labels.max()),
        **configured_facts(cfg),
    )


def make_method(cfg: DictConfig, offered: Mapping[str, Any], facts: Facts) -> Method:
    """The configured method, checked against the data, with what it names of the things offered."""
    made = construct(cfg.method, "method", facts)
    wanted = inspect.signature(made).parameters
    return made(**{name: value for name, value in offered.items() if name in wanted})
