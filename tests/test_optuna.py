"""A search over hyper-parameters: its space, its trials, whatever interrupts it."""

import contextlib
import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest
from conftest import RunPy
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from hydra_plugins.synpriv import _trials, _worker
from hydra_plugins.synpriv import sweeper as of_grids
from hydra_plugins.synpriv._search_space import Choices, Numbers, Parameter, Space, space_of
from hydra_plugins.synpriv._study import Study, Trial
from hydra_plugins.synpriv.optuna import OptunaSweeper
from hydra_plugins.synpriv.sweeper import Variant
from synpriv import objective
from synpriv.results import planned

ASKED = objective.parse("accuracy", "tpr@fpr=0.01 <= 0.3")
SPACE: dict[str, Parameter] = {
    "method.lr": Numbers(1e-3, 1.0, log=True),
    "method.num_epochs": Numbers(1, 9, 2.0, integer=True),
    "method.schedule": Choices(("step", "one_cycle")),
}


def parsed(*words: str) -> Any:
    return space_of(OverridesParser.create().parse_overrides(list(words)))


def test_a_command_line_is_divided_into_what_is_searched_and_what_is_not() -> None:
    space = parsed(
        *("method=coreset", "seed=range(0,6)", "method.lr=tag(log,interval(0.01,0.3))"),
        *("method.keep=interval(0.1,0.5)", "method.a=int(interval(2,9))", "method.b=range(1,10,3)"),
        *("method.c=range(0.1,0.45,0.1)", "model=a,'b c'", "method.d=true,null,2"),
    )
    assert space.fixed == ["method=coreset", "seed=range(0,6)"]
    assert space.parameters == {
        "method.lr": Numbers(0.01, 0.3, log=True),
        "method.keep": Numbers(0.1, 0.5),
        "method.a": Numbers(2, 9, integer=True),
        "method.b": Numbers(1, 7, 3, integer=True),
        "method.c": Numbers(0.1, pytest.approx(0.4), 0.1),  # type: ignore[arg-type]
        "model": Choices(("a", "'b c'")),
        "method.d": Choices(("True", "null", "2")),
    }
    probes = list(space.probes())
    seen = {word for probe in probes for word in probe}
    assert {"method.lr=0.01", "method.lr=0.3", "model='b c'", "method.d=null"} <= seen
    assert len(probes) == 1 + 5 + 1 + 2


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("method.lr=interval(0.3,0.01)", "an empty interval: must be the smaller end"),
        ("method.lr=interval(1,1)", "an empty interval"),
        ("method.lr=tag(log,interval(0,1))", "the logarithm of 0: must be of positive ends"),
        ("method.lr=tag(logg,interval(1,2))", "logg: must be the tag log, or none"),
        ("method.lr=tag(log,choice(1,2))", "must be without a tag"),
        ("method.lr=choice(1,1)", "must be two or more options"),
        ("method.lr=range(1,2)", "1 values: must be two or more"),
        ("attack=lira,threshold", "must be fixed: a search is over method, model"),
        ("dataset.num_train=100,200", "must be fixed"),
        ("audit_seed=1,2", "must be fixed"),
        ("method.lr=0.1", "without a search space"),
        ("method.schedule=glob(*)", r"must be options as a,b, an interval\(a,b\)"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused(word: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parsed(word)


def study(results: Path, *, sampler: str = "tpe", seed: int = 0, **search: Any) -> Study:
    about = {"cell": "a", **search}
    return Study(results, "s", about, SPACE, num_sums=1, seed=seed, sampler=sampler)


def report(values: dict[str, Any]) -> dict[str, float]:
    """An artificial audit: accuracy and leak rise with the learning rate and the epochs."""
    lr, epochs = 3 + math.log10(values["method.lr"]), values["method.num_epochs"]
    bonus = 0.1 * (values["method.schedule"] == "step")
    return {"accuracy": (lr + epochs / 9) / 5 + bonus, "tpr@fpr=0.01": lr * epochs / 27}


def search(own: Study, num_trials: int) -> Study:
    """All trials of a study; every fifth fails."""
    while True:
        with own.turn(num_trials) as trial:
            if trial is None:
                return own
            if trial.number % 5 == 3:
                own.fail(trial, "diverged;\n=1+1")
                continue
            numbers = report(trial.params)
            own.complete(trial, ASKED.judge(numbers), {"cell": "c", "numbers": numbers})


class Killed(BaseException):
    """What ends a process in the midst of a trial."""


def interrupted(own: Study, num_trials: int) -> None:
    def killed() -> None:
        with own.turn(num_trials) as trial:
            assert trial is not None
            raise Killed

    with pytest.raises(Killed):
        killed()


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_same_seed_gives_the_same_trials_also_after_interruptions(
    tmp_path: Path, sampler: str
) -> None:
    whole = search(study(tmp_path / "whole", sampler=sampler), 18).trials()
    place = tmp_path / "parts"
    for reached in (0, 6, 13):
        search(study(place, sampler=sampler), reached)
        interrupted(study(place, sampler=sampler), 18)
        there = study(place, sampler=sampler).trials()
        assert [trial.state for trial in there[reached:]] == ["running"]
        assert there[reached].values == whole[reached].values
    assert search(study(place, sampler=sampler), 18).trials() == whole
    assert len({json.dumps(trial.values) for trial in whole}) == 18
    other = search(study(tmp_path / "other", sampler=sampler, seed=1), 3).trials()
    assert [t.values for t in other] != [t.values for t in whole[:3]]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_trial_that_was_killed_while_it_was_drawn_has_the_values_it_would_have_had(
    tmp_path: Path, sampler: str
) -> None:
    """The journal ends after any line of the last trial, as a kill leaves it."""
    log = search(study(tmp_path, sampler=sampler), 11).file("log")
    before = log.read_bytes()
    interrupted(study(tmp_path, sampler=sampler), 12)
    whole = study(tmp_path, sampler=sampler).trials()[11].values
    assert set(whole) == set(SPACE)
    added = log.read_bytes().removeprefix(before).splitlines(keepends=True)
    for lines in range(len(added)):
        log.write_bytes(b"".join([before, *added[:lines]]))
        with study(tmp_path, sampler=sampler).turn(12) as trial:
            assert trial is not None
            assert (trial.number, trial.params) == (11, whole)


@pytest.mark.parametrize(
    "space",
    [
        Numbers(1e-4, 1.0, log=True),
        Numbers(0.123456, 0.9),
        Numbers(-1e6, -999_990.0),
        Numbers(0.1, 0.7, 0.1),
        Numbers(1000.25, 1000.5),
    ],
)
def test_numbers_have_few_digits_stay_in_their_interval_and_differ(
    tmp_path: Path, space: Numbers
) -> None:
    own = Study(tmp_path, "s", {}, {"a": space}, num_sums=1, seed=0, sampler="random")
    for _ in range(30):
        with own.turn(30) as trial:
            assert trial is not None
            own.complete(trial, ASKED.judge({"accuracy": 1.0, "tpr@fpr=0.01": 0.0}), {})
    drawn = [trial.values["a"] for trial in own.trials()]
    assert all(space.low <= value <= space.high for value in drawn)
    assert max(len(str(value).strip("-").replace(".", "")) for value in drawn) <= 9
    assert len(set(drawn)) >= (5 if space.step else 25)


def test_a_rounded_number_stays_between_the_ends(tmp_path: Path) -> None:
    ends = Numbers(0.123449, 0.246051)
    own = Study(tmp_path, "s", {}, {"a": ends}, num_sums=1, seed=0, sampler="random")
    assert (own._short("a", 0.12344901), own._short("a", 0.24605099)) == (0.123449, 0.246051)
    assert own._short("a", 0.2000049) == 0.2


def failing(num_trials: int, own: Study, *, fail_fast: bool) -> str | None:
    """Why a search of which no trial can be trained ends."""
    sweeper = OptunaSweeper(num_trials=num_trials)
    sweeper.launcher = SimpleNamespace(fail_fast=fail_fast)
    sweeper._trained = lambda trials: dict.fromkeys(trials, "diverged")  # type: ignore[method-assign]
    return sweeper._search(own, Space(own.space, []), ASKED)  # type: ignore[arg-type]


def test_five_failures_in_a_row_end_a_search(tmp_path: Path) -> None:
    own = study(tmp_path)
    assert failing(9, own, fail_fast=False) == (
        "5 trials in a row failed, see above; nothing more is tried"
    )
    assert [trial.state for trial in own.trials()] == ["failed"] * 5


def test_fail_fast_ends_a_search_and_leaves_the_trial_open(tmp_path: Path) -> None:
    own = study(tmp_path)
    stopped = failing(9, own, fail_fast=True)
    assert stopped is not None
    assert stopped.startswith("trial 0: diverged; it stays open (hydra.launcher.fail_fast=true")
    assert [trial.state for trial in own.trials()] == ["running"]
    assert [t.state for t in search(study(tmp_path), 2).trials()] == ["complete"] * 2


@pytest.mark.parametrize("fail_fast", [False, True])
@pytest.mark.parametrize("ends", [["died", "done"], ["died", "died"], ["failed", "done"]])
def test_what_a_dead_worker_was_at_is_trained_once_more(
    ends: list[str], fail_fast: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ["method=undefended", "seed=0"]
    done = JobReturn(overrides=job, status=JobStatus.COMPLETED)
    kinds = {"died": _worker.died(job, "killed"), "failed": _worker.failed(job, "diverged")}
    cfg = OmegaConf.create({"results": str(tmp_path), "cell": "c", "num_models": 4})
    asked: planned.Asked = {"seeds": [0], "num_models": 4, "attack": None, "builds_on": {}}
    planned.note(tmp_path / "c", asked, "it")
    monkeypatch.setenv("SYNPRIV_COMMAND", "it")
    monkeypatch.setattr("synpriv.shadow.check.check", lambda _: None)
    monkeypatch.setattr(of_grids, "_with_clean_runs", list)
    monkeypatch.setattr(of_grids, "_audit", lambda _: [])
    sweeper, returns = OptunaSweeper(), iter(ends)
    sweeper.launcher = SimpleNamespace(fail_fast=fail_fast)
    monkeypatch.setattr(sweeper, "_of_trials", lambda _: [job])
    monkeypatch.setattr(sweeper, "_variants", lambda _: [Variant(cfg, {0: job})])
    monkeypatch.setattr(sweeper, "_train", lambda _: [[kinds.get(next(returns), done)]])
    outcome = sweeper._trained({7: []})[7]
    assert list(returns) == (ends[1:] if ends[0] == "failed" or fail_fast else [])
    asked_still = [*(tmp_path / "c").glob(".planned-*.json")]
    if ends == ["died", "done"] and not fail_fast:
        assert outcome == cfg
        assert len(asked_still) == 1
    else:
        assert outcome == {"died": "killed", "failed": "diverged"}[ends[0]]
        assert len(asked_still) == fail_fast  # where the trial stays open


def in_batches(own: Study, num_trials: int, *, told: int | None = None) -> list[int]:
    """Batches of four to the end, or until `told` trials were told; returns their sizes."""
    sweeper, sizes = OptunaSweeper(num_trials=num_trials, trials_at_once=4), []
    while True:
        with contextlib.ExitStack() as turns:
            batch = sweeper._batch(own, turns)
            if not batch:
                return sizes
            sizes.append(len(batch))
            for trial in batch:
                if told == 0:
                    return sizes
                numbers = report(trial.params)
                own.complete(trial, ASKED.judge(numbers), {"numbers": numbers})
                told = None if told is None else told - 1


def test_batches_end_where_they_ended_before_whatever_interrupted_them(tmp_path: Path) -> None:
    whole = study(tmp_path / "whole")
    assert in_batches(whole, 18) == [4, 4, 4, 4, 2]
    place = tmp_path / "parts"
    assert in_batches(study(place), 18, told=14) == [4, 4, 4, 4]
    assert [trial.state for trial in study(place).trials()][-3:] == ["complete", *["running"] * 2]
    assert in_batches(study(place), 18) == [2, 2]
    assert study(place).trials() == whole.trials()


def test_the_trials_are_optuna_s_own(tmp_path: Path) -> None:
    """Against optuna itself in memory, with the sampler that each trial is said to have."""
    theirs = optuna.create_study(direction="maximize")
    for number in range(18):
        seed = int(np.random.SeedSequence((0, number)).generate_state(1)[0])
        drawn = optuna.create_study(
            direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed)
        )
        drawn.add_trials(theirs.trials)
        trial = drawn.ask()
        lr = trial.suggest_float("method.lr", 1e-3, 1, log=True)
        trial.suggest_int("method.num_epochs", 1, 9, step=2)
        trial.suggest_categorical("method.schedule", ["step", "one_cycle"])
        values = trial.params | {"method.lr": float(f"{lr:.4g}")}
        told: dict[str, Any] = {"state": optuna.trial.TrialState.FAIL}
        if number % 5 != 3:
            numbers = report(values)
            excess = {f"constraints:{ASKED.bounds[0]}": numbers["tpr@fpr=0.01"] - 0.3}
            told = {"value": numbers["accuracy"], "system_attrs": excess}
        of = trial.distributions
        theirs.add_trial(optuna.create_trial(params=values, distributions=of, **told))
    ours = search(study(tmp_path), 18)
    assert [t.values for t in ours.trials()] == [t.params for t in theirs.trials]
    assert [t.number for t in ours.best()] == [theirs.best_trial.number]


def test_the_best_respects_the_bound_and_no_other_that_does_is_better(tmp_path: Path) -> None:
    own = search(study(tmp_path), 30)
    done = [trial for trial in own.trials() if trial.state == "complete"]
    inside = [t for t in done if t.numbers["tpr@fpr=0.01"] <= 0.3]
    (best,) = own.best()
    assert best.numbers["accuracy"] == max(trial.numbers["accuracy"] for trial in inside)
    assert best.numbers["accuracy"] < max(trial.numbers["accuracy"] for trial in done)
    assert [t.respects for t in done] == [t in inside for t in done]
    assert "* best: accuracy subject to tpr@fpr=0.01 <= 0.3" in _trials.table(own, ASKED)
    assert set(own.importances()) == set(SPACE)


def pareto(trials: Sequence[Trial]) -> set[int]:
    """Numbers of trials that no other dominates, by comparing all pairs."""
    return {
        one.number
        for one in trials
        if not any(
            all(a >= b for a, b in zip(other.score, one.score, strict=True))
            and other.score != one.score
            for other in trials
        )
    }


def test_several_sums_have_a_front(tmp_path: Path) -> None:
    asked = objective.parse("accuracy,-tpr@fpr=0.01", "accuracy >= 0.4")
    own = Study(tmp_path, "s", {}, SPACE, num_sums=2, seed=0, sampler="tpe")
    for _ in range(25):
        with own.turn(25) as trial:
            assert trial is not None
            numbers = report(trial.params)
            own.complete(trial, asked.judge(numbers), {"numbers": numbers})
    inside = [trial for trial in own.trials() if trial.numbers["accuracy"] >= 0.4]
    assert {trial.number for trial in own.best()} == pareto(inside)
    assert own.importances() == {}
    assert _trials.table(own, asked).count("* best: accuracy and - tpr@fpr=0.01 subject to") == 1
    assert not list(tmp_path.glob(".*-optuna-*.lock"))


def test_all_trials_count_failed_and_resumed_ones_too(tmp_path: Path) -> None:
    for num_trials in (4, 4, 7, 5):  # the same command, more trials, fewer
        search(study(tmp_path), num_trials)
        _trials.write(study(tmp_path), ASKED)
    states = [trial.state for trial in study(tmp_path).trials()]
    assert states == ["complete"] * 3 + ["failed"] + ["complete"] * 3
    with (tmp_path / "s-optuna.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 7
    assert rows[-1]["why"] == "diverged; =1+1"
    assert [row["trial"] for row in rows if row["best"] == "1"] == [
        str(trial.number) for trial in study(tmp_path).best()
    ]


def test_nobody_takes_a_trial_that_somebody_is_at(tmp_path: Path) -> None:
    first, second = study(tmp_path), study(tmp_path)
    with first.turn(3) as one, second.turn(3) as other:
        assert one is not None
        assert other is not None
        assert (one.number, other.number) == (0, 1)
    with second.turn(3) as one:  # its holder gave it up
        assert one is not None
        assert one.number == 0


def test_a_study_of_another_search_is_refused(tmp_path: Path) -> None:
    study(tmp_path)
    with pytest.raises(ValueError, match=r"study=s: was a search with another cell: must"):
        study(tmp_path, cell="b")


def test_a_search_in_which_nothing_fits_says_so(tmp_path: Path) -> None:
    own = study(tmp_path)
    with own.turn(1) as trial:
        assert trial is not None
        numbers = {"accuracy": 1.0, "tpr@fpr=0.01": 0.9}
        own.complete(trial, ASKED.judge(numbers), {"numbers": numbers})
    assert own.best() == []
    assert _trials.none_fits(own, ASKED).startswith("none of 1 trials respects tpr@fpr=0.01 <= 0.3")
    assert "exceeds a bound" in _trials.table(own, ASKED)


TINY = [
    *("hydra/sweeper=optuna", "study=tiny", "logger=none", "trainer=cpu", "accuracy_models=0"),
    *("model.width=4", "dataset.num_train=200", "dataset.num_validation=50", "attack=threshold"),
    *("num_models=4", "canary.num_canaries=30", "method.num_epochs=1", "method.warmup_epochs=0"),
    *("objective.subject_to=tpr@fpr=0.1 <= 1", "hydra.launcher.num_workers=1", "-m", "seed=0..3"),
]


@pytest.mark.slow
def test_a_search_trains_audits_resumes_and_says_how_to_train_what_it_found(
    run_py: RunPy, tmp_path: Path
) -> None:
    words = [*TINY, f"results={tmp_path}", "method.lr=interval(0.1,1)"]
    first = run_py(*words, "hydra.sweeper.num_trials=1", timeout=300)
    assert first.returncode == 0, first.stdout + first.stderr
    again = run_py(*words, "hydra.sweeper.num_trials=1", timeout=300)  # trains nothing
    assert "1 trials are there" in again.stdout, again.stdout + again.stderr
    assert "jobs:" not in again.stdout
    (told,) = [line for line in again.stdout.splitlines() if " anew: " in line]
    assert told in first.stdout
    assert "audit_seed=0 tuning.num_trials=2 -m seed=0..63" in told
    assert not any(
        word in told for word in ("num_validation", "optuna", "objective", "accuracy_models")
    )
    with (tmp_path / "tiny-optuna.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert f"method.lr={row['method.lr']}" in told
    report = json.loads((tmp_path / row["cell"] / "threshold.json").read_text())
    metrics = json.loads((tmp_path / row["cell"] / "2" / "metrics.json").read_text())
    assert report["data"]["evaluated_on"] == "validation"
    assert report["settings"]["audit_seed"] == 1
    assert float(row["accuracy"]) == report["accuracy"]["mean"]
    assert "validation_accuracy" in metrics
    assert "test_accuracy" not in metrics
