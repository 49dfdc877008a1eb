"""What is done once per sweep and not once per seed: calls are counted, not seconds."""

import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Compose

from hydra_plugins.synpriv import _failures, _worker, sweeper
from hydra_plugins.synpriv.sweeper import Variant
from synpriv import config, pipeline, summary
from synpriv.data import draws
from synpriv.results import planned, store
from synpriv.shadow import pools
from synpriv.shadow.cells import cell_of
from synpriv.status import __main__ as status

S = 200
MANY = ["method=undefended", "logger=none", f"num_models={S}", "accuracy_models=0"]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Counter[str]]:
    """Count the calls of functions, which are still called."""
    counted: Counter[str] = Counter()

    def count(*of: tuple[Any, str]) -> Counter[str]:
        for where, name in of:
            whole = getattr(where, name)

            def call(*args: Any, _whole: Any = whole, _name: str = name, **kw: Any) -> Any:
                counted[_name] += 1
                return _whole(*args, **kw)

            monkeypatch.setattr(where, name, call)
        return counted

    return count


def test_a_finished_job_looks_at_as_many_runs_however_many_are_done(
    compose: Compose, tmp_path: Path, calls: Callable[..., Counter[str]]
) -> None:
    cfg = compose(*MANY, f"results={tmp_path}")
    cell, seen = cell_of(cfg), []
    counted = calls((Path, "is_file"), (Path, "read_bytes"), (store.Cell, "problem"))
    for seed in range(S - 1):
        cell.run(seed).mkdir(parents=True)
        (cell.run(seed) / store.METRICS).touch()
        if seed not in (0, S // 2, S - 2):
            continue
        counted.clear()
        assert pipeline.audit_if_complete(cfg, partial=False, waits=True) is None
        seen.append(counted.total())
    assert max(seen) == min(seen) == 1


def test_damaged_runs_that_are_trained_again_do_not_make_each_job_look_at_all(
    compose: Compose, tmp_path: Path, calls: Callable[..., Counter[str]]
) -> None:
    cfg = compose(*MANY, f"results={tmp_path}")
    cell = cell_of(cfg)
    for seed in range(S):
        cell.run(seed).mkdir(parents=True)
        (cell.run(seed) / store.METRICS).write_text("{}")
    counted = calls((store.Cell, "problem"))
    assert pipeline.audit_if_complete(cfg, partial=False, waits=True) is None
    assert counted["problem"] == 1


def test_a_sweep_resolves_and_checks_a_config_as_often_for_many_seeds_as_for_few(
    compose: Compose, tmp_path: Path, calls: Callable[..., Counter[str]]
) -> None:
    counted, seen = calls((config, "science"), (config, "validate")), []
    for num in (2, 100):
        cfg = compose(*MANY, f"results={tmp_path}")
        variant = Variant(cfg, {seed: [f"seed={seed}"] for seed in range(num)})
        counted.clear()
        (same,) = sweeper._with_clean_runs([variant])
        assert len(sweeper._missing(same)) == num
        sweeper._say_why(cfg, same.seeds)
        sweeper._note_plan(variant)
        seen.append(counted.total())
    assert seen[0] == seen[1] > 0


def test_a_cell_s_canaries_are_drawn_once_per_process_and_as_without_keeping(
    compose: Compose, calls: Callable[..., Counter[str]]
) -> None:
    counted = calls((pools, "draw"))
    kept = []
    for seed in range(5):
        cfg = compose(*MANY, f"seed={seed}")
        kept.append(pools.draw_canaries(cfg, pools.load_pools(cfg)))
    assert counted["draw"] <= 1  # none if another test has
    assert len({*map(id, kept)}) == 1
    with pytest.raises(ValueError, match="read-only"):
        kept[0].member[0, 0] = True
    for words in (["audit_seed=1"], ["num_models=16"], ["canary.num_canaries=20"], []):
        cfg = compose(*MANY, *words)
        found = pools.draw_canaries(cfg, pools.load_pools(cfg))
        fresh = draws.draw(
            pools.load_pools(cfg),
            kind=cfg.canary.kind,
            num_canaries=cfg.canary.num_canaries,
            member_draw=cfg.canary.membership,
            num_models=cfg.num_models,
            audit_seed=cfg.audit_seed,
        )
        for name in ("canaries", "member", "labels"):
            assert np.array_equal(getattr(found, name), getattr(fresh, name))


def test_a_plan_says_what_its_sweep_asked_for(compose: Compose, tmp_path: Path) -> None:
    words = ["method=distill", "num_models=6", f"results={tmp_path}", "logger=none"]
    cfg = compose(*words)
    for seeds in (range(6), range(3)):
        sweeper._note_plan(Variant(cfg, {seed: [f"seed={seed}"] for seed in seeds}))
    found, wrong = planned.read((tmp_path / cfg.cell).glob(f"{planned.PREFIX}*"))
    asked = sorted((plan.asked for plan in found), key=lambda asked: len(asked["seeds"]))
    assert wrong == []
    assert [each["seeds"] for each in asked] == [[0, 1, 2], [0, 1, 2, 3, 4, 5]]
    assert [each["attack"] for each in asked] == ["lira", "lira"]
    sweeper._note_plan(Variant(cfg, {seed: [f"seed={seed}"] for seed in range(6)}))
    assert len(list((tmp_path / cfg.cell).iterdir())) == 2


def test_what_a_huge_sweep_prints_stays_short(compose: Compose, tmp_path: Path) -> None:
    cfg = compose(*MANY, f"results={tmp_path}")
    cell = cell_of(cfg)
    for seed in range(S - 1):
        cell.run(seed).mkdir(parents=True)
        (cell.run(seed) / store.METRICS).write_text("{}")
    said = summary.what_is_missing(cell, hints=True, grows=True).splitlines()
    assert len(said) == 1 + summary.MOST + 1 + 1
    assert f"and {S - 1 - summary.MOST} more that are damaged" in said
    jobs = [_worker.failed([f"seed={seed}"], f"seed {seed} diverged") for seed in range(S)]
    lines = _failures.listed(jobs).splitlines()
    assert len(lines) == 2 * _failures.REASONS + 1
    assert lines[-1].startswith(f"and {S - _failures.REASONS} more reasons")


@pytest.mark.slow
def test_a_real_sweep_as_status_sees_it(
    start_py: Callable[..., subprocess.Popen[str]], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    words = [
        "method=undefended",
        "dataset.num_train=200",
        "canary.num_canaries=20",
        "model.width=4",
    ]
    words += ["accuracy_models=0", "logger=none", "trainer=cpu", "num_models=6", "attack=threshold"]
    words += ["method.num_epochs=4", "method.warmup_epochs=0", "hydra.launcher.num_workers=1"]
    process = start_py(*words, f"results={tmp_path / 'r'}", "-m", "seed=0..5")
    seen: list[dict[str, Any]] = []
    while process.poll() is None:
        if (tmp_path / "r").is_dir():
            status.main([str(tmp_path / "r"), "--json"])
            seen.append(json.loads(capsys.readouterr().out))
        time.sleep(0.3)
    assert process.returncode == 0, process.communicate()
    looks = [look["cells"][0] for look in seen if look["cells"]]
    assert all(look["asked"] == [*range(6)] for look in looks)
    assert all(
        len(look["done"]) + len(look["running"]) + len(look["missing"]) == 6 for look in looks
    )
    assert [len(look["done"]) for look in looks] == sorted(len(look["done"]) for look in looks)
    workers = {who["pid"] for look in looks for who in look["running"].values()}
    assert len(workers) == 1
    assert {*workers}.isdisjoint({process.pid})
    assert status.main([str(tmp_path / "r")]) == 0
    assert "6/6" in capsys.readouterr().out
