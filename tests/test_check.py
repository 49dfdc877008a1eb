"""One check before anything is trained: in one line, for all shadow models, nothing left behind."""

from pathlib import Path

import numpy as np
import pytest
from conftest import Compose, RunPy
from omegaconf import DictConfig

from synpriv.results import store
from synpriv.shadow import pools
from synpriv.shadow.check import announce, check, confirm, note_part, note_twins, warn_of_code

NUM_MODELS = 6
SMALL = [f"num_models={NUM_MODELS}", "logger=none", "canary.num_canaries=30"]


def archive(file: Path, *, copies: int = 0, shared: int = 0, sizes: str = "40 40 40") -> Path:
    """Noise of 8x8 in classes of these sizes, with copies in the private and the test set."""
    labels = np.repeat(np.arange(len(sizes.split())), [int(size) for size in sizes.split()])
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (len(labels), 8, 8), dtype=np.uint8)
    test = rng.integers(0, 256, (12, 8, 8), dtype=np.uint8)
    images[len(labels) - copies :], test[:shared] = images[:copies], images[:shared]
    np.savez(file, images=images, labels=labels, test_images=test, test_labels=np.arange(12) % 3)
    return file


@pytest.fixture
def configured(compose: Compose, tmp_path: Path):
    """`configured(*overrides)`: the config of a small cell in a folder of its own."""

    def make(*overrides: str) -> DictConfig:
        return compose(*SMALL, f"results={tmp_path / 'results'}", *overrides)

    return make


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["method.lr=0"], r"^method\.lr=0: must be positive$"),
        (["method=dfkd", "method.teacher.num_epochs=0"], r"^method\.teacher\.num_epochs=0: must"),
        (["canary.num_canaries=1001"], r"^canary\.num_canaries=1001: must be 1\.\.1000"),
        (["attack=nearest"], "^attack=nearest: this method releases no images"),
        (["dataset.mean=[0.1,0.2]"], r"^dataset\.mean=\[0\.1, 0\.2\]: must be one number, or one"),
        (["dataset.mean=0.3"], r"^dataset\.mean=0\.3: must be one number, or one .* in brackets$"),
        (["dataset.mean=[null]"], r"^dataset\.mean=\[None\]: must be one number"),
        (["dataset.std=[0]"], r"^dataset\.std=\[0\]: must be positive$"),
        (["dataset@public=digits", "public.num_train=1.5"], r"^public\.num_train=1\.5: must be an"),
        (["trainer=gpu"], "^trainer.accelerator=gpu: no CUDA device here"),
        (["dataset.num_train=9"], r"^dataset\.num_train=9: must be at least 10, one image per"),
        (
            ["dataset=npz", "dataset.path=PATH", "method=diffusion"],
            "diffusion_scratch, which",
        ),
        (["dataset=npz", "dataset.path=PATH", "method=distill_dm_public"], "^method.init=public"),
    ],
)
def test_what_cannot_be_trained_is_refused_before(
    configured: Compose, tmp_path: Path, overrides: list[str], message: str
) -> None:
    path = archive(tmp_path / "own.npz")
    with pytest.raises(ValueError, match=message) as caught:
        check(configured(*(word.replace("PATH", str(path)) for word in overrides)))
    assert "\n" not in str(caught.value)


def test_compiled_steps_without_a_compiler_are_refused_before(
    configured: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ValueError, match=r"^trainer\.step=compile: must be eager or graph: no C"):
        check(configured("trainer.step=compile"))


