"""Recipes: built without torch, the path before what is wrong, one list of options."""

import dataclasses
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
from conftest import OUTSIDE, ROOT, Compose, facts_like
from hydra.utils import get_object
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationResolutionError

from synpriv import architectures, config
from synpriv.cli import one_line
from synpriv.data.images import StepChunks
from synpriv.methods.base import Method, Release
from synpriv.methods.dpsgd.recipe import DPSGD
from synpriv.methods.recipe import Classifier
from synpriv.recipe import Facts, Recipe
from synpriv.shadow.check import check
from synpriv.shadow.recipes import (
    check_recipes,
    configured_facts,
    construct,
    recipe_of,
    recipes_of,
)

METHODS = sorted(file.stem for file in (ROOT / "conf" / "method").glob("*.yaml"))
MODELS = sorted(file.stem for file in (ROOT / "conf" / "model").glob("*.yaml"))
# Composes each choice and prints the paths of its recipes, then what was imported on the way.
ALONE = """
import json, sys
from hydra import compose, initialize_config_dir
from synpriv import config
from synpriv.shadow.check import check
from synpriv.shadow.recipes import recipes_of
config.register()
found = {}
with initialize_config_dir(sys.argv[1], version_base="1.3"):
    for choice in sys.argv[2:]:
        cfg = compose("config", [*choice.split(), "attack=threshold", "num_models=4"])
        found[choice] = sorted(recipes_of(cfg))
        check(cfg)
heavy = {"torch", "pytorch_lightning", "opacus", "diffusers", "sklearn"}
heavy |= {"scipy.stats", "matplotlib"}
heavy &= set(sys.modules)
print(json.dumps([found, sorted(heavy)]))
"""


