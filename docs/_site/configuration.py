"""The reference of every option: values and comments from conf/, types from signatures."""

from __future__ import annotations

import html
import inspect
import re
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra.utils import get_object
from omegaconf import OmegaConf

from synpriv import checkout, schema

CONF = checkout.conf()
SCALES = ("digits", "small", "paper")
# What each group is for, and in which order they are shown.
GROUPS = {
    "dataset": "Whose privacy; `dataset@public=NAME` chooses a public pool of the same options.",
    "model": "The classifier that is audited.",
    "canary": "The images whose membership is asked.",
    "method": "How the classifier comes about.",
    "stage": "What methods build on: trained once, and not audited.",
    "attack": "How membership is guessed.",
    "trainer": "Hardware and precision.",
    "logger": "Where runs and audits are mirrored.",
    "experiment": "Pinned studies: the options that they set.",
    "hydra": "The launcher, the sweeper and the log.",
}
TYPED = {
    "canary": schema.Canary,
    "trainer": schema.Trainer,
    "logger": schema.Logger,
}
_SKIPPED = ("defaults", "_target_", "_partial_", "load", "hydra", "cell")  # nobody sets these


@dataclass(frozen=True)
class Option:
    """One line of a yaml file."""

    name: str  # dotted
    value: str  # as it is written
    comment: str


def page() -> str:
    """All of conf/ as Markdown."""
    parts = [_HEAD, _table(options(CONF / "config.yaml"), types_of(schema.Config), "")]
    for group, purpose in GROUPS.items():
        parts += [f"## {group}", purpose]
        for file in sorted((CONF / group).rglob("*.yaml")):
            parts += _choice(group, file)
    return "\n\n".join([*parts, *_scale()]) + "\n"


def _choice(group: str, file: Path) -> Iterator[str]:
    name = file.relative_to(CONF / group).with_suffix("").as_posix()
    text = file.read_text("utf-8")
    yield f"### {group}={name}" if group != "hydra" else f"### hydra/{name.replace('/', '=')}"
    prefix = {"experiment": "", "hydra": f"hydra.{name.partition('/')[0]}."}.get(group, f"{group}.")
    said = " ".join(line.lstrip("# ") for line in _head(text))
    content = yaml.safe_load(text) or {}
    if based := _based_on(content):
        said = f"{said} Begins with {based}.".strip()
    if said:
        yield _escaped(said)
    found = options(file)
    if found:
        types = _types(file) | (types_of(TYPED[group]) if group in TYPED else {})
        yield _table(found, types, prefix)


def _types(file: Path) -> dict[str, str]:
    """The types of a file's options, those of its parts dotted: undefended@student."""
    target, found = _target(file), {}
    if target:
        found = types_of(get_object(target))
    content = yaml.safe_load(file.read_text("utf-8")) or {}
    for entry in content.get("defaults", []):
        base, _, part = str(entry).partition("@")
        if part and base.isidentifier() and (of_part := file.with_name(f"{base}.yaml")).is_file():
            found |= {f"{part}.{name}": kind for name, kind in _types(of_part).items()}
    return found


def _target(file: Path) -> str | None:
    """What the values of a file are given to; of one that begins with another, the other's."""
    content = yaml.safe_load(file.read_text("utf-8")) or {}
    if own := content.get("_target_") or content.get("load", {}).get("_target_"):
        return str(own)
    names = [base for base in content.get("defaults", []) if isinstance(base, str)]
    bases = (file.with_name(f"{name}.yaml") for name in names if name.isidentifier())
    return next((_target(base) for base in bases if base.is_file()), None)


def _head(text: str) -> Iterator[str]:
    """The comment that a file begins with."""
    for line in text.splitlines():
        if not line.startswith("#") or line.startswith("# @"):
            return
        yield line


def _based_on(content: dict[str, Any]) -> str:
    """What the defaults list names beside the file itself, in words."""
    found = []
    for entry in content.get("defaults", []):
        text = entry if isinstance(entry, str) else ", ".join(f"{k}={v}" for k, v in entry.items())
        if text != "_self_":
            found.append(f"`{text}`")
    return ", ".join(found)


def options(file: Path) -> list[Option]:
    """Every value of a yaml file, in its order, with the comment at its line and those below it."""
    text = file.read_text("utf-8")
    node = yaml.compose(text)
    lines = text.splitlines()
    return list(_options(node, lines, "")) if isinstance(node, yaml.MappingNode) else []


