"""What a cell's name and a run's code are hashed from: equal science in one form, source files."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from synpriv import __version__

# Where data lie does not decide what a model learns; the content of a user's file does (`sha256`).
_PLACES = {"root", "path", "download"}
# Of our readers also: a table and a test set, whose content is in the hash of what is read.
_TABLES = {"labels", "test_path"}
# What a method says to the trainer's presets; what the trainer makes of it is told by itself.
OF_THE_TRAINER = {"trainer_precision", "trainer_channels_last", "trainer_cudnn_benchmark"}
# What a network says to the recipes that train it; what a recipe makes of it is told by itself.
OF_THE_RECIPE = {"classifier_optimiser"}
# Options that nothing reads once the config is resolved.
_UNREAD = {
    "model": OF_THE_RECIPE,
    "method": OF_THE_TRAINER | OF_THE_RECIPE,
    "dataset": {*_PLACES, "num_canaries"},  # the default of canary.num_canaries
    "canary": _PLACES,
    "public": {*_PLACES, "num_canaries", "num_test", "num_validation", "flip", "mean", "std"},
}
# Options that leave all as it is where they are null: a cell is called as before there were any.
_OF_READERS = {"groups", "size", "channels", "fit", "test_sha256"}
_IF_GIVEN = {"canary": {"sha256", "indices"}, "dataset": _OF_READERS, "public": _OF_READERS}
# Options of our methods that are read only if another has one value.
_READ_IF = {
    "never_learned": ("selection", "forgetting"),
    "el2n_epochs": ("selection", "el2n"),
    "milestones": ("schedule", "step"),
    "gamma": ("schedule", "step"),
    "padding": ("crop", True),
    **dict.fromkeys(("lr", "momentum", "nesterov", "weight_decay"), ("optimiser", "sgd")),
    **dict.fromkeys(("adamw_lr", "adamw_weight_decay"), ("optimiser", "adamw")),
}
# Options of our methods that were not there at first: with this value a cell is called as before.
_AS_BEFORE = {"optimiser": "sgd"}
# Of recipes of somebody's own generator or sets: what `sha256` beside it says by content, and what
# changes no set.
_BY_CONTENT = {
    "External": ("generate", "command", "code", "timeout_s", "check_repeats"),
    "Precomputed": ("path", "num_models"),
}
_PACKAGE = Path(__file__).parent
# What every run goes through and can change its evidence.
_SHARED = (
    *("recipe.py", "callables.py", "architectures.py", "models/*.py", "methods/*.py", "data/*.py"),
    *("shadow/*.py", "guarantee.py", "results/artefacts.py", "audit/quality.py"),
)


def digest(science: dict[str, Any]) -> str:
    """The 8 hex digits that end a cell's name."""
    return hashlib.sha256(json.dumps(science, sort_keys=True).encode()).hexdigest()[:8]


def canonical(nodes: dict[str, Any]) -> dict[str, Any]:
    """Resolved nodes of a config in a form that is the same if the science is."""
    found = {}
    for name, node in nodes.items():
        if node is not None and (name != "public" or _reads_public(nodes["method"])):
            read = _without(node, _UNREAD[name]) if name in _UNREAD else node
            if "load" in node and _is_ours(str(node["load"].get("_target_", ""))):
                read = _without(read, _TABLES)
            read = _without_null(read, _IF_GIVEN.get(name, set()))
            found[name] = _canonical(read, name)
    if rows := found.get("canary", {}).get("indices"):
        found["canary"]["indices"] = sorted(rows)
    if dataset := found.get("dataset"):  # one of the two is what accuracy is measured on
        dataset.pop("num_validation" if dataset.get("num_validation") is None else "num_test", None)
    for constants in {"mean", "std"} & set(found.get("dataset", {})):
        values = found["dataset"][constants]  # one number counts for all channels
        if isinstance(values, list) and len(set(map(str, values))) == 1:
            found["dataset"][constants] = values[:1]
    return found


def _canonical(node: Any, where: str) -> Any:
    """Targets by name (others' by content too), no number as 1.0, no option that is not read."""
    if isinstance(node, dict):
        target = str(node.get("_target_", ""))
        found = {key: _canonical(value, f"{where}.{key}") for key, value in node.items()}
        if _is_ours(target):
            for option, (other, value) in _READ_IF.items():
                if other in node and node[other] != value:
                    found.pop(option, None)
            for option, value in _AS_BEFORE.items():
                if found.get(option) == value:
                    del found[option]
        elif target:
            found["code_sha256"] = own_sha256(target, where)
        if _is_ours(target):  # where our code lies does not decide what it does
            found["_target_"] = target.rpartition(".")[2]
            for option in _BY_CONTENT.get(found["_target_"], ()):
                found.pop(option, None)
        return found
    if isinstance(node, list):
        return [_canonical(value, where) for value in node]
    return int(node) if isinstance(node, float) and node.is_integer() else node


