"""Composing jobs that differ in their seed once: the configs are those that Hydra composes."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import setup_globals
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.synpriv._composition import Composer, seed_in, without_seed

CONF = Path(__file__).parents[1] / "conf"
Sweep = tuple[ConfigLoader, DictConfig]


@pytest.fixture
def sweep() -> Iterator[Sweep]:
    """A config loader, and the config of a sweep with options of Hydra's own."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        setup_globals()
        loader = GlobalHydra.instance().config_loader()
        words = ["hydra.verbose=true", "hydra/job_logging=default"]
        yield loader, loader.load_configuration("config", words, run_mode=RunMode.MULTIRUN)


class Counting:
    """A loader that counts what it composes."""

    def __init__(self, loader: ConfigLoader) -> None:
        self.loader, self.composed = loader, 0

    def load_sweep_config(self, config: DictConfig, job: list[str]) -> DictConfig:
        self.composed += 1
        return self.loader.load_sweep_config(config, job)


def everything(cfg: DictConfig) -> dict[str, Any]:
    found = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(found, dict)
    return {**found, "where": cfg.hydra.sweep.subdir}


def test_another_seed_s_config_is_the_one_that_hydra_composes(sweep: Sweep) -> None:
    loader, config = sweep
    counting = Counting(loader)
    composer = Composer(counting, config)
    jobs = [[f"seed={s}", "method=distill", "hydra.job.name=j"] for s in (3, 11)]
    for job in (jobs[0], jobs[1], jobs[0]):
        cfg = composer.compose(job)
        assert everything(cfg) == everything(loader.load_sweep_config(config, job))
        cfg.method.name = "spoilt"  # each job may change its own
    assert counting.composed == 1
    composer.compose(["method=distill", "seed=3"])
    assert counting.composed == 2  # asked for in another way


def test_words_without_one_plain_seed_are_composed_each_time(sweep: Sweep) -> None:
    loader, config = sweep
    counting = Counting(loader)
    composer = Composer(counting, copy.deepcopy(config))
    for words in (["num_models=8"], ["+seed=3"]):
        assert seed_in(words) is None
    assert seed_in(["seed=1", "seed=2"]) is None
    assert composer.compose([]).seed == composer.compose([]).seed == 0
    assert counting.composed == 2
    assert without_seed(["seed=4", "audit_seed=4"]) == ("audit_seed=4",)
