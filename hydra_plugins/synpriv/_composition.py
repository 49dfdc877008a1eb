"""Jobs that differ only in their seed are composed once per worker.

Hydra reads some twenty yaml files for a config, a quarter of a second in which a small network
is trained. The underscore keeps the plugin scan away, as in _worker.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import cloudpickle
from hydra._internal.config_loader_impl import get_overrides_dirname
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, open_dict

_SEED = re.compile(r"seed=(\d+)")


def seed_in(job: Sequence[str]) -> int | None:
    """The seed among a job's overrides; None where it is not given once as a plain number."""
    found = [match for word in job if (match := _SEED.fullmatch(word))]
    return int(found[0].group(1)) if len(found) == 1 else None


def without_seed(job: Sequence[str]) -> tuple[str, ...]:
    """What jobs that differ only in their seed have in common."""
    return tuple(word for word in job if not _SEED.fullmatch(word))


class Composer:
    """The configs of jobs, as Hydra's `load_sweep_config` makes them from the sweep's config.

    A group of yaml files is chosen by overrides alone, never by the value of a seed, so another
    seed's config differs in the seed and in the words that it was asked for with.
    """

    def __init__(self, loader: ConfigLoader, config: DictConfig) -> None:
        self._loader, self._config = loader, config
        self._last: tuple[tuple[str, ...], bytes] | None = None  # sweeps go variant by variant

    def compose(self, job: Sequence[str]) -> DictConfig:
        """A config of its own for this job."""
        seed = seed_in(job)
        if seed is None:
            return self._loader.load_sweep_config(self._config, list(job))
        shape = tuple("seed" if _SEED.fullmatch(word) else word for word in job)
        if self._last is None or self._last[0] != shape:
            composed = self._loader.load_sweep_config(self._config, list(job))
            self._last = shape, cloudpickle.dumps(composed)  # a deep copy takes seven times as long
        cfg = cloudpickle.loads(self._last[1])
        _give_seed(cfg, seed, job)
        return cfg


def _give_seed(cfg: DictConfig, seed: int, job: Sequence[str]) -> None:
    cfg.seed = seed
    typed = next(word for word in job if _SEED.fullmatch(word))
    with open_dict(cfg.hydra):
        asked = [typed if _SEED.fullmatch(word) else word for word in cfg.hydra.overrides.task]
        cfg.hydra.overrides.task = asked
        how = cfg.hydra.job.config.override_dirname
        cfg.hydra.job.override_dirname = get_overrides_dirname(
            overrides=OverridesParser.create().parse_overrides(asked),
            kv_sep=how.kv_sep,
            item_sep=how.item_sep,
            exclude_keys=how.exclude_keys,
        )
