"""CI: nothing of it is left running or lying about, and no extra is missing without a word."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT

APT = "#!/bin/sh\necho $$ > {0}/pid.new; mv {0}/pid.new {0}/pid; exec sleep 60\n"
MAKE = "#!/bin/sh\nwhile [ ! -e {0}/pid ]; do sleep 0.05; done; exit 3\n"


def test_a_failed_run_ends_what_it_started(tmp_path: Path) -> None:
    programs, temporary = tmp_path / "bin", tmp_path / "tmp"
    programs.mkdir()
    temporary.mkdir()
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    for name, text in (("apt-get", APT), ("make", MAKE), ("id", "#!/bin/sh\necho 0\n")):
        (programs / name).write_text(text.format(tmp_path))
        (programs / name).chmod(0o755)
    for name in ("bash", "dirname", "mktemp", "rm", "mv", "sleep", "timeout", "sh"):
        (programs / name).symlink_to(str(shutil.which(name)))
    env = {"PATH": str(programs), "TMPDIR": str(temporary)}
    done = subprocess.run([tmp_path / ".ci" / "run"], env=env, timeout=20, check=False)
    assert done.returncode not in (0, 127)
    assert list(temporary.iterdir()) == []
    pid = (tmp_path / "pid").read_text().strip()
    last = time.monotonic() + 10
    while _runs(pid):
        assert time.monotonic() < last
        time.sleep(0.05)


def _runs(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("needed", [True, False])
def test_where_extras_are_needed_a_missing_one_is_a_failure(needed: bool, tmp_path: Path) -> None:
    tests = tmp_path / "tests"
    tests.mkdir()
    text = (ROOT / "tests" / "conftest.py").read_text()
    (tests / "conftest.py").write_text(text)
    missing = "no_such_package"  # conftest looks for what is asked for, also in this file
    asks = f'import pytest\npytest.importorskip("json")\npytest.importorskip("{missing}.part")\n'
    (tests / "test_it.py").write_text(asks)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests)]
    env = {k: v for k, v in os.environ.items() if k != "SYNPRIV_TEST_EXTRAS"}
    env |= {"SYNPRIV_TEST_EXTRAS": "1"} if needed else {}
    done = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=60
    )
    said = done.stdout + done.stderr
    assert ("not installed: no_such_package; pip install -e '.[dev]'" in said) is needed, said
    assert done.returncode == (4 if needed else 5)
