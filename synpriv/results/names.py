"""Names that tell audits apart: by what differs between their cells, not by a hash."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

Report = dict[str, Any]
MOST = 3  # settings in a name
LONGEST = 24  # characters of a value
_NAMED = ("attack.name", "attack._target_")  # the attack's name says these


def flat(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted keys."""
    found: dict[str, Any] = {}
    for key, value in node.items():
        inside = isinstance(value, dict) and value
        found |= flat(value, f"{prefix}{key}.") if inside else {f"{prefix}{key}": value}
    return found


def distinct_names(reports: Sequence[Report]) -> list[str]:
    """Method with what differs, data set, canary, attack: equal only for audits that are the same.

    The same audit has the same cell and the same name of the attack.
    """
    short = distinct_methods(reports)
    return [
        ", ".join([name, *_kind(report)[1:]]) for name, report in zip(short, reports, strict=True)
    ]


def distinct_methods(reports: Sequence[Report]) -> list[str]:
    """The method of each report and, where others share all names, the settings that differ.

    At most three of them, as few as tell all cells of the group apart; where three do not, the end
    of the cell's name follows.
    """
    groups: dict[tuple[str, ...], list[int]] = {}
    for i, report in enumerate(reports):
        groups.setdefault(_kind(report), []).append(i)
    names = [report["method"] for report in reports]
    for group in groups.values():
        endings = _endings([reports[i] for i in group])
        for i, ending in zip(group, endings, strict=True):
            names[i] += ending
    return names


def _kind(report: Report) -> tuple[str, ...]:
    return report["method"], report["dataset"], report["canary"], report["attack"]


def _endings(group: Sequence[Report]) -> list[str]:
    """What follows the method in each name of a group that shares all names."""
    cells = [report["cell"] for report in group]
    if len(set(cells)) == 1:
        return [""] * len(group)
    options = [_options(report) for report in group]
    columns = _columns(options)
    chosen = _shortest(list(columns.values()), len(set(cells)))
    labels = _labels(options)
    words = [f"{labels[key]}=" for key in columns]
    endings = [
        "".join(" " + words[c] + list(columns.values())[c][row] for c in chosen)
        for row in range(len(group))
    ]
    shared = Counter(ending for ending, _ in set(zip(endings, cells, strict=True)))
    return [
        ending if shared[ending] == 1 else f"{ending} {cell.rpartition('-')[2]}"
        for ending, cell in zip(endings, cells, strict=True)
    ]


def _options(report: Report) -> dict[str, str]:
    """Settings of the cell, then the attack's, as they are written in a name."""
    attack = flat(report["attack_options"], "attack.")
    every = report["settings"] | {k: v for k, v in attack.items() if k not in _NAMED}
    hashes = {key: str(value)[:8] for key, value in every.items() if key.endswith("sha256")}
    return {key: _written(value) for key, value in (every | hashes).items()}


def _written(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"


def _columns(options: Sequence[dict[str, str]]) -> dict[str, tuple[str, ...]]:
    """Values of the keys that differ, the least deep first; of keys that differ alike, one."""
    every = dict.fromkeys(key for one in options for key in one)
    keys = sorted(every, key=lambda k: (k.count("."), k.endswith("._target_")))  # a name says more
    found: dict[str, tuple[str, ...]] = {}
    partitions = set()
    for key in keys:
        values = tuple(one.get(key, "-") for one in options)
        partition = tuple(values.index(value) for value in values)
        if any(partition) and partition not in partitions:
            partitions.add(partition)
            found[key] = values
    return found


def _shortest(columns: Sequence[tuple[str, ...]], num_cells: int) -> tuple[int, ...]:
    """The fewest columns, at most `MOST`, that tell all cells apart, or else as many as they can.

    Whole rows are compared; one column after the other is added where trying all would take long.
    """
    best: tuple[int, ...] = ()
    for size in range(1, min(MOST, len(columns)) + 1):
        some = range(len(columns))
        tried = itertools.combinations(some, size) if len(columns) <= 40 else _longer(best, some)
        best = max(tried, key=lambda chosen: _num_rows(columns, chosen))
        if _num_rows(columns, best) >= num_cells:
            break
    return best


def _longer(chosen: tuple[int, ...], some: range) -> list[tuple[int, ...]]:
    return [(*chosen, i) for i in some if i not in chosen]


def _num_rows(columns: Sequence[tuple[str, ...]], chosen: tuple[int, ...]) -> int:
    return len(set(zip(*(columns[c] for c in chosen), strict=True)))


def _labels(options: Sequence[dict[str, str]]) -> dict[str, str]:
    """Each key without what comes before its last words, as long as no other key ends so."""
    keys = dict.fromkeys(key for one in options for key in one)
    endings = Counter(ending for key in keys for ending in _tails(key))
    return {key: next((e for e in _tails(key) if endings[e] == 1), key) for key in keys}


def _tails(key: str) -> list[str]:
    """`c`, `b.c`, `a.b.c` of `a.b.c`."""
    parts = key.split(".")
    return [".".join(parts[-n:]) for n in range(1, len(parts) + 1)]
