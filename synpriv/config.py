"""The checks of a configuration, and the name of the cell it describes.

Only this file, `cli.py`, `pipeline.py`, `summary.py`, `tracking/` and `shadow/` see a DictConfig.
"""

from __future__ import annotations

import functools
import inspect
import json
import re
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from synpriv import callables, checkout, fingerprint, objective
from synpriv.data.canaries import count
from synpriv.data.content import file_sha256, folder_sha256, optional_sha256
from synpriv.data.sets import sets_sha256
from synpriv.schema import Canary, Config, Logger, Objective, Trainer, Tuning
from synpriv.signatures import (
    check_arguments,
    check_sizes,
    no_such_option,
    require,
    require_values,
    target_of,
)

PRECISIONS = ("32-true", "bf16-mixed")
ACCELERATORS = ("auto", "cpu", "gpu")
STEPS = ("eager", "compile", "graph")
LOGGERS = ("wandb", "tensorboard", "mlflow", "csv", "none")
CANARIES = ("mislabelled", "clean", "path")
MEMBERSHIPS = ("paired", "balanced", "bernoulli")
DISTRIBUTIONS = ("logarithmic", "geometric", "poisson", "fixed")  # of the number of trials
COMPUTED_NAME = "${cell_name:}"  # of a cell; nothing else may stand there
_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.]*"
GROUPS = ("dataset", "public", "model", "canary", "method")  # of conf/, what decides the science
STAGES = ("teacher", "proxy", "public_model")  # of a method: trainings of their own, before it
# What the code itself reads of a dataset; the rest is what its own interpolations refer to.
_SIZES = ("num_train", "num_test", "num_validation")
_OF_A_DATASET = {"name", "num_canaries", "flip", "mean", "std", "load", *_SIZES}
# Told to the config.
_NOT_ARGUMENTS = {
    *("name", "model_norm"),
    *fingerprint.OF_THE_TRAINER,
    *fingerprint.OF_THE_RECIPE,
}


def register() -> None:
    """Make the schema and the resolvers of conf/ known to Hydra."""
    ConfigStore.instance().store(name="schema", node=Config, provider="synpriv")
    OmegaConf.register_new_resolver("cell_name", cell_name, replace=True)
    OmegaConf.register_new_resolver("file_sha256", file_sha256, replace=True)
    OmegaConf.register_new_resolver("optional_sha256", optional_sha256, replace=True)
    OmegaConf.register_new_resolver("folder_sha256", folder_sha256, replace=True)
    OmegaConf.register_new_resolver("num_canaries", _num_canaries, replace=True)
    OmegaConf.register_new_resolver("own_canaries", count, replace=True)
    OmegaConf.register_new_resolver("code_sha256", callables.code_sha256, replace=True)
    OmegaConf.register_new_resolver("generator_name", callables.method_name, replace=True)
    OmegaConf.register_new_resolver("sets_sha256", sets_sha256, replace=True)
    OmegaConf.register_new_resolver("program", checkout.program, replace=True)


def _num_canaries(indices: list[int] | None, default: int) -> int:
    return default if indices is None else len(indices)