def _reads_public(method: dict[str, Any]) -> bool:
    """Whether a method looks at a public pool; of a user's own method that is not known."""
    target = str(method.get("_target_", ""))
    starts = "public_model" in method or method.get("init") == "public"
    return starts or target.endswith(".DiffusionPretraining") or not _is_ours(target)


def _without(node: Any, keys: set[str]) -> Any:
    if isinstance(node, dict):
        return {key: _without(value, keys) for key, value in node.items() if key not in keys}
    return node


def _without_null(node: Any, keys: set[str]) -> Any:
    if isinstance(node, dict):
        kept = {k: v for k, v in node.items() if k not in keys or v is not None}
        return {key: _without_null(value, keys) for key, value in kept.items()}
    return node


def _is_ours(target: str) -> bool:
    return target.startswith("synpriv.")


def own_sha256(target: str, where: str) -> str:
    """Version of an installed package, else the content of a user's package or module."""
    file, first = module_file(target), target.partition(".")[0]
    if file is not None and "site-packages" not in file.parts:
        package = next((p for p in file.parents if p.name == first), None)
        files = sorted(package.rglob("*.py")) if package is not None else [file]
        return hashlib.sha256(" ".join(map(_sha256, files)).encode()).hexdigest()
    try:
        return importlib.metadata.version(_distribution(first))
    except (importlib.metadata.PackageNotFoundError, ValueError) as error:  # no name at all
        right = "module.Class, the module a file on the Python path"
        raise ValueError(f"{where}._target_={target}: must be {right}") from error


def _distribution(package: str) -> str:
    """What is installed under another name: sklearn is scikit-learn's."""
    try:
        importlib.metadata.version(package)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return next(iter(importlib.metadata.packages_distributions().get(package, [])), package)
    return package


def code_sha256(target: str) -> str:
    """Hash of the source that a run of the method `target` is trained by.

    That is what all methods share, and the method's folder (of a user's method: its module).
    """
    files = {file for pattern in _SHARED for file in _PACKAGE.glob(pattern)}
    own = module_file(target)
    if own is not None:
        family = own.parent.parent == _PACKAGE / "methods"
        files |= set(own.parent.glob("*.py")) if family else {own}
    names = {_name(file): _sha256(file) for file in files}
    return hashlib.sha256(repr(sorted(names.items())).encode()).hexdigest()


def audit_sha256(target: str) -> str:
    """Hash of the source that decides a report's content, a user's own attack included."""
    own_parts = ("audits.py", "guarantee.py", "report/content.py")
    files = [*_PACKAGE.glob("audit/**/*.py"), *(_PACKAGE / part for part in own_parts)]
    names = {_name(file): _sha256(file) for file in files}
    own = None if _is_ours(target) else own_sha256(target, "attack")
    return hashlib.sha256(repr([*sorted(names.items()), own]).encode()).hexdigest()


def inputs_sha256(
    *,
    attack: dict[str, Any],
    code: str,
    tuning: dict[str, Any],
    num_planned: int,
    runs: dict[int, str],
    clean: dict[int, str],
    no_pairs: list[int],
) -> str:
    """Hash of what a report is made from: attack and options, evidence, version of the code.

    code: `audit_sha256` of the attack. runs, clean: checksums of the evidence by seed, of the
    shadow models and of the runs with clean canaries. no_pairs: shadow models whose closest pairs
    a picture cannot show, as they are lost.
    """
    made_from = {
        "attack": attack,
        "code": code,
        "tuning": tuning,
        "num_planned": num_planned,
        "runs": runs,
        "clean": clean,
        "no_pairs": no_pairs,
        "version": __version__,
    }
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()


def _name(file: Path) -> str:
    ours = file.is_relative_to(_PACKAGE)
    return file.relative_to(_PACKAGE).as_posix() if ours else file.name


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def module_file(target: str) -> Path | None:
    """The file of the innermost module of a dotted name; nothing is imported."""
    first, *rest = target.split(".")
    try:
        spec: ModuleSpec | None = importlib.util.find_spec(first)
    except ValueError:  # __main__
        return None
    for part in rest:
        inside = spec.submodule_search_locations if spec is not None else None
        found = PathFinder.find_spec(f"{first}.{part}", inside) if inside else None
        if found is None:
            break
        first, spec = f"{first}.{part}", found
    file = Path(spec.origin) if spec is not None and spec.origin is not None else None
    return file if file is not None and file.is_file() else None
