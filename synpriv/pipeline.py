"""run(cfg) = obtain one shadow model's evidence, then audit the cell if it is complete."""

from __future__ import annotations

import functools
import logging
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from synpriv import __version__, audit, config, epsilon, store, tracking
from synpriv.metrics import roc
from synpriv.report import figure, table

log = logging.getLogger(__name__)
GUARANTEE = (
    *("epsilon", "epsilon_rdp", "delta", "noise_multiplier", "sample_rate", "steps"),
    *("max_grad_norm", "accountant"),
)


def run(cfg: DictConfig, *, alone: bool = True) -> float | None:
    """Train shadow model `cfg.seed` unless it is there, audit its cell unless that is up to date.

    An incomplete cell (`partial`) is audited only if the run is `alone`: a sweep does it once, at
    its end. Returns the objective for hyper-parameter sweepers once the cell is audited, else None.
    """
    config.validate(cfg)
    cell = store.Cell(Path(cfg.results), cfg.cell, cfg.num_models)
    with cell.lock(cfg.seed):
        problem = cell.problem(cfg.seed)
        if problem is None:
            log.info("seed %d is trained already", cfg.seed)
        else:
            _train(cfg, cell, problem)
    report = audit_if_complete(cfg, cell, partial=cfg.partial and alone)
    return None if report is None else objective(report, cfg.objective)


def what_is_missing(cell: store.Cell, *, hints: bool) -> str:
    """Why a cell is not audited yet, and (hints) what to run."""
    problems = {s: p for s in range(cell.num_models) if (p := cell.problem(s)) is not None}
    there = cell.num_models - len(problems)
    damaged = [f"seed {s}: {p}" for s, p in problems.items() if p != store.NOT_TRAINED]
    missing = ",".join(map(str, problems)) if len(problems) <= 8 else f"0..{cell.num_models - 1}"
    lines = [
        f"{cell.folder}: {there} of {cell.num_models} shadow models are there",
        *damaged,
    ]
    if hints:
        lines.append(
            f"next: the same command with -m seed={missing} trains the rest and audits the cell; "
            "partial=true audits what is there; a smaller num_models is another, cheaper cell"
        )
    return "\n".join(lines)


def summary(configs: Iterable[DictConfig], *, hints: bool = True) -> str:
    """The table of the audited cells, where their pictures are, and (hints) what others lack."""
    reports: list[dict[str, Any]] = []
    lines: list[str] = []
    seen: set[Path] = set()
    for cfg in configs:
        cell = store.Cell(Path(cfg.results), cfg.cell, cfg.num_models)
        file = report_file(cfg, cell)
        if file in seen:
            continue
        seen.add(file)
        intact = [seed for seed in range(cell.num_models) if cell.problem(seed) is None]
        complete = len(intact) == cell.num_models
        report = current_report(cfg, cell, intact) if complete or cfg.partial else None
        if not complete:
            lines.append(what_is_missing(cell, hints=hints))
        if report is None and complete:
            lines.append(f"{cell.folder}: no report of attack={cfg.attack.name} from these models")
        if report is not None:
            reports.append(report)
            lines.append(f"ROC of {cell.folder}: {file.with_suffix('.png')}")
    return "\n".join(["", *([table.text(reports)] if reports else []), *lines])


def _train(cfg: DictConfig, cell: store.Cell, problem: str) -> None:
    from synpriv import training  # torch and Lightning: seconds, only needed here

    log.info("seed %d: %s, training", cfg.seed, problem)
    folder = cell.run(cfg.seed)
    (folder / store.METRICS).unlink(missing_ok=True)  # not done until it is written again
    _write_cell_config(cfg, cell)
    with tracking.track(cfg, folder, job_type="train") as tracker:
        source = {"command": os.environ.get("SYNPRIV_COMMAND"), "git_commit": _git_commit()}
        metrics = training.train_run(cfg, folder, tracker, extra=source)
        tracker.summary({key: metrics[key] for key in ("test_accuracy", "train_s")})
    log.info("seed %d: test accuracy %.4f", cfg.seed, metrics["test_accuracy"])


def _write_cell_config(cfg: DictConfig, cell: store.Cell) -> None:
    content = OmegaConf.to_yaml(OmegaConf.create(config.science(cfg)))
    store.write_bytes(cell.folder / "cell.yaml", content.encode())


