"""Step times and shadow models per minute on a machine with a CUDA GPU, on random 32x32 images.

    python -m benchmarks.gpu steps --seconds 8              milliseconds per step of each method
    python -m benchmarks.gpu models --jobs 1 4 --seconds 240    64 models through the launcher

Both print as they go and write what is known so far to --json. `--seconds` limits each row of
`steps` (after its first chunk, which compiles, records and tries algorithms out) and each number of
jobs of `models`, which trains 2 models per job for --epochs and extrapolates.
"""

from __future__ import annotations

import argparse
import functools
import inspect
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytorch_lightning as lightning
import torch
from omegaconf import DictConfig

from synpriv import config, tracking
from synpriv.data.images import LabelledImages
from synpriv.methods.base import Method
from synpriv.shadow import fitting
from synpriv.shadow.recipes import construct

ROOT = Path(__file__).parents[1]
MODELS, EPOCHS = 64, 18  # what is extrapolated to
Words = tuple[str, ...]
FAST = ("trainer=gpu",)
EXACT = ("trainer=gpu", "trainer.precision=32-true", "trainer.channels_last=false")
EAGER, GRAPH = ("trainer.step=eager",), ("trainer.step=graph",)
PLAIN: Words = ("method=undefended", "method.batch_size=128", "method.num_epochs=10000")
PRIVATE: Words = ("method=dpsgd_high", "method.num_epochs=10000", "method.batch_size=256")
PRIVATE += ("method.physical_batch_size=256", "method.num_views=1", "model=wrn16_4")
DFKD: Words = ("method=dfkd", "model=wrn16_4", "method.num_rounds=10000", "method.warmup_rounds=1")
DFKD += ("method.codes_per_round=256", "method.synthesis_steps=2", "method.batch_size=256")
UNET: Words = ("method=diffusion_scratch", "method.channels=[64,128,128]", "method.batch_size=128")
UNET += ("method.layers_per_block=2", "method.num_iterations=1000000")
MATCHING = ("method=distill_dm", "method.num_iterations=1000000", "method.images_per_class=10")
ROWS: dict[str, Words] = {
    "resnet18, 128, float32": (*PLAIN, "model=resnet18", *EXACT, *EAGER),
    "resnet18, 128, bf16 channels-last": (*PLAIN, "model=resnet18", *FAST, *EAGER),
    "resnet18, 128, bf16 channels-last, graph": (*PLAIN, "model=resnet18", *FAST, *GRAPH),
    "convnet, 128, bf16 channels-last": (*PLAIN, "model=convnet", *FAST, *EAGER),
    "convnet, 128, bf16 channels-last, graph": (*PLAIN, "model=convnet", *FAST, *GRAPH),
    "resnet18, 128, float32, graph": (*PLAIN, "model=resnet18", *EXACT, *GRAPH),
    "DP-SGD, wrn16_4, 256, float32": (*PRIVATE, *EXACT),
    "DP-SGD, wrn16_4, 256, bf16": (*PRIVATE, *EXACT, "trainer.precision=bf16-mixed"),
    "UNet 64-128-128, 128, float32": (*UNET, *EXACT),
    "UNet 64-128-128, 128, bf16": (*UNET, *FAST, "trainer.channels_last=false"),
    "UNet 64-128-128, 128, bf16 channels-last": (*UNET, *FAST),
    "DFKD wrn16_4, a round, float32": (*DFKD, *EXACT),
    "DFKD wrn16_4, a round, bf16 channels-last": (*DFKD, *FAST),
    "distribution matching, 10 per class, float32": (*MATCHING, *EXACT),
    "distribution matching, 10 per class, bf16": (*MATCHING, *FAST),
    "resnet18, 128, bf16 channels-last, compiled graph": (
        *(*PLAIN, "model=resnet18", *FAST, "trainer.step=compile"),
    ),
}


class Enough(Exception):
    """The row's time is up."""


def composed(overrides: Words, accelerator: str) -> DictConfig:
    """The config of a row."""
    config.register()
    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        place = f"trainer.accelerator={accelerator}"
        return hydra.compose("config", [*overrides, "dataset.flip=true", place])


