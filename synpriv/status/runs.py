"""The runs of a cell as they lie on disk, looked at and not read through.

A thousand runs are looked at in a fraction of a second: metrics.json is read and checked whole,
another file is hashed only where its size or time says that it is not as the run left it.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import Any, NamedTuple

from synpriv.data.content import sha256
from synpriv.results import failures, locks, store, vouched
from synpriv.results.locks import Holder

_LONGEST_S = 1e10  # 300 years: no run takes that
Files = dict[str, os.stat_result]  # of one folder, by name


class Run(NamedTuple):
    """One seed of a cell."""

    seed: int
    done: bool = False
    evidence_sha256: str | None = None  # of one that is done
    wall_s: float | None = None  # that it took, without the runs that it builds on
    damage: str | None = None  # why one with a metrics.json, or that cannot be read, is not
    holder: Holder | None = None  # who works on it
    failure: str | None = None  # why it failed when it was last tried
    pairs_lost: bool = False  # whether its closest pairs are gone or damaged
    num_bytes: int = 0
    kept_at: float | None = None  # when its checkpoint was written, seconds since 1970


def read(folder: Path, cell: str) -> Run:
    """The run in a folder that is named by its seed; a strange one does not hide the others."""
    try:
        return _read(folder, cell)
    except (OSError, RecursionError) as error:
        return Run(int(folder.name), damage=unreadable(folder, error))


def unreadable(path: Path, error: Exception) -> str:
    """In words, with the file that it is about."""
    return f"{path} cannot be read ({type(error).__name__}: {error})"


def _read(folder: Path, cell: str) -> Run:
    seed, (files, folders) = int(folder.name), contents(folder)
    metrics, damage = _metrics(folder, files, (cell, seed))
    failure = failures.of(folder) if failures.FAILURE in files else None
    said = metrics or {}
    return Run(
        seed=seed,
        done=metrics is not None,
        evidence_sha256=said.get("evidence_sha256"),
        wall_s=_wall_s(said),
        damage=damage,
        holder=holder(folder, files) if metrics is None else None,
        failure=None if failure is None else failure.reason,
        pairs_lost=_pairs_lost(folder, files, said),
        num_bytes=size(files, folders),
        kept_at=files[store.CHECKPOINT].st_mtime if store.CHECKPOINT in files else None,
    )


def holder(folder: Path, files: Files) -> Holder | None:
    """Who works on a folder of these `contents`."""
    return locks.holder(folder) if {locks.HOLDER, locks.LOCK} <= files.keys() else None


def contents(folder: str | Path) -> tuple[Files, list[str]]:
    """Files of a folder, links as they are, and its folders; without what goes away meanwhile.

    What can be opened and read is a file: a pipe would keep its reader waiting for ever.
    """
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
                    continue
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode) or os.path.isfile(entry.path):
                    files[entry.name] = status
            except FileNotFoundError:
                continue
    return files, folders


def size(files: Files, folders: list[str]) -> int:
    """Bytes of `contents`, and of all in its folders; as `du` counts, without what is shut."""
    inside = 0
    for folder in folders:
        with contextlib.suppress(OSError):
            inside += size(*contents(folder))
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
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None
    return taken if 0 <= taken < _LONGEST_S else None


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