def validate(cfg: DictConfig) -> None:
    """Raise ValueError, naming the value and what would be right, for a config that cannot run."""
    raw = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(raw, dict)
    _check_keys(raw)
    for group in (*GROUPS, "attack"):
        require_values(raw[group], group)
    _check_models(cfg)
    for key in (*(f"dataset.{name}" for name in _SIZES), "public.num_train"):
        value = OmegaConf.select(cfg, key)
        fits = value is None or (type(value) is int and value >= 1)
        require(fits, f"{key}={value}", "an integer of at least 1, or null")
    for name in (*STAGES, "student", "embedder"):
        there = name not in cfg.method or OmegaConf.is_dict(cfg.method[name])
        given = f"method.{name}={cfg.method.get(name) or 'null'}"
        require(there, given, f"what {cfg.method.name} brings; do not set it")
    check_sizes(raw["scale"], raw["method"], _sizes(), "scale")
    for name in ("dataset", *(["public"] if cfg.public is not None else [])):
        load = cfg[name].get("load")
        require(OmegaConf.is_dict(load), f"{name}.load={load}", "a node with a _target_")
    canary, trainer = cfg.canary, cfg.trainer
    require(cfg.accuracy_models >= 0, f"accuracy_models={cfg.accuracy_models}", "at least 0")
    require(0 <= (cfg.admission or 0) < 1, f"admission={cfg.admission}", "0 <= . < 1, or null")
    require(bool(cfg.results.strip()), "results=", "a folder")
    _check_canary(canary)
    require(trainer.num_threads >= 1, f"trainer.num_threads={trainer.num_threads}", "at least 1")
    minutes = trainer.checkpoint_minutes
    fits = minutes is None or minutes >= 0
    require(fits, f"trainer.checkpoint_minutes={minutes}", "at least 0, or null for none")
    num_trials = cfg.tuning.num_trials
    require(1 <= num_trials <= 1e6, f"tuning.num_trials={num_trials:g}", "1..1e6")
    whole = cfg.tuning.distribution != "fixed" or num_trials == int(num_trials)
    require(whole, f"tuning.num_trials={num_trials:g}", "a whole number if fixed")
    for name, value, allowed in (
        ("tuning.distribution", cfg.tuning.distribution, DISTRIBUTIONS),
        ("canary.kind", canary.kind, CANARIES),
        ("canary.membership", canary.membership, MEMBERSHIPS),
        ("trainer.precision", trainer.precision, PRECISIONS),
        ("trainer.accelerator", trainer.accelerator, ACCELERATORS),
        ("trainer.step", trainer.step, STEPS),
        ("logger.name", cfg.logger.name, LOGGERS),
    ):
        require(value in allowed, f"{name}={value}", f"one of {', '.join(allowed)}")
    for name in (cfg.dataset.name, cfg.method.name, cfg.attack.name, cfg.study or "none"):
        fits = isinstance(name, str) and re.fullmatch(_NAME, name) is not None
        require(fits, f"name={name}", "letters, digits, '_', then '.' too, for a file's name")
    _check_objective(cfg)
    check_attack(cfg)
    if raw["cell"] != COMPUTED_NAME:
        right = f"{_name(cfg)}, the name of what is configured; leave it out"
        require(raw["cell"] == _name(cfg), f"cell={raw['cell']}", right)


def _check_canary(canary: DictConfig) -> None:
    """Refuse options of a canary that its kind does not read."""
    if canary.indices is not None:
        rows = list(canary.indices)
        named = f"canary.indices={rows if len(rows) <= 5 else [*rows[:5], '...']}"
        require(canary.kind != "path", named, "left out: the file names the canaries")
        distinct = bool(rows) and min(rows) >= 0 and len(set(rows)) == len(rows)
        require(distinct, named, "rows of the data, each named once")
    own, right = canary.path is not None, "left out, or of canary=path"
    require(canary.kind == "path" or not own, f"canary.path={canary.path}", right)
    right = "an npz archive: write canary=path canary.path=FILE"
    require(canary.kind != "path" or own, f"canary.path={canary.path}", right)
    require(canary.num_canaries >= 1, f"canary.num_canaries={canary.num_canaries}", "at least 1")


def _check_objective(cfg: DictConfig) -> None:
    """Refuse an objective that no report of this cell has."""
    asked = objective.parse(cfg.objective.maximise, cfg.objective.subject_to)
    named, right = objective.VALIDATION_ACCURACY, "accuracy, or write dataset.num_validation=N"
    there = cfg.dataset.get("num_validation") is not None or named not in asked.names
    require(there, f"objective: {named} without validation images", right)


def _check_models(cfg: DictConfig) -> None:
    num_models = cfg.num_models
    require(num_models >= 4 and num_models % 2 == 0, f"num_models={num_models}", "even, at least 4")
    require(
        0 <= cfg.seed < num_models,
        f"seed={cfg.seed}",
        f"0..{num_models - 1} (the index of a shadow model; raise num_models for more)",
    )
    last = 2**32 - 1
    if cfg.canary.membership == "balanced":
        last = last // (num_models + 1) - 1  # the protocol's seeds of its runs must fit 32 bits
    require(0 <= cfg.audit_seed <= last, f"audit_seed={cfg.audit_seed}", f"0..{last}")


def check_attack(cfg: DictConfig, *, images: bool = True) -> None:
    """Fail before training if the attack cannot run on a cell of this shape.

    images: whether the method releases a synthetic set.
    """
    target = target_of(cfg.attack, "attack")
    first = next(iter(inspect.signature(target).parameters.values()), None)
    takes = first is not None and "evidence" in f"{first.name} {first.annotation}".lower()
    right = "a function of the evidence, as synpriv.audit.attacks.lira.lira"
    require(takes, f"attack._target_={cfg.attack['_target_']}", right)
    attack, num_views = json.dumps(plain(cfg.attack)), 18 if cfg.dataset.flip else 9
    _try_attack(attack, cfg.num_models, num_views, images, cfg.canary.membership)


