"""Outputs of finished runs that are lost or damaged: named, and trained again only when asked."""

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Compose
from omegaconf import DictConfig

from synpriv import config, pipeline
from synpriv.results import store
from synpriv.shadow import cells, check, outputs, runs

pytestmark = pytest.mark.usefixtures("few_rounds")
DFKD = ["method=dfkd", "num_models=6", "logger=none", "trainer=cpu"]
NAMES = (store.CLASSIFIER, store.SYNTHETIC, store.PAIRS)


def finished(cell: store.Cell, seeds: range, names: tuple[str, ...] = NAMES) -> store.Cell:
    """Runs as they are when they are done, with some content in their outputs."""
    for seed in seeds:
        sums = {}
        for name in names:
            content = f"{name} of {seed}".encode() * 50
            store.write_bytes(cell.run(seed) / name, content)
            sums[name] = hashlib.sha256(content).hexdigest()
        store.save_run(
            cell.run(seed),
            logits=np.zeros((4, 1, 3), np.float32),
            member=np.arange(4) % 2 == seed % 2,
            labels=np.zeros(4, np.int64),
            true_labels=np.ones(4, np.int64),
            metrics={"cell": cell.name, "seed": seed, "artefacts": sums},
        )
    return cell


@pytest.fixture
def cfg(compose: Compose, tmp_path: Path) -> DictConfig:
    """A finished cell of data-free distillation, and its teachers."""
    made = compose(*DFKD, f"results={tmp_path / 'r'}")
    for own in (made, config.of_prerequisite(made, "teacher")):
        cell = finished(cells.cell_of(own), range(6))
        store.write_bytes(cell.folder / cells.DESCRIPTION, cells.description(config.science(own)))
    return made


def teachers(cfg: DictConfig) -> store.Cell:
    return cells.cell_of(config.of_prerequisite(cfg, "teacher"))


