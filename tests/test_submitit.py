"""Jobs of a cluster: submitit's own local executor, Slurm's answers as its programs give them."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra.core.utils import JobReturn, JobStatus
from made_up_jobs import ROOT, sweep

from hydra_plugins.synpriv import _clusters, _worker, submitit_launcher
from hydra_plugins.synpriv._batch import Batch, Progress
from hydra_plugins.synpriv._journal import Journal, Journals
from synpriv.results import failures

pytest.importorskip("submitit")


def test_a_job_fails_alone_and_a_killed_worker_or_cluster_job_loses_its_own_seeds_only(
    tmp_path: Path,
) -> None:
    notes, out = sweep(
        tmp_path,
        """
        import signal
        def fail(seed, before):
            if seed == 1:
                raise ValueError("no luck")
            if seed == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            if seed == 5:
                os.kill(os.getppid(), signal.SIGKILL)  # the whole cluster job
                import time; time.sleep(60)
        """,
        *("0,1,2,3,4,5,6,7", "hydra.launcher.seeds_per_job=4"),
        launcher="submitit_local",
    )
    done = sorted(seed for seed, _, what, *_ in notes if what == "done-cpu")
    assert done == ["0", "3", "4"]
    assert "jobs: 8, in 2 cluster jobs" in out
    said = [line for line in out.splitlines() if line.startswith("failed: ")]
    assert said[:2] == [
        "failed: seed=1: ValueError: no luck",
        "failed: seed=2: its worker died (SIGKILL, out of memory?)",
    ]
    assert re.fullmatch(r"failed: seed=5: its cluster job \d+ ended: .*", said[2])
    assert len(said) == 3  # seed 6 and 7 for the same reason
    assert failures.of(tmp_path / "out" / "6").reason in said[2]
    (kept,) = (tmp_path / "out").glob(".launch-*")
    assert str(kept) in out
    assert kept.stat().st_mode & 0o077 == 0  # what is unpickled there is nobody else's


def test_a_cluster_job_that_is_preempted_is_started_again_with_what_is_left(
    tmp_path: Path,
) -> None:
    notes, out = sweep(
        tmp_path,
        """
        import signal, time
        def fail(seed, before):
            if seed == 1 and before == 0:
                os.kill(os.getppid(), signal.SIGUSR2)  # as a cluster tells its job
                time.sleep(60)
        """,
        "0,1,2",
        launcher="submitit_local",
    )
    whats = [(seed, what) for seed, _, what, *_ in notes]
    assert whats[:2] == [("0", "done-cpu"), ("1", "SystemExit")]
    assert sorted(whats[2:]) == [("1", "done-cpu"), ("2", "done-cpu")]
    assert "failed" not in out
    assert not list((tmp_path / "out").glob(".launch-*"))


class Told:
    """What a batch says."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def result(self, i: int, result: JobReturn) -> None:
        self.lines.append(f"{i} {result.status.name}")

    def lost(self, i: int, reason: str) -> None:
        self.lines.append(f"{i} lost: {reason}")

    def warn(self, line: str) -> None:
        self.lines.append(f"warning {line}")

    def say(self, text: str) -> None:
        self.lines.append(text)

    def show(self, returns: Any) -> None:
        pass

    def close(self) -> None:
        pass


def batch(num: int = 4, **options: Any) -> tuple[Batch, Told]:
    told = Told()
    jobs = [[f"seed={i}"] for i in range(num)]
    folders = [Path("nowhere", "cell", str(i)) for i in range(num)]
    return Batch(jobs, folders, 0, told, **options), told


def completed(value: float | None = None) -> JobReturn:
    result = JobReturn(overrides=["x"], status=JobStatus.COMPLETED)
    result.return_value = value
    return result


