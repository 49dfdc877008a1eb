"""Whatever can be refused before anything is trained: data, canaries, options, in one line.

Nothing here needs torch, unless a data set is torchvision's or a method is somebody's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hydra.utils import get_object
from omegaconf import DictConfig

from synpriv import config
from synpriv.data.draws import Draw
from synpriv.data.intake import Pools, Record, record
from synpriv.recipe import Recipe
from synpriv.results import store
from synpriv.shadow.pools import draw_canaries, facts_of, load_pools
from synpriv.shadow.recipes import check_recipes, recipes_of


def announce(configs: Iterable[DictConfig]) -> None:
    """Check cells and print what is seen of their data, each data set once."""
    printed = set()
    for cfg in configs:
        seen = check(cfg)
        if seen["sha256"] not in printed:
            printed.add(seen["sha256"])
            print(f"data: {seen['in_words']}")
            print("".join(f"warning: {warning}\n" for warning in seen["warnings"]), end="")
        if cfg.check:
            print(f"checked, nothing was trained: {in_words(cfg)}")


def check(cfg: DictConfig, *, attacked: bool = True) -> Record:
    """What is seen of the data of a cell that can be trained; ValueError if it cannot.

    All shadow models are checked, not only the one that is to be trained: a cell that can never be
    complete is not begun. attacked: by `cfg.attack`.
    """
    config.validate(cfg)
    recipes, method = recipes_of(cfg), get_object(cfg.method["_target_"])
    if attacked:
        config.check_attack(cfg, images=method.releases_images)
    pools = load_pools(cfg)
    if method.promises_privacy and pools.own_constants:
        raise ValueError(
            f"dataset.mean={list(cfg.dataset.mean)}: is the mean of the private images, "
            f"which the epsilon of method={cfg.method.name} does not cover; use public "
            "constants, say 'dataset.mean=[0.5]' 'dataset.std=[0.25]'"
        )
    _check_every_model(cfg, recipes, pools, draw_canaries(cfg, pools))
    seen = record(pools)
    store.Cell(Path(cfg.results), cfg.cell, cfg.num_models).check_data(seen["sha256"])
    return seen


def _check_every_model(
    cfg: DictConfig, recipes: dict[str, Recipe], pools: Pools, drawn: Draw
) -> None:
    """Check the recipes against the private set of each shadow model: sizes differ."""
    wrong: dict[int, str] = {}
    for seed in range(cfg.num_models):
        try:
            check_recipes(recipes, facts_of(cfg, pools, drawn, seed))
        except ValueError as error:
            wrong[seed] = str(error)
    if not wrong:
        return
    reason = next(iter(wrong.values()))
    if len(wrong) == cfg.num_models:
        raise ValueError(reason)
    seeds = ", ".join(map(str, list(wrong)[:8])) + (", ..." if len(wrong) > 8 else "")
    many = f"{len(wrong)} of {cfg.num_models}"
    raise ValueError(
        f"{reason} (in {many} shadow models, seeds {seeds}: the cell stays incomplete)"
    )


def in_words(cfg: DictConfig) -> str:
    """What a cell would be, and the smallest FPR that its audit resolves."""
    canary, non_members = cfg.canary, cfg.canary.num_canaries * cfg.num_models // 2
    return (
        f"{cfg.cell}: {cfg.num_models} shadow models, {canary.num_canaries} {canary.kind} "
        f"canaries, attack={cfg.attack.name}; resolves an FPR of {1 / non_members:.2g}"
    )
