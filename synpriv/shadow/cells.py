"""The cells that a config describes: its own, and those of what it builds on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from synpriv import config, fingerprint
from synpriv.results import store

DESCRIPTION = "cell.yaml"  # what the cell's name is the hash of
PUBLIC = "public_model"  # the stage that sees the public pool alone


def cell_of(cfg: DictConfig) -> store.Cell:
    """The cell of the configured method."""
    return store.Cell(Path(cfg.results), cfg.cell, cfg.num_models)


def public_science(cfg: DictConfig) -> dict[str, Any]:
    """What decides a model that is trained on the public pool alone."""
    every = config.science(cfg)
    private = ("num_train", "num_test", "num_validation", "groups")
    dataset = {key: value for key, value in every["dataset"].items() if key not in private}
    others = ("public", "method", "precision")
    return {"dataset": dataset, **{name: every[name] for name in others if name in every}}


def public_cell(cfg: DictConfig) -> store.Cell:
    """The cell, without seeds, of a model that is trained on the public pool alone."""
    pool, digest = (cfg.public or cfg.dataset).name, fingerprint.digest(public_science(cfg))
    return store.Cell(Path(cfg.results), f"{cfg.method.name}-{pool}-{digest}", 1)


def built_on(cfg: DictConfig) -> Iterator[tuple[store.Cell, dict[str, Any]]]:
    """The cells of teachers, proxies and public models, and theirs, each with what decides it."""
    for name in config.prerequisites(cfg.method):
        own = config.of_prerequisite(cfg, name)
        if name == PUBLIC:
            yield public_cell(own), public_science(own)
        else:
            yield cell_of(own), config.science(own)
        yield from built_on(own)


def description(science: dict[str, Any]) -> bytes:
    """The content of cell.yaml."""
    return OmegaConf.to_yaml(OmegaConf.create(science)).encode()
