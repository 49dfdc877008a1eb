"""The recipes of a config, checked without torch before anything is trained."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, fields, replace
from typing import Any, NamedTuple

from omegaconf import DictConfig

from synpriv.architectures import Architecture
from synpriv.config import STAGES, build, of_prerequisite, prerequisites
from synpriv.recipe import Facts, Recipe
from synpriv.signatures import no_such_option, require, target_of

PARTS = (*STAGES, "student", "embedder")  # what a method that is no recipe may have
NETWORKS = ("model", "embedder")
OF_A_NETWORK = ("channels", "size", "num_classes", "mean", "std")
METHOD = "synpriv.methods.base.Method"
CLASSIFYING = ("Classifier", "DPSGD", "DFKD")  # methods whose batches a classifier is trained on
TRAININGS = ("teacher", "proxy", "student")  # parts that may have an architecture of their own


def recipes_of(cfg: DictConfig) -> dict[str, Recipe]:
    """The recipes of the model, the method and all that it builds on, by their path in the config.

    Raises ValueError, beginning with the path, for options that do not exist or have wrong values.
    A `_target_` that is no recipe is imported, and only names and types of its options are checked.
    """
    nodes = {"model": cfg.model, **_nodes(cfg, "method")}
    made = {where: recipe_of(node, where) for where, node in nodes.items()}
    return {where: recipe for where, recipe in made.items() if recipe is not None}


def check_recipes(recipes: Mapping[str, Recipe], facts: Facts) -> None:
    """Raise ValueError where options cannot work on data of these sizes.

    Not those of a student: what it is trained on is another set, still to be made.
    """
    for where, recipe in recipes.items():
        if not where.endswith("student"):
            norm = facts.teacher_norm if where == "method.teacher" else facts.norm
            with _located(where, type(recipe)):
                recipe.check(replace(facts, norm=norm or facts.norm))


def recipe_of(node: DictConfig, where: str) -> Recipe | None:
    """The recipe that a node's `_target_` names, None if it names the heavy thing itself."""
    given = "null" if node is None else node
    require(isinstance(node, DictConfig), f"{where}={given}", "a node with a _target_, or not set")
    target = target_of(node, where)
    _check_kind(target, node, where)
    parts = ("model",) if where.rpartition(".")[2] in TRAININGS else ()
    if not (inspect.isclass(target) and issubclass(target, Recipe)):
        plain = [str(key) for key, value in node.items() if not _has_target(value)]
        _check_nodes(node, where, [*PARTS, *parts, *plain])
        build(node, where)
        return None
    _check_nodes(node, where, [*target.parts, *parts, *(field.name for field in fields(target))])
    for field in fields(target):
        if field.name not in node and field.default is MISSING:
            name = f"{where}.{field.name}"
            raise ValueError(f"{name}: has no default; write {name}=VALUE")
    with _located(where, target):
        return build(node, where)()


def _check_kind(target: Any, node: DictConfig, where: str) -> None:
    """Refuse a network where a method belongs, and the other way round, before it is called."""
    part, key = where.rpartition(".")[2], f"{where}._target_={node['_target_']}"
    recipe = inspect.isclass(target) and issubclass(target, Recipe)
    if part in NETWORKS:
        taken = set(inspect.signature(target).parameters) >= set(OF_A_NETWORK)
        fits = issubclass(target, Architecture) if recipe else taken
        right = (
            f"a network: a recipe in synpriv.architectures, or what takes {', '.join(OF_A_NETWORK)}"
        )
        require(fits, key, right)
        return
    # By name: methods.base imports torch, which is not there yet for a recipe.
    bases = [f"{base.__module__}.{base.__qualname__}" for base in getattr(target, "__mro__", [])]
    own = METHOD in bases and not inspect.isabstract(target)
    fits = not issubclass(target, Architecture) if recipe else own
    require(fits, key, f"a method: a recipe of one, or a class derived from {METHOD}")


def construct(node: DictConfig, where: str, facts: Facts | None = None) -> Callable[..., Any]:
    """The heavy thing that a node describes with its options, still to be given what it works on.

    The node's `_target_` is a recipe, checked against the facts if there are any, or, where
    somebody's own method has none, the thing itself.
    """
    recipe = recipe_of(node, where)
    if recipe is None:
        return build(node, where)
    if facts is not None:
        check_recipes({where: recipe}, facts)
    return recipe.make()


