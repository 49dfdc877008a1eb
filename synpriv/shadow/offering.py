"""What a method is offered of the data, and building it: for a training, or to try its options."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from hydra.utils import get_object
from omegaconf import DictConfig

from synpriv.audit import audit
from synpriv.config import build, of_prerequisite, prerequisites
from synpriv.data.images import LabelledImages
from synpriv.data.intake import Pools
from synpriv.data.split import AuditSplit, make_split
from synpriv.methods.base import Method
from synpriv.methods.coreset.selection import Records
from synpriv.models import Network
from synpriv.shadow.pools import draw_canaries, load_pools

NetworkFactory = Callable[[], Network]


def rehearse(cfg: DictConfig) -> None:
    """Build the method and its student with stand-ins for what they build on.

    A bad option costs a line now, not after a teacher has been trained.
    """
    for name in prerequisites(cfg.method):
        build(cfg.method[name], f"method.{name}")
    pools = load_pools(cfg)
    split = split_of(cfg, pools)
    offered = offer_private(split) | offer(cfg, pools)
    offered["model"] = network_factory(cfg.model, "model", pools, cfg)
    if "teacher" in cfg.method:
        offered["teacher"] = untrained_teacher(cfg, pools)
    if "proxy" in cfg.method:
        logits = torch.zeros(cfg.method.proxy.num_epochs, len(split.train), pools.num_classes)
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
        "image_shape": pools.image_shape,
        "public_model": None,
    }
    if "embedder" in cfg.method:
        embedder = network_factory(cfg.method.embedder, "method.embedder", pools, cfg)
        offered["embedder"] = embedder
    return offered


def make_method(cfg: DictConfig, offered: Mapping[str, Any]) -> Method:
    """The configured method with what its constructor names of the things offered."""
    construct = build(cfg.method, "method")
    wanted = inspect.signature(construct).parameters
    return construct(**{name: value for name, value in offered.items() if name in wanted})


def network_factory(node: DictConfig, where: str, pools: Pools, cfg: DictConfig) -> NetworkFactory:
    """A factory of freshly initialised networks that fit the data set."""
    channels, size, _ = pools.image_shape
    return functools.partial(
        build(node, where),
        channels=channels,
        size=size,
        num_classes=pools.num_classes,
        mean=list(cfg.dataset.mean),
        std=list(cfg.dataset.std),
    )