def test_a_journal_tells_another_process_what_became_of_jobs_line_by_line(tmp_path: Path) -> None:
    node, journals = Journal(tmp_path, "jobs-2", [2, 3]), Journals(tmp_path)
    whole, told = batch()
    node.result(0, completed(0.25))
    node.warn("odd images")
    with node._file.open("a") as stream:
        stream.write('{"job": 3, "rea')  # it is just being written
    journals.pass_on(whole)
    journals.pass_on(whole)
    assert told.lines == ["2 COMPLETED", "warning odd images"]
    with node._file.open("a") as stream:
        stream.write('son": "no \\u001b[2J"}\n')
    journals.pass_on(whole)
    assert whole.returns[2].return_value == 0.25
    assert str(whole.returns[3]._return_value) == "no \x1b[2J"
    again = Journal(tmp_path, "jobs-2", [3])  # after a requeue
    again.result(0, completed())
    again.result(0, _worker.failed(["x"], "too late"))
    again.result(0, _worker.not_run(["x"]))
    journals.pass_on(whole)
    assert whole.returns[3].status == JobStatus.COMPLETED
    again.fatal("locks\ndo not hold")
    with pytest.raises(ValueError, match="locks do not hold"):
        journals.pass_on(whole)


def test_a_journal_s_torn_line_is_named_and_costs_no_other(tmp_path: Path) -> None:
    node, (whole, told) = Journal(tmp_path, "jobs-2", [2, 3]), batch()
    node._file.write_text('{"job": 2, "rea')  # its disk was full
    node._torn = "\n"
    node.result(1, completed())
    node.lost(0, "no GPU")
    Journals(tmp_path).pass_on(whole)
    assert told.lines == [
        f"warning {node._file}: a line is torn and left out",
        "3 COMPLETED",
        "2 lost: no GPU",
    ]


def test_a_job_that_died_is_noted_in_the_run_that_was_planned(tmp_path: Path) -> None:
    # Its config, composed once more, ended the sweep or named another cell if a file had changed.
    whole, told = batch(2)
    whole.folders = [tmp_path / "cell" / str(seed) for seed in range(2)]
    whole.died(1, "SIGKILL")
    assert told.lines == ["1 FAILED"]
    noted = failures.of(tmp_path / "cell" / "1")
    assert noted is not None
    assert noted.reason == "SIGKILL"


