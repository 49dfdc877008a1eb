"""Whatever can be refused before anything is trained: data, canaries, options, in one line.

Nothing here needs torch, unless a data set is torchvision's or a method is somebody's own.
"""

from __future__ import annotations

from hydra.utils import get_object
from omegaconf import DictConfig

from synpriv import config
from synpriv.data.draws import Draw
from synpriv.data.intake import Pools, Record, record
from synpriv.recipe import Recipe
from synpriv.shadow.pools import draw_canaries, facts_of, load_pools
from synpriv.shadow.recipes import check_attack, check_recipes, recipes_of


def check(cfg: DictConfig, *, attacked: bool = True) -> Record:
    """What is seen of the data of a cell that can be trained; ValueError if it cannot.

    All shadow models are checked, not only the one that is to be trained: a cell that can never be
    complete is not begun. attacked: by `cfg.attack`.
    """
    config.validate(cfg)
    recipes = recipes_of(cfg)
    if attacked:
        check_attack(cfg)
    pools = load_pools(cfg)
    if get_object(cfg.method["_target_"]).promises_privacy and pools.own_constants:
        raise ValueError(
            f"dataset.mean={list(cfg.dataset.mean)}: is the mean of the private images, "
            f"which the epsilon of method={cfg.method.name} does not cover; use public "
            'constants, say "dataset.mean=[0.5]" "dataset.std=[0.25]"'
        )
    _check_every_model(cfg, recipes, pools, draw_canaries(cfg, pools))
    return record(pools)


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
    listed = ", ".join(map(str, list(wrong)[:8])) + (", ..." if len(wrong) > 8 else "")
    raise ValueError(
        f"{reason} (so {len(wrong)} of {cfg.num_models} shadow models: seeds {listed})"
    )
