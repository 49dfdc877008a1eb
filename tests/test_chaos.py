"""A results folder hit by chance: bits flip, processes die; no wrong figure, nothing lost."""

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest
from conftest import Compose, RunPy
from omegaconf import DictConfig
from test_sweep import (
    Start,
    begin,  # noqa: F401 - a fixture
    evidence,
    files,
    report,
    until,
)

from synpriv import config, pipeline, summary
from synpriv.report.__main__ import audited
from synpriv.results.store import EVIDENCE, METRICS
from synpriv.shadow import cells, check, outputs

CORESET = [
    *("dataset.num_train=120", "dataset.num_test=40", "canary.num_canaries=20", "model.width=4"),
    *("accuracy_models=0", "logger=none", "trainer=cpu", "method=coreset_el2n"),
    *("method.student.num_epochs=1", "method.student.warmup_epochs=0"),
    *("method.proxy.num_epochs=2", "method.proxy.warmup_epochs=0", "attack=threshold"),
]
CELL = [*CORESET, "num_models=6"]
# CHAOS=3 is what docs/results.md reports of flipped bits, 300 of them; CHAOS=9 of kills, about 100.
THOROUGH = int(os.environ.get("CHAOS", "1"))
NUM_FLIPS, AT_ONCE = 100 * THOROUGH, 5
NUM_SWEEPS = 1 + 3 * THOROUGH
NUM_KILLS = 2 if THOROUGH == 1 else 6  # of a sweep's processes, before its parent
NUM_MODELS = 10 * ((THOROUGH + 2) // 3)
SWEEP = [
    *(word.replace("student.num_epochs=1", "student.num_epochs=30") for word in CORESET),
    *(f"num_models={NUM_MODELS}", "-m", f"seed=0..{NUM_MODELS - 1}"),
]
# What runs of a launcher beside its parent, as its command lines say, and may be killed.
LAUNCHERS = {
    "pool": ("spawn_main",),
    "submitit_local": ("spawn_main", "submitit.core._submit", "submitit.local._local"),
    "ray": ("ray::",),
}
EXIT = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}


def confirmed(cfg: DictConfig, capsys: pytest.CaptureFixture[str]) -> str:
    """All that a finished sweep and the report command say of a cell."""
    check.confirm(cfg)
    check.warn_of_code(cfg)
    outputs.warn(cfg)
    pipeline.audit_if_complete(cfg, partial=False)
    text = summary.summary([cfg])
    methods = [cell.report["method"] for cell in audited(Path(cfg.results)).cells]
    return f"{text}\nreported: {methods}\n{''.join(capsys.readouterr())}"


def table(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("coreset_el2n ")]


