"""One shadow model from its config: split, fit, student, evidence.

Everything heavy (torch, Lightning) is imported here, so that a finished cell is read without it.
"""

from __future__ import annotations

import functools
import importlib.metadata
import logging
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig

from synpriv.audit import released
from synpriv.data.chosen import source_of
from synpriv.data.content import sha256
from synpriv.data.intake import Pools, content_sha256, record
from synpriv.data.pool import Pool
from synpriv.data.split import AuditSplit
from synpriv.methods.base import Method, Release
from synpriv.results import canary_images, store
from synpriv.results.artefacts import save_arrays, save_release
from synpriv.shadow import query, visual
from synpriv.shadow.checkpoints import Checkpoint
from synpriv.shadow.costs import Costs
from synpriv.shadow.features import image_quality
from synpriv.shadow.fitting import arithmetic, device_of, fitted, no_tf32, quieten
from synpriv.shadow.offering import (
    make_method,
    offer,
    split_of,
)
from synpriv.shadow.pools import draw_canaries, facts_of, load_pools
from synpriv.shadow.stages import obtain, stage_seed
from synpriv.tracking import Tracker

log = logging.getLogger(__name__)
Facts = dict[str, Any]
CONSTANTS = ("normalisation constants",)  # a channel where they are the private images' own mean


def _checkpoint(
    cfg: DictConfig, folder: Path, costs: Costs, data: Callable[[], str], about: Facts
) -> Checkpoint:
    """The run's checkpoint, of no use to any other run, code, machine, data or basis."""

    def of() -> Facts:
        numbers = {"device": _name(device_of(cfg.trainer)), "arithmetic": arithmetic(cfg.trainer)}
        numbers["number of threads"] = cfg.trainer.num_threads  # sums in another order
        return {**about, **numbers, "versions": versions(), "data": data()}

    return Checkpoint(folder, cfg.trainer.checkpoint_minutes, costs, functools.cache(of))


def _data_sha256(pools: Pools, basis: Mapping[str, Path]) -> str:
    """Of all that the training reads."""
    return " ".join([content_sha256(pools), *(sha256(file) for file in basis.values())])


def train_public(cfg: DictConfig, cell: store.Cell, tracker: Tracker, *, extra: Facts) -> None:
    """Train what sees the public pool alone, and write it as the only run of its cell."""
    _prepare(cfg)
    costs = Costs()
    pools = load_pools(cfg)
    assert pools.public is not None
    own = {"cell": cell.name, "seed": 0, "code_sha256": extra["code_sha256"]}
    checkpoint = _checkpoint(cfg, cell.run(0), costs, pools.public.digest, own)
    drawn = draw_canaries(cfg, pools)
    facts = facts_of(cfg, pools, drawn, seed=0)  # of the private set: sizes alone
    seed = stage_seed(0, "public")

    def make() -> Method:
        method = make_method(cfg, offer(cfg, pools), facts)
        assert not hasattr(method, "private")
        return method

    with costs.stage("fit"):
        _, release = fitted(make, *(seed, cfg.trainer, tracker), stage="fit", checkpoint=checkpoint)
    artefacts = save_release(cell.run(0), release)
    about = {"cell": cell.name, "seed": 0, "method": cfg.method.name, "artefacts": artefacts}
    about |= {**costs.summary({}), "public_sha256": pools.public.digest()}
    about["resumed"] = checkpoint.resumed
    store.save_metrics(cell.run(0), {**about, "versions": versions(), **extra})
    checkpoint.remove()


def train_run(
    cfg: DictConfig, folder: Path, tracker: Tracker, *, basis: Mapping[str, Path], extra: Facts
) -> dict[str, Any]:
    """Train and query shadow model `cfg.seed`, write its run folder; returns its metrics."""
    device = _prepare(cfg)
    costs = Costs()
    with costs.stage("data"):
        pools = load_pools(cfg)
        split = split_of(cfg, pools)
    own = {"cell": cfg.cell, "seed": cfg.seed, "code_sha256": extra["code_sha256"]}
    data = functools.partial(_data_sha256, pools, basis)
    checkpoint = _checkpoint(cfg, folder, costs, data, own)
    release, left = obtain(cfg, split, pools, tracker, costs, basis=basis, checkpoint=checkpoint)
    assert release.classifier is not None
    with costs.stage("query"):
        no_tf32()  # whatever somebody's own method has switched on
        classifier = release.classifier.to(device)
        logits = query.canary_logits(classifier, split.canaries.to(device), flip=cfg.dataset.flip)
        accuracy = query.accuracy(classifier, split.test.to(device))
    artefacts = save_release(folder, release) if cfg.keep_release else {}
    artefacts |= save_arrays(folder / store.RECORDS, left.records)
    with costs.stage("visual"):
        near, pairs, ranks = _visual(split, release, device)
    artefacts |= save_arrays(folder / store.PAIRS, pairs)
    with costs.stage("quality"):
        good = None
        if release.synthetic is not None:
            good = image_quality(release.synthetic.images, pools, cfg)
    metrics = {
        "cell": cfg.cell,
        "seed": cfg.seed,
        "method": cfg.method.name,
        "membership": cfg.canary.membership,
        f"{pools.evaluated_on}_accuracy": accuracy,
        "num_train": len(split.train),
        "num_synthetic": 0 if release.synthetic is None else len(release.synthetic),
        "provenance": [*left.provenance, *CONSTANTS[: int(pools.own_constants)]],
        **costs.summary(basis),
        "resumed": checkpoint.resumed,
        "device": _name(device),
        "arithmetic": arithmetic(cfg.trainer),
        "data": record(pools),
        "canaries_sha256": split.canaries.digest(),
        "canary_source": _source(cfg, pools),
        "versions": versions(),
        "artefacts": artefacts,
        **left.metrics,
        **_selection(split, release),
        "synthetic": _about_synthetic_set(split, release, pools, ranks),
        "quality": good,
        **extra,
    }
    _write(folder, split, metrics, logits=logits, nearest=near)
    checkpoint.remove()
    return metrics


