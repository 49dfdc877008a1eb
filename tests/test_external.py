"""Somebody's own generator: the same evidence through every door, one line for what is wrong."""

import json
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, Compose, RunPy
from omegaconf import DictConfig, OmegaConf

from synpriv import callables, config
from synpriv.data import sets as sets_of
from synpriv.methods.external import recipe
from synpriv.methods.external.external import External, private_arrays
from synpriv.results import store
from synpriv.shadow import export, offering, runs
from synpriv.shadow.check import check
from synpriv.shadow.pools import draw_canaries, load_pools

GENERATORS = ROOT / "tests" / "generators"
MEANS = GENERATORS / "means.py"
SMALL = [
    *("dataset.num_train=120", "dataset.num_test=40", "canary.num_canaries=20", "model.width=4"),
    *("num_models=6", "logger=none", "trainer=cpu", "accuracy_models=0"),
]
STUDENT = ["method.student.num_epochs=2", "method.student.warmup_epochs=0"]
PROGRAM = f"{shlex.quote(sys.executable)} {MEANS} {{input}} {{output}} {{seed}}"
Evidence = dict[str, np.ndarray]


def external(compose: Compose, results: Path, function: str, *others: str) -> DictConfig:
    generate = f"method.generate={MEANS}:{function}"
    return compose(*SMALL, "method=external", generate, *STUDENT, f"results={results}", *others)


def by_program(compose: Compose, results: Path, command: str, *others: str) -> DictConfig:
    own = compose(*SMALL, "method=external", *STUDENT, f"results={results}", *others)
    own.method.command = command
    return own


def evidence(cfg: DictConfig) -> Evidence:
    """What a run leaves for the audit, all of it."""
    with np.load(runs.ensure(config.named(cfg)) / store.EVIDENCE, allow_pickle=False) as arrays:
        return dict(arrays)


def metrics(cfg: DictConfig) -> dict:
    return json.loads((runs.ensure(config.named(cfg)) / store.METRICS).read_bytes())


def assert_same(one: Evidence, other: Evidence) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)


# --- every door leads to the same evidence -------------------------------------------------------


def test_function_program_and_precomputed_sets_give_the_same_evidence(
    compose: Compose, tmp_path: Path
) -> None:
    sys.path.insert(0, str(GENERATORS))
    import means

    sets = tmp_path / "sets"
    list(export.write(compose(*SMALL), sets, indices=False))
    (sets / "out").mkdir()
    for seed in range(6):
        with np.load(sets / "in" / f"{seed}.npz", allow_pickle=False) as given:
            options = {"seed": int(given["seed"]), "num_classes": int(given["num_classes"])}
            images, labels = means.make(given["images"], given["labels"], **options)
        np.savez(sets / "out" / f"{seed}.npz", images=images, labels=labels)
    own = [f"method.path='{sets}/out/{{seed}}.npz'", *STUDENT, f"results={tmp_path}", "seed=1"]
    function = evidence(external(compose, tmp_path, "make", "seed=1"))
    assert_same(function, evidence(by_program(compose, tmp_path, PROGRAM, "seed=1")))
    there = compose(*SMALL, "method=precomputed", *own)
    assert_same(function, evidence(there))
    (said,) = sets_of.about_claims([metrics(there)["set"]["says_itself"]])
    assert said.startswith("1 of 1 sets do not say which private set they were made from")
    soft = evidence(external(compose, tmp_path, "soft", "seed=1"))
    np.testing.assert_allclose(soft["logits"], function["logits"], atol=1e-3)


def distilled(compose: Compose, results: Path) -> tuple[DictConfig, str]:
    """A built-in distillation, and the same options as JSON."""
    own = compose(
        *SMALL, "method=distill_dm", "method.num_iterations=3", "method.images_per_class=2",
        "method.embedder.width=4", *STUDENT, f"results={results}", "seed=1",
    )  # fmt: skip
    names = ("images_per_class", "num_iterations", "lr", "momentum", "init", "real_per_class")
    options = {name: own.method[name] for name in (*names, "flip")}
    options |= {name: config.plain(own.dataset[name]) for name in ("mean", "std")}
    options["augment"] = config.plain(own.method.augment)
    options |= {name: own.method.embedder[name] for name in ("width", "depth")}
    return own, json.dumps(options)


