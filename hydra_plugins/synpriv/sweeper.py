"""The default sweeper: Hydra's grid, with `a..b` ranges in yaml and a whole sweep despite failures.

Hydra imports all plugins to print --help, so SciPy and the report are imported when a sweep starts.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.synpriv import _failures, _worker
from hydra_plugins.synpriv._composition import seed_in, without_seed
from hydra_plugins.synpriv._launching import SweepLauncher
from synpriv import cli, config, terminal


class Variant(NamedTuple):
    """Jobs that differ only in their seed; `cfg` is the first one's."""

    cfg: DictConfig
    seeds: dict[int, list[str]]  # seed -> overrides
    is_audited: bool = True  # or measures the accuracy of another cell


class RangeSweeper(BasicSweeper):
    """Cartesian product of all sweep overrides.

    Unlike its base it checks every job's config before the first one starts, leaves out what is
    trained already, runs all batches even if a job fails, and ends with the table of its cells.
    exclude: groups of overrides; a job that has all of one is left out of the grid.
    """

    def __init__(
        self,
        max_batch_size: int | None,
        params: dict[str, str] | None = None,
        exclude: Sequence[Sequence[str]] = (),
        **others: Any,
    ) -> None:
        refuse(others, "left out of a grid; for a search type hydra/sweeper=optuna too")
        super().__init__(max_batch_size, params)
        self.exclude = [set(words) for words in exclude]
        self._said = set[str]()  # of the data; a search trains batch after batch of them

    def _parse_config(self) -> list[str]:
        return [f"{key}={cli.expand(str(value), key)}" for key, value in self.params.items()]

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        assert self.config is not None
        assert self.hydra_context is not None
        assert self.launcher is not None
        from synpriv import summary
        from synpriv.shadow import check

        variants = self._variants(self._jobs(arguments))
        configs = [variant.cfg for variant in variants]
        check.note_twins([(v.cfg, without_seed(next(iter(v.seeds.values())))) for v in variants])
        if configs[0].check:
            check.announce(configs, trains_here=_trains_here(self.launcher))
            for variant in variants:
                check.note_part(variant.cfg, len(variant.seeds))
            return []
        returns = self._train(_with_clean_runs(variants))
        results = [result for batch in returns for result in batch]
        failed = [result for result in results if result.status != JobStatus.COMPLETED]
        said = {cli.one_line(result._return_value) for result in failed}
        failed += [one for one in _audit(variants) if cli.one_line(one._return_value) not in said]
        if failed:
            print(_failures.listed(failed))
        print(summary.summary(configs, hints=not failed))
        if configs[0].study:
            print(summary.write_study(configs))
        if failed:
            raise HydraException(_failures.in_short(failed, len(results)))
        return returns

    def _jobs(self, arguments: list[str]) -> list[list[str]]:
        """The overrides of every job of the grid."""
        assert self.hydra_context is not None
        if self.max_batch_size is not None and self.max_batch_size < 1:
            raise ValueError(f"hydra.sweeper.max_batch_size={self.max_batch_size}: must be >= 1")
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        typed = {word.partition("=")[0] for word in arguments}  # replaces what an experiment sweeps
        params = [word for word in self._parse_config() if word.partition("=")[0] not in typed]
        overrides = parser.parse_overrides([*params, *arguments])
        for override in overrides:
            if override.is_sweep_override() and not override.is_discrete_sweep():
                right = "to be searched: add hydra/sweeper=optuna, or give values for a grid"
                raise ValueError(f"{override.input_line}: an interval is {right}")
        jobs = [list(job) for batch in self.split_arguments(overrides, None) for job in batch]
        left = [job for job in jobs if not any(words <= set(job) for words in self.exclude)]
        if not left:
            raise ValueError("hydra.sweeper.exclude leaves no job; these do not go together")
        return left

    def _train(self, variants: Sequence[Variant]) -> list[Sequence[JobReturn]]:
        """Launch the jobs that are missing; where there are none nothing is written."""
        assert self.config is not None
        assert self.launcher is not None
        from synpriv import tracking
        from synpriv.results import locks, store
        from synpriv.shadow import check, outputs

        missing = [_missing(variant) for variant in variants]
        check.announce(
            [v.cfg for v, jobs in zip(variants, missing, strict=True) if jobs],
            trains_here=_trains_here(self.launcher),
            said=self._said,
        )
        for variant, jobs in zip(variants, missing, strict=True):
            if not jobs:
                check.confirm(variant.cfg)
        largest = sorted(variants, key=lambda variant: variant.cfg.num_models)
        for variant in {variant.cfg.cell: variant for variant in largest}.values():
            check.warn_of_code(variant.cfg)
            outputs.warn(variant.cfg)
            _say_why(variant.cfg, variant.seeds)
        for folder in {variant.cfg.results for variant in variants}:
            locks.sweep_up_all(Path(folder))
        to_run = [job for jobs in missing for job in jobs]
        total = sum(len(variant.seeds) for variant in variants)
        if len(to_run) < total:
            print(f"{total - len(to_run)} of {total} shadow models are there already")
        if not to_run:
            return []
        tracking.settle(variants[0].cfg)
        file = Path(self.config.hydra.sweep.dir) / "multirun.yaml"
        store.write_bytes(file, OmegaConf.to_yaml(self.config).encode())
        for variant, jobs in zip(variants, missing, strict=True):
            if jobs:
                _note_plan(variant)
        if isinstance(self.launcher, SweepLauncher):
            self.launcher.planned.update(_folders(variants))
        returns: list[Sequence[JobReturn]] = []
        os.environ[_worker.CELLS] = " ".join({variant.cfg.cell for variant in variants})
        try:
            for batch in self.split_overrides_to_chunks(to_run, self.max_batch_size):
                returns.append(self.launcher.launch(batch, sum(map(len, returns))))
        finally:
            del os.environ[_worker.CELLS]
        return returns

    def _variants(self, jobs: Sequence[list[str]]) -> list[Variant]:
        """Compose and check all jobs; those that differ only in their seed are composed once."""
        assert self.config is not None
        assert self.hydra_context is not None
        found: dict[tuple[str, ...], Variant] = {}
        for job in jobs:
            rest, seed = without_seed(job), seed_in(job)
            if rest not in found:
                cfg = self.hydra_context.config_loader.load_sweep_config(self.config, list(job))
                _ = cfg.cell  # resolving its name checks the config
                found[rest] = Variant(cfg, {})
            found[rest].seeds[found[rest].cfg.seed if seed is None else seed] = job
        for variant in found.values():
            cfg = variant.cfg.copy()
            for cfg.seed in (min(variant.seeds), max(variant.seeds)):  # the others lie between
                config.validate(cfg)
        _check_names([variant.cfg for variant in found.values()])
        return list(found.values())