def test_a_whole_cell_is_not_talked_about(
    cfg: DictConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs.warn(cfg)
    cfg.verify = True
    outputs.warn(cfg)
    assert capsys.readouterr().out == ""


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[7] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("damage", [Path.unlink, cut, flip])
@pytest.mark.parametrize("name", NAMES)
def test_a_lost_or_damaged_output_is_named(
    cfg: DictConfig,
    name: str,
    damage: Callable[[Path], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    cell = cells.cell_of(cfg)
    damage(cell.run(2) / name)
    outputs.warn(cfg)
    (line,) = capsys.readouterr().out.splitlines()
    word = "missing" if damage is Path.unlink else "damaged"
    assert line.startswith(f"warning: {cell.folder}: 2/{name} is {word};")
    assert "repair=true trains these runs again" in line
    assert cell.problem(2) is None  # its figures do not need it


def test_a_teacher_s_lost_weights_are_named(
    cfg: DictConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    (teachers(cfg).run(1) / store.CLASSIFIER).unlink()
    (teachers(cfg).run(4) / store.METRICS).write_bytes(b"{")
    outputs.warn(cfg)
    printed = capsys.readouterr().out
    assert f"1/{store.CLASSIFIER} is missing, 4/metrics.json is damaged" in printed
    assert "made again when a training needs it" in printed


def test_a_flip_that_left_size_and_time_is_found_with_verify(
    cfg: DictConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    file = cells.cell_of(cfg).run(3) / store.SYNTHETIC
    times = (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    flip(file)
    os.utime(file, ns=times)
    outputs.warn(cfg)
    assert capsys.readouterr().out == ""  # what is cheap does not see it
    cfg.verify = True
    outputs.warn(cfg)
    assert f"3/{store.SYNTHETIC} is damaged" in capsys.readouterr().out


def test_copied_results_are_as_good_as_the_originals(cfg: DictConfig) -> None:
    cell = cells.cell_of(cfg)
    later = time.time() + 60
    os.utime(cell.run(0) / store.CLASSIFIER, (later, later))
    assert cell.lost(0) == []


@pytest.mark.parametrize("content", [None, b"", b"method:\n  name: other\n"])
def test_a_lost_description_of_the_cell_is_written_again(
    cfg: DictConfig, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    file = cells.cell_of(cfg).folder / cells.DESCRIPTION
    whole = file.read_bytes()
    file.unlink() if content is None else file.write_bytes(content)
    outputs.warn(cfg)
    assert capsys.readouterr().out == f"note: {file} was lost or damaged and is written again\n"
    assert file.read_bytes() == whole


def test_only_repair_trains_a_run_again_whose_output_is_lost(
    cfg: DictConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []

    def train(cfg: DictConfig, cell: store.Cell, problem: str, **_: Any) -> None:
        trained.append(problem)

    monkeypatch.setattr(runs, "_train", train)
    cfg.seed = 2
    (cells.cell_of(cfg).run(2) / store.SYNTHETIC).unlink()
    runs.ensure(cfg)
    assert trained == []
    cfg.repair = True
    runs.ensure(cfg)
    assert trained == [f"2/{store.SYNTHETIC} is missing"]


@pytest.mark.parametrize("name", ["mine", "../mine", "", "undefended-digits-mislabelled-00000000"])
def test_a_cell_cannot_be_given_another_name(compose: Compose, name: str) -> None:
    with pytest.raises(ValueError, match=rf"cell={name}: must be undefended-digits-"):
        config.validate(compose(f"cell='{name}'"))


def test_the_name_that_is_computed_anyway_may_be_given(compose: Compose) -> None:
    right = compose().cell
    config.validate(compose(f"cell={right}"))
    teacher = config.of_prerequisite(
        compose("method=dfkd", f"cell={compose('method=dfkd').cell}"), "teacher"
    )
    assert teacher.cell == right  # not the student's, whose lock is held meanwhile


def test_a_given_name_is_refused_before_a_folder_is_made(
    run_py: Callable[..., Any], tmp_path: Path
) -> None:
    for sweep in ([], ["-m", "seed=0..3"]):
        done = run_py("cell=../mine", f"results={tmp_path / 'r'}", "logger=none", *sweep)
        assert done.returncode == 1
        assert done.stderr.startswith("error: cell=../mine: must be undefended-")
        assert done.stderr.count("\n") == 1
        assert list(tmp_path.iterdir()) == []


def test_the_models_of_another_cell_under_this_name_are_not_trained_over(
    compose: Compose, tmp_path: Path
) -> None:
    cfg = compose("num_models=6", "logger=none", f"results={tmp_path}")
    cell = cells.cell_of(cfg)
    finished(store.Cell(tmp_path, "undefended-digits-mislabelled-00000000", 6), range(4))
    (tmp_path / "undefended-digits-mislabelled-00000000").rename(cell.folder)
    before = {f: f.read_bytes() for f in cell.folder.rglob("*") if f.is_file()}
    with pytest.raises(ValueError, match=r"holds seed 0 of undefended.*-00000000.* move it away"):
        pipeline.run(cfg)
    after = {f: f.read_bytes() for f in cell.folder.rglob("*") if f.is_file() and f.suffix}
    assert {f: after[f] for f in before} == before


@pytest.mark.parametrize("name", [".hidden", "..", "a/b"])
def test_an_attack_is_not_called_like_another_file(compose: Compose, name: str) -> None:
    with pytest.raises(ValueError, match=f"name={name}: must be letters"):
        config.validate(compose(f"attack.name={name}"))


def test_results_without_a_folder_are_refused(compose: Compose) -> None:
    with pytest.raises(ValueError, match="results=: must be a folder"):
        config.validate(compose("results=''"))


def test_a_cell_is_no_place_for_cells(compose: Compose, cfg: DictConfig) -> None:
    inside = compose("logger=none", f"results={cells.cell_of(cfg).folder}")
    with pytest.raises(ValueError, match="is a cell: must be the folder above it"):
        check.check(inside)
