"""The pages of the documentation site that are made of something else."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from conftest import ROOT
from omegaconf import OmegaConf

CONF = ROOT / "conf"
FILES = sorted(file for file in CONF.rglob("*.yaml") if file.parent.name != "scale")


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "_site" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules[name] = found  # dataclasses look their module up
    spec.loader.exec_module(found)
    return found


configuration = module("configuration")
PAGE = configuration.page()
Row = tuple[str, str, str]


def rows(section: str) -> dict[str, Row]:
    """Value, type and comment of each option in one section of the page, by name."""
    cell = r"((?:`[^`]*`|[^`|]|\\\|)*?)"  # a bar between backticks or behind a backslash is none
    line = rf"^\| `(.+?)` \| {cell} \| {cell} \| {cell} \|$"
    cells = re.findall(line, section, re.MULTILINE)
    return {name: (value.strip("`"), kind.strip("`"), words) for name, value, kind, words in cells}


def section(heading: str) -> str:
    return PAGE.partition(f"{heading}\n")[2].partition("\n## ")[0].partition("\n### ")[0]


def heading(file: Path) -> str:
    parts = file.relative_to(CONF).with_suffix("").parts
    return (
        f"### {parts[0]}={parts[1]}" if parts[0] != "hydra" else f"### hydra/{'='.join(parts[1:])}"
    )


def leaves(node: Any, prefix: str = "") -> dict[str, Any]:
    """All values of a mapping by dotted names, as OmegaConf reads the file."""
    if not isinstance(node, dict) or not node:
        return {prefix[:-1]: node}
    return {k: v for key, part in node.items() for k, v in leaves(part, f"{prefix}{key}.").items()}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(CONF)))
def test_every_option_of_every_file_stands_there_with_its_value(file: Path) -> None:
    raw = OmegaConf.to_container(OmegaConf.load(file))
    assert isinstance(raw, dict)
    unread = ("defaults", "_target_", "_partial_", "load", "hydra", "cell")
    wanted = leaves({key: value for key, value in raw.items() if key not in unread})
    root = file.name == "config.yaml"
    shown = rows(section("## The command" if root else heading(file)))
    prefix = "" if root or file.parent.name == "experiment" else f"{file.parent.name}."
    prefix = f"hydra.{file.parent.name}." if "hydra" in file.parts else prefix
    wanted.pop("", None)  # of a file that only names another
    assert {f"{prefix}{name}" for name in wanted} == set(shown)
    for name, value in wanted.items():
        written = shown[f"{prefix}{name}"][0]
        assert OmegaConf.create(f"x: {written}")._get_node("x") == OmegaConf.create(
            {"x": value}
        )._get_node("x")


def test_types_come_from_signatures_and_comments_go_on_below() -> None:
    found = rows(section("### method=dfkd")) | rows(section("## The command"))
    found |= rows(section("### hydra/launcher=pool")) | rows(section("### attack=lira"))
    assert found["method.num_rounds"][1:] == (
        "int",
        "each adds codes\\_per\\_round images to the pool",
    )
    assert found["method.cosine_rounds"][1] == "int | None"
    assert found["accuracy_models"][2].endswith("over 1% of the labels wrong; 0 = none")
    assert found["tuning.num_trials"][1] == "float"
    part = rows(section("### method=distill_dm"))  # whose student is trained as undefended is
    assert part["method.student.num_epochs"][1] == "int"
    assert found["hydra.launcher.jobs_per_device"][1] == "int | str"
    assert found["attack.shrinkage"][1] == "float"
    inherited = rows(section("### method=distill_dm_noise"))
    assert inherited["method.init"][1] == "str"


def test_each_scale_s_sizes_stand_beside_the_others() -> None:
    digits, small = (
        OmegaConf.load(CONF / "scale" / f"{scale}.yaml") for scale in ("digits", "small")
    )
    row = next(
        line
        for line in PAGE.partition("\n## scale\n")[2].splitlines()
        if line.startswith("| `scale.coreset.student.num_epochs`")
    )
    _, _, first, second, *_ = (cell.strip(" `") for cell in row.split("|"))
    assert int(first) == digits.coreset.student.num_epochs
    assert int(second) == small.coreset.student.num_epochs


def test_the_first_page_is_readme_with_links_that_hold_there() -> None:
    made = module("pages").front_page((ROOT / "README.md").read_text())
    targets = re.findall(r"\]\(([\w/.]+)\)", made)
    assert len(targets) > 10
    for target in targets:
        assert (ROOT / "docs" / target).is_file(), target
