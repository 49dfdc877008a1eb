"""What methods build on: trained once, at the same seed, kept whole, never shared across seeds."""

import copy
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import Compose
from omegaconf import DictConfig, OmegaConf

from synpriv import config, pipeline
from synpriv.methods.base import Method, Release
from synpriv.results import artefacts, reports, store
from synpriv.shadow import cells, fitting, offering, pools, runs
from synpriv.shadow.checkpoints import Checkpoint
from synpriv.tracking import Tracker

pytestmark = pytest.mark.usefixtures("few_rounds")
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
    found = [f for f in results.rglob(name) if f.is_file()]
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


def test_a_teacher_may_have_an_architecture_of_its_own(make: Make, tmp_path: Path) -> None:
    # Not width 4: on 8x8 images torch 2.15 crashes in its backward pass, on a CPU.
    own = ["model@method.teacher.model=resnet18", "method.teacher.model.width=8"]
    same, other = (runs.ensure(make(*DFKD, *changes)) for changes in ([], own))
    assert len(list(tmp_path.glob("undefended-*"))) == 2
    before = files(tmp_path, "*")
    teacher = runs.ensure(make(*UNDEFENDED, "model=resnet18", "model.width=8"))
    assert files(tmp_path, "*") == before
    assert metrics(other)["builds_on"]["teacher"]["cell"] == teacher.parent.name
    assert metrics(same)["builds_on"]["teacher"]["cell"] != teacher.parent.name
    folders = (same, other, teacher)
    first, second, third = (artefacts.read_weights(f / store.CLASSIFIER) for f in folders)
    assert first.keys() == second.keys() != third.keys()
    assert not all(torch.equal(first[name], second[name]) for name in first)


def test_so_may_a_proxy_and_a_student(make: Make) -> None:
    for part in ("proxy", "student"):
        own = [f"model@method.{part}.model=resnet18", f"method.{part}.model.width=8"]
        folder = runs.ensure(make("method=coreset_el2n", *CORESET, *own))
        proxy = next(folder.parents[1].glob(f"proxy-*/0/{store.CLASSIFIER}"))
        kept = {"proxy": proxy, "student": folder / store.CLASSIFIER}
        with_shortcuts = {
            name for name, file in kept.items() if "shortcut" in str(artefacts.read_weights(file))
        }
        assert with_shortcuts == {part}
        shutil.rmtree(folder.parents[1])


def test_all_selections_share_one_proxy_and_random_needs_none(make: Make, tmp_path: Path) -> None:
    random = ["method=coreset_random", *STUDENT]
    runs.ensure(make(*random))
    assert not list(tmp_path.glob("proxy-*"))
    selections = ("el2n", "herding", "k_center", "forgetting")
    runs.ensure(make("method=coreset_el2n", *CORESET))
    before = files(tmp_path, store.RECORDS)
    assert len(before) == 1
    chosen = {}
    for name in selections:
        folder = runs.ensure(make(f"method=coreset_{name}", *CORESET))
        with np.load(folder / store.SYNTHETIC) as arrays:
            chosen[name] = tuple(arrays["indices"])
        assert 0 <= metrics(folder)["canary_selection_rate"] <= 1
    assert files(tmp_path, store.RECORDS) == before
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
    file = teacher / store.CLASSIFIER
    evidence = (teacher / store.EVIDENCE).read_bytes()
    assert file.is_file() == (harm != "not kept")
    if harm == "delete":
        file.unlink()
    elif harm == "damage":
        file.write_bytes(file.read_bytes()[:-1] + b"x")
    runs.ensure(make(*DFKD, "keep_release=false"))
    cfg = make(*UNDEFENDED)
    cell = store.Cell(tmp_path, cfg.cell, cfg.num_models)
    assert cell.problem(0, store.CLASSIFIER) is None
    assert (teacher / store.EVIDENCE).read_bytes() == evidence


