"""A hyper-parameter search on disk: which trials there are, whose turn it is, how they ended.

Kept by optuna's journal, a file of JSON lines that several machines may write. What is drawn for a
trial depends on the seed, its number and the trials before it, and on nothing that a process holds,
so that a search goes on as if it had never been interrupted.
"""

from __future__ import annotations

import importlib.util
import json
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from hydra_plugins.synpriv._search_space import Choices, Parameter
from synpriv import terminal
from synpriv.objective import Judged
from synpriv.signatures import require

if TYPE_CHECKING:
    from optuna import Study as OptunaStudy
    from optuna import trial as of_optuna
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

    OptunaTrial = of_optuna.Trial

SAMPLERS = ("tpe", "random")
_DIGITS = 4  # of a number drawn from an interval
_SEARCH, _ABOUT, _REASON = "search", "about", "reason"  # attributes of a study and of its trials


def check_installed() -> None:
    """Refuse a search without the package."""
    if importlib.util.find_spec("optuna") is None:
        missing = "hydra/sweeper=optuna: optuna is not installed"
        raise ValueError(f"{missing}; pip install 'synpriv[optuna]'")


class Trial(NamedTuple):
    """One configuration of a study."""

    number: int
    values: dict[str, Any]  # of what is searched, by key
    state: str  # complete | failed | running
    about: dict[str, Any]  # cell, and the numbers of its report
    score: tuple[float, ...] = ()  # what is maximised; empty unless complete
    respects: bool = False  # whether all bounds are respected
    reason: str = ""  # why it failed

    @property
    def numbers(self) -> dict[str, float]:
        """Of its report, by name; empty unless complete."""
        return self.about.get("numbers", {})


