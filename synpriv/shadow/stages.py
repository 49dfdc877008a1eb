"""The stages of a shadow model's training: the method, and the student where there is one."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from omegaconf import DictConfig

from synpriv.data.draws import run_seed
from synpriv.data.intake import Pools
from synpriv.data.split import AuditSplit
from synpriv.methods.base import Release
from synpriv.results.artefacts import read_records, read_weights
from synpriv.shadow.checkpoints import Checkpoint, Fitted
from synpriv.shadow.costs import Costs
from synpriv.shadow.fitting import fitted
from synpriv.shadow.offering import (
    make_method,
    network_factory,
    offer,
    offer_private,
    untrained_teacher,
)
from synpriv.shadow.pools import draw_canaries, facts_of
from synpriv.shadow.recipes import audited_model, construct
from synpriv.signatures import require
from synpriv.tracking import Tracker


def obtain(
    cfg: DictConfig,
    split: AuditSplit,
    pools: Pools,
    tracker: Tracker,
    costs: Costs,
    *,
    basis: Mapping[str, Path] = MappingProxyType({}),
    checkpoint: Checkpoint | None = None,
) -> tuple[Release, Fitted]:
    """Fit the configured method, and its student where the release is only a synthetic set.

    `basis` holds the files of other runs that the method builds on. Returns the release, and what
    is left of the method. Everything random derives from the run's seed, also where `checkpoint`
    holds what an interrupted process has come to.
    """
    seed = run_seed(
        cfg.seed,
        audit_seed=cfg.audit_seed,
        member_draw=cfg.canary.membership,
        num_models=cfg.num_models,
    )
    where, node = audited_model(cfg)
    model = network_factory(node, where, pools, cfg)
    left = None if checkpoint is None else checkpoint.fitted
    if left is None:
        offered = offer_private(split) | {"model": model, "seed": cfg.seed, **offer(cfg, pools)}
        offered |= _built_on(cfg, pools, basis)
        facts = facts_of(cfg, pools, draw_canaries(cfg, pools), cfg.seed)
        with costs.stage("fit"):
            method, release = fitted(
                lambda: make_method(cfg, offered, facts),
                *(seed, cfg.trainer, tracker),
                stage="fit",
                checkpoint=checkpoint,
            )
        given = f"{type(method).__name__}.release() is a {type(release).__name__}"
        require(isinstance(release, Release), given, "a synpriv.methods.base.Release")
        left = Fitted(release, method.provenance, method.metrics(), method.records())
        if checkpoint is not None and release.classifier is None:
            checkpoint.fit_is_over(left)
    release = left.release
    if release.classifier is None:
        student = construct(cfg.method.student, "method.student")
        make = functools.partial(student, private=release.synthetic, model=model)
        own_seed = stage_seed(seed, "student")
        with costs.stage("student"):
            _, learnt = fitted(
                *(make, own_seed, cfg.trainer, tracker), stage="student", checkpoint=checkpoint
            )
        release = replace(release, classifier=learnt.classifier)
    return release, left


def _built_on(cfg: DictConfig, pools: Pools, basis: Mapping[str, Path]) -> dict[str, Any]:
    """What a method may ask for of the runs that it builds on."""
    found: dict[str, Any] = {}
    if "teacher" in basis:
        found["teacher"] = untrained_teacher(cfg, pools)
        found["teacher"].load_state_dict(read_weights(basis["teacher"]))
    if "proxy" in basis:
        found["records"] = read_records(basis["proxy"])
    if "public_model" in basis:
        found["public_model"] = read_weights(basis["public_model"])
    return found


def stage_seed(seed: int, stage: str) -> int:
    """A later stage's own 32-bit seed, so that it does not repeat the first one's draws."""
    digest = hashlib.sha256(f"{seed} {stage}".encode()).digest()
    return int.from_bytes(digest[:4], "big")
