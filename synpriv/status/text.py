"""The state of a results folder in lines for people and as plain data for programs.

Names, reasons and hosts come from files and may be a stranger's: every line goes through
`terminal`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from synpriv import terminal
from synpriv.status import totals
from synpriv.status.cells import Cell
from synpriv.status.totals import Totals

_MOST = 8  # runs or ranges that a line names
_BEGUN = "not trained, nobody works on it and no sweep says that it asked for it"
# What may be cut off on a narrow terminal comes last.
_HEADER = ("cell", "done", "running", "failed", "missing", "left", "disk", "audited", "settings")


def lines(cells: Sequence[Cell], total: Totals, now: float) -> list[str]:
    """A table of the cells, what is wrong, who works, and the totals."""
    shown = [terminal.shown(text) for text in (*_table(cells, total, now), *_details(cells, now))]
    return [*shown, terminal.shown(in_words(total))]


def in_words(total: Totals) -> str:
    """The totals in one line."""
    counts = [f"{total.done} done"]
    for name in ("running", "failed", "damaged", "missing", "begun", "unreadable"):
        if number := getattr(total, name):
            counts.append(f"{number} {name}")
    if total.unaudited:
        counts.append(f"{total.unaudited} not audited")
    return f"total: {', '.join(counts)}; {megabytes(total.num_bytes)}{_time_left(total)}"


def _time_left(total: Totals) -> str:
    """How long it will take, and what that is reckoned from."""
    if not (total.running or total.missing):
        return ""
    if not total.work_s and total.unknown:
        return "; time left is known once a run is finished"
    least = "at least " if total.unknown else "about "
    if not total.workers:
        return f"; nobody works on it, one worker would need {least}{duration(total.work_s)}"
    each = f"{total.workers} worker{'s' * (total.workers > 1)}"
    how = f"the median of finished runs, {each} now"
    return f"; {least}{duration(total.work_s / total.workers)} left ({how})"


def _table(cells: Sequence[Cell], total: Totals, now: float) -> Iterator[str]:
    if not cells:
        yield "no cell yet"
        return
    rows = [_HEADER, *(_row(cell, total.workers, now) for cell in cells)]
    if not any(cell.settings for cell in cells):
        rows = [row[:-1] for row in rows]
    rows = [tuple(terminal.shown(text) for text in row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(t.ljust(w) for t, w in zip(row, widths, strict=True)).rstrip()


def _row(cell: Cell, workers: int, now: float) -> tuple[str, ...]:
    ahead = totals.work_s(cell, now) if cell.missing or cell.running else 0.0
    left = "?" if ahead is None else duration(ahead / workers) if ahead and workers else ""
    whole = len({*cell.asked, *cell.runs} if cell.asked else cell.done)
    bad = len(cell.failed) + len(cell.damaged)
    audits = ", ".join(a if w == "up to date" else f"{a} ({w})" for a, w in cell.audits.items())
    if cell.auditor:
        audits = f"{audits}, now".removeprefix(", ")
    return (
        cell.name,
        f"{len(cell.done)}/{whole}" if cell.asked else str(len(cell.done)),
        _or_none(len(cell.running)),
        _or_none(bad),
        _or_none(len(cell.missing)),
        left or "-",
        megabytes(cell.num_bytes),
        audits or ("measures accuracy" if cell.measures else "-"),
        cell.settings,
    )


def _or_none(number: int) -> str:
    return str(number) if number else "-"


def _details(cells: Sequence[Cell], now: float) -> Iterator[str]:
    """Who works on what, and why runs failed or cannot be used, one reason once."""
    for cell in cells:
        working = [
            f"{cell.name}: seed {seed} by process {who.pid} on {who.host}, since {who.since}"
            f"{_kept(cell.runs[seed].kept_at, now)}"
            for seed, who in cell.running.items()
        ]
        if cell.auditor is not None:
            who = cell.auditor
            working.append(f"{cell.name}: audited by process {who.pid} on {who.host}")
        yield from _some(working)
    yield from _some(_by_reason("FAILED", ((cell.name, cell.failed) for cell in cells)))
    yield from _some(_by_reason("DAMAGED", ((cell.name, cell.damaged) for cell in cells)))
    begun = ((cell.name, dict.fromkeys(cell.begun, _BEGUN)) for cell in cells)
    yield from _some(_by_reason("BEGUN", begun))
    if not totals.workers(cells) and not any(cell.auditor for cell in cells):
        yield from _some(_go_on(cells))


def _go_on(cells: Sequence[Cell]) -> list[str]:
    """The commands of sweeps of which something is not there, and may be had."""
    ahead = [c for c in cells if c.missing or c.failed or c.damaged or c.lacking]
    commands = dict.fromkeys(command for cell in ahead for command in cell.commands)
    return [f"go on with: {command}" for command in commands]


def _kept(at: float | None, now: float) -> str:
    """How much a kill would lose of a run with a checkpoint."""
    return "" if at is None else f", kept {duration(max(0.0, now - at))} ago"


def _by_reason(word: str, found: Iterable[tuple[str, Mapping[int, str]]]) -> list[str]:
    seeds: dict[str, dict[str, list[int]]] = {}
    for name, reasons in found:
        for seed, reason in reasons.items():
            seeds.setdefault(reason, {}).setdefault(name, []).append(seed)
    return [
        f"{word} {sum(map(len, of.values()))} x {reason}  "
        f"({'; '.join(_some([f'{name}: {ranges(each)}' for name, each in of.items()]))})"
        for reason, of in seeds.items()
    ]


def _some(words: Sequence[str]) -> list[str]:
    more = [f"and {len(words) - _MOST} more"] if len(words) > _MOST else []
    return [*words[:_MOST], *more]


def ranges(seeds: Iterable[int]) -> str:
    """As they are typed: 0..3,7."""
    found = []
    for _, group in itertools.groupby(enumerate(sorted(seeds)), lambda pair: pair[1] - pair[0]):
        every = [seed for _, seed in group]
        found.append(str(every[0]) if len(every) == 1 else f"{every[0]}..{every[-1]}")
    return ",".join(found)


def megabytes(num: int) -> str:
    """In units of 1000 bytes, as disks are sold and `du --si` counts."""
    amount = float(num)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def duration(seconds: float) -> str:
    """In its two largest units."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours:02d}h"
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


def plain(cells: Sequence[Cell], total: Totals, wrong: Sequence[str], now: float) -> dict[str, Any]:
    """The same as JSON data; seconds and bytes."""
    return {
        "at": round(now, 3),
        "total": {**total._asdict(), "left_s": total.left_s},
        "cells": [_plain_cell(cell, now) for cell in cells],
        "unreadable": list(wrong),
    }


def _plain_cell(cell: Cell, now: float) -> dict[str, Any]:
    return {
        "cell": cell.name,
        "asked": sorted(cell.asked),
        "done": cell.done,
        "running": {seed: holder._asdict() for seed, holder in cell.running.items()},
        "failed": cell.failed,
        "damaged": cell.damaged,
        "missing": cell.missing,
        "begun": cell.begun,
        "audits": cell.audits,
        "audited_by": None if cell.auditor is None else cell.auditor._asdict(),
        "measures_accuracy": cell.measures,
        "median_s": cell.median_s,
        "work_s": totals.work_s(cell, now),
        "bytes": cell.num_bytes,
        "settings": cell.settings,
        "commands": cell.commands,
    }
