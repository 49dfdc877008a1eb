"""A study: one sweep over methods that ends with a figure and a table, whatever happens to it."""

import csv
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Compose, RunPy

from synpriv.results import store

EXPERIMENT = """# @package _global_
num_models: 6
study: tiny
scale:
  undefended: {num_epochs: 6}
  proxy: {num_epochs: 4}
  coreset: {student: {num_epochs: 6}}
hydra:
  sweeper:
    params:
      method: coreset_herding,dfkd_tiny
      seed: 0..5
"""
DFKD = """defaults: [dfkd, _self_]
name: dfkd_tiny
num_rounds: 3
warmup_rounds: 1
codes_per_round: 8
"""
TINY = [
    *("experiment=tiny", "logger=none", "trainer=cpu", "model.width=4", "accuracy_models=0"),
    *("dataset.num_train=150", "canary.num_canaries=30", "dataset.num_test=60", "-m"),
    "hydra.launcher.num_workers=1",
]
TIMEOUT = 400
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def conf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("conf")
    (folder / "experiment").mkdir()
    (folder / "experiment" / "tiny.yaml").write_text(EXPERIMENT)
    (folder / "method").mkdir()
    (folder / "method" / "dfkd_tiny.yaml").write_text(DFKD)
    return folder


def rows(results: Path) -> list[dict[str, str]]:
    """The study's table without what no two runs share."""
    with (results / "tiny-lira.csv").open() as file:
        return [
            {key: value for key, value in row.items() if key not in ("train_s", "peak_mb")}
            for row in csv.DictReader(file)
        ]


def written(results: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of the files of finished runs: what training again changes."""
    names = (store.EVIDENCE, store.METRICS, store.RECORDS, store.CLASSIFIER)
    runs = [file.parent for file in results.rglob(store.METRICS)]
    found = [run / name for run in runs for name in names if (run / name).is_file()]
    return {str(f): (f.stat().st_ino, f.stat().st_mtime_ns) for f in found}


def test_a_study_that_is_killed_ends_with_the_same_figure(
    conf: Path, run_py: RunPy, start_py: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    words = [*TINY, "--config-dir", str(conf)]
    done = run_py(*words, f"results={whole}", timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "tiny-lira.png" in done.stdout
    assert [row["method"] for row in rows(whole)] == ["coreset_herding", "dfkd_tiny"]
    assert (whole / "tiny-lira.png").read_bytes().startswith(b"\x89PNG")
    assert (whole / "tiny-lira.svg").read_text().rstrip().endswith("</svg>")
    assert "](tiny-lira.png)" in (whole / "tiny-lira.md").read_text()

    process = start_py(*words, f"results={killed}")
    end = time.monotonic() + TIMEOUT
    while len(list(killed.glob("coreset_herding-*/*/metrics.json"))) < 2:
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    there = written(killed)
    again = run_py(*words, f"results={killed}", timeout=TIMEOUT)
    assert again.returncode == 0, again.stderr + again.stdout
    assert written(killed).items() >= there.items()
    assert rows(killed) == rows(whole)

    before = written(whole)
    rerun = run_py(*words, f"results={whole}", timeout=TIMEOUT)
    assert rerun.returncode == 0
    assert "12 of 12 shadow models are there already" in rerun.stdout
    assert written(whole) == before
    cells = {folder.name.rpartition("-")[0].partition("-")[0] for folder in whole.glob("*-*-*-*")}
    assert cells == {"undefended", "proxy", "coreset_herding", "dfkd_tiny"}
    assert len(list(whole.glob("*-*-*-*"))) == 4


def test_what_is_typed_replaces_what_the_experiment_sweeps(
    conf: Path, run_py: RunPy, tmp_path: Path
) -> None:
    words = [*TINY, "--config-dir", str(conf), "seed=0", "method=undefended,coreset_random"]
    done = run_py(*words, f"results={tmp_path}", timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "jobs: 2," in done.stdout
    assert "study tiny: no audited cell yet" in done.stdout
    assert len(written(tmp_path)) == 6


def test_the_paper_experiment_composes(compose: Compose) -> None:
    cfg = compose("experiment=paper", return_hydra_config=True)
    methods = cfg.hydra.sweeper.params.method.replace(" ", "").split(",")
    assert len(methods) == len(set(methods)) == 12
    for method in methods:
        cell = compose("experiment=paper", f"method={method}").cell
        assert cell.startswith(f"{method}-digits-mislabelled-")
