"""The command line: flags anywhere, inclusive ranges, and one line for every mistake."""

import importlib
import logging
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Compose, RunPy
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from synpriv import cli
from synpriv.signatures import require

PARSER = OverridesParser.create()


def swept(override: str) -> list[object]:
    """The values that Hydra makes of one override, as its sweeper does."""
    parsed = PARSER.parse_override(override)
    return [PARSER.parse_override(f"x={text}").value() for text in parsed.sweep_string_iterator()]


def test_the_card_s_command_verbatim() -> None:
    argv = ["method=distill", "attack=lira", "-m", "seed=0..63"]
    assert cli.normalise(argv) == ["-m", "method=distill", "attack=lira", "seed=range(0,64)"]
    assert swept("seed=range(0,64)") == list(range(64))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0..2,7,10..12..2", [0, 1, 2, 7, 10, 12]),
        ("0..2, 7", [0, 1, 2, 7]),
        ("-2..1", [-2, -1, 0, 1]),
        ("4..4", [4]),
        ("0..62..31", [0, 31, 62]),
        ("0..10..3", [0, 3, 6, 9]),
        ("5..1..-2", [5, 3, 1]),
        ("+1..3", [1, 2, 3]),
        ("1,2", [1, 2]),
        ("range(0,3)", [0, 1, 2]),
    ],
)
def test_ranges_are_inclusive(text: str, values: list[int]) -> None:
    assert swept(cli.expand_override(f"seed={text}")) == values


@given(
    start=st.integers(-300, 300),
    length=st.integers(0, 60),
    step=st.integers(-7, 7).filter(bool),
    others=st.lists(st.integers(-9, 9), max_size=3),
)
def test_hydra_sweeps_what_python_would(
    start: int, length: int, step: int, others: list[int]
) -> None:
    direction = 1 if step > 0 else -1
    stop = start + direction * length
    text = ",".join([f"{start}..{stop}..{step}", *map(str, others)])
    expected = [*range(start, stop + direction, step), *others]
    assert swept(cli.expand_override(f"seed={text}")) == expected


@pytest.mark.parametrize(
    "override",
    [
        "seed=range(0,3)",
        "hydra.job.name=../x",
        "dataset.root=../../data",
        "dataset.path=a..b",
        "method.name=0..x",
        "method.name=v1..2x",
        "method.lr=.5",
        "seed='0..2'",
        "method=glob(distill_*)",
        "~experiment",
        "+method.tag=",
        "x=a,b",
    ],
)
def test_what_is_no_integer_range_is_left_alone(override: str) -> None:
    assert cli.expand_override(override) == override
    assert cli.normalise(["-m", override]) == ["-m", override]


def test_a_list_needs_a_sweep_and_is_left_alone_in_one() -> None:
    with pytest.raises(ValueError, match="is a sweep: add -m"):
        cli.normalise(["method.lr=0.1,0.2"])
    assert cli.normalise(["-m", "method.lr=0.1,0.2"]) == ["-m", "method.lr=0.1,0.2"]
    for value in ("[1,2]", "'a,b'", "{a:1,b:2}"):
        assert cli.normalise([f"x={value}"]) == [f"x={value}"]
    for value in ("choice(1,2)", "glob(*)", "range(0,3)"):
        with pytest.raises(ValueError, match="is a sweep: add -m"):
            cli.normalise([f"x={value}"])


def test_a_key_given_twice_is_named() -> None:
    with pytest.raises(ValueError, match=r"method\.lr is given twice"):
        cli.normalise(["method.lr=1", "seed=0", "method.lr=2"])


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("5..2", "write the smaller end first"),
        ("0..", "write a..b or a..b..step"),
        ("..5", "write a..b or a..b..step"),
        ("0...3", "write a..b or a..b..step"),
        ("0..3..", "write a..b or a..b..step"),
        ("0..3..0", "the step must not be 0"),
        ("1,5..2", "write the smaller end first"),
    ],
)
def test_a_malformed_range_says_what_is_right(text: str, right: str) -> None:
    with pytest.raises(ValueError, match=right) as error:
        cli.normalise(["-m", f"seed={text}"])
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("seed=")