class Study:
    """All trials of one search, in files `<results>/<name>-optuna.*`."""

    def __init__(
        self,
        results: Path,
        name: str,
        search: Mapping[str, Any],
        space: Mapping[str, Parameter],
        *,
        num_sums: int,
        seed: int,
        sampler: str,
    ) -> None:
        """search: what it is, as plain data; a study of this name that is of another is refused."""
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.results, self.name, self.seed, self.sampler = results, name, seed, sampler
        self.space = space
        results.mkdir(parents=True, exist_ok=True)
        with FileLock(self._lock()):
            self._study: OptunaStudy = optuna.create_study(
                storage=JournalStorage(JournalFileBackend(str(self.file("log")))),
                study_name=name,
                directions=["maximize"] * num_sums,
                load_if_exists=True,
            )
            self._same_search(json.loads(json.dumps(search)))

    def file(self, ending: str) -> Path:
        """Where its journal (`log`) or its table (`csv`) lies."""
        return self.results / f"{self.name}-optuna.{ending}"

    def _lock(self, trial: int | None = None) -> Path:
        of = "" if trial is None else f"-{trial}"
        return self.results / f".{self.name}-optuna{of}.lock"

    def _same_search(self, search: dict[str, Any]) -> None:
        there = self._study.user_attrs.get(_SEARCH)
        if there is None:
            self._study.set_user_attr(_SEARCH, search)
            return
        other = [key for key in {**there, **search} if there.get(key) != search.get(key)]
        named = f"study={self.name}: was a search with another {' and '.join(other)}"
        require(not other, named, "the same command, or another study=NAME")

    @contextmanager
    def turn(self, num_trials: int) -> Iterator[OptunaTrial | None]:
        """The next trial, which nobody else takes meanwhile; None once there are `num_trials`.

        First come those whose process died: they keep their number and their values.
        """
        lock, trial = self._claim(num_trials)
        try:
            yield trial
        finally:
            if lock is not None and trial is not None:
                if self._is_finished(trial.number):  # nobody asks for it again
                    Path(lock.lock_file).unlink(missing_ok=True)
                lock.release()

    def _claim(self, num_trials: int) -> tuple[FileLock | None, OptunaTrial | None]:
        import optuna

        with FileLock(self._lock()):
            there = self._study.get_trials(deepcopy=False)
            for trial in there:
                lock = FileLock(self._lock(trial.number))
                if self._is_finished(trial.number) or not _is_free(lock):
                    continue
                if self._is_finished(trial.number):  # in the meantime, by who had the lock
                    lock.release()
                    continue
                return lock, optuna.trial.Trial(self._study, trial._trial_id)
            if len(there) >= num_trials:
                return None, None
            lock = FileLock(self._lock(len(there)))
            lock.acquire()
            # One line of the journal: a trial is there with all of its values, or not at all.
            self._study.add_trial(self._drawn(there))
            new = self._study.get_trials(deepcopy=False)[len(there)]
            return lock, optuna.trial.Trial(self._study, new._trial_id)

    def _is_finished(self, number: int) -> bool:
        """Whether a trial is complete or failed, as the file says now."""
        return self._study.get_trials(deepcopy=False)[number].state.is_finished()

    def _drawn(self, there: list[FrozenTrial]) -> FrozenTrial:
        """The next trial after those that are there, running, drawn in memory."""
        import optuna

        twin = optuna.create_study(
            directions=self._study.directions, sampler=self._sampler(len(there))
        )
        twin.add_trials(there)
        trial = twin.ask()
        for name, parameter in self.space.items():
            _suggest(trial, name, parameter)
        drawn = twin.get_trials(deepcopy=False)[-1]
        drawn.params = {name: self._short(name, value) for name, value in drawn.params.items()}
        return drawn

    def _short(self, name: str, value: Any) -> Any:
        """A number with as many digits as people type: it names cells and stands in commands."""
        parameter = self.space[name]
        if isinstance(parameter, Choices) or parameter.integer:
            return value
        if parameter.step is not None:
            return float(f"{value:.12g}")  # 0.3 where sums of 0.1 are 0.30000000000000004
        low, high = float(parameter.low), float(parameter.high)
        alike = math.floor(math.log10(max(-low, high) / (high - low)))  # digits that all have alike
        return min(max(float(f"{value:.{_DIGITS + max(0, alike)}g}"), low), high)

    def _sampler(self, number: int) -> BaseSampler:
        from optuna import samplers

        own = int(np.random.SeedSequence((self.seed, number)).generate_state(1)[0])
        if self.sampler == "random":
            return samplers.RandomSampler(seed=own)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that an option of it is experimental
            return samplers.TPESampler(seed=own)

    def complete(self, trial: OptunaTrial, judged: Judged, about: dict[str, Any]) -> None:
        """A trial was audited."""
        trial.set_user_attr(_ABOUT, about)
        for bound, excess in judged.excesses.items():
            trial.set_constraint(bound, excess)
        self._study.tell(trial, list(judged.values))

    def fail(self, trial: OptunaTrial, reason: str) -> None:
        """A trial could not be trained or audited; it counts all the same."""
        from optuna.trial import TrialState

        trial.set_user_attr(_REASON, terminal.one_line(reason))
        self._study.tell(trial, state=TrialState.FAIL)

    def trials(self) -> list[Trial]:
        """All that were ever tried, in their order."""
        return [_told(trial) for trial in self._study.get_trials(deepcopy=False)]

    def best(self) -> list[Trial]:
        """Those that respect all bounds and are beaten by no other that does, best first."""
        return [_told(trial) for trial in self._study.best_trials]

    def importances(self) -> dict[str, float]:
        """Share of each key in what makes a trial good; {} where that cannot be told."""
        import optuna

        trials = self.trials()
        complete = [trial for trial in trials if trial.state == "complete"]
        several = len(self.space) > 1 and len(self._study.directions) == 1
        if not several or len({trial.score for trial in complete}) < 10:
            return {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return dict(optuna.importance.get_param_importances(self._study))


def _is_free(lock: FileLock) -> bool:
    """Takes the lock where nobody has it."""
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True


def _suggest(trial: OptunaTrial, name: str, parameter: Parameter) -> None:
    if isinstance(parameter, Choices):
        trial.suggest_categorical(name, parameter.texts)
        return
    low, high, step, log, integer = parameter
    if integer:
        trial.suggest_int(name, int(low), int(high), log=log, step=int(step or 1))
    else:
        trial.suggest_float(name, low, high, log=log, step=step)


def _told(trial: FrozenTrial) -> Trial:
    words = {"COMPLETE": "complete", "FAIL": "failed"}
    return Trial(
        trial.number,
        dict(trial.params),
        words.get(trial.state.name, "running"),
        trial.user_attrs.get(_ABOUT, {}),
        tuple(trial.values or ()),
        all(excess <= 0 for excess in trial.constraints.values()),
        trial.user_attrs.get(_REASON, ""),
    )
