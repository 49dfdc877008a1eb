"""What methods build on: trained once, at the same seed, kept whole, never shared across seeds."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Compose
from omegaconf import DictConfig

from synpriv import artefacts, config, pipeline, runs, store

TINY = [
    *("dataset.num_train=120", "dataset.num_test=40", "canary.num_canaries=20", "num_models=6"),
    *("model.width=4", "logger=none", "trainer=cpu"),
]
STUDENT = ["method.student.num_epochs=1", "method.student.warmup_epochs=0"]
CORESET = [*STUDENT, "method.proxy.num_epochs=2", "method.proxy.warmup_epochs=0"]
TEACHER = ["method.teacher.num_epochs=2", "method.teacher.warmup_epochs=0"]
DFKD = [
    *("method=dfkd", "method.num_rounds=3", "method.warmup_rounds=1", "method.codes_per_round=8"),
    *("method.code_size=4", "method.width=4", *TEACHER),
]
DIFFUSION = [
    *("method=diffusion_public", "method.public_model.channels=[4,8]", "method.num_iterations=3"),
    *("method.public_model.num_iterations=3", "method.num_inference_steps=2", *STUDENT),
    *("method.warmup_iterations=1", "method.public_model.warmup_iterations=1"),
]
UNDEFENDED = ["method=undefended", "method.num_epochs=2", "method.warmup_epochs=0"]
Make = Callable[..., DictConfig]


@pytest.fixture
def make(compose: Compose, tmp_path: Path) -> Make:
    return lambda *overrides: compose(*TINY, f"results={tmp_path}", *overrides)


def files(results: Path, name: str) -> dict[str, tuple[int, int]]:
    """Inode and time of every file of that name: what training again changes."""
    found = results.rglob(name)
    return {str(f.relative_to(results)): (f.stat().st_ino, f.stat().st_mtime_ns) for f in found}


def metrics(folder: Path) -> dict:
    return json.loads((folder / store.METRICS).read_text())


def test_a_teacher_is_the_undefended_run_of_the_same_seed(make: Make, tmp_path: Path) -> None:
    runs.ensure(make(*UNDEFENDED, "seed=1"))
    before = files(tmp_path, "*")
    student = runs.ensure(make(*DFKD, "seed=1"))
    assert files(tmp_path, "*").items() >= before.items()
    assert len(list(tmp_path.glob("undefended-*"))) == 1
    teacher = next(tmp_path.glob("undefended-*"))
    assert [f.name for f in teacher.iterdir() if f.is_dir()] == ["1"]
    content = metrics(student)
    assert content["builds_on"]["teacher"]["cell"] == teacher.name
    own = sum(content["stages"][s]["wall_s"] for s in ("fit",))
    assert content["train_s"] == pytest.approx(own + metrics(teacher / "1")["train_s"], abs=2e-3)
    runs.ensure(make(*DFKD, "seed=2"))
    assert sorted(f.name for f in teacher.iterdir() if f.is_dir()) == ["1", "2"]


def test_all_selections_share_one_proxy_and_random_needs_none(make: Make, tmp_path: Path) -> None:
    random = ["method=coreset_random", *STUDENT]
    runs.ensure(make(*random))
    assert not list(tmp_path.glob("proxy-*"))
    selections = ("el2n", "herding", "k_center", "forgetting")
    runs.ensure(make("method=coreset_el2n", *CORESET))
    before = files(tmp_path, artefacts.RECORDS)
    assert len(before) == 1
    chosen = {}
    for name in selections:
        folder = runs.ensure(make(f"method=coreset_{name}", *CORESET))
        with np.load(folder / artefacts.SYNTHETIC) as arrays:
            chosen[name] = tuple(arrays["indices"])
        assert 0 <= metrics(folder)["canary_selection_rate"] <= 1
    assert files(tmp_path, artefacts.RECORDS) == before
    assert len(set(chosen.values())) == len(selections)


def test_canary_selection_rate_is_the_share_of_member_canaries_released(make: Make) -> None:
    folder = runs.ensure(make("method=coreset_random", *STUDENT, "method.fraction=0.5"))
    with np.load(folder / store.EVIDENCE) as arrays:
        released = arrays["nearest"] == 0  # a copy of the canary; digits have no duplicates
        rate = released[arrays["member"]].mean()
        assert not released[~arrays["member"]].any()
    assert metrics(folder)["canary_selection_rate"] == pytest.approx(rate, abs=1e-6)
    assert 0.1 < rate < 0.9


def test_another_recipe_of_the_teacher_is_another_cell_of_the_student(make: Make) -> None:
    names = {make(*DFKD).cell, make(*DFKD, "method.teacher.lr=0.04").cell}
    names |= {make(*DFKD, "method.teacher.label_smoothing=0.1").cell}
    assert len(names) == 3
    coresets = {make("method=coreset_el2n", f"method.proxy.lr={lr}").cell for lr in (0.05, 0.06)}
    assert len(coresets) == 2
    public = [make(*DIFFUSION, f"method.public_model.lr={lr}") for lr in (1e-3, 2e-3)]
    assert len({cfg.cell for cfg in public}) == 2


@pytest.mark.parametrize("harm", ["delete", "damage", "not kept"])
def test_a_teacher_without_its_weights_is_trained_again(
    harm: str, make: Make, tmp_path: Path
) -> None:
    how = ["keep_release=false"] if harm == "not kept" else []
    teacher = runs.ensure(make(*UNDEFENDED, *how))
    file = teacher / artefacts.CLASSIFIER
    evidence = (teacher / store.EVIDENCE).read_bytes()
    assert file.is_file() == (harm != "not kept")
    if harm == "delete":
        file.unlink()
    elif harm == "damage":
        file.write_bytes(file.read_bytes()[:-1] + b"x")
    runs.ensure(make(*DFKD, "keep_release=false"))
    cfg = make(*UNDEFENDED)
    cell = store.Cell(tmp_path, cfg.cell, cfg.num_models)
    assert cell.problem(0, artefacts.CLASSIFIER) is None
    assert (teacher / store.EVIDENCE).read_bytes() == evidence


def test_the_public_model_is_trained_once_whatever_the_private_set(
    make: Make, tmp_path: Path
) -> None:
    others = ["seed=1", "audit_seed=5", "canary.num_canaries=30", "dataset.num_train=100"]
    weights = []
    for i, other in enumerate(["seed=0", *others]):
        runs.ensure(make(*DIFFUSION, other) if "num" not in other else _with(make, other))
        (file,) = tmp_path.glob(f"diffusion_pretraining-*/*/{artefacts.GENERATOR}")
        weights.append((file.stat().st_ino, file.read_bytes()))
        if i == 2:  # from here on it is trained again, beside another private set
            shutil.rmtree(file.parents[1])
    assert weights[0] == weights[1] == weights[2]
    assert weights[3] == weights[4]
    assert weights[0][1] == weights[3][1]


def _with(make: Make, override: str) -> DictConfig:
    cfg = make(*DIFFUSION)
    key, value = override.split("=")
    group, name = key.split(".")
    cfg[group][name] = int(value)
    return cfg


def test_what_is_built_on_public_data_has_no_seed_and_no_canaries(make: Make) -> None:
    cfg = config.of_prerequisite(make(*DIFFUSION), "public_model")
    assert not {"num_models", "audit_seed", "canary"} & runs.public_science(cfg).keys()
    other = cfg.copy()
    other.dataset.mean = [0.5]
    assert runs.public_science(other) != runs.public_science(cfg)


def test_evidence_holds_distances_only_where_images_are_released(make: Make) -> None:
    for method, there in ((UNDEFENDED, False), (["method=coreset_random", *STUDENT], True)):
        cfg = make(*method)
        folder = runs.ensure(cfg)
        with np.load(folder / store.EVIDENCE) as arrays:
            assert ("nearest" in arrays.files) == there
        assert (folder / store.PAIRS).is_file() == there


def test_a_cell_with_released_images_ends_with_their_picture(make: Make, tmp_path: Path) -> None:
    method = ["method=coreset_random", *STUDENT]
    for seed in range(6):
        pipeline.run(make(*method, f"seed={seed}", "attack=nearest", "attack.variance=pooled_raw"))
    cell = next(tmp_path.glob("coreset_random-*"))
    report = json.loads((cell / "nearest.json").read_text())
    assert report["auc"] > 0.6  # three of ten members are released as they are
    assert report["provenance"] == ["real pixels", "labels"]
    assert (cell / pipeline.PAIRS).read_bytes().startswith(b"\x89PNG")


def test_nearest_on_a_classifier_alone_is_refused_in_one_line(make: Make) -> None:
    for seed in range(5):
        pipeline.run(make(*UNDEFENDED, f"seed={seed}", "attack=nearest"))
    with pytest.raises(ValueError, match="releases no synthetic set") as refusal:
        pipeline.run(make(*UNDEFENDED, "seed=5", "attack=nearest"))
    assert "\n" not in str(refusal.value)
