"""Results on disk: where they lie, how they get there whole, and whether they still are.

multirun/<cell>/<seed>/ holds one shadow model, multirun/<cell>/<attack>.json an audit of all.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from synpriv.audit.evidence import Evidence
from synpriv.data.content import sha256
from synpriv.results import locks, vouched
from synpriv.signatures import require

log = logging.getLogger(__name__)
METRICS, EVIDENCE, NOT_TRAINED = "metrics.json", vouched.EVIDENCE, vouched.NOT_TRAINED
CLASSIFIER, SYNTHETIC = "release.safetensors", "release.npz"
GENERATOR, RECORDS, CHECKPOINT = "generator.safetensors", "records.npz", "checkpoint.bin"
PAIRS = "closest_pairs.npz"  # the canaries that a synthetic set comes nearest to


@dataclass(frozen=True)
class Cell:
    """One configuration and the first `num_models` of its shadow models."""

    results: Path
    name: str
    num_models: int

    @property
    def folder(self) -> Path:
        return self.results / self.name

    def run(self, seed: int) -> Path:
        """Folder of shadow model `seed`."""
        return self.folder / str(seed)

    @contextmanager
    def lock(self, seed: int | None = None) -> Iterator[None]:
        """Only one process at a time works on a run, or with None on the cell's audits.

        The lock dies with its process. Whoever holds it may sweep up what a killed one left.
        """
        folder = self.folder if seed is None else self.run(seed)
        what = f"the audits of {self.name}" if seed is None else f"seed {seed} of {self.name}"
        with locks.held(folder, what):
            yield

    def problem(self, seed: int, artefact: str | None = None) -> str | None:
        """Why the run cannot be used, or None if its evidence is there and intact.

        With `artefact` it is that file of the run that must be.
        """
        content, why = vouched.read_metrics(self.run(seed) / METRICS)
        if content is None:
            return why
        if vouched.owner(content) != (self.name, seed):
            return f"{self.run(seed) / METRICS} belongs to {vouched.in_words(content)}"
        name = artefact or EVIDENCE
        file, checksum = self.run(seed) / name, vouched.checksums(content).get(name)
        if checksum is None:
            return f"{file} was not kept"
        if not file.is_file():
            return f"{file} is missing"
        if sha256(file) != checksum:
            return f"{file} is damaged (checksum differs)"
        return None

    def check_owner(self) -> None:
        """Raise ValueError if a folder of this cell holds an intact run of another cell or seed."""
        for seed in self.trained():
            content, _ = vouched.read_metrics(self.run(seed) / METRICS)
            if content is not None and vouched.owner(content) != (self.name, seed):
                raise ValueError(
                    f"{self.run(seed)}: holds {vouched.in_words(content)}, which training would "
                    "replace; move it away (a folder must be called as Hydra named it)"
                )

    def lost(self, seed: int, *, verify: bool = False) -> list[str]:
        """Outputs of a finished run that are missing or damaged, in words.

        A file of the recorded size that is no younger than metrics.json, which is written last, is
        taken to be as it was, unless `verify`.
        """
        folder, (metrics, _) = self.run(seed), vouched.read_metrics(self.run(seed) / METRICS)
        if metrics is None:
            return [f"{seed}/{METRICS} is damaged"]
        done, sizes = (folder / METRICS).stat().st_mtime_ns, metrics.get("artefact_bytes", {})
        found = []
        for name, checksum in vouched.checksums(metrics).items():
            file = folder / name
            if not file.is_file():
                found.append(f"{seed}/{name} is missing")
                continue
            status = file.stat()
            as_left = status.st_size == sizes.get(name) and status.st_mtime_ns <= done
            if (verify or not as_left) and sha256(file) != checksum:
                found.append(f"{seed}/{name} is damaged")
        return found

    def metrics(self, seed: int) -> dict[str, Any]:
        """What metrics.json of a run without a problem says."""
        return json.loads((self.run(seed) / METRICS).read_bytes())

    def check_data(self, sha256: str) -> None:
        """Raise ValueError if the shadow models that are there were trained on other data."""
        there = next((seed for seed in self.trained() if self.problem(seed) is None), None)
        if there is None:
            return
        theirs = self.metrics(there).get("data", {}).get("sha256", sha256)
        if theirs != sha256:
            raise ValueError(
                f"{self.folder}: its shadow models were trained on other data than are there now; "
                "move it away, or point the data set to where the old data are"
            )

    def pairs(
        self, seeds: Sequence[int], of: NDArray[np.int64] | None = None
    ) -> list[tuple[int, dict[str, NDArray]]]:
        """(seed, visual.closest_pairs) of the runs that have them, damaged ones left out.

        of: only pairs of these canaries, and only runs that have one.
        """
        found, problems = [], list[str]()
        for seed in seeds:
            if PAIRS not in self.metrics(seed).get("artefacts", {}):
                continue
            if problem := self.problem(seed, PAIRS):
                problems.append(problem)
                continue
            with np.load(self.run(seed) / PAIRS, allow_pickle=False) as archive:
                canary = archive["canary"]
                wanted = np.ones(len(canary), bool) if of is None else np.isin(canary, of)
                if of is None or wanted.any():
                    found.append((seed, {name: archive[name][wanted] for name in archive.files}))
        if problems:
            more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
            log.warning("left out: %s%s", problems[0], more)
        return found

    def trained(self) -> list[int]:
        """Seeds whose run has its done marker."""
        return [s for s in range(self.num_models) if (self.run(s) / METRICS).is_file()]

    def evidence(self, seeds: Sequence[int]) -> Evidence:
        """Evidence of the given runs, checked to be about the same canaries."""
        runs = [read_arrays(self.run(seed) / EVIDENCE) for seed in seeds]
        first, about = runs[0], self.metrics(seeds[0])
        origin = about["canaries_sha256"]
        for seed, arrays in zip(seeds, runs, strict=True):
            same = all(np.array_equal(arrays[k], first[k]) for k in ("labels", "true_labels"))
            same = same and arrays["logits"].shape == first["logits"].shape
            same = same and arrays.keys() == first.keys()
            same = same and np.array_equal(arrays.get("groups", 0), first.get("groups", 0))
            if not same or self.metrics(seed)["canaries_sha256"] != origin:
                raise ValueError(
                    f"seed {seed} of {self.folder} saw other canaries than seed {seeds[0]}: the "
                    f"data changed in between; move {self.folder} away and run again"
                )
        return Evidence(
            logits=np.stack([arrays["logits"] for arrays in runs], axis=1),
            member=np.stack([arrays["member"] for arrays in runs], axis=1),
            labels=first["labels"],
            true_labels=first["true_labels"],
            nearest=(
                np.stack([arrays["nearest"] for arrays in runs], axis=1)
                if "nearest" in first
                else None
            ),
            design=about.get("membership", "balanced"),  # all there was before it was recorded
            seeds=np.array(seeds, dtype=np.int64),
            groups=first.get("groups"),
        )


def remove_unused(run: Path) -> None:
    """Remove the folders that Hydra made for a run that was not begun."""
    found = {file.name for file in run.iterdir()} if run.is_dir() else set()
    if found <= {".hydra", "run.log"}:
        shutil.rmtree(run, ignore_errors=True)
        with suppress(OSError):  # something else is in it
            run.parent.rmdir()
            run.parent.parent.rmdir()


def read_arrays(file: Path) -> dict[str, NDArray]:
    """The arrays of an npz, never unpickled."""
    with np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def save_run(
    folder: Path,
    *,
    logits: NDArray[np.float32],
    member: NDArray[np.bool_],
    labels: NDArray[np.int64],
    true_labels: NDArray[np.int64],
    metrics: dict[str, Any],
    nearest: NDArray[np.float32] | None = None,
    groups: NDArray[np.int64] | None = None,
) -> None:
    """Write evidence, then the metrics with its checksum: metrics.json marks the run as done.

    logits [C,Q,K], member bool [C], labels, true_labels, nearest and groups [C].
    """
    if not np.isfinite(logits).all():
        raise ValueError("logits are not finite: training diverged; lower the learning rate")
    arrays = {"logits": logits, "member": member, "labels": labels, "true_labels": true_labels}
    if nearest is not None:
        arrays["nearest"] = nearest
    if groups is not None:
        arrays["groups"] = groups
    content = npz_bytes(**arrays)
    write_bytes(folder / EVIDENCE, content)
    save_metrics(folder, metrics | {"evidence_sha256": hashlib.sha256(content).hexdigest()})


def save_metrics(folder: Path, metrics: dict[str, Any]) -> None:
    """Mark a run as done: what it leaves is written already."""
    artefacts = metrics.get("artefacts", {})
    sizes = {name: (folder / name).stat().st_size for name in artefacts}
    whole = metrics | {"artefact_bytes": sizes}
    write_json(folder / METRICS, whole | {"metrics_sha256": vouched.json_sha256(whole)})


def npz_bytes(**arrays: NDArray) -> bytes:
    """An npz archive; the same arrays give the same bytes, on machines with the same zlib.

    Floats are stored as they are: compressing them takes seconds per 100 MB and saves a few percent
    (np.savez knows only all or nothing).
    """
    return _npz(arrays, zipfile.ZIP_DEFLATED)


def stored_npz_bytes(**arrays: NDArray) -> bytes:
    """An npz archive without compression: the same arrays give the same bytes everywhere."""
    return _npz(arrays, zipfile.ZIP_STORED)


def _npz(arrays: Mapping[str, NDArray], method: int) -> bytes:
    """method: how all but floats are stored."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            about = zipfile.ZipInfo(f"{name}.npy")  # of 1980, whatever the clock says
            floats = np.issubdtype(array.dtype, np.floating)
            about.compress_type = zipfile.ZIP_STORED if floats else method
            with archive.open(about, "w", force_zip64=True) as stream:
                npy.write_array(stream, array, allow_pickle=False)
    return buffer.getvalue()


def write_json(file: Path, content: Any) -> None:
    """Strict JSON: NaN and infinity are refused."""
    write_bytes(file, vouched.json_bytes(content))


def require_folder(out: Path, given: str) -> None:
    """ValueError, before any work, where no folder can be made or written; `given`: how it was."""
    there = next(each for each in (out.absolute(), *out.absolute().parents) if each.exists())
    named = given if there == out.absolute() else f"{given}: {there}"
    require(there.is_dir(), f"{named} is a file", "a folder")
    require(os.access(there, os.W_OK | os.X_OK), f"{named} cannot be written", "a folder of yours")


def write_bytes(file: Path, content: bytes) -> None:
    """Create or replace `file` as a whole."""
    write(file, lambda stream: stream.write(content))


def write(file: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Create or replace `file` as a whole: readers see the old content or the new, never a part."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = locks.temporary(file)
    try:
        with temporary.open("wb") as stream:
            fill(stream)
        os.replace(temporary, file)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(temporary)):
            error.filename = str(file)  # "No space left on device" names no file by itself
        raise
