"""What becomes of jobs on a node, in a file that their launcher reads while they run."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus

from hydra_plugins.synpriv._batch import Batch
from hydra_plugins.synpriv._worker import Died, JobFailed, NotRun
from synpriv import terminal


class Journal:
    """Told by a node's pool; a line of JSON each, in a file that nobody else writes.

    numbers: what the launcher calls the pool's jobs.
    """

    def __init__(self, folder: Path, name: str, numbers: list[int]) -> None:
        self._file = folder / f"{name}-{time.time_ns()}.jsonl"  # another one after a requeue
        self._numbers = numbers
        self._torn = ""  # what ends a line that could not be written whole

    def result(self, i: int, result: JobReturn) -> None:
        error = result._return_value
        if isinstance(error, NotRun):
            return
        done = result.status == JobStatus.COMPLETED
        how = {"reason": str(error), "died": isinstance(error, Died)}
        what = {"value": error} if done else how
        self._write(job=self._numbers[i], **what)

    def lost(self, i: int, reason: str) -> None:
        self._write(job=self._numbers[i], lost=reason)

    def warn(self, line: str) -> None:
        self._write(warning=line)

    def say(self, text: str) -> None:
        self._write(said=text)

    def fatal(self, reason: str) -> None:
        """Why no job can be run on any node like this one."""
        self._write(fatal=reason)

    def show(self, returns: Mapping[int, JobReturn]) -> None:
        """Nothing: the launcher counts."""

    def close(self) -> None:
        """Nothing: each line is closed."""

    def _write(self, **what: Any) -> None:
        line, self._torn = f"{self._torn}{json.dumps(what)}\n", ""
        try:
            with self._file.open("a", encoding="utf-8") as stream:  # closed, so that others see it
                stream.write(line)
        except OSError as error:  # a full disk: what counts are the runs that lie there
            self._torn = "\n"
            print(f"{error.strerror}: not written: {what}", file=sys.stderr)


class Journals:
    """Reads on in all journals of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[Path, int] = {}  # bytes that were read, to the end of a line

    def pass_on(self, batch: Batch) -> None:
        """Tell a batch what is new; ValueError if a node says that none can run jobs."""
        for file in sorted(self._folder.glob("*.jsonl")):
            with file.open("rb") as stream:
                stream.seek(self._read.get(file, 0))
                whole, newline, _ = stream.read().rpartition(b"\n")
            self._read[file] = self._read.get(file, 0) + len(whole) + len(newline)
            for line in filter(None, whole.split(b"\n")):
                try:
                    said = json.loads(line)
                except ValueError:  # its node died, or its disk was full: what became of it is seen
                    batch.tell.warn(f"{file}: a line is torn and left out")
                    continue
                _take(batch, said)


def _take(batch: Batch, said: dict[str, Any]) -> None:
    if "lost" in said:
        batch.tell.lost(said["job"], said["lost"])
    elif "job" in said:
        failed = "reason" in said
        status = JobStatus.FAILED if failed else JobStatus.COMPLETED
        result = JobReturn(overrides=batch.jobs[said["job"]], status=status)
        why = Died if said.get("died") else JobFailed
        result.return_value = why(said["reason"]) if failed else said["value"]
        batch.put(said["job"], result)
    elif "fatal" in said:
        raise ValueError(terminal.one_line(said["fatal"]))
    elif "warning" in said:
        batch.tell.warn(said["warning"])
    else:
        batch.tell.say(terminal.one_line(said["said"]))
