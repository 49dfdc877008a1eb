"""The mirror in W&B or a csv file: it never blocks, prompts or stops an experiment."""

import contextlib
import csv
import http.server
import io
import json
import logging
import os
import re
import socket
import subprocess
import sys
import threading
import time
import typing
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import wandb
import yaml
from conftest import ROOT, Compose
from google.protobuf import json_format
from tracked_view import view_of
from wandb.proto import wandb_internal_pb2
from wandb.sdk.launch.sweeps import utils
from wandb.sdk.lib import config_util

from synpriv import cli, config, probe, tracking, wandb_session
from synpriv.results import names
from synpriv.shadow import check

WANDB = Path(sys.executable).with_name("wandb")


KEY = "0" * 40


@pytest.fixture(autouse=True)
def home(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """No key in the environment or in ~/.netrc, nothing remembered from another test."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)  # ./wandb/settings
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("http_proxy", "https_proxy", "NETRC"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(wandb_session, "_decided", [])
    wandb.teardown()  # W&B keeps the settings that it has read
    yield home
    wandb.teardown()


def with_key(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", url)


def refused_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Server:
    """What answers in W&B's place: to the question for the user, then to all others.

    None: it never answers.
    """

    def __init__(self, viewer: int | None, others: int | None) -> None:
        self.asked: list[bytes] = []
        self.over = threading.Event()
        answers = self

        class Answer(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                question = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                answers.asked.append(question)
                status = viewer if b"viewer" in question else others
                if status is None:
                    answers.over.wait(30)
                    return
                content = b'{"data": {"viewer": {"id": "u"}}}'
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "Server":
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.server.shutdown()
        self.server.server_close()


def decided(tmp_path: Path) -> str | None:
    """How a fresh process would mirror."""
    return wandb_session._decide(tmp_path)


def test_without_a_key_nothing_is_asked_and_runs_are_offline(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def asked(*_: object, **__: object) -> None:
        raise AssertionError("a server was asked")

    monkeypatch.setattr(urllib.request, "urlopen", asked)
    with caplog.at_level(logging.INFO):
        assert decided(tmp_path) == "offline"
    assert wandb.setup().settings.base_url in caplog.text


def test_a_refused_connection_is_known_at_once() -> None:
    assert "refused" in str(probe.refusal(f"http://127.0.0.1:{refused_port()}", KEY)).lower()


def test_a_name_that_takes_long_to_resolve_costs_two_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = threading.Event()

    def slow(*_: object, **__: object) -> None:
        done.wait(20)
        raise OSError("no such host")

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    start = time.monotonic()
    assert probe.refusal("http://wandb.invalid", KEY) == "no answer within 2 s"
    assert time.monotonic() - start < 15  # of 20
    done.set()


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        (200, None),
        (429, None),
        (401, "HTTP 401, the key is not accepted"),
        (500, "HTTP 500"),
        (404, "HTTP 404"),
    ],
)
def test_what_a_server_answers_decides(status: int, problem: str | None) -> None:
    with Server(status, status) as server:
        assert probe.refusal(server.url, KEY) == problem
    assert probe._of_status(401, None) is None  # without a key it was not meant to be answered


@pytest.mark.parametrize(
    "body", [b"<html>log in to this network", b"[]", b'{"errors": []}', b'{"data": null}']
)
def test_what_is_not_w_and_b_is_not_taken_for_it(
    body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: io.BytesIO(body))
    assert probe.refusal("http://127.0.0.1", KEY) == "it does not answer as W&B does"


def test_a_user_whom_the_server_does_not_know_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    body = b'{"data": {"viewer": null}}'
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: io.BytesIO(body))
    assert probe.refusal("http://127.0.0.1", KEY) == "the key is not accepted"
    assert probe.refusal("http://127.0.0.1", None) is None


def test_a_malformed_address_is_no_crash() -> None:
    for url in ("wandb.example", "http://", "nonsense://x", "http://[::1", "http://a b"):
        assert probe.refusal(url, KEY) is not None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://ann:secret@host:5000/x: refused", "http://host:5000/x: refused"),
        ("https://secret@host and ftp://a:secret@b", "https://host and ftp://b"),
        ("postgresql+psycopg://ann:se/cret@1@host/db", "postgresql+psycopg://host/db"),
        ("http://host/a@b, http://x:y, ann@host", "http://host/a@b, http://x:y, ann@host"),
    ],
)
def test_no_password_of_an_address_is_shown(text: str, shown: str) -> None:
    assert probe.without_password(text) == shown
    assert probe.in_one_line(OSError(text)) == shown


def test_a_server_behind_a_password_is_asked_and_never_shown_with_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Server(500, 500) as server:
        address = server.url.replace("://", "://ann:secret@")
        assert probe.silence(address) is None  # it answers
        assert probe.refusal(address, KEY) == "HTTP 500"
        with_key(monkeypatch, address)
        wandb.teardown()
        assert decided(tmp_path) == "offline"
    assert f"W&B at {server.url}: HTTP 500" in caplog.text
    assert "secret" not in caplog.text
    monkeypatch.setenv("WANDB_BASE_URL", "htp://ann:secret@host")
    with pytest.raises(ValueError, match=r"^WANDB_BASE_URL=htp://host: must be"):
        wandb_session.check()


def write_netrc(machine: str) -> None:
    file = Path("~/.netrc").expanduser()
    file.write_text(f"machine {machine} login user password {KEY}\n")
    file.chmod(0o600)


def test_a_login_counts_whatever_its_port_and_default_host(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[str, str | None]] = []
    monkeypatch.setattr(probe, "refusal", lambda *words: asked.append(words))
    default = wandb.Settings().base_url
    for url in ("http://127.0.0.1:8123", default):
        wandb.teardown()
        write_netrc(urlsplit(url).netloc)  # as `wandb login` does
        if url != default:
            monkeypatch.setenv("WANDB_BASE_URL", url)
        else:
            monkeypatch.delenv("WANDB_BASE_URL")
        assert decided(tmp_path) == "online"
    assert asked == [("http://127.0.0.1:8123", KEY), (default, KEY)]


@pytest.mark.parametrize("place", ["wandb/settings", ".config/wandb/settings"])
def test_the_settings_files_of_w_and_b_count(
    place: str, monkeypatch: pytest.MonkeyPatch, home: Path, tmp_path: Path
) -> None:
    asked: list[tuple[str, str | None]] = []
    monkeypatch.setattr(probe, "refusal", lambda *words: asked.append(words))
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    file = home / place
    file.parent.mkdir(parents=True)
    file.write_text("[default]\nbase_url = http://127.0.0.1:8124\n")
    assert decided(tmp_path) == "online"
    assert asked == [("http://127.0.0.1:8124", KEY)]
    wandb.teardown()
    file.write_text("[default]\nmode = offline\n")  # `wandb offline`
    assert decided(tmp_path) == "offline"


def test_a_version_that_keeps_keys_elsewhere_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(wandb_session, "_KEY_LOOKUPS", (("wandb.no_such_module", str),))
    assert decided(tmp_path) == "offline"
    assert "set WANDB_API_KEY" in caplog.text


def test_every_mode_of_w_and_b_is_known_and_no_other() -> None:
    theirs = typing.get_args(wandb.Settings.model_fields["mode"].annotation)
    assert set(wandb_session._MEANT) == set(theirs)


@pytest.mark.parametrize(
    ("mode", "meant"),
    [
        *(("offline", "offline"), ("dryrun", "offline"), ("disabled", None)),
        *(("online", "online"), ("run", "online"), ("shared", "shared")),
    ],
)
def test_the_user_s_wandb_mode_decides(
    mode: str, meant: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    with Server(200, 200) as server:
        with_key(monkeypatch, server.url)
        assert decided(tmp_path) == meant
        assert bool(server.asked) == (meant not in ("offline", None))


@pytest.mark.parametrize(
    ("name", "value"),
    [("WANDB_MODE", "ofline"), ("WANDB_MODE", "")]
    + [("WANDB_BASE_URL", url) for url in ("wandb.example", "http://", "ftp://x", "http://x:y")],
)
def test_a_wrong_environment_is_refused_before_a_training(
    name: str, value: str, compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"^{name}={re.escape(value)}: must be .*or unset$"):
        check.check(compose("logger=wandb"))
    with pytest.raises(ValueError, match=f"^{name}="):
        check.confirm(compose("logger=wandb"))
    check.check(compose("logger=csv"))


def runs_in(results: Path) -> list[str]:
    """Folders of runs, without their time."""
    found = [folder.name for folder in results.glob("wandb/*run-*") if folder.is_dir()]
    return sorted(re.sub(r"run-\d+_\d+-", "run-", name) for name in found if name != "latest-run")


@pytest.mark.parametrize(
    ("viewer", "others", "said"),
    [
        (401, 401, "HTTP 401, the key is not accepted"),
        (500, 500, "HTTP 500"),
        (None, None, "no answer within 2 s"),
        (200, 401, "W&B at"),  # what follows is in W&B's own words
        (200, None, "W&B at"),
    ],
)
def test_when_online_fails_the_run_is_offline_complete_and_alone(
    viewer: int | None,
    others: int | None,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    compose: Compose,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cfg = compose("logger=wandb", f"results={tmp_path}")
    with Server(viewer, others) as server:
        with_key(monkeypatch, server.url)
        start = time.monotonic()
        with tracking.track(cfg, tmp_path, job_type="train") as tracker:
            tracker.log({"fit/loss": 0.625}, 0)
        assert time.monotonic() - start < 60  # W&B itself would wait 90 s
        num_asked = len(server.asked)
        cfg.seed = 1
        with tracking.track(cfg, tmp_path, job_type="train") as tracker:
            tracker.log({"fit/loss": 0.375}, 0)
        assert not [words for words in server.asked[num_asked:] if b"query" in words]
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert f"W&B at {server.url}: " in warnings[0]
    assert said in warnings[0]
    assert f"wandb sync {tmp_path}/wandb/offline-run-*" in warnings[0]
    assert runs_in(tmp_path) == [f"offline-run-{cfg.cell}-{seed}" for seed in (0, 1)]
    for seed, loss in ((0, 0.625), (1, 0.375)):
        (folder,) = tmp_path.glob(f"wandb/offline-run-*-{cfg.cell}-{seed}")
        run = records(folder)
        assert items(run, "history", "item")["fit/loss"] == loss
        assert any("exit" in record for record in run)  # it was finished, not cut off


BEGINS = """
import sys
from synpriv import wandb_session
for name in ("a", "b"):
    run = wandb_session.begin(id=name, dir=sys.argv[1], project="p")
    run.log({"loss": 0.5})
    run.finish()
"""


def test_a_process_that_is_offline_sends_no_telemetry_at_its_end(tmp_path: Path) -> None:
    with Server(401, 200) as server:
        keys = {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": server.url}
        command = [sys.executable, "-c", BEGINS, str(tmp_path)]
        subprocess.run(command, cwd=ROOT, env={**os.environ, **keys}, check=True, timeout=60)
        assert len(server.asked) == 1
    assert runs_in(tmp_path) == ["offline-run-a", "offline-run-b"]


def test_a_seed_that_was_interrupted_leaves_no_second_run(compose: Compose, tmp_path: Path) -> None:
    cfg = compose("logger=wandb", f"results={tmp_path}")
    for _ in range(2):
        with (
            contextlib.suppress(KeyboardInterrupt),
            tracking.track(cfg, tmp_path, job_type="train"),
        ):
            raise KeyboardInterrupt
        time.sleep(1)  # the folders' names count seconds
    assert len(runs_in(tmp_path)) == 2
    other = tmp_path / "wandb" / f"offline-run-20260101_000000-x-{cfg.cell}-0"
    other.mkdir()
    with tracking.track(cfg, tmp_path, job_type="train") as tracker:
        tracker.log({"fit/loss": 0.5}, 0)
    assert runs_in(tmp_path) == sorted([f"offline-run-{cfg.cell}-0", f"offline-run-x-{cfg.cell}-0"])
    (folder,) = tmp_path.glob(f"wandb/offline-run-*_*-{cfg.cell}-0/files")
    assert folder.parent != other


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
    assert run.calls == 2  # the first call and, once, its finish
    assert tracker.place() is None


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


def agent_begins(monkeypatch: pytest.MonkeyPatch, folder: Path, run: str) -> None:
    """What `wandb agent` sets for the command that it starts."""
    chosen = folder / f"config-{run}.yaml"
    config_util.save_config_file_from_dict(str(chosen), {"method.lr": {"value": 0.25}})
    for name, value in (("RUN_ID", run), ("SWEEP_ID", "sw33p"), ("SWEEP_PARAM_PATH", str(chosen))):
        monkeypatch.setenv(f"WANDB_{name}", value)


def test_of_an_agent_s_command_the_audit_alone_is_the_run_that_it_waits_for(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = compose("logger=wandb", f"results={tmp_path}", "seed=3")
    agent_begins(monkeypatch, tmp_path, "its0wn")
    assert tracking.is_awaited(cfg)
    # The second audit is another attack's. No run is begun twice in one second under one name.
    for cfg.seed, job_type in ((3, "train"), (3, "audit"), (4, "train"), (4, "audit")):
        with tracking.track(cfg, tmp_path, job_type=job_type) as tracker:
            tracker.log({"objective": 0.5}, 0)
    assert not tracking.is_awaited(cfg)
    others = [f"{cfg.cell}-{name}" for name in ("3", "4", "lira")]
    for name, sweep in (*((other, None) for other in others), ("its0wn", "sw33p")):
        (folder,) = tmp_path.glob(f"wandb/offline-run-*-{name}")
        read = records(folder)
        (run,) = [record["run"] for record in read if "run" in record]
        assert run.get("sweep_id") == sweep
        assert ("method.lr" in str(run["config"])) == (sweep is not None)
        assert items(read, "history", "item")["objective"] == 0.5
    agent_begins(monkeypatch, tmp_path, "an0ther")
    assert tracking.is_awaited(cfg)  # also of a cell that is audited already


def test_the_yaml_of_a_w_and_b_sweep_is_a_command_that_composes(compose: Compose) -> None:
    """As W&B's own agent makes it of the yaml."""
    sweep = yaml.safe_load((ROOT / "docs" / "wandb_sweep.yaml").read_text())
    chosen = {"method.lr": {"value": 0.05}, "method.label_smoothing": {"value": 0.1}}
    assert set(chosen) == set(sweep["parameters"])
    made = {**utils.create_sweep_command_args({"args": chosen})}
    made |= {"env": ["/usr/bin/env"], "interpreter": ["python"], "program": [sweep["program"]]}
    words: list[str] = []
    for word in utils.create_sweep_command(sweep["command"]):
        words += made[word[2:-1]] if word.startswith("${") else [word]
    assert words[:3] == ["/usr/bin/env", "python", "run.py"]
    job = [w for w in cli.normalise(words[3:]) if not w.startswith(("seed=", "-"))]
    cfg = compose(*job)
    check.check(cfg)
    assert (cfg.method.lr, cfg.audit_seed, cfg.dataset.num_validation) == (0.05, 1, 200)
    assert f"seed=range(0,{cfg.num_models})" in cli.normalise(words[3:])
    assert sweep["metric"] == {"name": "objective", "goal": "maximize"}


def inspected(folder: Path) -> str:
    """What an offline run holds, as W&B's own program shows it (it takes seconds to start)."""
    answer = subprocess.run(
        [WANDB, "leet", "inspect", "--json", str(folder)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return answer.stdout


def records(folder: Path) -> list[dict[str, Any]]:
    """The same, read here: LevelDB's log format behind seven bytes, one protocol buffer each."""
    wandb.teardown()  # its service writes the last records when the run is finished already
    (file,) = folder.glob("run-*.wandb")
    content, place, part = file.read_bytes(), 7, b""
    found = []
    while place + 7 <= len(content):
        if 2**15 - place % 2**15 < 7:  # no header fits into the rest of the block
            place += 2**15 - place % 2**15
            continue
        size, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        part += content[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or the last part
            message = wandb_internal_pb2.Record.FromString(part)
            found.append(json_format.MessageToDict(message, preserving_proto_field_name=True))
            part = b""
    return found


def items(run: Sequence[dict[str, Any]], *path: str) -> dict[str, Any]:
    """Keys and values of one kind of record, nested keys with dots."""
    found: dict[str, Any] = {}
    for node in run:
        inner: Any = node
        for name in path:
            inner = inner.get(name, {})
        for item in inner or []:
            key = item.get("key") or ".".join(item["nested_key"])
            found[key] = json.loads(item["value_json"])
    return found


def test_an_offline_run_holds_what_was_logged(compose: Compose, tmp_path: Path) -> None:
    cfg = compose("logger=wandb", f"results={tmp_path}", "seed=3")
    with tracking.track(cfg, tmp_path, job_type="train") as tracker:
        tracker.log({"fit/loss": 0.625}, 0)
    summary = {"tpr@fpr=0.001": 0.0123456, "tpr@fpr=0.001/low": 0.01}
    page = b"<!doctype html><title>an audit</title>"
    with tracking.track(cfg, tmp_path, job_type="audit") as tracker:
        tracker.audit(lambda: tracking.Findings(summary, {}, view_of(), page))
    (train,) = tmp_path.glob(f"wandb/offline-run-*-{cfg.cell}-3")
    (audit,) = tmp_path.glob(f"wandb/offline-run-*-{cfg.cell}-lira")
    text = inspected(train)
    assert "0.625" in text
    assert cfg.cell in text  # the group
    assert items(records(train), "history", "item")["fit/loss"] == 0.625
    text = inspected(audit)
    assert "0.0123456" in text
    assert "tpr@fpr=0.001" in text
    read = [json.loads(line) for line in text.splitlines()]
    assert "audit" in [record.get("run", {}).get("job_type") for record in read]
    holds_what_the_page_shows(audit, read, page)


def holds_what_the_page_shows(folder: Path, read: Sequence[dict[str, Any]], page: bytes) -> None:
    """The curve as rows, canaries and pairs as tables, pictures, and the page as an artifact."""
    rows = [record["history"]["item"] for record in read if "history" in record]
    rows = [row for row in rows if "roc/fpr" in row]
    curve = [(row["roc/fpr"], row["roc/tpr"], row["roc/resolved"]) for row in rows]
    assert curve == [(0.005, 0.3, 0), (0.01, 0.5, 0), (0.2, 0.75, 1), (1.0, 1.0, 1)]
    updates = [record["summary"]["update"] for record in read if "summary" in record]
    assert "leak" in [update.get("verdict") for update in updates]
    steps = {r["metric"]["name"]: r["metric"]["step_metric"] for r in read if "metric" in r}
    assert steps["roc/tpr"] == "roc/fpr"
    tables = {}
    for file in folder.glob("files/media/table/*.table.json"):
        table = json.loads(file.read_text())
        kept = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
        tables[file.name.split("_")[0]] = kept
    canaries, pairs = tables["canaries"], tables["nearest"]
    assert [(row["canary"], row["found"]) for row in canaries] == [
        *((4, 0.8), (3, 0.6), (2, 0.4), (1, 0.2), (0, 0.0)),
    ]
    assert [(row["seed"], row["as_near"], row["out"]) for row in pairs] == [(2, 1, 4)]
    assert len(list(folder.glob("files/media/images/canaries/most_exposed_*.png"))) == 1
    artifacts = [record["artifact"] for record in read if "artifact" in record]
    (made,) = [artifact for artifact in artifacts if artifact["type"] == "report"]
    (entry,) = made["manifest"]["contents"]
    assert entry["path"] == "audit.html"
    assert int(entry["size"]) == len(page)
    kept = Path(entry["local_path"])  # until it is uploaded
    assert kept.is_relative_to(folder.parents[1])
    assert kept.read_bytes() == page


def test_an_audit_is_mirrored_later_as_its_sweep_would_have(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    monkeypatch.setenv("WANDB_ENTITY", "team")
    monkeypatch.setenv("WANDB_PROJECT", "leaks")
    picture = tmp_path / "lira.png"
    Image.new("L", (4, 4)).save(picture)
    summary = {"tpr@fpr=0.001": 0.0123456, "tpr@fpr=0.001/above_chance": 1}
    found = tracking.Findings(summary, {"roc": picture}, view_of(), b"<!doctype html>")
    cfg = compose("logger=wandb", "logger.project=leaks")  # others are cached without the variable
    cfg.results = str(tmp_path / "sweep")
    with tracking.track(cfg, tmp_path, job_type="audit") as tracker:
        tracker.audit(lambda: found)
    attack = config.plain(cfg.attack)
    report = {"cell": cfg.cell, "settings": names.flat(config.science(cfg))}
    place = tracking.mirror(
        report | {"attack_options": attack},
        found,
        results=tmp_path / "later",
    )
    (swept,) = (tmp_path / "sweep").glob("wandb/offline-run-*")
    (later,) = (tmp_path / "later").glob("wandb/offline-run-*")
    assert place == str(later)
    one, other = records(swept), records(later)
    told = [next(record["run"] for record in run if "run" in record) for run in (one, other)]
    for run in told:
        content = {i["key"]: json.loads(i["value_json"]) for i in run["config"]["update"]}
        content.pop("_wandb", None)
        assert content == config.science(cfg) | {"cell": cfg.cell, "attack": attack}
        assert run["run_id"] == f"{cfg.cell}-{cfg.attack.name}"
        assert (run["run_group"], run["job_type"]) == (cfg.cell, "audit")
        assert (run["entity"], run["project"]) == ("team", "leaks")
    for run in (one, other):
        assert summary.items() <= items(run, "summary", "update").items()
    keys = [items(run, "history", "item").keys() for run in (one, other)]
    assert keys[0] == keys[1]
    assert any(key.startswith("roc") for key in keys[0])
    for folder in (swept, later):
        (sent,) = folder.glob("files/media/images/roc*.png")
        assert sent.read_bytes() == picture.read_bytes()


def test_a_project_of_the_environment_is_the_default(
    compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert compose("logger=wandb", "seed=5").logger.project == "synpriv"
    monkeypatch.setenv("WANDB_PROJECT", "leaks")
    assert compose("logger=wandb", "seed=6").logger.project == "leaks"


def test_mirroring_asks_for_a_sound_environment_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "ofline")
    with pytest.raises(ValueError, match="WANDB_MODE=ofline: must be one of online"):
        tracking.mirror({}, tracking.Findings({}, {}), results=tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    report = {"cell": "c", "settings": {"a": 1, "b.c": 2}, "attack_options": {"name": "lira"}}
    assert tracking.mirror(report, tracking.Findings({}, {}), results=tmp_path) is None
    with pytest.raises(ValueError, match=r"a\.b is within a value"):
        tracking.wandb._nested({"a": 1, "a.b": 2})


def test_a_sweep_asks_a_silent_server_once_for_all_its_processes(
    compose: Compose,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")  # restored after the test
    with Server(viewer=401, others=401) as server:
        with_key(monkeypatch, server.url)
        with caplog.at_level(logging.WARNING):
            tracking.settle(compose("logger=wandb", f"results={tmp_path}"))
        assert len(server.asked) == 1
        assert "the key is not accepted; runs stay offline" in caplog.text
        child = "from synpriv import wandb_session as s; print(s._decide(s.Path('.')))"
        answer = subprocess.run(
            [sys.executable, "-c", child],
            capture_output=True, text=True, timeout=60, check=True, cwd=ROOT,
        )  # fmt: skip
        assert answer.stdout == "offline\n"
        assert answer.stderr == ""
        assert len(server.asked) == 1
    assert "WANDB_SERVICE" not in os.environ  # of this process alone
