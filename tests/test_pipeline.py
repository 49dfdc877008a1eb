"""run(cfg): trains what is missing, audits what is complete, repeats nothing, hides nothing."""

import json
import logging
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Compose
from omegaconf import DictConfig

from synpriv import pipeline, summary
from synpriv.data.intake import record
from synpriv.report import table
from synpriv.results import canary_images, reports, store, vouched
from synpriv.results.store import Cell
from synpriv.shadow import runs
from synpriv.shadow.pools import load_pools

pytestmark = pytest.mark.usefixtures("few_rounds")
NUM_MODELS = 6
NAME = "undefended, digits, mislabelled, lira"
TINY = [
    "dataset.num_train=200",
    "dataset.num_test=50",
    "dataset.num_canaries=40",
    "model.width=4",
    f"num_models={NUM_MODELS}",
    "logger=none",
    "trainer=cpu",
]
UNDEFENDED = [*TINY, "method.num_epochs=2", "method.warmup_epochs=0"]
DISTILL = [
    *TINY,
    *("method=distill", "method.num_iterations=3", "method.images_per_class=2"),
    *("method.embedder.width=4", "method.student.num_epochs=2", "method.student.warmup_epochs=0"),
]
Make = Callable[..., DictConfig]


@pytest.fixture(scope="module")
def make(compose: Compose, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Configs of one module-wide cell whose six shadow models are trained once."""
    results = tmp_path_factory.mktemp("results")

    def one(*overrides: str) -> DictConfig:
        return compose(*UNDEFENDED, f"results={results}", *overrides)

    values = [pipeline.run(one(f"seed={seed}")) for seed in range(NUM_MODELS)]
    # Only the last shadow model finds its cell complete.
    assert values[:-1] == [None] * (NUM_MODELS - 1)
    assert isinstance(values[-1], float)
    return one


def cell_of(cfg: DictConfig) -> Cell:
    return Cell(Path(cfg.results), cfg.cell, cfg.num_models)


def state(cell: Cell) -> dict[str, tuple[int, int]]:
    """Inode and time of every file of a cell: what a rewrite changes."""
    files = (f for f in cell.folder.rglob("*") if f.is_file() and f.name != ".lock")
    return {str(f): (f.stat().st_ino, f.stat().st_mtime_ns) for f in files}


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(*_: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(runs, "_train", train)


def test_the_last_shadow_model_audits_its_cell(make: Make) -> None:
    cell = cell_of(make())
    report = json.loads((cell.folder / "lira.json").read_text())
    assert report["num_models"] == NUM_MODELS
    assert report["num_canaries"] == 40
    assert report["n_in"] == report["n_out"] == 40 * NUM_MODELS / 2
    assert report["partial"] is False
    assert report["cell"] == cell.name
    assert report["settings"]["method.num_epochs"] == 2
    assert report["settings"]["canary.membership"] == report["membership"] == "paired"
    assert "num_models" not in report["settings"]  # of a cell that may grow
    assert not any(isinstance(value, dict) and value for value in report["settings"].values())
    assert report["data"] == cell.metrics(0)["data"] == record(load_pools(make()))
    assert {"test_accuracy", "train_s", "auc", "tpr@fpr=0.1"} <= set(report)
    with np.load(cell.folder / "lira.npz", allow_pickle=False) as arrays:
        assert arrays["statistic"].shape == arrays["member"].shape == (40, NUM_MODELS)
    assert (cell.folder / "lira.png").read_bytes().startswith(b"\x89PNG")
    assert "num_epochs: 2" in (cell.folder / "cell.yaml").read_text()
    images = canary_images.read(cell.folder, cell.metrics(0)["canaries_sha256"])
    assert images is not None
    assert images.shape == (40, 1, 8, 8)
    assert not list(cell.folder.rglob("*.tmp"))


def test_every_run_records_where_it_came_from(make: Make) -> None:
    cell = cell_of(make())
    for seed in range(NUM_MODELS):
        metrics = cell.metrics(seed)
        assert metrics["seed"] == seed
        assert 0 <= metrics["test_accuracy"] <= 1
        assert {"torch", "numpy", "synpriv", "python"} <= set(metrics["versions"])
        assert {"git_commit", "code_sha256", "command", "provenance", "stages", "device"} <= set(
            metrics
        )
    members = [cell.evidence([seed]).member[:, 0] for seed in range(NUM_MODELS)]
    for first, second in zip(members[::2], members[1::2], strict=True):
        assert (first != second).all()  # each canary is IN in one model of each pair


def test_running_again_changes_no_file(make: Make, no_training: None) -> None:
    cell = cell_of(make())
    before = state(cell)
    values = [pipeline.run(make(f"seed={seed}")) for seed in range(NUM_MODELS)]
    assert state(cell) == before
    assert len(set(values)) == 1  # each finds the complete cell and returns its objective


def test_another_attack_trains_nothing(make: Make, no_training: None) -> None:
    cfg = make("attack=threshold", "seed=2")
    cell = cell_of(cfg)
    before = state(cell)
    pipeline.run(cfg)
    report = reports.read(cell.folder / "threshold.json")
    assert report is not None
    assert report["attack"] == "threshold"
    after = state(cell)
    assert {name: after[name] for name in before} == before


def test_other_options_of_an_attack_replace_its_report(make: Make, no_training: None) -> None:
    cell = cell_of(make())
    first = reports.read(cell.folder / "lira.json")
    pipeline.run(make("attack.views=[view0]"))
    second = reports.read(cell.folder / "lira.json")
    pipeline.run(make("attack.views=[view0]", "attack.name=lira_1"))
    pipeline.run(make())
    third = reports.read(cell.folder / "lira.json")
    assert first is not None
    assert second is not None
    assert second["attack_options"]["views"] == ["view0"]
    assert first["attack_options"]["views"] == ["all", "view0"]
    assert third == first
    assert (cell.folder / "lira_1.json").is_file()


def test_a_damaged_report_is_made_again(make: Make, no_training: None) -> None:
    cell = cell_of(make())
    file = cell.folder / "lira.json"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    pipeline.run(make())
    assert file.read_bytes() == whole


def test_damaged_evidence_is_named_and_made_again_to_the_bit(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    cell = cell_of(make())
    evidence, report = cell.run(3) / store.EVIDENCE, cell.folder / "lira.json"
    whole, before = evidence.read_bytes(), reports.read(report)
    others = [(cell.run(seed) / store.EVIDENCE).stat().st_mtime_ns for seed in (0, 1, 2, 4, 5)]
    evidence.write_bytes(whole[:-1])
    with caplog.at_level(logging.INFO):
        assert pipeline.run(make("seed=0")) is None  # seed 0 is fine, but its cell is not
        assert f"{evidence} is damaged" in caplog.text
        assert evidence.read_bytes() == whole[:-1]
        assert "run it again: seed=3" in caplog.text
        caplog.clear()
        assert pipeline.run(make("seed=3")) is not None
        assert f"{evidence} is damaged (checksum differs), training" in caplog.text
    assert evidence.read_bytes() == whole
    assert reports.read(report) == before
    assert others == [
        (cell.run(seed) / store.EVIDENCE).stat().st_mtime_ns for seed in (0, 1, 2, 4, 5)
    ]


def test_a_partial_audit_says_so(make: Make, no_training: None) -> None:
    cell = cell_of(make())
    hidden = cell.run(5) / "hidden"
    (cell.run(5) / store.METRICS).rename(hidden)
    try:
        assert pipeline.run(make("attack=threshold", "attack.name=part")) is None
        assert not (cell.folder / "part.json").exists()
        text = summary.summary([make("attack.name=part")])
        assert "5 of 6 shadow models are there" in text
        assert "-m seed=5 " in text
        partial = make("attack=threshold", "attack.name=part", "partial=true")
        assert pipeline.run(partial) is not None
    finally:
        hidden.rename(cell.run(5) / store.METRICS)
    report = reports.read(cell.folder / "part.json")
    assert report is not None
    assert report["partial"] is True
    assert report["num_models"] == 5
    assert any(w.startswith("partial: 5 of 6") for w in report["warnings"])
    # Complete again: the partial report is neither shown nor taken for the whole one.
    assert "no report" in summary.summary([make("attack=threshold", "attack.name=part")])
    pipeline.run(make("attack=threshold", "attack.name=part"))
    report = reports.read(cell.folder / "part.json")
    assert report is not None
    assert report["partial"] is False


def test_runs_about_other_canaries_are_not_mixed(make: Make) -> None:
    cell = cell_of(make())
    file = cell.run(2) / store.METRICS
    whole = file.read_bytes()
    content = json.loads(whole) | {"canaries_sha256": "other"}
    del content["metrics_sha256"]
    store.write_json(file, content | {"metrics_sha256": vouched.json_sha256(content)})
    try:
        with pytest.raises(ValueError, match=r"seed 2 .* saw other canaries"):
            pipeline.run(make("attack.name=mixed"))
    finally:
        file.write_bytes(whole)
    assert not (cell.folder / "mixed.json").exists()


def test_the_objective_is_a_number_of_the_report(make: Make, no_training: None) -> None:
    report = reports.read(cell_of(make()).folder / "lira.json")
    assert report is not None
    auc, accuracy = report["auc"], report["accuracy"]["mean"]
    free = ["objective.subject_to=null"]
    assert pipeline.run(make(*free)) == accuracy
    assert pipeline.run(make(*free, "objective.maximise=accuracy - 2*auc")) == accuracy - 2 * auc
    assert pipeline.run(make(*free, "objective.maximise='-auc,accuracy'")) == (-auc, accuracy)
    for bound, respected in ((auc + 0.01, True), (auc - 0.01, False)):
        found = pipeline.run(make(f"objective.subject_to='auc <= {bound}'"))
        assert found == pytest.approx(accuracy if respected else -1.01)
    with pytest.raises(ValueError, match=r"maximise=loss: loss: must be one of accuracy, "):
        pipeline.run(make("objective.maximise=loss"))


def test_the_summary_holds_the_table_and_the_picture(make: Make) -> None:
    cell = cell_of(make())
    text = summary.summary([make("seed=0"), make("seed=1")])
    assert text.count(f"pictures: {cell.folder / 'lira.png'}") == 1
    assert "TPR@1%FPR [95%]" in text
    unresolved = f"? {table.MARKS['?']}"  # 120 non-members show no rate of one in a hundred
    assert unresolved in text


@pytest.mark.parametrize("settings", [UNDEFENDED, DISTILL], ids=["undefended", "distill_dm"])
def test_the_same_seed_twice_gives_the_same_bytes(
    settings: list[str], compose: Compose, tmp_path: Path
) -> None:
    found = []
    for name in ("one", "two"):
        cfg = compose(*settings, f"results={tmp_path / name}", "seed=1")
        pipeline.run(cfg)
        run = cell_of(cfg).run(1)
        names = sorted(f.name for f in run.iterdir() if f.name not in (store.METRICS, ".lock"))
        found.append({name: (run / name).read_bytes() for name in names})
    assert found[0] == found[1]
    assert store.EVIDENCE in found[0]
    assert "release.safetensors" in found[0]
    assert ("release.npz" in found[0]) == (settings is DISTILL)


def test_other_seeds_differ(make: Make) -> None:
    evidence = cell_of(make()).evidence([0, 1])
    assert not np.array_equal(evidence.logits[:, 0], evidence.logits[:, 1])
    assert not np.array_equal(evidence.member[:, 0], evidence.member[:, 1])


def test_a_release_can_be_left_out(compose: Compose, tmp_path: Path) -> None:
    cfg = compose(*UNDEFENDED, f"results={tmp_path}", "keep_release=false")
    pipeline.run(cfg)
    assert {f.name for f in cell_of(cfg).run(0).iterdir()} == {
        ".lock",
        store.EVIDENCE,
        store.METRICS,
    }


def test_a_run_that_fails_leaves_no_done_marker_and_no_part(
    make: Make, compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = compose(*UNDEFENDED, f"results={tmp_path}")
    write = store.write_bytes

    def full(file: Path, content: bytes) -> None:
        if file.name == store.EVIDENCE:
            raise OSError(28, "No space left on device")
        write(file, content)

    monkeypatch.setattr(store, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        pipeline.run(cfg)
    monkeypatch.undo()
    cell = cell_of(cfg)
    assert cell.problem(0) == store.NOT_TRAINED
    assert not list(cell.folder.rglob("*.tmp"))
    pipeline.run(cfg)
    assert cell.problem(0) is None
    # The same run in another folder, after a failure: the same evidence.
    mine = (cell.run(0) / store.EVIDENCE).read_bytes()
    assert mine == (cell_of(make()).run(0) / store.EVIDENCE).read_bytes()


def test_ctrl_c_while_training_reaches_the_command_line(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning turns it into a silent exit(1); run.py owes its line and exit code 130."""
    from synpriv.methods.classifier import Classifier

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Classifier, "training_step", interrupt)
    cfg = compose(*UNDEFENDED, f"results={tmp_path}")
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(KeyboardInterrupt):
            pipeline.run(cfg)
    finally:
        signal.signal(signal.SIGINT, before)
        assert cell_of(cfg).problem(0) == store.NOT_TRAINED
