"""Names, warnings and foreign reports reach every medium as text and nothing else."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, Compose, RunPy
from example_reports import ARRAYS, report_of
from hypothesis import given
from hypothesis import strategies as st

from synpriv import cli, terminal
from synpriv.audit.metrics import Roc
from synpriv.audit.nearness import Rank
from synpriv.report import figure, inert, page, pairs, table, trade_off
from synpriv.results import reports
from synpriv.shadow import check

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "a|b",
    r"a\|b",
    "one\ntwo\r\n# three",
    "`rm -rf /`",
    "[click](javascript:alert(1))",
    "![x](http://tracker.example/x.png)",
    "[x]: javascript:alert(1)",
    "https://evil.example and www.evil.example",
    "*bold* _em_ __init__ ~~gone~~ snake_case",
    "# heading",
    "- item",
    "1. item",
    "> quote",
    "---",
    "===",
    "```",
    "&lt;b&gt; &#60;",
    "$x^2$ costs $5",
    r"$\undefined{$ and \$",
    '=HYPERLINK("http://evil.example","x")',
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "\N{FULLWIDTH EQUALS SIGN}1",
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b2J",
    "\u202egnp.exe \u2028 line",
    "../../etc/passwd",
    "m\udcfcll",
    "_hidden",
    "",
]
FAMILY = "marks corrected over 3 tests of this audit alone"
every_hostile = pytest.mark.parametrize("text", HOSTILE)
anything = st.text(st.characters(), max_size=30) | st.text(
    "[]()!:|`*_~<>&$\\#-+=.@1 w\n/ab", max_size=20
)


def a_report(text: str, cell: str = "cell") -> dict:
    """A report as another person may have written it: `text` wherever there is a text."""
    whole = report_of(text, cell=cell, dataset=text, canary=text, attack=text, membership=text)
    return whole | {
        "attack_options": {"note": text},
        "settings": {"method.name": text, "method.note": f"{cell}{text}", "model.x": text},
        **{"provenance": [text], "warnings": [text], "definitions": {"note": text}},
        "variants": {text: {"auc": 0.5}},
        "variants_chosen": {text: 1.0},
        "data": {"in_words": text, "warnings": [], "sha256": text, "num_private": 9},
        "tuning": {"num_trials": 1, "distribution": text},
        **{"inputs_sha256": text, "canaries_sha256": text},
        **{
            "accuracy": {
                "mean": 0.9,
                "se": 0.1,
                "half": 0.2,
                "n": 4,
                "source": text,
                "wrong_labels": 0.5,
            }
        },
    }


@given(anything)
def test_a_reader_of_markdown_sees_the_text_and_nothing_else(text: str) -> None:
    markdown_it = pytest.importorskip("markdown_it")
    plain = terminal.one_line(text)
    row = f"| a |\n| --- |\n| x{inert.markdown('x' + text)} |\n"
    rules = markdown_it.MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    cells = [token for token in rules.parse(row) if token.type == "inline"]
    assert len(cells) == 2  # header and cell: nothing has opened another one
    assert {token.type for token in cells[1].children} <= {"text", "text_special"}
    seen = "".join(token.content for token in cells[1].children)
    assert seen == f"x{terminal.one_line('x' + text)}"
    if plain not in ("", "-"):
        tokens = rules.parse(f"- {inert.markdown(text)}\n")
        kinds = [token.type for token in tokens if not token.type.startswith("paragraph")]
        opened = ["bullet_list_open", "list_item_open", "inline"]
        assert kinds == [*opened, "list_item_close", "bullet_list_close"]
        (content,) = [token for token in tokens if token.type == "inline"]
        assert {token.type for token in content.children} <= {"text", "text_special"}
        assert "".join(token.content for token in content.children) == plain


@every_hostile
def test_markdown_of_a_foreign_report_holds_no_markup_of_it(text: str) -> None:
    reports = [a_report(text), a_report(text, "other")]
    written = page.markdown(reports, family=FAMILY, pictures=["report.png"])
    lines = written.splitlines()
    assert len({line.count("|") for line in lines[:4]}) == 1
    assert "<" not in written
    links = re.findall(r"(?<!\\)\]\(", written)
    assert len(links) == 1  # our own picture
    ours = len(table.MARKS) + 1 + len(table.LEGEND.splitlines())  # marks, family, columns
    told = 2 + 2 + 1 + 1  # warnings, networks, data, definitions
    headings = 2 + 3
    special = [line for line in lines if line.startswith(("- ", "#", "1.", "=", ">"))]
    assert len(special) == ours + told + headings
    written.encode()  # halves of characters, as of a damaged file name, cannot be


@every_hostile
def test_a_spreadsheet_calculates_nothing_and_numbers_stay_numbers(text: str) -> None:
    rows = list(csv.reader(io.StringIO(table.as_csv([a_report(text), a_report("fine", "=o")]))))
    assert len(rows) == 3
    assert len({len(row) for row in rows}) == 1
    for value in (value for row in rows for value in row):
        assert not value.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d")), value
    named = dict(zip(rows[0], rows[1], strict=True))
    assert (float(named["auc"]), int(named["n_in"])) == (0.75, 16_000)
    assert named["dataset"].removeprefix("'") == terminal.one_line(text)


@given(st.none() | st.booleans() | st.integers() | st.floats())
def test_a_number_in_a_csv_cell_is_what_it_was(value: object) -> None:
    assert inert.cell(value) is value


def test_what_a_stream_cannot_encode_is_spelt_also_where_it_is_wrapped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Unbuffered:
        """As Ray wraps a worker's streams."""

        def __init__(self, stream: io.TextIOWrapper) -> None:
            self.stream = stream

        def __getattr__(self, name: str) -> Any:
            return getattr(self.stream, name)

    content = io.BytesIO()
    wrapped = Unbuffered(io.TextIOWrapper(content, encoding="utf-8"))
    monkeypatch.setattr(sys, "stderr", wrapped)
    monkeypatch.setattr(sys, "stdout", io.StringIO())  # which can hold anything
    terminal.never_fail()
    print("bad \udcff", file=sys.stderr, flush=True)
    assert content.getvalue() == b"bad \\xff\n"


