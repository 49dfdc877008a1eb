"""What a search ends with: the command of what it found, of which nothing is the search's own."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.synpriv import _final, _trials, sweeper
from hydra_plugins.synpriv._study import Trial
from hydra_plugins.synpriv.optuna import OptunaSweeper
from hydra_plugins.synpriv.sweeper import RangeSweeper, Variant
from synpriv import cli, config
from synpriv.shadow import check

CONF = Path(__file__).parents[1] / "conf"
EXPERIMENT = """# @package _global_
study: mine
audit_seed: 3
tuning: {num_trials: 2, distribution: geometric}
objective: {maximise: validation_accuracy}
dataset: {num_train: 300, num_validation: 60}
method: {num_epochs: 7}
hydra: {sweeper: {num_trials: 3, params: {method.lr: "interval(0.01,0.1)", num_models: 6}}}
"""


@pytest.fixture
def loader() -> Iterator[ConfigLoader]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        setup_globals()
        yield GlobalHydra.instance().config_loader()


def as_typed(loader: ConfigLoader, line: str, mode: RunMode = RunMode.RUN) -> DictConfig:
    """The config of a printed command, its words read as the command line reads them."""
    words = shlex.split(line.partition(" run.py ")[2])
    own = [w for w in cli.normalise(words) if "=" in w or w.startswith("~")]
    own = [w for w in own if not w.startswith(("-", "seed="))]
    return loader.load_configuration("config", own, run_mode=mode)


def test_the_command_composes_the_winner_s_config_whatever_a_yaml_has_for_the_search(
    loader: ConfigLoader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(EXPERIMENT)
    typed = f"python run.py -m --config-dir '{tmp_path}/x y' -cn=config --cfg job check=true"
    monkeypatch.setenv("SYNPRIV_COMMAND", typed)
    of_hydra = [f"hydra.searchpath=[{tmp_path}]", "hydra/sweeper=optuna", "hydra.sweeper.seed=4"]
    master = loader.load_configuration(
        "config", [*of_hydra, "experiment=mine"], run_mode=RunMode.MULTIRUN
    )
    words = ["num_models=6", "experiment=mine", "accuracy_models=0", "seed=range(0,6)"]
    words += ["method.lr=0.0123"]
    found = [(Trial(5, {}, "complete", {}), words)]
    line, place, note = _final.lines(loader, master, found, num_trials=3)

    assert line.startswith("trial 5 anew: ")
    told = shlex.split(line)
    assert told[told.index("--config-dir") + 1] == f"{tmp_path}/x y"
    assert "-cn=config" in told
    assert "--cfg" not in told
    assert place.startswith("note: type a results= of its own there")
    assert "note: anew with num_models=64" in note
    assert "the search chose by 6" in note
    assert line.endswith(" -m seed=0..63")
    cfg = as_typed(loader, line)
    assert cfg.dataset.num_validation is None
    expected = loader.load_configuration("config", [], run_mode=RunMode.RUN)
    expected.merge_with({"audit_seed": 3, "tuning": {"num_trials": 2 + 3}})
    expected.dataset.num_train = 300
    expected.method.merge_with({"num_epochs": 7, "lr": 0.0123})
    assert config.plain(OmegaConf.masked_copy(cfg, [k for k in cfg if k != "hydra"])) == (
        config.plain(OmegaConf.masked_copy(expected, [k for k in expected if k != "hydra"]))
    )
    assert cfg.cell == expected.cell
    grid = instantiate(as_typed(loader, line, RunMode.MULTIRUN).hydra.sweeper)
    assert isinstance(grid, RangeSweeper)
    assert not grid.params


@pytest.mark.parametrize(
    ("kind", "option", "words"),
    [
        (RangeSweeper, "num_trials", r"hydra\.sweeper\.num_trials=3: .*type hydra/sweeper=optuna"),
        (OptunaSweeper, "exclude", r"hydra\.sweeper\.exclude=3: must be left out"),
    ],
)
def test_an_option_of_the_other_sweeper_is_refused_in_one_line(
    kind: type, option: str, words: str
) -> None:
    node = {"_target_": f"{kind.__module__}.{kind.__name__}", "max_batch_size": None, option: 3}
    with pytest.raises(Exception, match=words) as caught:
        instantiate(OmegaConf.create(node))
    assert cli.one_line(caught.value).startswith("hydra.sweeper.")


class OfTrials:
    """A study of which only the best trials are looked at."""

    def best(self) -> list[Trial]:
        return [Trial(n, {}, "complete", {"cell": cell}) for n, cell in enumerate("abacbd")]


def test_of_trials_with_the_same_cell_one_command_is_said() -> None:
    assert [trial.number for trial in _trials.winners(OfTrials())] == [0, 1, 3, 5]  # type: ignore[arg-type]


def test_trials_of_the_same_cell_are_trained_once_and_fail_together(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = OptunaSweeper()
    trained: list[Variant] = []

    def variants(jobs: list[list[str]]) -> list[Variant]:
        ((_, cell),) = (word.split("=") for word in jobs[0])
        cfg = OmegaConf.create({"cell": cell[0], "results": str(tmp_path), "num_models": 4})
        return [Variant(cfg, {0: [*jobs[0], "seed=0"]})]

    def train(given: list[Variant]) -> list[list[JobReturn]]:
        trained.extend(given)
        (bad,) = (job for v in given for job in v.seeds.values() if v.cfg.cell == "b")
        failed = JobReturn(overrides=bad, status=JobStatus.FAILED)
        failed.return_value = ValueError("diverged")
        return [[failed]]

    def nothing(*_: Any) -> list[JobReturn]:
        return []

    monkeypatch.setattr(own, "_of_trials", lambda words: [words])
    monkeypatch.setattr(own, "_variants", variants)
    monkeypatch.setattr(own, "_train", train)
    monkeypatch.setattr(sweeper, "_with_clean_runs", list)
    monkeypatch.setattr(sweeper, "_audit", nothing)
    monkeypatch.setattr(check, "check", nothing)
    found = own._trained({0: ["x=a1"], 1: ["x=b1"], 2: ["x=a2"], 3: ["x=b2"], 4: ["x=c"]})
    assert [variant.cfg.cell for variant in trained] == ["a", "b", "c"]
    assert {n for n, one in found.items() if isinstance(one, str)} == {1, 3}
