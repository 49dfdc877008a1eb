"""Cells that grow: more shadow models train only what is missing, fewer audit the first ones."""

import os
import shutil
import signal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from conftest import Compose, RunPy
from omegaconf import DictConfig
from test_sweep import (
    Start,
    all_gone,
    begin,  # noqa: F401 - a fixture
    evidence,
    files,
    report,
    until,
)

from hydra_plugins.synpriv import sweeper
from synpriv import audits, pipeline, summary
from synpriv.data.draws import paired_membership
from synpriv.results import reports, store
from synpriv.shadow import cells, runs

pytestmark = pytest.mark.usefixtures("few_rounds", "no_pictures")
FEW, MANY = 4, 6
CORESET = [
    *("dataset.num_train=120", "dataset.num_test=40", "canary.num_canaries=20", "model.width=4"),
    *("logger=none", "trainer=cpu", "method=coreset_el2n", "accuracy_models=0"),
    *("method.student.num_epochs=1", "method.student.warmup_epochs=0"),
    *("method.proxy.num_epochs=2", "method.proxy.warmup_epochs=0", "attack=threshold"),
]


class Step(NamedTuple):
    """What a command over all seeds of a cell did."""

    trained: list[tuple[str, int]]  # (method, seed)
    report: Any


class Grown(NamedTuple):
    """A cell after its steps, each with its number of models."""

    words: list[str]
    cell: store.Cell
    steps: list[Step]


@pytest.fixture(scope="module")
def grown(compose: Compose, tmp_path_factory: pytest.TempPathFactory) -> Grown:
    """Audited with few models, then with many, then with few again."""
    words = [*CORESET, f"results={tmp_path_factory.mktemp('grown')}"]
    steps, train = [], runs._train
    for num_models in (FEW, MANY, FEW):
        trained: list[tuple[str, int]] = []

        def counted(cfg: DictConfig, *args: Any, to: list = trained, **options: Any) -> None:
            to.append((cfg.method.name, cfg.seed))
            train(cfg, *args, **options)

        cfg = compose(*words, f"num_models={num_models}")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(runs, "_train", counted)
            for cfg.seed in range(num_models):
                pipeline.run(cfg.copy())
        cell = cells.cell_of(cfg)
        steps.append(Step(trained, reports.read(cell.folder / "threshold.json")))
    return Grown(words, store.Cell(cell.results, cell.name, MANY), steps)


def test_a_cell_grows_and_shrinks_and_trains_nothing_twice(grown: Grown) -> None:
    few, many, again = grown.steps
    methods = ("coreset_el2n", "proxy")
    assert sorted(few.trained) == [(name, seed) for name in methods for seed in range(FEW)]
    assert sorted(many.trained) == [(name, seed) for name in methods for seed in range(FEW, MANY)]
    assert again.trained == []
    for step, num_models in ((few, FEW), (many, MANY)):
        assert step.report["cell"] == grown.cell.name
        assert step.report["seeds"] == list(range(num_models))
        assert step.report["num_models"] == step.report["num_planned"] == num_models
        assert step.report["partial"] is False
        assert step.report["membership"] == "paired"
    assert again.report == few.report  # to the last bit, and not the report of all


def test_a_grown_cell_is_the_one_that_was_planned_as_large(
    grown: Grown, compose: Compose, tmp_path: Path
) -> None:
    cfg = compose(*grown.words[:-1], f"results={tmp_path}", f"num_models={MANY}")
    for cfg.seed in (0, MANY - 1):
        pipeline.run(cfg)
        straight, ours = (
            c.run(cfg.seed) / store.EVIDENCE for c in (cells.cell_of(cfg), grown.cell)
        )
        assert straight.read_bytes() == ours.read_bytes()


def test_evidence_knows_which_models_are_pairs(grown: Grown) -> None:
    read = grown.cell.evidence(range(MANY))
    assert read.design == "paired"
    assert (read.member[:, ::2] != read.member[:, 1::2]).all()
    assert len(np.unique(read.member[:, ::2], axis=1).T) == MANY // 2  # every pair its own coins
    some = grown.cell.evidence([1, 4, 5])
    assert some.seeds is not None
    assert some.seeds.tolist() == [1, 4, 5]
    assert [column.tolist() for column in some.partners] == [[1], [2]]


def test_a_partial_report_is_not_that_of_a_smaller_cell(grown: Grown, compose: Compose) -> None:
    cfg = compose(*grown.words, "num_models=10", "partial=true")
    part = pipeline.audit_if_complete(cfg, partial=True)
    assert part is not None
    assert (part["partial"], part["num_planned"]) == (True, 10)
    assert part["seeds"] == list(range(MANY))
    words = "partial: 6 of 10 shadow models; references are the 3 whole pairs"
    assert any(line.startswith(words) for line in part["warnings"])
    whole = compose(*grown.words, f"num_models={MANY}")
    assert "no report of attack=threshold from these models" in summary.summary([whole])
    assert pipeline.audit_if_complete(whole, partial=False) == grown.steps[1].report