def test_every_yaml_is_checked_on_the_digits_without_heavy_imports() -> None:
    there = [f"method={m}" for m in METHODS if m != "precomputed"]  # of which there are no sets
    choices = [*there, *(f"model={m}" for m in MODELS)]
    words = [" ".join([choice, *OUTSIDE.get(choice, [])]) for choice in choices]
    command = [sys.executable, "-c", ALONE, str(ROOT / "conf"), *words]
    done = subprocess.run(
        command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=True
    )
    found, heavy = json.loads(done.stdout)
    assert heavy == []
    assert all({"model", "method"} <= set(paths) for paths in found.values())
    for method, parts in (
        ("coreset_el2n", {"method.proxy", "method.student"}),
        ("coreset_random", {"method.student"}),
        ("distill", {"method.embedder", "method.student"}),
        ("dfkd", {"method.teacher"}),
        ("diffusion_public", {"method.public_model", "method.student"}),
        ("dpsgd", set()),
    ):
        assert set(found[f"method={method}"]) == {"model", "method"} | parts


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["method.lr=-1"], r"^method\.lr=-1: must be positive$"),
        (["method.momentum=-1"], r"^method\.momentum=-1: must be at least 0, below 1$"),
        (["method.weight_decay=-1"], r"^method\.weight_decay=-1: must be at least 0$"),
        (["method.label_smoothing=3"], r"^method\.label_smoothing=3: must be at least 0, below 1$"),
        (["method.milestones=[3,1]"], r"^method\.milestones=\[3, 1\]: must be in rising order$"),
        (["method=distill", "method.lr=-1"], r"^method\.lr=-1: must be at least 0$"),
        (["method=dpsgd", "method.momentum=2"], r"^method\.momentum=2: must be"),
        (
            ["method=dpsgd", "method.target_epsilon=1e9"],
            r"^method\.target_epsilon=1\S+: must be",
        ),
        (["method.lr=x"], r"^method\.lr='x': must be a number$"),
        (["+method.learning=1"], r"^method\.learning: no such option"),
        (["+method.num_epoch=1"], r"^method\.num_epoch: .* did you mean num_epochs\?$"),
        (["~method.lr"], r"^method\.lr: has no default; write method\.lr=VALUE$"),
        (["model.width=0"], r"^model\.width=0: must be at least 1$"),
        (["model=convnet3", "model.depth=0"], r"^model\.depth=0: must be at least 1$"),
        (["model=wrn16_4", "model.norm=instance"], r"^model\.norm=instance: must be batch or gr"),
        (["method=distill", "method.student.lr=-1"], r"^method\.student\.lr=-1: must be"),
        (["method=distill", "method.embedder.width=0"], r"^method\.embedder\.width=0: must be"),
        (["method=dfkd", "method.losses.one_hot=-1"], r"^method\.losses\.one_hot=-1: must be"),
        (["method=dfkd", "+method.losses.bn=1"], r"^method\.losses\.bn: no such term"),
        (["method=dfkd", "method.teacher.lr=0"], r"^method\.teacher\.lr=0: must be"),
        (["method=coreset_el2n", "method.proxy.schedule=x"], r"^method\.proxy\.schedule=x: must"),
        (["method=diffusion", "method.public_model.ema_decay=1"], r"^method\.public_model\.ema_"),
        (["method=dpsgd", "method.noise_multiplier=1"], r"^method\.noise_multiplier, target_eps"),
        (["+model@method.student=convnet"], r"^method\.student: no such option"),
        (
            ["method=distill", "+model@method.student.modl=convnet"],
            r"^method\.student\.modl: .*mod",
        ),
        (["method=dfkd", "+method.teacher.model=null"], r"^method\.teacher\.model=null: must be"),
        (["+model@model.model=convnet"], r"^model\.model: no such option"),
    ],
)
def test_a_wrong_option_is_refused_by_its_path(
    changes: list[str], message: str, compose: Compose
) -> None:
    with pytest.raises(ValueError, match=message) as refusal:
        recipes_of(compose(*changes))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("changes", "facts", "message"),
    [
        (["method=distill"], {"smallest_class": 9}, r"^method\.images_per_class=10: the smallest"),
        (["method=distill_dm_public"], {}, r"^method\.init=public: needs a public pool"),
        (["method=dpsgd"], {"norm": "batch"}, r"^model\.norm=batch: BatchNorm"),
        (["method=dpsgd"], {"expected_size": 100}, r"^method\.batch_size=128: must be at most 100"),
        (["method=dfkd"], {"teacher_norm": "group"}, r"^dfkd needs a teacher with BatchNorm"),
        (["method=diffusion"], {"image_shape": (1, 7, 7)}, r"^method\.channels=\[16, 32\]: images"),
        (
            ["method=diffusion"],
            {"largest_public_label": None},
            "^public=null: a diffusion",
        ),
        (["method=coreset_random"], {"num_train": 10}, r"^method\.fraction=0\.3 of 10 images"),
    ],
)
def test_what_does_not_fit_the_data_is_refused_by_its_path(
    changes: list[str], facts: dict[str, object], message: str, compose: Compose
) -> None:
    recipes = recipes_of(compose(*changes))
    fine = {"expected_size": 600, "num_train": 600, "teacher_norm": "batch"}
    public = {"num_public": None, "largest_public_label": 9} if "largest" in str(facts) else {}
    public |= {"smallest_class": 30}
    if "public" not in str(changes):
        public |= {"num_public": 100, "largest_public_label": 9}
        check_recipes(recipes, facts_like(**(fine | public)))
    with pytest.raises(ValueError, match=message):
        check_recipes(recipes, facts_like(**(fine | public | facts)))


def test_a_teacher_is_checked_against_its_own_network() -> None:
    private = DPSGD(num_epochs=1, batch_size=6, lr=0.1, delta=1e-5, noise_multiplier=1.0)
    facts = facts_like(norm="group", teacher_norm="batch")
    check_recipes({"method": private}, facts)
    with pytest.raises(ValueError, match=r"^model\.norm=batch"):
        check_recipes({"method.teacher": private}, facts)


