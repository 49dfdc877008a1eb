"""Jobs on a local Ray, which a failing job, a killed actor and a lost GPU do not end."""

import importlib
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.core.utils import JobReturn
from made_up_jobs import sweep

from hydra_plugins.synpriv import ray_launcher
from hydra_plugins.synpriv._batch import Batch
from synpriv.results import failures

pytest.importorskip("ray")


@pytest.mark.slow
def test_a_dead_actor_costs_its_job_one_more_try_and_the_others_nothing(tmp_path: Path) -> None:
    notes, out = sweep(
        tmp_path,
        """
        import logging, signal
        def fail(seed, before):
            logging.getLogger("synpriv").warning("odd image")
            if seed == 1:
                raise ValueError("no luck")
            if seed == 2 or (seed == 3 and before == 0):
                note(seed, "killed")
                os.kill(os.getpid(), signal.SIGKILL)
            if seed == 4 and before == 0:
                raise AcceleratorError("CUDA error: an illegal memory access")
        """,
        "0,1,2,3,4,5",
        launcher="ray",
    )
    whats = [(seed, what) for seed, _, what, *_ in notes]
    assert sorted(seed for seed, what in whats if what == "done-cpu") == ["0", "3", "4", "5"]
    assert whats.count(("2", "killed")) == 2
    assert whats.count(("4", "AcceleratorError")) == 1
    assert {threads for *_, threads in notes} == {"1"}
    assert "jobs: 6, Ray actors: 1" in out
    assert out.count("warning: odd image") == 1
    assert re.search(r"seed=3: its Ray actor died \(.*\); it will be tried again$", out, re.M)
    assert re.search(r"seed=4: AcceleratorError: CUDA error.*tried again$", out, re.M)
    said = [line for line in out.splitlines() if line.startswith("failed: ")]
    assert said[0] == "failed: seed=1: ValueError: no luck"
    assert said[1].startswith("failed: seed=2: its Ray actor died (")
    assert len(said) == 2
    noted = failures.of(tmp_path / "out" / "2")
    assert noted is not None
    assert noted.reason.startswith("its Ray actor died")
    assert not list((tmp_path / "out").glob(".launch-*"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"num_workers": 0}, "num_workers=0: must be an integer, at least 1, or null"),
        ({"num_gpus": 2}, r"num_gpus=2: must be 0\.\.1"),
        ({"address": "ray://head:10001"}, "must be auto or HOST:PORT"),
        ({"num_cpus": -1}, "num_cpus=-1: must be a number, at least 0"),
        ({"num_gpus": True}, "num_gpus=True: must be a number"),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_runs(
    options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        ray_launcher.RayLauncher(**options)


def test_without_the_extra_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_launcher.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"pip install 'synpriv\[ray\]'"):
        ray_launcher.RayLauncher()


class Cluster:
    """A stand-in for Ray that offers these resources."""

    def __init__(self, **offers: float) -> None:
        self.offers = offers

    def cluster_resources(self) -> dict[str, float]:
        return self.offers

    def put(self, value: object) -> object:
        return value


class Jobs:
    """As many jobs as a sweep may have."""

    jobs = [["seed=0"]] * 100

    def waiting(self) -> list[int]:
        return list(range(100))


def most(ray: Any, num_workers: int | None = None, **needs: float) -> int:
    batch: Any = Jobs()
    site: Any = None
    return ray_launcher._Actors(ray, batch, site, needs, num_workers).most()


def test_as_many_actors_as_fit_by_cores_and_shares_of_gpus() -> None:
    ray = Cluster(CPU=16, GPU=2)
    assert most(ray, CPU=1, GPU=1) == 2
    assert most(ray, CPU=1, GPU=0.25) == 8
    assert most(ray, CPU=4, GPU=0.25) == 4
    assert most(ray, CPU=1, GPU=0.4) == 4  # two on each GPU, and nothing over both
    assert most(ray, CPU=1, GPU=0) == 16
    assert most(ray, 64, CPU=1, GPU=1) == 64  # asked for: a cluster may grow
    assert most(Cluster(CPU=1000), CPU=1, GPU=0) == 100


def test_a_cluster_without_room_for_one_actor_is_said() -> None:
    with pytest.raises(ValueError, match=r"asks for CPU: 1, GPU: 0\.5, the cluster has CPU: 2"):
        most(Cluster(CPU=2), CPU=1, GPU=0.5)


class Answering(Cluster):
    """A stand-in whose actors answer with what `get` is told to raise."""

    def __init__(self, *answers: Exception | bytes) -> None:
        super().__init__(CPU=1)
        self.answers, self.killed = list(answers), 0

    @property
    def exceptions(self) -> Any:
        return importlib.import_module("ray").exceptions

    def get(self, _: object) -> bytes:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def kill(self, _: object) -> None:
        self.killed += 1


class Told:
    """What a batch says."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def lost(self, i: int, reason: str) -> None:
        self.lines.append(f"{i} lost: {reason}")

    def result(self, i: int, result: JobReturn) -> None:
        self.lines.append(f"{i}: {result._return_value}")


def actors(ray: Any, folder: Path) -> tuple[Any, list[str]]:
    """One actor that runs the first of two jobs."""
    told: Any = Told()
    folders = [folder / "cell" / str(i) for i in range(2)]
    batch = Batch([["seed=0"], ["seed=1"]], folders, 0, told)
    site: Any = SimpleNamespace(folder=folder)
    found = ray_launcher._Actors(ray, batch, site, {"CPU": 1, "GPU": 0}, None)
    found.waiting = [1]
    return found, told.lines


def test_whatever_ray_says_of_a_job_costs_that_job_at_most(tmp_path: Path) -> None:
    errors = importlib.import_module("ray").exceptions
    full = errors.OutOfMemoryError("the node runs low")
    ray = Answering(full, errors.NodeDiedError("gone"), errors.RuntimeEnvSetupError("no pip"))
    found, lines = actors(ray, tmp_path)
    for number, job in enumerate([0, 0, None]):
        found.doing[number] = object(), job
        found._take(number)
    assert lines[0].startswith("0 lost: its Ray actor died (OutOfMemoryError: the node runs low")
    assert lines[1].startswith("0: its Ray actor died (NodeDiedError")
    assert (len(lines), ray.killed, found.deaths, found.waiting) == (2, 3, 1, [1, 0])


def test_an_error_of_a_job_s_task_fails_it_and_its_actor_goes_on(tmp_path: Path) -> None:
    errors = importlib.import_module("ray").exceptions
    wrong = errors.RayTaskError("work", "traceback", OSError("disk\nfull"))
    found, lines = actors(Answering(wrong, wrong), tmp_path)
    actor = SimpleNamespace(work=SimpleNamespace(remote=lambda *_: "next"))
    found.doing["first"] = actor, 0
    found._take("first")
    assert lines == ["0: OSError: disk full"]
    assert found.doing == {"next": (actor, 1)}


def test_a_cluster_that_shrinks_to_nothing_is_waited_for(tmp_path: Path) -> None:
    ray = Answering()
    found, _ = actors(ray, tmp_path)
    ray.offers = {}
    found._grow()
    assert found.doing == {}
