"""Somebody's program: what goes in and comes out, what it says, and that nothing of it is left."""

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from synpriv.methods.external import program

ARRAYS = {"labels": np.arange(3)}


def run(script: str, *, timeout_s: float = 30) -> object:
    """A shell script as the program; $0 is {input}, $1 {output}, $2 {seed}."""
    command = ["sh", "-c", script, "{input}", "{output}", "{seed}"]
    return program.run(
        command, ARRAYS, values={"seed": "17"}, timeout_s=timeout_s, read=Path.read_text
    )


def test_a_program_finds_the_arrays_and_its_file_is_read(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    copied = f"""{sys.executable} -c 'import sys, numpy as np
print(np.load(sys.argv[1])["labels"].tolist())' $0; echo "seed $2" > $1"""
    assert run(copied) == "seed 17\n"
    assert "[0, 1, 2]" in caplog.messages


def test_a_long_last_line_is_cut_in_the_error() -> None:
    with pytest.raises(ValueError, match=r"it said last: (xy){100}\.\.\. \(run\.log"):
        run("yes xy | head -n 300 | tr -d '\\n'; exit 1")


def test_a_leading_tilde_is_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "made").write_text("at home")
    command = ["cp", "~/made", "{output}"]
    made = program.run(command, ARRAYS, values={}, timeout_s=30, read=Path.read_text)
    assert made == "at home"


def test_placeholders_are_filled_in_and_other_braces_stay() -> None:
    values = {"input": "a {seed}", "seed": "3"}
    assert program.fill("--x={input}:{seed}{}{other}", values) == "--x=a {seed}:3{}{other}"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo one; echo two; exit 3", r"exit code 3; it said last: two \(run\.log has all of it"),
        ("exit 1", r"exit code 1 \(run\.log"),
        ("kill -9 $$", "ended by SIGKILL, out of memory"),
        ("true", "wrote no file to {output}"),
        ("exec 1>&- 2>&-; sleep 0.2; exit 4", "exit code 4"),
    ],
)
def test_a_program_that_fails_is_one_line(script: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^method.command: {message}"):
        run(script)


def test_a_program_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    started = tmp_path / "pids"
    with pytest.raises(ValueError, match=r"still running after method\.timeout_s=0\.5 seconds"):
        run(f"sleep 100 & echo $! $$ > {started}; wait", timeout_s=0.5)
    assert_gone(started.read_text().split())


def assert_gone(pids: list[str]) -> None:
    last = time.monotonic() + 20
    while living := [pid for pid in pids if is_running(int(pid))]:
        assert time.monotonic() < last, living
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_program_dies_with_the_process_that_runs_it(number: int, tmp_path: Path) -> None:
    started, temporary = tmp_path / "pids", tmp_path / "tmp"
    temporary.mkdir()
    script = f"sleep 100 & echo $! $$ > {started}.new; mv {started}.new {started}; wait"
    code = (
        "import numpy as np; from pathlib import Path; from synpriv.methods.external import program"
        f"; program.run(['sh', '-c', {script!r}], {{}}, values={{}}, timeout_s=60, read=print)"
    )
    environment = os.environ | {"TMPDIR": str(temporary)}
    running = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment)
    while not started.exists():
        assert running.poll() is None
        time.sleep(0.05)
    running.send_signal(number)
    running.wait(timeout=20)
    assert_gone(started.read_text().split())
    last = time.monotonic() + 20
    while list(temporary.iterdir()):
        assert time.monotonic() < last
        time.sleep(0.05)


def test_of_a_program_that_prints_a_lot_the_ends_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    said = list[str]()  # caplog would print all of it where the test fails
    monkeypatch.setattr(program.log, "info", lambda form, text: said.append(form % text))
    lots = "yes yes | head -c 20000000; head -c 3000000 /dev/zero"
    run(f"echo first; {lots}; echo; echo last; echo > $1")
    assert (said[0], said[-1]) == ("first", "last")
    assert sum(map(len, said)) < 2 * (program.HEAD + program.TAIL)
    (left_out,) = [line for line in said if "bytes left out" in line]
    assert 22_900_000 < int(left_out.split()[1].replace(",", "")) < 23_000_000


def test_what_a_program_says_steers_no_terminal(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    run(r"printf '\033[2Jhi\377\n'; echo > $1")
    assert caplog.messages == ["\\x1b[2Jhi\N{REPLACEMENT CHARACTER}"]