def refuse(others: dict[str, Any], right: str) -> None:
    """ValueError for options that a sweeper does not have; a yaml may give them all the same."""
    for key, value in others.items():
        raise ValueError(f"hydra.sweeper.{key}={value}: must be {right}")


def _trains_here(launcher: Launcher) -> bool:
    """Whether this machine's GPUs are those of the jobs; ours say it, others run jobs here."""
    return not getattr(launcher, "leaves_machine", False)


def _check_names(configs: Sequence[DictConfig]) -> None:
    """Two variants of an attack on one cell would overwrite each other's report."""
    asked: dict[tuple[str, str], dict[str, Any]] = {}
    for cfg in configs:
        name = cfg.attack.name
        own = {f"attack.{key}": value for key, value in config.plain(cfg.attack).items()}
        own["num_models"] = cfg.num_models
        first = asked.setdefault((cfg.cell, name), own)
        if first != own:
            key = next(k for k, v in own.items() if v != first.get(k))
            raise ValueError(
                f"{key} is swept, but all reports would be called {name}: "
                f"add 'attack.name={name}_${{{key}}}'"
            )


def _with_clean_runs(variants: Sequence[Variant]) -> list[Variant]:
    """The variants, those that complete their cell after the clean-canary runs that it lacks.

    Those come first: the worker that finishes a cell audits it, with its accuracy, once. None for
    a `partial` audit, and none in a folder of somebody else's, whose reports go elsewhere.
    """
    from synpriv.shadow.accuracy import clean_runs

    named = [(variant.cfg.cell, variant) for variant in variants]  # to resolve a name takes 20 ms
    planned = {(cell, seed) for cell, variant in named for seed in variant.seeds}
    found: list[Variant] = []
    for variant in variants:
        wanted = not (variant.cfg.partial or variant.cfg.reports) and _completes(variant)
        clean = clean_runs(variant.cfg) if wanted else None
        if clean is not None:
            job = next(iter(variant.seeds.values()))
            common = [word for word in job if not re.match(r"\+*(seed|cell)=", word)]
            new = [s for s in clean.seeds if (clean.cell.name, s) not in planned]
            jobs = {seed: [*common, "canary.kind=clean", f"seed={seed}"] for seed in new}
            planned |= {(clean.cell.name, seed) for seed in new}
            found += [Variant(clean.cfg, jobs, is_audited=False)] if jobs else []
        found.append(variant)
    return found