def method_of(cfg: DictConfig, num: int) -> Method:
    """The configured method on `num` random images of ten classes."""
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (num, 3, 32, 32), dtype=torch.uint8, generator=draw)
    private = LabelledImages(pixels, torch.arange(num) % 10)
    fits: dict[str, Any] = {"channels": 3, "size": 32, "num_classes": 10}
    fits |= {"mean": [0.5] * 3, "std": [0.25] * 3}
    model = functools.partial(construct(cfg.model, "model"), **fits)
    offered: dict[str, Any] = {"private": private, "model": model, "expected_size": num}
    offered |= {"num_classes": 10, "image_shape": (3, 32, 32), "public": None, "public_model": None}
    if "teacher" in cfg.method:
        offered["teacher"] = model()
    if "embedder" in cfg.method:
        network = construct(cfg.method.embedder, "method.embedder")
        offered["embedder"] = functools.partial(network, **fits)
    made = construct(cfg.method, "method")
    wanted = inspect.signature(made).parameters
    return made(**{name: value for name, value in offered.items() if name in wanted})


def step_times(cfg: DictConfig, num: int, budget_s: float) -> list[float]:
    """Seconds per step of each chunk but the first one."""
    method = method_of(cfg, num)
    on_gpu = fitting.device_of(cfg.trainer).type == "cuda"
    wait: Callable[[], object] = torch.cuda.synchronize if on_gpu else lambda: None
    found, train = list[float](), method.training_step
    end = float("inf")

    def timed(chunk: Any, batch_idx: int) -> None:
        nonlocal end
        wait()
        start = time.perf_counter()
        train(chunk, batch_idx)
        wait()
        now = time.perf_counter()
        found.append((now - start) / len(chunk))
        if len(found) == 1:
            end = now + budget_s
        if now > end and len(found) > 2:
            raise Enough

    method.training_step = timed  # type: ignore[method-assign]
    with suppress(Enough):
        fitting.fit(method, cfg.trainer, tracking.NoTracker(), "fit")
    return found[1:]


def steps(asked: argparse.Namespace, found: dict[str, Any]) -> None:
    """Print and note the step time of each row."""
    fitting.quieten()
    fitting.no_tf32()
    torch.set_num_threads(1)
    for name, overrides in ROWS.items():
        if asked.only and asked.only not in name:
            continue
        lightning.seed_everything(0, verbose=False)
        start = time.perf_counter()
        try:
            cfg = composed((*overrides, *asked.overrides), asked.accelerator)
            times = step_times(cfg, asked.images_in_memory, asked.seconds)
            row: dict[str, Any] = {
                "ms": statistics.median(times) * 1e3,
                "least_ms": min(times) * 1e3,
            }
            row |= {"n": len(times), "arithmetic": fitting.arithmetic(cfg.trainer)}
            words = f"{row['ms']:.3f} ms (least {row['least_ms']:.3f}, {len(times)} chunks)"
        except Exception as error:  # noqa: BLE001 - a row that fails must not cost the others
            words = f"{type(error).__name__}: {error}".replace("\n", " ")[:300]
            row = {"error": words}
        row["total_s"] = time.perf_counter() - start
        found[name] = row
        print(f"{name}: {words}; {row['total_s']:.1f} s in all", flush=True)
        write(asked)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def random_archive(file: Path, *, num: int) -> None:
    """An npz as large as CIFAR-10: 50,000 and 10,000 random images where num is 50,000."""
    draw = np.random.default_rng(0)
    sizes = {"": num, "test_": num // 5}
    images = {
        f"{part}images": draw.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
        for part, n in sizes.items()
    }
    labels = {f"{part}labels": np.arange(n) % 10 for part, n in sizes.items()}
    with file.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **images, **labels)


def models(asked: argparse.Namespace, found: dict[str, Any]) -> None:
    """Train 2 models per job with each number of jobs per device, and extrapolate."""
    with tempfile.TemporaryDirectory() as folder:
        data = asked.npz or Path(folder, "random.npz")
        if asked.npz is None:
            random_archive(data, num=asked.num)
        for jobs in asked.jobs:
            results = Path(folder, f"jobs{jobs}")
            words = [sys.executable, "run.py", *command(asked, data, results, jobs)]
            print(" ".join(words[1:]), flush=True)
            wall, said = run_for(words, asked.seconds)
            done = [json.loads(f.read_bytes()) for f in results.glob("*/[0-9]*/metrics.json")]
            row = extrapolated(done, wall, jobs, asked.epochs)
            found[f"jobs_per_device={jobs}"] = row
            print(f"jobs_per_device={jobs}: {json.dumps(row)}", flush=True)
            if len(done) < 2 * jobs:
                print(f"only {len(done)} of {2 * jobs} models; run.py said:\n{said[-3000:]}")
            write(asked)


