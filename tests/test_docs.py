"""Every command that README and docs write down: composed and checked, or run, on small data.

A line of a block without a language (or with bash) is a command, and so is a span of code that
begins as one: what is written down anew is covered, or refused here until somebody says how.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from conftest import ROOT, Compose
from hydra.core.override_parser.types import IntervalSweep
from markdown_it import MarkdownIt
from markdown_it.token import Token
from PIL import Image

from synpriv import cli, config, dashboard, split
from synpriv.audit import __main__ as audit
from synpriv.data import datasets
from synpriv.report import __main__ as report
from synpriv.report import gate
from synpriv.screen import __main__ as screen
from synpriv.screen import screening
from synpriv.shadow import check
from synpriv.status import __main__ as status

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
RUNS = ("python run.py", "python -m synpriv", "synpriv")
SMALL = ["num_models=6", "canary.num_canaries=20", "logger=none", "accuracy_models=0"]
# What a page's reader puts in their place.
MEANT = {
    "num_models=N": "num_models=6",
    "seed=0..N-1": "seed=0..5",
    "julia gen.jl": "python gen.py",
}
MEANT |= {"/opt/env/bin/python": "python"}
ONLY_COMPOSED = {  # and validated, for the reason that stands beside
    "experiment=paper_fashion": "downloads Fashion-MNIST",
    "experiment=paper_cifar10": "downloads CIFAR-10",
}
NOT_TRIED = {
    "source .venv/bin/activate": "of the shell",
    "pip install": "installs; tests/test_packaging.py tries a wheel",
    "pre-commit install": "changes .git",
    "wandb ": "of another program, with an account",
    "python -m pytest": "is what runs this",
    "python -m benchmarks.": "minutes to hours; that there is such a benchmark is looked at",
    "python run.py --help": "tests/test_cli.py runs it",
    "python run.py method=mine": "the reader's own class; tests/test_methods.py tries all of ours",
    "python run.py method=external method.generate=generators.py": "imports torch; "
    "tests/test_tutorial.py runs the page",
    "python run.py --config-dir my_conf": "imports torch; tests/test_own_network.py runs it",
    "python run.py method=distill method.embedder=convnet method.student.model=my_net": "the same",
}


class Command(NamedTuple):
    """One command and the page that has it."""

    words: str
    page: str


SHELL = ("", "bash", "sh", "console")
NO_COMMANDS = ("python", "yaml", "text")
_BEGINS = (*RUNS, "make", "pip install", "pre-commit", "wandb", "python -m")
_PREFIX = re.compile(r"(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?")  # variables, a path to the environment
_NAMED_ONLY = ("run.py", "run.py --help")  # a file, and a page of it that tests/test_cli.py reads


def commands(text: str) -> Iterator[str]:
    """The commands of a page, without the comments behind them; ValueError for what is neither."""
    for token in _tokens(MarkdownIt("commonmark").enable("table").parse(text)):
        language = token.info.partition(" ")[0]
        if token.type == "fence" and language not in (*SHELL, *NO_COMMANDS):
            raise ValueError(f"a block of {language}: nobody knows whether these are commands")
        if token.type == "code_block" or (token.type == "fence" and language in SHELL):
            for line in token.content.replace("\\\n", " ").splitlines():
                if words := re.sub(r"(^|\s+)#\s.*", "", line).strip().removeprefix("$ "):
                    yield _PREFIX.sub("", words, count=1)
        if token.type == "code_inline":
            words = _PREFIX.sub("", " ".join(token.content.split()), count=1)
            if words.startswith(tuple(f"{begin} " for begin in _BEGINS)) or words in RUNS:
                yield words
            elif words not in _NAMED_ONLY and re.search(r"\brun\.py\b|\bsynpriv ", words):
                raise ValueError(f"`{words}` runs something, and no test knows how")


def _tokens(tokens: Sequence[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from _tokens(token.children or [])


@pytest.mark.parametrize(
    "text",
    [
        "1. do\n\n   ```\n   python run.py a=b\n   ```",
        "```console\n$ python run.py a=b  # now\n```",
        '```bash title="run it"\n.venv/bin/python run.py a=b\n```',
        "~~~\npython run.py \\\n  a=b\n~~~",
        "- `WANDB_MODE=offline python run.py a=b`",
        "| | |\n|-|-|\n| x | `python run.py\ta=b` |",
        "    python run.py a=b",
    ],
)
def test_a_command_is_found_wherever_it_is_written_down(text: str) -> None:
    assert [" ".join(words.split()) for words in commands(text)] == ["python run.py a=b"]


@pytest.mark.parametrize("text", ["```fish\nx\n```", "`sudo python run.py a=b`"])
def test_what_may_be_a_command_is_not_passed_over(text: str) -> None:
    with pytest.raises(ValueError, match=r"nobody knows|no test knows"):
        list(commands(text))


COMMANDS = [
    Command(words, page.name)
    for page in DOCUMENTS
    for words in dict.fromkeys(commands(page.read_text("utf-8")))
]
RUN_PY = [
    Command(command.words, command.page)
    for command in {command.words: command for command in COMMANDS}.values()
    if re.match(rf"({'|'.join(map(re.escape, RUNS))})(?= |$)", command.words)
    and not command.words.startswith(tuple(NOT_TRIED))
]
MODULES = [
    command
    for command in {command.words: command for command in COMMANDS}.values()
    if re.match(r"python -m synpriv\.", command.words)
]


def named(command: Command) -> str:
    return f"{command.page}: {command.words}"


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with all the files that the pages name, small, and the current one."""
    folder = tmp_path_factory.mktemp("reader")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        _images(folder)
        _code(folder)
        yield folder


