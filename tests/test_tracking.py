"""The mirror in W&B or a csv file: it never blocks, prompts or stops an experiment."""

import contextlib
import csv
import http.server
import json
import logging
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Compose

from synpriv import tracking

WANDB = Path(sys.executable).with_name("wandb")


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No key in the environment or in ~/.netrc, nothing remembered from another test."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(tracking, "_gave_up", [])
    tracking.reachable.cache_clear()
    yield
    tracking.reachable.cache_clear()


def with_key(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", url)


def refused_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_without_a_key_nothing_is_asked_and_runs_are_offline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def asked(*_: object, **__: object) -> None:
        raise AssertionError("a server was asked")

    monkeypatch.setattr(urllib.request, "urlopen", asked)
    assert not tracking.reachable()
    assert tracking._modes() == ["offline"]


def test_a_refused_connection_is_known_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with_key(monkeypatch, f"http://127.0.0.1:{refused_port()}")
    start = time.monotonic()
    assert not tracking.reachable()
    assert time.monotonic() - start < 1
    assert tracking._modes() == ["offline"]


def test_a_server_that_accepts_and_says_nothing_costs_two_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with_key(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        assert not tracking.reachable()
        assert tracking._modes() == ["offline"]  # asked once per process
        assert time.monotonic() - start < 5


def test_a_name_that_takes_long_to_resolve_costs_two_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_key(monkeypatch, "http://wandb.invalid")
    done = threading.Event()

    def slow(*_: object, **__: object) -> None:
        done.wait(20)
        raise OSError("no such host")

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    start = time.monotonic()
    assert not tracking.reachable()
    assert time.monotonic() - start < 5
    done.set()


@pytest.mark.parametrize("status", [200, 404, 500])
def test_any_answer_means_reachable(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        with_key(monkeypatch, f"http://127.0.0.1:{server.server_port}")
        assert tracking.reachable()
        assert tracking._modes() == ["online", "offline"]
        tracking._give_up_online()
        assert tracking._modes() == ["offline"]
    finally:
        server.shutdown()
        server.server_close()


def test_a_malformed_address_is_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    for url in ("wandb.example", "http://", "nonsense://x", "http://[::1"):
        with_key(monkeypatch, url)
        tracking.reachable.cache_clear()
        assert not tracking.reachable()


def test_a_key_in_netrc_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{refused_port()}")
    home = tmp_path / "home"
    home.mkdir()
    assert not tracking._in_netrc("127.0.0.1")
    (home / ".netrc").write_text("machine 127.0.0.1 login user password key\n")
    (home / ".netrc").chmod(0o600)
    assert tracking._in_netrc("127.0.0.1")
    (home / ".netrc").write_text("what is this\n")
    assert not tracking._in_netrc("127.0.0.1")


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_the_user_s_wandb_mode_decides(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    assert tracking._modes() == [mode]


class Broken:
    """A W&B run whose every call fails."""

    def __init__(self) -> None:
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        self.calls += 1
        raise ConnectionError("the service is gone")


def test_a_failing_mirror_is_reported_once_and_stops_nothing(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    run = Broken()
    tracker = tracking.WandbTracker(run)
    with caplog.at_level(logging.WARNING):
        tracker.log({"loss": 1.0}, 0)
        tracker.log({"loss": 0.5}, 1)
        tracker.summary({"auc": 0.5})
        tracker.picture("roc", tmp_path / "missing.png")
        tracker.finish()
    assert [r.getMessage() for r in caplog.records] == [
        "W&B stopped mirroring this run: the service is gone"
    ]
    assert run.calls == 1


def test_a_picture_that_cannot_be_read_stops_nothing(tmp_path: Path) -> None:
    class Run:
        def log(self, row: dict[str, Any]) -> None:
            raise AssertionError("logged")

    tracking.WandbTracker(Run()).picture("roc", tmp_path / "missing.png")


def test_an_init_that_fails_is_no_tracker(
    monkeypatch: pytest.MonkeyPatch,
    compose: Compose,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    import wandb

    def fails(**_: Any) -> None:
        raise wandb.errors.CommError("")  # an error without a text

    monkeypatch.setattr(wandb, "init", fails)
    cfg = compose("logger=wandb", f"results={tmp_path}")
    with (
        caplog.at_level(logging.WARNING),
        tracking.track(cfg, tmp_path, job_type="train") as tracker,
    ):
        tracker.log({"loss": 1.0}, 0)
        tracker.summary({"auc": 0.5})
    assert sum("W&B" in record.getMessage() for record in caplog.records) == 1


def test_the_tracker_is_finished_also_when_training_fails(compose: Compose, tmp_path: Path) -> None:
    cfg = compose("logger=csv")
    with (
        contextlib.suppress(ZeroDivisionError),
        tracking.track(cfg, tmp_path, job_type="train") as t,
    ):
        t.log({"loss": 1.0}, 0)
        _ = 1 / 0
    assert (tmp_path / "history.csv").read_text() == "epoch,loss\n0,1.0\n"


def test_csv_keeps_every_row_and_every_column(compose: Compose, tmp_path: Path) -> None:
    cfg = compose("logger=csv")
    with tracking.track(cfg, tmp_path, job_type="train") as tracker:
        tracker.log({"fit/loss": 1.5}, 0)
        tracker.log({"fit/loss": 0.5, "fit/accuracy": 0.75}, 1)
        tracker.summary({"test_accuracy": 0.9})
    with (tmp_path / "history.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert rows == [
        {"epoch": "0", "fit/loss": "1.5", "fit/accuracy": ""},
        {"epoch": "1", "fit/loss": "0.5", "fit/accuracy": "0.75"},
    ]
    assert [file.name for file in tmp_path.iterdir()] == ["history.csv"]


@pytest.mark.parametrize("job_type", ["train", "audit"])
def test_no_logger_keeps_nothing(compose: Compose, tmp_path: Path, job_type: str) -> None:
    with tracking.track(compose("logger=none"), tmp_path, job_type=job_type) as tracker:
        tracker.log({"loss": 1.0}, 0)
        tracker.summary({"auc": 0.5})
        tracker.picture("roc", tmp_path / "missing.png")
    assert list(tmp_path.iterdir()) == []


def test_runs_per_seed_can_be_left_out(compose: Compose, tmp_path: Path) -> None:
    cfg = compose("logger=wandb", "logger.per_seed=false", f"results={tmp_path}")
    with tracking.track(cfg, tmp_path, job_type="train") as tracker:
        assert isinstance(tracker, tracking.NoTracker)


def records(folder: Path) -> list[dict[str, Any]]:
    """What an offline run holds, read by W&B's own program."""
    answer = subprocess.run(
        [WANDB, "leet", "inspect", "--json", str(folder)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return [json.loads(line) for line in answer.stdout.splitlines()]


def test_an_offline_run_holds_what_was_logged(compose: Compose, tmp_path: Path) -> None:
    cfg = compose("logger=wandb", f"results={tmp_path}", "seed=3")
    with tracking.track(cfg, tmp_path, job_type="train") as tracker:
        tracker.log({"fit/loss": 0.625}, 0)
    with tracking.track(cfg, tmp_path, job_type="audit") as tracker:
        tracker.summary({"tpr@fpr=0.001": 0.0123456, "tpr@fpr=0.001/low": 0.01})
    (train,) = tmp_path.glob(f"wandb/offline-run-*-{cfg.cell}-3")
    (audit,) = tmp_path.glob(f"wandb/offline-run-*-{cfg.cell}-lira")
    text = json.dumps(records(train))
    assert "0.625" in text
    assert cfg.cell in text  # the group
    text = json.dumps(records(audit))
    assert "0.0123456" in text
    assert "tpr@fpr=0.001" in text
    assert '"job_type": "audit"' in text or '"jobType": "audit"' in text