def test_class_limits_are_checked_for_all_models_at_once(
    configured: Compose, tmp_path: Path
) -> None:
    # Seeds 0, 1 and 5 trained, 2, 3 and 4 failed, and the cell could never be complete.
    path = archive(tmp_path / "own.npz")
    given = ["dataset=npz", f"dataset.path={path}", "canary=clean", "method=distill"]

    cfg = configured(*given)
    source = pools.load_pools(cfg)
    drawn = pools.draw_canaries(cfg, source)
    facts = [pools.facts_of(cfg, source, drawn, seed) for seed in range(NUM_MODELS)]
    sizes = [one.smallest_class for one in facts]
    assert min(sizes) < max(sizes)
    check(configured(*given, f"method.images_per_class={min(sizes)}"))
    wanted = max(sizes)
    bad = [seed for seed in range(NUM_MODELS) if sizes[seed] < wanted]
    with pytest.raises(ValueError, match=f"^method.images_per_class={wanted}: ") as caught:
        check(configured(*given, f"method.images_per_class={wanted}"))
    listed = ", ".join(map(str, bad))
    assert f"in {len(bad)} of {NUM_MODELS} shadow models, seeds {listed}:" in str(caught.value)
    with pytest.raises(ValueError, match=r"the smallest class has \d+ images$"):
        check(configured(*given, "method.images_per_class=41"))


def test_a_cell_of_other_data_is_not_gone_on_with(configured: Compose) -> None:
    # torchvision's files are not hashed into the name: another root may hold other images.
    cfg = configured()
    seen = check(cfg)
    run = store.Cell(Path(cfg.results), cfg.cell, NUM_MODELS).run(2)
    arrays = {"member": np.ones(3, dtype=bool), "labels": np.arange(3)}
    content = {"cell": cfg.cell, "seed": 2, "data": {"sha256": seen["sha256"]}}
    logits = np.zeros((3, 1, 4), dtype=np.float32)
    store.save_run(run, logits=logits, true_labels=np.arange(3), metrics=content, **arrays)
    check(cfg)
    other = content | {"data": {"sha256": "0"}}
    store.save_run(run, logits=logits, true_labels=np.arange(3), metrics=other, **arrays)
    with pytest.raises(ValueError, match="its shadow models were trained on other data than are"):
        check(cfg)


