"""The cells of a results folder: what was asked for, what is there, who works, what failed."""

from __future__ import annotations

import os
import re
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from synpriv.results import planned
from synpriv.results.locks import Holder
from synpriv.results.planned import PREFIX, Plan
from synpriv.signatures import require
from synpriv.status import reports, runs, settings
from synpriv.status.reports import CURRENT, Report, state
from synpriv.status.runs import Run
from synpriv.status.settings import DESCRIPTION

_SEED = re.compile(r"0|[1-9]\d{0,8}", re.ASCII)


@dataclass
class Cell:
    """One cell; each seed that is there or was asked for is in one of six lists."""

    name: str
    runs: dict[int, Run]
    plans: list[Plan]
    auditor: Holder | None  # who audits it
    num_bytes: int  # of all that lies there
    reports: dict[str, Report | None]  # by attack; None for what is damaged
    asked: set[int] = field(default_factory=set)  # seeds that sweeps asked for
    audits: dict[str, str] = field(default_factory=dict)  # by attack, CURRENT or what else
    measures: bool = False  # whether the accuracy of another cell
    settings: str = ""  # that tell it from cells whose names differ in their hash alone

    def __post_init__(self) -> None:
        self.asked |= {seed for plan in self.plans for seed in plan.asked["seeds"]}

    @property
    def attacks(self) -> dict[str, int]:
        """Attacks whose reports are to come, and of how many models at most.

        Sweeps may have asked for the runs in parts; of a part alone there is no report.
        """
        every = [(plan.asked["attack"], plan.asked["num_models"]) for plan in self.plans]
        there = {*self.asked, *self.done}
        whole = {num for _, num in every if all(seed in there for seed in range(num))}
        return dict(sorted((attack, num) for attack, num in every if attack and num in whole))

    @property
    def parts(self) -> dict[str, int]:
        """Attacks of which too few models were asked for, and of how many a report would be."""
        every = [(plan.asked["attack"], plan.asked["num_models"]) for plan in self.plans]
        return {attack: num for attack, num in every if attack and attack not in self.attacks}

    @property
    def done(self) -> list[int]:
        return sorted(seed for seed, run in self.runs.items() if run.done)

    @property
    def running(self) -> dict[int, Holder]:
        """Who works on which run."""
        return {seed: run.holder for seed, run in sorted(self.runs.items()) if run.holder}

    @property
    def failed(self) -> dict[int, str]:
        """Why runs failed that nobody tries again now."""
        idle = self._idle()
        return {seed: run.failure for seed, run in idle.items() if run.failure is not None}

    @property
    def damaged(self) -> dict[int, str]:
        """Why finished runs cannot be used."""
        idle = self._idle()
        return {s: run.damage for s, run in idle.items() if run.damage and run.failure is None}

    @property
    def missing(self) -> list[int]:
        """Seeds that were asked for and are nothing else."""
        return sorted(self.asked - {*self.done, *self.running, *self.failed, *self.damaged})

    @property
    def begun(self) -> list[int]:
        """Seeds with a folder that are nothing else: nobody asked, or the word of it is lost."""
        named = {*self.asked, *self.done, *self.running, *self.failed, *self.damaged}
        return sorted(self.runs.keys() - named)

    @property
    def lacking(self) -> dict[str, str]:
        """Reports that could be there, as all runs are, and what they are instead."""
        done = set(self.done)
        ready = {a for a, num in self.attacks.items() if all(seed in done for seed in range(num))}
        return {a: words for a, words in self.audits.items() if a in ready and words != CURRENT}

    @property
    def waiting(self) -> list[str]:
        """Attacks of which too few models were asked for, as long as there is no report."""
        return [attack for attack in self.parts if attack not in self.reports]

    @property
    def commands(self) -> list[str]:
        """Of the sweeps that asked for its runs."""
        return list(dict.fromkeys(plan.command for plan in self.plans if plan.command))

    @property
    def median_s(self) -> float | None:
        """Wall seconds of a finished run; a worker's first one takes longer than the others."""
        taken = [run.wall_s for run in self.runs.values() if run.wall_s is not None]
        return statistics.median(taken) if taken else None

    def _idle(self) -> dict[int, Run]:
        """Runs that are not done and that nobody works on."""
        every = sorted(self.runs.items())
        return {seed: run for seed, run in every if not run.done and run.holder is None}


def read(results: Path) -> tuple[list[Cell], list[str]]:
    """All cells, and in words what could not be read of them and of what sweeps asked for.

    ValueError where there is no such folder, or it is itself a cell.
    """
    require(results.is_dir(), f"{results}: no such folder", "the `results` of a sweep")
    is_cell = (results / DESCRIPTION).is_file()
    require(not is_cell, f"{results}: is a cell", f"the folder above it, {results.parent}")
    cells, wrong = list[Cell](), list[str]()
    for folder in sorted(results.iterdir()):
        if folder.is_dir() and not folder.name.startswith("."):
            cell, said = _cell(folder)
            wrong += said
            if cell is not None:
                cells.append(cell)
    _ask_of_stages(cells)
    _compare_reports(cells)
    named = settings.differing(results, [cell.name for cell in cells])
    for cell in cells:
        cell.settings = named.get(cell.name, "")
    return cells, wrong


def _cell(folder: Path) -> tuple[Cell | None, list[str]]:
    """The cell in a folder, None if there is none, and what could not be read of its plans."""
    try:
        files, folders = runs.contents(folder)
    except OSError as error:
        return None, [runs.unreadable(folder, error)]
    seeds = [Path(each) for each in folders if _is_seed(each)]
    plans = sorted(name for name in files if name.startswith(PREFIX) and name.endswith(".json"))
    found = {int(seed.name): runs.read(seed, folder.name) for seed in seeds}
    trained = any(run.done or run.damage for run in found.values())
    if not (trained or plans or DESCRIPTION in files):
        return None, []
    asked, unreadable = planned.read(folder / name for name in plans)
    others = runs.size(files, [each for each in folders if not _is_seed(each)])
    named = sorted(n for n in files if n.endswith(".json") and not n.startswith("."))
    cell = Cell(
        name=folder.name,
        runs=found,
        plans=asked,
        auditor=runs.holder(folder, files),
        num_bytes=others + sum(run.num_bytes for run in found.values()),
        reports={Path(name).stem: reports.read(folder / name) for name in named},
    )
    return cell, unreadable


def _is_seed(folder: str) -> bool:
    return _SEED.fullmatch(os.path.basename(folder)) is not None


def _ask_of_stages(cells: Iterable[Cell]) -> None:
    """What is built on has to be there for each run that is not."""
    by_name = {cell.name: cell for cell in cells}
    for cell in cells:
        for plan in cell.plans:
            ahead = set(plan.asked["seeds"]) - set(cell.done)
            for name, each_seed in plan.asked["builds_on"].items():
                if (stage := by_name.get(name)) is not None:
                    stage.asked |= ahead if each_seed else {0} if ahead else set()


def _compare_reports(cells: Iterable[Cell]) -> None:
    """Say of each report whether it is of the runs that are there."""
    every = {cell.name: cell.runs for cell in cells}
    measuring = list[object]()
    for cell in cells:
        for attack, report in cell.reports.items():
            cell.audits[attack] = state(report, every, cell.attacks.get(attack))
            measuring.append(None if report is None else report.get("accuracy_cell"))
        for attack in cell.attacks:
            cell.audits.setdefault(attack, "not made yet")
        for attack, num_models in cell.parts.items():
            cell.audits.setdefault(attack, f"once all {num_models} are asked for")
    for cell in cells:
        cell.measures = cell.name in measuring
