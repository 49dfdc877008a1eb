"""Who holds a folder, who waits for it, and what the killed have left."""

import json
import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from synpriv.results import locks
from synpriv.results.store import Cell

HOST = locks.host()


@pytest.fixture(scope="module")
def dead() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds seed 1 of a cell until its input ends."""
    body = f"""
        import sys
        from pathlib import Path
        from synpriv.results.store import Cell
        with Cell(Path({str(tmp_path)!r}), "cell", 4).lock(1):
            print("held", flush=True)
            sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(body)]
    process = subprocess.Popen(command, stdin=-1, stdout=-1, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def old(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"half")
    os.utime(file, (time.time() - 3600,) * 2)
    return file


def test_whoever_waits_is_told_for_whom_once(
    holder: subprocess.Popen[str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(locks, "_SILENT_S", 0.05)
    cell = Cell(tmp_path, "cell", 4)
    assert holder.stdin is not None
    said = threading.Event()

    class Told(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.set()

    told = Told()
    locks.log.addHandler(told)

    def let_go() -> None:
        said.wait(20)
        assert holder.stdin is not None
        holder.stdin.close()

    thread = threading.Thread(target=let_go)
    thread.start()
    with cell.lock(1):
        pass
    thread.join()
    locks.log.removeHandler(told)
    (line,) = caplog.messages
    host = os.uname().nodename
    start = f"waiting for seed 1 of cell: process {holder.pid} on {host}, since 20"
    assert line.startswith(start), line
    caplog.clear()
    with cell.lock(1):  # nobody to wait for
        assert not caplog.messages


def test_a_killed_holder_s_word_is_not_taken_for_its_lock(
    holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    holder.kill()
    holder.wait()
    run = Cell(tmp_path, "cell", 4).run(1)
    assert (run / locks.HOLDER).is_file()
    with Cell(tmp_path, "cell", 4).lock(1):
        assert f'"pid": {os.getpid()}' in (run / locks.HOLDER).read_text()
    assert sorted(f.name for f in run.iterdir()) == [locks.LOCK]


def test_a_holder_without_a_word_is_another_process(tmp_path: Path) -> None:
    assert locks._holder(tmp_path) == "another process"
    (tmp_path / locks.HOLDER).write_text('{"pid": 1')  # it is just being written
    assert locks._holder(tmp_path) == "another process"


def test_a_foreign_temporary_file_blocks_no_run_and_stays(tmp_path: Path, dead: int) -> None:
    # `invalid literal for int()` blocked the run for good.
    cell = Cell(tmp_path, "cell", 4)
    names = [".tmp", ".x.tmp", ".x.y.tmp", f".{dead}.tmp", f".x.h.{dead}.y.tmp", ".x.h.-1.tmp"]
    names.append(f".x.{HOST}.99999999999999999999.tmp")  # no process lives by it, but ours
    foreign = [old(cell.run(1) / name) for name in names]
    with cell.lock(1):
        pass
    locks.sweep_up_all(tmp_path)
    assert [file.name for file in foreign if file.exists()] == names[:-1]


def test_what_killed_writers_left_goes_wherever_it_lies(tmp_path: Path, dead: int) -> None:
    places = [tmp_path, tmp_path / "cell", tmp_path / "teacher" / "3", tmp_path / "public" / "0"]
    left = [old(place / f".multirun.yaml.{HOST}.{dead}.tmp") for place in places]
    alive = old(tmp_path / f".multirun.yaml.{HOST}.{os.getpid()}.tmp")
    recent = tmp_path / "cell" / f".cell.yaml.{HOST}.{dead}.tmp"  # perhaps still needed
    recent.write_bytes(b"half")
    locks.sweep_up_all(tmp_path)
    assert not any(file.exists() for file in left)
    assert alive.exists()
    assert recent.exists()


def test_a_writer_elsewhere_is_not_asked_here_whether_it_lives(tmp_path: Path, dead: int) -> None:
    run = Cell(tmp_path, "cell", 4).run(1)
    long_ago = old(run / f".evidence.npz.node7.{os.getpid()}.tmp")  # a number that lives here
    os.utime(long_ago, (time.time() - 7200,) * 2)
    recent = old(run / f".metrics.json.node7.{dead}.tmp")  # a number that is dead here
    os.utime(recent, (time.time() - 600,) * 2)
    with Cell(tmp_path, "cell", 4).lock(1):
        assert not long_ago.exists()
        assert recent.exists()
    assert locks.temporary(run / "x").name == f".x.{HOST}.{os.getpid()}.tmp"
    assert locks._TEMPORARY.fullmatch(f".a.b.c.{HOST}.7.tmp").groups() == ("a.b.c", HOST, "7")


def test_a_folder_that_somebody_works_on_is_not_swept_from_outside(
    holder: subprocess.Popen[str], tmp_path: Path, dead: int
) -> None:
    left = old(Cell(tmp_path, "cell", 4).run(1) / f".evidence.npz.{HOST}.{dead}.tmp")
    locks.sweep_up_all(tmp_path)
    assert left.exists()
    holder.kill()
    holder.wait()
    locks.sweep_up_all(tmp_path)
    assert not left.exists()


def test_the_holder_is_never_written_through_a_link(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    folder = tmp_path / "cell"
    folder.mkdir()
    (folder / locks.HOLDER).symlink_to(precious)
    with locks.held(folder, "it"):
        assert json.loads((folder / locks.HOLDER).read_text())["pid"] == os.getpid()
    assert precious.read_text() == "mine"


def test_what_the_holder_s_file_says_does_not_steer_the_terminal(tmp_path: Path) -> None:
    about = {"pid": 1, "host": "\x1b]0;pwn\x07 evil\nline two", "since": "now"}
    (tmp_path / locks.HOLDER).write_text(json.dumps(about))
    assert locks._holder(tmp_path).isprintable()


def test_a_folder_that_is_called_like_a_temporary_file_is_nobody_s_business(tmp_path: Path) -> None:
    folder = tmp_path / ".q.999999998.tmp"
    folder.mkdir()
    with locks.held(tmp_path, "it"):
        pass
    assert folder.is_dir()
