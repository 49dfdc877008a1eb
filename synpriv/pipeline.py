"""run(cfg) = obtain one shadow model's evidence, then audit the cell if it is complete."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from omegaconf import DictConfig

from synpriv import __version__, audit, config, epsilon, runs, store, tracking
from synpriv.metrics import roc
from synpriv.report import figure, pairs, table, trade_off

log = logging.getLogger(__name__)
Report = dict[str, Any]
PAIRS = "visual_privacy.png"  # of a cell, beside its reports
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
    if cfg.study and alone:
        raise ValueError(f"study={cfg.study}: a sweep ends with it; add -m, or study=null")
    cell = store.Cell(Path(cfg.results), cfg.cell, cfg.num_models)
    runs.ensure(cfg, attacked=True)
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


class Outcome(NamedTuple):
    """How far a cell is, and the report of the configured attack if it is up to date."""

    cell: store.Cell
    file: Path
    complete: bool
    report: Report | None


def outcomes(configs: Iterable[DictConfig]) -> list[Outcome]:
    """One outcome per report that these runs contribute to."""
    found: dict[Path, Outcome] = {}
    for cfg in configs:
        cell = store.Cell(Path(cfg.results), cfg.cell, cfg.num_models)
        file = report_file(cfg, cell)
        if file in found:
            continue
        intact = [seed for seed in range(cell.num_models) if cell.problem(seed) is None]
        complete = len(intact) == cell.num_models
        report = current_report(cfg, cell, intact) if complete or cfg.partial else None
        found[file] = Outcome(cell, file, complete, report)
    return list(found.values())


def summary(configs: Iterable[DictConfig], *, hints: bool = True) -> str:
    """The table of the audited cells, where their pictures are, and (hints) what others lack."""
    reports: list[Report] = []
    lines: list[str] = []
    for cell, file, complete, report in outcomes(configs):
        if not complete:
            lines.append(what_is_missing(cell, hints=hints))
        if report is None and complete:
            lines.append(f"{cell.folder}: no report of attack={file.stem} from these models")
        if report is not None:
            reports.append(report)
            pictures = [p for p in (file.with_suffix(".png"), cell.folder / PAIRS) if p.is_file()]
            lines.append(f"pictures of {cell.name}: {', '.join(map(str, pictures))}")
    return "\n".join(["", *([table.text(reports)] if reports else []), *lines])


def write_study(configs: Sequence[DictConfig]) -> str:
    """Write a sweep's figure and table, named by study and attack; returns what was written."""
    study, results = configs[0].study, Path(configs[0].results)
    name = "-".join([study, *dict.fromkeys(cfg.attack.name for cfg in configs)])
    found = outcomes(configs)
    reports = [outcome.report for outcome in found if outcome.report is not None]
    missing = [outcome.cell.name for outcome in found if outcome.report is None]
    if not reports:
        return f"study {study}: no audited cell yet"
    drawn = trade_off.draw_groups(reports, results / name, missing=len(missing))
    pictures = [file.name for file in drawn]
    content = table.markdown(reports, pictures=pictures)
    content += "".join(f"- {cell}: missing, not audited yet\n" for cell in missing)
    store.write_bytes(results / f"{name}.md", content.encode())
    store.write_bytes(results / f"{name}.csv", table.as_csv(reports).encode())
    lack = f" ({len(missing)} cells are missing)" if missing else ""
    return f"study {study}{lack}: {', '.join([f'{results / name}.md', f'{name}.csv', *pictures])}"


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
            **_from_runs(runs),
            **_guarantee(runs, cfg.tuning),
            **statistics,
            "format": store.REPORT_FORMAT,
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
        if _draw_pairs(cell, seeds):
            tracker.picture("visual_privacy", cell.folder / PAIRS)
    return report


def _draw_pairs(cell: store.Cell, seeds: list[int]) -> bool:
    """The picture of the closest pairs, where images were released."""
    closest = cell.pairs(seeds)
    if closest:
        pairs.draw(closest, cell.folder / PAIRS, title=cell.name)
    return bool(closest)


def _about_runs(cell: store.Cell, runs: list[dict[str, Any]], report: dict[str, Any]) -> list[str]:
    """What the reader must know of the shadow models behind a report."""
    found = []
    if report["partial"]:
        found.append(
            f"partial: {len(runs)} of {cell.num_models} shadow models, rows are not balanced and "
            f"not equalised; without any leak this audit reads AUC {report['null_auc']:.3f}"
        )
    starts = {run["builds_on"].get("public_model", {}).get("sha256") for run in runs}
    if len(starts) > 1:
        found.append(f"the shadow models started from {len(starts)} different public models")
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
    found = {
        "test_accuracy": audit.mean_and_sd([run["test_accuracy"] for run in runs]),
        "train_s": audit.mean_and_sd([run["train_s"] for run in runs]),
        "provenance": runs[0]["provenance"],
    }
    selected = "canary_selection_rate"  # of a coreset
    if rates := [run[selected] for run in runs if run.get(selected) is not None]:
        found[selected] = audit.mean_and_sd(rates)
    return found


def _guarantee(runs: list[dict[str, Any]], tuning: DictConfig) -> dict[str, Any]:
    """Epsilon of the training and of the tuned procedure, for a method that has one.

    Nothing in it depends on a seed. `epsilon` null: training adds no noise, there is no guarantee.
    `epsilon_tuned` null: no tuning was declared.
    """
    if "epsilon" not in runs[0]:
        return {}
    first = runs[0]
    found = {key: first[key] for key in GUARANTEE}
    if not all(_same(run[key], first[key]) for run in runs for key in GUARANTEE):
        raise ValueError(f"the runs of {first['cell']} differ in their guarantee; train them again")
    tuned = None
    if first["epsilon"] is not None and tuning.num_trials > 1:
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


def _same(one: Any, other: Any) -> bool:
    """Equal, but for the last bits in which two machines may differ."""
    numbers = isinstance(one, float) and isinstance(other, float)
    return math.isclose(one, other, rel_tol=1e-9) if numbers else one == other


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
