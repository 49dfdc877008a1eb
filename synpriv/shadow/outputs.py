"""Whether what finished runs left is still there: weights, synthetic sets, records, closest pairs.

No statistic of a report needs it, so a loss is named, and nothing is trained for it unless asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig

from synpriv import config, terminal
from synpriv.data.folder import some
from synpriv.results import canary_images, store
from synpriv.shadow.cells import DESCRIPTION, built_on, cell_of, description


def warn(cfg: DictConfig) -> None:
    """Name outputs that are missing or damaged, of a cell and of those that it builds on."""
    cell = cell_of(cfg)
    finished = [seed for seed in cell.trained() if cell.problem(seed) is None]
    _describe_again(cell, config.science(cfg))
    _name_damaged_canaries(cell, finished)
    if lost := _lost(cell, finished, verify=cfg.verify):
        then = "trained again now" if cfg.repair else "repair=true trains these runs again"
        _say(f"warning: {cell.folder}: {some(lost)}; no statistic needs that, {then}")
    for own, science in built_on(cfg):
        _describe_again(own, science)
        _name_damaged_canaries(own, own.trained())
        if lost := _lost(own, own.trained(), verify=cfg.verify):
            _say(f"warning: {own.folder}: {some(lost)}; made again when a training needs it")


def _lost(cell: store.Cell, seeds: Sequence[int], *, verify: bool) -> list[str]:
    return [words for seed in seeds for words in cell.lost(seed, verify=verify)]


def _describe_again(cell: store.Cell, science: dict[str, Any]) -> None:
    """Write cell.yaml of a cell with finished runs again if it is not as it was."""
    file, content = cell.folder / DESCRIPTION, description(science)
    if not cell.trained() or (file.is_file() and file.read_bytes() == content):
        return
    try:
        store.write_bytes(file, content)
    except OSError as error:
        _say(f"warning: {file} is lost or damaged and cannot be written ({error.strerror})")
    else:
        _say(f"note: {file} was lost or damaged and is written again")


def _name_damaged_canaries(cell: store.Cell, seeds: Sequence[int]) -> None:
    """Say that the images of the canaries are damaged; a cell of an earlier time has none."""
    intact = (seed for seed in seeds if cell.problem(seed) is None)
    sha256 = next((cell.metrics(seed).get("canaries_sha256") for seed in intact), None)
    if sha256 is not None and (why := canary_images.problem(cell.folder, sha256)):
        _say(f"warning: {why}; no statistic needs it, the next run of it that is trained heals it")


def _say(line: str) -> None:
    print(terminal.one_line(line))
