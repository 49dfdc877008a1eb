"""A sweeper that searches hyper-parameters with optuna: `hydra/sweeper=optuna`.

A trial is a cell: one configuration, trained for all seeds by whatever launcher there is, audited,
and told to optuna. hydra-optuna-sweeper knows one job per trial and an optuna of long ago.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from omegaconf import DictConfig

from hydra_plugins.synpriv import _worker, sweeper
from hydra_plugins.synpriv._composition import without_seed
from hydra_plugins.synpriv._search_space import Space, space_of
from hydra_plugins.synpriv.sweeper import RangeSweeper, Variant
from synpriv import cli, config, fingerprint, terminal
from synpriv.objective import VALIDATION_ACCURACY, Objective
from synpriv.signatures import require

if TYPE_CHECKING:
    from hydra_plugins.synpriv._study import OptunaTrial, Study

_ALWAYS = ("accuracy", "tpr@fpr=0.01", "auc", "epsilon", "train_s")  # kept of every trial's report
_FAIL_FAST = "hydra.launcher.fail_fast=true; without it a failed trial counts and others follow"
_FAILURES = 5  # in a row end a search: the cause is not the configuration


class OptunaSweeper(RangeSweeper):
    """Asks optuna for one configuration after the other, and trains and audits each for all seeds.

    The space is refused as a whole before the first training. A trial that fails counts, and the
    search goes on.
    """

    def __init__(
        self,
        *,
        num_trials: int = 20,
        sampler: str = "tpe",
        seed: int = 0,
        audit_seed: int = 1,
        trials_at_once: int = 1,
        max_batch_size: int | None = None,
        params: dict[str, Any] | None = None,
        **others: Any,
    ) -> None:
        sweeper.refuse(others, "left out: hydra/sweeper=optuna has no such option")
        super().__init__(max_batch_size=max_batch_size, params=params)
        self.num_trials, self.sampler = num_trials, sampler
        self.seed, self.audit_seed = seed, audit_seed
        self.trials_at_once = trials_at_once

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        from hydra_plugins.synpriv import _final, _study, _trials
        from synpriv import pipeline

        assert self.config is not None
        assert self.hydra_context is not None

        _study.check_installed()
        self._check_options(_study.SAMPLERS)
        space = self._space(arguments)
        first = self._checked(space)
        if first.check:
            return []
        objective = pipeline.objective_of(first)
        study = self._study(first, space, objective)
        print(f"study {study.name}: {study.file('log')}, {len(study.trials())} trials are there")
        stopped = self._search(study, space, objective)
        _trials.write(study, objective)
        print(_trials.table(study, objective))
        if stopped is not None:
            raise HydraException(stopped)
        found = [(best, space.trial(best.values)) for best in _trials.winners(study)]
        loader = self.hydra_context.config_loader
        for line in _final.lines(loader, self.config, found, num_trials=len(study.trials())):
            print(line)
        if not study.best():
            raise HydraException(_trials.none_fits(study, objective))
        return []

    def _check_options(self, samplers: Sequence[str]) -> None:
        integers = {"num_trials": 1, "trials_at_once": 1, "seed": 0, "audit_seed": 0}
        for name, least in integers.items():
            value = getattr(self, name)
            fits = type(value) is int and value >= least
            require(fits, f"hydra.sweeper.{name}={value}", f"an integer, at least {least}")
        right = f"one of {', '.join(samplers)}"
        require(self.sampler in samplers, f"hydra.sweeper.sampler={self.sampler}", right)

    def _space(self, arguments: list[str]) -> Space:
        """What is searched, and what every trial has in common, its audit seed included."""
        assert self.hydra_context is not None
        typed = {word.partition("=")[0] for word in arguments}
        params = [word for word in self._parse_config() if word.partition("=")[0] not in typed]
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        return space_of(parser.parse_overrides([*params, *arguments]))

    def _of_trials(self, words: Sequence[str]) -> list[list[str]]:
        """The jobs, one per seed, of a trial with these overrides."""
        own = [word for word in words if word.partition("=")[0] != "audit_seed"]
        return self._jobs([*own, f"audit_seed={self.audit_seed}"])

    def _jobs(self, arguments: list[str]) -> list[list[str]]:
        """As of a grid, whose `params` are not looked at again: the space has them."""
        params, self.params = self.params, {}
        try:
            return super()._jobs(arguments)
        finally:
            self.params = params

    def _checked(self, space: Space) -> DictConfig:
        """The first configuration of a space of which every option and end can be trained."""
        from synpriv import pipeline
        from synpriv.shadow import check

        variants = [self._variants(self._of_trials(words)) for words in space.probes()]
        for found in variants:
            require(len(found) == 1, f"{len(found)} cells in a trial", "one: only seed is swept")
        first = variants[0][0]
        self._check_seeds(first)
        theirs = self._composed(next(space.probes())).audit_seed
        named = f"hydra.sweeper.audit_seed={self.audit_seed}"
        right = "another one than audit_seed: what chooses would be what is told"
        require(theirs != self.audit_seed, named, right)
        names = pipeline.objective_of(first.cfg).names
        needs_images = any(name in ("accuracy", VALIDATION_ACCURACY) for name in names)
        there = first.cfg.dataset.get("num_validation") is not None
        right = "how many private images are held out to choose by; the test set is not for that"
        require(there or not needs_images, "dataset.num_validation=null", right)
        for (variant,) in variants[1:]:
            check.check(variant.cfg)
        _note_unread(space, [variant.cfg.cell for (variant,) in variants])
        check.announce([first.cfg], said=self._said)
        _warn_of_rates(first.cfg, names)
        return first.cfg

    def _check_seeds(self, variant: Variant) -> None:
        """A trial is audited, so it must be whole."""
        num_models = variant.cfg.num_models
        missing = set(range(num_models)) - set(variant.seeds)
        named = f"{len(variant.seeds)} of {num_models} seeds"
        require(not missing, named, f"seed=0..{num_models - 1}: each trial is audited")

    def _composed(self, words: list[str]) -> DictConfig:
        assert self.config is not None
        assert self.hydra_context is not None
        words = [word for word in words if not word.startswith("seed=")]
        return self.hydra_context.config_loader.load_sweep_config(self.config, words)

    def _study(self, first: DictConfig, space: Space, objective: Objective) -> Study:
        from hydra_plugins.synpriv._study import Study

        search = {
            "setting": [first.cell, first.num_models, first.accuracy_models],
            "attack": config.plain(first.attack),
            "objective": [list(objective.sums), list(map(str, objective.bounds))],
            "search space": {key: [*of] for key, of in space.parameters.items()},
            "sampler": [self.sampler, self.seed, self.trials_at_once],
        }
        return Study(
            Path(first.results),
            first.study or f"search-{fingerprint.digest(search)}",
            search,
            space.parameters,
            num_sums=len(objective.sums),
            seed=self.seed,
            sampler=self.sampler,
        )

    def _search(self, study: Study, space: Space, objective: Objective) -> str | None:
        """Batches of trials, until there are enough; else why no further one is tried.

        What is no trial's own fault is raised.
        """
        in_a_row = 0
        while in_a_row < _FAILURES:
            with contextlib.ExitStack() as turns:
                batch = self._batch(study, turns)
                if not batch:
                    return None
                for trial in batch:
                    values = " ".join(f"{key}={value}" for key, value in trial.params.items())
                    line = f"trial {trial.number} of {self.num_trials}: {values}"
                    print(terminal.one_line(line), flush=True)
                found = self._trained({t.number: space.trial(t.params) for t in batch})
                for trial in batch:
                    outcome = found[trial.number]
                    in_a_row = in_a_row + 1 if isinstance(outcome, str) else 0
                    if isinstance(outcome, str):
                        print(f"trial {trial.number} FAILED: {outcome}")
                        if self._fails_fast():
                            return f"trial {trial.number}: {outcome}; it stays open ({_FAIL_FAST})"
                        study.fail(trial, outcome)
                        continue
                    about = _read(outcome, objective)
                    told = ", ".join(f"{name} {x:.4g}" for name, x in about["numbers"].items())
                    print(f"trial {trial.number}: {told}", flush=True)
                    study.complete(trial, objective.judge(about["numbers"]), about)
        return f"{in_a_row} trials in a row failed, see above; nothing more is tried"

    def _fails_fast(self) -> bool:
        """Whether the first failure ends all, of launchers that know of it."""
        return bool(getattr(self.launcher, "fail_fast", False))

    def _batch(self, study: Study, turns: contextlib.ExitStack) -> list[OptunaTrial]:
        """The next trials. Their numbers decide where a batch ends, so that it does so again."""
        batch: list[OptunaTrial] = []
        while (trial := turns.enter_context(study.turn(self.num_trials))) is not None:
            batch.append(trial)
            if (trial.number + 1) % self.trials_at_once == 0:
                break
        return batch

    def _trained(self, trials: dict[int, list[str]]) -> dict[int, DictConfig | str]:
        """Train and audit trials, given their overrides; the config of each, or why it failed."""
        from synpriv.results import planned
        from synpriv.shadow import check
        from synpriv.shadow.cells import cell_of

        variants: dict[int, Variant] = {}
        failed: dict[int, str] = {}
        for number, words in trials.items():
            try:
                (variants[number],) = self._variants(self._of_trials(words))
                check.check(variants[number].cfg)
            except ValueError as error:
                variants.pop(number, None)
                failed[number] = cli.one_line(error)
        cells: dict[str, Variant] = {}  # trials may be of the same one
        for variant in variants.values():
            cells.setdefault(variant.cfg.cell, variant)
        wanted = sweeper._with_clean_runs(list(cells.values()))
        returns = self._train(wanted)
        died = [isinstance(one._return_value, _worker.Died) for batch in returns for one in batch]
        if any(died) and not self._fails_fast():
            print("what the dead workers were at is tried once more")  # no fault of the trial's
            returns = self._train(wanted)
        bad = [one for batch in returns for one in batch if one.status != JobStatus.COMPLETED]
        for number, same in variants.items():
            variant = cells[same.cfg.cell]
            common = set(without_seed(next(iter(variant.seeds.values()))))
            own = [result for result in bad if common <= set(result.overrides or [])]
            own += sweeper._audit([variant])
            if own:
                reasons = dict.fromkeys(cli.one_line(one._return_value) for one in own)
                failed[number] = "; ".join(reasons)
                if not self._fails_fast():  # nobody trains its other models any more
                    planned.forget(cell_of(same.cfg).folder, os.environ.get("SYNPRIV_COMMAND"))
        return {number: failed.get(number) or variants[number].cfg for number in trials}


def _read(cfg: DictConfig, objective: Objective) -> dict[str, Any]:
    """The cell of a trial, and the numbers of its report that matter."""
    from synpriv import summary
    from synpriv.results import flat

    (outcome,) = summary.outcomes([cfg])
    if outcome.report is None:
        raise HydraException(f"{outcome.cell.folder}: was not audited")
    numbers = flat.flatten(outcome.report)
    kept = dict.fromkeys([*objective.names, *_ALWAYS])
    return {
        "cell": outcome.cell.name,
        "numbers": {name: numbers[name] for name in kept if name in numbers},
    }


def _note_unread(space: Space, cells: Sequence[str]) -> None:
    """Name keys of which no probe is another cell than the first; `cells`: of `space.probes`."""
    others = iter(cells[1:])
    for key, parameter in space.parameters.items():
        if {next(others) for _ in parameter.probes[1:]} == {cells[0]}:
            print(
                f"warning: {key} is searched, but nothing reads it beside the first of the others"
            )


def _warn_of_rates(cfg: DictConfig, names: Sequence[str]) -> None:
    """Say which rates are mostly noise, at an FPR that so few non-members do not resolve."""
    from synpriv.audit.metrics import models_needed, resolvable

    num_canaries = cfg.canary.num_canaries
    for name in names:
        if name.startswith("tpr@fpr="):
            fpr = float(name.partition("=")[2].partition("/")[0])
            if not resolvable(fpr, num_canaries * cfg.num_models // 2):
                print(
                    f"warning: {name} is not resolved by {num_canaries} canaries x "
                    f"{cfg.num_models} models, so that chance decides; num_models="
                    f"{models_needed(fpr, num_canaries)} would resolve it, or take a larger FPR"
                )
