"""Where and how one model is fitted: the device, its arithmetic, a cluster's variables, signals."""

import functools
import signal
from pathlib import Path

import pytest
import torch
from conftest import digits_as_tensors
from omegaconf import DictConfig, OmegaConf

from synpriv import hardware, interrupts, models, schema, tracking
from synpriv.methods.classifier import Classifier
from synpriv.report import content
from synpriv.shadow import cuda, fitting, training

OLD_DRIVER = "The NVIDIA driver on your system is too old (found version 11040)"


def trainer(accelerator: str = "cpu") -> DictConfig:
    return OmegaConf.structured(schema.Trainer(accelerator=accelerator))


def classifier() -> Classifier:
    network = functools.partial(
        models.convnet, channels=1, size=8, num_classes=10, mean=[0.3], std=[0.37], width=4
    )
    images = digits_as_tensors().private[torch.arange(20)]
    return Classifier(
        private=images, model=network, num_epochs=1, batch_size=10, lr=0.1, warmup_epochs=0
    )


def fit(method: Classifier, accelerator: str = "cpu") -> None:
    fitting.fit(method, trainer(accelerator), tracking.NoTracker(), "fit")


@pytest.mark.parametrize(
    "variables",
    [
        {"SLURM_NTASKS": "4", "SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "audit"},
        {"SLURM_NTASKS": "1", "SLURM_JOB_ID": "1", "SLURM_NTASKS_PER_NODE": "1"},
    ],
)
def test_a_slurm_job_of_several_tasks_trains_as_any_other(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Lightning refused 4 tasks, and in a job of one took USR1 for "queue me again".
    for key, value in variables.items():
        monkeypatch.setenv(key, value)
    during = []

    class Watched(Classifier):
        def on_train_start(self) -> None:
            during.append(signal.getsignal(signal.SIGUSR1))
            super().on_train_start()

    method = classifier()
    method.__class__ = Watched
    before = signal.getsignal(signal.SIGUSR1)
    fit(method)
    assert during == [before]


@pytest.mark.parametrize("error", [KeyboardInterrupt, interrupts.Terminated])
def test_lightning_passes_on_which_signal_it_was(error: type[BaseException]) -> None:
    class Stopped(Classifier):
        def on_train_start(self) -> None:
            raise error

    method = classifier()
    method.__class__ = Stopped
    with pytest.raises(KeyboardInterrupt) as stop:
        fit(method)
    assert stop.type is error


@pytest.fixture
def old_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine with a GPU's device file and a driver that torch is too new for."""
    (tmp_path / "nvidia0").touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(hardware, "_DEVICE_FILES", tmp_path)
    monkeypatch.setattr(hardware, "_torch", lambda: (0, 0, OLD_DRIVER))

    def init() -> None:
        raise RuntimeError(f"{OLD_DRIVER}. Please update it.\nAlternatively ...")

    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    fitting._refuse_unusable_gpus.cache_clear()


def test_a_gpu_that_torch_cannot_use_is_one_line_and_never_the_cpu(old_driver: None) -> None:
    assert cuda.why_not() == OLD_DRIVER
    with pytest.raises(ValueError, match=r"^trainer\.accelerator=gpu: .*too old.*trainer=auto"):
        fitting.device_of(trainer("gpu"))
    with pytest.raises(ValueError, match=r"^/dev: GPUs are .*too old.*; .*trainer=cpu$"):
        fitting.device_of(trainer("auto"))
    assert fitting.device_of(trainer("cpu")).type == "cpu"


def test_auto_is_the_cpu_where_nothing_hints_at_a_gpu(
    old_driver: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nvidia0").unlink()
    assert fitting.device_of(trainer("auto")).type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert fitting.device_of(trainer("auto")).type == "cuda"


def test_32_true_is_float32_on_a_gpu_too() -> None:
    # By default torch runs a GPU's convolutions in TF32.
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cuda.matmul.allow_tf32 = True
    assert fitting.arithmetic(trainer())["tf32_convolutions"]
    training._prepare(trainer_of_a_config())
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32
    assert torch.get_float32_matmul_precision() == "highest"
    assert fitting.arithmetic(trainer()) == {
        "precision": "32-true",
        "channels_last": False,
        "classifier_step": "eager",
        "tf32_convolutions": False,
        "tf32_matmul": False,
    }


@pytest.mark.parametrize(("has", "lines"), [(False, 1), (True, 0)])
def test_bf16_on_a_cpu_that_emulates_it_is_said(
    has: bool, lines: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: has)
    cfg = trainer_of_a_config()
    training._prepare(cfg)
    assert not caplog.messages
    cfg.trainer.precision = "bf16-mixed"
    training._prepare(cfg)
    assert [line.startswith("bf16-mixed: this CPU emulates") for line in caplog.messages] == (
        lines * [True]
    )


def trainer_of_a_config() -> DictConfig:
    return OmegaConf.create({"trainer": trainer()})


def warnings(devices: list[str]) -> list[str]:
    data = {"warnings": [], "class_sizes": [5, 5], "num_private": 10}
    runs = [
        {"seed": seed, "device": device, "builds_on": {}, "data": data}
        for seed, device in enumerate(devices)
    ]
    report = {"partial": False, "test_accuracy": {"mean": 0.9}}
    return content.warnings_of(len(runs), runs, report)


def test_a_cell_trained_partly_on_a_gpu_says_so() -> None:
    assert warnings(["cpu"] * 3) == warnings(["NVIDIA H100"] * 3) == []
    (warning,) = warnings(["cpu", "NVIDIA H100", "cpu", "NVIDIA H100"])
    assert warning.startswith(
        "2 of 4 shadow models were trained on a CPU (seeds 0,2), the others on a GPU"
    )
