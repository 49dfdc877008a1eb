"""Trained runs: a shadow model, and before it what it is built on.

What a method builds on (a teacher, a proxy) is a run of a cell of its own at the same seed, trained
once however many methods use it. What is built on public data alone has a cell without seeds.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from synpriv import checkout, config, fingerprint, tracking
from synpriv.results import failures, leftovers, store
from synpriv.shadow.cells import (
    DESCRIPTION,
    PUBLIC,
    cell_of,
    description,
    public_cell,
    public_science,
)
from synpriv.shadow.check import check
from synpriv.shadow.pools import load_pools

log = logging.getLogger(__name__)
# The file that is used of what a method builds on.
FILES = {
    "teacher": store.CLASSIFIER,
    "proxy": store.RECORDS,
    "public_model": store.GENERATOR,
}
_checked: set[tuple[str, int, bool]] = set()  # cells, how many models, whether with their attack


def ensure(cfg: DictConfig, *, artefact: str | None = None, attacked: bool = False) -> Path:
    """The folder of run `cfg.seed`, trained unless it (or that file of it) is there and intact.

    attacked: by `cfg.attack`, which must fit what the method releases.
    """
    cell = cell_of(cfg)
    with cell.lock(cfg.seed):
        problem = cell.problem(cfg.seed) or (artefact and cell.problem(cfg.seed, artefact))
        if not problem and cfg.repair:
            problem = ", ".join(cell.lost(cfg.seed, verify=cfg.verify))
        if problem:
            _train(cfg, cell, problem, attacked=attacked)
            if artefact and (problem := cell.problem(cfg.seed, artefact)):
                raise ValueError(f"{problem}: {cfg.method.name} is not set up to write it")
        else:
            log.info("%s, seed %d is trained already", cfg.method.name, cfg.seed)
            # Of a process that was killed when the run was done.
            leftovers.remove(cell.run(cfg.seed) / store.CHECKPOINT)
    return cell.run(cfg.seed)


def _train(cfg: DictConfig, cell: store.Cell, problem: str, *, attacked: bool) -> None:
    key = (cfg.cell, cfg.num_models, attacked)
    if key not in _checked:
        check(cfg, attacked=attacked)
        _describe(cell, config.science(cfg))
        _checked.add(key)
    from synpriv.shadow import training  # torch and Lightning: seconds, only needed here

    basis = _basis(cfg)
    log.info("%s, seed %d: %s, training", cfg.method.name, cfg.seed, problem)
    folder = cell.run(cfg.seed)
    failures.forget(folder)
    (folder / store.METRICS).unlink(missing_ok=True)  # not done until it is written again
    with tracking.track(cfg, folder, job_type="train") as tracker:
        metrics = training.train_run(cfg, folder, tracker, basis=basis, extra=_origin(cfg))
        measured = f"{metrics['data']['evaluated_on']}_accuracy"  # of test or of validation images
        tracker.summary({key: metrics[key] for key in (measured, "train_s")})
    log.info("%s, seed %d: accuracy %.4f", cfg.method.name, cfg.seed, metrics[measured])


def _basis(cfg: DictConfig) -> dict[str, Path]:
    """The files that the method builds on, made if need be."""
    found = {}
    for name in config.prerequisites(cfg.method):
        own = config.of_prerequisite(cfg, name)
        try:
            if name == PUBLIC:
                folder = _ensure_public(own)
            else:
                folder = ensure(config.named(own), artefact=FILES[name])
        except ValueError as error:
            raise ValueError(f"{name} of {cfg.method.name}: {error}") from error
        found[name] = folder / FILES[name]
    return found


def _ensure_public(cfg: DictConfig) -> Path:
    """The folder of a model trained on the public pool alone, the same for all seeds."""
    cell = public_cell(cfg)
    cell.check_owner()
    with cell.lock(0):
        if problem := cell.problem(0, FILES[PUBLIC]):
            from synpriv.shadow import training

            log.info("%s, public model: %s, training", cfg.method.name, problem)
            _describe(cell, public_science(cfg))
            with tracking.track(cfg, cell.run(0), job_type="public", cell=cell.name) as tracker:
                training.train_public(cfg, cell, tracker, extra=_origin(cfg))
        elif cell.metrics(0)["public_sha256"] != _public_sha256(cfg):
            raise ValueError(
                f"{cell.folder}: was trained on another public pool than is there now; "
                "move it away, or point public.root to where the old one is"
            )
    return cell.run(0)


def _public_sha256(cfg: DictConfig) -> str | None:
    public = load_pools(cfg).public
    return None if public is None else public.digest()


def _describe(cell: store.Cell, science: dict[str, Any]) -> None:
    store.write_bytes(cell.folder / DESCRIPTION, description(science))


def _origin(cfg: DictConfig) -> dict[str, str | None]:
    return {
        "command": os.environ.get("SYNPRIV_COMMAND"),
        "git_commit": checkout.commit(),
        "code_sha256": fingerprint.code_sha256(cfg.method["_target_"]),
    }
