"""run(cfg) = obtain one shadow model's evidence, then audit the cell if it is complete."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from synpriv import __version__, config, tracking
from synpriv.audit import audit
from synpriv.audit.metrics import roc
from synpriv.report import content, figure, names, pairs
from synpriv.results import store
from synpriv.shadow import check, runs

log = logging.getLogger(__name__)
Report = dict[str, Any]
PAIRS = "visual_privacy.png"  # of a cell, beside its reports


def run(cfg: DictConfig, *, alone: bool = True) -> float | None:
    """Train shadow model `cfg.seed` unless it is there, audit its cell unless that is up to date.

    An incomplete cell (`partial`) is audited only if the run is `alone`: a sweep does it once, at
    its end. Returns the objective for hyper-parameter sweepers once the cell is audited, else None.
    """
    if cfg.check:
        check.check(cfg)
        return None
    config.validate(cfg)
    if cfg.study and alone:
        raise ValueError(f"study={cfg.study}: a sweep ends with it; add -m, or study=null")
    cell = store.Cell(Path(cfg.results), cfg.cell, cfg.num_models)
    check.check_attack(cfg)
    runs.ensure(cfg, attacked=True)
    report = audit_if_complete(cfg, cell, partial=cfg.partial and alone)
    return None if report is None else content.objective(report, cfg.objective)


def audit_if_complete(cfg: DictConfig, cell: store.Cell, *, partial: bool) -> dict[str, Any] | None:
    """The report of a complete cell (or, with `partial`, of what is there), made if need be."""
    trained = cell.trained()
    if not trained or (len(trained) < cell.num_models and not partial):
        return None
    with cell.lock():
        problems = {seed: problem for seed in trained if (problem := cell.problem(seed))}
        for seed, problem in problems.items():
            log.warning("seed %d: %s; run it again: seed=%d", seed, problem, seed)
        if problems and not partial:
            return None
        return _audit(cfg, cell, [seed for seed in trained if seed not in problems])


def current_report(cfg: DictConfig, cell: store.Cell, seeds: list[int]) -> dict[str, Any] | None:
    """The report on disk if it was made by this attack from this evidence, else None."""
    report = store.read_report(report_file(cfg, cell))
    runs = [cell.metrics(seed) for seed in seeds]
    return report if report and report["inputs_sha256"] == _fingerprint(cfg, runs) else None


def report_file(cfg: DictConfig, cell: store.Cell) -> Path:
    """Where the report of the configured attack is; statistic and picture lie beside it."""
    return cell.folder / f"{cfg.attack.name}.json"


def _fingerprint(cfg: DictConfig, runs: list[dict[str, Any]]) -> str:
    """What a report is made from: attack and options, evidence, version of the code."""
    return store.json_sha256(
        {
            "attack": config.plain(cfg.attack),
            "tuning": config.plain(cfg.tuning),
            "runs": {run["seed"]: run["evidence_sha256"] for run in runs},
            "version": __version__,
        }
    )


def _audit(cfg: DictConfig, cell: store.Cell, seeds: list[int]) -> dict[str, Any]:
    report = current_report(cfg, cell, seeds)
    file = report_file(cfg, cell)
    if report is not None:
        log.info("%s is up to date", file)
        if not (cell.folder / PAIRS).is_file():
            _draw_pairs(cell, seeds)
        return report
    runs = [cell.metrics(seed) for seed in seeds]
    with tracking.track(cfg, cell.folder, job_type="audit") as tracker:
        attack = config.build(cfg.attack, "attack")
        evidence = cell.evidence(seeds)
        delta = runs[0].get("delta", 0.0)
        statistics, statistic = audit.audit(attack, evidence, delta=delta)
        report = {
            **_heading(cfg, cell, seeds),
            **content.from_runs(runs),
            **content.guarantee_of(runs, cfg.tuning.num_trials, cfg.tuning.distribution),
            **statistics,
            "format": store.REPORT_FORMAT,
            "inputs_sha256": _fingerprint(cfg, runs),
        }
        report["warnings"] += content.warnings_of(cell.num_models, runs, report)
        usable = np.isfinite(statistic)
        curve = roc(statistic[usable], evidence.member[usable])
        arrays = {"statistic": statistic, "member": evidence.member, "seeds": np.array(seeds)}
        arrays |= {"roc_fpr": curve.fpr, "roc_tpr": curve.tpr}
        store.write_bytes(file.with_suffix(".npz"), store.npz_bytes(**arrays))
        figure.draw([(report, curve)], file.with_suffix(".png"))
        store.write_json(file, report)
        tracker.summary(content.flatten(report))
        tracker.picture("roc", file.with_suffix(".png"))
        if _draw_pairs(cell, seeds):
            tracker.picture("visual_privacy", cell.folder / PAIRS)
    return report


def _draw_pairs(cell: store.Cell, seeds: list[int]) -> bool:
    """The picture of the closest pairs, where images were released."""
    closest = cell.pairs(seeds)
    if closest:
        pairs.draw(closest, cell.folder / PAIRS, title=cell.name)
    return bool(closest)


def _heading(cfg: DictConfig, cell: store.Cell, seeds: list[int]) -> dict[str, Any]:
    options = config.plain(cfg.attack)
    return {
        "cell": cell.name,
        "method": cfg.method.name,
        "dataset": config.dataset_label(cfg),
        "canary": cfg.canary.kind,
        "attack": cfg.attack.name,
        "attack_options": options,
        **content.variance_of(options, len(seeds)),
        "settings": names.flat(config.science(cfg)),
        "partial": len(seeds) < cell.num_models,
    }
