"""Cores and GPUs that a process may use, told without one: stubs of nvidia-smi and of torch."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hydra_plugins.synpriv import pool
from synpriv import hardware

TWO = "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-aa)\nGPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-bb)\n"
MIG = (
    "GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6)\n"
    "  MIG 3g.20gb     Device  0: (UUID: MIG-c6d4f1ef)\n"
    "  MIG 3g.20gb     Device  1: (UUID: MIG-cba66303)\n"
    "GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-7e31ff02)\n"
)
OLD_DRIVER = "The NVIDIA driver on your system is too old (found version 11040)."
Machine = Callable[..., Path]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """`machine(...)`: what nvidia-smi prints (None: there is none), torch answers, /dev holds.

    Returns a file that exists once torch was asked.
    """

    def make(
        smi: str | None = None,
        *,
        smi_code: int = 0,
        torch: tuple[int, int, str] = (0, 0, "Found no NVIDIA driver on your system."),
        visible: str | None = None,
        dev: tuple[str, ...] = (),
        cores: int = 16,
    ) -> Path:
        for name in ("bin", "dev"):
            (tmp_path / name).mkdir()
        for name in dev:
            (tmp_path / "dev" / name).touch()
        if smi is not None:
            (tmp_path / "smi.txt").write_text(smi)
            program = tmp_path / "bin" / "nvidia-smi"
            line = f'[ "$*" = -L ] && while read -r x; do echo "$x"; done < {tmp_path}/smi.txt\n'
            line = line.replace("read -r x", "IFS= read -r x")
            program.write_text(f"#!/bin/sh\n{line}exit {smi_code}\n")
            program.chmod(0o755)
        asked = tmp_path / "asked"
        answer = tmp_path / "cuda.py"
        answer.write_text(f"open({str(asked)!r}, 'w').close()\nprint(r'''{json.dumps(torch)}''')\n")
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))
        monkeypatch.setattr(hardware, "_ASK_TORCH", answer)
        monkeypatch.setattr(hardware, "_DEVICE_FILES", tmp_path / "dev")
        monkeypatch.setattr(hardware, "usable_cores", lambda: cores)
        if visible is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        return asked

    return make


def slots(accelerator: str = "auto", **options: Any) -> list[str | None]:
    return pool.PoolLauncher(**options).asked.found(accelerator)


# --- which GPUs there are ------------------------------------------------------------------------


def test_a_machine_without_a_sign_of_a_gpu_asks_no_torch(machine: Machine) -> None:
    asked = machine(visible="0")
    assert hardware.gpus().ids == []
    assert slots() == [None] * 16
    assert not asked.exists()


@pytest.mark.parametrize("visible", ["", "-1", "-1,0"])
def test_hidden_gpus_are_not_taken(machine: Machine, visible: str) -> None:
    machine(TWO, torch=(2, 0, ""), visible=visible)
    assert slots(num_workers=3) == [None] * 3


@pytest.mark.parametrize(
    ("smi", "torch", "visible", "ids"),
    [
        (TWO, 2, None, ["GPU-aa", "GPU-bb"]),
        (TWO, 2, "4, 7", ["4", "7"]),
        (TWO, 1, "GPU-bb", ["GPU-bb"]),
        (TWO, 1, "1,-1,0", ["1"]),
        (MIG, 1, None, ["MIG-c6d4f1ef", "MIG-cba66303", "GPU-7e31ff02"]),
        (MIG, 1, "MIG-cba66303,MIG-c6d4f1ef", ["MIG-cba66303", "MIG-c6d4f1ef"]),
        ("", 3, None, ["0", "1", "2"]),
    ],
)
def test_gpus_and_mig_slices_are_named_as_cuda_takes_them(
    machine: Machine, smi: str, torch: int, visible: str | None, ids: list[str]
) -> None:
    machine(smi, torch=(torch, 0, ""), visible=visible)
    assert hardware.gpus().ids == ids


def test_without_nvidia_smi_torch_counts_the_gpus(machine: Machine) -> None:
    machine(None, dev=("nvidia0", "nvidia1", "nvidiactl"), torch=(2, 5, ""))
    assert hardware.gpus() == (["0", "1"], 5)


def test_a_slow_nvidia_smi_is_not_a_machine_without_gpus(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine("", torch=(1, 0, ""), dev=("nvidia0",))
    (tmp_path / "bin" / "nvidia-smi").write_text("#!/bin/sh\nread -r x < /dev/zero\n")
    run = hardware.subprocess.run

    def patient(command: list[str], **options: Any) -> Any:
        slow = command[0] == "nvidia-smi"
        return run(command, **options | ({"timeout": 0.1} if slow else {}))

    monkeypatch.setattr(hardware.subprocess, "run", patient)
    assert hardware.gpus().ids == ["0"]


@pytest.mark.parametrize(
    ("smi", "code", "dev", "visible", "where"),
    [
        (TWO, 0, (), None, "nvidia-smi: GPUs are there (2)"),
        (TWO, 0, (), "0", "CUDA_VISIBLE_DEVICES=0: GPUs are there (1)"),
        (None, 0, ("nvidia0",), None, "/dev: GPUs are there (1)"),
        ("", 9, ("nvidia0",), None, "/dev: GPUs are there (1)"),
    ],
)
def test_gpus_that_torch_cannot_use_are_never_the_cpu_in_silence(
    machine: Machine,
    smi: str | None,
    code: int,
    dev: tuple[str, ...],
    visible: str | None,
    where: str,
) -> None:
    machine(smi, smi_code=code, torch=(0, 0, OLD_DRIVER), dev=dev, visible=visible)
    with pytest.raises(ValueError, match="trainer=cpu") as error:
        slots()
    assert str(error.value).startswith(f"{where}, but torch cannot use them ({OLD_DRIVER})")
    assert slots("cpu", num_workers=2) == [None, None]


@pytest.mark.parametrize("why", ["No CUDA GPUs are available", "Found no NVIDIA driver on your"])
def test_a_node_that_lends_no_gpu_trains_on_the_cpu(machine: Machine, why: str) -> None:
    machine("No devices were found", smi_code=6, dev=("nvidia0",), torch=(0, 0, why))
    assert slots(num_workers=1) == [None]


def test_a_torch_that_breaks_is_quoted(machine: Machine, tmp_path: Path) -> None:
    machine(TWO)
    (tmp_path / "cuda.py").write_text("raise OSError('libcudart.so.13: cannot open')\n")
    with pytest.raises(ValueError, match=r"\(OSError: libcudart\.so\.13: cannot open\)"):
        slots()


def test_a_device_out_of_range_in_the_environment_is_one_line(machine: Machine) -> None:
    machine(TWO, torch=(1, 0, ""), visible="0,9")
    with pytest.raises(ValueError, match=r"=0,9: names 2 GPUs, torch finds 1 of them$"):
        slots()


# --- who works on which --------------------------------------------------------------------------


def test_slots_are_spread_over_the_gpus_in_turn(machine: Machine) -> None:
    machine(TWO, torch=(2, 0, ""), visible="0,1")
    assert slots() == ["0", "1"]
    assert slots(jobs_per_device=2) == ["0", "1", "0", "1"]


def test_devices_index_what_is_visible(machine: Machine) -> None:
    machine(TWO, torch=(2, 0, ""), visible="4,7")
    assert slots(devices=[1]) == ["7"]
    assert slots(devices=["1", 0]) == ["7", "4"]
    for wrong in ([2], [4], [-1], ["GPU-aa"]):
        with pytest.raises(ValueError, match=r"there is no GPU .*; must be 0\.\.1, .* into 4,7$"):
            slots(devices=wrong)


def test_devices_may_be_uuids(machine: Machine) -> None:
    machine(TWO, torch=(2, 0, ""))
    assert slots(devices=["GPU-bb"]) == ["GPU-bb"]


@pytest.mark.parametrize("devices", [0, "0", "cuda"])
def test_devices_must_be_a_list(devices: Any) -> None:
    with pytest.raises(ValueError, match=r"devices=.*: must be a list, \["):
        pool.PoolLauncher(devices=devices)


def test_a_gpu_that_is_asked_for_and_not_there_stops_the_sweep(machine: Machine) -> None:
    machine()
    with pytest.raises(ValueError, match=r"^trainer\.accelerator=gpu: no GPU here"):
        slots("gpu")
    with pytest.raises(ValueError, match=r"devices=\[1\]: there is no GPU 1; must be auto$"):
        slots(devices=[1])


@pytest.mark.parametrize(
    ("free_gib", "cores", "each"), [(75, 16, 4), (140, 8, 4), (10, 16, 1), (140, 1, 1), (0, 9, 1)]
)
def test_automatic_jobs_per_device_follow_memory_and_cores(
    machine: Machine, free_gib: int, cores: int, each: int
) -> None:
    machine(TWO, torch=(2, free_gib * 2**30, ""), cores=cores)
    assert slots(jobs_per_device="auto") == ["GPU-aa", "GPU-bb"] * each


def test_gpu_workers_are_no_more_than_cores_but_one_per_gpu(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine(TWO, torch=(2, 0, ""), cores=3)
    assert slots(jobs_per_device=4) == ["GPU-aa", "GPU-bb", "GPU-aa"]
    assert capsys.readouterr().out == "note: 3 GPU workers instead of 8: one per CPU core\n"
    assert slots() == ["GPU-aa", "GPU-bb"]


# --- cores ---------------------------------------------------------------------------------------


def test_cores_are_counted_where_there_is_no_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_OWN_CGROUP", Path("/nowhere"))
    assert hardware.usable_cores() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")  # macOS
    assert hardware.usable_cores() == os.cpu_count()


@pytest.mark.parametrize(
    ("own", "files", "quotas"),
    [
        ("0::/\n", {"cpu.max": "150000 100000"}, [1.5]),
        ("0::/\n", {"cpu.max": "max 100000"}, []),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, [3.0]),
        ("0::/not/seen/here\n", {"cpu.max": "50000 100000"}, [0.5]),
        (
            "4:memory:/\n3:cpu,cpuacct:/docker/f\n0::/\n",
            {"cpu/cpu.cfs_quota_us": "250000", "cpu/cpu.cfs_period_us": "100000"},
            [2.5],
        ),
        ("3:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, []),
        ("1:cpuset:/\n", {"cpu.max": "100000 100000"}, []),
    ],
)
def test_a_container_s_quota_is_read(
    own: str, files: dict[str, str], quotas: list[float], tmp_path: Path
) -> None:
    (tmp_path / "own").write_text(own)
    for name, content in files.items():
        file = tmp_path / "cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{content}\n")
    assert list(hardware._quotas(tmp_path / "cgroup", tmp_path / "own")) == quotas


@pytest.mark.parametrize(("quota", "cores"), [("50000", 1), ("150000", 2), ("900000", 7)])
def test_workers_are_no_more_than_a_container_may_keep_busy(
    quota: str, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own").write_text("0::/\n")
    (tmp_path / "cpu.max").write_text(f"{quota} 100000\n")
    monkeypatch.setattr(hardware, "_OWN_CGROUP", tmp_path / "own")
    monkeypatch.setattr(hardware, "_CGROUPS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(7)))
    assert hardware.usable_cores() == cores
    assert slots("cpu") == [None] * cores
