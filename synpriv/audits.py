"""The audit of a cell on disk: made from its evidence, found again, made again where it is damaged.

Nothing here needs a config: what is asked of an audit is plain data, which its report keeps.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synpriv import __version__, config
from synpriv.audit import audit
from synpriv.audit.metrics import roc
from synpriv.report import content, figure, pairs
from synpriv.results import reports, store
from synpriv.results.reports import Heading, Report

_OURS = "synpriv.audit.attacks."  # where an attack comes from that a file alone may call
_BY_SWEEP = "the command of its sweep makes it again"


@dataclass(frozen=True)
class Request:
    """What is asked of an audit, and where its report goes."""

    cell: store.Cell
    place: store.Cell  # the cell itself, or its namesake elsewhere
    heading: Heading

    @property
    def file(self) -> Path:
        """The report; its arrays and pictures lie beside it."""
        return self.place.folder / f"{self.heading['attack']}.json"

    @property
    def seeds(self) -> list[int]:
        return self.heading["seeds"]


def current(request: Request) -> Report | None:
    """The report on disk if it is whole and made by this attack from this evidence, else None."""
    report = reports.read(request.file)
    if report is None or report["cell"] != request.cell.name:
        return None
    return report if report["inputs_sha256"] == _inputs_sha256(request) else None


def _inputs_sha256(request: Request) -> str:
    """What a report is made from: attack and options, evidence, version of the code."""
    runs = [request.cell.metrics(seed) for seed in request.seeds]
    return store.json_sha256(
        {
            "attack": request.heading["attack_options"],
            "tuning": request.heading["tuning"],
            "runs": {run["seed"]: run["evidence_sha256"] for run in runs},
            "version": __version__,
        }
    )


def on_disk(file: Path) -> tuple[Report, str | None]:
    """A report that can be shown, and what to say of it: why it was made again, or not compared.

    Its shadow models are looked for beside it; a whole report stands where they are not any more.
    ValueError, with what to do, for one that is not whole and cannot be made again from what is
    there.
    """
    report, why = reports.read(file), reports.problem(file)
    heading = reports.heading_of(file)
    if heading is None:
        raise ValueError(f"{why}; {_BY_SWEEP}")
    if heading["cell"] != file.parent.name or heading["attack"] != file.stem:
        raise ValueError(f"{file} is {heading['attack']} of {heading['cell']}; name it as it was")
    cell = store.Cell(file.parent.parent, heading["cell"], heading["num_planned"])
    request = Request(cell, cell, heading)
    problems = [problem for seed in request.seeds if (problem := cell.problem(seed)) is not None]
    if report is not None and problems:
        gone = problems == [store.NOT_TRAINED] * len(request.seeds)
        lack = "they are not beside it" if gone else problems[0]
        return report, f"not compared with its shadow models: {lack}"
    if report is not None and report["inputs_sha256"] == _inputs_sha256(request):
        return report, None
    why = why or f"{file} is not of the shadow models that are there"
    if problems:
        raise ValueError(f"{why}; {problems[0]}; {_BY_SWEEP}")
    return _again(request, why), f"made again: {why}"


def _again(request: Request, why: str) -> Report:
    """A file must not decide which code runs: only our own attacks are called."""
    target = str(request.heading["attack_options"].get("_target_"))
    if not target.startswith(_OURS):
        raise ValueError(f"{why}; its attack {target} is not one of ours; {_BY_SWEEP}")
    with request.place.lock():
        return make(request)


def make(request: Request) -> Report:
    """Audit the shadow models, whose evidence is intact, and write the report with its files."""
    cell, heading, seeds = request.cell, request.heading, request.seeds
    runs = [cell.metrics(seed) for seed in seeds]
    evidence = cell.evidence(seeds)
    attack = config.build(heading["attack_options"], "attack")
    statistics, statistic = audit.audit(attack, evidence, delta=runs[0].get("delta", 0.0))
    tuning = heading["tuning"]
    report = {
        **heading,
        **content.variance_of(heading["attack_options"], len(seeds)),
        "partial": len(seeds) < cell.num_models,
        **content.from_runs(runs),
        **content.guarantee_of(runs, tuning["num_trials"], tuning["distribution"]),
        **statistics,
        "inputs_sha256": _inputs_sha256(request),
    }
    report["warnings"] += content.warnings_of(cell.num_models, runs, report)
    usable = np.isfinite(statistic)
    curve = roc(statistic[usable], evidence.member[usable])
    arrays = {"statistic": statistic, "member": evidence.member, "seeds": np.array(seeds)}
    arrays |= {"roc_fpr": curve.fpr, "roc_tpr": curve.tpr}
    pictures = {request.file.with_suffix(".png").name: figure.png([(report, curve)])}
    if closest := cell.pairs(seeds):
        pictures[reports.CLOSEST] = pairs.png(closest, title=cell.name)
    return reports.save(request.file, report, arrays, pictures)
