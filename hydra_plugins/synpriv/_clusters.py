"""What submitit submits to: Slurm, or processes of this machine that stand for its jobs."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import synpriv
from hydra_plugins.synpriv._pack import Pack
from hydra_plugins.synpriv._pool import exit_in_words
from synpriv import terminal

if TYPE_CHECKING:
    from submitit import Job

_OVER = (
    *("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY"),
    *("BOOT_FAIL", "DEADLINE"),
)
# What the cluster did, not the job: its seeds are tried once more.
NODE_LOST = ("NODE_FAIL", "PREEMPTED", "BOOT_FAIL")
_SHARED = ("timeout_min", "mem_gb", "cpus_per_task", "gpus_per_node")  # names of all executors
_FOREVER_MIN = 60 * 24 * 365
_SETTLING_S = 15.0  # until what a job wrote last is seen on a shared file system
_ENDING_S = 10.0  # for workers to remove what they were writing


class Cluster(Protocol):
    """Where packs run."""

    in_turn: bool  # one pack after the other

    def submit(self, packs: Sequence[Pack]) -> Sequence[Job[None]]:
        """One job for each."""

    def over(self, jobs: Iterable[Job[None]]) -> dict[str, str]:
        """How jobs that are over without a result ended, by their ids."""

    def cancel(self, jobs: Iterable[Job[None]]) -> None:
        """End them."""


def python() -> str:
    """The shell command of this Python, which finds this package as the launcher does."""
    home = str(Path(synpriv.__file__).parents[1])
    path = os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])
    return f"env PYTHONPATH={shlex.quote(path)} {shlex.quote(sys.executable)}"


class Local:
    """Jobs are processes of this machine, one after the other: each has all of its workers."""

    in_turn = True

    def __init__(self, folder: Path, options: Mapping[str, Any], max_num_timeout: int) -> None:
        import submitit

        self._begun: list[subprocess.Popen[bytes]] = []
        self._executor = submitit.LocalExecutor(
            folder, max_num_timeout=max_num_timeout, python=python()
        )
        # Without lines of shell before it: a shell would get the signals, and not pass them on.
        self._executor.update_parameters(
            timeout_min=options.get("timeout_min", _FOREVER_MIN),
            signal_delay_s=options["signal_delay_s"],
        )

    def submit(self, packs: Sequence[Pack]) -> Sequence[Job[None]]:
        jobs = [self._executor.submit(pack) for pack in packs]
        self._begun += [job._process for job in jobs]  # type: ignore[attr-defined]
        return jobs

    def over(self, jobs: Iterable[Job[None]]) -> dict[str, str]:
        ended = {}
        for job in jobs:
            code = job._process.poll()  # type: ignore[attr-defined]
            if code is not None:
                ended[job.job_id] = exit_in_words(code)
        return ended

    def cancel(self, jobs: Iterable[Job[None]]) -> None:
        for job in jobs:
            job._process.send_signal(signal.SIGTERM)  # type: ignore[attr-defined]
        for process in self._begun:  # submitit passes the signal on; others have given their result
            try:
                process.wait(_ENDING_S)
            except subprocess.TimeoutExpired:
                process.kill()


class Slurm:
    """Jobs of an array, asked for with squeue, which needs no accounting database."""

    in_turn = False

    def __init__(self, folder: Path, options: Mapping[str, Any], max_num_timeout: int) -> None:
        import submitit

        self._name = f"synpriv-{folder.name.rpartition('-')[2]}"
        self._executor = submitit.AutoExecutor(
            folder, cluster="slurm", slurm_max_num_timeout=max_num_timeout, slurm_python=python()
        )
        named = {name if name in _SHARED else f"slurm_{name}": options[name] for name in options}
        self._executor.update_parameters(name=self._name, **named)
        self._asked, self._states = -60.0, dict[str, str]()
        self._missing: dict[str, float] = {}  # since when a job is over, or nobody knows of it

    def submit(self, packs: Sequence[Pack]) -> Sequence[Job[None]]:
        from submitit.core.utils import FailedJobError

        try:
            with contextlib.redirect_stderr(io.StringIO()):  # submitit prints what it raises
                return self._executor.submit_array(packs)
        except FailedJobError as error:
            said = " ".join(re.sub(r"^sbatch: (error: )?", "", line) for line in _lines(error))
            raise ValueError(f"sbatch refuses: {terminal.one_line(said)}") from error

    def over(self, jobs: Iterable[Job[None]]) -> dict[str, str]:
        now = time.monotonic()
        if now - self._asked >= 5.0:
            self._asked = now
            command = ["squeue", "-h", "-r", "-t", "all", "-n", self._name, "-o", "%i|%T"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:  # the controller is away: the jobs go on, and so do we
                self._missing.clear()
                return {}
            found = (line.split("|") for line in done.stdout.splitlines())
            self._states = {words[0].strip(): words[1].strip() for words in found}
        ended = {}
        for job in jobs:
            state = self._states.get(job.job_id, "unknown to squeue")
            if state not in (*_OVER, "unknown to squeue"):
                self._missing.pop(job.job_id, None)
            elif now - self._missing.setdefault(job.job_id, now) >= _SETTLING_S:
                ended[job.job_id] = state
        return ended

    def cancel(self, jobs: Iterable[Job[None]]) -> None:
        ids = [job.job_id for job in jobs]
        if ids:
            subprocess.run(["scancel", *ids], capture_output=True, check=False)


def _lines(error: Exception) -> list[str]:
    return [line.strip() for line in str(error).splitlines() if line.strip()]


def has_slurm() -> bool:
    """Whether jobs can be submitted from this machine."""
    return all(shutil.which(program) for program in ("sbatch", "srun", "squeue", "scancel"))
