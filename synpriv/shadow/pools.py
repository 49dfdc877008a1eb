"""The data of a config: its pools, and who is a member of what. No torch."""

from __future__ import annotations

import functools
import json
import math
from inspect import isfunction
from typing import Any, get_type_hints

import numpy as np
from omegaconf import DictConfig, OmegaConf

from synpriv.config import build, plain
from synpriv.data import canaries
from synpriv.data.content import FileVersion
from synpriv.data.datasets import Source, from_torchvision, torchvision_files
from synpriv.data.draws import Draw, draw
from synpriv.data.intake import Pools, take_in
from synpriv.data.sets import Splits
from synpriv.recipe import Facts
from synpriv.shadow.recipes import configured_facts
from synpriv.signatures import require, target_of


def load_pools(cfg: DictConfig) -> Pools:
    """The data set's pools, checked and read-only, kept for the next job of this process.

    Read again where another data set was read in between, or where the files have changed.
    """
    dataset, public, canary = plain(cfg.dataset), plain(cfg.public), plain(cfg.canary)
    own = {"path": canary["path"], "sha256": canary["sha256"]}
    held_out = dataset.get("num_validation") is not None
    named = (canary["indices"] or []) if held_out else []  # which changes nothing otherwise
    nodes = map(json.dumps, (dataset, public, own, named))
    return _load(*nodes, _files(dataset), _files(public))


def _files(node: dict[str, Any] | None) -> tuple[FileVersion, ...]:
    """Versions of torchvision's files; a user's file or folder has its hash in its node."""
    load = {} if node is None else node.get("load") or {}
    if load.get("_target_") != f"{from_torchvision.__module__}.{from_torchvision.__name__}":
        return ()
    return torchvision_files(str(load.get("dataset")), str(load.get("root")))


def load_pools_on_disk(cfg: DictConfig) -> Pools:
    """The pools if their files are there; nothing is downloaded."""
    own = cfg.copy()
    for node in (own.dataset, own.public):
        if node is not None and "download" in node:
            node.download = False
    return load_pools(own)


@functools.lru_cache(maxsize=1)
def _load(
    dataset_json: str,
    public_json: str,
    own_json: str,
    named_json: str,
    *files: tuple[FileVersion, ...],
) -> Pools:
    dataset: dict[str, Any] = json.loads(dataset_json)
    public: dict[str, Any] | None = json.loads(public_json)
    own: dict[str, Any] = json.loads(own_json)
    source = _read(dataset, "dataset")
    _check_constants(source.private.images.shape[1], dataset)
    pools = take_in(
        source,
        num_train=dataset["num_train"],
        num_test=dataset["num_test"],
        num_validation=dataset.get("num_validation"),
        named=json.loads(named_json),
        public=None if public is None else _read(public, "public"),
        num_public=None if public is None else public["num_train"],
        mean=dataset["mean"],
        own=None if own["path"] is None else canaries.read(**own),
    )
    for pool in (pools.private, pools.test, pools.public):
        if pool is not None:
            pool.images.flags.writeable = pool.labels.flags.writeable = False
    return pools


def _read(node: dict[str, Any], where: str) -> Source:
    load = node["load"]
    target = target_of(load, f"{where}.load")
    reads = get_type_hints(target).get("return") is Source if isfunction(target) else False
    right = "a function annotated to return a synpriv.data.datasets.Source"
    require(reads, f"{where}.load._target_={load['_target_']}", right)
    return build(OmegaConf.create(load), f"{where}.load")()


def _check_constants(channels: int, dataset: dict[str, Any]) -> None:
    for name in ("mean", "std"):
        value = dataset[name]
        numbers = isinstance(value, list) and all(
            type(x) in (int, float) and math.isfinite(x) for x in value
        )
        if not numbers or len(value) not in (1, channels):
            raise ValueError(
                f"dataset.{name}={value}: must be one number, "
                f"or one for each of the {channels} channels, in brackets"
            )
        require(name == "mean" or min(value) > 0, f"dataset.std={value}", "positive")


def draw_canaries(cfg: DictConfig, pools: Pools) -> Draw:
    """Canaries and membership of the whole cell, read-only, kept for the next job of this process.

    It grows with the number of models: drawn for each of them, a long sweep would be quadratic.
    """
    indices = cfg.canary.indices
    return _draw(
        pools,
        kind=cfg.canary.kind,
        num_canaries=cfg.canary.num_canaries,
        member_draw=cfg.canary.membership,
        num_models=cfg.num_models,
        audit_seed=cfg.audit_seed,
        indices=None if indices is None else tuple(indices),
    )


@functools.lru_cache(maxsize=1)
def _draw(pools: Pools, **options: Any) -> Draw:
    drawn = draw(pools, **options)
    for array in (drawn.canaries, drawn.member, drawn.labels):
        array.flags.writeable = False
    return drawn


def facts_of(cfg: DictConfig, pools: Pools, drawn: Draw, seed: int) -> Facts:
    """What recipes are checked against, of shadow model `seed`."""
    public, (num_train, smallest_class) = pools.public, sizes_of(pools, drawn, seed)
    return Facts(
        num_classes=pools.num_classes,
        image_shape=pools.image_shape,
        expected_size=drawn.expected_size,
        num_train=num_train,
        smallest_class=smallest_class,
        num_public=None if public is None else len(public),
        largest_public_label=None if public is None else int(public.labels.max()),
        seed=seed,
        split_sha256=Splits(pools.private, drawn).sha256,
        class_names=pools.class_names,
        **configured_facts(cfg),
    )


def sizes_of(pools: Pools, drawn: Draw, seed: int) -> tuple[int, int]:
    """Images of a shadow model and of its smallest class: all of `Facts` that is its own."""
    included = drawn.included(seed)
    classes = np.bincount(drawn.labels[included], minlength=pools.num_classes)
    return int(included.sum()), int(classes.min())