def _write(
    folder: Path,
    split: AuditSplit,
    metrics: Facts,
    *,
    logits: NDArray[np.float32],
    nearest: NDArray | None,
) -> None:
    canaries = Pool(split.canaries.images.numpy(), split.canaries.labels.numpy())
    canary_images.keep(folder.parent, canaries, split.true_labels.numpy())
    store.save_run(
        folder,
        logits=logits,
        member=split.member.numpy(),
        labels=split.canaries.labels.numpy(),
        true_labels=split.true_labels.numpy(),
        nearest=nearest,
        groups=None if split.groups is None else split.groups.numpy(),
        metrics=metrics,
    )


def _source(cfg: DictConfig, pools: Pools) -> Facts:
    drawn = draw_canaries(cfg, pools)
    return source_of(pools, drawn.canaries, drawn.groups)


def _visual(
    split: AuditSplit, release: Release, device: torch.device
) -> tuple[NDArray | None, dict[str, NDArray], list[float]]:
    """Distance of each canary to the nearest released image, [C], and the closest pairs.

    And of the non-members the shares of held-out images that are nearer to the release.
    """
    if release.synthetic is None:
        return None, {}, []
    synthetic = release.synthetic.images.to(device)
    found = visual.nearest(split.canaries.images.to(device), synthetic)
    closer = visual.nearer_held_out(split, synthetic, found)
    pairs = visual.closest_pairs(split, synthetic, found, closer)
    ranks = closer.cpu()[~split.member & ~closer.cpu().isnan()].tolist()
    distance = found.distance.float().cpu().numpy()
    return distance, {k: v.numpy() for k, v in pairs.items()}, ranks


def _about_synthetic_set(
    split: AuditSplit, release: Release, pools: Pools, ranks: list[float]
) -> Facts | None:
    """Facts of the synthetic set, null if there is none; what is odd about it is logged."""
    if release.synthetic is None:
        return None
    facts = released.facts_of(
        release.synthetic.images.numpy(),
        release.synthetic.labels.numpy(),
        test=pools.test.images,
        public=None if pools.public is None else pools.public.images,
        private=split.train.images.numpy(),
    )
    largest = float(np.bincount(pools.private.labels).max() / len(pools.private))
    facts["non_member_rank"] = round(float(np.mean(ranks)), 6) if ranks else None
    for words in released.oddities(facts, largest_class=largest).values():
        log.warning("the synthetic set: %s", words)
    return facts


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _prepare(cfg: DictConfig) -> torch.device:
    quieten()
    torch.set_num_threads(cfg.trainer.num_threads)
    no_tf32()
    device = device_of(cfg.trainer)
    emulated = device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if cfg.trainer.precision == "bf16-mixed" and emulated:
        log.warning("bf16-mixed: this CPU emulates bf16, many times slower than trainer=fast")
    return device


def _selection(split: AuditSplit, release: Release) -> Facts:
    """Share of the member canaries that a coreset releases, null if no canary is a member."""
    if release.indices is None:
        return {}
    if not split.member.any():
        return {"canary_selection_rate": None}
    released = torch.isin(split.position[split.member], release.indices)
    return {"canary_selection_rate": round(float(released.double().mean()), 6)}


def versions() -> dict[str, str]:
    """What the numbers were made with."""
    from synpriv import __version__

    cuda = {} if torch.version.cuda is None else {"cuda": torch.version.cuda}
    return cuda | {
        "synpriv": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": str(torch.__version__),  # of a class of its own
        "pytorch_lightning": importlib.metadata.version("pytorch-lightning"),
    }