@pytest.mark.parametrize("method", ["dfkd", "coreset_herding", "diffusion_public", "distill_dm"])
def test_what_a_method_builds_on_grows_along(method: str, compose: Compose) -> None:
    few, many = (compose(f"method={method}", f"num_models={num}") for num in (16, 64))
    names = [[cell.name for cell, _ in cells.built_on(cfg)] for cfg in (few, many)]
    assert names[0] == names[1]
    assert few.cell == many.cell


@pytest.mark.parametrize(
    ("seeds", "words"),
    [
        ([0], "and has 0; train -m seed=1 first"),
        ([0, 1], "and has 1; train -m seed=0..7 first"),
        ([0, 1, 2, 5], "and has 1; train -m seed=3,4 first"),
    ],
)
def test_less_than_two_whole_pairs_are_refused_in_one_line(
    tmp_path: Path, seeds: list[int], words: str
) -> None:
    cell = store.Cell(tmp_path, "cell", 8)
    with pytest.raises(ValueError, match=r"needs two whole pairs") as caught:
        audits._require_pairs(cell, seeds)
    assert str(caught.value).endswith(words)
    assert "\n" not in str(caught.value)
    audits._require_pairs(cell, [0, 1, 3, 6, 7])


@pytest.mark.parametrize("num_canaries", [5, 20])
def test_runs_saved_without_a_design_are_balanced(tmp_path: Path, num_canaries: int) -> None:
    """Cells of the time before it was recorded are found again under their old names."""
    cell = store.Cell(tmp_path, "cell", 4)
    member = paired_membership(num_canaries, 4, seed=0)
    for seed, extra in ((0, {}), (1, {}), (2, {"membership": "paired"}), (3, {})):
        store.save_run(
            cell.run(seed),
            logits=np.zeros((num_canaries, 2, 3), np.float32),
            member=member[:, seed],
            labels=np.zeros(num_canaries, np.int64),
            true_labels=np.ones(num_canaries, np.int64),
            metrics={"cell": "cell", "seed": seed, "canaries_sha256": "x", **extra},
        )
    assert cell.evidence([0, 1]).design == "balanced"
    assert cell.evidence([2, 3]).design == "paired"


def test_a_sweep_over_the_number_of_models_is_refused_unless_reports_are_told_apart(
    compose: Compose,
) -> None:
    few, many = compose("num_models=16"), compose("num_models=64")
    with pytest.raises(ValueError, match=r"^num_models is swept, .* lira: add '(.*)'$") as caught:
        sweeper._check_names([few, many])
    hint = str(caught.value).split("'")[1]
    named = [compose(hint, f"num_models={num}") for num in (16, 64)]
    assert [cfg.attack.name for cfg in named] == ["lira_16", "lira_64"]
    sweeper._check_names([*named, few])
    apart = [compose("canary.membership=balanced", f"num_models={num}") for num in (16, 64)]
    sweeper._check_names(apart)  # cells of their own


@pytest.mark.parametrize(
    ("membership", "there", "words"),
    [
        ("paired", range(64), "a smaller num_models audits the first models of this cell"),
        ("paired", range(17, 64), "num_models=16 audits the first 16, which are there"),
        ("bernoulli", range(5, 64), "a smaller num_models audits the first models of this cell"),
        ("balanced", range(17, 64), "a smaller num_models is another, cheaper cell"),
    ],
)
def test_what_is_missing_says_what_a_smaller_number_is(
    membership: str, there: range, words: str, tmp_path: Path
) -> None:
    assert summary._with_fewer(there, grows=membership != "balanced") == words


@pytest.mark.slow
def test_growth_that_was_killed_and_resumed_gives_the_report_of_an_uninterrupted_one(
    grown: Grown,
    begin: Start,  # noqa: F811
    run_py: RunPy,
    compose: Compose,
    tmp_path: Path,
) -> None:
    halted, whole = tmp_path / "halted", tmp_path / "whole"
    for results in (halted, whole):
        shutil.copytree(grown.cell.results, results)
    words = [*grown.words[:-1], "num_models=10", "hydra.launcher.num_workers=1"]
    command = [*words, f"results={halted}", "-m", "seed=0..9"]
    there = files(halted)
    sweep = begin(*command)
    until(lambda: len(files(halted)) > len(there), sweep)
    os.kill(sweep.pid, signal.SIGKILL)
    assert all_gone(sweep.pid, within_s=60)
    done = {name: state for name, state in files(halted).items() if name.endswith(store.METRICS)}
    assert len(done) < 20  # of ten models and their proxies
    resumed = run_py(*command, timeout=600)
    assert resumed.returncode == 0, resumed.stderr
    assert {name: files(halted)[name] for name in done} == done
    cfg = compose(*words, f"results={whole}")
    for cfg.seed in range(10):
        pipeline.run(cfg.copy())
    for file in whole.glob("*/threshold.json"):
        file.unlink()  # made with few rounds, see the fixtures
    audited = run_py(*words, f"results={whole}", "-m", "seed=0..9", timeout=600)
    assert audited.returncode == 0, audited.stderr
    assert evidence(halted) == evidence(whole)
    assert report(halted, "threshold") == report(whole, "threshold")
    assert report(halted, "threshold")["num_models"] == 10
