"""Reports on disk: whatever happened to one of its files, no wrong figure is shown."""

import functools
import itertools
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, Compose
from omegaconf import OmegaConf

from synpriv import audits, fingerprint
from synpriv.audit.attacks.threshold import threshold
from synpriv.pipeline import request_of
from synpriv.report import __main__ as report_main
from synpriv.report.__main__ import main
from synpriv.report.html import write
from synpriv.results import flat, reports, store, vouched
from synpriv.results.shape import Heading
from synpriv.tracking.told import of_audit

pytestmark = pytest.mark.usefixtures("few_rounds")
C, S = 12, 6
hinge = functools.partial(threshold, score="hinge")
NAME = "undefended-digits-mislabelled-0123abcd"
THRESHOLD = {
    "_target_": "synpriv.audit.attacks.threshold.threshold",
    "name": "threshold",
    "score": "hinge",
}


def heading(**others: Any) -> Heading:
    whole = {
        "cell": NAME,
        "method": "undefended",
        "dataset": "digits",
        "canary": "mislabelled",
        "membership": "balanced",
        "attack": "threshold",
        "attack_options": THRESHOLD,
        "tuning": {"num_trials": 1, "distribution": "logarithmic"},
        "settings": {"method.name": "undefended"},
        "seeds": list(range(S)),
        "accuracy_cell": None,
        "accuracy_seeds": [],
        "num_planned": S,
    }
    return whole | others  # type: ignore[return-value]


def save_runs(results: Path, *, leak: float = 2.0, seeds: range = range(S)) -> store.Cell:
    """Shadow models in which every other canary is a member."""
    cell = store.Cell(results, NAME, S)
    data = {"in_words": "few", "sha256": "0", "warnings": [], "class_sizes": [6, 6], "num_test": 10}
    for seed in seeds:
        member = (np.arange(C) + seed) % 2 == 0
        logits = np.random.default_rng(seed).normal(size=(C, 1, 3)).astype(np.float32)
        logits[:, 0, 0] += leak * member
        about = {"cell": NAME, "seed": seed, "canaries_sha256": "0", "test_accuracy": 0.9}
        about |= {"train_s": 1.0, "provenance": ["pixels"], "builds_on": {}}
        save = functools.partial(store.save_run, cell.run(seed), logits=logits, member=member)
        save(
            labels=np.zeros(C, np.int64),
            true_labels=np.ones(C, np.int64),
            metrics=about | {"data": data | {"num_private": C}},
        )
    return cell


@functools.cache
def made() -> Path:
    """A cell with its report, made once."""
    import tempfile

    results = Path(tempfile.mkdtemp(prefix="synpriv-test-"))
    cell = save_runs(results)
    audits.make(audits.Request(cell, cell, heading()), hinge)
    return results


@pytest.fixture(scope="module", autouse=True)
def _clean() -> Iterator[None]:
    yield
    shutil.rmtree(made())


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return Path(shutil.copytree(made(), tmp_path / "r"))


def report_file(results: Path) -> Path:
    return results / NAME / "threshold.json"


def content(results: Path) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in (results / NAME).glob("threshold.*")}


