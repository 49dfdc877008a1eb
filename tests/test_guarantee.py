"""A DP cell from the command line to the table: what is proven beside what is measured."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Compose
from dp_accounting import dp_event as events
from dp_accounting.pld import PLDAccountant
from omegaconf import DictConfig

from synpriv import guarantee, pipeline, summary
from synpriv.methods.dpsgd import accounting
from synpriv.report import content, table
from synpriv.results import flat, store, vouched
from synpriv.results.store import Cell
from synpriv.shadow import pools, runs

pytestmark = pytest.mark.usefixtures("few_rounds", "no_pictures")
NUM_MODELS = 6
TINY = [
    *("method=dpsgd_eps3", "dataset.num_train=200", "dataset.num_test=50"),
    *("dataset.num_canaries=40", "model.width=4", f"num_models={NUM_MODELS}"),
    *("logger=none", "trainer=cpu", "method.num_epochs=2", "method.batch_size=60"),
]
TUNED = ["tuning.num_trials=20", "tuning.distribution=geometric"]
Make = Callable[..., DictConfig]


@pytest.fixture(scope="module")
def make(compose: Compose, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Configs of one module-wide DP cell, trained once."""
    results = tmp_path_factory.mktemp("results")

    def one(*overrides: str) -> DictConfig:
        return compose(*TINY, f"results={results}", *overrides)

    for seed in range(NUM_MODELS):
        pipeline.run(one(f"seed={seed}"))
    return one


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(*_: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(runs, "_train", train)


def cell_of(cfg: DictConfig) -> Cell:
    return Cell(Path(cfg.results), cfg.cell, cfg.num_models)


def report_of(cfg: DictConfig) -> dict[str, Any]:
    return json.loads((cell_of(cfg).folder / "lira.json").read_text())


def test_metrics_carry_the_guarantee_which_is_that_of_another_accountant(make: Make) -> None:
    found = [cell_of(make()).metrics(seed) for seed in range(NUM_MODELS)]
    assert len({run["num_train"] for run in found}) > 1  # members differ, the sample rate must not
    for run in found:
        assert run["sample_rate"] == 60 / 180  # of 160 others and half of 40 canaries
        assert run["steps"] == 2 * 3
        assert run["max_grad_norm"] == 1.0
        assert run["delta"] == 1e-4
        assert 2.9 < run["epsilon"] <= 3.0 < run["epsilon_rdp"]
        assert run["provenance"] == ["clipped and noised gradients"]
    step = events.PoissonSampledDpEvent(60 / 180, events.GaussianDpEvent(run["noise_multiplier"]))
    accountant = PLDAccountant().compose(step, 6)
    assert accountant.get_epsilon(1e-4) == pytest.approx(run["epsilon"], rel=0.02)


def test_report_and_table_show_what_is_proven_beside_what_is_measured(make: Make) -> None:
    report = report_of(make())
    assert report["epsilon"] == cell_of(make()).metrics(0)["epsilon"]
    assert report["epsilon_tuned"] is None
    assert 0 <= report["epsilon_audited"] <= report["epsilon_audited_largest"]
    assert report["epsilon_audited_delta"] == 1e-4
    shown = dict(zip(table.HEADER, table.rows_of([report])[0], strict=True))
    assert shown["epsilon"] == f"{report['epsilon']:.3g} (delta 0.0001)"
    most = f"{report['epsilon_audited_largest']:.2f}"
    assert shown["estimate"] == f"{report['epsilon_audited']:.2f} of {most}"
    line = table.as_csv([report]).splitlines()[1]
    assert str(report["epsilon"]) in line
    assert str(report["noise_multiplier"]) in line


def test_tuning_is_counted_without_training_again(make: Make, no_training: None) -> None:
    cfg = make("seed=0", *TUNED)
    assert cfg.cell == make().cell
    pipeline.run(cfg)
    report, curve = report_of(cfg), cell_of(cfg).metrics(0)["renyi"]
    expected = guarantee.tuned(
        curve["orders"], curve["divergences"], 1e-4, num_trials=20, distribution="geometric"
    )
    assert report["epsilon_tuned"] == expected > report["epsilon"]
    assert (report["num_trials"], report["trials_distribution"]) == (20, "geometric")
    (shown,) = table.rows_of([report])
    assert f"tuned {expected:.3g}" in shown[table.HEADER.index("epsilon")]
    assert flat.flatten(report)["epsilon_tuned"] == expected
    pipeline.run(make("seed=0", "tuning.num_trials=10"))  # ten were really tried
    grid = guarantee.tuned(
        curve["orders"], curve["divergences"], 1e-4, num_trials=10, distribution="fixed"
    )
    assert report_of(cfg)["epsilon_tuned"] == grid
    pipeline.run(make("seed=0"))
    assert report_of(make())["epsilon_tuned"] is None


def test_a_study_s_rule_marks_its_table_and_makes_no_report_anew(
    make: Make, no_training: None
) -> None:
    pipeline.run(plain := make("seed=0"))
    file = cell_of(plain).folder / "lira.json"
    before = file.read_bytes(), file.stat().st_mtime_ns
    pipeline.run(asked := make("seed=0", "admission=0.999"))
    assert (file.read_bytes(), file.stat().st_mtime_ns) == before
    assert "admission rule" in summary.summary([asked])
    assert "admission rule" not in summary.summary([plain])


def test_runs_with_different_guarantees_are_not_audited(make: Make, no_training: None) -> None:
    cell = cell_of(make())
    file = cell.run(1) / store.METRICS
    content = file.read_bytes()
    changed = {**cell.metrics(1), "noise_multiplier": 9.0}
    del changed["metrics_sha256"]
    store.write_json(file, changed | {"metrics_sha256": vouched.json_sha256(changed)})
    (cell.folder / "lira.json").unlink()
    try:
        with pytest.raises(ValueError, match="differ in their guarantee"):
            pipeline.run(make("seed=0"))
    finally:
        file.write_bytes(content)


def test_runs_accounted_on_fewer_orders_are_of_the_same_guarantee() -> None:
    # Before, the orders ended at 1.0001: epsilon of the same training read six times as large.
    new = {"cell": "c"} | accounting.guarantee(
        noise_multiplier=0.003,
        sample_rate=0.0341,
        steps=725,
        delta=1e-4,
        max_grad_norm=1.0,
        accountant="prv",
    )
    curve = zip(new["renyi"]["orders"], new["renyi"]["divergences"], strict=True)
    orders, divergences = zip(*(pair for pair in curve if pair[0] > 1 + 0.99e-4), strict=True)
    old = {**new, "renyi": {"orders": orders, "divergences": divergences}}
    old["epsilon"] = old["epsilon_rdp"] = guarantee.from_renyi(orders, divergences, 1e-4)
    assert old["epsilon"] > 5 * new["epsilon"]
    for runs_of_cell, which, at_most in (
        ([old, old], old, True),
        ([old, new], new, False),
        ([new, old], new, False),
    ):
        said = content.guarantee_of(runs_of_cell, 10, "fixed")
        assert said["epsilon"] == which["epsilon"] < said["epsilon_tuned"]
        assert said["epsilon_at_most"] is at_most
    with pytest.raises(ValueError, match="differ in their guarantee"):
        content.guarantee_of([new, {**new, "steps": 726}], 1, "fixed")


def test_without_noise_the_guarantee_is_infinite(compose: Compose, tmp_path: Path) -> None:
    overrides = [*TINY, "method.target_epsilon=null", "method.noise_multiplier=0"]
    cfg = compose(*overrides, *TUNED, f"results={tmp_path}")
    for seed in range(NUM_MODELS):
        cfg.seed = seed
        pipeline.run(cfg)
    report = report_of(cfg)
    assert report["epsilon"] is report["epsilon_tuned"] is None
    assert dict(zip(table.HEADER, table.rows_of([report])[0], strict=True))["epsilon"] == "infinite"


def test_a_mean_of_the_private_images_is_refused_or_counted(
    compose: Compose, tmp_path: Path
) -> None:
    overrides = [*TINY, f"results={tmp_path}"]
    source = pools.load_pools(compose(*overrides, "dataset.num_train=null"))
    own = float(source.private.images.mean() / 255)
    with pytest.raises(ValueError, match="is the mean of the private images") as refusal:
        pipeline.run(compose(*overrides, f"dataset.mean=[{own:.4f}]"))
    assert "\n" not in str(refusal.value)
    base = [word for word in overrides if not word.startswith("method")]
    plain = ["method=undefended", "method.num_epochs=2", "method.warmup_epochs=0"]
    cfg = compose(*base, *plain, f"dataset.mean=[{own:.4f}]")
    pipeline.run(cfg)
    assert "normalisation constants" in cell_of(cfg).metrics(0)["provenance"]


def test_the_method_chooses_the_normalisation_unless_told_otherwise(compose: Compose) -> None:
    assert compose("method=dpsgd").model.norm == "group"
    assert compose("method=dpsgd", "model=wrn16_4").model.norm == "group"
    assert compose("method=undefended").model.norm == "batch"
    assert compose("method=dpsgd", "model.norm=batch").model.norm == "batch"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.norm=batch"], "needs model.norm=group"),
        (["method.noise_multiplier=1.0"], "exactly one"),
        (["method.target_epsilon=null"], "exactly one"),
        (["method.delta=0.1"], "above 0 and below 1/180"),
        (["method.batch_size=500"], "at most 180"),
        (["tuning.num_trials=0"], "tuning.num_trials=0: must be 1"),
        (["tuning.num_trials=2.5"], "whole number"),
        (["tuning.distribution=grid"], "one of logarithmic, geometric, poisson, fixed"),
    ],
)
def test_what_cannot_be_private_is_refused_in_one_line(
    compose: Compose, tmp_path: Path, overrides: list[str], message: str
) -> None:
    keys = {word.partition("=")[0] for word in overrides}
    base = [word for word in TINY if word.partition("=")[0] not in keys]
    with pytest.raises(ValueError, match=message) as refusal:
        pipeline.run(compose(*base, *overrides, f"results={tmp_path}"))
    assert "\n" not in str(refusal.value)
    assert not list(tmp_path.glob("*/0/metrics.json"))
