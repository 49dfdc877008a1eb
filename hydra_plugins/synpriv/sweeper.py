"""The default sweeper: Hydra's grid, with `a..b` ranges in yaml and a whole sweep despite failures.

Hydra imports all plugins to print --help, so SciPy and the report are imported when a sweep starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from synpriv import cli


class RangeSweeper(BasicSweeper):
    """Cartesian product of all sweep overrides.

    Unlike its base it checks every job's config before the first one starts, runs all batches even
    if a job fails, and ends with the table of the cells it touched.
    """

    def _parse_config(self) -> list[str]:
        return [f"{key}={cli.expand(str(value), key)}" for key, value in self.params.items()]

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        assert self.config is not None and self.hydra_context is not None
        assert self.launcher is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        batches = self.split_arguments(overrides, self.max_batch_size)
        configs = [self._compose(job) for batch in batches for job in batch]
        from synpriv import pipeline, store

        sweep_dir = Path(self.config.hydra.sweep.dir)
        store.write_bytes(sweep_dir / "multirun.yaml", OmegaConf.to_yaml(self.config).encode())
        returns: list[Sequence[JobReturn]] = []
        first = 0
        for batch in batches:
            returns.append(self.launcher.launch(batch, initial_job_idx=first))
            first += len(batch)
        results = [result for batch in returns for result in batch]
        failed = [result for result in results if result.status != JobStatus.COMPLETED]
        print(pipeline.summary(configs))
        if failed:
            print(failures(failed))
            raise HydraException(
                f"{len(failed)} of {len(results)} jobs failed, see above; "
                "the same command runs them again"
            )
        return returns

    def _compose(self, job: Sequence[str]) -> DictConfig:
        """The job's config, checked as its name is resolved."""
        from synpriv import pipeline

        assert self.config is not None and self.hydra_context is not None
        loader = self.hydra_context.config_loader
        cfg = loader.load_sweep_config(self.config, list(job))
        _ = cfg.cell
        pipeline.check_attack(cfg)
        return cfg


def failures(failed: Sequence[JobReturn]) -> str:
    """Failed jobs, those with the same reason in one line."""
    by_reason: dict[str, list[str]] = {}
    for result in failed:
        by_reason.setdefault(cli.one_line(result._return_value), []).append(
            " ".join(result.overrides or [])
        )
    lines = [f"FAILED {len(jobs)} x {why}\n  {_some(jobs)}" for why, jobs in by_reason.items()]
    return "\n".join(lines)


def _some(jobs: Sequence[str], num: int = 6) -> str:
    more = f"  (+{len(jobs) - num} more)" if len(jobs) > num else ""
    return " | ".join(jobs[:num]) + more
