"""A csv of one score per row, as the arrays that an npz of them holds."""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from synpriv.results.design import some
from synpriv.signatures import require

COLUMNS = ("canary", "model", "member", "score")
GROUP = "group"  # a column that may be there
_BITS = {"0": False, "1": True, "false": False, "true": True, "out": False, "in": True}


class Scores(NamedTuple):
    """What a csv says, its canaries and models in the natural order of their names."""

    arrays: dict[str, NDArray]  # scores float64, member bool [C,S], groups (words) [C] if given
    canaries: list[str]
    models: list[str]


class _Cell(NamedTuple):
    member: bool
    score: float
    group: str | None


def read(file: Path) -> Scores:
    """Scores and members [C,S] of rows (canary, model, member, score[, group]) in any order."""
    cells: dict[tuple[str, str], _Cell] = {}
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            fields = list(map(str, reader.fieldnames or []))
            if sorted(fields) not in (sorted(COLUMNS), sorted((*COLUMNS, GROUP))):
                right = f"{', '.join(COLUMNS)}, and {GROUP} if it is known"
                raise ValueError(f"{file}: columns {some(fields) or 'none'}: must be {right}")
            for row in reader:
                pair, cell = _of_row(row, len(fields), f"{file}, line {reader.line_num}")
                if pair in cells:
                    where = f"{file}, line {reader.line_num}: canary {pair[0]}, model {pair[1]}"
                    raise ValueError(f"{where} is there twice; give one score per pair")
                cells[pair] = cell
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{file}: not readable as csv in UTF-8 ({error})") from error
    require(bool(cells), f"{file}: no rows", "one per canary and model")
    return _arranged(cells, file)


def _arranged(cells: dict[tuple[str, str], _Cell], file: Path) -> Scores:
    canaries, models = (sorted({pair[i] for pair in cells}, key=_natural) for i in (0, 1))
    missing = len(canaries) * len(models) - len(cells)
    if missing:
        first = next((c, m) for c in canaries for m in models if (c, m) not in cells)
        raise ValueError(
            f"{file}: {missing} of {len(canaries)} x {len(models)} pairs have no score, the first "
            f"one canary {first[0]}, model {first[1]}; every canary needs a score by every model"
        )
    rows = [[cells[c, m] for m in models] for c in canaries]
    arrays = {
        "scores": np.array([[cell.score for cell in row] for row in rows]),
        "member": np.array([[cell.member for cell in row] for row in rows]),
    }
    if rows[0][0].group is not None:
        for canary, row in zip(canaries, rows, strict=True):
            several = sorted({str(cell.group) for cell in row})
            one = f"{file}: canary {canary} is of groups {some(several)}"
            require(len(several) == 1, one, "of one")
        arrays["groups"] = np.array([row[0].group for row in rows])
    return Scores(arrays, canaries, models)


def _of_row(row: dict[str, str], num: int, where: str) -> tuple[tuple[str, str], _Cell]:
    if None in row or None in row.values():
        raise ValueError(f"{where}: must have {num} values")
    bit = _BITS.get(row["member"].strip().lower())
    require(bit is not None, f"{where}: member={row['member']!r}", "0 or 1")
    try:
        score = float(row["score"])
    except ValueError:
        score = math.nan
    require(math.isfinite(score), f"{where}: score={row['score']!r}", "a finite number")
    group = row[GROUP].strip() if GROUP in row else None
    return (row["canary"].strip(), row["model"].strip()), _Cell(bool(bit), score, group)


def _natural(name: str) -> tuple[list[tuple[bool, int, str]], str]:
    """Runs of digits by their value, so that model_9 comes before model_10, all else as letters."""
    key = []
    for part in filter(None, re.split(r"([0-9]+)", name)):
        digits = part[0] in "0123456789"
        value = part.lstrip("0") if digits else part
        key.append((not digits, len(value) if digits else 0, value))
    return key, name