def test_a_range_without_multirun_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"^seed=0\.\.3 is a sweep: add -m$"):
        cli.normalise(["method=distill", "seed=0..3"])
    assert cli.normalise(["hydra.mode=MULTIRUN", "seed=0..1"])[1] == "seed=range(0,2)"
    assert cli.normalise(["--cfg", "job", "seed=0..1"])[-1] == "seed=range(0,2)"


def test_flags_may_stand_anywhere() -> None:
    argv = [
        "a=1",
        "-m",
        "b=2",
        "-cn",
        "other",
        "c=3",
        "--cfg",
        "job",
        "d=4",
        "--config-dir=x",
        "-r",
    ]
    flags = ["-m", "-cn", "other", "--cfg", "job", "--config-dir=x", "-r"]
    assert cli.normalise(argv) == [*flags, "a=1", "b=2", "c=3", "d=4"]


def test_order_of_overrides_is_kept_and_normalising_twice_changes_nothing() -> None:
    once = cli.normalise(["seed=0..3", "-m", "b=2,1", "a=1"])
    assert once == ["-m", "seed=range(0,4)", "b=2,1", "a=1"]
    assert cli.normalise(once) == once


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--multirn"], "unknown flag --multirn; did you mean --multirun?; see --help"),
        (["--cfg", "jbo"], "--cfg jbo: must be followed by job, hydra or all"),
        (["--cfg"], "--cfg : must be followed by job, hydra or all"),
        (["seed"], "missing '=' in 'seed': write seed=VALUE"),
    ],
)
def test_mistyped_words_are_named(argv: list[str], message: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the whole message is compared
        cli.normalise(argv)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("hydra.foo", "hydra.foo: no such key; it has defaults, mode, "),
        ("hydra.sweep.dirr", "hydra.sweep.dirr: no such key; did you mean dir?"),
        ("hydra.job.config.override_dirname.sep", "did you mean kv_sep"),
    ],
)
def test_keys_that_hydra_has_not_are_refused_with_a_plus_too(key: str, said: str) -> None:
    for plus in ("", "+", "++"):
        with pytest.raises(ValueError, match="no such key") as error:
            cli.normalise([f"{plus}{key}=1"])
        assert said in str(error.value)
    with pytest.raises(ValueError, match="choose the folder of all by results=DIR"):
        cli.normalise(["hydra.sweep.dir=elsewhere"])
    for known in ("hydra.job.chdir", "hydra.launcher.num_workers", "+hydra.job.env_set.A"):
        cli.normalise([f"{known}=1"])


def test_omegaconf_s_errors_become_one_line() -> None:
    cfg = OmegaConf.create({"method": {"num_epochs": 3, "lr": 1.0}, "a": "${b}"})
    OmegaConf.set_struct(cfg, True)
    with pytest.raises(OmegaConfBaseException) as unknown:
        cfg.method.num_epoch = 3
    assert cli.one_line(unknown.value) == (
        "method.num_epoch: no such key; did you mean num_epochs?"
    )
    with pytest.raises(OmegaConfBaseException) as far:
        cfg.method.zzz = 3
    assert cli.one_line(far.value) == "method.zzz: no such key; it has num_epochs, lr"
    with pytest.raises(OmegaConfBaseException) as missing:
        _ = cfg.a
    assert "\n" not in cli.one_line(missing.value)


def test_other_errors_become_one_line() -> None:
    assert cli.one_line(OSError(28, "No space left on device", "x.npz")) == (
        "x.npz: No space left on device"
    )
    assert cli.one_line(ValueError("a\n  b")) == "a; b"
    assert cli.one_line(ValueError()) == "ValueError"


