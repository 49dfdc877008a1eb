"""Paths with any characters on the command line, and how a value is quoted for Hydra."""

import os
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, RunPy
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from synpriv import cli

PARSER = OverridesParser.create()
TEXT = st.text(
    st.sampled_from("\\'\"${}[](),= ab~:#") | st.characters(exclude_categories=["Cs", "Cc"])
)
ODD = "a b (1)/x=y,ünï'{q}[0] $HOME 'q'.npz"


def values(override: str) -> list[object]:
    """What Hydra makes of one override, swept or not."""
    parsed = PARSER.parse_override(override)
    if not parsed.is_sweep_override():
        return [parsed.value()]
    return [PARSER.parse_override(f"x={text}").value() for text in parsed.sweep_string_iterator()]


@given(TEXT)
def test_hydra_reads_a_quoted_text_as_it_is(text: str) -> None:
    assert values(f"x={cli.quoted(text)}") == [text]


@example(" ")  # a blank at the end is part of a name, as beside a folder `/` that exists
@given(TEXT.filter(lambda text: "${" not in text and not text.startswith(("'", '"', "~"))))
def test_hydra_reads_a_path_as_it_is(text: str) -> None:
    if text not in ("", "null"):
        assert values(cli.normalise([f"dataset.path=/{text}"])[0]) == [f"/{text}"]
        assert values(cli.normalise([f"results=./{text}"])[0]) == [f"./{text}"]


@pytest.mark.parametrize(
    "key", ["dataset.path", "public.path", "+dataset.root", "++public.root", "results"]
)
def test_a_path_needs_no_quotes(key: str) -> None:
    for value in ("/tmp/a b (1)/x=y.npz", "/tmp/ünïcode,x=1/r", "0..3", "2024", "a[b]{c}"):
        assert values(cli.normalise([f"{key}={value}"])[0]) == [value]


@pytest.mark.parametrize(
    "override",
    [
        "results=multirun",
        "dataset.root=../../data",
        "dataset.path=C:/a-b_c.npz",
        "results='a b'",
        'results="a b"',
        "results=${oc.env:HOME}/r",
        "dataset.path=",
        "public.root=null",
    ],
)
def test_a_path_that_hydra_reads_as_it_is_and_one_quoted_already_stay(override: str) -> None:
    assert cli.normalise([override]) == [override]


def test_a_tilde_is_the_home_folder() -> None:
    expected = os.path.expanduser("~/a b")
    assert values(cli.normalise(["results=~/a b"])[0]) == [expected]


def test_paths_are_swept_where_each_exists_and_the_whole_does_not(tmp_path: Path) -> None:
    one, two = tmp_path / "a (1).npz", tmp_path / "b.npz"
    for file in (one, two):
        file.touch()
    typed = f"dataset.path={one},{two}"
    assert values(cli.normalise(["-m", typed])[1]) == [str(one), str(two)]
    with pytest.raises(ValueError, match=r"b\.npz is a sweep: add -m$"):
        cli.normalise([typed])
    assert values(cli.normalise([f"results={one},{two}"])[0]) == [f"{one},{two}"]
    missing = f"{one},{tmp_path / 'c.npz'}"
    assert values(cli.normalise([f"dataset.path={missing}"])[0]) == [missing]
    Path(f"{one},").mkdir()
    assert values(cli.normalise([f"dataset.path={one},"])[0]) == [f"{one},"]
    choice = f"dataset.path=choice('{one}','{two}')"
    assert values(cli.normalise(["-m", choice])[1]) == [str(one), str(two)]


def test_an_interpolation_s_sign_in_a_path_is_refused(tmp_path: Path) -> None:
    (tmp_path / "${oc.env:HOME}").mkdir()
    for value in (f"{tmp_path}/${{oc.env:HOME}}", "/tmp/a${", "/a b (1)/${x}"):
        with pytest.raises(ValueError, match=r"'\$\{' in a path is an interpolation") as error:
            cli.normalise([f"results={value}"])
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("method.name=a b(c)", "\"method.name='a b(c)'\""),
        ("study=Größe", "\"study='Größe'\""),
        ("method.milestones=[1,2", "\"method.milestones='[1,2'\""),
        ("study=ü$a", "'study='\"'\"'ü$a'\"'\"''"),
    ],
)
def test_what_hydra_cannot_read_is_shown_quoted(typed: str, shown: str) -> None:
    with pytest.raises(ValueError, match="quote it for Hydra and the shell: ") as error:
        cli.normalise([typed])
    assert str(error.value) == f"{typed}: quote it for Hydra and the shell: {shown}"
    (word,) = shlex.split(shown)
    assert cli.normalise([word]) == [word]
    assert values(word) == [typed.partition("=")[2]]


def test_a_key_that_is_none_is_named() -> None:
    with pytest.raises(ValueError, match=r"^a b=1: 'a b' is no key; write KEY=VALUE$"):
        cli.normalise(["a b=1"])


def test_odd_paths_reach_the_config_of_run_py(run_py: RunPy, tmp_path: Path) -> None:
    file, results = tmp_path / ODD, tmp_path / "r (1),ü=x"
    file.parent.mkdir()
    np.savez(file, images=np.zeros((9, 8, 8), np.uint8), labels=np.arange(9) % 3)
    words = ["dataset=npz", f"dataset.path={file}", f"results={results}", "canary.num_canaries=3"]
    done = run_py(*words, "--cfg", "all", "--resolve")
    assert done.returncode == 0, done.stderr
    cfg = OmegaConf.create(done.stdout)
    assert cfg.dataset.path == str(file)
    assert cfg.hydra.sweep.dir == str(results)
    assert cfg.hydra.run.dir == f"{results}/{cfg.cell}/0"


DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
CODE = [*sorted((ROOT / "conf").rglob("*.yaml")), *sorted((ROOT / "synpriv").rglob("*.py"))]


@pytest.mark.parametrize("file", [*DOCUMENTS, *CODE], ids=lambda f: str(f.relative_to(ROOT)))
def test_commands_that_we_write_down_work_in_zsh(file: Path) -> None:
    """Which takes an unquoted [, * or ? in a word for a pattern."""
    text = re.sub(r"```python.*?```", "", file.read_text(), flags=re.DOTALL)
    unquoted = re.sub(r"'[^'\n]*'|\"[^\"\n]*\"", "", text) if file in DOCUMENTS else text
    assert not re.findall(r"(?<!['\"\w.])[\w@]+(?:\.\w+)+=[\[*?][^\s`]*", unquoted)