def test_the_public_model_is_trained_once_whatever_the_private_set(
    make: Make, tmp_path: Path
) -> None:
    others = ["seed=1", "audit_seed=5", "canary.num_canaries=30", "dataset.num_train=100"]
    weights = []
    for i, other in enumerate(["seed=0", *others]):
        runs.ensure(make(*DIFFUSION, other) if "num" not in other else _with(make, other))
        (file,) = tmp_path.glob(f"diffusion_pretraining-*/*/{store.GENERATOR}")
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
    assert not {"num_models", "audit_seed", "canary"} & cells.public_science(cfg).keys()
    for key, value in (("dataset.mean", [0.5]), ("trainer.precision", "bf16-mixed")):
        other = cfg.copy()
        OmegaConf.update(other, key, value)
        assert cells.public_science(other) != cells.public_science(cfg)
    pooled = config.of_prerequisite(make(*DIFFUSION, "dataset@public=cifar100"), "public_model")
    assert cells.public_science(pooled) != cells.public_science(cfg)


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
        pipeline.run(make(*method, f"seed={seed}", "attack=nearest"))
    cell = next(tmp_path.glob("coreset_random-*"))
    report = json.loads((cell / "nearest.json").read_text())
    released = report["canary_selection_rate"]["mean"]  # these members lie at distance 0
    assert report["auc"] == pytest.approx(0.5 + released / 2, abs=0.1)
    assert report["provenance"] == ["real pixels", "labels"]
    assert reports.closest(cell / "nearest.json").read_bytes().startswith(b"\x89PNG")
    for seed in (6, 7):
        grown = [f"seed={seed}", "num_models=8", "attack=nearest", "attack.name=of_eight"]
        pipeline.run(make(*method, *grown))
    for name in ("nearest.json", "of_eight.json"):  # neither takes the other's picture away
        assert reports.problem(cell / name) is None


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Every method as it is when its fit begins, by stage; torch's seed then."""
    begun: list[tuple[str, Any]] = []
    real = fitting.fit

    def fit(
        method: Method, trainer: DictConfig, tracker: Tracker, stage: str, checkpoint: Checkpoint
    ) -> Release:
        begun.append((stage, copy.deepcopy(method)))
        return real(method, trainer, tracker, stage, checkpoint)

    monkeypatch.setattr(fitting, "fit", fit)
    return begun


def test_the_student_gets_the_teacher_that_is_on_disk(make: Make, fits: list) -> None:
    teacher = runs.ensure(make(*UNDEFENDED, "seed=2")) / store.CLASSIFIER
    runs.ensure(make(*DFKD, "seed=2"))
    weights = artefacts.read_weights(teacher)
    given = fits[-1][1].teacher.state_dict()
    assert given.keys() == weights.keys()
    assert all(torch.equal(given[name], weights[name]) for name in weights)


def test_private_diffusion_starts_from_the_public_model_on_disk(
    make: Make, fits: list, tmp_path: Path
) -> None:
    runs.ensure(make(*DIFFUSION))
    (file,) = tmp_path.glob(f"diffusion_pretraining-*/0/{store.GENERATOR}")
    weights = artefacts.read_weights(file)
    given = fits[1][1].network.state_dict()
    assert [stage for stage, _ in fits] == ["fit", "fit", "student"]
    assert all(torch.equal(given[name], weights[name]) for name in weights)


def test_seeds_that_started_from_different_public_models_are_named(
    make: Make, tmp_path: Path
) -> None:
    for seed in range(4):
        pipeline.run(make(*DIFFUSION, f"seed={seed}", "num_models=4", "attack=threshold"))
        if seed == 1:  # as if it were trained again elsewhere, with other bits
            (file,) = tmp_path.glob(f"diffusion_pretraining-*/0/{store.GENERATOR}")
            weights = artefacts.read_weights(file)
            name = next(name for name, tensor in weights.items() if tensor.is_floating_point())
            weights[name] = weights[name] + 1e-3
            content = safetensors.torch.save(weights)
            file.write_bytes(content)
            about = metrics(file.parent) | {
                "artefacts": {file.name: hashlib.sha256(content).hexdigest()}
            }
            about.pop("metrics_sha256")
            store.save_metrics(file.parent, about)
    report = json.loads(next(tmp_path.glob("diffusion_public-*/threshold.json")).read_text())
    assert "the shadow models started from 2 different public models" in report["warnings"]


def test_a_proxy_records_eval_mode_logits_and_is_no_other_training(make: Make) -> None:
    cfg = make("method=coreset_el2n", *CORESET)
    proxy = config.of_prerequisite(cfg, "proxy")
    folder = runs.ensure(proxy)
    records = artefacts.read_records(folder / store.RECORDS)
    source = pools.load_pools(cfg)
    private = offering.split_of(cfg, source).train
    network = offering.network_factory(cfg.model, "model", source, cfg)()
    network.load_state_dict(artefacts.read_weights(folder / store.CLASSIFIER))
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(private.images), records.logits[-1])
    assert torch.equal(records.labels, private.labels)
    assert records.logits.shape == (2, len(private), 10)
    proxy.method.record = False
    plain = artefacts.read_weights(runs.ensure(proxy) / store.CLASSIFIER)
    assert all(torch.equal(plain[k], v) for k, v in network.state_dict().items())


