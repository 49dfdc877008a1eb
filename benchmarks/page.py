"""The page of a large study: processor seconds, peak memory and size, all files read and checked.

Usage: python -m benchmarks.page [CELLSxMODELS] [CANARIES]
"""

from __future__ import annotations

import hashlib
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.audit import evidence
from synpriv import audits
from synpriv.audit.attacks.threshold import threshold
from synpriv.audit.audit import audit
from synpriv.data.pool import Pool
from synpriv.report import content, files
from synpriv.report.__main__ import audited
from synpriv.results import canary_images, store

VIEWS, PAIRS, SHAPE = 18, 50, (3, 32, 32)
METHODS = ("undefended", "distill_dm", "dfkd", "dpsgd_eps8", "coreset_random")
ATTACK = {"_target_": "synpriv.audit.attacks.threshold.threshold", "name": "threshold"}


def study(results: Path, num_cells: int, num_models: int, num_canaries: int) -> None:
    """Audited cells as sweeps leave them, each with the same evidence under its own name."""
    given = evidence(num_canaries, num_models, VIEWS, 3.0)
    logits, rng = given.logits, np.random.default_rng(0)
    assert logits is not None
    images = rng.integers(0, 256, (num_canaries, *SHAPE), dtype=np.uint8)
    canaries = Pool(images, given.labels.astype(np.int64))
    statistics, statistic = audit(threshold, given, null_rounds=200, bootstrap_rounds=200)
    for cell in range(num_cells):
        method = METHODS[cell % len(METHODS)]
        name = f"{method}-made-mislabelled-{cell:08x}"
        folder = results / name
        for seed in range(num_models):
            arrays: dict[str, np.ndarray] = {
                "logits": logits[:, seed],
                "member": given.member[:, seed],
            }
            arrays |= {"labels": given.labels, "true_labels": given.true_labels}
            near = rng.random(num_canaries).astype(np.float32) if method[0] == "d" else None
            _run(folder / str(seed), method, canaries, arrays, near)
        canary_images.keep(folder, canaries, given.true_labels)
        heading = _heading(name, method, num_models)
        cells = store.Cell(results, name, num_models)
        request = audits.Request(cells, cells, heading)
        runs = [cells.metrics(seed) for seed in range(num_models)]
        report = {**heading, "partial": False, **content.from_runs(runs), **statistics}
        report |= content.accuracy_of("mislabelled", num_canaries, runs, [])
        report |= {"inputs_sha256": audits._inputs_sha256(request)}
        if method[0] == "d":
            nearer: dict[str, Any] = {
                "nearer": 40,
                "pairs": given.member.sum().item(),
                "chance": 35.0,
            }
            report["nearness"] = nearer | {"p": 0.3, "above_chance": False}
        audits.save(request.file, report, statistic, given.bits)


def _run(
    folder: Path,
    method: str,
    canaries: Pool,
    arrays: dict[str, np.ndarray],
    near: np.ndarray | None,
) -> None:
    artefacts: dict[str, str] = {}
    if near is not None:
        first = np.flatnonzero(arrays["member"])[:PAIRS]
        pairs: dict[str, np.ndarray] = {"canary": first, "images": canaries.images[first]}
        pairs |= {"synthetic": canaries.images[first[::-1]], "closer": near[first]}
        content_of = store.npz_bytes(**pairs, distance=near[first])
        store.write_bytes(folder / store.PAIRS, content_of)
        artefacts[store.PAIRS] = hashlib.sha256(content_of).hexdigest()
    stage = {"wall_s": 10.0, "cpu_s": 9.0, "peak_mb": 500.0}
    data: dict[str, Any] = {"in_words": "made", "sha256": "0", "num_private": 50000}
    data |= {"num_test": 10000, "warnings": [], "class_names": list("abcdefghij")}
    metrics: dict[str, Any] = {
        **{
            "cell": folder.parent.name,
            "seed": int(folder.name),
            "method": method,
            "membership": "paired",
        },
        **{"test_accuracy": 0.9, "train_s": 10.0, "provenance": ["pixels"], "data": data},
        **{"stages": {"fit": stage, "query": stage}, "builds_on": {}, "artefacts": artefacts},
        **{"canaries_sha256": canaries.digest(), "num_synthetic": 100 if artefacts else 0},
    }
    rows = np.arange(len(canaries)).tolist()
    metrics["canary_source"] = {"of": "the data", "rows": rows}
    store.save_run(
        folder,
        logits=arrays["logits"],
        member=arrays["member"],
        labels=arrays["labels"],
        true_labels=arrays["true_labels"],
        nearest=near,
        metrics=metrics,
    )


def _heading(name: str, method: str, num_models: int) -> Any:
    return {
        **{"cell": name, "method": method, "dataset": "made", "canary": "mislabelled"},
        **{"membership": "paired", "attack": "threshold", "attack_options": dict(ATTACK)},
        "tuning": {"num_trials": 1, "distribution": "fixed"},
        "settings": {"method.name": method, "method.step": int(name[-8:], 16)},
        "seeds": list(range(num_models)),
        **{"accuracy_cell": None, "accuracy_seeds": [], "num_planned": num_models},
    }


def main() -> None:
    """One line: what reading, checking and writing the page cost, without making the study."""
    given = sys.argv[1:]
    num_cells, num_models = map(int, (given[0] if given else "50x64").split("x"))
    num_canaries = int(given[1]) if len(given) > 1 else 500
    place = Path(tempfile.mkdtemp(prefix="synpriv_page_"))
    try:
        study(place, num_cells, num_models, num_canaries)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        start = time.process_time()
        found = audited(place)
        read = time.process_time() - start
        files.write_page(found.cells, place, missing=found.missing)
        whole = time.process_time() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        size = (place / files.PAGE).stat().st_size / 2**20
        print(
            f"page of {len(found.cells)} cells x {num_models} models, {num_canaries} canaries: "
            f"{whole:.1f} processor seconds ({read:.1f} of them reading), {size:.2f} MB, peak "
            f"{peak:.0f} MB (making the study: {before:.0f})"
        )
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
