"""Train the shadow models of a cell and audit it: `python run.py method=distill -m seed=0..63`."""

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from synpriv import cli


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> float | None:
    """One shadow model; the last one to finish audits its cell."""
    from synpriv import (  # after Hydra has parsed: --help and typing errors stay instant
        pipeline,
        summary,
    )

    if HydraConfig.get().mode == RunMode.MULTIRUN:
        return pipeline.run(cfg, alone=False)  # the sweep ends with one summary
    with cli.errors_in_one_line():  # else Hydra adds a line of its own
        objective = pipeline.run(cfg)
        print(summary.summary([cfg]))
    return objective


if __name__ == "__main__":
    cli.call(main)
