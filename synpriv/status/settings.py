"""What tells cells of one method, data set and canary kind apart: settings instead of hashes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from synpriv.results import names

DESCRIPTION = "cell.yaml"
_LONGEST = 100_000  # bytes; ours have a few thousand


def differing(results: Path, cells: Iterable[str]) -> dict[str, str]:
    """The settings, as ` key=value`, of each cell whose name is another's but for its hash.

    Left out: cells that were not begun, and those whose description cannot be read.
    """
    groups: dict[str, list[str]] = {}
    for cell in cells:
        groups.setdefault(cell.rpartition("-")[0], []).append(cell)
    found: dict[str, str] = {}
    for group in groups.values():
        if len(group) > 1:
            read = {cell: _settings(results / cell / DESCRIPTION) for cell in group}
            told = {cell: settings for cell, settings in read.items() if settings}
            found |= dict(zip(told, _endings(told), strict=True))
    return found


def _endings(told: dict[str, dict[str, Any]]) -> list[str]:
    nothing: dict[str, Any] = {"attack": "", "attack_options": {}}
    about = nothing | {"method": "", "dataset": "", "canary": ""}
    reports = [about | {"cell": cell, "settings": told[cell]} for cell in told]
    return [ending.strip() for ending in names.distinct_methods(reports)]


def _settings(file: Path) -> dict[str, Any]:
    """Dotted keys of a description; {} for what is none."""
    try:
        if not file.is_file() or file.stat().st_size > _LONGEST:
            return {}
        text = file.read_bytes()
        if b"&" in text and b"*" in text:  # aliases, of which a stranger's file may unfold for ever
            return {}
        said = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        plain = json.loads(json.dumps(said))  # dates, sets and bytes are none of ours
        return names.flat(plain) if isinstance(plain, dict) else {}
    except (OSError, ValueError, TypeError, RecursionError, yaml.YAMLError):
        return {}
