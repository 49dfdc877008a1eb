"""Equal settings are one cell, other code is seen: what is hashed of options and of sources."""

import shutil
import sys
from pathlib import Path

import pytest
from conftest import Compose

from synpriv import config, fingerprint
from synpriv.report import content

OURS = "synpriv.methods.distill.dm.DistributionMatching"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's module `my_nets`, not imported by anything."""
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "my_nets.py"
    file.write_text("def wide(**options): ...\nclass Net:\n    def make(): ...\n")
    return file


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["dataset.mean=[0.5]"], ["dataset.mean=[0.5,0.5,0.5]"]),
        (["dataset.std=[1]"], ["dataset.std=[1.0,1]"]),
        (["canary.num_canaries=100"], []),
        (["canary.num_canaries=50"], ["dataset.num_canaries=50"]),
        (["canary.num_canaries=50"], ["canary.num_canaries=50", "dataset.num_canaries=20"]),
        (["method.gamma=0.5", "method.milestones=[3]"], []),
        (["method=coreset_herding", "method.never_learned=never"], ["method=coreset_herding"]),
        (["method=coreset_random", "method.el2n_epochs=[1]"], ["method=coreset_random"]),
        (["method=distill", "method.student.gamma=0.5"], ["method=distill"]),
        (["dataset@public=mnist", "public.mean=[0.7]"], ["dataset@public=mnist"]),
    ],
    ids=" ".join,
)
def test_equal_settings_are_one_cell(one: list[str], other: list[str], compose: Compose) -> None:
    assert compose(*one).cell == compose(*other).cell


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["dataset.mean=[0.5,0.5,0.4]"], ["dataset.mean=[0.5]"]),
        (["method.schedule=step", "method.gamma=0.5"], ["method.schedule=step"]),
        (["method=coreset_el2n", "method.el2n_epochs=[1]"], ["method=coreset_el2n"]),
        (
            ["method=coreset_forgetting", "method.never_learned=never"],
            ["method=coreset_forgetting"],
        ),
        (
            ["method=distill", "method.augment=[crop,colour]"],
            ["method=distill", "method.augment=[colour,crop]"],
        ),
        (
            ["method=distill_dm_public", "dataset@public=mnist", "public.num_train=100"],
            ["method=distill_dm_public", "dataset@public=mnist"],
        ),
    ],
    ids=" ".join,
)
def test_other_settings_are_other_cells(one: list[str], other: list[str], compose: Compose) -> None:
    assert compose(*one).cell != compose(*other).cell


@pytest.mark.parametrize(
    "where",
    [
        ["model._target_=my_nets.wide"],
        ["model._target_=my_nets.Net.make"],
        ["dataset.load._target_=my_nets.wide"],
        ["method._target_=my_nets.wide"],
        ["method=distill", "method.student._target_=my_nets.wide"],
        ["method=distill", "+method.extra=[{_target_:my_nets.wide}]"],
    ],
    ids=" ".join,
)
def test_a_changed_class_of_one_s_own_is_another_cell(
    where: list[str], compose: Compose, module: Path
) -> None:
    first = compose(*where).cell
    assert compose(*where).cell == first
    with module.open("a") as file:
        file.write("# changed\n")
    assert compose(*where).cell != first
    assert "my_nets" not in sys.modules


def test_a_class_of_one_s_own_in_a_package_counts_by_the_whole_package(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    package = tmp_path / "my_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (package / "nets.py").write_text("def wide(**options): ...\n")
    cells = [compose("model._target_=my_package.nets.wide").cell]
    for name in ("nets", "layers", "__init__"):  # what it imports may be anywhere in it
        (package / f"{name}.py").write_text("raise RuntimeError('imported again')\n")
        cells.append(compose("model._target_=my_package.nets.wide").cell)
    assert len(set(cells)) == 4
    assert compose("model._target_=my_package.nets.deep").cell not in cells  # two of one module


def test_a_class_that_is_in_no_module_is_refused_in_one_line(compose: Compose) -> None:
    with pytest.raises(ValueError, match=r"^model\._target_=my_missing\.wide: must be module"):
        config.science(compose("model._target_=my_missing.wide"))


def test_an_option_of_one_s_own_class_always_counts(compose: Compose, module: Path) -> None:
    mine = ["method._target_=my_nets.Net"]  # whose gamma may be read without schedule=step
    assert compose(*mine, "method.gamma=0.5").cell != compose(*mine).cell


@pytest.mark.parametrize(
    "seen", ["dm.py", "../base.py", "../../data/dsa.py", "../../data/images.py"]
)
def test_changed_code_of_a_method_is_seen(
    seen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "synpriv"
    shutil.copytree(Path(fingerprint.__file__).parent, package)
    monkeypatch.setattr(fingerprint, "_PACKAGE", package)
    found = {module: package / "methods" / f"{module}.py" for module in ("distill/dm", "dfkd/fast")}
    monkeypatch.setattr(fingerprint, "module_file", lambda target: found[target])
    distill, dfkd = map(fingerprint.code_sha256, found)
    assert distill != dfkd
    (package / "methods" / "coreset" / "selection.py").write_text("# changed\n")
    (package / "report" / "table.py").write_text("# changed\n")
    assert fingerprint.code_sha256("distill/dm") == distill
    (package / "methods" / "distill" / seen).write_text("# changed\n")
    assert fingerprint.code_sha256("distill/dm") != distill
    assert (fingerprint.code_sha256("dfkd/fast") != dfkd) == seen.startswith("..")


@pytest.mark.parametrize("pattern", fingerprint._SHARED)
def test_what_all_runs_share_is_there(pattern: str) -> None:
    assert list(fingerprint._PACKAGE.glob(pattern))


def test_code_is_hashed_without_an_import(module: Path) -> None:
    assert fingerprint.code_sha256(OURS) == fingerprint.code_sha256(OURS)
    first = fingerprint.code_sha256("my_nets.Net")
    module.write_text("# changed\n")
    assert fingerprint.code_sha256("my_nets.Net") != first
    assert "my_nets" not in sys.modules


def warned(versions: list[str | None]) -> list[str]:
    runs = [
        {
            "seed": seed,
            "builds_on": {},
            "data": {"warnings": [], "class_sizes": [5, 5], "num_private": 10},
            "git_commit": str(seed),
            "code_sha256": version,
        }
        for seed, version in enumerate(versions)
    ]
    for run in runs:
        if run["code_sha256"] is None:
            del run["code_sha256"]
    return content.warnings_of(len(runs), runs, {"partial": False, "test_accuracy": {"mean": 0.9}})


def test_models_of_changed_code_are_warned_of_and_another_commit_is_no_news() -> None:
    assert warned(["a", "a", "a"]) == warned([None, None]) == []
    (warning,) = warned(["a", "b", "a", None])
    assert warning.startswith(
        "the shadow models were trained by 3 versions of the code: seeds 0,2 | 1 | 3; "
    )
    (warning,) = warned(["a"] * 8 + ["b"])
    assert "seeds 0,1,2,3,4,5,... (8) | 8;" in warning


@pytest.mark.parametrize("key", ["labels", "test_path"])
def test_an_option_of_a_user_s_own_reader_counts_whatever_it_is_called(key: str) -> None:
    def named(target: str, value: str) -> str:
        load = {"_target_": target, key: value}
        return fingerprint.digest(fingerprint.canonical({"dataset": {"name": "x", "load": load}}))

    own, ours = "collections.Counter", "synpriv.data.datasets.folder"
    assert named(own, "a") != named(own, "b")
    assert named(ours, "a") == named(ours, "b")