@functools.cache
def _try_attack(attack: str, num_models: int, num_views: int, images: bool, design: str) -> None:
    from synpriv.audit import trial

    built = build(OmegaConf.create(json.loads(attack)), "attack")
    trial.check(built, num_models, num_views=num_views, images=images, design=design)


@functools.cache
def _sizes() -> dict[str, Any]:
    """The page of sizes that the others begin with."""
    return plain(OmegaConf.load(checkout.conf() / "scale" / "digits.yaml"))


def _check_keys(raw: dict[Any, Any]) -> None:
    """Refuse what `+key=value` adds and nothing reads: a misspelt option would be ignored."""
    typed = {"": Config, "canary": Canary, "trainer": Trainer, "logger": Logger, "tuning": Tuning}
    typed["objective"] = Objective
    known = {where: {f.name for f in fields(node)} for where, node in typed.items()}
    for group in ("dataset", "public"):
        if raw[group] is not None:
            referred = re.findall(r"\.(\w+)[},]", json.dumps(raw[group]))  # ${..path}
            known[group] = _OF_A_DATASET | set(referred)
    for where, names in known.items():
        for key in raw[where] if where else raw:
            name = f"{where}.{key}" if where else str(key)
            if name != "hydra" and key not in names:
                raise ValueError(no_such_option(name, names))


def science(cfg: DictConfig) -> dict[str, Any]:
    """The resolved part of the config that decides what the shadow models of a cell are.

    Their number is in it where membership depends on it; elsewhere a cell grows.
    """
    nodes = {name: plain(cfg[name]) for name in GROUPS}
    unused = set(STAGES) - set(prerequisites(cfg.method))
    nodes["method"] = {k: v for k, v in nodes["method"].items() if k not in unused}
    decided = {"audit_seed": cfg.audit_seed, "precision": cfg.trainer.precision}
    for name in prerequisites(cfg.method):  # trainer=bf16 may give them another one
        if (own := of_prerequisite(cfg, name).trainer.precision) != cfg.trainer.precision:
            decided[f"{name}_precision"] = own
    if cfg.canary.membership == "balanced":
        decided["num_models"] = cfg.num_models
    return fingerprint.canonical(nodes) | decided


def cell_name(*, _root_: DictConfig) -> str:
    """`<method>-<dataset>-<canary>-<8 hex>` of a valid config.

    Hydra resolves it to name the output folder, before anything is written: a config that cannot
    run raises here and leaves no folder behind.
    """
    validate(_root_)
    return _name(_root_)


def named(cfg: DictConfig) -> DictConfig:
    """A valid config whose cell is written out: computed once, not whenever it is asked for."""
    own = cfg.copy()
    own.cell = cell_name(_root_=cfg)  # not through the resolver, which words errors in its way
    return own


def _name(cfg: DictConfig) -> str:
    names = [cfg.method.name, cfg.dataset.name, cfg.canary.kind]
    return "-".join([*names, fingerprint.digest(science(cfg))])


def prerequisites(method: DictConfig) -> list[str]:
    """Sub-nodes of a method that are trained before it. A random coreset looks at no proxy."""
    unused = "proxy" if method.get("selection") == "random" else None
    return [name for name in STAGES if name in method and name != unused]


def of_prerequisite(cfg: DictConfig, name: str) -> DictConfig:
    """The config of the run that the method's sub-node `name` describes, its release kept.

    A sub-node `model` of it is that run's architecture, the audited one's by default.
    """
    own, node = cfg.copy(), cfg.method[name]
    own.method = OmegaConf.masked_copy(node, [key for key in node if key != "model"])
    own.model = node.get("model", cfg.model)
    own.keep_release, own.cell = True, COMPUTED_NAME
    return own


def plain(node: Any) -> Any:
    """A config node as plain Python, interpolations resolved."""
    if not OmegaConf.is_config(node):
        return node
    return OmegaConf.to_container(node, resolve=True, throw_on_missing=True)


def build(node: DictConfig | dict[str, Any], where: str) -> Callable[..., Any]:
    """The partial that a yaml's `_target_` and arguments describe, arguments checked.

    Sub-nodes with a `_target_` of their own are the caller's to build. Objects are passed in the
    later call: `instantiate` would turn a dataclass into a DictConfig.
    """
    arguments = own_arguments(plain(node))
    check_arguments(arguments, where)
    return instantiate({**arguments, "_partial_": True}, _convert_="all")


def own_arguments(node: dict[str, Any]) -> dict[str, Any]:
    """What of a node its `_target_` is called with."""
    nested = {k for k, v in node.items() if isinstance(v, dict) and "_target_" in v}
    return {k: v for k, v in node.items() if k not in _NOT_ARGUMENTS | nested}
