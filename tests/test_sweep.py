"""Whole sweeps as users start them: killed, interrupted, started twice, on a full disk, resumed."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import RunPy
from hydra.core.utils import JobReturn, JobStatus

from hydra_plugins.synpriv import _batch, _failures, _worker, pool
from synpriv import interrupts
from synpriv.results import locks, store

Start = Callable[..., subprocess.Popen[str]]
TINY = [
    "dataset.num_train=300",
    "dataset.num_canaries=40",
    "model.width=8",
    "logger=none",
    "accuracy_models=0",
    "trainer=cpu",
    "hydra.launcher.num_workers=2",
]
DISTILL = [
    *TINY,
    *("method=distill", "attack=lira", "num_models=6"),
    *("method.num_iterations=40", "method.images_per_class=2", "method.embedder.width=8"),
    *("method.student.num_epochs=5", "method.student.warmup_epochs=0"),
    *("-m", "seed=0..5"),
]
UNDEFENDED = [
    *TINY,
    *("attack=threshold", "num_models=4", "method.num_epochs=1", "method.warmup_epochs=0"),
]
TIMEOUT = 400


def without_times(value: Any) -> Any:
    """A report without seconds and memory, which no two runs share, and the checksum of all."""
    if isinstance(value, dict):
        left_out = ("_s", "_mb", "report_sha256")
        return {k: without_times(v) for k, v in value.items() if not k.endswith(left_out)}
    return value


def report(results: Path, attack: str = "lira") -> Any:
    (file,) = results.glob(f"*/{attack}.json")
    return without_times(json.loads(file.read_text()))


def evidence(results: Path) -> dict[str, bytes]:
    files = results.glob(f"*/*/{store.EVIDENCE}")
    return {str(file.relative_to(results)): file.read_bytes() for file in files}


def files(results: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of all evidence and metrics: what training again changes."""
    found = [*results.rglob(store.EVIDENCE), *results.rglob(store.METRICS)]
    return {str(f): (f.stat().st_ino, f.stat().st_mtime_ns) for f in found}


def until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


