"""What trains and audits anew what a hyper-parameter search found: a command, as it is typed."""

from __future__ import annotations

import inspect
import os
import shlex
from collections.abc import Iterator, Sequence

from hydra.core.config_loader import ConfigLoader
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.synpriv._study import Trial
from hydra_plugins.synpriv.sweeper import RangeSweeper
from synpriv import checkout, cli, terminal
from synpriv.schema import Objective, Tuning

# What the command has of its own, or does without.
_OF_THE_SEARCH = (
    *("seed", "num_models", "accuracy_models", "audit_seed", "dataset.num_validation", "study"),
    *("tuning", "objective", "hydra/sweeper", "hydra.sweeper", "hydra.mode", "check"),
)
_WITHOUT = {
    "dataset.num_validation": None,
    "study": None,
    "tuning.distribution": Tuning.distribution,
    "objective.maximise": Objective.maximise,
    "objective.subject_to": Objective.subject_to,
}


def lines(
    loader: ConfigLoader,
    config: DictConfig,
    found: Sequence[tuple[Trial, list[str]]],
    *,
    num_trials: int,
) -> Iterator[str]:
    """The commands of trials, each with its overrides, and why they train more models.

    config: of the sweep. num_trials: of the study.
    """
    asked = final = config
    for trial, words in found:
        plain = [word for word in words if not word.startswith("seed=")]
        asked = loader.load_sweep_config(config, plain)
        own = [word for word in words if not _is_of_the_search(word)]
        # The trials of the search, and the training of what it found.
        tried = asked.tuning.num_trials + num_trials
        own += [f"audit_seed={asked.audit_seed}", f"tuning.num_trials={tried:g}"]
        of_hydra = [w for w in config.hydra.overrides.hydra if not _is_of_the_search(w)]
        typed, final = _without_the_search(loader, config, [*of_hydra, *own])
        flags = cli.flags_of_files(os.environ.get("SYNPRIV_COMMAND", ""))
        typed = [*flags, *typed, "-m", f"seed=0..{final.num_models - 1}"]
        command = f"{checkout.program()} {shlex.join(typed)}"
        yield terminal.one_line(f"trial {trial.number} anew: {command}")
    if found:
        yield "note: type a results= of its own there, else its table counts the trials' tests too"
    if final.num_models != asked.num_models:
        yield (
            f"note: anew with num_models={final.num_models}, as configured, for what is reported; "
            f"the search chose by {asked.num_models}"
        )


def _without_the_search(
    loader: ConfigLoader, config: DictConfig, words: list[str]
) -> tuple[list[str], DictConfig]:
    """The words, and those that undo what yaml files have for the search; the config of all."""
    name = config.hydra.job.config_name
    final = loader.load_configuration(name, words, run_mode=RunMode.MULTIRUN)
    undone = [
        f"{key}={'null' if value is None else value}"
        for key, value in _WITHOUT.items()
        if OmegaConf.select(final, key) != value
    ]
    known = {"_target_", *inspect.signature(RangeSweeper).parameters}
    options = final.hydra.sweeper
    undone += [f"~hydra.sweeper.{key}" for key in options if key not in known]
    undone += ["hydra.sweeper.params=null"] if options.params else []
    return [*words, *undone], final


def _is_of_the_search(word: str) -> bool:
    key = word.partition("=")[0].lstrip("+~")
    return any(key == own or key.startswith(f"{own}.") for own in _OF_THE_SEARCH)
