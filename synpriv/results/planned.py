"""What sweeps asked for in a cell, beside its runs: what `python -m synpriv.status` calls missing.

A file per plan, named by its content, so that sweeps that share a cell write no file of another
one. Nothing is trained, audited or refused for what stands here, and any of it may be removed.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from typing_extensions import TypedDict  # typing's own is too old for pydantic

from synpriv.results import store, vouched

PREFIX = ".planned-"  # hidden, as what ends in .json in a cell's folder is a report


class Asked(TypedDict):
    """What a sweep asks of a cell."""

    seeds: list[int]
    num_models: int
    attack: str | None  # whose report is to lie beside the runs
    builds_on: dict[str, bool]  # cells, and whether with a run of each seed or with one for all


class Plan(NamedTuple):
    """What was asked, and the command of the sweep that did first."""

    asked: Asked
    command: str | None


def note(cell: Path, asked: Asked, command: str | None) -> None:
    """Leave word of what is asked, unless it is there and can be read."""
    file = cell / f"{PREFIX}{vouched.json_sha256(asked)[:8]}.json"
    there, _ = read([file]) if file.is_file() else ([], [])
    if [plan.asked for plan in there] != [asked]:
        store.write_json(file, {**asked, "command": command})


def forget(cell: Path, command: str | None) -> None:
    """What this command asked for is not wanted any more."""
    for file in cell.glob(f"{PREFIX}*.json"):
        there, _ = read([file])
        if [plan.command for plan in there] == [command]:
            file.unlink(missing_ok=True)


def read(files: Iterable[Path]) -> tuple[list[Plan], list[str]]:
    """The plans in these files, and in words what is wrong with files that are none."""
    found, wrong = [], []
    for file in files:
        try:
            said = json.loads(file.read_bytes())
            command = said.pop("command")
            asked = _shape().validate_python(said, strict=True)
            found.append(Plan(asked, None if command is None else str(command)))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            why = f"{type(error).__name__}: {vouched.first_line(error)}"
            wrong.append(f"{file} is no plan of a sweep ({why}); it may be removed")
    return found, wrong


@functools.cache
def _shape() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Asked)
