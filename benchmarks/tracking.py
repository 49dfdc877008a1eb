"""What one offline W&B run per shadow model costs: 30 rows and a summary, as the digits default.

Usage: python -m benchmarks.tracking
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from synpriv import config, tracking


def main() -> None:
    """Print the first run's wall seconds (it imports wandb and starts its service) and the rest."""
    os.environ["WANDB_MODE"] = "offline"
    config.register()
    taken = []
    with tempfile.TemporaryDirectory() as folder:
        with initialize_config_dir(str(Path("conf").absolute()), version_base="1.3"):
            cfg = compose("config", [f"results={folder}"])
        for seed in range(17):
            OmegaConf.update(cfg, "seed", seed)
            start = time.perf_counter()
            with tracking.track(cfg, Path(folder), job_type="train") as tracker:
                for epoch in range(30):
                    tracker.log({"fit/train/loss": 1.0 / (epoch + 1)}, epoch)
                tracker.summary({"test_accuracy": 0.97})
            taken.append(time.perf_counter() - start)
    later = sorted(taken[1:])
    print(
        f"W&B offline run: first {taken[0]:.2f} s, then median {statistics.median(later):.3f} s, "
        f"{later[0]:.3f}..{later[-1]:.3f} (n={len(later)})"
    )


if __name__ == "__main__":
    main()
