"""conf/scale: the sizes of all recipes, one page per scale, and what reads them."""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import MEANS, ROOT, Compose, facts_like
from omegaconf import DictConfig, OmegaConf

from synpriv import config
from synpriv.shadow import cells
from synpriv.shadow.check import check
from synpriv.shadow.recipes import check_recipes, configured_facts, recipes_of

CONF = ROOT / "conf"
METHODS = sorted(file.stem for file in (CONF / "method").glob("*.yaml"))
EXPERIMENTS = sorted(file.stem for file in (CONF / "experiment").glob("*.yaml"))
# Data that each scale is for: images per class, their shape.
DATA = {"digits": (100, (1, 8, 8)), "small": (500, (1, 28, 28)), "paper": (5000, (3, 32, 32))}


@functools.cache  # not to be changed
def sizes(scale: str) -> DictConfig:
    """The sections of a scale, as Hydra merges them."""
    files = [CONF / "scale" / f"{name}.yaml" for name in ("digits", scale)]
    merged = OmegaConf.merge(*map(OmegaConf.load, files))
    assert isinstance(merged, DictConfig)
    return OmegaConf.masked_copy(merged, [key for key in merged if key != "defaults"])


def leaves(node: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        inside = f"{where}.{key}".strip(".")
        yield from leaves(value, inside) if isinstance(value, dict) else [(inside, value)]


class Methods:
    """All methods of conf/ at the default scale, from one composition instead of many."""

    def __init__(self, compose: Compose) -> None:
        words = (f"+method@method.every.{name}={name}" for name in METHODS)
        self.base = compose(*words)
        self.nodes = self.base.method.every
        self.nodes.external.generate = f"{MEANS}:make"
        self.base.method = {}

    def of(self, name: str) -> DictConfig:
        cfg = self.base.copy()
        cfg.method = self.nodes[name]
        return cfg


@pytest.fixture(scope="module")
def methods(compose: Compose) -> Methods:
    return Methods(compose)


def test_the_files_are_the_scales_that_are_tested() -> None:
    assert {file.stem for file in (CONF / "scale").glob("*.yaml")} == set(DATA)


@pytest.mark.parametrize("scale", DATA)
@pytest.mark.parametrize("method", [m for m in METHODS if m != "precomputed"])  # needs its sets
def test_every_recipe_takes_the_sizes_of_every_scale(
    method: str, scale: str, methods: Methods
) -> None:
    cfg = methods.of(method)
    assert cfg.scale == sizes("digits")
    cfg.scale = sizes(scale)
    per_class, shape = DATA[scale]
    num = 10 * per_class
    facts = {"image_shape": shape, "expected_size": num, "num_train": num, "num_public": num}
    facts |= {"smallest_class": per_class, "largest_public_label": 9, **configured_facts(cfg)}
    check_recipes(recipes_of(cfg), facts_like(**facts))


def test_a_scale_is_chosen_by_one_word(compose: Compose) -> None:
    cfg = compose("method=dfkd", "scale=small")
    assert cfg.scale == sizes("small")
    assert cfg.method.codes_per_round == 256
    assert cfg.method.teacher.crop is cfg.method.crop is False


def test_every_size_is_read_by_a_method(methods: Methods) -> None:
    content = OmegaConf.to_container(methods.nodes, resolve=False)
    read = {str(value) for _, value in leaves(content)}
    known = dict(leaves(OmegaConf.to_container(sizes("digits"))))
    assert {f"${{scale.{key}}}" for key in known} <= read
    for scale in DATA:
        assert set(dict(leaves(OmegaConf.to_container(sizes(scale))))) == set(known)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_sets_sizes_that_there_are(experiment: str) -> None:
    content = OmegaConf.to_container(OmegaConf.load(CONF / "experiment" / f"{experiment}.yaml"))
    assert isinstance(content, dict)
    known = dict(leaves(OmegaConf.to_container(sizes("digits"))))
    assert set(dict(leaves(content.get("scale", {})))) <= set(known)


def test_only_what_a_method_resolves_to_names_its_cell(compose: Compose) -> None:
    cfg = compose()
    before = cfg.cell
    cfg.scale.dfkd.num_rounds = 50
    assert cfg.cell == before
    cfg.scale.undefended.num_epochs = 31
    other = compose()
    other.method.num_epochs = 31
    assert cfg.cell == other.cell != before
    assert "scale" not in config.science(cfg)


def test_what_is_built_on_is_of_the_same_scale(methods: Methods) -> None:
    dfkd, undefended, el2n = (methods.of(name) for name in ("dfkd", "undefended", "coreset_el2n"))
    for cfg in (dfkd, undefended, el2n):
        cfg.scale.undefended.num_epochs, cfg.scale.proxy.lr = 7, 0.3
    (teacher, _), *_ = cells.built_on(dfkd)
    assert teacher.name == undefended.cell
    assert config.of_prerequisite(dfkd, "teacher").method.num_epochs == 7
    proxy = config.of_prerequisite(el2n, "proxy").method
    assert (proxy.num_epochs, proxy.lr) == (20, 0.3)


def test_a_part_with_a_network_of_its_own_keeps_its_sizes(compose: Compose) -> None:
    cfg = compose("method=dfkd", "model@method.teacher.model=resnet18")
    cfg.scale = sizes("small")
    own = config.of_prerequisite(cfg, "teacher")
    assert (own.model.name, own.method.num_epochs) == ("resnet18", 40)
    assert "method.teacher.model" in recipes_of(cfg)


def test_a_method_of_somebody_s_own_needs_no_scale(tmp_path: Path, compose: Compose) -> None:
    (tmp_path / "method").mkdir()
    text = "# Mine.\n_target_: synpriv.methods.recipe.Classifier\nname: mine\nnum_epochs: 3\n"
    (tmp_path / "method/mine.yaml").write_text(f"{text}batch_size: 8\nlr: 0.1\n")
    cfg = compose("method=mine", f"hydra.searchpath=[{tmp_path}]")
    assert cfg.cell.startswith("mine-digits-")
    assert recipes_of(cfg)["method"].num_epochs == 3  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("method", "key", "message"),
    [
        ("undefended", "undefended.num_epoch", r"scale\.undefended\.num_epoch: .* num_epochs\?"),
        ("distill", "distill_dm.student.epochs", r"scale\.distill_dm\.student\.epochs: no such"),
        ("undefended", "undefended.weight_decay", r"scale\.undefended\.weight_decay: no such"),
        ("undefended", "undefendedd.lr", r"scale\.undefendedd: .* did you mean undefended\?"),
        ("undefended", "dfkd.temperature", r"scale\.dfkd\.temperature: no such option"),
        ("coreset_el2n", "proxy.weight_decay", r"scale\.proxy\.weight_decay: no such option"),
        ("undefended", "undefended.lr", r"^method\.lr=-1: must be positive"),
    ],
)
def test_a_wrong_size_is_named(method: str, key: str, message: str, methods: Methods) -> None:
    cfg = methods.of(method)
    OmegaConf.update(cfg.scale, key, -1, force_add=True)
    with pytest.raises(ValueError, match=message):
        check(cfg)


def test_published_rows_are_audited_as_they_were_published(compose: Compose) -> None:
    cfg = compose("experiment=aerni2024_dpsgd_medium")
    assert (cfg.num_models, cfg.canary.num_canaries, cfg.canary.membership) == (64, 500, "balanced")
    assert (cfg.attack.name, cfg.attack.score, cfg.attack.queries) == ("lira_parent", "logit", 1)
    row = {"batch_size": 2048, "num_epochs": 200, "noise_multiplier": 0.2, "num_views": 8}
    row |= {"lr": 4.0, "ema_decay": 0.9999, "delta": 1e-5, "padding": "zero"}
    assert {key: cfg.method[key] for key in row} == row
    dfkd = compose("experiment=aerni2024_dfkd")
    teacher = config.of_prerequisite(dfkd, "teacher").method
    assert (teacher.num_epochs, [*teacher.milestones], teacher.nesterov) == (
        200, [60, 120, 160], False,
    )  # fmt: skip
    assert dfkd.method.num_rounds == 240
    study = compose("experiment=zhao2025")
    assert (study.admission, study.num_models, study.canary.num_canaries) == (0.73, 32, 500)
