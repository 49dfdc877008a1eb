"""What is mirrored of an audit, in each backend, read back by the backend's own reader."""

import csv
import io
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Compose
from PIL import Image
from tracked_view import HOSTILE, png, view_of

from synpriv import config, probe, tracking
from synpriv.results import names
from synpriv.shadow import check
from synpriv.tracking import Findings, base, configured, findings, mlflow, tensorboard

SUMMARY = {"tpr@fpr=0.01": 0.5, "tpr@fpr=0.01/low": 0.25, "partial": 0}
PAGE = b"<!doctype html><title>an audit</title>"


@pytest.fixture
def found(tmp_path: Path) -> Findings:
    picture = tmp_path / "lira.png"
    picture.write_bytes(png(90))
    return Findings(SUMMARY, {"roc": picture}, view_of(), PAGE)


def test_the_curve_keeps_what_is_reached_without_a_false_positive() -> None:
    columns, rows = findings.roc(view_of())
    assert columns == ["fpr", "tpr", "resolved"]
    assert rows == [[0.005, 0.3, 0], [0.01, 0.5, 0], [0.2, 0.75, 1], [1.0, 1.0, 1]]


def test_canaries_stand_in_the_order_of_their_effect() -> None:
    columns, rows = findings.tables(view_of())["canaries"]
    of = [dict(zip(columns, row, strict=True)) for row in rows]
    assert [row["canary"] for row in of] == [4, 3, 2, 1, 0]  # what has no effect comes last
    assert [row["found"] for row in of] == [0.8, 0.6, 0.4, 0.2, 0.0]
    assert of[0]["picture"].png == png(10)
    assert {row["largest_by_chance"] for row in of} == {3.5}
    assert "4.0 sd (largest by chance: up to 3.5)" in of[0]["picture"].caption
    columns, (row,) = findings.tables(view_of())["nearest_pairs"]
    near = dict(zip(columns, row, strict=True))
    assert (near["as_near"], near["out"], near["chance"]) == (1, 4, 0.8)
    assert "(chance gives so few for 80% of canaries)" in near["released"].caption
    assert all(row["picture"] is None for row in of[1:])


def test_names_are_one_short_line_and_the_rows_are_bounded() -> None:
    table = findings.tables(view_of(findings.MOST_ROWS + 5))["canaries"]
    assert len(table.rows) == findings.MOST_ROWS
    assert table.rows[0][0] == findings.MOST_ROWS + 4  # the most exposed stay
    place = table.rows[0][1]
    assert place.startswith("<script>")
    assert len(place) == 300
    assert "\x1b" not in place


def test_a_page_without_pictures_has_neither_pairs_nor_galleries() -> None:
    view = view_of()
    view["pictures"] = {}
    assert findings.galleries(view) == {}
    view["cells"][0]["canaries"] = []
    assert list(findings.tables(view)) == ["canaries"]


def test_what_keeps_nothing_asks_for_no_page(compose: Compose, tmp_path: Path) -> None:
    def ask() -> Findings:
        raise AssertionError("made for nobody")

    for name in ("none", "csv"):
        cfg = compose(f"logger={name}")
        with tracking.track(cfg, tmp_path, job_type="audit") as tracker:
            tracker.audit(ask)
    tracking.WandbTracker(None).audit(ask)


@pytest.mark.parametrize("name", configured.EXTRAS)
def test_a_missing_extra_is_refused_before_a_training(
    name: str, compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configured.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=rf"{name} is not installed; pip install 'synpriv\[{name}"):
        check.check(compose(f"logger={name}"))


def test_mlflow_without_an_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ValueError, match="MLFLOW_TRACKING_URI is not set, must be the address"):
        mlflow.check()


@pytest.mark.parametrize(
    ("key", "admitted"),
    [
        ("tpr@fpr=0.01/null_low", "tpr_at_fpr_0.01/null_low"),
        ("fit/train/loss", "fit/train/loss"),
        ("method._target_", "method._target_"),
        ("a:b*c\N{SNOWMAN}", "a_b_c_"),
    ],
)
def test_keys_are_written_as_mlflow_admits_them(key: str, admitted: str) -> None:
    assert mlflow.metric_name(key) == admitted


def test_a_csv_table_calculates_nothing_and_keeps_its_numbers() -> None:
    class Run:
        def files(self, contents: dict[str, bytes]) -> None:
            written.update(contents)

    written: dict[str, bytes] = {}
    mlflow.MlflowTracker(Run()).table("canaries", findings.tables(view_of())["canaries"])
    rows = list(csv.DictReader(io.StringIO(written["canaries.csv"].decode())))
    assert [row["effect"] for row in rows] == ["4.0", "3.0", "2.0", "-1.0", ""]
    assert {row["trained_label"] for row in rows} == {"'=1+1"}
    assert rows[0]["picture"].startswith("canary 4: ")


