"""python -m synpriv.status: what it says of a folder against what lies there."""

import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT

from synpriv import audits
from synpriv.audit.attacks.threshold import threshold
from synpriv.results import failures, locks, planned, store, vouched
from synpriv.results.locks import Holder
from synpriv.results.shape import Heading
from synpriv.status import cells, runs, settings, text, totals
from synpriv.status.__main__ import _Screen, main

pytestmark = pytest.mark.usefixtures("few_rounds", "no_pictures")
C, S, NAME = 12, 12, "undefended-digits-mislabelled-0123abcd"
HOLD = """
import sys, time
from pathlib import Path
from synpriv.results import locks
with locks.held(Path(sys.argv[1]), "it"):
    print("held", flush=True)
    time.sleep(600)
"""


def save(
    results: Path, seed: int, *, name: str = NAME, wall_s: float = 2.0, noise: int = 0
) -> Path:
    """One finished run, in which every other canary is a member."""
    cell = store.Cell(results, name, S)
    member = (np.arange(C) + seed) % 2 == 0
    logits = np.random.default_rng([seed, noise]).normal(size=(C, 1, 3)).astype(np.float32)
    data = {"in_words": "few", "sha256": "0", "warnings": [], "class_sizes": [6, 6], "num_test": 9}
    about = {"cell": name, "seed": seed, "canaries_sha256": "0", "test_accuracy": 0.9}
    about |= {"train_s": 1.0, "provenance": ["pixels"], "builds_on": {}}
    about |= {"data": data | {"num_private": C}, "membership": "balanced"}
    about |= {"stages": {"fit": {"wall_s": wall_s - 0.5}, "query": {"wall_s": 0.5}}}
    labels = {"labels": np.zeros(C, np.int64), "true_labels": np.ones(C, np.int64)}
    store.save_run(cell.run(seed), logits=logits, member=member, **labels, metrics=about)


def plan(results: Path, seeds: range, *, name: str = NAME, **others: Any) -> None:
    asked: planned.Asked = {
        "seeds": list(seeds), "num_models": S, "attack": None, "builds_on": {}, **others,
    }  # type: ignore[typeddict-item] # fmt: skip
    planned.note(results / name, asked, "python run.py -m")


