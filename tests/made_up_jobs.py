"""Sweeps of made-up jobs, which fail as they are told to: no torch, no GPU, no training."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONFIG = f"""
defaults: [override hydra/launcher: LAUNCHER, _self_]
seed: 0
trainer: {{accelerator: auto}}
hydra:
  searchpath: ["file://{ROOT / "conf"}"]
  sweep: {{dir: out, subdir: "${{seed}}"}}
"""
# A task that leaves a line per attempt: seed, process, what it did.
TASK = """
import os, sys
import hydra

def note(seed, what):
    fields = [str(seed), str(os.getpid()), what, os.environ["CUDA_VISIBLE_DEVICES"] or "-",
              os.environ["OPENBLAS_NUM_THREADS"]]
    with open("notes", "a") as file:
        file.write(" ".join(fields) + "\\n")

def attempts(seed):
    with open("notes", "a+") as file:
        file.seek(0)
        return sum(line.split()[0] == str(seed) for line in file)

class AcceleratorError(RuntimeError): pass
class OutOfMemoryError(RuntimeError): pass

FAIL

@hydra.main(version_base="1.3", config_path=".", config_name="config")
def main(cfg):
    before = attempts(cfg.seed)
    try:
        if hasattr(sys, "poisoned"):  # what stays in a process; every job unpickles its own globals
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        fail(cfg.seed, before)
    except BaseException as error:
        if not isinstance(error, (OutOfMemoryError, ValueError)):
            sys.poisoned = True
        note(cfg.seed, type(error).__name__)
        raise
    note(cfg.seed, f"done-{cfg.trainer.accelerator}")

if __name__ == "__main__":
    main()
"""


def sweep(
    folder: Path,
    fail: str,
    seeds: str,
    *options: str,
    launcher: str = "pool",
    **env: str,
) -> tuple[list[list[str]], str]:
    """Run `fail(seed, attempts before)` for all seeds in one worker: its notes, all output."""
    (folder / "config.yaml").write_text(CONFIG.replace("LAUNCHER", launcher))
    (folder / "task.py").write_text(TASK.replace("FAIL", textwrap.dedent(fail)))
    inherited = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    one = "cpus_per_task" if launcher.startswith("submitit") else "num_workers"
    asked = {f"hydra.launcher.{one}": "1", **dict(word.split("=", 1) for word in options)}
    command = [sys.executable, "task.py", "-m", f"seed={seeds}"]
    command += [f"{key}={value}" for key, value in asked.items()]
    done = subprocess.run(
        command,
        cwd=folder,
        env=inherited | {"PYTHONPATH": str(ROOT)} | env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    notes = [line.split() for line in (folder / "notes").read_text().splitlines()]
    return notes, done.stdout + done.stderr
