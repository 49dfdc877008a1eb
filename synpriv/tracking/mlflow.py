"""Runs on an MLflow server, or in any other store that MLFLOW_TRACKING_URI names."""

from __future__ import annotations

import csv
import io
import os
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from synpriv import probe
from synpriv.report import inert
from synpriv.results import names
from synpriv.tracking.base import About, Mirror, NoTracker, Tracker, opened
from synpriv.tracking.findings import Picture, Table

PAGE = "audit.html"  # of a run's artifacts
_BATCH = 100  # parameters of one request
_LONGEST = 6000  # characters of a parameter, 8,000 of a tag
# Unless the user says otherwise: a server that falls silent is not waited for, nothing is reported
# to MLflow's makers, no address is printed between the lines of a sweep.
_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_gave_up: list[str] = []  # addresses that this process does not ask again


def check() -> None:
    """Refuse, before anything is trained, an environment in which there is nowhere to write to."""
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        raise ValueError(
            "logger=mlflow: MLFLOW_TRACKING_URI is not set, must be the address of a server, e.g. "
            "http://127.0.0.1:5000 of `mlflow server`"
        )


def metric_name(key: str) -> str:
    """A key as MLflow admits it: `tpr@fpr=0.01/low` is `tpr_at_fpr_0.01/low`."""
    return re.sub(r"[^/\w.\- ]", "_", key.replace("@", "_at_"))


class MlflowTracker(Mirror):
    """One run. run: the client with the run's id bound, `_Run`.

    replaces: ids of runs that this one makes obsolete, deleted (restorably) when it is complete.
    """

    backend = "MLflow"

    def __init__(self, run: _Run, replaces: Sequence[str] = ()) -> None:
        super().__init__(run)
        self._replaces = replaces

    def settings(self, values: Mapping[str, Any]) -> None:
        self._guard(lambda run: run.parameters(values))

    def log(self, row: Mapping[str, float], epoch: int) -> None:
        self._guard(lambda run: run.metrics(row, epoch))

    def summary(self, values: Mapping[str, Any]) -> None:
        numbers = {key: value for key, value in values.items() if isinstance(value, int | float)}
        words = {key: value for key, value in values.items() if isinstance(value, str)}
        self._guard(lambda run: run.metrics(numbers, 0))
        self._guard(lambda run: run.tags(words))

    def _picture(self, run: _Run, key: str, file: Path) -> None:
        run.files({f"{key}.png": file.read_bytes()})

    def table(self, key: str, table: Table) -> None:
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(table.columns)
        writer.writerows([_cell(value) for value in row] for row in table.rows)
        self._guard(lambda run: run.files({f"{key}.csv": text.getvalue().encode()}))

    def gallery(self, key: str, pictures: Sequence[Picture]) -> None:
        files = {f"{key}/{place}.png": picture.png for place, picture in enumerate(pictures)}
        self._guard(lambda run: run.files(files))
        captions = [[str(place), picture.caption] for place, picture in enumerate(pictures)]
        self.table(f"{key}/captions", Table(["picture", "caption"], captions))

    def page(self, content: bytes) -> None:
        self._guard(lambda run: run.files({PAGE: content}))

    def _close(self, run: _Run, *, failed: bool) -> None:
        run.end("FAILED" if failed else "FINISHED")
        if not failed:
            run.delete(self._replaces)


def _cell(value: Any) -> Any:
    """Numbers as they are: a minus sign is no formula."""
    return inert.cell(value.caption if isinstance(value, Picture) else value)


def begin(about: About, *, experiment: str) -> Tracker:
    """A new run; the one of this name that was there is deleted when it is complete.

    A server that does not answer is asked once by a process.
    """
    address = os.environ["MLFLOW_TRACKING_URI"]
    if address in _gave_up:
        return NoTracker()

    def begun() -> Tracker:
        silent = probe.silence(address) if address.startswith(("http://", "https://")) else None
        if silent is not None:
            raise ConnectionError(f"{address}: {silent}")
        return _begun(about, experiment)

    tracker = opened(MlflowTracker.backend, begun)
    if isinstance(tracker, NoTracker):
        _gave_up.append(address)
    return tracker


def _begun(about: About, experiment: str) -> Tracker:
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    import mlflow

    client = mlflow.MlflowClient()
    place = _experiment(client, experiment)
    before = client.search_runs([place], f"attributes.run_name = '{about.name}'")
    labels = {"group": about.group, "job_type": about.job_type}
    made = client.create_run(place, run_name=about.name, tags=labels)
    run = _Run(client, made.info.run_id)
    old = [r.info.run_id for r in before if r.data.tags.get("job_type") == about.job_type]
    tracker = MlflowTracker(run, old)
    tracker.settings(names.flat(dict(about.config)))
    return tracker


def _experiment(client: Any, name: str) -> str:
    """Its id; of several processes that find none, one makes it."""
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name)
        except Exception:
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return found.experiment_id


class _Run:
    """A client and the run that it writes to."""

    def __init__(self, client: Any, run_id: str) -> None:
        self.client, self._id = client, run_id

    def metrics(self, row: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        found = [Metric(metric_name(key), float(v), now, step) for key, v in row.items()]
        self.client.log_batch(self._id, metrics=found)

    def parameters(self, settings: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        found = [Param(metric_name(key), str(v)[:_LONGEST]) for key, v in settings.items()]
        for first in range(0, len(found), _BATCH):
            self.client.log_batch(self._id, params=found[first : first + _BATCH])

    def tags(self, words: Mapping[str, str]) -> None:
        for key, text in words.items():
            self.client.set_tag(self._id, metric_name(key), text[:_LONGEST])

    def files(self, contents: Mapping[str, bytes]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for name, content in contents.items():
                file = Path(folder) / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
            self.client.log_artifacts(self._id, folder)

    def delete(self, others: Sequence[str]) -> None:
        for run_id in others:
            self.client.delete_run(run_id)

    def end(self, status: str) -> None:
        self.client.set_terminated(self._id, status)