def through_the_door(compose: Compose, built_in: DictConfig, options: str) -> DictConfig:
    own = compose(*SMALL, "method=external", f"results={built_in.results}", "seed=1")
    own.method.student = OmegaConf.create(config.plain(built_in.method.student))
    with_options = OmegaConf.create(json.loads(options))
    OmegaConf.update(own, "method.options", with_options, force_add=True)
    return own


def test_a_built_in_method_through_the_door_gives_the_same_evidence(
    compose: Compose, tmp_path: Path
) -> None:
    built_in, options = distilled(compose, tmp_path)
    own = through_the_door(compose, built_in, options)
    own.method.generate = f"{GENERATORS / 'matching.py'}:match"
    assert_same(evidence(built_in), evidence(own))


def test_what_is_exported_is_what_the_shadow_models_are_trained_on(
    compose: Compose, tmp_path: Path
) -> None:
    cfg = compose(*SMALL)
    list(export.write(cfg, tmp_path / "whole", indices=False))
    list(export.write(cfg, tmp_path / "rows", indices=True))
    pools = load_pools(cfg)
    member = draw_canaries(cfg, pools).member
    with np.load(tmp_path / "rows" / export.IMAGES, allow_pickle=False) as archive:
        every = archive["images"]
    for seed in range(6):
        cfg.seed = seed
        split = offering.split_of(cfg, pools)
        np.testing.assert_array_equal(split.member.numpy(), member[:, seed])
        images, labels = private_arrays(split.train)
        with np.load(tmp_path / "whole" / "in" / f"{seed}.npz", allow_pickle=False) as given:
            np.testing.assert_array_equal(given["images"], images)
            np.testing.assert_array_equal(given["labels"], labels)
            assert set(given.files) == {"images", "labels", "num_classes", "seed", "split_sha256"}
        table = np.loadtxt(tmp_path / "rows" / "in" / f"{seed}.csv", int, delimiter=",", skiprows=1)
        np.testing.assert_array_equal(every[table[:, 0]], images)
        np.testing.assert_array_equal(table[:, 1], labels)


# --- what names a cell ---------------------------------------------------------------------------


def test_a_generator_s_content_names_the_cell_and_its_place_does_not(
    compose: Compose, tmp_path: Path
) -> None:
    def cell(file: Path, *others: str) -> str:
        return compose("method=external", f"method.generate={file}:make", *others).cell

    one, other = tmp_path / "gen.py", tmp_path / "elsewhere" / "name.py"
    other.parent.mkdir()
    for file in (one, other):
        file.write_bytes(MEANS.read_bytes())
    first = cell(one)
    assert cell(other) == first == cell(one, "method.timeout_s=5", "method.check_repeats=false")
    assert cell(one, "+method.options.num=50") != first
    (tmp_path / "weights.bin").write_bytes(b"1")
    counted = cell(one, f"method.code=[{tmp_path / 'weights.bin'}]")
    assert counted != first
    (tmp_path / "weights.bin").write_bytes(b"2")
    assert cell(one, f"method.code=[{tmp_path / 'weights.bin'}]") not in (first, counted)
    one.write_text(one.read_text() + "# changed\n")
    assert cell(one) != first


def test_a_program_s_files_count_by_content(compose: Compose, tmp_path: Path) -> None:
    def cell(command: str) -> str:
        return by_program(compose, tmp_path, command).cell

    script = tmp_path / "gen.jl"
    script.write_text("one")
    first = cell(f"julia {script} {{input}} {{output}} {{seed}}")
    (tmp_path / "elsewhere").mkdir()
    moved = script.rename(tmp_path / "elsewhere" / "gen.jl")
    assert cell(f"julia  {moved} {{input}} {{output}} '{{seed}}'") == first
    assert cell(f"julia -O3 {moved} {{input}} {{output}} {{seed}}") != first
    moved.write_text("two")
    assert cell(f"julia {moved} {{input}} {{output}} {{seed}}") != first