def command(asked: argparse.Namespace, data: Path, results: Path, jobs: int) -> list[str]:
    """What run.py is called with: 2 models per job."""
    trainer = "trainer=gpu" if asked.accelerator == "gpu" else "trainer=fast"
    device = f"hydra.launcher.{'jobs_per_device' if asked.accelerator == 'gpu' else 'num_workers'}"
    return [
        *("method=undefended", "model=resnet18", trainer, f"method.num_epochs={asked.epochs}"),
        *(
            "method.batch_size=128",
            "method.lr=0.05",
            "method.warmup_epochs=0",
            "dataset=npz",
            f"dataset.path={data}",
        ),
        *("dataset.flip=true", "dataset.mean=[0.5,0.5,0.5]", "dataset.std=[0.25,0.25,0.25]"),
        *(f"num_models={MODELS}", "attack=threshold", "logger=none"),
        *("accuracy_models=0", "keep_release=false", f"results={results}", f"{device}={jobs}"),
        *(*asked.overrides, "-m", f"seed=0..{2 * jobs - 1}"),
    ]


def run_for(words: list[str], budget_s: float) -> tuple[float, str]:
    """Wall seconds of a command, and what it said; ended after `budget_s`."""
    start = time.perf_counter()
    process = subprocess.Popen(
        words,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=budget_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)
        said, _ = process.communicate()
    return time.perf_counter() - start, said


def extrapolated(runs: list[dict[str, Any]], wall: float, jobs: int, epochs: int) -> dict[str, Any]:
    """What was measured, and from it the minutes that 64 models of 18 epochs would take.

    Start-up, what the wall clock shows beyond a job's own stages, is paid once; the stages outside
    of `fit` once per model; an epoch costs its share of `fit`, the recording included.
    """
    if not runs:
        return {"wall_s": wall, "models": 0}
    stages = [{name: s["wall_s"] for name, s in run["stages"].items()} for run in runs]
    fit = statistics.mean(one["fit"] for one in stages)
    rest = statistics.mean(sum(one.values()) - one["fit"] for one in stages)
    in_turn = len(runs) / jobs  # models that a worker trains one after the other
    start_up = max(0.0, wall - in_turn * (fit + rest))
    seconds = start_up + MODELS / jobs * (rest + fit * EPOCHS / epochs)
    return {
        "wall_s": round(wall, 1),
        "models": len(runs),
        "epochs": epochs,
        "fit_s": round(fit, 2),
        "other_stages_s": round(rest, 2),
        "start_up_s": round(start_up, 1),
        "stages_s": stages[-1],
        "peak_mb": max(s["peak_mb"] for run in runs for s in run["stages"].values()),
        "device": runs[0]["device"],
        "arithmetic": runs[0]["arithmetic"],
        f"extrapolated_minutes_of_{MODELS}_models_of_{EPOCHS}_epochs": round(seconds / 60, 1),
    }


def write(asked: argparse.Namespace) -> None:
    """What is known so far."""
    asked.json.write_text(json.dumps(asked.found, indent=1))


def main() -> None:
    """Run the part that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu")
    parser.add_argument("part", choices=["steps", "models"])
    parser.add_argument("--seconds", type=float, default=8, help="of each row")
    parser.add_argument("--json", type=Path, default=Path("gpu.json"))
    parser.add_argument("--accelerator", choices=["gpu", "cpu"], default="gpu")
    parser.add_argument("--only", help="rows of `steps` whose name holds this")
    parser.add_argument("--images-in-memory", type=int, default=50_000, help="of `steps`")
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 4], help="per device")
    parser.add_argument("--epochs", type=int, default=3, help="of each model of `models`")
    parser.add_argument("--npz", type=Path, help="images instead of random ones")
    parser.add_argument("--num", type=int, default=50_000, help="random training images")
    parser.add_argument("--overrides", nargs="*", default=[], help="more of run.py's")
    asked = parser.parse_args()
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor()
    machine = {"device": name, "torch": torch.__version__, "python": platform.python_version()}
    asked.found = {**machine, "cores": len(os.sched_getaffinity(0)), asked.part: {}}
    print(json.dumps(asked.found), flush=True)
    {"steps": steps, "models": models}[asked.part](asked, asked.found[asked.part])


if __name__ == "__main__":
    main()
