"""What a method is offered of the data, and building it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from omegaconf import DictConfig

from synpriv.config import of_prerequisite
from synpriv.data.images import LabelledImages
from synpriv.data.intake import Pools
from synpriv.data.split import AuditSplit, make_split
from synpriv.methods.base import Method
from synpriv.models import Network
from synpriv.recipe import Facts
from synpriv.shadow.pools import draw_canaries
from synpriv.shadow.recipes import construct

NetworkFactory = Callable[[], Network]


def split_of(cfg: DictConfig, pools: Pools) -> AuditSplit:
    """The split of shadow model `cfg.seed`."""
    return make_split(pools, draw_canaries(cfg, pools), seed=cfg.seed)


def untrained_teacher(cfg: DictConfig, pools: Pools) -> Network:
    """A network of the teacher's architecture."""
    teacher = of_prerequisite(cfg, "teacher")
    return network_factory(teacher.model, "model", pools, teacher)()


def offer_private(split: AuditSplit) -> dict[str, Any]:
    """What a method may ask for of the private set."""
    return {"private": split.train, "expected_size": split.expected_size}


def offer(cfg: DictConfig, pools: Pools) -> dict[str, Any]:
    """What a method may ask for that no member changes."""
    offered: dict[str, Any] = {
        "public": None if pools.public is None else LabelledImages.of(pools.public),
        "num_classes": pools.num_classes,
        "class_names": pools.class_names,
        "image_shape": pools.image_shape,
        "public_model": None,
    }
    if "embedder" in cfg.method:
        embedder = network_factory(cfg.method.embedder, "method.embedder", pools, cfg)
        offered["embedder"] = embedder
    return offered


def make_method(cfg: DictConfig, offered: Mapping[str, Any], facts: Facts) -> Method:
    """The configured method, checked against the data, with what it names of the things offered."""
    made = construct(cfg.method, "method", facts)
    wanted = inspect.signature(made).parameters
    return made(**{name: value for name, value in offered.items() if name in wanted})


def network_factory(node: DictConfig, where: str, pools: Pools, cfg: DictConfig) -> NetworkFactory:
    """A factory of freshly initialised networks that fit the data set."""
    channels, size, _ = pools.image_shape
    return functools.partial(
        construct(node, where),
        channels=channels,
        size=size,
        num_classes=pools.num_classes,
        mean=list(cfg.dataset.mean),
        std=list(cfg.dataset.std),
    )