def test_a_student_draws_other_numbers_than_the_stage_before_it(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds, real = [], fitting.fit

    def fit(*args: Any) -> Release:
        seeds.append(torch.initial_seed())
        return real(*args)

    monkeypatch.setattr(fitting, "fit", fit)
    runs.ensure(make("method=coreset_random", *STUDENT))
    assert len(set(seeds)) == 2


def test_a_run_without_a_member_canary_has_no_selection_rate(make: Make, tmp_path: Path) -> None:
    one = ["method=coreset_random", *STUDENT, "canary.num_canaries=1", "attack=threshold"]
    for seed in range(4):
        pipeline.run(make(*one, f"seed={seed}", "num_models=4"))
    (cell,) = tmp_path.glob("coreset_random-*")
    rates = [metrics(cell / str(seed))["canary_selection_rate"] for seed in range(4)]
    assert rates.count(None) == 2
    report = json.loads((cell / "threshold.json").read_text())
    assert report["canary_selection_rate"]["n"] == 2
    good = [metrics(cell / str(seed))["quality"] for seed in range(4)]
    assert len({one["private_fid"] for one in good}) == 1  # one network judges them all
    fid = sum(one["fid"] for one in good) / 4
    assert report["quality"]["fid"] == pytest.approx(fid)
    assert report["quality"]["precision"] > 0.5  # of real images


def test_random_is_one_cell_however_it_is_typed(make: Make, tmp_path: Path) -> None:
    typed = make("method=coreset", "method.selection=random", *STUDENT)
    assert typed.cell == make("method=coreset_random", *STUDENT).cell
    runs.ensure(typed)
    assert not list(tmp_path.glob("proxy-*"))


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ([*DFKD, "model.norm=group"], "teacher with BatchNorm"),
        ([*DFKD, "method.temperature=-1"], r"^method\.temperature=-1: must be positive"),
        ([*DFKD, "method.teacher.num_epochs=abc"], r"^method\.teacher\.num_epochs='abc'"),
        (["method=coreset_el2n", *CORESET, "method.fraction=2"], r"^method\.fraction=2: must"),
        (["method=coreset_el2n", *CORESET, "method.selection=foo"], r"^method\.selection=foo"),
        (["method=coreset_el2n", *CORESET, "method.student.lr=-1"], r"^method\.student\.lr=-1"),
        (
            ["method=coreset_el2n", *CORESET, "method.el2n_epochs=[3]"],
            r"^method\.el2n_epochs=\[3\]",
        ),
        (
            ["method=coreset_el2n", *CORESET, "method.fraction=0.01"],
            r"^method\.fraction=0\.01 of 1",
        ),
        (["method=coreset_random", "method.selection=el2n"], r"^method\.selection=el2n: needs a p"),
        ([*DIFFUSION, "method.num_generated=9"], r"^method\.num_generated=9: must be at least 10"),
        ([*DIFFUSION, "method.public_model.lr=0"], r"^method\.public_model\.lr=0"),
        ([*UNDEFENDED, "model.norm=layer"], r"^model\.norm=layer"),
        (
            [*DFKD, "model@method.teacher.model=wrn16_4", "method.teacher.model.norm=instance"],
            r"^method\.teacher\.model\.norm=instance: must be batch or group for wrn16_4",
        ),
        (
            [*DFKD, "+model@method.teacher.modle=resnet18"],
            r"^method\.teacher\.modle: no such option; did you mean model\?",
        ),
        ([*DFKD, "+model@method.techer=resnet18"], r"^method\.techer: .* did you mean teacher\?"),
        ([*DFKD, "+model@method.model=resnet18"], r"^method\.model: no such option"),
        ([*DFKD, "+method@method.student=undefended"], r"^method\.student: no such option"),
        ([*DIFFUSION, "method.guidance=-1"], r"^method\.guidance=-1"),
    ],
)
def test_a_bad_option_costs_no_training(
    method: list[str], message: str, make: Make, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        runs.ensure(make(*method))
    assert not list(tmp_path.rglob(store.METRICS))


def test_a_teacher_s_bad_option_says_whose_it_is(make: Make) -> None:
    with pytest.raises(ValueError, match=r"^method\.teacher\.lr=0: must be positive"):
        runs.ensure(make(*DFKD, "method.teacher.lr=0"))
    with pytest.raises(ValueError, match=r"proxy of coreset_el2n: .* is not set up to write it"):
        runs.ensure(make("method=coreset_el2n", *CORESET, "method.proxy.record=false"))


def test_nearest_on_a_classifier_alone_is_refused_before_training(
    make: Make, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="releases no images") as refusal:
        pipeline.run(make(*UNDEFENDED, "attack=nearest"))
    assert "\n" not in str(refusal.value)
    assert not list(tmp_path.rglob(store.METRICS))