def _options(node: yaml.MappingNode, lines: list[str], prefix: str) -> Iterator[Option]:
    for key, value in node.value:
        name = f"{prefix}{key.value}"
        if name in _SKIPPED:
            continue
        if isinstance(value, yaml.MappingNode) and value.value:
            yield from _options(value, lines, f"{name}.")
            continue
        yield Option(name, *_written(value, lines))


def _written(value: yaml.Node, lines: list[str]) -> tuple[str, str]:
    """A value as it stands there, and the comment behind it, of a block list none."""
    start, end = value.start_mark, value.end_mark
    if end.column == 0 or end.line >= len(lines):  # a block ends where the next line begins
        block = [line.partition(" #")[0].strip() for line in lines[start.line : end.line]]
        return f"[{', '.join(line.removeprefix('- ') for line in block if line)}]", ""
    text = "\n".join([*lines[start.line : end.line], lines[end.line][: end.column]])
    return " ".join(text[start.column :].split()), _comment(lines, end.line, end.column)


def _comment(lines: list[str], line: int, column: int) -> str:
    """What stands behind a value, and in lines of its own below it at the same place."""
    behind = re.search(r"(?:^|\s)# ?(.*)", lines[line][column:])
    if not behind:
        return ""
    found, place = [behind.group(1)], lines[line].rindex("# " + behind.group(1))
    for below in lines[line + 1 :]:
        if below.strip().startswith("#") and below.index("#") == place:
            found.append(below.strip().lstrip("# "))
        else:
            break
    return " ".join(found)


def types_of(target: Any) -> dict[str, str]:
    """The types of what a target takes, as its source writes them; of a node's parts dotted."""
    names = inspect.get_annotations(target) if inspect.isclass(target) else {}
    for part in list(names):
        if inner := getattr(schema, str(names[part]), None):
            names |= {f"{part}.{name}": kind for name, kind in types_of(inner).items()}
    for parameter in inspect.signature(target).parameters.values():
        if parameter.annotation is not parameter.empty:
            names[parameter.name] = parameter.annotation
    return {name: _type(kind) for name, kind in names.items()}


def _type(kind: Any) -> str:
    text = kind if isinstance(kind, str) else getattr(kind, "__name__", str(kind))
    return str(text if not typing.get_args(kind) else kind).replace("typing.", "")


def _table(found: list[Option], types: dict[str, str], prefix: str) -> str:
    rows = ["| option | value | type | |", "|---|---|---|---|"]
    for option in found:
        kind = types.get(option.name, "")
        words = (f"`{prefix}{option.name}`", f"`{option.value}`" if option.value else "")
        cells = (*words, f"`{kind}`" if kind else "", _escaped(option.comment))
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _escaped(text: str) -> str:
    """Words of a comment, none of them Markdown or HTML but what stands between backticks.

    A bar between backticks divides no cell of a table.
    """
    parts = text.split("`")
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(r"([*_\[\]|])", r"\\\1", html.escape(parts[i], quote=False))
    return "`".join(parts)


def _scale() -> Iterator[str]:
    """The sizes of all recipes, the pages of each scale side by side."""
    yield "## scale"
    yield (
        "Sizes of all recipes, one page per scale: a method that says `${scale.NAME.OPTION}` reads "
        "them here. `small` and `paper` change what they name and keep the rest."
    )
    pages = {scale: OmegaConf.load(CONF / "scale" / f"{scale}.yaml") for scale in SCALES}
    comments = {
        option.name: option.comment
        for scale in reversed(SCALES)
        for option in options(CONF / "scale" / f"{scale}.yaml")
    }
    rows = [f"| option | {' | '.join(SCALES)} | |", "|---|---|---|---|---|"]
    for name, comment in sorted(comments.items()):
        missing = object()
        values = [OmegaConf.select(page, name, default=missing) for page in pages.values()]
        shown = ["" if value is missing else f"`{_plain(value)}`" for value in values]
        cells = (f"`scale.{name}`", *shown, _escaped(comment))
        rows.append(f"| {' | '.join(cells)} |")
    yield "\n".join(rows)


def _plain(value: Any) -> str:
    plain = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
    return yaml.safe_dump(plain, default_flow_style=True).removesuffix("\n...\n").strip()


_HEAD = """# Configuration reference

Made from the files in conf/, which are what is read. `synpriv method=dfkd method.num_rounds=20`
sets an option on the command line, `--cfg job` shows every value of a command, and
[the command](command.md) says how to sweep. A type is that of the signature by which a value is
checked; `${scale.NAME.OPTION}` is a size that depends on [the scale](#scale), `${dataset.flip}`
another option's value.

## The command"""
