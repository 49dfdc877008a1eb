"""What a sweep ends with: the table of its cells, what is missing, and the files of a study."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from omegaconf import DictConfig

from synpriv import audits, pipeline, terminal
from synpriv.report import content, marks, page, table, trade_off
from synpriv.results import store
from synpriv.results.reports import Report
from synpriv.shadow.cells import cell_of

FEWEST = 6  # models that the default attack needs
MOST = 8  # damaged runs that are named
_NEXT = "next: "


def what_is_missing(cell: store.Cell, *, hints: bool, grows: bool) -> str:
    """Why a cell is not audited yet, and (hints) what to run.

    grows: fewer models are the first ones of the same cell; else they are another cell.
    """
    problems = {s: p for s in range(cell.num_models) if (p := cell.problem(s)) is not None}
    there = cell.num_models - len(problems)
    damaged = [f"seed {s}: {p}" for s, p in problems.items() if p != store.NOT_TRAINED]
    missing = ",".join(map(str, problems)) if len(problems) <= 8 else f"0..{cell.num_models - 1}"
    if len(damaged) > MOST:
        damaged[MOST:] = [f"and {len(damaged) - MOST} more that are damaged"]
    lines = [
        f"{cell.folder}: {there} of {cell.num_models} shadow models are there",
        *damaged,
    ]
    if hints:
        lines.append(
            f"{_NEXT}the same command with -m seed={missing} trains the rest and audits the cell; "
            f"partial=true audits what is there; {_with_fewer(problems, grows=grows)}"
        )
    return "\n".join(lines)


def _with_fewer(problems: Iterable[int], *, grows: bool) -> str:
    """What a smaller num_models is, given the seeds that are not there."""
    if not grows:
        return "a smaller num_models is another, cheaper cell"
    whole = min(problems) // 2 * 2  # the first models, as far as none is missing
    if whole < FEWEST:
        return "a smaller num_models audits the first models of this cell"
    return f"num_models={whole} audits the first {whole}, which are there"


class Outcome(NamedTuple):
    """How far a cell is, and the report of the configured attack if it is up to date."""

    cell: store.Cell
    file: Path
    complete: bool
    grows: bool
    report: Report | None


def outcomes(configs: Iterable[DictConfig]) -> list[Outcome]:
    """One outcome per report that these runs contribute to."""
    found: dict[Path, Outcome] = {}
    for cfg in configs:
        cell = cell_of(cfg)
        intact = [seed for seed in range(cell.num_models) if cell.problem(seed) is None]
        request = pipeline.request_of(cfg, intact)
        file = request.file
        if file in found:
            continue
        complete = len(intact) == cell.num_models
        report = audits.current(request) if complete or cfg.partial else None
        grows = cfg.canary.membership != "balanced"
        if report is not None:
            report = content.under_rule(report, cfg.admission)
        found[file] = Outcome(cell, file, complete, grows, report)
    return list(found.values())


def summary(configs: Iterable[DictConfig], *, hints: bool = True) -> str:
    """The table of the audited cells, where their pictures are, and (hints) what others lack."""
    configs = list(configs)
    reports: list[Report] = []
    lines: list[str] = []
    drawn: list[Path] = []
    for cell, file, complete, grows, report in outcomes(configs):
        if not complete:
            lines.append(what_is_missing(cell, hints=hints, grows=grows))
        if report is None and complete:
            lines.append(f"{cell.folder}: no report of attack={file.stem} from these models")
        if report is not None:
            reports.append(report)
            drawn += [file.with_name(name) for name in report["files"] if name.endswith(".png")]
    lines += _pictures(drawn)
    for place in dict.fromkeys(Path(cfg.results) for cfg in configs):
        if not place.is_absolute():  # it follows the folder that the command was started in
            lines.append(f"{place} is {place.absolute()}")
    plain = [terminal.one_line(line) for text in lines for line in text.splitlines()]
    # What to run is the same for many cells: once, behind the last of them.
    plain = [x for i, x in enumerate(plain) if not (x.startswith(_NEXT) and x in plain[i + 1 :])]
    return "\n".join(["", *([_table(reports, configs)] if reports else []), *plain])


def _table(reports: Sequence[Report], configs: Sequence[DictConfig]) -> str:
    """What is printed of the reports; a study or a command writes everything else."""
    marked, family = marks.corrected(reports)
    place = configs[0].reports or configs[0].results
    command = f"python -m synpriv.report {place} writes report.md"
    rest = f"{_study_file(configs)}.md" if configs[0].study else command
    return table.text(marked, family=family, rest=rest)


def _pictures(drawn: Sequence[Path]) -> list[str]:
    """All pictures of one cell, else where they lie."""
    folders = list(dict.fromkeys(file.parent for file in drawn))
    if len(folders) == 1:
        return [f"pictures: {', '.join(map(str, drawn))}"]
    places = dict.fromkeys(folder.parent for folder in folders)
    named = ", ".join(dict.fromkeys(file.name for file in drawn))
    return [f"pictures: {named} in the folder of each cell below {place}" for place in places]


def _study_file(configs: Sequence[DictConfig]) -> Path:
    """Table and figure of a study, named by it and its attacks, without their endings."""
    results = Path(configs[0].reports or configs[0].results)
    return results / "-".join([configs[0].study, *dict.fromkeys(c.attack.name for c in configs)])


def write_study(configs: Sequence[DictConfig]) -> str:
    """Write a sweep's figure and table, named by study and attack; returns what was written."""
    study, file = configs[0].study, _study_file(configs)
    found = outcomes(configs)
    reports = [outcome.report for outcome in found if outcome.report is not None]
    missing = [outcome.cell.name for outcome in found if outcome.report is None]
    if not reports:
        return f"study {study}: no audited cell yet"
    marked, family = marks.corrected(reports)
    drawn = trade_off.draw_groups(marked, file, family=family, missing=len(missing))
    pictures = [file.name for file in drawn]
    content = page.markdown(marked, family=family, pictures=pictures)
    content += "".join(f"- {cell}: missing, not audited yet\n" for cell in missing)
    store.write_bytes(file.with_name(f"{file.name}.md"), content.encode())
    store.write_bytes(file.with_name(f"{file.name}.csv"), table.as_csv(reports).encode())
    lack = f" ({len(missing)} cells are missing)" if missing else ""
    return f"study {study}{lack}: {', '.join([f'{file}.md', f'{file.name}.csv', *pictures])}"
