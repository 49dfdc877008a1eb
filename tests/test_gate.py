"""Bounds that a study must keep to: what it was made from does, and nothing else passes unseen."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from example_reports import ARRAYS, report_of

import synpriv.report.__main__ as report_main
from synpriv.report import files, gate, marks
from synpriv.report.__main__ import MALFORMED, main
from synpriv.report.html import write
from synpriv.report.verdict import verdict
from synpriv.results.reports import save

STUDY = [
    report_of(),
    report_of("distill_dm", tpr=0.011, p=0.4, cell="distill_dm-0"),
    report_of("dpsgd_eps8", tpr=0.01, p=0.6, n_out=500, cell="dpsgd_eps8-[1]", epsilon=7.99)
    | {"epsilon_tuned": 9.5},
    report_of("part", cell="part-0", partial=True, num_models=32),
]


def broken(entry: dict, *reports: dict) -> list[str]:
    marked, _ = marks.corrected(list(reports))
    return gate.violations([{"cells": "*"} | entry], marked)


def test_what_is_written_from_a_study_that_study_keeps_to(tmp_path: Path) -> None:
    marked, _ = marks.corrected(STUDY)
    file = tmp_path / "expect.yaml"
    file.write_text(gate.expectations(marked), "utf-8")
    entries = gate.read(file)
    assert gate.violations(entries, marked) == []
    assert [entry["cells"] for entry in entries][2] == "dpsgd_eps8-[[]1]"
    for entry, report in zip(entries, marked, strict=True):
        rate = report["tpr@fpr=0.01"]
        assert rate["high"] <= entry["tpr@fpr=0.01"]["max"] <= rate["high"] + 1e-4
        accuracy = report["accuracy"]
        least = accuracy["mean"] - accuracy["half"]
        assert least - 1e-4 <= entry["accuracy"]["min"] <= least
    assert entries[2]["epsilon"] == {"max": 7.99}
    assert entries[1]["verdict"] == ["none"]
    assert entries[2]["verdict"] == ["none", "unresolved"]
    assert "verdict" not in entries[0]
    worse = [report_of("distill_dm", tpr=0.3, cell="distill_dm-0", accuracy=0.5)]
    lines = gate.violations(entries[1:2], worse)
    assert len(lines) == 6  # verdict, of both FPRs the rate and its limit, accuracy
    lines = gate.violations(entries, marked[:1])
    assert len(lines) == len(STUDY) - 1
    assert all("no audit matches" in line for line in lines)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"tpr@fpr=0.01": {"max": 0.4}}, "tpr@fpr=0.01 is 0.5, must be at most 0.4"),
        ({"tpr@fpr=0.01": {"high_max": 0.5}}, "limit of tpr@fpr=0.01 is 0.55, must be at most 0.5"),
        ({"auc": {"max": 0.7}}, "auc is 0.75, must be at most 0.7"),
        ({"auc": {"high_max": 0.755}}, "limit of auc is 0.76"),
        ({"accuracy": {"min": 0.96}}, "accuracy is 0.95, must be at least 0.96"),
        ({"epsilon": {"max": 8}}, "epsilon is not proven, must be at most 8"),
        ({"epsilon_bound": {"max": 0.5}}, "epsilon_bound is 1, must be at most 0.5"),
        ({"verdict": "none"}, "verdict leak (evidence of a leak), must be none"),
        ({"verdict": ["none", "unresolved"]}, "must be none or unresolved"),
    ],
)
def test_each_bound_is_named_where_it_is_broken(entry: dict, words: str) -> None:
    (line,) = broken(entry, report_of())
    assert words in line
    assert line.startswith("undefended, digits, mislabelled, threshold: ")
    assert "\n" not in line


@pytest.mark.parametrize(
    ("entry", "others", "words"),
    [
        ({"accuracy": {"min": 0}}, {"accuracy": None}, "accuracy is not known"),
        ({"epsilon": {"max": 1e9}}, {"epsilon": None}, "epsilon is infinite"),
        ({"epsilon_tuned": {"max": 9}}, {"epsilon_tuned": None}, "epsilon_tuned is not proven"),
        ({"epsilon_bound": {"max": 9}}, {"epsilon_bound": None}, "epsilon_bound has no value"),
        ({"tpr@fpr=0.001": {"max": 1}}, {"n_out": 5000}, "tpr@fpr=0.001 is not resolvable"),
        ({"auc": {"max": 1}}, {"partial": True}, "partial: 64 of 64 models"),
    ],
)
def test_what_cannot_be_judged_is_no_pass(entry: dict, others: dict, words: str) -> None:
    report = report_of(**({"n_out": others["n_out"]} if "n_out" in others else {})) | others
    (line,) = broken(entry, report)
    assert words in line


def test_a_bound_above_what_is_proven_breaks_every_entry_and_is_no_state_to_keep_to() -> None:
    refuted = report_of(epsilon=1.0, epsilon_bound=3.0)
    assert broken({"auc": {"max": 1}}, refuted) == [
        "undefended, digits, mislabelled, threshold: epsilon_bound is 3, above the 1 that is proven"
    ]
    with pytest.raises(ValueError, match=r"no bounds are written, epsilon_bound is 3: must be at"):
        gate.expectations([report_of("a"), refuted])


def test_bounds_that_are_kept_say_nothing() -> None:
    assert broken({"tpr@fpr=0.01": {"max": 0.5, "high_max": 0.56}}, report_of()) == []
    assert broken({"auc": {"max": 0.75}, "accuracy": {"min": 0.95}}, report_of()) == []
    few = report_of(n_out=500, tpr=0.01, p=0.5)
    assert broken({"tpr@fpr=0.01": {"max": 0.5, "resolvable": False}}, few) == []
    assert verdict(few)["kind"] == "unresolved"
    assert broken({"verdict": "unresolved"}, few) == []
    assert broken({"auc": {"max": 1}, "partial": True}, report_of(partial=True)) == []
    proven = report_of(epsilon=8.0, epsilon_tuned=9.0)
    assert broken({"epsilon": {"max": 8}, "epsilon_tuned": {"max": 9}}, proven) == []


def test_what_is_lost_is_found_by_its_name_too() -> None:
    bound, kept = {"auc": {"max": 1}}, report_of("distill_dm", cell="distill_dm-0")
    lost = report_of("dfkd", cell="dfkd-0", attack="lira")
    known = [{"name": "dfkd-0", "why": "damaged", "asked": lost}]
    unknown = [{"name": "dfkd-0", "why": "damaged"}]
    line = "dfkd-0: cannot be judged: damaged"
    for pattern in ("*", "dfkd*", "*, digits, mislabelled, lira", "*lira", "dfkd, *"):
        assert gate.violations([{"cells": pattern} | bound], [kept], known) == [line], pattern
    others = ("distill_dm*", "distill_dm, *", "*threshold")
    for pattern in others:
        assert gate.violations([{"cells": pattern} | bound], [kept], known) == [], pattern
    found = [gate.violations([{"cells": p} | bound], [kept], unknown) for p in others]
    assert found == [[], [line], [line]]  # a pattern of names may be of what has none any more
    by_attack = [{"cells": "*", "attack": "threshold"} | bound]
    assert gate.violations(by_attack, [kept], known) == []
    alike = [report_of("dfkd", cell=f"dfkd-{i}", settings={"method.lr": i}) for i in (0, 1)]
    again = [{"name": "dfkd-1", "why": "damaged", "asked": alike[1]}]
    for pattern in ("dfkd lr=*, *", "dfkd lr=1, *", "dfkd, *"):
        lines = gate.violations([{"cells": pattern} | bound], alike[:1], again)
        assert "dfkd-1: cannot be judged: damaged" in lines, pattern


def test_patterns_are_of_folders_names_and_attacks() -> None:
    bound = {"auc": {"max": 0.7}}
    for pattern in ("undef*", "undefended-digits-mislabelled-0123abcd", "undefended, digits*"):
        assert len(broken({"cells": pattern} | bound, report_of())) == 1
    (line,) = broken({"attack": "lira"} | bound, report_of())
    assert line == "expect[0]: no audit matches cells: *, attack: lira"
    missing = [{"name": "dfkd-0", "why": "not audited yet, 3 models are there"}]
    (line,) = gate.violations([{"cells": "dfkd*"} | bound], [report_of()], missing)
    assert line == "dfkd-0: cannot be judged: not audited yet, 3 models are there"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must be `expect:` with a list"),
        ("expect: []", "must be `expect:` with a list"),
        ("expect: [{cells: 'a'}]", "expect[0]: must be given at least one bound"),
        ("expect: [{auc: {max: 1}}]", "expect[0].cells: must be a pattern"),
        ("expect: [{cells: a, acuracy: {min: 1}}]", "expect[0].acuracy: must be one of cells"),
        ("expect: [{cells: a, accuracy: {max: 1}}]", "expect[0].accuracy.max: must be one of min"),
        ("expect: [{cells: a, accuracy: 0.9}]", "expect[0].accuracy: must be a mapping with min"),
        ("expect: [{cells: a, accuracy: {min: high}}]", "accuracy.min=high: must be a number"),
        ("expect: [{cells: a, accuracy: {min: .nan}}]", "accuracy.min=nan: must be a number"),
        ("expect: [{cells: a, accuracy: {min: true}}]", "accuracy.min=True: must be a number"),
        ("expect: [{cells: a, verdict: no_leak}]", "verdict=no_leak: must be one or more of leak"),
        ("expect: [{cells: a, verdict: {a: 1}}]", "verdict={'a': 1}: must be one or more of leak"),
        ("expect: [{cells: a, verdict: [[a]]}]", "verdict=['a']: must be one or more of leak"),
        ("expect: [{cells: a, verdict: []}]", "verdict: must be one or more of leak"),
        ("expect: [{cells: a, unverified: 1}]", "unverified: must be true or false"),
        ("expect: [{cells: a, [b]: 1}]", "['b'] is no name of a setting"),
        ("expect: [{cells: a, {b: 1}: 1}]", "is no name of a setting"),
        ("expect: [{cells: a, auc: {max: 2001-99-99}}]", "no yaml"),
        (f"expect: [{{cells: a, auc: {{max: 1{400 * '0'}}}}}]", "must be a number"),
        ("expect: [{cells: a, auc: {max: 1}, auc: {max: 2}}]", "auc is given twice"),
        ("expect: [", "no yaml"),
        ("expect: !!python/object/apply:os.getcwd []", "no yaml"),
    ],
)
def test_a_malformed_file_is_one_line_and_another_exit_code(
    text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "expect.yaml"
    file.write_text(text)
    assert main([str(tmp_path), "--expect", str(file)]) == MALFORMED
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert str(file) in error


def test_the_command_line_writes_and_judges(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "write_tables", lambda *_: [])
    for report in STUDY[:2]:
        save(tmp_path / report["cell"] / "threshold.json", report, ARRAYS, {"threshold.png": b""})
    file = tmp_path / "expect.yaml"
    assert main([str(tmp_path), "--expect", str(file)]) == MALFORMED
    assert f"--expect={file} cannot be read (No such file" in capsys.readouterr().err
    assert main([str(tmp_path), "--write-expect", str(file)]) == 0
    assert capsys.readouterr().out.endswith(f"{file}\n")
    assert main([str(tmp_path), "--expect", str(file)]) == 0
    assert "expectations: all 2 kept" in capsys.readouterr().out
    content = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({"expect": content["expect"][:1]}))
    assert main([str(tmp_path), "--expect", str(file)]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if "not judged" in line] == [
        "not judged, no expectation is of it: undefended, digits, mislabelled, threshold"
    ]
    content["expect"][0]["accuracy"]["min"] = 0.99
    file.write_text(yaml.safe_dump(content))
    assert main([str(tmp_path), "--expect", str(file)]) == 1
    said = capsys.readouterr()
    assert [line for line in said.err.splitlines() if line.startswith("violation: ")] == [
        "violation: distill_dm, digits, mislabelled, threshold: accuracy is 0.95, "
        "must be at least 0.99"
    ]
    assert main([str(tmp_path), "--cells", "undef*", "--expect", str(file)]) == 1  # lost its cell


def test_what_never_finished_or_is_damaged_or_unverified_is_no_pass(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "write_tables", lambda *_: [])
    whole, lost = STUDY[1], report_of("dfkd", cell="dfkd-0")
    for report in (whole, lost):
        save(tmp_path / report["cell"] / "threshold.json", report, ARRAYS, {"threshold.png": b""})
    damaged = tmp_path / "dfkd-0" / "threshold.json"
    damaged.write_bytes(damaged.read_bytes() + b"x")
    twin = whole["accuracy_cell"]
    for name in ("crashed-0", whole["cell"], "dfkd-0", twin):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "cell.yaml").touch()
    file = tmp_path / "expect.yaml"
    entry = {"cells": "*, digits, mislabelled, threshold", "auc": {"max": 1}}
    file.write_text(yaml.safe_dump({"expect": [entry]}))
    assert main([str(tmp_path), "--expect", str(file)]) == 1
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("violation: ")]
    assert told[0].startswith("violation: dfkd-0: cannot be judged: ")
    assert told[1] == "violation: crashed-0: cannot be judged: not audited, no finished model"
    assert "not compared with its shadow models (68 of 68 are not beside it)" in told[2]
    assert len(told) == 3
    page = write.view_of((tmp_path / files.PAGE).read_text("utf-8"))
    assert {lack["name"] for lack in page["missing"]} == {"dfkd-0", "crashed-0"}
    assert all(lack.keys() == {"name", "why"} for lack in page["missing"])
    file.write_text(yaml.safe_dump({"expect": [entry | {"cells": "distill*", "unverified": True}]}))
    assert main([str(tmp_path), "--expect", str(file)]) == 0


def test_a_damaged_report_whose_models_are_there_is_named_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "write_tables", lambda *_: [])
    read = SimpleNamespace(read_metrics=lambda file: ({"cell": file.parts[-3]}, None))
    monkeypatch.setattr(report_main, "vouched", read)
    for report in (STUDY[1], report_of("dfkd", cell="dfkd-0")):
        save(tmp_path / report["cell"] / "threshold.json", report, ARRAYS, {"threshold.png": b""})
    damaged = tmp_path / "dfkd-0" / "threshold.json"
    damaged.write_bytes(damaged.read_bytes() + b"x")
    (tmp_path / "dfkd-0" / "0").mkdir()
    (tmp_path / "dfkd-0" / "0" / "metrics.json").touch()
    assert main([str(tmp_path)]) == 0
    page = write.view_of((tmp_path / files.PAGE).read_text("utf-8"))
    assert [lack["name"] for lack in page["missing"]] == ["dfkd-0"]


def test_a_choice_of_cells_is_judged_as_all_that_are_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files.figure, "in_all_formats", lambda _: {})
    monkeypatch.setattr(files.trade_off, "draw_groups", lambda *_, **__: [])
    lucky = report_of("lucky", p=0.007, cell="lucky-0")
    for report in (lucky, report_of("none", p=0.6, cell="none-0")):
        save(tmp_path / report["cell"] / "threshold.json", report, ARRAYS, {"threshold.png": b""})
    file = tmp_path / "expect.yaml"
    entry = {"cells": "lucky*", "verdict": "none", "unverified": True}
    file.write_text(yaml.safe_dump({"expect": [entry]}))
    for chosen in ([], ["--cells", "lucky*"]):
        assert main([str(tmp_path), "--expect", str(file), *chosen]) == 0
    assert "of 2 audits, 1 of them not shown here" in capsys.readouterr().out
    page = write.view_of((tmp_path / files.PAGE).read_text("utf-8"))
    assert [cell["verdict"]["kind"] for cell in page["cells"]] == ["none"]
    for written in (page["family"], (tmp_path / "report.md").read_text("utf-8")):
        assert "of 2 audits, 1 of them not shown here" in written
    assert verdict(marks.corrected([lucky])[0][0])["kind"] == "leak"
