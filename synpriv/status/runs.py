"""The runs of a cell as they lie on disk, looked at and not read through.

A thousand runs are looked at in a fraction of a second: metrics.json is read and checked whole,
another file is hashed only where its size or time says that it is not as the run left it.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, NamedTuple

from synpriv.data.content import sha256
from synpriv.results import failures, locks, store, vouched
from synpriv.results.locks import Holder

Files = dict[str, os.stat_result]  # of one folder, by name


class Run(NamedTuple):
    """One seed of a cell."""

    seed: int
    done: bool
    evidence_sha256: str | None  # of one that is done
    wall_s: float | None  # that it took, without the runs that it builds on
    damage: str | None  # why one with a metrics.json is not
    holder: Holder | None  # who works on it
    failure: str | None  # why it failed when it was last tried
    pairs_lost: bool  # whether its closest pairs are gone or damaged
    num_bytes: int


def read(folder: Path, cell: str) -> Run:
    """The run in a folder that is named by its seed."""
    seed, (files, folders) = int(folder.name), contents(folder)
    metrics, damage = _metrics(folder, files, (cell, seed))
    holder = locks.holder(folder) if metrics is None and locks.HOLDER in files else None
    failure = failures.of(folder) if failures.FAILURE in files else None
    said = metrics or {}
    return Run(
        seed=seed,
        done=metrics is not None,
        evidence_sha256=said.get("evidence_sha256"),
        wall_s=_wall_s(said),
        damage=damage,
        holder=holder,
        failure=None if failure is None else failure.reason,
        pairs_lost=_pairs_lost(folder, files, said),
        num_bytes=size(files, folders),
    )


def contents(folder: str | Path) -> tuple[Files, list[str]]:
    """Files of a folder, links as they are, and its folders; without what goes away meanwhile."""
    files, folders = Files(), list[str]()
    try:
        entries = os.scandir(folder)
    except FileNotFoundError:
        return files, folders
    with entries:
        for entry in entries:
            try:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    files[entry.name] = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
    return files, folders


def size(files: Files, folders: list[str]) -> int:
    """Bytes of `contents`, and of all that lies in its folders."""
    inside = sum(size(*contents(folder)) for folder in folders)
    return inside + sum(status.st_size for status in files.values())


def _metrics(
    folder: Path, files: Files, owner: tuple[str, int]
) -> tuple[dict[str, Any] | None, str | None]:
    """What a run that is done says of itself; else why it cannot be used, None if not trained."""
    if store.METRICS not in files:
        return None, None
    metrics, why = vouched.read_metrics(folder / store.METRICS)
    if metrics is None:
        return None, why
    if vouched.owner(metrics) != owner:
        return None, f"{folder / store.METRICS} belongs to {vouched.in_words(metrics)}"
    checksum = metrics.get("evidence_sha256")  # what sees public data alone has none
    why = wrong(folder, files, store.EVIDENCE, checksum) if checksum else None
    return (metrics, None) if why is None else (None, why)


def _wall_s(metrics: dict[str, Any]) -> float | None:
    """Of all stages of a run; None where it does not say, or nonsense."""
    try:
        taken = float(sum(stage["wall_s"] for stage in metrics["stages"].values()))
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return taken if 0 <= taken < math.inf else None


def wrong(
    folder: Path, files: Files, name: str, checksum: str, *, done: str = store.METRICS
) -> str | None:
    """Why a file cannot be used.

    One that is no younger than `done`, which is written last, is taken to be as it was.
    """
    if name not in files:
        return f"{folder / name} is missing"
    younger = files[name].st_mtime_ns > files[done].st_mtime_ns
    if younger and sha256(folder / name) != checksum:
        return f"{folder / name} is damaged (checksum differs)"
    return None


def _pairs_lost(folder: Path, files: Files, metrics: dict[str, Any]) -> bool:
    checksum = metrics.get("artefacts", {}).get(store.PAIRS)
    return checksum is not None and wrong(folder, files, store.PAIRS, checksum) is not None