def audited_model(cfg: DictConfig) -> tuple[str, DictConfig]:
    """Path and node of the architecture of the network that is audited: the student's if any."""
    student = cfg.method.get("student")
    if student is not None and "model" in student:
        return "method.student.model", student.model
    return "model", cfg.model


class OwnNetwork(NamedTuple):
    """A network of somebody's own: where it stands, and what the method needs of it."""

    where: str
    node: DictConfig
    needs: tuple[str, ...]


def own_networks(cfg: DictConfig, method: Recipe | None) -> list[OwnNetwork]:
    """The networks of a config that are not ours, each part's with what the method needs of it.

    A teacher's and a proxy's own method needs nothing but logits.
    """
    parts = {"model": audited_model(cfg)}
    for name in ("teacher", "proxy"):
        if name in prerequisites(cfg.method):
            where = f"method.{name}.model" if "model" in cfg.method[name] else "model"
            parts[name] = where, of_prerequisite(cfg, name).model
    if "embedder" in cfg.method:
        parts["embedder"] = "method.embedder", cfg.method.embedder
    needs = {} if method is None else method.needs()
    return [
        OwnNetwork(where, node, needs.get(name, ()))
        for name, (where, node) in parts.items()
        if not str(node["_target_"]).startswith(f"{Architecture.__module__}.")
    ]


class Batch(NamedTuple):
    """What a training step works on: option, images, and path and node of the network."""

    where: str
    size: int
    model: str
    node: DictConfig


def batches(cfg: DictConfig, recipes: Mapping[str, Recipe]) -> list[Batch]:
    """The batches on which networks are trained to classify, by the recipes that have one."""
    found = []
    for where in ("method", "method.student", "method.teacher", "method.proxy"):
        recipe, part = recipes.get(where), where.rpartition(".")[2]
        model, node = audited_model(cfg)
        if part in ("teacher", "proxy"):
            own = "model" in cfg.method[part] if part in cfg.method else False
            model, node = (
                (f"{where}.model", cfg.method[part].model) if own else ("model", cfg.model)
            )
        if recipe is not None and recipe.makes.endswith(CLASSIFYING):
            name = "physical_batch_size" if hasattr(recipe, "physical_batch_size") else "batch_size"
            number, views = getattr(recipe, name), getattr(recipe, "num_views", 1)
            found.append(Batch(f"{where}.{name}={number}", number * views, model, node))
    return found


def configured_facts(cfg: DictConfig) -> dict[str, Any]:
    """What of `Facts` the config alone decides."""
    method, stages = cfg.method, prerequisites(cfg.method)
    facts: dict[str, Any] = {"norm": _norm(audited_model(cfg)[1])}
    if "teacher" in stages:
        facts["teacher_norm"] = _norm(of_prerequisite(cfg, "teacher").model)
    if "proxy" in stages:
        facts["proxy_epochs"] = method.proxy.num_epochs
    return facts


def _norm(model: DictConfig) -> str:
    return model.get("norm", "unknown")  # of somebody's own network


def _nodes(cfg: DictConfig, where: str) -> dict[str, DictConfig]:
    """The method, its parts and their architectures, by path."""
    nodes = {where: cfg.method}
    for name in ("student", "embedder"):
        if name in cfg.method:
            nodes[f"{where}.{name}"] = cfg.method[name]
    audited, model = audited_model(cfg)
    if audited != "model":
        nodes[f"{where}.student.model"] = model
    for name in prerequisites(cfg.method):
        own = of_prerequisite(cfg, name)
        nodes |= _nodes(own, f"{where}.{name}")
        if "model" in cfg.method[name]:
            nodes[f"{where}.{name}.model"] = own.model
    return nodes


def _check_nodes(node: DictConfig, where: str, known: list[str]) -> None:
    """Refuse sub-nodes that nothing would look at, but that would open a new cell."""
    for name, value in node.items():
        if isinstance(value, DictConfig) and name not in known:
            raise ValueError(no_such_option(f"{where}.{name!s}", known))


def _has_target(value: Any) -> bool:
    return isinstance(value, DictConfig) and "_target_" in value


@contextmanager
def _located(where: str, of: type[Recipe]) -> Iterator[None]:
    """Put the path before an error that begins with an option of this recipe."""
    try:
        yield
    except ValueError as error:
        first = re.match(r"\w*", str(error))
        named = first is not None and first.group() in {field.name for field in fields(of)}
        raise ValueError(f"{where}.{error}" if named else str(error)) from error
