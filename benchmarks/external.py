"""What somebody's own generator costs on top of the same method built in.

Distribution matching on the digits, as `method=distill_dm` and through `method=external`, until
there is a synthetic set: equal bits, CPU time, alternating. Other load can only add to it, so on a
busy machine the least is what to look at.
Usage: python -m benchmarks.external [rounds]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import statistics
import sys
from pathlib import Path

import hydra
import torch
from omegaconf import DictConfig, OmegaConf

from synpriv import config, tracking
from synpriv.data.images import LabelledImages
from synpriv.shadow import offering, stages
from synpriv.shadow.costs import Costs
from synpriv.shadow.fitting import quieten
from synpriv.shadow.pools import load_pools

ROOT = Path(__file__).parents[1]
MATCHING = ROOT / "tests" / "generators" / "matching.py"
SHORT = "method.student.num_epochs=2"  # not part of what is measured
OPTIONS = ("images_per_class", "num_iterations", "lr", "momentum", "init", "real_per_class", "flip")


def built_in() -> DictConfig:
    """The config of `method=distill_dm`."""
    return hydra.compose(
        "config", ["method=distill_dm", "trainer=cpu", "logger=none", "seed=1", SHORT]
    )


def external(own: DictConfig) -> DictConfig:
    """The config of the same options through the door."""
    words = ["method=external", f"method.generate={MATCHING}:match", "trainer=cpu", "logger=none"]
    cfg = hydra.compose("config", [*words, "seed=1"])
    cfg.method.student = OmegaConf.create(config.plain(own.method.student))
    options = {name: own.method[name] for name in OPTIONS}
    options |= {name: config.plain(own.dataset[name]) for name in ("mean", "std")}
    options |= {name: own.method.embedder[name] for name in ("width", "depth")}
    options["augment"] = config.plain(own.method.augment)
    OmegaConf.update(cfg, "method.options", options, force_add=True)
    return cfg


def run(cfg: DictConfig) -> tuple[float, LabelledImages]:
    """CPU seconds until there is a synthetic set, and the set; its student is the same code."""
    pools, costs = load_pools(cfg), Costs()
    split = offering.split_of(cfg, pools)
    release, _ = stages.obtain(cfg, split, pools, tracking.NoTracker(), costs)
    assert release.synthetic is not None
    return costs.stages["fit"].cpu_s, release.synthetic


def main(rounds: int) -> None:
    """Compare."""
    torch.set_num_threads(1)
    quieten()
    config.register()
    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        own = built_in()
        door = external(own)
    seconds: dict[str, list[float]] = {"distill_dm": [], "external": []}
    for number in range(rounds + 1):
        made = []
        for name, cfg in zip(seconds, (own, door), strict=True):
            taken, synthetic = run(cfg)
            made.append(synthetic.digest())
            if number:  # the first round warms up
                seconds[name].append(taken)
        assert made[0] == made[1], "the two made different sets"
    for name, those in seconds.items():
        middle, least = statistics.median(those), min(those)
        print(f"{name:11} {middle:6.2f} s CPU, median of {rounds}; least {least:.2f}")
    outside, inside = seconds["external"], seconds["distill_dm"]
    pairs = sorted(a / b for a, b in zip(outside, inside, strict=True))
    print(
        f"external / distill_dm: {statistics.median(pairs):.3f} (pairs {pairs[0]:.3f} to "
        f"{pairs[-1]:.3f}; of the least {min(outside) / min(inside):.3f}), equal sets"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