@given(anything)
def test_nothing_printed_steers_a_terminal(text: str) -> None:
    for shown in (terminal.one_line(text), terminal.shown(text)):
        assert shown.isprintable() or not re.search(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e]", shown)
        shown.encode()
    printable = "".join(char for char in text if char.isprintable() and char != " ")
    assert terminal.one_line(printable) == printable


def test_a_class_or_a_file_named_to_steer_a_terminal_is_spelt(
    tmp_path: Path, compose: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    for name in ("\x1b[31mcat", "dog\nwarning: all is well"):
        folder = tmp_path / "images" / name
        folder.mkdir(parents=True)
        for i in range(40):
            Image.fromarray(rng.integers(0, 255, (8, 8), dtype=np.uint8)).save(folder / f"{i}.png")
    words = ("dataset=folder", "logger=none", "num_models=6", "canary.num_canaries=10")
    cfg = compose(*words, f"results={tmp_path}", f"dataset.path={tmp_path}/images")
    check.announce([cfg])
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert r"\x1b[31mcat" in printed
    assert "\nwarning: all is well" not in printed
    assert cli.one_line(FileNotFoundError(2, "no\nsuch file", "\x1b]0;x\x07.png")) == (
        r"\x1b]0;x\x07.png: no such file"
    )


@every_hostile
def test_the_table_of_a_foreign_report_is_plain_lines(text: str) -> None:
    reports = [a_report(text), a_report(text, "other")]
    printed = table.text(reports, family=FAMILY, rest=text)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e]", printed)
    lines = printed.splitlines()
    column = lines[0].index("TPR@1%FPR")
    assert [line[column - 2 : column + 7] for line in lines[2:4]] == ["  50.0% ["] * 2


def test_a_formula_in_a_name_is_drawn_as_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    drawn, write = [], Figure.savefig

    def keep(figure: Figure, *args: object, **options: object) -> None:
        write(figure, *args, **options)
        if figure not in drawn:  # one is written in two formats
            drawn.append(figure)

    monkeypatch.setattr(Figure, "savefig", keep)
    names = [r"$\undefined{$", r"a\$b$", "_hidden $x$"]
    audits = [a_report(name, f"cell{i}") for i, name in enumerate(names)]
    curve = Roc(*[np.array([0.0, 0.5, 1.0])] * 3)
    figure.png([(report, curve) for report in audits])
    trade_off.draw(audits, tmp_path / "trade_off", family=FAMILY)
    image = np.zeros((1, 1, 2, 2), dtype=np.uint8)
    pair = {"images": image, "synthetic": image, "canary": np.zeros(1, int)}
    pair |= {"distance": np.ones(1), "closer": np.ones(1)}
    row = {name: values[0] for name, values in pair.items()}
    near = {"nearer": 1, "pairs": 2, "chance": 1.0, "p": 0.5, "above_chance": False}
    pairs.png([pairs.Shown(0, row, Rank(0, 1))], near, title=names[0], num=1)
    (legend,) = drawn[0].legends
    # mathtext has its own parser: what it leaves alone is text
    texts = [text.get_text() for text in legend.get_texts()]
    assert len(texts) == len(audits) + 1
    for name, text in zip(names, texts[1:], strict=True):
        assert matplotlib_shows(text).strip().startswith(name)
    labels = [label.get_text() for label in drawn[1].axes[0].texts]
    assert [matplotlib_shows(label).strip() for label in labels] == names