@pytest.mark.slow
def test_flipped_bits_show_no_wrong_figure_and_are_healed_or_named(
    compose: Compose,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    rng = random.Random(0)
    configs = [compose(*CELL, f"results={tmp_path}", f"seed={seed}") for seed in range(6)]
    for cfg in configs:
        pipeline.run(cfg)
    cfg = compose(*CELL, f"results={tmp_path}", "verify=true")
    (shown,) = table(confirmed(cfg, capsys))
    whole = {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file() and f.name != ".lock"}
    kinds: dict[tuple[str, str], list[Path]] = {}
    for file in whole:
        kinds.setdefault((file.relative_to(tmp_path).parts[0], file.name), []).append(file)
    own, proxy = cells.cell_of(cfg), cells.cell_of(config.of_prerequisite(cfg, "proxy"))
    assert len([kind for kind in kinds if kind[0] == own.name]) == 11
    assert len([kind for kind in kinds if kind[0] == proxy.name]) == 6
    healed = named = 0
    for _ in range(NUM_FLIPS // AT_ONCE):
        flipped = [rng.choice(kinds[kind]) for kind in rng.sample(sorted(kinds), AT_ONCE)]
        for file in flipped:
            content = bytearray(whole[file])
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
            file.write_bytes(content)
        caplog.clear()
        text = confirmed(cfg, capsys) + caplog.text
        assert set(table(text)) <= {shown}, flipped
        assert "reported: ['coreset_el2n']" in text or "left out" in text
        for file in flipped:
            if file.read_bytes() == whole[file]:
                healed += 1
                continue
            # A damaged report, or run, is made again with all that lies beside it.
            beside = ["threshold.json"] if file.parent == own.folder else [METRICS, EVIDENCE]
            names = [f"{file.parent.name}/{name}" for name in (file.name, *beside)]
            assert any(name in text for name in names), file
            named += 1
            file.write_bytes(whole[file])
    confirmed(cfg, capsys)
    assert {f: f.read_bytes() for f in whole} == whole
    assert healed + named == NUM_FLIPS
    assert min(healed, named) > NUM_FLIPS / 5


def family(marker: str) -> dict[int, str]:
    """Command lines of the living processes whose environment holds this."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            ours = marker.encode() in (folder / "environ").read_bytes().split(b"\0")
            if ours and (folder / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:  # it ended meanwhile, or is another user's
            continue
    return found


def gone(marker: str, within_s: float = 60) -> bool:
    end = time.monotonic() + within_s
    while family(marker):
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def killed(
    sweep: subprocess.Popen[str], rng: random.Random, marker: str, kinds: tuple[str, ...]
) -> tuple[signal.Signals, str, int]:
    """Kill some of a sweep's processes, then its parent: that one's signal, stderr, all kills."""
    kills = 0
    for _ in range(NUM_KILLS):
        lines = family(marker).items()
        others = [pid for pid, line in lines if any(kind in line for kind in kinds)]
        if others:
            number = rng.choice([signal.SIGKILL, signal.SIGTERM])
            with contextlib.suppress(ProcessLookupError):
                os.kill(rng.choice(others), number)
                kills += 1
        time.sleep(rng.uniform(0.0, NUM_KILLS / 2))
    number = rng.choice(list(EXIT))
    if sweep.poll() is None:
        # A terminal sends Ctrl-C to all; who stops a job tells its first process.
        (os.killpg if number == signal.SIGINT else os.kill)(sweep.pid, number)
        kills += 1
    return number, sweep.communicate(timeout=60)[1], kills


def trainings(results: Path) -> Counter[str]:
    """How often each shadow model, and what it is built on, was trained to its end."""
    logs = [log.read_text("utf-8") for log in results.rglob("run.log")]
    return Counter(re.findall(r"- (\S+, seed \d+): accuracy", "\n".join(logs)))


@pytest.mark.slow
def test_kills_of_workers_and_parents_lose_nothing_that_was_finished(
    begin: Start,  # noqa: F811
    run_py: RunPy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    ray_s = Path(tempfile.mkdtemp(prefix="chaos-", dir="/tmp"))  # paths of its sockets are short
    monkeypatch.setenv("RAY_TMPDIR", str(ray_s))
    rng, results, marker = random.Random(1), tmp_path / "r", f"RAY_TMPDIR={ray_s}"
    kept: dict[str, tuple[int, int]] = {}
    kills: Counter[str] = Counter()
    slots: set[Path] = set()
    for i in range(NUM_SWEEPS):
        launcher, kinds = list(LAUNCHERS.items())[i % 3]
        workers = "cpus_per_task" if launcher == "submitit_local" else "num_workers"
        chosen = (f"hydra/launcher={launcher}", f"hydra.launcher.{workers}=2")
        sweep = begin(*SWEEP, f"results={results}", *chosen)
        if rng.random() < 0.6:  # while it trains
            enough = min(len(files(results)) + 4, 4 * NUM_MODELS - 4)
            until(lambda enough=enough: len(files(results)) >= enough, sweep)
        else:  # while it starts
            time.sleep(rng.uniform(0.1, 8.0))
        number, error, num = killed(sweep, rng, marker, kinds)
        kills[launcher] += num
        assert "Traceback" not in error, error
        if number != signal.SIGKILL:  # after which others speak, and may be dead themselves
            assert error.count("\n") <= 1, error
        slots, before = set((tmp_path / "tmp").glob("synpriv-slots-*")), slots
        assert slots <= before or launcher != "pool" or number == signal.SIGKILL
        # Ray's core ends by itself with a cluster whose agent was killed, deaf to our handler.
        ends = {EXIT[number], 0, 1} | ({-number} if launcher == "ray" else set())
        assert sweep.returncode in ends, (number, error)
        assert gone(marker), family(marker)
        done = {name: state for name, state in files(results).items() if name.endswith(".json")}
        assert {name: done[name] for name in kept} == kept
        kept = done
    assert len(kept) > 0
    last = run_py(*SWEEP, f"results={results}", timeout=600)
    assert last.returncode == 0, last.stderr
    assert {name: files(results)[name] for name in kept} == kept
    assert gone(marker)
    assert max(trainings(results).values()) == 1
    whole = run_py(*SWEEP, f"results={tmp_path / 'whole'}", timeout=600)
    assert whole.returncode == 0, whole.stderr
    assert evidence(results) == evidence(tmp_path / "whole")
    assert report(results, "threshold") == report(tmp_path / "whole", "threshold")
    left = [file for file in results.rglob(".*.tmp") if time.time() - file.stat().st_mtime > 60]
    assert left == []  # younger ones are swept up by a later command
    shutil.rmtree(ray_s, ignore_errors=True)
    print(f"kills: {dict(kills)}; {len(kept)} of {2 * NUM_MODELS} runs were there before the last")
