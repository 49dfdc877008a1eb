"""Ctrl-C and SIGTERM: one line, the shell's exit code, nothing half tidied up."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from synpriv import interrupts

ROOT = Path(__file__).parents[1]
SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
every_signal = pytest.mark.parametrize(("number", "code"), SIGNALS)


def started(command: list[str], **env: str) -> subprocess.Popen[str]:
    """A process that has printed `ready`."""
    process = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | env, stdout=-1, stderr=-1, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate()
    return process


def script(body: str) -> list[str]:
    head = "import subprocess, sys, threading, time\nfrom synpriv import cli, interrupts\n"
    return [sys.executable, "-c", head + textwrap.dedent(body)]


@every_signal
def test_sigterm_ends_a_command_as_ctrl_c_does(number: int, code: int) -> None:
    process = started(
        script("""
            def main():
                try:
                    print("ready", flush=True)
                    time.sleep(60)
                finally:
                    print("tidied up")
            cli.call(main)
        """)
    )
    process.send_signal(number)
    out, error = process.communicate(timeout=30)
    assert process.returncode == code
    assert error == f"{interrupts.LINE}\n"
    assert out == "tidied up\n"


def test_a_signal_that_is_sent_twice_does_not_interrupt_the_tidying_up() -> None:
    # `timeout` signals its child and then the child's whole process group.
    process = started(
        script("""
            def main():
                try:
                    print("ready", flush=True)
                    time.sleep(60)
                finally:
                    os.kill(os.getpid(), signal.SIGTERM)
                    time.sleep(0.1)
                    print("tidied up")
            import os, signal
            cli.call(main)
        """)
    )
    process.terminate()
    out, error = process.communicate(timeout=30)
    assert (process.returncode, out, error) == (143, "tidied up\n", f"{interrupts.LINE}\n")


@every_signal
def test_a_signal_while_run_py_still_imports_is_one_line(
    number: int, code: int, tmp_path: Path
) -> None:
    (tmp_path / "hydra.py").write_text(
        "import time\nprint('ready', flush=True)\ntime.sleep(60)\n", "utf-8"
    )
    process = started([sys.executable, "run.py"], PYTHONPATH=str(tmp_path))
    process.send_signal(number)
    out, error = process.communicate(timeout=30)
    assert (process.returncode, out, error) == (code, "", f"{interrupts.LINE}\n")


def test_a_signal_during_a_later_import_is_not_raised_into_it(tmp_path: Path) -> None:
    # Out of an import that C++ had begun it aborted the process, with a traceback.
    (tmp_path / "slow.py").write_text(
        """
import time
print("ready", flush=True)
try:
    time.sleep(60)
finally:
    print("raised")
"""
    )
    command = script("""
        def main():
            import slow
        cli.call(main)
    """)
    process = started(command, PYTHONPATH=str(tmp_path))
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=30)
    assert (process.returncode, out, error) == (130, "", f"{interrupts.LINE}\n")


def test_a_background_job_of_a_script_stays_deaf_to_ctrl_c(tmp_path: Path) -> None:
    command = script("""
        def main():
            print("ready", flush=True)
            sys.stdin.readline()
        cli.call(main)
    """)
    process = subprocess.Popen(
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command],
        cwd=ROOT, stdin=-1, stdout=-1, stderr=-1, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, error = process.communicate("go on\n", timeout=30)
    assert (process.returncode, error) == (0, "")


@pytest.fixture
def heard() -> Iterator[list[int]]:
    """Signals that this process has handled."""
    came: list[int] = []
    before = {n: signal.signal(n, lambda number, _: came.append(number)) for n, _ in SIGNALS}
    yield came
    for number, handler in before.items():
        signal.signal(number, handler)


def test_processes_begun_deaf_hear_no_ctrl_c_also_those_that_a_thread_begins_later(
    heard: list[int],
) -> None:
    done = subprocess.run(
        script("""
            blocked = [sys.executable, "-c",
                "import signal; print(sorted(map(int, signal.pthread_sigmask(0, []))), flush=True)"]
            later = threading.Event()
            def begin():
                later.wait()
                subprocess.run(blocked)
            with interrupts.deaf_children():
                thread = threading.Thread(target=begin)
                thread.start()
                subprocess.run(blocked)
            later.set()
            thread.join()
            subprocess.run(blocked)
        """),
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    deaf = [int(number) for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)]
    assert done.stdout.split("\n")[:3] == [str(sorted(deaf)), str(sorted(deaf)), "[]"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_until_children_have_started(heard: list[int], number: int) -> None:
    with interrupts.deaf_children():
        os.kill(os.getpid(), number)
        assert heard == []
    assert heard == [number]


@every_signal
def test_the_signal_decides_although_a_library_raises_something_plainer(
    number: int, code: int
) -> None:
    done = subprocess.run(
        script(f"""
            def main():
                interrupts.raise_in_main()
                try:
                    signal.raise_signal({number:d})
                except KeyboardInterrupt:
                    raise KeyboardInterrupt from None  # as Ray's core does
            import signal
            with cli.errors_in_one_line():
                main()
        """),
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (code, f"{interrupts.LINE}\n")
