"""What a job's worker does when its GPU fails: simulated errors, no torch, no GPU."""

import os
import re
from pathlib import Path

import pytest
from made_up_jobs import ROOT, sweep

from hydra_plugins.synpriv import _worker
from synpriv.results import failures


def test_a_cuda_error_costs_its_worker_and_no_other_job(tmp_path: Path) -> None:
    # It stays in its process: 11 of 12 jobs failed within a second.
    notes, out = sweep(
        tmp_path,
        """
        def fail(seed, before):
            if seed == 1 and before == 0:
                raise AcceleratorError("CUDA error: an illegal memory access\\\\nmay be reported")
        """,
        "0,1,2,3",
    )
    assert [(seed, what) for seed, _, what, *_ in notes] == [
        ("0", "done-cpu"),
        ("1", "AcceleratorError"),
        ("2", "done-cpu"),
        ("3", "done-cpu"),
        ("1", "done-cpu"),
    ]
    processes = [process for _, process, *_ in notes]
    assert processes[0] == processes[1] != processes[2] == processes[3]
    assert re.search(r"^seed=1: AcceleratorError: CUDA error: an illegal .*tried again$", out, re.M)
    assert "CUDA error" in (tmp_path / "out" / "1" / "task.log").read_text()


def test_a_job_that_loses_its_gpu_twice_fails_with_its_reason(tmp_path: Path) -> None:
    notes, out = sweep(
        tmp_path,
        """
        def fail(seed, before):
            if seed == 0:
                raise RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR")
        """,
        "0,1",
    )
    assert [(seed, what) for seed, _, what, *_ in notes] == [
        ("0", "RuntimeError"),
        ("1", "done-cpu"),
        ("0", "RuntimeError"),
    ]
    assert "Died: RuntimeError: cuDNN error: CUDNN_STATUS_INTERNAL_ERROR" in out


def test_full_memory_is_emptied_before_the_job_is_tried_again(tmp_path: Path) -> None:
    notes, out = sweep(
        tmp_path,
        """
        import weakref
        class Tensor: pass
        def fail(seed, before):
            tensor = Tensor()
            tensor.itself = tensor  # freed by a collection only
            if seed == 0 and before == 0:
                sys.held = weakref.ref(tensor)
                raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            assert sys.held() is None
        """,
        "0,1",
    )
    assert [(seed, what) for seed, _, what, *_ in notes] == [
        ("0", "OutOfMemoryError"),
        ("0", "done-cpu"),
        ("1", "done-cpu"),
    ]
    assert len({process for _, process, *_ in notes}) == 1
    assert "tried again" not in out


@pytest.fixture
def machine_with_two_gpus(tmp_path: Path) -> dict[str, str]:
    """The environment of one, as nvidia-smi says and a stub of torch."""
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    (tmp_path / "torch.py").write_text(
        "class cuda:\n"
        "    is_available = lambda: True\n"
        "    device_count = lambda: 2\n"
        "    mem_get_info = lambda i: (8, 9)\n"
    )
    return {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": f"{tmp_path}:{ROOT}",
        "CUDA_VISIBLE_DEVICES": "4,GPU-aa",
    }


def test_a_worker_sees_its_gpu_alone_and_trains_on_it_with_one_blas_thread(
    tmp_path: Path, machine_with_two_gpus: dict[str, str]
) -> None:
    fail = "fail = lambda seed, before: None\n"
    notes, out = sweep(tmp_path, fail, "0,1", **machine_with_two_gpus)
    assert "jobs: 2, GPU workers: 2" in out
    assert {(what, *rest) for _, _, what, *rest in notes} <= {
        ("done-gpu", "4", "1"),
        ("done-gpu", "GPU-aa", "1"),
    }


@pytest.mark.parametrize(
    ("error", "full", "lost"),
    [
        (RuntimeError("CUDA error: device-side assert triggered"), False, True),
        (RuntimeError("cuBLAS error: CUBLAS_STATUS_ALLOC_FAILED"), False, True),
        (RuntimeError("CUDA out of memory. Tried to allocate"), True, False),
        (type("AcceleratorError", (RuntimeError,), {})("illegal"), False, True),
        (type("OutOfMemoryError", (RuntimeError,), {})("x"), True, False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False, False),
        (ValueError("trainer.accelerator=gpu: no CUDA device here"), False, False),
    ],
)
def test_lost_gpus_are_told_from_other_errors(error: Exception, full: bool, lost: bool) -> None:
    assert (_worker._is_full(error), _worker._is_of_cuda(error)) == (full, lost)


