"""What is likely to be meant by a word of a command line that does not exist."""

from __future__ import annotations

import dataclasses
import difflib
import re
import typing
from collections.abc import Iterator
from typing import Any

# Groups that are no key of the config.
_OTHER_GROUPS = ("experiment", "hydra/launcher", "hydra/sweeper")


def unknown_key(error: Any) -> str:
    """What has no such key, and which is likely to be meant: the same further inside, or a typo.

    error: OmegaConf's ConfigKeyError or ConfigAttributeError.
    """
    key, parent = str(error.full_key), error.parent_node or {}
    siblings = [str(name) for name in parent if name != "hydra"]
    if "." not in key:
        siblings += _OTHER_GROUPS
    group, _, last = key.rpartition(".")
    deeper = [f"{group}.{path}" for path in _paths(parent) if path.endswith(f".{last}")]
    hint = f"; did you mean {' or '.join(deeper)}?" if group and deeper else ""
    hint = hint or did_you_mean(last, siblings)
    if key == "dataset.path":
        hint = "; dataset=folder and dataset=npz have one"
    where = f" in method={name}" if group == "method" and (name := _name(parent)) else ""
    return f"{key}: no such key{where}{hint or '; it has ' + ', '.join(siblings)}"


def check_hydra(key: str) -> None:
    """ValueError for a key of Hydra's own that it has not: with a plus it would be ignored."""
    group, *parts = key.split(".")
    if group != "hydra":
        return
    if key in ("hydra.sweep.dir", "hydra.run.dir", "hydra.sweep.subdir"):
        raise ValueError(f"{key} follows from the cell; choose the folder of all by results=DIR")
    from hydra.conf import HydraConf

    node: Any = HydraConf
    for place, part in enumerate(parts):
        if not dataclasses.is_dataclass(node):  # of a launcher, which knows its own keys
            return
        known = typing.get_type_hints(node)
        if part not in known:
            where = ".".join([group, *parts[:place]])
            hint = did_you_mean(part, list(known)) or f"; it has {', '.join(known)}"
            raise ValueError(f"{where}.{part}: no such key{hint}")
        node = known[part]


def unknown_option(text: str) -> str | None:
    """What a launcher's or sweeper's constructor does not know, of Hydra's words for it."""
    found = re.search(r"unexpected keyword argument '(\w+)'", text)
    group = re.match(r"hydra\.(launcher|sweeper)\b", text)
    return f"{group[0]}.{found[1]}: no such key" if found and group else None


def did_you_mean(name: str, known: list[str]) -> str:
    """The nearest of the known names as the end of a line; nothing if none is near."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _paths(node: Any, prefix: str = "") -> Iterator[str]:
    """Dotted keys of all values inside, none of which is resolved."""
    for key, value in dict(node.items_ex(resolve=False) if node else {}).items():
        inside = hasattr(value, "items_ex")
        yield from _paths(value, f"{prefix}{key}.") if inside else (f"{prefix}{key}",)


def _name(node: Any) -> str | None:
    """The name of a method; None for one that asks a resolver, which may refuse its values."""
    raw = str(dict(node.items_ex(resolve=False)).get("name", ":"))
    return None if ":" in raw else str(node["name"])
