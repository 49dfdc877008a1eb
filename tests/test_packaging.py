"""The wheel: everything that the checkout runs on is in it, and it runs without the checkout."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT
from hatchling import build

from synpriv import __version__, checkout, fingerprint

QUICKSTART = (ROOT / "docs" / "quickstart.md").read_text()
# Besides what the quickstart says: weights that are worth nothing.
TINY = ["method.num_epochs=1", "method.warmup_epochs=0", "hydra.launcher.num_workers=1"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)  # a build backend is called in the project's folder
        return folder / build.build_wheel(str(folder))


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def files_below(folder: Path) -> dict[str, bytes]:
    found = (file for file in folder.rglob("*") if file.is_file())
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in found
        if "__pycache__" not in file.parts
    }


def test_the_wheel_holds_the_checkout_s_code_and_configuration(unpacked: Path) -> None:
    inside = files_below(unpacked / "synpriv")
    conf = {name: text for name, text in inside.items() if name.startswith("conf/")}
    assert {f"conf/{name}": text for name, text in files_below(ROOT / "conf").items()} == conf
    assert files_below(ROOT / "synpriv") == {n: inside[n] for n in inside.keys() - conf}
    assert files_below(ROOT / "hydra_plugins") == files_below(unpacked / "hydra_plugins")
    assert {path.name for path in unpacked.iterdir()} == {
        *("synpriv", "hydra_plugins", f"synpriv-{__version__}.dist-info")
    }


def test_the_wheel_says_its_version_and_its_command(unpacked: Path) -> None:
    about = unpacked / f"synpriv-{__version__}.dist-info"
    assert "synpriv = synpriv.__main__:main" in (about / "entry_points.txt").read_text()
    metadata = (about / "METADATA").read_text().splitlines()
    assert "Requires-Python: >=3.11" in metadata
    assert (about / "licenses" / "LICENSE").is_file()


def test_the_checkout_knows_its_configuration_its_command_and_its_commit() -> None:
    assert checkout.conf() == ROOT / "conf"
    assert checkout.program() == "python run.py"
    head = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    said = subprocess.run(head, capture_output=True, text=True, check=False).stdout.strip()
    assert checkout.commit() == (said or None)  # a clone or an archive of it


@pytest.mark.parametrize("installed", [True, False])
def test_the_commit_of_another_s_repository_is_not_ours(
    installed: bool, unpacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@x", "-C", str(tmp_path)]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "theirs"]):
        subprocess.run([*git, *words], check=True)
    package = tmp_path / "vendor" / "synpriv"
    package.mkdir(parents=True)
    if installed:
        (package / "conf").symlink_to(unpacked / "synpriv" / "conf")
    monkeypatch.setattr(checkout, "_PACKAGE", package)
    checkout.commit.cache_clear()
    assert checkout.commit() is None
    checkout.commit.cache_clear()
    assert checkout.program() == ("synpriv" if installed else "python run.py")
    assert checkout.conf() == (package if installed else tmp_path / "vendor") / "conf"


def test_git_s_own_variables_name_no_other_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout.commit.cache_clear()
    ours = checkout.commit()
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    commit = ["git", "-c", "user.name=x", "-c", "user.email=x@x", "-C", str(tmp_path), "commit"]
    subprocess.run([*commit, "-q", "--allow-empty", "-m", "theirs"], check=True)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(ROOT))
    checkout.commit.cache_clear()
    assert checkout.commit() == ours
    checkout.commit.cache_clear()


@pytest.mark.parametrize(
    ("program", "typed"),
    [
        ("/env/bin/synpriv", "synpriv 'a=b c'"),
        ("/env/lib/synpriv/__main__.py", "python -m synpriv 'a=b c'"),
        ("run.py", "python run.py 'a=b c'"),
    ],
)
def test_a_run_remembers_what_was_typed(program: str, typed: str) -> None:
    assert checkout.as_typed([program, "a=b c"]) == typed


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel in it, which borrows what the wheel depends on."""
    folder = tmp_path_factory.mktemp("environment") / "env"
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "-q", "--python", sys.executable, folder], check=True)
    target = ["--python", folder / "bin" / "python"]
    subprocess.run(
        [*uv, "pip", "install", "-q", "--offline", "--no-deps", *target, wheel], check=True
    )
    borrowed = folder / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    (borrowed / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "bin"


@pytest.mark.slow
def test_the_quickstart_s_audit_runs_installed_where_there_is_no_checkout(
    environment: Path, tmp_path: Path
) -> None:
    elsewhere = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def run(program: str, *words: str) -> str:
        done = subprocess.run(
            [environment / program, *words],
            cwd=tmp_path, env=elsewhere, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "synpriv method=distill attack=lira -m seed=0..63" in run("synpriv", "--help")
    (typed, _) = re.findall(r"^python run.py (study=first .*)$", QUICKSTART, re.MULTILINE)
    words = typed.replace("undefended,coreset_random", "undefended").split()
    run("synpriv", *words, *TINY)
    (metrics,) = tmp_path.glob("multirun/undefended-*/0/metrics.json")
    ran = json.loads(metrics.read_text())
    assert ran["command"].startswith(f"synpriv {words[0]}")
    assert ran["git_commit"] is None
    target = "synpriv.methods.recipe.Classifier"
    assert ran["code_sha256"] == fingerprint.code_sha256(target)  # the same code is the same
    assert "undefended" in run("python", "-m", "synpriv.report")
    assert (tmp_path / "multirun" / "report.md").is_file()
    loaded = run(
        "python", "-c", "import sys, synpriv.command, hydra_plugins.synpriv; print(sys.path)"
    )
    assert str(ROOT) not in loaded.replace(sysconfig.get_path("purelib"), "")