def processes(group: int) -> dict[int, str]:
    """Command lines of the living processes in a process group."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[2]) == group and fields[0] != "Z":
                found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:  # it ended meanwhile
            continue
    return found


def workers_of(group: int) -> list[int]:
    """The workers of a sweep that leads a process group."""
    return [pid for pid, line in processes(group).items() if "spawn_main" in line]


def all_gone(group: int, within_s: float = 10) -> bool:
    end = time.monotonic() + within_s
    while processes(group):
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


@pytest.fixture
def begin(start_py: Start) -> Iterator[Start]:
    """`start_py`, with whatever is left of it killed at the end of the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*args: str) -> subprocess.Popen[str]:
        started.append(start_py(*args))
        return started[-1]

    yield start
    for process in started:
        for pid in processes(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture(scope="module")
def whole(run_py: RunPy, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """An uninterrupted sweep: its results folder and what it printed."""
    results = tmp_path_factory.mktemp("whole") / "r (1),ü=x" / "it's [here]"
    done = run_py(*DISTILL, f"results={results}", timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    return results, done.stdout


@pytest.mark.slow
def test_the_card_s_command_ends_with_a_table_and_a_picture(whole: tuple[Path, str]) -> None:
    results, printed = whole
    assert "jobs: 6, CPU workers: 2" in printed
    assert "TPR@1%FPR [95%]" in printed
    assert re.search(r"^distill_dm +0\.\d{3} ± 0\.\d{3} ", printed, re.MULTILINE)
    (picture,) = results.glob("*/lira.png")
    assert str(picture) in printed
    assert report(results)["num_models"] == 6
    assert report(results)["cell"] == picture.parent.name
    assert [path.name for path in results.parents[1].iterdir()] == ["r (1),ü=x"]  # as it was named
    assert len(evidence(results)) == 6
    assert not list(results.rglob("*.tmp"))


@pytest.mark.slow
def test_a_finished_sweep_is_reported_and_swept_up_and_no_more(
    whole: tuple[Path, str], run_py: RunPy
) -> None:
    results, printed = whole
    before = files(results)
    (cell,) = results.glob("distill_dm-*")
    dead = subprocess.Popen(["true"])
    dead.wait()
    left = [
        at / f".x.{locks.host()}.{dead.pid}.tmp" for at in (results, cell, cell / "0", cell / "1")
    ]
    for file in left:
        file.write_bytes(b"half")
        os.utime(file, (time.time() - 3600,) * 2)
    done = run_py(*DISTILL, f"results={results}", timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    assert files(results) == before
    assert "6 of 6 shadow models are there already" in done.stdout
    assert done.stdout.partition("\n\n")[2] == printed.partition("\n\n")[2]  # the same table
    assert not any(file.exists() for file in left)


@pytest.fixture
def read_only(whole: tuple[Path, str], tmp_path: Path) -> Iterator[Path]:
    """The finished sweep's results where nothing can be written."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    commands = [
        ["mount", "--bind", str(whole[0]), str(folder)],
        ["mount", "-o", "remount,ro,bind", str(folder)],
    ]
    for command in commands:
        try:
            done = subprocess.run(command, capture_output=True, check=False)
        except FileNotFoundError:
            pytest.skip("no mount program")
        if done.returncode != 0:
            pytest.skip("may not mount here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.slow
def test_a_read_only_sweep_shows_its_table_and_is_attacked_into_a_folder_of_one_s_own(
    read_only: Path, whole: tuple[Path, str], run_py: RunPy, tmp_path: Path
) -> None:
    done = run_py(*DISTILL, f"results={read_only}", timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    (row,) = [line for line in done.stdout.splitlines() if line.startswith("distill_dm ")]
    assert row in whole[1]
    attack = [word.replace("attack=lira", "attack=threshold") for word in DISTILL]
    refused = run_py(*attack, f"results={read_only}", timeout=TIMEOUT)
    assert refused.returncode == 1
    assert "Read-only file system; reports=DIR writes it elsewhere" in refused.stdout
    assert refused.stderr.count("\n") == 1
    mine = tmp_path / "mine"
    done = run_py(*attack, f"results={read_only}", f"reports={mine}", timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    assert report(mine, "threshold")["num_models"] == 6
    assert not list(whole[0].glob("*/threshold.json"))
    again = run_py(*attack, f"results={read_only}", f"reports={mine}", timeout=TIMEOUT)
    assert again.stdout == done.stdout


@pytest.mark.slow
def test_a_killed_worker_fails_its_job_only(
    whole: tuple[Path, str], begin: Start, run_py: RunPy, tmp_path: Path
) -> None:
    sweep = begin(*DISTILL, f"results={tmp_path}")
    until(lambda: len(list(tmp_path.glob("*/*/run.log"))) >= 2, sweep)  # both are in a job
    workers = workers_of(sweep.pid)
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    printed, error = sweep.communicate(timeout=TIMEOUT)
    assert sweep.returncode == 1
    assert printed.count("FAILED") == 1
    assert re.search(
        r"^FAILED 1 x its worker died \(SIGKILL.*\n  .*seed=[01] [^|]*$", printed, re.M
    )
    assert "5 of 6 shadow models are there" in printed
    assert error.count("\n") == 1
    assert error.startswith("error: 1 of 6 jobs failed")
    assert len(evidence(tmp_path)) == 5
    assert all_gone(sweep.pid)

    healed = run_py(*DISTILL, f"results={tmp_path}", timeout=TIMEOUT)
    assert healed.returncode == 0, healed.stderr
    assert "5 of 6 shadow models are there already" in healed.stdout
    assert evidence(tmp_path) == evidence(whole[0])
    assert report(tmp_path) == report(whole[0])


@pytest.mark.slow
def test_an_interrupted_and_a_killed_sweep_continue_to_the_same_report(
    whole: tuple[Path, str], begin: Start, run_py: RunPy, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def done() -> int:
        return len(list(tmp_path.glob(f"*/*/{store.METRICS}")))

    # Ctrl-C: the terminal sends SIGINT to the whole group.
    first = begin(*DISTILL, f"results={tmp_path}")
    until(lambda: done() >= 1, first)
    os.killpg(first.pid, signal.SIGINT)
    _, error = first.communicate(timeout=30)
    assert first.returncode == 130
    assert "Traceback" not in error
    assert error.splitlines()[-1].startswith("interrupted: finished runs are kept")
    assert error.count("\n") == 1
    assert all_gone(first.pid)
    assert not list(tmp_path.rglob("*.tmp"))
    kept = files(tmp_path)
    assert 1 <= done() < 6

    # SIGKILL of the parent alone: its workers must go by themselves, and tidy up for it.
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    second = begin(*DISTILL, f"results={tmp_path}")
    before = done()
    until(lambda: done() > before, second)
    os.kill(second.pid, signal.SIGKILL)
    assert all_gone(second.pid)
    assert not list(tmp_path.glob("synpriv-slots-*"))
    second.communicate()

    third = run_py(*DISTILL, f"results={tmp_path}", timeout=TIMEOUT)
    assert third.returncode == 0, third.stderr
    assert {name: files(tmp_path)[name] for name in kept if name.endswith("json")} == {
        name: kept[name] for name in kept if name.endswith("json")
    }
    assert not list(tmp_path.rglob("*.tmp"))
    assert evidence(tmp_path) == evidence(whole[0])
    assert report(tmp_path) == report(whole[0])


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("after_s", [0.3, 1.0, 3.0])
def test_a_signal_at_any_early_moment_is_one_line(
    begin: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    number: int, code: int, after_s: float,
) -> None:  # fmt: skip
    # Workers that were still importing printed their tracebacks.
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    sweep = begin(*DISTILL, f"results={tmp_path / 'r'}")
    time.sleep(after_s)  # whichever moment of the start this is
    os.killpg(sweep.pid, number)
    _, error = sweep.communicate(timeout=60)
    assert sweep.returncode == code
    assert error == f"{interrupts.LINE}\n"
    assert all_gone(sweep.pid)
    assert not list(tmp_path.glob("synpriv-slots-*"))


@pytest.mark.slow
@pytest.mark.parametrize("alone", [False, True])
def test_sigterm_to_the_parent_ends_all_as_ctrl_c_does(
    begin: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: bool
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    command = ["method.num_epochs=5000", "-m", "seed=0..3"][: 1 if alone else 3]
    command = [*(w for w in UNDEFENDED if not w.startswith("method.num_epochs")), *command]
    run = begin(*command, f"results={tmp_path / 'r'}")
    log = "not trained yet, training"
    until(lambda: any(log in f.read_text() for f in tmp_path.glob("r/*/*/run.log")), run)
    os.kill(run.pid, signal.SIGTERM)
    _, error = run.communicate(timeout=60)
    assert run.returncode == 143
    assert error == f"{interrupts.LINE}\n"
    assert all_gone(run.pid)
    assert not list(tmp_path.glob("synpriv-slots-*"))
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.slow
def test_two_sweeps_at_once_share_a_cell(begin: Start, tmp_path: Path) -> None:
    sweeps = [begin(*UNDEFENDED, f"results={tmp_path}", "-m", "seed=0..3") for _ in range(2)]
    outputs = [sweep.communicate(timeout=TIMEOUT) for sweep in sweeps]
    assert [sweep.returncode for sweep in sweeps] == [0, 0], outputs
    for printed, error in outputs:
        assert error == ""
        assert "TPR@1%FPR [95%]" in printed
    (folder,) = tmp_path.glob("undefended-*")
    cell = store.Cell(tmp_path, folder.name, 4)
    assert [cell.problem(seed) for seed in range(4)] == [None] * 4
    for seed in range(4):  # each was trained by one of the two
        assert (cell.run(seed) / "run.log").read_text().count("not trained yet, training") == 1
    assert report(tmp_path, "threshold")["num_models"] == 4
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that is full after the first few shadow models."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        mount = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)],
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("no mount program")
    if mount.returncode != 0:
        pytest.skip("may not mount a small disk here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def changed(override: str) -> list[str]:
    """UNDEFENDED with another value of one key."""
    key = override.partition("=")[0]
    return [override if word.startswith(f"{key}=") else word for word in UNDEFENDED]


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_keeps_what_is_finished(
    small_disk: Path, run_py: RunPy
) -> None:
    done = run_py(
        *changed("model.width=16"), f"results={small_disk}", "-m", "seed=0..3", timeout=TIMEOUT
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr + done.stdout
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")
    assert "No space left on device" in done.stdout + done.stderr
    (folder,) = small_disk.glob("undefended-*")
    cell = store.Cell(small_disk, folder.name, 4)
    finished = cell.trained()
    assert 1 <= len(finished) < 4
    assert [cell.problem(seed) for seed in finished] == [None] * len(finished)


@pytest.mark.slow
def test_a_full_disk_in_a_single_run_is_one_line(small_disk: Path, run_py: RunPy) -> None:
    (small_disk / "ballast").write_bytes(b"0" * 290 * 1024)
    done = run_py(*UNDEFENDED, f"results={small_disk}", timeout=TIMEOUT)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert "No space left on device" in done.stderr


@pytest.mark.slow
def test_jobs_that_fail_alike_are_reported_in_one_line(run_py: RunPy, tmp_path: Path) -> None:
    done = run_py(
        *changed("method.num_epochs=abc"), f"results={tmp_path}", "-m", "seed=0..3",
        timeout=TIMEOUT,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stderr.count("\n") == 1
    assert (done.stdout + done.stderr).count("method.num_epochs='abc': must be an integer") == 1


@pytest.mark.parametrize(
    "argument",
    ["hydra.launcher.num_workers=0", "hydra.launcher.jobs_per_device=0", "num_models=3,5"],
)
def test_a_sweep_that_cannot_run_stops_before_its_first_job(
    argument: str, run_py: RunPy, tmp_path: Path
) -> None:
    done = run_py(argument, f"results={tmp_path / 'r'}", "logger=none", "-m", "seed=0..3")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert "must be" in done.stderr
    assert list(tmp_path.iterdir()) == []


def job(words: str, error: Exception | None = None) -> JobReturn:
    if error is not None:
        return _worker.failed(words.split(), str(error))
    return JobReturn(overrides=words.split(), status=JobStatus.COMPLETED)


def test_failures_are_grouped_by_reason() -> None:
    failed = [job(f"seed={seed}", ValueError("no")) for seed in range(9)]
    failed.append(job("seed=9", ValueError("other")))
    assert _failures.listed(failed).splitlines() == [
        "FAILED 9 x no",
        "  seed=0 | seed=1 | seed=2 | seed=3 | seed=4 | seed=5  (+3 more)",
        "FAILED 1 x other",
        "  seed=9",
    ]


def test_the_last_line_of_a_sweep_that_failed_fast_counts_what_was_left_out() -> None:
    some = [job("seed=1", ValueError("no")), _worker.not_run(["seed=2"]), _worker.not_run([])]
    assert _failures.in_short(some, 16).startswith(
        "1 of 16 jobs failed, 2 were not run (hydra.launcher.fail_fast=true), see above; once"
    )
    assert _failures.in_short(some[:1], 16).startswith("1 of 16 jobs failed, see above; once")
    assert _failures.in_short(some[:1], 0).startswith("1 audits failed, see above; once")


def test_a_batch_after_the_first_failure_is_left_out() -> None:
    launcher = pool.PoolLauncher(fail_fast=True)
    launcher._stopped = True
    (result,) = launcher.launch([["seed=0"]], 0)
    assert isinstance(result._return_value, _worker.NotRun)


def test_progress_tells_the_time_that_is_left() -> None:
    progress = _batch.Progress([[]] * 10)
    assert progress.line(0, 0, 3.0) == "0/10 jobs, 3s elapsed, ETA ?"
    assert progress.line(4, 0, 60.0) == "4/10 jobs, 1m00s elapsed, ETA 1m30s"
    assert progress.line(5, 2, 7200.0) == "5/10 jobs, 2 failed, 2h00m elapsed, ETA 2h00m"


def test_a_slot_is_taken_once_and_freed_with_its_holder(tmp_path: Path) -> None:
    first, gpu = _worker._take_slot(["0", "1"], str(tmp_path))
    second, other = _worker._take_slot(["0", "1"], str(tmp_path))
    assert (gpu, other) == ("0", "1")
    first.release()
    third, again = _worker._take_slot(["0", "1"], str(tmp_path))
    assert again == "0"
    second.release()
    third.release()