def rewritten(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """A report with something else in it and a checksum that agrees."""
    report = json.loads(file.read_bytes())
    del report["report_sha256"]
    change(report)
    store.write_json(file, report | {"report_sha256": vouched.json_sha256(report)})


def test_a_report_reads_back_and_one_that_is_not_there_is_not_made_yet(results: Path) -> None:
    report = reports.read(report_file(results))
    assert report is not None
    assert report["auc"] > 0.8
    assert report["files"].keys() == {"threshold.npz", "threshold.png"}
    assert reports.problem(report_file(results)) is None
    assert reports.problem(results / NAME / "lira.json") == reports.NOT_MADE
    assert reports.read(results / NAME / "lira.json") is None


def test_one_changed_digit_of_the_auc_is_not_shown(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, before = report_file(results), content(results)
    auc = f'"auc": {json.loads(file.read_bytes())["auc"]}'.encode()
    assert before["threshold.json"].count(auc) == 1
    file.write_bytes(before["threshold.json"].replace(auc, b'"auc": 0.5'))
    assert reports.read(file) is None
    assert main([str(results), "--out", str(results / "out")]) == 0
    printed = capsys.readouterr()
    assert "0.500" not in printed.out
    assert f"made again: {file} is damaged (checksum differs)" in printed.err
    assert content(results) == before


@pytest.mark.parametrize("name", ["threshold.json", "threshold.npz", "threshold.png"])
@pytest.mark.parametrize("damage", ["cut", "emptied", "gone", "flipped", "foreign"])
def test_a_damaged_part_of_a_report_is_made_again(results: Path, name: str, damage: str) -> None:
    file, before = results / NAME / name, content(results)
    whole = bytearray(before[name])
    whole[len(whole) // 2] ^= 4
    new = {"cut": whole[:100], "emptied": b"", "flipped": whole, "foreign": b'["x"]'}
    file.unlink()
    if damage != "gone":
        file.write_bytes(new[damage])
    assert reports.read(report_file(results)) is None
    assert audits.on_disk(report_file(results)).made_again is not None
    assert content(results) == before


def test_a_cell_whose_report_is_gone_is_not_audited(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report_file(results).unlink()
    assert main([str(results)]) == 1
    assert f"not audited: {results / NAME}" in capsys.readouterr().out


def test_a_picture_of_another_audit_is_found(results: Path) -> None:
    """A kill between the arrays and the report of other options leaves files of both."""
    file, before = report_file(results), content(results)
    cell = store.Cell(results, NAME, S)
    options = THRESHOLD | {"score": "logit"}
    logit = functools.partial(threshold, score="logit")
    audits.make(audits.Request(cell, cell, heading(attack_options=options)), logit)
    assert content(results)["threshold.npz"] != before["threshold.npz"]
    file.write_bytes(before["threshold.json"])
    assert "of another audit" in str(reports.problem(file))
    request = audits.Request(cell, cell, heading())
    assert audits.current(request) is None
    audits.on_disk(file)
    assert content(results) == before


def test_a_report_and_its_arrays_damaged_at_once_are_named(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for end in ("json", "npz"):
        report_file(results).with_suffix(f".{end}").write_bytes(b"{")
    assert main([str(results)]) == 1
    printed = capsys.readouterr()
    assert "left out" in printed.err
    assert "the command of its sweep makes it again" in printed.err
    assert f"not audited: {results / NAME}" in printed.out


def _put(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(report: dict[str, Any]) -> None:
        *path, last = key.split("/")
        node: Any = report
        for part in path:
            node = node[part]
        if value is None:
            del node[last]
        else:
            node[last] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        _put("auc", None),
        _put("auc", "0.9"),
        _put("auc", True),
        _put("n_out", 0),
        _put("auc_null_band", [0.4]),
        _put("tpr@fpr=0.001", None),
        _put("tpr@fpr=0.01/tpr", "all"),
        _put("tpr@fpr=0.01/null_band", [1, 2, 3]),
        _put("warnings", "none"),
        _put("test_accuracy", 0.9),
        _put("data/in_words", None),
        _put("seeds", [0, 1]),
        _put("format", 3),
        _put("format", 5),
        _put("format", "4"),
        _put("files/threshold.png", None),
        _put("files/..", "0"),
        _put("files/other.png", "0"),
    ],
)
def test_a_key_that_is_missing_or_of_another_type_is_no_report(
    results: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    rewritten(report_file(results), change)
    assert reports.read(report_file(results)) is None
    assert reports.problem(report_file(results)) is not None


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"{}", b"[]", b"null", b"3", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"format": 2}'],
)
def test_what_is_no_report_at_all_is_no_traceback(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "x" / "threshold.json"
    file.parent.mkdir()
    file.write_bytes(text)
    assert reports.read(file) is None
    assert str(file) in str(reports.problem(file))
    assert main([str(tmp_path)]) == 1


def test_a_key_given_twice_is_damage(results: Path) -> None:
    file = report_file(results)
    text = file.read_bytes().replace(b'{\n "cell"', b'{\n "auc": 0.99,\n "cell"', 1)
    file.write_bytes(text)
    assert json.loads(text)["auc"] != 0.99  # the later one counts, in Python
    assert reports.read(file) is None


def test_a_report_of_models_that_were_trained_again_is_made_again(results: Path) -> None:
    save_runs(results, leak=0.0)
    report, made_again, _ = audits.on_disk(report_file(results))
    assert "is not of the shadow models" in str(made_again)
    assert report["auc"] < 0.8


def test_a_report_whose_models_are_gone_stays(results: Path) -> None:
    for seed in range(S):
        shutil.rmtree(results / NAME / str(seed))
    report, made_again, not_compared = audits.on_disk(report_file(results))
    assert report["auc"] > 0.8
    assert made_again is None
    assert "6 of 6 are not beside it" in str(not_compared)


def test_a_damaged_model_is_named_beside_its_report(results: Path) -> None:
    (results / NAME / "3" / store.EVIDENCE).write_bytes(b"")
    not_compared = audits.on_disk(report_file(results)).not_compared
    assert "3/evidence.npz is damaged" in str(not_compared)


def test_a_renamed_folder_does_not_show_another_cell_s_figures(results: Path) -> None:
    (results / NAME).rename(results / "dpsgd-digits-mislabelled-0123abcd")
    with pytest.raises(ValueError, match=f"is threshold of {NAME}; name it as it was"):
        audits.on_disk(results / "dpsgd-digits-mislabelled-0123abcd" / "threshold.json")


def test_a_copied_report_does_not_pass_for_another_attack(results: Path) -> None:
    for end in ("json", "npz", "png"):
        shutil.copy(report_file(results).with_suffix(f".{end}"), results / NAME / f"lira.{end}")
    assert reports.read(results / NAME / "lira.json") is None
    with pytest.raises(ValueError, match=f"is threshold of {NAME}; name it as it was"):
        audits.on_disk(results / NAME / "lira.json")


def write_json(path: str) -> dict[str, Any]:
    """A node that writes a file when Hydra instantiates it."""
    return {
        "_target_": "synpriv.results.store.write_json",
        "_args_": [{"_target_": "pathlib.Path", "_args_": [path]}, {"pwn": 1}],
    }


@pytest.mark.parametrize(
    "options",
    [
        {"_target_": "os.mkdir", "path": "boom"},
        {"_target_": "synpriv.audit.attacks.lira.np.save", "file": "boom", "arr": 1},
        {"_target_": THRESHOLD["_target_"], "_args_": [write_json("boom")]},
        {"_target_": THRESHOLD["_target_"], "score": write_json("boom")},
        {"_target_": THRESHOLD["_target_"], "evidence": write_json("boom")},
        {"_target_": THRESHOLD["_target_"], "score": "hinge", "_partial_": False},
        {"_target_": THRESHOLD["_target_"], "score": 3},
        {"_target_": THRESHOLD["_target_"], "depth": 3},
        {"_target_": ["os.mkdir"]},
        {},
    ],
)
def test_a_report_file_does_not_decide_which_code_runs(
    results: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (results / "cwd").mkdir()
    monkeypatch.chdir(results / "cwd")
    file = report_file(results)
    options = options | {"name": "threshold"}
    rewritten(file, lambda report: report.update(attack_options=options, inputs_sha256="0"))
    file.with_suffix(".png").unlink()  # else there is nothing to make again
    assert main([str(results)]) == 1
    assert f"left out: {file}" in capsys.readouterr().err
    assert list((results / "cwd").iterdir()) == []


def test_attacks_that_a_file_may_call_are_those_of_conf() -> None:
    yamls = [OmegaConf.load(file) for file in (ROOT / "conf" / "attack").glob("*.yaml")]
    assert {yaml["_target_"] for yaml in yamls if "_target_" in yaml} == audits.OURS


def test_an_edited_attack_is_asked_again(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = store.Cell(results, NAME, S)
    assert audits.current(audits.Request(cell, cell, heading())) is not None
    monkeypatch.setattr(audits, "audit_sha256", lambda target: "edited")
    assert audits.current(audits.Request(cell, cell, heading())) is None


def test_another_version_s_report_is_made_again(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = store.Cell(results, NAME, S)
    monkeypatch.setattr(fingerprint, "__version__", "0.0.0")
    assert audits.current(audits.Request(cell, cell, heading())) is None


def _encrypted(archive: Path) -> None:
    """One bit of every entry: of its flags, in the archive's directory."""
    content = bytearray(archive.read_bytes())
    at = content.find(b"PK\x01\x02")
    while at >= 0:
        content[at + 8] ^= 1
        at = content.find(b"PK\x01\x02", at + 4)
    archive.write_bytes(content)


def _nested(archive: Path) -> None:
    np.savez(archive, heading=np.array("[" * 100_000))


def _run_without(key: str) -> Callable[[Path], None]:
    def change(archive: Path) -> None:
        file = archive.parent / "2" / store.METRICS
        content = json.loads(file.read_bytes())
        del content["metrics_sha256"], content[key]
        store.write_json(file, content | {"metrics_sha256": vouched.json_sha256(content)})

    return change


def _run_with(**others: Any) -> Callable[[Path], None]:
    def change(archive: Path) -> None:
        file = archive.parent / "2" / store.METRICS
        content = json.loads(file.read_bytes()) | others
        del content["metrics_sha256"]
        store.write_json(file, content | {"metrics_sha256": vouched.json_sha256(content)})

    return change


@pytest.mark.parametrize(
    "damage",
    [
        _encrypted,
        _nested,
        _run_without("test_accuracy"),
        _run_without("canaries_sha256"),
        _run_with(artefacts=[1]),
        _run_with(builds_on={"a": {}}),
        _run_with(seed="2"),
    ],
)
def test_one_foreign_cell_does_not_hide_the_others(
    results: Path, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    other = "undefended-digits-mislabelled-ffffffff"
    shutil.copytree(results / NAME, results / other)
    rewritten(results / other / "threshold.json", lambda report: report.update(cell=other))
    damage(report_file(results).with_suffix(".npz"))
    report_file(results).write_bytes(b"{")
    assert main([str(results), "--out", str(results / "out")]) == 0
    printed = capsys.readouterr()
    assert "undefended " in printed.out
    assert any(line.startswith("left out: ") and NAME in line for line in printed.err.splitlines())


def test_arrays_hold_no_pickle_and_say_what_was_asked(results: Path) -> None:
    archive = report_file(results).with_suffix(".npz")
    with np.load(archive, allow_pickle=False) as arrays:
        assert json.loads(str(arrays["heading"])) == heading()
    assert zipfile.ZipFile(archive).testzip() is None


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the process runs after it."""


def _killed_after(steps: int, work: Callable[[], object]) -> bool:
    """Run `work` in a process that dies after so many instructions in results/; whether it died."""
    left = steps

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if "/synpriv/results/" not in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left < 0:
                os._exit(9)
        return trace

    child = os.fork()
    if child == 0:
        try:
            sys.settrace(trace)
            work()
        finally:  # never back into pytest
            os._exit(0 if sys.exc_info()[0] is None else 1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9)
    return code == 9


def test_a_report_killed_at_any_point_of_its_writing_is_the_old_one_the_new_one_or_none(
    results: Path,
) -> None:
    file, before = report_file(results), content(results)
    old = reports.read(file)
    assert old is not None
    arrays = {"statistic": np.zeros((C, S)), "roc_fpr": np.ones(3), "roc_tpr": np.ones(3)}
    new = {key: value for key, value in old.items() if key != "report_sha256"} | {"auc": 0.25}
    work = functools.partial(reports.save, file, new, arrays, {"threshold.png": b"other"})
    seen = []
    for steps in itertools.count(0, 13):
        for name, text in before.items():
            (results / NAME / name).write_bytes(text)
        died = _killed_after(steps, work)
        got = reports.read(file)
        if got is not None:
            assert got["auc"] in (old["auc"], 0.25)
            beside = file.with_suffix(".png").read_bytes() == b"other"
            assert beside == (got["auc"] == 0.25)
        seen.append(None if got is None else got["auc"])
        if not died:
            break
    assert seen[0] == old["auc"]
    assert seen[-1] == 0.25
    assert None in seen
    assert len(seen) > 50


def test_trackers_are_told_what_the_report_says_and_its_page(results: Path) -> None:
    file = report_file(results)
    report = reports.read(file)
    assert report is not None
    told = of_audit(file, report, admission=0.5)
    assert told.summary == flat.flatten({**report, "admission": 0.5})
    assert set(told.pictures) == {"roc"}
    assert told.view is not None
    (cell,) = told.view["cells"]
    assert (cell["cell"], cell["auc"]["value"]) == (report["cell"], report["auc"])
    assert told.page is not None
    assert write.view_of(told.page.decode()) == told.view


@pytest.mark.parametrize(
    ("reader", "canary", "asked", "told"),
    [
        ("from_torchvision", "mislabelled", None, True),
        ("digits", "clean", None, True),
        ("npz", "mislabelled", None, False),
        ("folder", "mislabelled", None, False),
        ("digits", "path", None, False),
        ("my_reader", "mislabelled", None, False),
        (None, "mislabelled", None, False),
        ("npz", "mislabelled", True, True),
        ("digits", "mislabelled", False, False),
    ],
)
def test_images_of_ones_own_are_told_only_where_that_is_asked_for(
    results: Path, reader: str | None, canary: str, asked: bool | None, told: bool
) -> None:
    file = report_file(results)
    report = reports.read(file)
    assert report is not None
    picture = reports.closest(file)
    known = {} if reader is None else {"dataset.load._target_": reader, "canary.kind": canary}
    report |= {"settings": known, "files": report["files"] | {picture.name: ""}}
    files = [f"anna_{i}.png" for i in range(report["num_canaries"])]
    report["canary_source"] = {"of": "mine", "rows": list(range(len(files))), "files": files}
    report["canary_names"] = [f"patients/Jane Doe {i}.png" for i in range(len(files))]
    report["warnings"] = [
        "data: group Jane Doe has 70% of class Hodgkin",
        "patients/Jane Doe 6.png is odd",
    ]
    report["dataset"] = "folder_clinic"
    report["data"] |= {"class_names": ["Hodgkin", "healthy"], "in_words": "9 images (Hodgkin)"}
    found = of_audit(file, report, pictures=asked)
    assert found.page is not None
    shown, page = json.dumps(found.view), found.page.decode()
    assert write.view_of(page) == found.view
    assert ("Jane Doe 6.png" in shown) is told
    assert ("Jane" in shown or "anna_" in shown or '"row ' in shown or "Jane" in page) is told
    assert any(name in text for name in ("Hodgkin", "clinic") for text in (shown, page)) is told
    assert "is odd" in shown
    assert ("visual_privacy" in found.pictures) is told
    assert "roc" in found.pictures


@pytest.mark.parametrize(
    ("of_sweep", "flags", "told"),
    [
        ({}, [], None),  # a report from before the key was kept
        ({"pictures_told": None}, [], None),
        ({"pictures_told": False}, [], False),
        ({"pictures_told": True}, [], True),
        ({"pictures_told": True}, ["--no-pictures"], False),
        ({}, ["--no-pictures"], False),
    ],
)
def test_a_later_mirror_tells_no_more_pictures_than_sweep_and_flag_allow(
    results: Path,
    monkeypatch: pytest.MonkeyPatch,
    of_sweep: dict[str, Any],
    flags: list[str],
    told: bool | None,
) -> None:
    rewritten(report_file(results), lambda report: report.update(of_sweep))
    asked: list[bool | None] = []
    monkeypatch.setattr(report_main, "of_audit", lambda *_, pictures: asked.append(pictures))
    monkeypatch.setattr(report_main.tracking, "mirror", lambda *_, **__: None)
    assert main([str(results), "--wandb", *flags]) == 0
    assert asked == [told]


@pytest.mark.parametrize("pictures", [None, False, True])
def test_a_sweep_s_report_keeps_whether_pictures_are_told(
    compose: Compose, pictures: bool | None
) -> None:
    word = "null" if pictures is None else str(pictures).lower()
    asked = request_of(compose("logger=tensorboard", f"logger.pictures={word}"), [])
    assert asked.heading["pictures_told"] is pictures