def test_ctrl_c_ends_with_130_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop, cli.errors_in_one_line():
        raise KeyboardInterrupt
    assert stop.value.code == 130
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("{}['missing']", "KeyError: 'missing' ({file}:3)"),
        ("assert 1 == 2", "AssertionError: assert 1 == 2 ({file}:3)"),
        ("fail()", "RecursionError: maximum recursion depth exceeded ({file}:3)"),
        ("raise MemoryError", "not enough memory: raise MemoryError ({file}:3)"),
        (
            "raise RuntimeError('DefaultCPUAllocator: can\\'t allocate memory')",
            "not enough memory: DefaultCPUAllocator: can't allocate memory ({file}:3)",
        ),
        ("class Odd(Exception): ...; raise Odd('a\\n b')", "Odd: a; b ({file}:3)"),
        ("import json; json.loads('{')", "JSONDecodeError: Expecting property name"),
        ("int('x')", "ValueError: invalid literal for int() with base 10: 'x' ({file}:3)"),
    ],
)
def test_an_error_that_nobody_foresaw_is_one_line_with_class_and_place(
    code: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "own_method.py"
    file.write_text(
        "def fail():\n    if True:\n        " + code.replace("; raise", "\n        raise")
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_method", raising=False)
    own = importlib.import_module("own_method")
    with pytest.raises(SystemExit) as stop, cli.errors_in_one_line():
        own.fail()
    line = str(stop.value.code)
    assert line.startswith("error: " + said.partition(" ({file}")[0])
    assert f"{file}:" in line
    assert "\n" not in line


def test_the_traceback_of_any_error_is_there_for_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "SHOW_TRACEBACK", True)
    with pytest.raises(KeyError), cli.errors_in_one_line():
        raise KeyError("bug")


def test_a_refused_value_needs_no_place_and_a_value_that_a_library_refused_does() -> None:
    with pytest.raises(ValueError, match="must be 1 or 2") as ours:
        require(False, "x=3", "1 or 2")
    assert cli.one_line(ours.value) == "x=3: must be 1 or 2"
    with pytest.raises(TypeError) as theirs:
        cli.path(None, "x")  # type: ignore[arg-type]
    assert cli.one_line(theirs.value).startswith("TypeError: ")
    assert "synpriv/cli.py:" in cli.one_line(theirs.value)


# What is mistyped, and the words that say what was wrong and what would be right.
MISTAKES = {
    "seed=abc": ["seed", "abc", "Integer"],
    "seed=99": ["seed=99", "0..63", "num_models"],
    "seed=-1": ["seed=-1", "0..63"],
    "num_models=5": ["num_models=5", "even, at least 4"],
    "num_models=2": ["num_models=2", "even, at least 4"],
    "audit_seed=-1": ["audit_seed=-1", "must be 0.."],
    "method=foo": ["method=foo", "undefended", "distill"],
    "method=distil": ["no such method; did you mean distill?"],
    "trainer=gpuu": [
        "no such trainer; did you mean gpu? must be one of auto, bf16, cpu, fast, gpu"
    ],
    "experimnt=paper": ["experimnt", "did you mean experiment?"],
    "methd=distill": ["methd", "did you mean method?"],
    "atack=lira": ["atack", "did you mean attack?"],
    "hydra/lancher=pool": ["hydra/lancher", "did you mean hydra/launcher?"],
    "+nonsense=1": ["nonsense", "no such option", "audit_seed"],
    "+sed=1": ["sed: no such option; did you mean seed?"],
    "+canary.foo=1": ["canary.foo: no such option", "num_canaries"],
    "+trainer.precison=1": ["trainer.precison", "did you mean precision?"],
    "+dataset.num_trian=3": ["dataset.num_trian", "did you mean num_train?"],
    "+dataset.path=x.npz": ["dataset.path: no such option", "flip"],
    "dataset=folder dataset.path=conf +dataset.sise=3": ["did you mean size?"],
    "dataset@public=npz public.path=run.py +public.pth=x": ["did you mean path?"],
    "dataset=foo": ["dataset=foo", "digits", "cifar10"],
    "experiment=foo": ["experiment=foo", "paper_cifar10"],
    "attack=foo": ["attack=foo", "lira", "threshold"],
    "seed": ["'seed'", "seed=VALUE"],
    "--foo": ["--foo", "--help"],
    "seed=0..3": ["seed=0..3", "add -m"],
    "seed=0,1": ["seed", "-m"],
    "method.epochs=3": ["method.epochs", "num_epochs"],
    "sed=3": ["sed", "seed"],
    "canary.membership=x": ["canary.membership=x", "paired", "balanced", "bernoulli"],
    "canary.num_canaries=0": ["canary.num_canaries=0", "at least 1"],
    "trainer.precision=16": ["trainer.precision=16", "32-true", "bf16-mixed"],
    "trainer.num_threads=x": ["trainer.num_threads", "Integer"],
    "attack.shrinkage=x": ["shrinkage", "x", "a number"],
    "attack.views=[x]": ["views=", "all, view0"],
    "attack.scores=[x]": ["scores", "hinge"],
    "attack.scor=hinge": ["attack.scor", "score"],
    "dataset=npz": ["dataset.path"],
    "dataset=npz dataset.path=/no/such.npz": ["/no/such.npz", "no such file", "npz archive"],
    "dataset=folder dataset.path=/no/such": ["/no/such", "no such folder", "one folder per class"],
    "method.name=a/b": ["a/b", "letters"],
    "logger.name=x": ["logger.name=x", "wandb, tensorboard, mlflow, csv, none"],
    "-m seed=0..99": ["seed=99", "0..63", "num_models"],
    "-m seed=5..2": ["seed=5..2", "smaller end first"],
    "-m seed=0..x": ["seed", "0..x", "Integer"],
    "-m method=foo,distill seed=0..3": ["method=foo", "undefended"],
}
# These are found only when training looks at what it was given: torch and Lightning are loaded.
LATE_MISTAKES = {
    "+model.widht=3": ["model.widht: no such option; did you mean width?"],
    "method.num_epochs=abc": ["method.num_epochs='abc'", "an integer"],
    "dataset=cifar10 dataset.root=/no/such dataset.download=false": [
        "CIFAR10",
        "/no/such",
        "dataset.root",
        "dataset.download=true",
    ],
}


def in_this_process(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    """Exit code and stderr of run.py, as the interpreter would give them."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # run.py sets it: put back afterwards
    monkeypatch.setenv("SYNPRIV_COMMAND", "")
    monkeypatch.setattr(sys, "argv", ["run.py", *words])
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(ROOT / "run.py"), run_name="__main__")
    root.handlers[:] = handlers  # Hydra's would write to what capsys has closed by then
    root.setLevel(level)
    error = capsys.readouterr().err
    if isinstance(stop.value.code, str):  # what sys.exit prints of a string
        return 1, f"{error}{stop.value.code}\n"
    return int(stop.value.code or 0), error


def assert_one_line(code: int, error: str, words: list[str]) -> None:
    assert code in (1, 2)
    assert "Traceback" not in error
    assert error.count("\n") == 1, error
    assert error.startswith("error: ")
    for word in words:
        assert word in error


@pytest.mark.parametrize("typed", MISTAKES)
def test_a_mistake_gives_one_line_and_leaves_nothing_behind(
    typed: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = [*typed.split(), f"results={tmp_path / 'results'}"]
    code, error = in_this_process(argv, monkeypatch, capsys)
    assert_one_line(code, error, MISTAKES[typed])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("typed", LATE_MISTAKES)
def test_a_mistake_found_by_training_gives_one_line(
    typed: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = [
        *typed.split(),
        "logger=none",
        f"results={tmp_path / 'results'}",
        "hydra/job_logging=none",
    ]
    code, error = in_this_process(argv, monkeypatch, capsys)
    assert_one_line(code, error, LATE_MISTAKES[typed])
    assert not list(tmp_path.rglob("metrics.json"))


@pytest.mark.parametrize("typed", ["seed=abc", "method=foo", "num_models=5"])
def test_run_py_itself_gives_one_line(typed: str, tmp_path: Path, run_py: RunPy) -> None:
    done = run_py(typed, f"results={tmp_path / 'results'}")
    assert done.stdout == ""
    assert_one_line(done.returncode, done.stderr, MISTAKES[typed])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("more", [[], ["-m", "seed=0..3"]], ids=["run", "sweep"])
def test_results_that_cannot_be_written_give_one_line(
    more: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, error = in_this_process(["results=/dev/null/x", *more], monkeypatch, capsys)
    assert_one_line(code, error, ["/dev/null/x", "Not a directory"])


def test_the_traceback_is_there_for_who_asks(tmp_path: Path, run_py: RunPy) -> None:
    done = run_py("seed=99", f"results={tmp_path / 'r'}", env={"HYDRA_FULL_ERROR": "1"})
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "0..63" in done.stderr


def loaded(code: str) -> set[str]:
    """Top-level packages in a fresh interpreter after `code`."""
    script = f"{code}\nimport sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    answer = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(answer.stdout.splitlines()[-1].split())


HEAVY = {"torch", "wandb", "pytorch_lightning", "scipy", "matplotlib", "sklearn", "torchvision"}


def test_the_command_line_module_imports_nothing_heavy() -> None:
    assert not loaded("import synpriv.cli") & HEAVY


@pytest.mark.parametrize("argument", ["--help", "--cfg=job"])
def test_help_and_configuration_import_no_torch(argument: str) -> None:
    code = f"""
import runpy, sys
sys.argv = ["run.py", "{argument}"]
try:
    runpy.run_path("run.py", run_name="__main__")
except SystemExit as stop:
    assert not stop.code, stop.code
"""
    assert not loaded(code) & HEAVY


def test_help_shows_the_groups_and_the_card_s_command(run_py: RunPy) -> None:
    done = run_py("--help")
    assert done.returncode == 0
    assert "python run.py method=distill attack=lira -m seed=0..63" in done.stdout
    assert "method: coreset, coreset_el2n," in done.stdout


def test_a_word_that_looks_like_a_flag_s_value_is_passed_on(run_py: RunPy, tmp_path: Path) -> None:
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "mine.yaml").write_text("defaults: [undefended]\nnum_epochs: 77\n")
    done = run_py("method=mine", "--cfg", "job", "--config-dir", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "num_epochs: 77" in done.stdout


def test_a_reader_that_leaves_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "dup2", lambda *_: None)
    with pytest.raises(SystemExit) as stop, cli.errors_in_one_line():  # of `| head`
        raise BrokenPipeError(32, "Broken pipe")
    assert stop.value.code == 141


@pytest.mark.parametrize("typed", ["", "model@", "+model@"])
@pytest.mark.parametrize("part", ["teacher.model", "proxy.model", "student.model", "embedder"])
def test_a_part_s_network_is_chosen_by_name(typed: str, part: str) -> None:
    word = f"{typed}method.{part}=resnet18,convnet"
    assert cli.normalise(["-m", word]) == ["-m", f"model@method.{part}=resnet18,convnet"]
    option = f"method.{part}.width=8"
    assert cli.normalise([option]) == [option]


@pytest.mark.parametrize(
    ("typed", "hydra_s"),
    [
        ("julia g.jl {input} {seed}", "'julia g.jl {input} {seed}'"),
        ("sh -c 'a, b' {seed}", r"'sh -c \'a, b\' {seed}'"),
        ("'a {seed}','b {seed}'", "'a {seed}','b {seed}'"),
        ("null", "null"),
    ],
)
def test_a_command_is_taken_as_it_is_typed(typed: str, hydra_s: str) -> None:
    flags = ["-m"] if "','" in typed else []
    assert cli.normalise([*flags, f"method.command={typed}"])[-1] == f"method.command={hydra_s}"


def test_options_of_a_user_s_own_code_need_no_plus() -> None:
    assert cli.normalise(["method.options.size=3"]) == ["++method.options.size=3"]


@pytest.mark.parametrize("key", ["labels", "path", "command", "root"])
def test_options_of_a_user_s_own_code_are_no_paths(key: str) -> None:
    assert cli.normalise([f"method.options.{key}=[1,2]"]) == [f"++method.options.{key}=[1,2]"]
    assert cli.normalise(["+dataset.load.labels=[0,1]"]) == ["+dataset.load.labels=[0,1]"]
    assert cli.normalise(["dataset.labels=a b,c.csv"]) == ["dataset.labels='a b,c.csv'"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["method=coreset_random", "method.num_epochs=2"],
            "method.num_epochs: no such key in method=coreset_random; "
            "did you mean method.student.num_epochs?",
        ),
        (
            ["method=undefended", "method.num_epoch=2"],
            "method.num_epoch: no such key in method=undefended; did you mean num_epochs?",
        ),
    ],
)
def test_an_unknown_key_of_a_method_names_it_and_the_same_key_inside(
    compose: Compose, words: list[str], said: str
) -> None:
    with pytest.raises(Exception, match="num_epoch") as error:
        compose(*words)
    assert cli.one_line(error.value) == said