@pytest.mark.parametrize(
    "command",
    [
        "python -m prog {input} {output} {seed}",
        "python -m package.run {input} {output} {seed}",
        "bash -c 'cd .; python prog.py {input} {output} {seed}>log'",
        "gen --script=prog.py {input} {output} {seed}",
    ],
)
def test_a_program_is_found_wherever_its_command_names_it(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "package").mkdir()
    files = [tmp_path / "prog.py", tmp_path / "package" / "run.py", tmp_path / "package" / "own.py"]
    for file in files:
        file.write_text("one")
    first = callables.code_sha256(None, command, [])
    assert callables.names_itself(command)
    assert callables.code_sha256(None, command, []) == first
    (files[2] if "package" in command else files[0]).write_text("another")
    assert callables.code_sha256(None, command, []) != first


def test_a_module_on_pythonpath_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    command = "python -m prog {input} {output} {seed}"
    assert not callables.names_itself(command)
    (tmp_path / "prog.py").write_text("one")
    assert callables.names_itself(command)
    assert callables.method_name(None, command) == "external_prog"


def test_a_program_that_names_nothing_is_warned_of_before_a_training(
    compose: Compose, tmp_path: Path
) -> None:
    def warnings(command: str, *others: str) -> list[str]:
        cfg = by_program(compose, tmp_path, command, *others)
        return [words for words in check(cfg)["warnings"] if "method.command" in words]

    elsewhere = f"{sys.executable} -m elsewhere {{input}} {{output}} {{seed}}"
    (said,) = warnings(elsewhere)
    assert "nothing of this program names its cell" in said
    assert "add 'method.code=[" in said
    assert warnings(f"bash -c '{elsewhere}'")
    assert warnings(elsewhere, f"method.code=[{MEANS}]") == []
    assert warnings(PROGRAM) == []


def test_a_word_too_long_for_a_file_s_name_is_text() -> None:
    command = f"gen --text {'x' * 300} -m {'x' * 300} {{input}} {{output}} {{seed}}"
    assert len(callables.code_sha256(None, command, [])) == 64
    assert callables.method_name(None, command) == "external_gen"
    with pytest.raises(ValueError, match="no file"):
        callables.named(f"{'x' * 300}.py:make")


def test_code_besides_may_be_swept_and_a_changed_function_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "gen.py"
    file.write_text("def make(images, labels, *, seed, num_classes): return images, labels\n")
    (tmp_path / "weights").write_text("1")
    generate = f"{file}:make"
    options = {"generate": generate, "options": {}}
    for code in ([], [str(tmp_path / "weights")]):
        sha256 = callables.code_sha256(generate, None, code)
        recipe.External(**options, code=code, sha256=sha256)
    file.write_text(file.read_text() + "# changed\n")
    with pytest.raises(ValueError, match="changed while it was in use; start again"):
        callables.load(generate)


def test_a_program_that_changed_since_its_cell_was_named_is_refused(
    compose: Compose, tmp_path: Path
) -> None:
    script = tmp_path / "gen.py"
    script.write_bytes(MEANS.read_bytes())
    command = f"{shlex.quote(sys.executable)} {script} {{input}} {{output}} {{seed}}"
    sha256 = callables.code_sha256(None, command, [])
    method = made("make", compose, generate=None, command=command, sha256=sha256)
    script.write_text(script.read_text() + "# changed\n")
    with pytest.raises(ValueError, match=r"^method\.command=.*changed while the sweep was running"):
        method.on_fit_start()


@pytest.mark.slow  # a sweep, whose worker imports torch
def test_a_generator_that_changes_during_a_sweep_does_not_split_its_cell(
    run_py: RunPy, tmp_path: Path
) -> None:
    file = tmp_path / "gen.py"
    changes = "    with open(__file__, 'a') as own:\n        own.write('#')\n"
    file.write_text(f"def make(images, labels, *, seed, num_classes):\n{changes}"
                    "    return images[seed % 2:], labels[seed % 2:]\n")  # fmt: skip
    done = run_py(
        *SMALL, "method=external", f"method.generate={file}:make", "method.check_repeats=false",
        *STUDENT, f"results={tmp_path / 'r'}", "hydra.launcher.num_workers=1", "-m", "seed=0,1",
    )  # fmt: skip
    assert done.returncode == 1
    assert "is no cell of this sweep: what names it, data, a generator's files" in done.stdout
    assert len(list((tmp_path / "r").glob("external_make-*"))) == 1


