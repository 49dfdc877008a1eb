"""The audit of a cell on disk: made from its evidence, found again, made again where it is damaged.

Nothing here needs a config: what is asked of an audit is plain data, which its report keeps.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from synpriv import hardware
from synpriv.audit import audit
from synpriv.audit.audit import Attack
from synpriv.audit.metrics import Bools, Floats, roc
from synpriv.fingerprint import audit_sha256, inputs_sha256
from synpriv.report import content, figure, pairs
from synpriv.results import reports, store
from synpriv.results.reports import Report
from synpriv.results.shape import Heading
from synpriv.signatures import check_arguments, target_of

# What a file alone may call.
OURS = {
    f"synpriv.audit.attacks.{name}.{name}"
    for name in ("lira", "lira_parent", "nearest", "threshold")
}
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

    @property
    def clean(self) -> store.Cell:
        """The cell of the clean-canary runs; without a name where the heading has none."""
        return store.Cell(self.cell.results, self.heading["accuracy_cell"] or "", 0)

    @property
    def clean_seeds(self) -> list[int]:
        return self.heading["accuracy_seeds"]

    def problems(self) -> dict[tuple[str, int], str]:
        """Why runs that the report is made from cannot be used, by cell and seed."""
        every = [(self.cell, seed) for seed in self.seeds]
        every += [(self.clean, seed) for seed in self.clean_seeds]
        return {(c.name, seed): why for c, seed in every if (why := c.problem(seed))}


def current(request: Request) -> Report | None:
    """The report on disk if it is whole and made by this attack from this evidence, else None."""
    report = reports.read(request.file)
    if report is None or report["cell"] != request.cell.name:
        return None
    return report if report["inputs_sha256"] == _inputs_sha256(request) else None


def _inputs_sha256(request: Request) -> str:
    """What a report is made from: attack and options, evidence, version of the code."""
    runs = [request.cell.metrics(seed) for seed in request.seeds]
    clean = [request.clean.metrics(seed) for seed in request.clean_seeds]
    return inputs_sha256(
        attack=request.heading["attack_options"],
        code=audit_sha256(str(request.heading["attack_options"]["_target_"])),
        tuning=request.heading["tuning"],
        num_planned=request.heading["num_planned"],
        runs={run["seed"]: run["evidence_sha256"] for run in runs},
        clean={run["seed"]: run["evidence_sha256"] for run in clean},
        no_pairs=[run["seed"] for run in runs if _lacks_pairs(request.cell, run)],
    )


def _lacks_pairs(cell: store.Cell, run: dict[str, Any]) -> bool:
    """Whether a picture cannot show the closest pairs that a run has left."""
    kept = store.PAIRS in run.get("artefacts", {})
    return kept and cell.problem(run["seed"], store.PAIRS) is not None


class Shown(NamedTuple):
    """A report that can be shown, and what to say of it."""

    report: Report
    made_again: str | None = None  # why
    not_compared: str | None = None  # with what, and why


def on_disk(file: Path) -> Shown:
    """A report that can be shown, made again if need be.

    Its shadow models are looked for beside it; a whole report stands where they are not any more.
    ValueError, with what to do, for one that is not whole and cannot be made again from what is
    there.
    """
    report, heading = reports.read(file), reports.heading_of(file)
    why = None if report else reports.problem(file)
    if heading is None:
        raise ValueError(f"{why}; {_BY_SWEEP}")
    if heading["cell"] != file.parent.name or heading["attack"] != file.stem:
        raise ValueError(f"{file} is {heading['attack']} of {heading['cell']}; name it as it was")
    cell = store.Cell(file.parent.parent, heading["cell"], heading["num_planned"])
    request = Request(cell, cell, heading)
    problems = request.problems()
    target = heading["attack_options"].get("_target_")
    if "evidence_file" in heading:
        if report is None:
            raise ValueError(f"{why}; python -m synpriv.audit {heading['evidence_file']} makes it")
        return Shown(report)
    if report is not None:
        if problems:
            return Shown(report, not_compared=f"its shadow models ({_lack(request, problems)})")
        if target not in OURS:
            return Shown(report, not_compared=f"its attack {target}, which is not one of ours")
        if report["inputs_sha256"] == _inputs_sha256(request):
            return Shown(report)
    why = why or f"{file} is not of the shadow models, or not by the code, that are there"
    if problems:
        raise ValueError(f"{why}; {_lack(request, problems)}; {_BY_SWEEP}")
    with request.place.lock():
        return Shown(make(request, _attack_of_ours(heading["attack_options"])), made_again=why)


def _lack(request: Request, problems: dict[tuple[str, int], str]) -> str:
    """Which shadow models of a report are not there, in words."""
    if set(problems.values()) == {store.NOT_TRAINED}:
        every = len(request.seeds) + len(request.clean_seeds)
        return f"{len(problems)} of {every} are not beside it"
    (_, seed), problem = next((s, p) for s, p in problems.items() if p != store.NOT_TRAINED)
    return f"seed {seed}: {problem}"


def _attack_of_ours(options: dict[str, Any]) -> Attack:
    """An attack as a file describes it; ValueError for what is not one of ours.

    A file must not decide which code runs: no other function is called, no value builds an object.
    """
    target = options.get("_target_")
    given = {key: value for key, value in options.items() if key not in ("_target_", "name")}
    if target not in OURS:
        raise ValueError(f"its attack {target} is not one of ours; {_BY_SWEEP}")
    for key, value in given.items():
        plain = all(isinstance(v, str | int | float | None) for v in _listed(value))
        if key.startswith("_") or not plain:
            raise ValueError(f"its attack has {key}={value}, which is no option; {_BY_SWEEP}")
    check_arguments({"_target_": target, **given}, "attack")
    return functools.partial(target_of(options, "attack"), **given)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _require_pairs(cell: store.Cell, seeds: Sequence[int]) -> None:
    """ValueError unless every shadow model has a whole pair besides its own to refer to."""
    alone = [seed for seed in seeds if seed ^ 1 not in seeds]  # the other one of 2p and 2p + 1
    whole = (len(seeds) - len(alone)) // 2
    if whole < 2:
        others = ",".join(str(seed ^ 1) for seed in alone) or f"0..{cell.num_models - 1}"
        raise ValueError(
            f"{cell.folder}: an audit needs two whole pairs of models (seeds 2p and 2p + 1) and "
            f"has {whole}; train -m seed={others} first"
        )


def make(request: Request, attack: Attack) -> Report:
    """Audit the shadow models, whose evidence is intact, and write the report with its files."""
    cell, heading, seeds = request.cell, request.heading, request.seeds
    runs = [cell.metrics(seed) for seed in seeds]
    clean = [request.clean.metrics(seed) for seed in request.clean_seeds]
    evidence = cell.evidence(seeds)
    if evidence.design == "paired":
        _require_pairs(cell, seeds)
    tuning = heading["tuning"]
    proof = content.guarantee_of(runs, tuning["num_trials"], tuning["distribution"])
    statistics, statistic = audit.audit(
        attack,
        evidence,
        delta=proof.get("delta", 0.0),
        proven=proof.get("epsilon_group", proof.get("epsilon")),
        audit_seed=heading["settings"].get("audit_seed", 0),
        workers=hardware.usable_cores(),
    )
    report = {
        **heading,
        "partial": len(seeds) < cell.num_models,
        **content.from_runs(runs),
        **content.accuracy_of(
            heading["canary"],
            len(evidence.labels),
            runs,
            clean,
            num_wrong=int((evidence.labels != evidence.true_labels).sum()),
        ),
        **proof,
        **statistics,
        "inputs_sha256": _inputs_sha256(request),
    }
    # What concerns every number comes before what is said of one.
    report["warnings"][:0] = [
        *content.warnings_of(cell.num_models, runs, report),
        *content.warnings_of_accuracy(report),
    ]
    pictures = {}
    if "nearness" in report and (shown := pairs.closest(cell.pairs(seeds), evidence, seeds, 10)):
        near = reports.closest(request.file)
        pictures[near.name] = pairs.png(shown, report["nearness"], title=cell.name)
    return save(request.file, report, statistic, evidence.bits, pictures)


def save(
    file: Path,
    report: Report,
    statistic: Floats,
    member: Bools,
    pictures: Mapping[str, bytes] = MappingProxyType({}),
) -> Report:
    """Write a report with its statistic [C,S], ROC and picture, and with other `pictures`."""
    usable = np.isfinite(statistic)
    curve = roc(statistic[usable], member[usable])
    arrays = {"statistic": statistic, "member": member, "seeds": np.array(report["seeds"])}
    arrays |= {"roc_fpr": curve.fpr, "roc_tpr": curve.tpr}
    drawn = {file.with_suffix(".png").name: figure.png([(report, curve)])}
    return reports.save(file, report, arrays, drawn | dict(pictures))
