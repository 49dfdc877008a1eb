"""docs/tutorial.md: its generators keep their promises, and each of its commands runs."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from synpriv.data import datasets

TEXT = (ROOT / "docs" / "tutorial.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, flags=re.DOTALL)
COMMANDS = [line for kind, code in BLOCKS if kind == "bash" for line in code.splitlines()]
# Few images and models, and the same words otherwise.
FEWER = [
    *("dataset.num_train=300", "dataset.num_test=40", "canary.num_canaries=20", "logger=none"),
    *("accuracy_models=0", "trainer=cpu", "hydra.launcher.num_workers=1"),
    *("scale.undefended.num_epochs=3", "scale.dpsgd_eps8.num_epochs=2"),
]
Generator = Callable[..., tuple[np.ndarray, np.ndarray]]


def generators() -> dict[str, Generator]:
    (code,) = (code for kind, code in BLOCKS if kind == "python")
    found: dict[str, Generator] = {}
    exec(code, found)
    return {name: found[name] for name in ("gaussian", "vae", "smoothed")}


@pytest.mark.parametrize("name", ["gaussian", "vae", "smoothed"])
def test_a_generator_makes_images_of_each_class_by_its_seed(name: str) -> None:
    source = datasets.digits().private
    images, labels = source.images[:200].transpose(0, 2, 3, 1), source.labels[:200]
    options = {"epochs": 2} if name == "vae" else {}
    make = generators()[name]
    made, again, other = (
        make(images.copy(), labels.copy(), seed=seed, num_classes=10, **options)
        for seed in (1, 1, 2)
    )
    assert made[0].dtype == np.uint8
    assert made[0].shape == (len(made[1]), 8, 8, 1)
    assert set(np.unique(made[1])) == set(range(10))
    np.testing.assert_array_equal(made[0], again[0])
    assert not np.array_equal(made[0], other[0])


def test_a_full_gaussian_has_the_mean_and_the_covariance_of_its_class() -> None:
    source = datasets.digits().private
    images = source.images.transpose(0, 2, 3, 1) // 2 + 64  # far from where values are cut
    labels = np.zeros(len(images), dtype=np.int64)
    made, _ = generators()["gaussian"](images, labels, seed=0, num_classes=1, components=64)
    real, drawn = (x.reshape(len(x), -1).astype(float) for x in (images, made))
    error = real.std(axis=0) / np.sqrt(len(real))
    assert (np.abs(drawn.mean(axis=0) - real.mean(axis=0)) < 5 * error + 1).all()
    scale = np.cov(real.T).trace()
    assert np.abs(np.cov(drawn.T) - np.cov(real.T)).sum() < 0.2 * np.abs(np.cov(real.T)).sum()
    assert np.cov(drawn.T).trace() == pytest.approx(scale, rel=0.05)


@pytest.mark.slow
def test_every_block_of_the_tutorial_runs(tmp_path: Path) -> None:
    (code,) = (code for kind, code in BLOCKS if kind == "python")
    (tmp_path / code.splitlines()[0].removeprefix("# ")).write_text(code)
    assert len(COMMANDS) == 4
    many, few = "num_models=16 -m seed=0..15", "num_models=6 -m seed=0..5"
    for command in [written.replace(many, few) for written in COMMANDS]:
        words = [sys.executable, *shlex.split(command)[1:]]
        if words[1] == "run.py":
            words[1] = str(ROOT / "run.py")
            words += FEWER
        done = subprocess.run(
            words, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    for name in ("gaussian", "vae", "smoothed"):
        assert f"external_{name}" in done.stdout
    assert "undefended" in done.stdout
    assert "dpsgd_eps8" in done.stdout
