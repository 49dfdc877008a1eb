"""Bad options in one line: a yaml's values against the annotations of its `_target_`."""

from __future__ import annotations

import difflib
import inspect
import math
import pkgutil
import types
import typing
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any


def check_arguments(arguments: dict[str, Any], where: str) -> None:
    """Compare a node's values with the annotations of its `_target_`."""
    target = target_of(arguments, where)
    hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    parameters = inspect.signature(target).parameters
    known = {name for name in parameters if not _is_handed_over(hints.get(name, Any))}
    for name, value in arguments.items():
        if name.startswith("_"):
            continue
        if name not in known:
            raise ValueError(no_such_option(f"{where}.{name}", known))
        hint = hints.get(name, Any)
        require(_fits(value, hint), f"{where}.{name}={value!r}", _readable(hint))


def target_of(node: Mapping[str, Any], where: str) -> Any:
    """What a node's `_target_` names, imported but not called; ValueError if it is nothing to call.

    hydra.utils.get_object would also log several lines.
    """
    name = node.get("_target_")
    key, right = f"{where}._target_={name}", "module.Class or module.function that can be called"
    require(isinstance(name, str) and "." in name.strip("."), key, right)
    assert isinstance(name, str)
    try:
        found = pkgutil.resolve_name(name)
        inspect.signature(found)
    except (Exception, SystemExit) as error:  # importing a module runs whatever is in it
        why = next(iter(str(error).splitlines()), "")
        raise ValueError(f"{key}: must be {right} ({type(error).__name__}: {why})") from error
    return found


def no_such_option(key: str, known: Collection[str]) -> str:
    """That a dotted key's last part is none of `known`, and the nearest of these or all."""
    close = difflib.get_close_matches(key.rpartition(".")[2], known, n=1)
    better = (
        f"did you mean {close[0]}?" if close else f"it has {', '.join(sorted(known)) or 'none'}"
    )
    return f"{key}: no such option; {better}"


def check_sizes(sizes: Any, options: Any, page: Any, where: str) -> None:
    """Refuse a size that nothing reads: all else would stay as it is, the cell's name too.

    Known are those of `page` and what a yaml's `options` look up (`${scale.undefended.lr}`). A
    section of one's own is read by a method of one's own, maybe not by this one.
    """
    read, known = {value for _, value in _leaves(options)}, {key for key, _ in _leaves(page)}
    for key, _ in _leaves(sizes):
        if key in known or f"${{{where}.{key}}}" in read:
            continue
        section, dot, _ = key.partition(".")
        if not dot:
            raise ValueError(no_such_option(f"{where}.{key}", page))
        if there := {name.rpartition(".")[2] for name in known if name.startswith(f"{section}.")}:
            raise ValueError(no_such_option(f"{where}.{key}", there))
        if difflib.get_close_matches(section, page, n=1):
            raise ValueError(no_such_option(f"{where}.{section}", page))


def _leaves(node: Any) -> Iterator[tuple[str, Any]]:
    """Values of a nested mapping by dotted path, lists as text."""
    for key, value in node.items() if isinstance(node, dict) else ():
        if not isinstance(value, dict):
            yield str(key), str(value)
        for path, leaf in _leaves(value):
            yield f"{key}.{path}", leaf


def _is_handed_over(hint: Any) -> bool:
    """Whether the code and not a yaml gives it: evidence, a private set."""
    return inspect.isclass(hint) and hint not in (int, float, str, bool)


def require(condition: bool, what: str, right: str) -> None:
    """Raise ValueError, naming the option with its value and what would be right."""
    if not condition:
        raise ValueError(f"{what}: must be {right}")


def require_values(node: Any, where: str) -> None:
    """Raise ValueError, naming it, for an option of a yaml (as plain data) that has no value yet.

    OmegaConf's own `missing_keys` resolves interpolations, and so would ask for `cell` again.
    """
    for key, value in node.items() if isinstance(node, dict) else ():
        if value == "???":
            raise ValueError(f"{where}.{key}: has no default; write {where}.{key}=VALUE")
        require_values(value, f"{where}.{key}")


def _fits(value: Any, hint: Any) -> bool:
    """Whether a yaml value may be passed where `hint` is annotated; unknown hints let all pass."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, option) for option in typing.get_args(hint))
    if origin is Sequence:
        inner = typing.get_args(hint)[0]
        return isinstance(value, list) and all(_fits(item, inner) for item in value)
    if origin is Mapping:
        inner = typing.get_args(hint)[1]
        return isinstance(value, dict) and all(_fits(item, inner) for item in value.values())
    if hint in (int, float):
        numbers = (int, float) if hint is float else int
        number = isinstance(value, numbers) and not isinstance(value, bool)
        return number and math.isfinite(value)
    return isinstance(value, hint) if hint in (str, bool, type(None)) else True


def _readable(hint: Any) -> str:
    options = typing.get_args(hint) if typing.get_origin(hint) is types.UnionType else (hint,)
    words = {int: "an integer", float: "a number", str: "a word", bool: "true or false"}
    many = {int: "integers", float: "numbers", str: "words"}
    words |= {
        o: f"a list of {many.get(typing.get_args(o)[0], 'values')}"
        for o in options
        if typing.get_origin(o) is Sequence
    }
    words |= {o: "names with numbers" for o in options if typing.get_origin(o) is Mapping}
    words[type(None)] = "null"
    return " or ".join(words.get(o, getattr(o, "__name__", str(o))) for o in options)
