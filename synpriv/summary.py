"""What a sweep ends with: the table of its cells, what is missing, and the files of a study."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from omegaconf import DictConfig

from synpriv import audits, pipeline, terminal
from synpriv.report import names, table, trade_off
from synpriv.results import store
from synpriv.results.reports import Report
from synpriv.shadow.cells import cell_of

FEWEST = 6  # models that the default attack needs


def what_is_missing(cell: store.Cell, *, hints: bool, grows: bool) -> str:
    """Why a cell is not audited yet, and (hints) what to run.

    grows: fewer models are the first ones of the same cell; else they are another cell.
    """
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
        found[file] = Outcome(cell, file, complete, grows, report)
    return list(found.values())


def summary(configs: Iterable[DictConfig], *, hints: bool = True) -> str:
    """The table of the audited cells, where their pictures are, and (hints) what others lack."""
    configs = list(configs)
    reports: list[Report] = []
    lines: list[str] = []
    drawn: list[str] = []
    for cell, file, complete, grows, report in outcomes(configs):
        if not complete:
            lines.append(what_is_missing(cell, hints=hints, grows=grows))
        if report is None and complete:
            lines.append(f"{cell.folder}: no report of attack={file.stem} from these models")
        if report is not None:
            reports.append(report)
            pictures = [file.with_name(name) for name in report["files"] if name.endswith(".png")]
            drawn.append(", ".join(map(str, pictures)))
    pairs = zip(names.distinct_names(reports), drawn, strict=True)
    lines += [f"pictures of {name}: {pictures}" for name, pictures in pairs]
    for place in dict.fromkeys(Path(cfg.results) for cfg in configs):
        if not place.is_absolute():  # it follows the folder that the command was started in
            lines.append(f"{place} is {place.absolute()}")
    plain = [terminal.one_line(line) for text in lines for line in text.splitlines()]
    return "\n".join(["", *([table.text(reports)] if reports else []), *plain])


def write_study(configs: Sequence[DictConfig]) -> str:
    """Write a sweep's figure and table, named by study and attack; returns what was written."""
    study, results = configs[0].study, Path(configs[0].reports or configs[0].results)
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
