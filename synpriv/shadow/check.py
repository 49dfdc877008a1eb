"""Whatever can be refused before anything is trained: data, canaries, options, in one line.

Nothing here needs torch, unless a data set is torchvision's, or a method or network somebody's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from omegaconf import DictConfig

from synpriv import config, hardware, terminal, tracking
from synpriv.audit.metrics import ENOUGH_FALSE_POSITIVES
from synpriv.data import archive
from synpriv.data.draws import Draw, wrong_label_share
from synpriv.data.groups import expected_images
from synpriv.data.intake import Pools, Record, content_sha256, record
from synpriv.fingerprint import code_sha256
from synpriv.recipe import Recipe
from synpriv.shadow.accuracy import clean_runs
from synpriv.shadow.cells import DESCRIPTION, cell_of
from synpriv.shadow.pools import draw_canaries, facts_of, load_pools, load_pools_on_disk, sizes_of
from synpriv.shadow.recipes import batches, check_recipes, own_networks, recipes_of
from synpriv.signatures import require, target_of

LARGE = 64  # pixels a side, above which a step's memory is counted
COPIES = 3  # of the images in a run: those that were read, its own, and as tensors
MOST_WRONG = 1 / 15  # of the labels: an eighth of the private images are canaries


def announce(
    configs: Iterable[DictConfig], *, trains_here: bool = True, said: set[str] | None = None
) -> None:
    """Check cells and print what is seen of their data, each data set once.

    said: what was printed before and is not again; it grows.
    """
    printed = set[str]() if said is None else said
    configs = list(configs)
    for cfg in configs:
        try:
            seen = check(cfg, trains_here=trains_here)
        except ValueError as error:
            where = f" (in {cfg.cell})" if len(configs) > 1 else ""
            raise ValueError(f"{error}{where}") from error
        warnings = (*seen["warnings"], *_about_canaries(cfg, seen))
        lines = [f"data: {seen['in_words']}", *(f"warning: {words}" for words in warnings)]
        for line in [line for line in map(terminal.one_line, lines) if line not in printed]:
            printed.add(line)
            print(line)
        if cfg.check:
            print(f"checked, nothing was trained: {in_words(cfg)}")


def note_part(cfg: DictConfig, num_asked: int) -> None:
    """Say of a sweep that is only checked that its audit would wait for other models."""
    if num_asked < cfg.num_models and not cfg.partial:
        asked = f"{num_asked} of {cfg.num_models} shadow models are asked for"
        whole = f"seeds 0..{cfg.num_models - 1}"
        print(f"note: {cfg.cell}: {asked}; it is audited once {whole} are there")


def note_twins(variants: Iterable[tuple[DictConfig, Sequence[str]]]) -> None:
    """Name overrides of a sweep whose values nothing reads: their audits are one and the same."""
    first: dict[tuple[str, str], Sequence[str]] = {}
    for cfg, words in variants:
        other = first.setdefault((cfg.cell, cfg.attack.name), words)
        if other is not words:
            mine = " ".join(word for word in words if word not in other)
            theirs = " ".join(word for word in other if word not in words)
            line = f"note: {theirs} and {mine} are one cell: nothing there reads what differs"
            print(terminal.one_line(line))


def confirm(cfg: DictConfig) -> None:
    """Compare a finished cell with what is there now: other data are refused, other code is said.

    Data that are not there any more are no reason to hide a result, but that is said too.
    """
    tracking.check(cfg)
    check_attack(cfg)
    try:
        pools = load_pools_on_disk(cfg)
    except ValueError as error:
        print(f"note: {cfg.cell}: finished, its data could not be compared ({error})")
    else:
        cell_of(cfg).check_data(content_sha256(pools))


def warn_of_code(cfg: DictConfig) -> None:
    """Name a cell whose shadow models were trained by other code than is there now."""
    cell, now = cell_of(cfg), code_sha256(cfg.method["_target_"])
    there = [seed for seed in cell.trained() if cell.problem(seed) is None]
    other = [seed for seed in there if cell.metrics(seed).get("code_sha256", now) != now]
    if other:
        print(
            f"warning: {len(other)} of {len(there)} shadow models of {cfg.cell} were trained by "
            f"other code than is there now; move {cell.folder} away to train them again"
        )


def check(cfg: DictConfig, *, attacked: bool = True, trains_here: bool = True) -> Record:
    """What is seen of the data of a cell that can be trained; ValueError if it cannot.

    All shadow models are checked, not only the one that is to be trained: a cell that can never be
    complete is not begun. attacked: by `cfg.attack`. trains_here: or on machines that have GPUs and
    compilers which this one need not have.
    """
    config.validate(cfg)
    tracking.check(cfg)
    if cfg.trainer.accelerator == "gpu" and trains_here:
        from synpriv.shadow.fitting import device_of  # torch, which only a GPU needs here

        device_of(cfg.trainer)
    fits = cfg.trainer.step != "compile" or not trains_here or hardware.has_compiler()
    require(fits, "trainer.step=compile", "eager or graph: no C++ compiler (g++) is here")
    recipes, method = recipes_of(cfg), target_of(cfg.method, "method")
    if attacked:
        check_attack(cfg)
    pools = load_pools(cfg)
    if method.promises_privacy and pools.own_constants:
        raise ValueError(
            f"dataset.mean={list(cfg.dataset.mean)}: is the mean of the private images, "
            f"which the epsilon of method={cfg.method.name} does not cover; use public "
            "constants, say 'dataset.mean=[0.5]' 'dataset.std=[0.25]'"
        )
    if own := own_networks(cfg, recipes.get("method")):
        from synpriv.shadow.networks import check_networks  # torch, which these have imported

        check_networks(own, pools, cfg)
    _check_every_model(cfg, recipes, pools, draw_canaries(cfg, pools))
    seen, cell = record(pools), cell_of(cfg)
    said = [words for recipe in recipes.values() for words in recipe.warnings()]
    seen["warnings"] = [*seen["warnings"], *said, *_about_memory(cfg, recipes, pools)]
    above = not (cell.results / DESCRIPTION).is_file()
    require(
        above, f"results={cfg.results}: is a cell", f"the folder above it, {cell.results.parent}"
    )
    cell.check_owner()
    cell.check_data(seen["sha256"])
    return seen


def check_attack(cfg: DictConfig) -> None:
    """Refuse an attack on what the method does not release, on finished cells too."""
    images = getattr(target_of(cfg.method, "method"), "releases_images", True)
    config.check_attack(cfg, images=images)


def _check_every_model(
    cfg: DictConfig, recipes: dict[str, Recipe], pools: Pools, drawn: Draw
) -> None:
    """Check the recipes against the private set of each shadow model: sizes differ."""
    facts, wrong = facts_of(cfg, pools, drawn, seed=0), {}
    for seed in range(cfg.num_models):
        size, smallest = sizes_of(pools, drawn, seed)
        try:
            own = replace(facts, seed=seed, num_train=size, smallest_class=smallest)
            check_recipes(recipes, own)
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


def _about_memory(cfg: DictConfig, recipes: dict[str, Recipe], pools: Pools) -> list[str]:
    """Large images are held, and their steps keep activations: said or refused before they are."""
    held = COPIES * (pools.private.images.nbytes + pools.test.images.nbytes)
    most, found = archive.memory(), []
    if held > most:
        many = f"a run holds the images about {COPIES} times, {archive.readable(held)}"
        found.append(f"{many} of {archive.readable(most)} of memory: smaller images need less")
    if max(pools.image_shape[1:]) <= LARGE:
        return found
    from synpriv.shadow.memory import check_steps  # torch, which only large images need here

    return [*found, *check_steps(batches(cfg, recipes), pools, cfg)]


def _about_canaries(cfg: DictConfig, seen: Record) -> list[str]:
    """Many wrong labels disturb what is audited."""
    canary = cfg.canary
    num = expected_images(canary.num_canaries, seen)
    wrong = wrong_label_share(canary.kind, num, seen["num_private"])
    if wrong <= MOST_WRONG:
        return []
    what = "canaries" if seen["groups"] is None else "canary groups"
    return [
        f"{canary.num_canaries} mislabelled {what} of {seen['num_private']:,} private images "
        f"make {wrong:.0%} of the labels wrong: what is audited is a training so disturbed"
    ]


def in_words(cfg: DictConfig) -> str:
    """What a cell would be, and the smallest FPR that its audit resolves."""
    canary, non_members = cfg.canary, cfg.canary.num_canaries * cfg.num_models // 2
    validation = cfg.dataset.get("num_validation") is not None
    clean = clean_runs(cfg)
    what = "canaries" if cfg.dataset.get("groups") is None else "canary groups"
    measured = "; accuracy" * (validation or clean is not None)
    measured += f" of {len(clean.seeds)} runs with clean canaries" if clean else ""
    measured += " on validation images" * validation
    smallest = f"resolves an FPR of {ENOUGH_FALSE_POSITIVES / non_members:.2g} and above"
    return (
        f"{cfg.cell}: {cfg.num_models} shadow models, {canary.num_canaries} {canary.kind} "
        f"{what}, attack={cfg.attack.name}; {smallest}{measured}"
    )