def test_a_journal_that_cannot_be_written_ends_no_job(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = Journal(tmp_path / "gone", "jobs-0", [0])
    node.result(0, completed())
    assert "No such file or directory: not written: {'job': 0" in capsys.readouterr().err
    (tmp_path / "gone").mkdir()
    node.warn("odd")
    whole, told = batch()
    Journals(tmp_path / "gone").pass_on(whole)
    assert told.lines == ["warning odd"]


def test_what_is_tried_again_is_named_in_short(capsys: pytest.CaptureFixture[str]) -> None:
    words = [["data=/home/ada/x", f"seed={i}"] for i in range(2)]
    Progress(words).lost(1, "no GPU")
    Progress(words[:1]).lost(0, "no GPU")
    Progress([["data=x"]]).lost(0, "no GPU")
    assert capsys.readouterr().out.splitlines() == [
        "seed=1: no GPU; it will be tried again",
        "seed=0: no GPU; it will be tried again",
        "no GPU; it will be tried again",
    ]


def test_a_job_that_ran_out_of_time_names_the_options() -> None:
    from submitit.core.utils import UncompletedJobError

    class Late:
        def exception(self) -> Exception:
            return UncompletedJobError("Job not requeued because: timed-out too many times.")

    late: Any = Late()
    assert "larger hydra.launcher.timeout_min or max_num_timeout" in submitit_launcher._said(late)


def test_lines_of_nodes_do_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress([["seed=0"], ["seed=1"]])
    progress.result(0, _worker.failed(["seed=0"], "\x1b]0;pwn\x07 no\nline two"))
    progress.warn("\x1b[2J odd")
    assert all(line.isprintable() for line in capsys.readouterr().out.splitlines())


class Job:
    def __init__(self, name: str) -> None:
        self.job_id = name


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _clusters.Slurm:
    """Slurm whose programs are scripts: squeue prints a file, or fails where there is none."""
    for name in ("sbatch", "srun", "scancel", "squeue"):
        body = {"squeue": f"cat {tmp_path}/states", "scancel": f'echo "$@" > {tmp_path}/cancelled'}
        refuse = 'echo "sbatch: error: invalid partition specified: x" >&2; exit 1'
        (tmp_path / name).write_text(f"#!/bin/sh\n{body.get(name, refuse)}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(_clusters, "_SETTLING_S", 0.0)
    folder = tmp_path / ".launch-abc"
    folder.mkdir()
    return _clusters.Slurm(folder, {"timeout_min": 5, "partition": "x", "mem_gb": 2}, 3)


def test_slurm_s_states_say_what_is_over_and_a_silent_controller_nothing(
    slurm: _clusters.Slurm, tmp_path: Path
) -> None:
    jobs: list[Any] = [Job("7_0"), Job("7_1"), Job("7_2"), Job("7_3")]
    assert slurm.over(jobs) == {}  # squeue fails: the controller is away
    (tmp_path / "states").write_text("7_0|RUNNING\n7_1|NODE_FAIL\n7_2|COMPLETING\n")
    slurm._asked = -60.0
    assert slurm.over(jobs) == {"7_1": "NODE_FAIL", "7_3": "unknown to squeue"}
    slurm.cancel(jobs[:2])
    assert (tmp_path / "cancelled").read_text() == "7_0 7_1\n"


def test_what_sbatch_refuses_is_one_line(slurm: _clusters.Slurm) -> None:
    with pytest.raises(ValueError, match=r"^sbatch refuses: invalid partition specified: x$"):
        slurm.submit([lambda: None])  # type: ignore[list-item]


def test_a_lost_node_s_seeds_are_tried_once_more_and_a_cancelled_job_s_are_not() -> None:
    lost, told = batch(2)
    assert lost.lose(0, "its cluster job 7_1 ended: NODE_FAIL")
    assert told.lines == ["0 lost: its cluster job 7_1 ended: NODE_FAIL"]
    assert lost.waiting() == [0, 1]
    assert "CANCELLED" not in _clusters.NODE_LOST


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"executor": "pbs"}, "must be slurm or local"),
        ({"seeds_per_job": 0}, "seeds_per_job=0: must be an integer, at least 1, or null"),
        ({"timeout_min": -1}, "timeout_min=-1: must be a number above 0"),
        ({"max_num_timeout": -1}, "at least 0"),
        ({"timeout_min": True}, "timeout_min=True: must be a number"),
        ({"signal_delay_s": True}, "signal_delay_s=True: must be an integer"),
        ({"mem_gb": True}, "mem_gb=True: must be a number"),
        ({"array_parallelism": 0}, "at least 1"),
        ({"jobs_per_device": "many"}, "or auto"),
        ({"fail_fast": "yes"}, "must be true or false"),
        ({"executor": "slurm"}, "no sbatch here"),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_runs(
    options: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ValueError, match=says):
        submitit_launcher.SubmititLauncher(**{"executor": "local"} | options)


def test_without_the_extra_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submitit_launcher.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"pip install 'synpriv\[slurm\]'"):
        submitit_launcher.SubmititLauncher(executor="local")


def test_a_journal_s_lines_are_json(tmp_path: Path) -> None:
    Journal(tmp_path, "jobs-0", [0]).result(0, completed(float("nan")))
    (file,) = tmp_path.iterdir()
    assert json.loads(file.read_text())["job"] == 0


def test_launchers_import_no_extra_before_a_sweep_begins() -> None:
    # Hydra imports all launchers to print --help.
    code = "import sys; from hydra_plugins.synpriv import ray_launcher, submitit_launcher; "
    done = subprocess.run(
        [sys.executable, "-c", f"{code}print({{'ray', 'submitit', 'torch'}} & set(sys.modules))"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "set()\n"
