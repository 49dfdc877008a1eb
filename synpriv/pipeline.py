"""run(cfg) = obtain one shadow model's evidence, then audit the cell if it is complete."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from omegaconf import DictConfig

from synpriv import audits, config, objective, tracking
from synpriv.audits import Request
from synpriv.results import flat, names, reports, store
from synpriv.results.reports import Report
from synpriv.results.shape import Heading
from synpriv.shadow import check, runs
from synpriv.shadow.accuracy import clean_runs
from synpriv.shadow.cells import cell_of
from synpriv.tracking.told import of_audit

log = logging.getLogger(__name__)
MOST_WARNINGS = 8  # of damaged runs, which the summary counts
OWN = ("npz", "folder")  # data sets of users, until they give them a name


def run(cfg: DictConfig, *, alone: bool = True) -> float | tuple[float, ...] | None:
    """Train shadow model `cfg.seed` unless it is there, audit its cell unless that is up to date.

    An incomplete cell (`partial`) is audited only if the run is `alone`: a sweep does it once, at
    its end. Returns what a hyper-parameter sweeper of Hydra maximises once the cell is audited (one
    number, or several where several were asked for), else None.
    """
    if cfg.check:
        check.check(cfg)
        return None
    cfg = config.named(cfg)
    if cfg.study and alone:
        raise ValueError(f"study={cfg.study}: a sweep ends with it; add -m, or study=null")
    check.check_attack(cfg)
    runs.ensure(cfg, attacked=True)
    report = audit_if_complete(cfg, partial=cfg.partial and alone, waits=not alone)
    if report is None:
        return None
    scores = objective_of(cfg).scores(flat.flatten(report))
    return scores[0] if len(scores) == 1 else scores


def objective_of(cfg: DictConfig) -> objective.Objective:
    """What a search over this config is after."""
    return objective.parse(cfg.objective.maximise, cfg.objective.subject_to)


def audit_if_complete(cfg: DictConfig, *, partial: bool, waits: bool = False) -> Report | None:
    """The report of a complete cell (or, with `partial`, of what is there), made if need be.

    waits: not yet, if runs are missing that measure its accuracy; a sweep trains them, and audits
    at its end what its workers have not.

    Where nothing has to be made nothing is written, so that the folder may be read-only.
    """
    cell = cell_of(cfg)
    if waits and _lacks_a_run(cell):
        return None
    trained = cell.trained()
    if not trained or (len(trained) < cell.num_models and not partial):
        return None
    problems = {seed: problem for seed in trained if (problem := cell.problem(seed))}
    for seed, problem in list(problems.items())[:MOST_WARNINGS]:
        log.warning("seed %d: %s; run it again: seed=%d", seed, problem, seed)
    seeds = [seed for seed in trained if seed not in problems]
    if not seeds or (problems and not partial):
        return None
    if waits and (clean := clean_runs(cfg)) and clean.there != clean.seeds:
        return None
    request = request_of(cfg, seeds)
    report = audits.current(request)
    return report if report and not tracking.is_awaited(cfg) else _audit(cfg, request)


def _lacks_a_run(cell: store.Cell) -> bool:
    """Whether a run of the cell is missing or damaged.

    Every job of a sweep asks when it is done, so not all runs may be looked at: they are from the
    last seed down, which is trained last, and the first one that is not there is enough.
    """
    seeds = range(cell.num_models - 1, -1, -1)
    gone = any(not (cell.run(seed) / store.METRICS).is_file() for seed in seeds)
    return gone or any(cell.problem(seed) is not None for seed in seeds)


def request_of(cfg: DictConfig, seeds: list[int]) -> Request:
    """What the configured attack is asked to audit, and where its report goes."""
    cell, clean = cell_of(cfg), clean_runs(cfg) if seeds else None
    place = store.Cell(Path(cfg.reports or cfg.results), cell.name, cell.num_models)
    heading: Heading = {
        "cell": cell.name,
        "method": cfg.method.name,
        "dataset": _dataset_label(cfg),
        "canary": cfg.canary.kind,
        "membership": cfg.canary.membership,
        "attack": cfg.attack.name,
        "attack_options": config.plain(cfg.attack),
        "tuning": config.plain(cfg.tuning),
        "settings": names.flat(config.science(cfg)),
        "seeds": seeds,
        "accuracy_cell": clean.cell.name if clean else None,
        "accuracy_seeds": clean.there if clean else [],
        "num_planned": cell.num_models,
        "pictures_told": cfg.logger.pictures,
    }
    return Request(cell, place, heading)


def _dataset_label(cfg: DictConfig) -> str:
    """What tables call the data set: its name, with that of the user's own file or folder."""
    path = cfg.dataset.get("path")
    own = re.sub(r"[^A-Za-z0-9_.]+", "_", Path(path).expanduser().stem) if path else ""
    return f"{cfg.dataset.name}_{own}" if own and cfg.dataset.name in OWN else cfg.dataset.name


def _audit(cfg: DictConfig, request: Request) -> Report:
    with request.place.lock():
        report = audits.current(request)  # made while this process waited
        if report and not tracking.is_awaited(cfg):
            return report
        why = None if report else reports.problem(request.file)
        if why not in (None, reports.NOT_MADE):
            log.warning("%s: it is made again", why)
        with tracking.track(cfg, request.place.folder, job_type="audit") as tracker:
            report = report or audits.make(request, config.build(cfg.attack, "attack"))
            _tell(tracker, cfg, request.file, report)
    return report


def _tell(tracker: tracking.Tracker, cfg: DictConfig, file: Path, report: Report) -> None:
    """Mirror an audit, and what a search makes of it."""
    asked = objective_of(cfg).scores(flat.flatten(report))
    names = ["objective", *(f"objective/{place}" for place in range(1, len(asked)))]
    tracker.log(dict(zip(names, asked, strict=True)), epoch=0)
    tracker.audit(
        lambda: of_audit(file, report, admission=cfg.admission, pictures=cfg.logger.pictures)
    )