def test_a_silent_or_refusing_server_costs_a_process_one_warning(
    compose: Compose,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(mlflow, "_gave_up", [])
    cfg = compose("logger=mlflow", f"results={tmp_path}")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ann:secret@127.0.0.1:{port}")
        start = time.monotonic()
        for _ in range(3):
            with tracking.track(cfg, tmp_path, job_type="train") as tracker:
                tracker.log({"fit/loss": 0.5}, 0)
        assert time.monotonic() - start < 60  # MLflow's own client would wait minutes
    address = f"http://127.0.0.1:{port}"
    said = [record.getMessage() for record in caplog.records]
    assert said == [f"MLflow mirrors nothing: {address}: no answer within 2 s"]
    caplog.clear()
    monkeypatch.setattr(mlflow, "_gave_up", [])
    with tracking.track(cfg, tmp_path, job_type="train") as tracker:
        assert isinstance(tracker, tracking.NoTracker)
    assert "refused" in caplog.text
    assert "secret" not in caplog.text


def test_a_backend_that_fails_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def __getattr__(self, name: str) -> None:
            raise OSError("no space\nleft")

    tracker = tensorboard.TensorBoardTracker(Broken(), {})
    with caplog.at_level(logging.WARNING):
        tracker.log({"loss": 1.0}, 0)
        tracker.audit(lambda: Findings({}, {}))
        tracker.finish()
    said = [record.getMessage() for record in caplog.records]
    assert said == ["TensorBoard stopped mirroring this run: no space left"]
    assert probe.in_one_line(OSError()) == "OSError"


def test_an_audit_that_cannot_be_told_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def ask() -> Findings:
        raise KeyError("no such figure")

    tracker = tensorboard.TensorBoardTracker(object(), {})
    tracker.audit(ask)
    tracker.finish()
    assert "stopped mirroring this run: 'no such figure'" in caplog.text


def test_tensorboard_holds_rows_settings_pictures_and_the_page(
    compose: Compose, tmp_path: Path, found: Findings
) -> None:
    pytest.importorskip("tensorboard", reason="the extra [tensorboard] is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import plugin_data_pb2

    cfg = compose("logger=tensorboard", f"results={tmp_path}", "seed=3")
    for loss in (0.5, 0.25):  # again, after an interruption: the later one alone stays
        with tracking.track(cfg, tmp_path, job_type="train") as tracker:
            tracker.log({"fit/loss": loss}, 7)
    with tracking.track(cfg, tmp_path, job_type="audit") as tracker:
        tracker.audit(lambda: found)
    train = tmp_path / "tensorboard" / f"{cfg.cell}-3"
    (event,) = EventAccumulator(str(train)).Reload().Scalars("fit/loss")
    assert (event.step, event.value) == (7, 0.25)
    audit = tmp_path / "tensorboard" / f"{cfg.cell}-{cfg.attack.name}"
    read = EventAccumulator(str(audit)).Reload()
    assert [e.value for e in read.Scalars("tpr@fpr=0.01")] == [0.5]
    (picture,) = read.Images("canaries/most_exposed")
    pixels = np.asarray(Image.open(io.BytesIO(picture.encoded_image_string)))
    assert (pixels == 10).all()
    (text,) = read.Tensors("canaries/text_summary")
    written = text.tensor_proto.string_val[0].decode()
    assert "&lt;script&gt;" in written
    assert "<script>" not in written
    assert written.count("\n") == 6  # its head, a rule and a row per canary
    content = read.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    start = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    assert start.hparams["method.name"].string_value == cfg.method.name
    assert (audit / "audit.html").read_bytes() == PAGE


def test_one_unreadable_picture_costs_that_picture_alone(
    compose: Compose, tmp_path: Path, found: Findings, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("tensorboard", reason="the extra [tensorboard] is not installed")
    cfg = compose("logger=tensorboard", f"results={tmp_path}")
    damaged, gone = tmp_path / "damaged.png", tmp_path / "gone.png"
    damaged.write_bytes(png(90)[:40])
    pictures = {"a": damaged, "b": gone, **found.pictures}
    with tracking.track(cfg, tmp_path, job_type="audit") as tracker:
        tracker.audit(lambda: found._replace(pictures=pictures))
    assert [name for name in ("damaged.png", "gone.png") if name in caplog.text] == [
        *("damaged.png", "gone.png")
    ]
    assert "stopped" not in caplog.text
    read = events(tmp_path / "tensorboard" / f"{cfg.cell}-{cfg.attack.name}")
    assert read.Images("roc")
    assert "_hparams_/session_start_info" in read.summary_metadata


def events(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder)).Reload()


def test_an_incomplete_run_does_not_replace_a_complete_one(
    compose: Compose, tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard", reason="the extra [tensorboard] is not installed")
    cfg = compose("logger=tensorboard", f"results={tmp_path}", "seed=3")

    def trained(loss: float, *, interrupted: bool = False) -> None:
        with tracking.track(cfg, tmp_path, job_type="train") as tracker:
            tracker.log({"fit/loss": loss}, 7)
            if interrupted:
                raise KeyboardInterrupt

    place = tmp_path / "tensorboard" / f"{cfg.cell}-3"
    trained(0.5)
    with pytest.raises(KeyboardInterrupt):
        trained(0.25, interrupted=True)
    assert [event.value for event in events(place).Scalars("fit/loss")] == [0.5]
    trained(0.125)
    assert [event.value for event in events(place).Scalars("fit/loss")] == [0.125]
    assert [folder.name for folder in place.parent.iterdir()] == [place.name]


def test_a_run_of_mlflow_whose_mirroring_failed_is_ended_and_replaces_nothing() -> None:
    class Run:
        def end(self, status: str) -> None:
            done.append(status)

        def delete(self, others: list[str]) -> None:
            done.append("deleted")

        def metrics(self, row: object, step: int) -> None:
            raise OSError("no space left")

    done: list[str] = []
    for fails in (True, False):
        tracker = mlflow.MlflowTracker(Run(), ["old"])
        if fails:
            tracker.log({"loss": 1.0}, 0)
        tracker.finish()
    assert done == ["FAILED", "FINISHED", "deleted"]


MLFLOW = Path(sys.executable).with_name("mlflow")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """MLflow's own server on a free port, with a store of its own; ended with all it started."""
    pytest.importorskip("mlflow", reason="the extra [mlflow] is not installed")
    pytest.importorskip("flask", reason="mlflow-skinny alone, without the server, is installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(MLFLOW), "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db"]
    command += ["--artifacts-destination", str(tmp_path / "artifacts")]
    calm = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    process = subprocess.Popen(
        command,
        env={**os.environ, **calm},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait(address, process)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def _wait(address: str, process: subprocess.Popen) -> None:
    for _ in range(600):
        assert process.poll() is None
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=1):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError("the server did not start")


@pytest.mark.slow
def test_a_real_mlflow_server_holds_runs_and_audits(
    server: str,
    compose: Compose,
    tmp_path: Path,
    found: Findings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    import mlflow as theirs

    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    for name in mlflow._DEFAULTS:
        monkeypatch.setenv(name, mlflow._DEFAULTS[name])
    cfg = compose("logger=mlflow", f"results={tmp_path}", "seed=3", "logger.project=leaks")
    tracking.check(cfg)
    with tracking.track(cfg, tmp_path, job_type="train") as tracker:
        tracker.log({"fit/loss": 0.5, "fit/accuracy": 0.75}, 0)
        tracker.log({"fit/loss": 0.25}, 1)
    for _ in range(2):  # an audit made again replaces its run
        with tracking.track(cfg, tmp_path, job_type="audit") as tracker:
            tracker.audit(lambda: found)
    assert [record.getMessage() for record in caplog.records if record.name == base.__name__] == []
    client = theirs.MlflowClient(server)
    place = client.get_experiment_by_name("leaks").experiment_id
    by_name = {run.info.run_name: run for run in client.search_runs([place])}
    assert set(by_name) == {f"{cfg.cell}-3", f"{cfg.cell}-{cfg.attack.name}"}
    train, audit = by_name[f"{cfg.cell}-3"], by_name[f"{cfg.cell}-{cfg.attack.name}"]
    history = client.get_metric_history(train.info.run_id, "fit/loss")
    assert [(m.step, m.value) for m in history] == [(0, 0.5), (1, 0.25)]
    assert train.data.params["method.name"] == cfg.method.name
    assert train.info.status == audit.info.status == "FINISHED"
    assert audit.data.tags["group"] == cfg.cell
    assert audit.data.tags["verdict"] == "leak"
    assert audit.data.metrics["tpr_at_fpr_0.01/low"] == 0.25
    assert audit.data.params["attack.name"] == cfg.attack.name
    settings = names.flat(config.science(cfg))
    assert {key: str(value) for key, value in settings.items()}.items() <= audit.data.params.items()
    kept = Path(client.download_artifacts(audit.info.run_id, "", str(tmp_path)))
    assert (kept / "audit.html").read_bytes() == PAGE
    assert (kept / "roc.png").read_bytes() == png(90)
    with (kept / "canaries.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["canary"] for row in rows] == ["4", "3", "2", "1", "0"]
    assert rows[0]["trained_label"] == "'=1+1"  # a text, no formula
    assert rows[0]["place"].startswith(HOSTILE[:8])
    assert (kept / "canaries/most_exposed/0.png").read_bytes() == png(10)