def test_what_the_config_decides_of_the_facts(compose: Compose) -> None:
    def facts(*changes: str) -> dict[str, object]:
        return configured_facts(compose(*changes))

    assert facts() == {"norm": "batch"}
    assert facts("method=dpsgd") == {"norm": "group"}
    assert facts("method=coreset_el2n") == {"norm": "batch", "proxy_epochs": 20}
    assert facts("method=coreset_random") == {"norm": "batch"}
    own = ["method=dfkd", "model@method.teacher.model=wrn16_4", "method.teacher.model.norm=group"]
    assert facts(*own) == {"norm": "batch", "teacher_norm": "group"}
    student = ["model@method.student.model=convnet3", "method.student.model.norm=group"]
    assert facts("method=distill", *student) == {"norm": "group"}
    known = {field.name for field in fields(Facts)}
    assert set(facts(*own)) | {"proxy_epochs"} <= known


@pytest.mark.parametrize("name", [*METHODS, *MODELS])
def test_the_heavy_thing_takes_the_options_of_its_recipe(name: str, compose: Compose) -> None:
    choice = f"{'method' if name in METHODS else 'model'}={name}"
    cfg = compose(choice, *OUTSIDE.get(choice, []))
    for recipe in recipes_of(cfg).values():
        made = recipe.make()
        heavy = get_object(recipe.makes)
        assert made.func is heavy
        assert made.keywords == {f.name: getattr(recipe, f.name) for f in fields(recipe)}
        assert heavy.__name__ == type(recipe).__name__  # which names the cell
        handed = inspect.signature(heavy).parameters
        assert handed["options"].kind is inspect.Parameter.VAR_KEYWORD
        assert not (set(handed) - {"options"}) & set(made.keywords)
        if inspect.isclass(heavy):
            assert heavy.releases_images == recipe.releases_images
            assert heavy.promises_privacy == recipe.promises_privacy


def test_every_option_stands_in_its_yaml(compose: Compose) -> None:
    for name in METHODS:
        cfg = compose(f"method={name}", *OUTSIDE.get(f"method={name}", []))
        for where, recipe in recipes_of(cfg).items():
            own = OmegaConf.select(cfg, where)
            missing = {field.name for field in fields(recipe)} - set(own)
            assert missing <= {"record"}, where  # of proxies alone


def test_a_recipe_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        architectures.convnet(width=4).width = 8  # type: ignore[misc]


class Mine(Method):
    """Somebody's own method, which has no recipe."""

    def __init__(self, *, private: Method, model: Callable[[], object], strength: float) -> None:
        super().__init__(private=None, model=model)
        self.strength = strength

    def train_dataloader(self) -> StepChunks:
        return StepChunks(1)

    def release(self) -> Release:
        return Release()


def test_a_method_without_a_recipe_is_its_own_target(compose: Compose) -> None:
    cfg = compose()
    cfg.method = {"_target_": f"{__name__}.Mine", "name": "mine", "strength": 2}
    assert recipe_of(cfg.method, "method") is None
    assert set(recipes_of(cfg)) == {"model"}
    made = construct(cfg.method, "method")
    assert (made.func, made.keywords) == (Mine, {"strength": 2})
    cfg.method = {"_target_": f"{__name__}.Mine", "name": "mine", "strong": 2}
    with pytest.raises(ValueError, match=r"^method\.strong: .* did you mean strength\?"):
        recipes_of(cfg)


def test_a_part_of_its_own_architecture_leaves_the_others(compose: Compose) -> None:
    cfg = compose("method=dfkd", "model@method.teacher.model=resnet18")
    own = config.of_prerequisite(cfg, "teacher")
    assert own.cell == compose("method=undefended", "model=resnet18").cell
    recipes = recipes_of(cfg)
    assert recipes["model"] == architectures.convnet(width=16)
    assert recipes["method.teacher.model"] == architectures.resnet18(width=64)
    assert isinstance(recipes["method.teacher"], Classifier)
    assert all(isinstance(recipe, Recipe) for recipe in recipes.values())