def matplotlib_shows(text: str) -> str:
    """What is drawn of a text that is no formula."""
    from matplotlib.text import Text

    words, is_math = Text()._preprocess_math(text)
    assert not is_math
    return words


def test_a_picture_lies_in_the_folder_whatever_the_report_calls_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(  # what is drawn is of no interest here
        trade_off, "draw", lambda _, file, **__: file.with_suffix(".png").write_bytes(b"")
    )
    names = ["../../escape", "/etc/passwd", "." * 300, "plain"]
    reports = [a_report(name, f"cell{i}{j}") for i, name in enumerate(names) for j in (0, 1)]
    inside = tmp_path / "a" / "b" / "results"
    inside.mkdir(parents=True)
    drawn = trade_off.draw_groups(reports, inside / "trade_off", family=FAMILY)
    assert len(set(drawn)) == 4
    assert {file.parent for file in drawn} == {inside}
    assert all(file.is_file() for file in drawn)
    assert sorted(p for p in tmp_path.rglob("*.png")) == sorted(drawn)


C_LOCALE = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
PRINTS = """
import json, sys
from synpriv import cli
from synpriv.report import table
reports, folder = json.loads(sys.argv[1]), sys.argv[2]
def main():
    print(table.text(reports, family="", rest=folder))
    print("folder", folder)
    print("folder", folder, file=sys.stderr)
sys.argv[1:] = []
cli.call(main)
"""


@pytest.mark.parametrize(
    "env",
    [
        {"PYTHONIOENCODING": "ascii"},
        C_LOCALE,
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "utf-8"},
    ],
    ids=["ascii", "C", "latin-1", "utf-8"],
)
def test_no_line_is_lost_to_the_encoding_of_a_terminal(env: dict[str, str]) -> None:
    reports = [a_report("a" * 30, "one"), a_report("a" * 30, "two")]
    answer = subprocess.run(
        [sys.executable, "-c", PRINTS, json.dumps(reports), os.fsencode("m\u00fc \u2026 \udcff")],
        capture_output=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, **env},
        timeout=60,
    )
    assert answer.returncode == 0, answer.stderr
    encoding = env.get("PYTHONIOENCODING", "ascii")
    lines = answer.stdout.decode(encoding).splitlines()
    sign = "+-" if encoding == "ascii" else "\N{PLUS-MINUS SIGN}"
    assert f"0.900 {sign} 0.200" in lines[2]
    column = lines[0].index("TPR@1%FPR")
    assert [line[column - 2 : column + 7] for line in lines[2:4]] == ["  50.0% ["] * 2
    assert ("..." if encoding != "utf-8" else "\N{HORIZONTAL ELLIPSIS}") in lines[2]
    assert lines[-1].startswith("folder m")
    assert answer.stderr.decode(encoding).splitlines()[-1] == lines[-1]
    assert "Logging error" not in answer.stderr.decode(encoding)


ODD = "m\u00fcll, a=b [x] \u2026"


@pytest.mark.parametrize("env", [{}, C_LOCALE], ids=["utf-8", "C"])
def test_a_results_folder_of_any_name_is_checked(
    env: dict[str, str], tmp_path: Path, run_py: RunPy
) -> None:
    answer = run_py("check=true", f"results={tmp_path / ODD}", "logger=none", env=env)
    assert answer.returncode == 0, answer.stderr
    assert "checked, nothing was trained" in answer.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_report_is_written_into_a_folder_of_any_name(tmp_path: Path) -> None:
    folder = tmp_path / ODD / "cell"
    report = a_report("plain") | {"attack": "lira"}
    reports.save(folder / "lira.json", report, ARRAYS, {"lira.png": b""})
    answer = subprocess.run(
        [sys.executable, "-m", "synpriv.report", str(folder.parent)],
        capture_output=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, **C_LOCALE},
        timeout=60,
    )
    assert answer.returncode == 0, answer.stderr
    assert b"written: " in answer.stdout
    assert (folder.parent / "report.md").is_file()


def test_the_log_of_a_run_is_utf_8_whatever_the_locale(compose: Compose, tmp_path: Path) -> None:
    cfg = compose("seed=0", return_hydra_config=True)
    handler = cfg.hydra.job_logging.handlers.file
    options = {"encoding": handler.encoding, "errors": handler.errors}
    file = logging.FileHandler(tmp_path / "run.log", **options)
    file.emit(logging.LogRecord("x", 20, "x", 1, "m\u00fcll \udcff", None, None))
    file.close()
    assert (tmp_path / "run.log").read_bytes() == b"m\xc3\xbcll \\udcff\n"