def test_an_unknown_user_s_home_is_one_line() -> None:
    said = r"no home folder of ~nobody_of_that_name; must be written without ~"
    with pytest.raises(ValueError, match=rf"^method\.generate=.*{said}"):
        callables.code_sha256("~nobody_of_that_name/gen.py:make", None, [])
    with pytest.raises(ValueError, match=rf"^method\.code=.*{said}"):
        callables.code_sha256(None, "gen", ["~nobody_of_that_name/x"])
    command = "gen ~nobody_of_that_name/x {input} {output} {seed}"
    with pytest.raises(ValueError, match=rf"^command=.*{said}"):
        recipe.External(command=command, options={}, sha256="")


# --- what it may do, and what is said of it ------------------------------------------------------


def made(function: str, compose: Compose, *, seed: int = 0, **options: object) -> External:
    """The method of a function, with a private set of its own, not fitted yet."""
    cfg = external(compose, Path("unused"), function)
    split = offering.split_of(cfg, load_pools(cfg))
    torch.manual_seed(7)
    node = {k: v for k, v in config.own_arguments(config.plain(cfg.method)).items() if k[0] != "_"}
    private = split.train
    return External(private=private, model=None, num_classes=10, seed=seed, **(node | options))


def test_a_function_has_copies_and_what_it_leaves_behind_is_put_back(compose: Compose) -> None:
    here, threads = Path.cwd(), torch.get_num_threads()
    method = made("careless", compose)
    before = method.private.digest()
    method.on_fit_start()
    assert method.private.digest() == before
    assert Path.cwd() == here
    assert torch.get_num_threads() == threads
    assert torch.get_default_dtype() == torch.float32
    assert method.metrics()["generator"]["repeats"] is True  # the global generators were seeded


@pytest.mark.parametrize(("function", "repeats"), [("make", True), ("unseeded", False)])
def test_a_generator_that_does_not_follow_its_seed_is_warned_of_once_per_cell(
    function: str, repeats: bool, compose: Compose, caplog: pytest.LogCaptureFixture
) -> None:
    method = made(function, compose)
    method.on_fit_start()
    assert method.metrics()["generator"]["repeats"] is repeats
    assert ("two runs at one seed made different sets" in caplog.text) != repeats
    later = made(function, compose, seed=1)
    later.on_fit_start()
    assert later.metrics()["generator"]["repeats"] is None
    unasked = made(function, compose, check_repeats=False)
    unasked.on_fit_start()
    assert unasked.metrics()["generator"]["repeats"] is None


def test_provenance_is_unknown_until_it_is_named(compose: Compose) -> None:
    assert made("make", compose).provenance == ("unknown (external)",)
    named = made("make", compose, provenance=["class pixel means", "labels"])
    assert named.provenance == ("class pixel means", "labels")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("broken", r"^method\.generate=.*means\.py:broken: KeyError: .*what is not there.* "),
        ("leaves", r"^method\.generate=.*means\.py:leaves: SystemExit: 0 "),
    ],
)
def test_an_error_in_a_function_names_its_line(
    function: str, message: str, compose: Compose, caplog: pytest.LogCaptureFixture
) -> None:
    line = next(
        i for i, text in enumerate(MEANS.read_text().splitlines(), 1)
        if text.strip().startswith({"broken": "return {}[", "leaves": "sys.exit"}[function])
    )  # fmt: skip
    with pytest.raises(ValueError, match=message + rf"\(tests/generators/means\.py:{line}\)$"):
        made(function, compose).on_fit_start()
    assert "Traceback" in caplog.text


def test_a_generator_that_is_returned_is_released(compose: Compose) -> None:
    method = made("make", compose)
    images, labels = private_arrays(method.private)
    network = torch.nn.Linear(2, 2)
    method._by_function = lambda *_: (images.transpose(0, 3, 1, 2), labels, network)
    method.on_fit_start()
    assert method.release().generator is network


@pytest.mark.parametrize(
    ("generate", "command", "name"),
    [
        ("gen.py:make", None, "external_make"),
        ("package.gen:Maker.make", None, "external_Maker_make"),
        (None, f"/opt/python {MEANS} {{input}} {{output}} {{seed}}", "external_means"),
        (None, "/opt/bin/gen-x {input} {output} {seed}", "external_gen_x"),
        (None, None, "external"),
    ],
)
def test_tables_call_a_generator_by_its_name(
    generate: str | None, command: str | None, name: str
) -> None:
    assert callables.method_name(generate, command) == name