def _images(folder: Path) -> None:
    pool = datasets.digits().private
    images, labels = pool.images[:400, 0], pool.labels[:400]
    np.savez(folder / "mine.npz", images=images, labels=labels)
    for name, rows in (("release", 0), ("private", 1), ("holdout", 2)):
        np.savez(folder / f"{name}.npz", images=images[rows::3])
        (folder / name[0].upper()).mkdir()
        for i in range(rows, 120, 3):
            Image.fromarray(images[i]).save(folder / name[0].upper() / f"{i}.png")
    (folder / "R").rename(folder / "S")  # the page calls its sets S, P and H
    for i in range(300):
        (folder / "photos" / str(labels[i])).mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[i]).save(folder / "photos" / str(labels[i]) / f"{i}.png")
    rng = np.random.default_rng(0)
    first = rng.random((40, 3)) < 0.5
    member = np.stack([first, ~first], axis=2).reshape(40, 6)
    np.savez(folder / "evidence.npz", member=member, scores=rng.normal(size=(40, 6)) + member)
    (folder / "THEIRS").mkdir()


def _code(folder: Path) -> None:
    """What the pages print, in the files that they say."""
    for page in ("own_generator", "tutorial"):
        text = (ROOT / "docs" / f"{page}.md").read_text("utf-8")
        for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
            (folder / code.splitlines()[0].removeprefix("# ")).write_text(code)
    text = (ROOT / "docs" / "add_a_model.md").read_text("utf-8")
    (folder / "my_net.py").write_text(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0])
    (folder / "my_conf" / "model").mkdir(parents=True)
    (yaml,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (folder / "my_conf" / "model" / "my_net.yaml").write_text(yaml)


def meant(words: str) -> list[str]:
    """A command's words, with what a reader fills in."""
    for written, put in MEANT.items():
        words = words.replace(written, put)
    return shlex.split(words)


def overrides_of(words: str) -> list[str]:
    """The first job of a command, as overrides; what else it sweeps over must exist."""
    command = next(run for run in RUNS if words.startswith(run))
    found = []
    for word in cli.normalise(meant(words)[len(command.split()) :]):
        key, _, value = word.partition("=")
        parsed = None if word.startswith("-") else cli._parse(word)
        if parsed is not None and isinstance(interval := parsed.value(), IntervalSweep):
            value = repr(interval.start)  # any number of it
        elif parsed is not None and parsed.is_sweep_override():
            values = list(parsed.sweep_string_iterator())
            group = ROOT / "conf" / key
            assert not group.is_dir() or all((group / f"{v}.yaml").is_file() for v in values)
            value = values[0]
        found += [] if parsed is None else [f"{key}={value}"]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("command", RUN_PY, ids=named)
def test_a_command_line_of_a_page_composes_and_fits_its_data(
    command: Command, compose: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    job = overrides_of(command.words)
    given = {word.partition("=")[0] for word in job}
    small = [word for word in SMALL if word.partition("=")[0] not in given - {"num_models"}]
    cfg = compose(*job, *small, "check=true")
    if any(word in command.words for word in ONLY_COMPOSED):
        config.validate(cfg)
        return
    if "method=precomputed" in command.words:
        _make_sets(job, small)
    check.announce([cfg])
    assert "checked, nothing was trained" in capsys.readouterr().out


def methods_of(words: str) -> list[str]:
    """Further values of a sweep over methods; of all of it the first job is composed above."""
    swept = re.search(r" method=([\w,]+)", words)
    return swept[1].split(",")[1:] if swept else []


FURTHER = [
    (command, method) for command in RUN_PY for method in dict.fromkeys(methods_of(command.words))
]


@pytest.mark.slow
@pytest.mark.parametrize(("command", "method"), FURTHER, ids=lambda given: str(given)[:60])
def test_every_method_that_a_command_sweeps_over_takes_its_keys(
    command: Command, method: str, compose: Compose
) -> None:
    words = [w for w in overrides_of(command.words) if not w.startswith("method=")]
    config.validate(compose(f"method={method}", *words, "check=true"))


EXPERIMENTS = sorted((ROOT / "conf" / "experiment").glob("*.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda file: file.stem)
def test_the_command_that_an_experiment_says_is_of_it_and_composes(
    file: Path, compose: Compose
) -> None:
    said = re.findall(r"^# Command: (.+?)(?: \(or .*)?$", file.read_text("utf-8"), re.MULTILINE)
    for words in said:
        job = overrides_of(words)
        assert f"experiment={file.stem}" in job
        config.validate(compose(*job, "check=true"))


def _make_sets(job: list[str], small: list[str]) -> None:
    """The sets that come back from elsewhere: the private sets themselves will do."""
    keys = ("dataset", "canary", "num_models", "audit_seed")
    of_split = {w.partition("=")[0]: w for w in [*job, *small] if w.startswith(keys)}
    shutil.rmtree("DIR", ignore_errors=True)
    split.main([*of_split.values(), "--out", "DIR"])
    Path("DIR/out").mkdir(exist_ok=True)
    for file in Path("DIR/in").glob("*.npz"):
        (Path("DIR/out") / file.name).write_bytes(file.read_bytes())


def test_every_make_target_that_is_named_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named_ones = {
        target for c in COMMANDS if c.words.startswith("make ") for target in c.words.split()[1:]
    }
    assert named_ones
    assert named_ones <= targets


def test_every_command_is_one_that_somebody_tries() -> None:
    """In a block without a language stand commands alone; give what is none the language text."""
    tried = {command.words for command in (*RUN_PY, *MODULES)}
    for command in COMMANDS:
        known = command.words.startswith(("make ", *NOT_TRIED)) or command.words in tried
        assert known, f"{command.page}: {command.words}: no test tries it"
    for command in COMMANDS:
        if name := re.match(r"python -m (benchmarks\.\w+)", command.words):
            assert importlib.util.find_spec(name[1]), command


def test_no_exemption_is_left_of_a_command_that_is_gone() -> None:
    for words in (*NOT_TRIED, *ONLY_COMPOSED):
        assert any(words in command.words for command in COMMANDS), words


def _report(argv: list[str]) -> int:
    """The report of a results folder with an audit in it."""
    _audited()
    if "--expect" in argv:
        assert report.main(["--write-expect", argv[-1]]) == 0
    return report.main(argv)


def _audited() -> None:
    assert audit.main(["evidence.npz", "--out", "multirun/mine"]) == 0


def _dashboard(argv: list[str]) -> int:
    """Where nobody is logged in."""
    pytest.importorskip("wandb_workspaces")
    _audited()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        code = dashboard.main(argv)
    assert Path("multirun/dashboard.json").is_file()
    return code


@pytest.mark.usefixtures("few_rounds", "no_pictures")
def test_the_report_s_page_is_read_back_and_its_frames_are_made() -> None:
    _audited()
    assert report.main([]) == 0
    text = (ROOT / "docs" / "report.md").read_text("utf-8")
    found: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(code, found)
    assert [cell["name"] for cell in found["view"]["cells"]]
    assert list(found["audits"]["cell"]) == ["mine"]
    (yaml,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    Path("by_hand.yaml").write_text(yaml)
    assert len(gate.read(Path("by_hand.yaml"))) == 2


def _split(argv: list[str]) -> int:
    shutil.rmtree("DIR", ignore_errors=True)
    given = {word.partition("=")[0] for word in argv}
    split.main([*argv, *(word for word in SMALL[:2] if word.partition("=")[0] not in given)])
    return 0


def _status(argv: list[str]) -> int:
    """The state of a results folder in which nothing is missing, so that a watch ends."""
    _audited()
    return status.main(argv)


MAIN = {
    "dashboard": _dashboard,
    "status": _status,
    "report": _report,
    "split": _split,
    "audit": audit.main,
    "screen": screen.main,
}


@pytest.mark.usefixtures("few_rounds", "no_pictures")
@pytest.mark.parametrize("command", MODULES, ids=named)
def test_a_module_s_command_line_runs(command: Command) -> None:
    module, *argv = meant(command.words.removeprefix("python -m synpriv."))
    assert importlib.util.find_spec(f"synpriv.{module}") is not None
    if "--help" in argv:
        with pytest.raises(SystemExit, match=r"^0$"):
            MAIN[module](argv)
    elif argv or module == "report":  # else the module is only named
        with pytest.MonkeyPatch.context() as patch:
            for name, few in (("rounds", 99), ("bootstrap_rounds", 20)):
                patch.setitem(screening.screen.__kwdefaults__, name, few)
            assert MAIN[module](argv) == 0