def _completes(variant: Variant) -> bool:
    """Whether the cell can be audited once these jobs are done."""
    from synpriv.shadow.cells import cell_of

    cell = cell_of(variant.cfg)
    others = set(range(cell.num_models)) - set(variant.seeds)
    return all(cell.problem(seed) is None for seed in others)


def _missing(variant: Variant) -> list[list[str]]:
    """Jobs without intact evidence or, with `repair`, without all that they left."""
    from synpriv.shadow.cells import cell_of

    cfg, cell = variant.cfg, cell_of(variant.cfg)

    def is_missing(seed: int) -> bool:
        if cell.problem(seed) is not None:
            return True
        return bool(cfg.repair and cell.lost(seed, verify=cfg.verify))

    return [job for seed, job in variant.seeds.items() if is_missing(seed)]


def _folders(variants: Sequence[Variant]) -> dict[tuple[str, ...], Path]:
    """The run of each job, by its overrides."""
    from synpriv.shadow.cells import cell_of

    cells = [(cell_of(variant.cfg), variant.seeds) for variant in variants]
    return {tuple(job): cell.run(seed) for cell, seeds in cells for seed, job in seeds.items()}


def _note_plan(variant: Variant) -> None:
    """Leave in a cell what is asked of it, for `python -m synpriv.status`."""
    from synpriv.results import planned
    from synpriv.shadow.cells import built_on, cell_of

    cfg, cell = variant.cfg, cell_of(variant.cfg)
    here = variant.is_audited and not cfg.reports  # a report lies beside the runs
    asked: planned.Asked = {
        "seeds": sorted(variant.seeds),
        "num_models": cell.num_models,
        "attack": cfg.attack.name if here else None,
        # What is trained on public data alone is a cell of one run.
        "builds_on": {stage.name: stage.num_models > 1 for stage, _ in built_on(cfg)},
    }
    planned.note(cell.folder, asked, os.environ.get("SYNPRIV_COMMAND"))


def _say_why(cfg: DictConfig, seeds: Iterable[int]) -> None:
    """Name finished runs that are trained again because they are damaged."""
    from synpriv.data.folder import some
    from synpriv.results import store
    from synpriv.shadow.cells import cell_of

    cell = cell_of(cfg)
    problems = [cell.problem(seed) for seed in seeds]
    damaged = [problem for problem in problems if problem not in (None, store.NOT_TRAINED)]
    if damaged:
        print(terminal.one_line(f"note: trained again: {some(list(map(str, damaged)))}"))


def _audit(variants: Sequence[Variant]) -> list[JobReturn]:
    """Audit what no worker has audited; returns what could not be."""
    from synpriv import pipeline

    failed = []
    for variant in variants:
        try:
            pipeline.audit_if_complete(variant.cfg, partial=variant.cfg.partial)
        except Exception as error:  # noqa: BLE001 - one audit must not hide the others
            hint = "; reports=DIR writes it elsewhere" if isinstance(error, OSError) else ""
            reason = f"{cli.one_line(error)}{hint}"
            failed.append(_worker.failed([f"audit of {variant.cfg.cell}"], reason))
    return failed
