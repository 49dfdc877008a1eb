"""The accuracy that a report shows: which runs measure it, how exactly, and who waits for whom."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Compose

from hydra_plugins.synpriv.sweeper import Variant, _with_clean_runs
from synpriv import audits, pipeline
from synpriv.data.draws import draw, wrong_label_share
from synpriv.report import __main__ as report_main
from synpriv.report import content
from synpriv.results import reports
from synpriv.shadow.accuracy import clean_runs
from synpriv.shadow.pools import load_pools

pytestmark = pytest.mark.usefixtures("few_rounds", "no_pictures")
NUM_MODELS = 4
TINY = [
    *("dataset.num_train=120", "dataset.num_test=40", "canary.num_canaries=20", "model.width=4"),
    *("method.num_epochs=1", "method.warmup_epochs=0", "logger=none", "trainer=cpu"),
    *("attack=threshold", f"num_models={NUM_MODELS}"),
]


# --- how much is wrong, and how exact a mean is --------------------------------------------------


def test_the_share_of_wrong_labels_is_that_of_the_draws(compose: Compose) -> None:
    pools = load_pools(compose())
    options: dict[str, Any] = {"num_canaries": 100, "member_draw": "balanced", "audit_seed": 3}
    for kind in ("mislabelled", "clean"):
        drawn = draw(pools, kind=kind, num_models=40, **options)
        wrong = drawn.labels != pools.private.labels
        shares = [wrong[drawn.included(seed)].mean() for seed in range(40)]
        assert wrong_label_share(kind, 100, len(wrong)) == pytest.approx(np.mean(shares), abs=3e-4)


def test_the_standard_error_covers_models_and_test_images() -> None:
    """Accuracy of models of different skill on test images of different difficulty."""
    rng, num_models, num_test, rounds = np.random.default_rng(0), 4, 400, 2000
    means, errors = [], []
    for _ in range(rounds):
        skill = 2 + 0.2 * rng.normal(size=(num_models, 1))
        ease = skill + rng.normal(size=num_test) + rng.normal(size=(num_models, num_test))
        measured = content.measured((ease > 0).mean(axis=1).tolist(), num_test)
        means.append(measured["mean"])
        errors.append(measured["se"])
    truth = np.mean(means)
    covered = np.abs(np.array(means) - truth) < 1.96 * np.array(errors)
    assert covered.mean() > 0.94
    assert np.mean(errors) < 1.5 * np.std(means)  # not by being useless
    one = content.measured([0.9], 100)
    assert (one["sd"], one["n"]) == (0, 1)
    assert one["se"] == pytest.approx(0.03)


def runs_of(cell: str, accuracies: list[float], sha256: str = "0") -> list[dict[str, Any]]:
    seen = {"num_test": 400, "num_private": 1000, "sha256": sha256}
    return [{"cell": cell, "test_accuracy": value, "data": seen} for value in accuracies]


def test_accuracy_is_of_clean_canary_runs_where_there_are_any() -> None:
    audited, clean = runs_of("wrong", [0.9, 0.92]), runs_of("clean", [0.98, 0.99, 1.0])
    found = content.accuracy_of("mislabelled", 100, audited, clean)
    assert found["test_accuracy"]["mean"] == pytest.approx(0.91)
    assert found["accuracy"]["mean"] == pytest.approx(0.99)
    assert (found["accuracy"]["n"], found["accuracy"]["source"]) == (3, "clean canaries")
    assert found["accuracy"]["wrong_labels"] == pytest.approx(50 / 950)
    own = content.accuracy_of("mislabelled", 100, audited, [])["accuracy"]
    assert (own["mean"], own["n"], own["source"]) == (
        found["test_accuracy"]["mean"],
        2,
        "audited models",
    )
    with pytest.raises(ValueError, match="clean was trained on other data than wrong"):
        content.accuracy_of("mislabelled", 100, audited, runs_of("clean", [0.9], sha256="1"))


@pytest.mark.parametrize(
    ("canary", "num_canaries", "clean", "said"),
    [
        ("mislabelled", 100, [], ["accuracy is that under 5.3% wrong labels"]),
        ("mislabelled", 100, [0.9], []),
        ("mislabelled", 19, [], []),  # 9.5 of 990.5
        ("clean", 500, [], []),
    ],
)
def test_accuracy_under_many_wrong_labels_is_called_that(
    canary: str, num_canaries: int, clean: list[float], said: list[str]
) -> None:
    runs = runs_of("wrong", [0.9, 0.92])
    report = content.accuracy_of(canary, num_canaries, runs, runs_of("clean", clean))
    warned = content.warnings_of_accuracy(report | {"data": runs[0]["data"]})
    assert [words.partition(",")[0] for words in warned] == said


def test_runs_with_clean_canaries_are_not_advised_where_sets_are_made_elsewhere() -> None:
    runs = runs_of("wrong", [0.9, 0.92])
    report = content.accuracy_of("mislabelled", 100, runs, []) | {"data": runs[0]["data"]}
    (advised,) = content.warnings_of_accuracy(report)
    assert "accuracy_models" in advised
    there = report | {"settings": {"method._target_": "Precomputed"}}
    (said,) = content.warnings_of_accuracy(there)
    assert said == advised.partition(": a sweep")[0]


# --- which runs ----------------------------------------------------------------------------------


def test_clean_runs_are_the_first_ones_of_the_cell_with_clean_canaries(compose: Compose) -> None:
    clean = clean_runs(compose("num_models=16", "seed=7"))
    assert clean is not None
    assert clean.seeds == [0, 1, 2, 3]
    assert clean.cell.name == compose("canary=clean", "num_models=16").cell
    fewest = clean_runs(compose("num_models=4", "attack=threshold"))
    assert fewest is not None
    assert fewest.seeds == [0, 1, 2]  # never all of their cell, which would be audited


@pytest.mark.parametrize(
    "overrides", [["canary=clean"], ["canary.num_canaries=19"], ["accuracy_models=0"]]
)
def test_no_clean_runs_where_the_labels_are_right_or_nobody_asks(
    compose: Compose, overrides: list[str]
) -> None:
    assert clean_runs(compose(*overrides)) is None


def jobs_of(compose: Compose, place: Path, seeds: range, *words: str) -> Variant:
    common = [*TINY, f"results={place}", *words]
    return Variant(compose(*common), {seed: [*common, f"seed={seed}"] for seed in seeds})


def test_a_sweep_trains_clean_runs_before_the_cell_that_they_are_for(
    compose: Compose, tmp_path: Path
) -> None:
    whole = jobs_of(compose, tmp_path, range(NUM_MODELS))
    again = jobs_of(compose, tmp_path, range(NUM_MODELS), "attack.score=logit")
    clean, *rest = _with_clean_runs([whole, again])
    assert rest == [whole, again]  # once, whatever the number of attacks
    assert list(clean.seeds) == [0, 1, 2]
    for seed, words in clean.seeds.items():
        job = compose(*words)
        assert (job.cell, job.seed) == (clean.cfg.cell, seed)
        assert job.canary.kind == "clean"


def test_a_sweep_trains_no_clean_runs_for_a_part_of_a_cell_or_twice(
    compose: Compose, tmp_path: Path
) -> None:
    for seeds, *words in ((2,), (NUM_MODELS, "partial=true"), (NUM_MODELS, "reports=mine")):
        other = jobs_of(compose, tmp_path, range(seeds), *words)
        assert _with_clean_runs([other]) == [other]
    whole = jobs_of(compose, tmp_path, range(NUM_MODELS))
    swept = jobs_of(compose, tmp_path, range(1, NUM_MODELS), "canary.kind=clean")
    first, *rest = _with_clean_runs([whole, swept])
    assert rest == [whole, swept]
    assert list(first.seeds) == [0]  # the others are swept anyway


# --- the audit -----------------------------------------------------------------------------------


def test_a_cell_is_audited_once_its_clean_runs_are_there(
    compose: Compose, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def cfg(*words: str):
        return compose(*TINY, f"results={tmp_path}", *words)

    for seed in range(NUM_MODELS):  # as a sweep's workers do
        assert pipeline.run(cfg(f"seed={seed}"), alone=False) is None
    assert not list(tmp_path.glob("*/threshold.json"))
    own = pipeline.audit_if_complete(cfg(), partial=False)
    assert own is not None
    assert own["accuracy"]["source"] == "audited models"
    assert own["accuracy"]["mean"] == own["test_accuracy"]["mean"]
    clean = clean_runs(cfg())
    assert clean is not None
    for seed in clean.seeds:
        assert pipeline.run(cfg("canary.kind=clean", f"seed={seed}"), alone=False) is None
    assert pipeline.run(cfg("seed=3"), alone=False) is not None
    (file,) = tmp_path.glob("*/threshold.json")
    report = reports.read(file)
    assert report is not None
    accuracies = [clean.cell.metrics(seed)["test_accuracy"] for seed in (0, 1, 2)]
    assert report["accuracy"]["source"] == "clean canaries"
    assert report["accuracy"]["mean"] == pytest.approx(np.mean(accuracies))
    assert report["test_accuracy"] == own["test_accuracy"]
    assert report["auc"] == own["auc"]
    before = file.stat().st_mtime_ns
    assert pipeline.run(cfg("seed=0"), alone=False) is not None
    assert report_main.main([str(tmp_path)]) == 0
    assert file.stat().st_mtime_ns == before
    assert "not audited" not in capsys.readouterr().out
    (clean.cell.run(1) / "evidence.npz").unlink()
    shown = audits.on_disk(file)
    assert shown.report == report
    assert shown.not_compared is not None
    assert "seed 1" in shown.not_compared