def test_a_finished_cell_is_not_shown_for_other_data(
    configured: Compose, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # The second of two MNIST roots got the first one's report.
    cfg = configured()
    confirm(cfg)
    run = store.Cell(Path(cfg.results), cfg.cell, NUM_MODELS).run(0)
    about = {"cell": cfg.cell, "seed": 0, "data": {"sha256": "0"}, "code_sha256": "1"}
    some = {"member": np.ones(3, dtype=bool), "labels": np.arange(3), "true_labels": np.arange(3)}
    store.save_run(run, logits=np.zeros((3, 1, 4), dtype=np.float32), metrics=about, **some)
    with pytest.raises(ValueError, match="trained on other data than are there now"):
        confirm(cfg)
    capsys.readouterr()
    warn_of_code(cfg)
    assert "1 of 1 shadow models of" in (said := capsys.readouterr().out)
    assert "other code than is there now" in said

    def gone(_: DictConfig) -> None:
        raise ValueError("no data in /gone")

    monkeypatch.setattr("synpriv.shadow.check.load_pools_on_disk", gone)
    confirm(cfg)
    assert "its data could not be compared (no data in /gone)" in capsys.readouterr().out


# --- what is said --------------------------------------------------------------------------------


def test_what_is_seen_of_the_data_is_printed_once_with_its_warnings(
    configured: Compose, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["dataset=npz", f"dataset.path={archive(tmp_path / 'own.npz', copies=4, shared=2)}"]
    announce([configured(*given), configured(*given, "method.num_epochs=3")])
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "data: 120 private images of 3 classes (0, 1, 2; 40 each), 1x8x8, values 0..255; 10 test; "
        "8 duplicates",
        "warning: 2 test images are private images too and were dropped",
        "warning: 8 private images occur more than once: what is learnt of one stays when it is "
        "taken out, so canaries are drawn from the others; remove the copies",
        "warning: 30 mislabelled canaries of 120 private images make 14% of the labels wrong: "
        "what is audited is a training so disturbed",
    ]


def test_a_check_names_the_cell_and_the_fpr_that_it_resolves(
    configured: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = configured("check=true")
    said = set[str]()
    announce([cfg], said=said)
    assert capsys.readouterr().out.splitlines()[1] == (
        f"checked, nothing was trained: {cfg.cell}: 6 shadow models, 30 mislabelled canaries, "
        "attack=lira; resolves an FPR of 0.11 and above; accuracy of 4 runs with clean canaries"
    )
    announce([cfg], said=said)  # of the next batch of trials
    assert capsys.readouterr().out.startswith("checked, nothing was trained: ")


def test_a_sweep_over_a_part_says_what_its_audit_waits_for(
    configured: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    note_part(configured("partial=true"), 4)
    note_part(configured(), NUM_MODELS)
    assert capsys.readouterr().out == ""
    note_part(cfg := configured(), 4)
    assert capsys.readouterr().out == (
        f"note: {cfg.cell}: 4 of 6 shadow models are asked for; it is audited once seeds 0..5 are "
        "there\n"
    )


def test_a_check_says_what_accuracy_is_measured_on(
    configured: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    announce([configured("check=true", "dataset.num_validation=200", "accuracy_models=0")])
    seen, checked = capsys.readouterr().out.splitlines()
    assert "200 validation" in seen
    assert checked.endswith("; accuracy on validation images")


# --- nothing is left behind ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "sweep"),
    [("method.lr=-1", []), ("canary.num_canaries=5000", ["-m", "seed=0,1"])],
)
def test_a_refused_cell_leaves_no_folder_and_one_line(
    run_py: RunPy, tmp_path: Path, wrong: str, sweep: list[str]
) -> None:
    given = [word for word in SMALL if not word.startswith(wrong.partition("=")[0])]
    done = run_py(*given, f"results={tmp_path / 'r'}", wrong, *sweep)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {wrong}: must be")
    assert done.stderr.count("\n") == 1
    assert "jobs:" not in done.stdout  # no worker was started
    assert not (tmp_path / "r").exists()


def test_a_check_alone_trains_nothing_and_leaves_nothing(run_py: RunPy, tmp_path: Path) -> None:
    results = f"results={tmp_path / 'r'}"
    done = run_py(*SMALL, results, "check=true", "method=undefended,distill", "-m", "seed=0,1")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == [
        "data",
        *["checked, nothing was trained"] * 2,
        *["note"] * 2,
    ]
    assert ": 2 of 6 shadow models are asked for; it is audited once seeds 0..5 are" in done.stdout
    words = ["experiment=across_models", *SMALL, results, "check=true", "seed=1"]
    alone = run_py(*words).stdout.splitlines()
    assert alone[0].startswith("data: 1,000 private images")
    assert alone[-1] == ("note: one run; method, model of the experiment are swept with -m alone")
    assert not (tmp_path / "r").exists()


def test_folders_of_runs_that_were_begun_are_kept(tmp_path: Path) -> None:
    begun, new = tmp_path / "cell" / "0", tmp_path / "cell" / "1"
    for run in (begun, new):
        (run / ".hydra").mkdir(parents=True)
        (run / "run.log").write_text("x")
    (begun / ".lock").write_text("")
    for run in (begun, new, tmp_path / "cell" / "absent"):
        store.remove_unused(run)
    assert begun.is_dir()
    assert not new.exists()


def test_values_that_nothing_reads_are_named(
    compose: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(model: str) -> str:
        common = [*SMALL, f"model={model}"]
        each = [["method.lr=0.1"], ["method.lr=0.2"], ["method.lr=0.2", "attack=threshold"]]
        note_twins([(compose(*common, *words), words) for words in each])
        return capsys.readouterr().out

    assert told("convnet") == ""
    assert told("vit_digits") == (
        "note: method.lr=0.1 and method.lr=0.2 are one cell: nothing there reads what differs\n"
    )
