"""Train the shadow models of a cell and audit it: `python run.py method=distill -m seed=0..63`."""

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from synpriv import cli, errors


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> float | None:
    """One shadow model; the last one to finish audits its cell."""
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        from synpriv import pipeline

        return pipeline.run(cfg, alone=False)  # the sweep ends with one summary
    with cli.errors_in_one_line():  # else Hydra adds a line of its own
        return alone(cfg)


def alone(cfg: DictConfig) -> float | None:
    """Check, train and audit a single run."""
    # Imported after Hydra has parsed: --help and typing errors stay instant.
    from synpriv.results import store
    from synpriv.shadow import check

    cell = store.Cell(Path(cfg.results), cfg.cell, cfg.num_models)
    begun = False
    try:
        if cfg.check or cell.problem(cfg.seed):
            check.announce([cfg])
        else:
            check.confirm(cfg)
        check.warn_of_code(cfg)
        begun = not cfg.check
    finally:
        if not begun:
            store.remove_unused(cell.run(cfg.seed))
    if not begun:
        return None
    from synpriv import pipeline, summary

    objective = pipeline.run(cfg)
    print(summary.summary([cfg]))
    return objective


if __name__ == "__main__":
    errors.make_printable()
    cli.call(main)
