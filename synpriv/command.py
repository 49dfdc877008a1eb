"""The command itself: Hydra reads it, a task trains one shadow model, the last one audits."""

from __future__ import annotations

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from synpriv import checkout, cli


def run() -> None:
    """Hydra on this process's command line; every error is one line."""
    conf = str(checkout.conf())
    cli.call(hydra.main(version_base="1.3", config_path=conf, config_name="config")(task))


def task(cfg: DictConfig) -> float | tuple[float, ...] | None:
    """One shadow model; the last one to finish audits its cell."""
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        from synpriv import pipeline

        return pipeline.run(cfg, alone=False)  # the sweep ends with one summary
    with cli.errors_in_one_line():  # else Hydra adds a line of its own
        return alone(cfg)


def _left_out() -> list[str]:
    """What an experiment sweeps and a single run does not."""
    asked = HydraConfig.get()
    typed = {word.partition("=")[0] for word in asked.overrides.task}
    return [key for key in asked.sweeper.get("params") or {} if key not in typed]


def alone(cfg: DictConfig) -> float | tuple[float, ...] | None:
    """Check, train and audit a single run."""
    # Imported after Hydra has parsed: --help and typing errors stay instant.
    from synpriv.results import locks, store
    from synpriv.shadow import check, outputs
    from synpriv.shadow.cells import cell_of

    cell = cell_of(cfg)
    begun = False
    try:
        if cfg.check or cell.problem(cfg.seed):
            check.announce([cfg])
        else:
            check.confirm(cfg)
        check.warn_of_code(cfg)
        outputs.warn(cfg)
        begun = not cfg.check
        if cfg.check and (swept := _left_out()):
            print(f"note: one run; {', '.join(swept)} of the experiment are swept with -m alone")
    finally:
        if not begun:
            store.remove_unused(cell.run(cfg.seed))
    if not begun:
        return None
    from synpriv import pipeline, summary

    locks.sweep_up_all(cell.results)
    objective = pipeline.run(cfg)
    print(summary.summary([cfg]))
    return objective
