"""The data set's pools and the networks that fit them, from the config."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

from omegaconf import DictConfig

from synpriv.config import build
from synpriv.data.datasets import Source, class_balanced, is_own_mean, with_public
from synpriv.models import Network
from synpriv.shadow.recipes import construct

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
        construct(node, where),
        channels=images.shape[1],
        size=images.shape[2],
        num_classes=source.num_classes,
        mean=list(cfg.dataset.mean),
        std=list(cfg.dataset.std),
    )