@pytest.fixture
def hold() -> Iterator[Callable[[Path], subprocess.Popen[str]]]:
    """Another process that holds the lock of a folder."""
    started: list[subprocess.Popen[str]] = []

    def held(folder: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLD, str(folder)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield held
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def mixed(tmp_path: Path, hold: Callable[[Path], subprocess.Popen[str]]) -> tuple[Path, int]:
    """A cell with runs of every kind, and who works on its seed 4."""
    results = tmp_path / "r"
    plan(results, range(S))
    for seed in range(4):
        save(results, seed)
    cell = store.Cell(results, NAME, S)
    worker = hold(cell.run(4))
    failures.note(cell.run(5), "ValueError: too little")
    failures.note(cell.run(6), "ValueError: too little")
    damaged = cell.run(2) / store.EVIDENCE
    damaged.write_bytes(damaged.read_bytes()[:-1])
    (cell.run(3) / store.METRICS).rename(cell.run(3) / "away")
    (cell.run(1) / store.METRICS).replace(cell.run(3) / store.METRICS)  # of another seed
    (cell.run(7)).mkdir()  # begun, and killed
    (cell.run(7) / locks.LOCK).touch()
    about = {"pid": 1, "host": "gone", "since": "2020-01-01 00:00:00"}
    (cell.run(7) / locks.HOLDER).write_text(json.dumps(about))
    return results, worker.pid


def of_folder(results: Path) -> cells.Cell:
    (cell,), wrong = cells.read(results)
    assert wrong == []
    return cell


def state_of(folder: Path) -> dict[str, tuple[int, int, int]]:
    """All that changes where something is written, renamed or its attributes are set."""
    found = {}
    for path in [folder, *folder.rglob("*")]:
        status = path.lstat()
        found[str(path)] = (status.st_mtime_ns, status.st_ctime_ns, status.st_size)
    return found


def test_each_run_is_what_it_is_and_nothing_is_written(mixed: tuple[Path, int]) -> None:
    results, pid = mixed
    before = state_of(results)
    found, stored = of_folder(results), store.Cell(results, NAME, S)
    problems = {seed: stored.problem(seed) for seed in range(S)}  # reads and hashes everything
    assert found.done == [seed for seed, why in problems.items() if why is None] == [0]
    assert found.damaged == {seed: problems[seed] for seed in (2, 3)}
    assert "belongs to seed 1" in found.damaged[3]
    assert [(seed, who.pid) for seed, who in found.running.items()] == [(4, pid)]
    assert found.failed == dict.fromkeys((5, 6), "ValueError: too little")
    assert found.missing == [1, *range(7, S)]
    every = [*found.done, *found.damaged, *found.running, *found.failed, *found.missing]
    assert sorted(every) == list(range(S))
    assert state_of(results) == before


def test_a_look_disturbs_no_holder_and_nobody_who_waits(mixed: tuple[Path, int]) -> None:
    results, _ = mixed
    for _ in range(50):
        assert of_folder(results).running.keys() == {4}
    run = store.Cell(results, NAME, S).run(7)
    with locks.held(run, "it"):
        assert locks.holder(run) == Holder(os.getpid(), *_host_and_since(run))
        assert of_folder(results).running.keys() == {4, 7}
    assert locks.holder(run) is None


def _host_and_since(run: Path) -> tuple[str, str]:
    about = json.loads((run / locks.HOLDER).read_text())
    return about["host"], about["since"]


def test_a_killed_worker_s_run_is_missing(
    tmp_path: Path, hold: Callable[[Path], subprocess.Popen[str]]
) -> None:
    plan(tmp_path, range(2))
    worker = hold(tmp_path / NAME / "1")
    assert of_folder(tmp_path).running.keys() == {1}
    worker.kill()
    worker.wait()
    assert (tmp_path / NAME / "1" / locks.HOLDER).is_file()
    assert of_folder(tmp_path).running == {}
    assert of_folder(tmp_path).missing == [0, 1]


def test_bytes_are_those_of_a_walk(mixed: tuple[Path, int], tmp_path: Path) -> None:
    results, _ = mixed
    (results / NAME / "tensorboard" / "a").mkdir(parents=True)
    (results / NAME / "tensorboard" / "a" / "events").write_bytes(b"x" * 5000)
    (tmp_path / "far").write_bytes(b"x" * 70_000)
    (results / NAME / "0" / "link").symlink_to(tmp_path / "far")
    walked = 0
    for folder, _, names in os.walk(results / NAME):
        walked += sum(os.lstat(os.path.join(folder, name)).st_size for name in names)
    assert of_folder(results).num_bytes == walked
    assert 5000 < walked < 70_000


def test_one_reason_is_printed_once_with_its_seeds(
    mixed: tuple[Path, int], capsys: pytest.CaptureFixture[str]
) -> None:
    results, pid = mixed
    kept = results / NAME / "4" / store.CHECKPOINT
    kept.touch()
    os.utime(kept, (time.time() - 7300,) * 2)
    assert main([str(results)]) == 1
    printed = capsys.readouterr().out
    assert re.search(r"seed 4 by .*, kept 2h01m ago\n", printed)
    assert printed.count("too little") == 1
    assert f"FAILED 2 x ValueError: too little  ({NAME}: 5..6)" in printed
    assert f"{NAME}: seed 4 by process {pid} on " in printed
    assert "total: 1 done, 1 running, 2 failed, 2 damaged, 6 missing; " in printed
    row = next(line for line in printed.splitlines() if line.startswith(f"{NAME}  "))
    assert row.split()[1:5] == [f"1/{S}", "1", "4", "6"]  # failed counts what is damaged too


def test_json_says_the_same(mixed: tuple[Path, int], capsys: pytest.CaptureFixture[str]) -> None:
    results, pid = mixed
    assert main([str(results), "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    (cell,) = said["cells"]
    assert (cell["cell"], cell["done"], cell["missing"]) == (NAME, [0], [1, *range(7, S)])
    assert cell["running"]["4"]["pid"] == pid
    assert cell["asked"] == list(range(S))
    assert cell["commands"] == ["python run.py -m"]
    assert said["total"]["failed"] == len(cell["failed"]) == 2


def test_what_sweeps_asked_for_is_added_up_and_what_is_no_plan_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in (range(4), range(2, 8), range(4)):  # the last one is the first one again
        plan(tmp_path, part)
    assert len(list((tmp_path / NAME).glob(f"{planned.PREFIX}*"))) == 2
    assert of_folder(tmp_path).missing == list(range(8))
    (tmp_path / NAME / f"{planned.PREFIX}x.json").write_text('{"seeds": "all", "command": null}')
    assert main([str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert f"note: {tmp_path / NAME / planned.PREFIX}x.json is no plan of a sweep" in printed
    assert "8 missing" in printed


def test_a_stage_is_missing_where_a_run_that_builds_on_it_is(tmp_path: Path) -> None:
    teacher, public = "teacher-digits-0", "pretraining-digits-0"
    for name in (teacher, public):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cell.yaml").touch()
    plan(tmp_path, range(4), builds_on={teacher: True, public: False})
    save(tmp_path, 1)
    save(tmp_path, 0, name=teacher)
    found = {cell.name: cell.missing for cell in cells.read(tmp_path)[0]}
    assert found == {teacher: [2, 3], public: [0], NAME: [0, 2, 3]}


def heading(**others: Any) -> Heading:
    target = "synpriv.audit.attacks.threshold.threshold"
    whole = {
        **{"cell": NAME, "method": "undefended", "dataset": "digits", "canary": "mislabelled"},
        **{"membership": "balanced", "attack": "threshold"},
        "attack_options": {"_target_": target, "name": "threshold", "score": "hinge"},
        "tuning": {"num_trials": 1, "distribution": "fixed"},
        "settings": {"method.name": "undefended"},
        **{"seeds": list(range(S)), "num_planned": S},
        **{"accuracy_cell": None, "accuracy_seeds": []},
    }
    return whole | others  # type: ignore[return-value]


def test_an_audit_is_up_to_date_as_long_as_its_sweep_would_not_make_it_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = store.Cell(tmp_path, NAME, S)
    plan(tmp_path, range(S), attack="threshold")
    for seed in range(S):
        save(tmp_path, seed)
    assert of_folder(tmp_path).audits == {"threshold": "not made yet"}
    assert main([str(tmp_path)]) == 3
    request = audits.Request(cell, cell, heading())
    audits.make(request, functools.partial(threshold, score="hinge"))
    assert audits.current(request) is not None
    assert of_folder(tmp_path).audits == {"threshold": "up to date"}
    assert main([str(tmp_path)]) == 0
    request.file.with_suffix(".npz").write_bytes(b"x")
    assert of_folder(tmp_path).audits == {"threshold": "damaged"}
    audits.make(request, functools.partial(threshold, score="hinge"))
    save(tmp_path, 3, noise=1)
    assert audits.current(request) is None
    assert of_folder(tmp_path).audits == {"threshold": "of other runs or code"}
    capsys.readouterr()
    assert main([str(tmp_path)]) == 3
    assert "threshold (of other runs or code)" in capsys.readouterr().out


def test_a_report_is_waited_for_once_parts_make_a_whole(tmp_path: Path) -> None:
    alone = f"once all {S} are asked for"
    for part, words in ((range(6), alone), (range(6, S), "not made yet")):
        plan(tmp_path, part, attack="threshold")
        assert of_folder(tmp_path).audits == {"threshold": words}
    assert of_folder(tmp_path).lacking == {}  # the runs are missing first
    for seed in range(S):
        save(tmp_path, seed)
    assert of_folder(tmp_path).lacking == {"threshold": "not made yet"}


def test_a_part_waits_for_its_report_unless_a_partial_one_is_there(tmp_path: Path) -> None:
    cell = store.Cell(tmp_path, NAME, S)
    plan(tmp_path, range(6), attack="threshold")
    for seed in range(6):
        save(tmp_path, seed)
    assert of_folder(tmp_path).waiting == ["threshold"]
    assert main([str(tmp_path)]) == 3
    request = audits.Request(cell, cell, heading(seeds=list(range(6)), num_planned=S))
    audits.make(request, functools.partial(threshold, score="hinge"))  # partial=true
    assert of_folder(tmp_path).waiting == []
    assert main([str(tmp_path)]) == 0


def test_a_report_of_fewer_models_than_asked_says_so(tmp_path: Path) -> None:
    cell = store.Cell(tmp_path, NAME, S)
    for seed in range(S):
        save(tmp_path, seed)
    few = list(range(6))
    for planned_models, words in ((6, "of 6 models"), (S, f"of 6 of {S} models")):
        asked = heading(seeds=few, num_planned=planned_models)
        request = audits.Request(cell, cell, asked)
        audits.make(request, functools.partial(threshold, score="hinge"))
        plan(tmp_path, range(S), attack="threshold")
        assert of_folder(tmp_path).audits == {"threshold": words}


def test_time_left_is_the_median_times_what_is_ahead_over_those_who_work(tmp_path: Path) -> None:
    now = 1_800_000_000.0
    plan(tmp_path, range(10))
    for seed, wall_s in enumerate((10.0, 20.0, 90.0)):
        save(tmp_path, seed, wall_s=wall_s)
    cell = of_folder(tmp_path)
    since = [time.strftime("%F %T", time.localtime(now - ago)) for ago in (5, 100)]
    for seed, ago, pid in ((3, since[0], 1), (4, since[1], 2)):
        who = Holder(pid, "a", ago)
        cell.runs[seed] = runs.Run(seed, False, None, None, None, who, None, False, 0)
    total = totals.of([cell], now)
    ahead = 5 * 20.0 + (20.0 - 5.0) + 0.0  # five not begun, one for 5 s, one for longer than usual
    assert total.left_s == pytest.approx(ahead / 2)
    assert "about 58s left (the median of finished runs, 2 workers now)" in text.in_words(total)
    unknown = cells.Cell("b", {}, [], None, 0, {}, asked={0, 1})
    total = totals.of([cell, unknown], now)
    assert (total.left_s, total.unknown) == (None, 2)
    assert "at least 58s left" in text.in_words(total)


def test_cells_are_told_apart_by_their_settings_and_commands_say_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    every = [f"a-digits-clean-{number}" for number in range(4)]
    for name, width in zip(every, (16, 32, 32, 64), strict=True):
        plan(tmp_path, range(2), name=name)
        lr = 0.1 if name == every[1] else 0.2
        described = f"model:\n  width: {width}\nmethod:\n  lr: {lr}\n"
        (tmp_path / name / settings.DESCRIPTION).write_text(described)
    (tmp_path / every[3] / settings.DESCRIPTION).write_text("a: &a [1]\nb: *a\n")
    plan(tmp_path, range(2), name="b-digits-clean-0")
    main([str(tmp_path)])
    header, *lines = capsys.readouterr().out.splitlines()
    told = {line.split()[0]: line[header.index("settings") :] for line in lines[:5]}
    assert told == {
        every[0]: "width=16 lr=0.2",
        every[1]: "width=32 lr=0.1",
        every[2]: "width=32 lr=0.2",
        every[3]: "",
        "b-digits-clean-0": "",
    }
    assert lines[5:-1] == ["go on with: python run.py -m"]  # once for all cells
    for name in every[:3]:
        for seed in range(2):
            save(tmp_path, seed, name=name)
    for name in (every[3], "b-digits-clean-0"):
        shutil.rmtree(tmp_path / name)
    main([str(tmp_path)])
    assert "go on" not in capsys.readouterr().out


def test_a_command_to_go_on_with_is_of_what_nobody_works_on(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    hold: Callable[[Path], subprocess.Popen[str]],
) -> None:
    def is_told() -> bool:
        main([str(tmp_path)])
        return "go on with: python run.py -m" in capsys.readouterr().out

    plan(tmp_path, range(S), attack="threshold")
    for seed in range(S - 1):
        save(tmp_path, seed)
    cell = tmp_path / NAME
    failures.note(cell / str(S - 1), "diverged")
    assert is_told()  # one failed
    for folder in (cell, cell / str(S - 1)):  # audited, trained
        worker = hold(folder)
        assert not is_told()
        worker.kill()
        worker.wait()
    save(tmp_path, S - 1)
    assert is_told()  # all are there, and not audited
    planned.forget(cell, "another command")
    assert is_told()
    planned.forget(cell, "python run.py -m")
    assert not is_told()


@pytest.mark.parametrize(
    "strange", ["2026-11-26", "!!set {a}", "!!binary YWI=", f"0x{'f' * 9000}", f"'{'a' * 100_000}'"]
)
def test_a_strange_description_names_no_cell_and_hides_none(strange: str, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        (tmp_path / f"a-{number}").mkdir()
        width = strange if number == 3 else number
        described = f"model: {{width: {width}}}\n"
        (tmp_path / f"a-{number}" / settings.DESCRIPTION).write_text(described)
    found, _ = cells.read(tmp_path)
    assert [cell.settings for cell in found] == ["width=1", "width=2", ""]


def test_one_worker_holds_a_run_and_its_teacher_s(tmp_path: Path) -> None:
    who = Holder(7, "a", "2026-01-01 00:00:00")
    both = [
        cells.Cell(
            n, {0: runs.Run(0, False, None, None, None, who, None, False, 0)}, [], None, 0, {}
        )
        for n in ("student", "teacher")
    ]
    assert totals.workers(both) == 1


def test_what_strangers_wrote_steers_no_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "cell\x1b[31m\u202e"
    failures.note(tmp_path / name / "0", "no\nway\x1b]0;title\x07")
    (tmp_path / name / "cell.yaml").touch()
    (tmp_path / name / "x\x1b[2J.json").write_text("[]")
    assert main([str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "no way" in printed
    controls = {c for c in printed if unicodedata.category(c) in ("Cc", "Cf")}
    assert controls == {"\n"}


def test_files_that_vouch_for_nonsense_do_not_hide_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def vouched_for(content: dict[str, Any], key: str) -> bytes:
        return json.dumps(content | {key: vouched.json_sha256(content)}).encode()

    save(tmp_path, 0)
    save(tmp_path, 1)
    plan(tmp_path, range(3), num_models=10**15, attack="lira")
    file = tmp_path / NAME / "1" / store.METRICS
    for stages in ([], {"fit": 3}, {"fit": {"wall_s": float("nan")}}, {"fit": {"wall_s": "1"}}):
        about = {"cell": NAME, "seed": 1, "stages": stages}
        file.write_bytes(vouched_for(about, "metrics_sha256"))
        assert of_folder(tmp_path).median_s == 2.0
        assert of_folder(tmp_path).done == [0, 1]
    for others in (
        {"accuracy_cell": []},
        {"attack_options": []},
        {"num_planned": "3"},
        {"seeds": 3},
    ):
        report = {**heading(**others), "files": {}, "inputs_sha256": "0"}
        report_file = tmp_path / NAME / "threshold.json"
        report_file.write_bytes(vouched_for(report, "report_sha256"))
        assert of_folder(tmp_path).audits["threshold"] != "up to date"
    assert main([str(tmp_path)]) == 3
    assert "2 done, 1 missing" in capsys.readouterr().out


@pytest.mark.parametrize("what", ["gone", "cell"])
def test_a_wrong_folder_is_one_line(what: str, tmp_path: Path) -> None:
    if what == "cell":
        (tmp_path / what).mkdir()
        (tmp_path / what / "cell.yaml").touch()
    with pytest.raises(ValueError, match=r"no such folder|is a cell: must be the folder above it"):
        main([str(tmp_path / what)])


def test_seeds_are_written_as_they_are_typed() -> None:
    assert text.ranges([7, 0, 1, 2, 9, 10]) == "0..2,7,9..10"
    assert text.ranges(range(1000)) == "0..999"
    assert [text.duration(s) for s in (5, 65, 3700, 90_000)] == ["5s", "1m05s", "1h01m", "1d01h"]
    assert [text.megabytes(n) for n in (9, 1500, 21_000_000, 4_000_000_000)] == [
        "9 B", "1.5 kB", "21 MB", "4.0 GB",
    ]  # fmt: skip


def played(printed: str) -> list[str]:
    """The screen of a terminal that knows just line ends, n lines up and clear to the end."""
    screen, row = [""], 0
    for piece in re.findall(r"\033\[\d*[A-Z]|\n|[^\n\033]+", printed):
        if piece == "\n":
            row += 1
            screen += [""] * (row + 1 - len(screen))
        elif piece.endswith("F") and piece.startswith("\033"):
            row -= int(piece[2:-1])
            assert row >= 0
        elif piece == "\033[J":
            screen[row:] = [""]
        else:
            screen[row] = piece
    return screen


def test_a_watched_screen_is_drawn_in_place(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((20, 8)))
    screen = _Screen()
    for lines in (["a", "b", "c"], ["d"], [*map(str, range(50)), "x" * 50, "last"]):
        screen.show(lines)
    *shown, end = played(capsys.readouterr().out)
    assert end == ""
    assert shown == ["0", "1", "2", "3", "4", "... 46 more lines", "last"]
    assert len(shown) + 1 <= 8


def test_a_watch_ends_when_all_is_there_and_on_ctrl_c(tmp_path: Path) -> None:
    plan(tmp_path, range(2))
    save(tmp_path, 0)
    command = [sys.executable, "-m", "synpriv.status", str(tmp_path), "--watch", "0.1"]
    started = [
        subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for process in started:
        assert process.stdout is not None
        assert "total: 1 done, 1 missing" in process.stdout.readline()
    started[0].send_signal(signal.SIGINT)
    assert started[0].wait(20) == 130
    assert started[0].communicate()[1] == ""
    save(tmp_path, 1)
    out, err = started[1].communicate(timeout=20)
    assert (started[1].returncode, err) == (0, "")
    assert out.splitlines()[-1].endswith("2 done; " + text.megabytes(of_folder(tmp_path).num_bytes))


def test_nothing_heavy_is_imported(tmp_path: Path) -> None:
    plan(tmp_path, range(2))
    save(tmp_path, 0)
    code = (
        "import sys; from synpriv.status.__main__ import main; main([sys.argv[1]]); "
        "print({'torch', 'scipy', 'hydra', 'omegaconf', 'matplotlib', 'pandas'} & {*sys.modules})"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\nset()\n")


def lasting(wall_s: float) -> str:
    """metrics.json of seed 2, which vouches for itself."""
    content = {"cell": NAME, "seed": 2, "stages": {"fit": {"wall_s": wall_s}}}
    return json.dumps(content | {"metrics_sha256": vouched.json_sha256(content)})


DEEP = "[" * 100_000
FOREVER = {"pid": 1e999, "host": "a", "since": "2026-01-01 00:00:00"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (locks.HOLDER, json.dumps(FOREVER)),
        (locks.HOLDER, DEEP),
        (failures.FAILURE, DEEP),
        (failures.FAILURE, json.dumps({"reason": "a", "at": 10**400, "host": "a"})),
        (store.METRICS, DEEP),
        (store.METRICS, lasting(10**400)),
        (store.METRICS, lasting(1e308)),
    ],
)
def test_a_strange_file_does_not_hide_the_rest(
    name: str, content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(2):
        save(tmp_path, seed)
    plan(tmp_path, range(40))
    folder = tmp_path / NAME / "2"
    folder.mkdir()
    (folder / locks.LOCK).touch()
    (folder / name).write_text(content)
    assert main([str(tmp_path)]) in (1, 3)
    assert re.search("total: [23] done, (1 damaged, )?3[78] missing;", capsys.readouterr().out)
    assert locks._holder(folder) == "another process"  # what who waits for it is told


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize(
    "name",
    [
        f"1/{failures.FAILURE}", f"1/{locks.HOLDER}", f"1/{locks.LOCK}", f"0/{store.EVIDENCE}",
        f"1/{store.METRICS}", "lira.json", f"{planned.PREFIX}x.json", locks.HOLDER,
    ],
)  # fmt: skip
def test_a_pipe_keeps_nobody_waiting(name: str, linked: bool, tmp_path: Path) -> None:
    def too_long(*_: object) -> None:
        raise AssertionError("it waits for a pipe")

    save(tmp_path, 0)
    for folder in (tmp_path / NAME, tmp_path / NAME / "1"):
        folder.mkdir(exist_ok=True)
        for file in (locks.LOCK, locks.HOLDER):
            (folder / file).write_text(json.dumps(FOREVER | {"pid": 1}))
    pipe = tmp_path / NAME / name
    pipe.unlink(missing_ok=True)
    os.mkfifo(tmp_path / "pipe" if linked else pipe)
    if linked:
        pipe.symlink_to(tmp_path / "pipe")
    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(10)
    try:
        main([str(tmp_path)])
        assert locks._holder(pipe.parent)
    finally:
        signal.alarm(0)


def test_what_was_begun_and_not_asked_for_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan(tmp_path, range(2))
    for seed in range(2):
        save(tmp_path, seed)
    assert main([str(tmp_path)]) == 0
    (tmp_path / NAME / "9").mkdir()
    single = tmp_path / "single-0"
    (single / "3").mkdir(parents=True)
    (single / "cell.yaml").touch()
    capsys.readouterr()
    assert main([str(tmp_path)]) == 3
    printed = capsys.readouterr().out
    assert re.search(rf"BEGUN 2 x not trained, .*\(single-0: 3; {NAME}: 9\)", printed)
    assert "total: 2 done, 2 begun; " in printed


def test_what_may_not_be_read_is_named_and_the_rest_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(3):
        save(tmp_path, seed)
    shut = [
        tmp_path / NAME / "1",
        tmp_path / "shut",
        tmp_path / NAME / "0" / "logs",
        tmp_path / NAME / "logs",
    ]
    for folder in shut:
        folder.mkdir(exist_ok=True, parents=True)
    real = os.scandir

    def scandir(folder: Any) -> Any:  # chmod would not keep root out
        if Path(folder) in shut:
            raise PermissionError(13, "Permission denied", str(folder))
        return real(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    assert main([str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert f"note: {shut[1]} cannot be read (PermissionError: " in printed
    assert f"DAMAGED 1 x {shut[0]} cannot be read (PermissionError: " in printed
    assert "total: 2 done, 1 damaged, 1 unreadable; " in printed


@pytest.mark.parametrize("content", ["", '{"seeds": [0], "num_mo', DEEP, "[]"])
def test_a_damaged_plan_is_no_reason_to_say_all_is_there_and_is_written_anew(
    content: str, tmp_path: Path
) -> None:
    save(tmp_path, 0)
    plan(tmp_path, range(2))
    (file,) = (tmp_path / NAME).glob(f"{planned.PREFIX}*")
    whole = file.read_bytes()
    file.write_text(content)
    assert main([str(tmp_path)]) == 1
    plan(tmp_path, range(2))
    assert file.read_bytes() == whole
    assert main([str(tmp_path)]) == 3
