"""What this machine lends to a process: CPU cores, and GPUs without importing torch."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_CGROUPS, _OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_ASK_TORCH = Path(__file__).parent / "shadow" / "cuda.py"
_DEVICE_FILES = Path("/dev")
_PATIENCE_S = 120  # nvidia-smi without its daemon, or torch on a cold disk, may take over 30 s
_UUID = re.compile(r"^(\s*)(?:GPU|MIG) .*\(UUID: ((?:GPU|MIG)-[^)]+)\)", re.MULTILINE)
# What torch says where the driver offers this process no GPU: the one honest reason for the CPU.
_NONE_OFFERED = ("No CUDA GPUs are available", "Found no NVIDIA driver")
_BYTES_PER_JOB = 16 * 2**30


class Gpus(NamedTuple):
    """What CUDA_VISIBLE_DEVICES calls the GPUs of this process, and the least free memory of any.

    The free bytes are 0 where torch did not say.
    """

    ids: list[str]
    free: int = 0


def has_compiler() -> bool:
    """Whether torch.compile finds what makes machine code of its own."""
    return any(map(shutil.which, (os.environ.get("CXX", "g++"), "g++", "clang++")))


def usable_cores() -> int:
    """CPU cores that this process may keep busy: its affinity and its container's quota."""
    affinity = getattr(os, "sched_getaffinity", None)  # macOS has none
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min([cores, *map(math.ceil, _quotas(_CGROUPS, _OWN_CGROUP))]))


def _quotas(root: Path, own: Path) -> Iterator[float]:
    """CPU quotas in cores, of this process's control group and of those around it."""
    for line in own.read_text().splitlines() if own.is_file() else []:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "cpu" if controllers else root
        inner = mount / path.lstrip("/")
        for folder in (inner, *inner.parents):
            if not folder.is_relative_to(mount):
                break
            if controllers:  # version 1
                words = [_content(folder / f"cpu.cfs_{end}_us") for end in ("quota", "period")]
            else:
                words = _content(folder / "cpu.max").split()
            if len(words) == 2 and all(word.isdigit() and int(word) for word in words):
                yield int(words[0]) / int(words[1])


def _content(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:  # the controller is not on, or not for us to see
        return ""


def gpus() -> Gpus:
    """The GPUs of this process; ValueError if some are there and torch cannot use them.

    MIG slices count as GPUs. Where nothing hints at a GPU this takes no time; else torch is asked
    in a process of its own, as nvidia-smi also lists what the installed torch is too new for.
    """
    files = [file.name for file in _DEVICE_FILES.glob("nvidia[0-9]*")]
    if not files and shutil.which("nvidia-smi") is None:
        return Gpus([])
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    named = _nvidia_smi() if chosen is None else _parsed(chosen)
    if chosen is not None and not named:
        return Gpus([])
    count, free, why = _torch()
    where = f"CUDA_VISIBLE_DEVICES={chosen}" if chosen else "nvidia-smi" if named else "/dev"
    if count == 0:
        offered = named or (files if named is None else [])
        if not named and why.startswith(_NONE_OFFERED):
            offered = []
        if not offered:
            return Gpus([])
        raise ValueError(
            f"{where}: GPUs are there ({len(offered)}), but torch cannot use them ({why}); "
            "mend that, or train on the CPU with trainer=cpu"
        )
    mig = any(name.startswith("MIG-") for name in named or [])  # a process sees one slice only
    if chosen and named and not mig and count != len(named):
        raise ValueError(f"{where}: names {len(named)} GPUs, torch finds {count} of them")
    return Gpus(named or [str(i) for i in range(count)], free)


def _parsed(visible: str) -> list[str]:
    """As CUDA reads it: what follows an invalid entry does not count."""
    found: list[str] = []
    for word in (part.strip() for part in visible.split(",")):
        if word in ("", "-1"):
            break
        found.append(word)
    return found


def _nvidia_smi() -> list[str] | None:
    """UUIDs of GPUs, and of slices instead of their GPU; None without an answer."""
    try:
        command = ["nvidia-smi", "-L"]
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found: list[str] = []
    for indented, uuid in _UUID.findall(answer.stdout):
        if indented and found and found[-1].startswith("GPU-"):
            found.pop()  # cut into slices, a GPU is no device of its own
        found.append(uuid)
    return found


def _torch() -> tuple[int, int, str]:
    """How many GPUs torch can use, the least free memory of any, and why not if it is none."""
    command = [sys.executable, "-P", str(_ASK_TORCH)]  # -P: its folder hides no library
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE_S, check=True
        )
    except subprocess.TimeoutExpired:
        return 0, 0, f"it did not answer within {_PATIENCE_S} s"
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines()
        return 0, 0, lines[-1] if lines else f"it ended with exit code {error.returncode}"
    count, free, why = json.loads(answer.stdout)
    return count, free, why


def chosen_gpus(found: list[str], devices: list[str], name: str) -> list[str]:
    """The devices, each an index into `found` or a UUID in it; ValueError if it is neither.

    A number is always an index, as it is for torch: with CUDA_VISIBLE_DEVICES=4,7, 1 means 7.
    """
    for device in devices:
        if not (int(device) < len(found) if device.isdigit() else device in found):
            right = f"0..{len(found) - 1}, an index into {','.join(found)}" if found else "auto"
            raise ValueError(f"{name}: there is no GPU {device}; must be {right}")
    return [found[int(device)] if device.isdigit() else device for device in devices]


def jobs_per_gpu(found: Gpus) -> int:
    """A job per 16 GiB of free memory and per core, at least one: a rule of thumb, not measured."""
    cores = usable_cores() // len(found.ids)
    return max(1, min(found.free // _BYTES_PER_JOB, cores))