@functools.cache
def _git_commit() -> str | None:
    """The code's commit, None outside a git checkout."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "rev-parse", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None


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
        return report
    runs = [cell.metrics(seed) for seed in seeds]
    with tracking.track(cfg, cell.folder, job_type="audit") as tracker:
        attack = config.build(cfg.attack, "attack")
        evidence = cell.evidence(seeds)
        delta = runs[0].get("delta", 0.0)
        statistics, statistic = audit.audit(attack, evidence, delta=delta)
        report = {
            **_heading(cfg, cell, seeds),
            **_from_runs(runs),
            **_guarantee(runs, cfg.tuning),
            **statistics,
            "inputs_sha256": _fingerprint(cfg, runs),
        }
        report["warnings"] += _about_runs(cell, runs, report)
        usable = np.isfinite(statistic)
        curve = roc(statistic[usable], evidence.member[usable])
        arrays = {"statistic": statistic, "member": evidence.member, "seeds": np.array(seeds)}
        arrays |= {"roc_fpr": curve.fpr, "roc_tpr": curve.tpr}
        store.write_bytes(file.with_suffix(".npz"), store.npz_bytes(**arrays))
        figure.draw([(report, curve)], file.with_suffix(".png"))
        store.write_json(file, report)
        tracker.summary(flatten(report))
        tracker.picture("roc", file.with_suffix(".png"))
    return report


def _about_runs(cell: store.Cell, runs: list[dict[str, Any]], report: dict[str, Any]) -> list[str]:
    """What the reader must know of the shadow models behind a report."""
    found = []
    if report["partial"]:
        found.append(
            f"partial: {len(runs)} of {cell.num_models} shadow models, rows are not balanced and "
            f"not equalised; without any leak this audit reads AUC {report['null_auc']:.3f}"
        )
    commits = {run["git_commit"] for run in runs}
    if len(commits) > 1:
        found.append(f"the shadow models were trained by {len(commits)} different commits")
    return found


def _heading(cfg: DictConfig, cell: store.Cell, seeds: list[int]) -> dict[str, Any]:
    return {
        "cell": cell.name,
        "method": cfg.method.name,
        "dataset": cfg.dataset.name,
        "canary": cfg.canary.kind,
        "attack": cfg.attack.name,
        "attack_options": config.plain(cfg.attack),
        "partial": len(seeds) < cell.num_models,
    }


def _from_runs(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Accuracy and cost over the shadow models."""
    return {
        "test_accuracy": audit.mean_and_sd([run["test_accuracy"] for run in runs]),
        "train_s": audit.mean_and_sd([run["train_s"] for run in runs]),
        "provenance": runs[0]["provenance"],
    }


def _guarantee(runs: list[dict[str, Any]], tuning: DictConfig) -> dict[str, Any]:
    """Epsilon of the training and of the tuned procedure, for a method that has one.

    Nothing in it depends on a seed. Null: training adds no noise, so there is no guarantee.
    """
    if "epsilon" not in runs[0]:
        return {}
    first = runs[0]
    found = {key: first[key] for key in GUARANTEE}
    if any(run[key] != first[key] for run in runs for key in GUARANTEE):
        raise ValueError(f"the runs of {first['cell']} differ in their guarantee; train them again")
    tuned = first["epsilon"]
    if tuned is not None and tuning.num_trials > 1:
        curve = first["renyi"]
        tuned = epsilon.tuned(
            curve["orders"],
            curve["divergences"],
            first["delta"],
            num_trials=tuning.num_trials,
            distribution=tuning.distribution,
        )
    return found | {
        "epsilon_tuned": tuned,
        "num_trials": tuning.num_trials,
        "trials_distribution": tuning.distribution,
    }


def flatten(report: dict[str, Any]) -> dict[str, Any]:
    """What a dashboard compares: one flat number per key."""
    flat: dict[str, Any] = {"auc": report["auc"], "balanced_accuracy": report["balanced_accuracy"]}
    for key in (name for name in report if name.startswith("tpr@")):
        flat |= {key: report[key]["tpr"]}
        flat |= {f"{key}/{end}": report[key][end] for end in ("low", "high", "fpr")}
    for key in ("test_accuracy", "train_s"):
        flat[key] = report[key]["mean"]
    proven = {key: report.get(key) for key in ("epsilon", "epsilon_tuned")}
    flat |= {key: value for key, value in proven.items() if value is not None}
    counts = ("n_in", "n_out", "num_models", "num_canaries")
    return flat | {key: report[key] for key in ("epsilon_audited", *counts)}


def objective(report: dict[str, Any], key: str) -> float:
    """The number that a hyper-parameter sweeper optimises."""
    numbers = flatten(report)
    if key not in numbers:
        raise ValueError(f"objective={key}: must be one of {', '.join(numbers)}")
    return float(numbers[key])