def test_a_terminated_worker_leaves_although_a_library_swallowed_its_exit(tmp_path: Path) -> None:
    # It went on with the next job, in whatever state the first one had been left.
    notes, out = sweep(
        tmp_path,
        """
        import signal
        def fail(seed, before):
            if seed == 0:
                try:
                    os.kill(os.getpid(), signal.SIGTERM)
                except SystemExit as stop:
                    raise ValueError("cannot be imported") from stop
        """,
        "0,1",
    )
    assert [(seed, what) for seed, _, what, *_ in notes] == [("0", "ValueError"), ("1", "done-cpu")]
    assert notes[0][1] != notes[1][1]
    assert "its worker died (exit code 143)" in out
    assert "cannot be imported" not in out


def test_what_workers_warn_of_is_seen_on_the_terminal_once_and_a_flood_is_cut(
    tmp_path: Path,
) -> None:
    # A lock that is waited for, a W&B server that refuses: it was in run.log alone.
    _, out = sweep(
        tmp_path,
        """
        import logging
        def fail(seed, before):
            logging.getLogger("synpriv.results.locks").warning("waiting for \\x1b[2J x")
            logging.getLogger("synpriv.shadow").info("nobody needs to see this")
            for i in range(30):
                logging.getLogger("synpriv").warning("odd image %d", i)
        """,
        "0,1,2",
    )
    assert out.count("warning: waiting for \\x1b[2J x") == 1
    assert "nobody needs" not in out
    assert out.count("warning: odd image") == 9
    assert out.count("more warnings are in the run.log of each run") == 1


def test_a_worker_that_ends_in_peace_costs_its_job_and_hangs_nothing(tmp_path: Path) -> None:
    notes, out = sweep(
        tmp_path,
        """
        def fail(seed, before):
            if seed == 1:
                os._exit(0)  # as a generator's library may
        """,
        "0,1,2",
    )
    assert [(seed, what) for seed, _, what, *_ in notes] == [("0", "done-cpu"), ("2", "done-cpu")]
    assert out.count("failed: seed=1: its worker ended itself (exit code 0)") == 1
    assert failures.of(tmp_path / "out" / "1") is not None


def test_the_first_failure_ends_a_sweep_that_is_to_fail_fast(tmp_path: Path) -> None:
    notes, out = sweep(
        tmp_path,
        """
        import time
        def fail(seed, before):
            if seed == 1:
                time.sleep(2)
                raise ValueError("\\x1b[2J no")
            time.sleep(60 if seed > 1 else 0)
        """,
        *("0,1,2,3,4,5", "hydra.launcher.fail_fast=true", "hydra.launcher.num_workers=2"),
    )
    begun = {(seed, what) for seed, _, what, *_ in notes}
    # A worker may begin the next job before it is told of the end.
    assert begun - {("3", "SystemExit")} == {
        ("0", "done-cpu"),
        ("1", "ValueError"),
        ("2", "SystemExit"),
    }
    assert out.count("failed: seed=1: ValueError: \\x1b[2J no") == 1
    assert failures.of(tmp_path / "out" / "2") is None  # it did not fail


def test_the_reason_of_a_failure_is_said_at_once_and_left_in_the_run_s_folder(
    tmp_path: Path,
) -> None:
    _, out = sweep(
        tmp_path,
        """
        import signal
        def fail(seed, before):
            if seed == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            if seed != 2:
                raise ValueError("not on a Sunday")
        """,
        "0,1,2,3",
    )
    lines = [line for line in out.splitlines() if line.startswith("failed: ")]
    assert lines == [
        "failed: seed=0: ValueError: not on a Sunday",
        "failed: seed=3: its worker died (SIGKILL, out of memory?)",
    ]
    found = [failures.of(tmp_path / "out" / str(seed)) for seed in range(4)]
    assert [failure and failure.reason for failure in found] == [
        "ValueError: not on a Sunday",
        "ValueError: not on a Sunday",
        None,
        "its worker died (SIGKILL, out of memory?)",
    ]