VENDOR = """
print("imported")
from synpriv.methods.base import Method
class Abstract(Method):
    pass
def function():
    raise AssertionError("called")
"""
NO_METHOD = "a method: a recipe of one, or a class derived from synpriv.methods.base.Method"
NO_CALL = "module.Class or module.function that can be called"
TARGETS = {
    "method._target_=synpriv.architectures.convnet": NO_METHOD,
    "method._target_=synpriv.audit.attacks.lira.lira": NO_METHOD,
    "method._target_=synpriv.methods.nothing.X": f"{NO_CALL} (AttributeError: module",
    "method._target_=synpriv.methods.recipe.Clasifier": f"{NO_CALL} (AttributeError: module",
    "method._target_=synpriv.methods.recipe": f"{NO_CALL} (TypeError:",
    "method._target_=subprocess.call": NO_METHOD,
    "method._target_=math.pi": NO_CALL,
    "method._target_=own_vendor.Abstract": NO_METHOD,
    "method._target_=own_vendor.function": NO_METHOD,
    "method._target_=own_broken.X": f"{NO_CALL} (ModuleNotFoundError: No module named 'not_there')",
    "method._target_=own_syntax.X": f"{NO_CALL} (SyntaxError:",
    "method._target_=own_exit.X": f"{NO_CALL} (SystemExit: 3)",
    "model._target_=synpriv.methods.recipe.Classifier": "a network: a recipe in",
    "model._target_=own_vendor.function": "what takes channels, size, num_classes, mean, std",
    "dataset.load._target_=own_vendor.function": "to return a synpriv.data.datasets.Source",
    "dataset.load._target_=synpriv.audit.attacks.lira.lira": "to return a synpriv.data",
    "dataset.load._target_=math.pi": NO_CALL,
    "attack._target_=os.system": "a function of the evidence",
    "attack._target_=synpriv.nothing.lira": NO_CALL,
    "attack._target_=null": NO_CALL,
}


@pytest.mark.parametrize("typed", TARGETS)
def test_a_target_of_the_wrong_kind_is_one_line_and_is_not_called(
    typed: str, compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = {"vendor": VENDOR, "broken": "import not_there", "exit": "raise SystemExit(3)"}
    for name, content in (modules | {"syntax": "def x(:"}).items():
        (tmp_path / f"own_{name}.py").write_text(content)
        monkeypatch.delitem(sys.modules, f"own_{name}", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    key, _, value = typed.partition("=")
    more = {"attack": ["num_models=6"]}.get(key.partition(".")[0], [])
    with pytest.raises((ValueError, InterpolationResolutionError)) as error:
        check(compose(typed, *more))
    line = one_line(error.value)
    right = TARGETS[typed]
    named = f"{key}={'None' if value == 'null' else value}: must be "
    assert line.startswith(named)
    assert right in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("typed", "right"),
    [
        ("method.lr=inf", "method.lr=inf: must be a number"),
        ("method.milestones=[x]", "method.milestones=['x']: must be a list of numbers"),
        ("dataset.mean=[nan]", "dataset.mean=[nan]: must be one number"),
        ("method.name=3", "name=3: must be letters"),
        ("~dataset.load", "dataset.load=None: must be a node with a _target_"),
    ],
)
def test_numbers_that_are_none_and_nodes_that_are_none_are_refused(
    typed: str, right: str, compose: Compose
) -> None:
    with pytest.raises((ValueError, InterpolationResolutionError)) as error:
        check(compose(typed))
    assert one_line(error.value).startswith(right)


def test_losses_that_are_no_mapping_and_parts_that_are_no_node_are_refused(
    compose: Compose,
) -> None:
    with pytest.raises(ValueError, match=r"method\.losses=3: must be names with numbers"):
        check(compose("method=dfkd", "method.losses=3"))
    with pytest.raises(
        (ValueError, InterpolationResolutionError), match=r"method\.student=3: must"
    ):
        check(compose("method=distill", "method.student=3"))
