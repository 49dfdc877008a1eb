"""A launcher on Ray: a persistent actor per slot, on this machine or on a cluster."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import cloudpickle

from hydra_plugins.synpriv import _actor, _site, _worker
from hydra_plugins.synpriv._batch import Batch, Said
from hydra_plugins.synpriv._launching import SweepLauncher, at_least_one, is_number
from synpriv import config, hardware, interrupts, terminal

# Unless the user has set it: no word to Ray's makers of who uses it, no CUDA_VISIBLE_DEVICES of
# Ray's where an actor asks for no GPU, as in a later Ray, no codes for terminals in its own lines.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_COLOR_PREFIX": "0",
}
_STORE_BYTES = 80 * 2**20  # of a Ray of our own: results are small
_STARTS = 3  # of actors that died before they were ready, in a row


class RayLauncher(SweepLauncher):
    """Runs jobs on as many actors as fit into the cluster, or on `num_workers`.

    An actor that dies (killed, out of memory, a lost node or GPU) costs the job that it ran, which
    is tried once more on another one; the others go on.
    """

    def __init__(
        self,
        *,
        address: str | None = None,
        num_workers: int | None = None,
        num_cpus: int | float = 1,
        num_gpus: int | float | None = None,
        resources: Mapping[str, float] | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        fail_fast: bool = False,
    ) -> None:
        super().__init__(fail_fast=fail_fast)
        at_least_one("num_workers", num_workers, None)
        for name, value in (("num_cpus", num_cpus), ("num_gpus", num_gpus)):
            if value is not None and not is_number(value):
                raise ValueError(f"hydra.launcher.{name}={value}: must be a number, at least 0")
        if num_gpus is not None and num_gpus > 1:
            raise ValueError(
                f"hydra.launcher.num_gpus={num_gpus}: must be 0..1, a training's share"
            )
        if address is not None and "://" in address:
            raise ValueError(
                f"hydra.launcher.address={address}: must be auto or HOST:PORT, on a machine "
                "of the cluster, say by ray job submit"
            )
        if importlib.util.find_spec("ray") is None:
            raise ValueError("hydra/launcher=ray: ray is not installed; pip install 'synpriv[ray]'")
        self.address, self.num_workers = address, num_workers
        self.leaves_machine = address is not None
        self.num_cpus, self.num_gpus = num_cpus, num_gpus
        self.resources: dict[str, float] = config.plain(resources) or {}
        self.runtime_env: dict[str, Any] = config.plain(runtime_env) or {}

    def _run(self, batch: Batch) -> None:
        away = self.leaves_machine
        site_of = _site.opened(self.results, self.shared(), leaves_machine=away)
        with site_of as site, self._connected() as ray:
            needs = self._needs(ray)
            actors = _Actors(ray, batch, site, needs, self.num_workers)
            actors.options["runtime_env"] = self._environment(site)
            print(f"jobs: {len(batch.jobs)}, Ray actors: {actors.most()}", flush=True)
            actors.run()

    @contextmanager
    def _connected(self) -> Iterator[ModuleType]:
        """Ray, connected to its cluster, or one begun on this machine."""
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        import ray

        ours = not ray.is_initialized()  # by whoever calls us
        try:
            if ours:
                own = self.address is None
                begun: dict[str, Any] = {
                    "num_cpus": hardware.usable_cores(),
                    "object_store_memory": _STORE_BYTES,
                }
                with interrupts.deaf_children():
                    ray.init(
                        self.address or "local",
                        include_dashboard=False if own else None,
                        logging_level=logging.ERROR,
                        log_to_driver=False,
                        **(begun if own else {}),
                    )
                interrupts.raise_in_main()  # Ray answers SIGTERM otherwise
            yield ray
        except ConnectionError as error:
            said = terminal.one_line(str(error))
            raise ValueError(f"hydra.launcher.address={self.address}: {said}") from error
        finally:
            if ours:
                ray.shutdown()

    def _needs(self, ray: ModuleType) -> dict[str, float]:
        """What an actor asks for, by Ray's names; ValueError if no GPU is there for it."""
        gpus = self.num_gpus
        if gpus is None:
            gpus = int(self.accelerator != "cpu" and ray.cluster_resources().get("GPU", 0) > 0)
        if self.accelerator == "gpu" and not gpus:
            raise ValueError(
                "trainer.accelerator=gpu: no GPU in the Ray cluster; use trainer=auto or cpu, "
                "or hydra.launcher.num_gpus=1 if it grows"
            )
        return {"CPU": self.num_cpus, "GPU": gpus, **self.resources}

    def _environment(self, site: _site.Site) -> dict[str, Any]:
        """What Ray starts an actor's process with: glibc reads some of it once."""
        given = self.runtime_env
        return given | {"env_vars": site.environment | given.get("env_vars", {})}


class _Actors:
    """The actors of a batch, and the job that each runs."""

    def __init__(
        self,
        ray: ModuleType,
        batch: Batch,
        site: _site.Site,
        needs: Mapping[str, float],
        num_workers: int | None,
    ) -> None:
        self.ray, self.batch, self.site = ray, batch, site
        self.needs, self.num_workers = needs, num_workers
        self.options: dict[str, Any] = {
            "num_cpus": needs["CPU"],
            "num_gpus": needs["GPU"],
            "resources": {k: v for k, v in needs.items() if k not in ("CPU", "GPU")},
            "max_restarts": 0,
        }
        self.waiting = batch.waiting()
        self.doing: dict[Any, tuple[Any, int | None]] = {}  # reference -> actor, job (None: begin)
        self.deaths = 0  # before they were ready, in a row
        self.place = ray.put(site)

    def most(self) -> int:
        """How many actors there are to be; ValueError if the cluster has room for none."""
        fit = self._fit()
        if fit == 0:
            there = self.ray.cluster_resources()
            has = ", ".join(f"{name}: {there.get(name, 0):g}" for name in self.needs)
            asked = ", ".join(f"{name}: {need:g}" for name, need in self.needs.items())
            raise ValueError(
                f"hydra/launcher=ray: an actor asks for {asked}, the cluster has {has}; ask for "
                "less, or set hydra.launcher.num_workers if it grows on demand"
            )
        return fit

    def _fit(self) -> int:
        """How many there can be as the cluster is now: none while its nodes are away."""
        if self.num_workers is not None:
            return min(self.num_workers, len(self.batch.jobs))
        there = self.ray.cluster_resources()
        # Whole shares of each GPU: two actors of 0.4 on each, and nothing over both.
        each = {"GPU": int(1 / self.needs["GPU"])} if self.needs["GPU"] else {}
        fits = [
            there.get(name, 0) * each[name] if name in each else there.get(name, 0) / need
            for name, need in self.needs.items()
            if need > 0
        ]
        fit = int(min(fits)) if fits else len(self.batch.jobs)
        return min(fit, len(self.batch.jobs))

    def run(self) -> None:
        said = Said(self.site.folder)
        try:
            while not self.batch.stopped and (self.waiting or self._busy()):
                self._grow()
                if not self.doing:
                    self.batch.tell.warn("the Ray cluster has no room for an actor; waiting for it")
                    time.sleep(1.0)
                    continue
                done, _ = self.ray.wait(list(self.doing), timeout=1.0)
                for reference in done:
                    self._take(reference)
                said.pass_on(self.batch.tell)
                self.batch.tell.show(self.batch.returns)
        finally:
            for actor, _ in self.doing.values():
                self.ray.kill(actor)
        said.pass_on(self.batch.tell)

    def _busy(self) -> int:
        return sum(job is not None for _, job in self.doing.values())

    def _grow(self) -> None:
        """Begin actors until all are there that fit now and have something to do."""
        wanted = min(self._fit(), len(self.waiting) + self._busy())
        for _ in range(wanted - len(self.doing)):
            actor = self.ray.remote(_actor.Actor).options(**self.options).remote()
            begun = actor.begin.remote(self.place, has_gpu=self.needs["GPU"] > 0)
            self.doing[begun] = actor, None

    def _take(self, reference: Any) -> None:
        """What came back of an actor, and its next job."""
        actor, i = self.doing.pop(reference)
        try:
            value = self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:  # it lives
            said = terminal.one_line(f"{type(error.cause).__name__}: {error.cause}")
            if i is not None:
                self.batch.died(i, said)
            elif isinstance(error.cause, ValueError):  # its node cannot share results
                raise ValueError(terminal.one_line(str(error.cause))) from error.cause
            else:
                self._lost(actor, i, said)
                return
        except self.ray.exceptions.RayError as error:
            self._lost(actor, i, _in_words(error))
            return
        else:
            if i is not None:
                self.batch.put(i, cloudpickle.loads(value))
        self.deaths = 0
        if not self.waiting:
            self.ray.kill(actor)
            return
        job = self.waiting.pop(0)
        number = self.batch.first + job
        self.doing[actor.work.remote(list(self.batch.jobs[job]), number)] = actor, job

    def _lost(self, actor: Any, i: int | None, words: str) -> None:
        """An actor is of no more use: its job is tried once more, unless it had none."""
        self.ray.kill(actor)
        if i is None:
            self.deaths += 1
            if self.deaths >= _STARTS:
                raise ValueError(f"Ray actors die before they are ready: {words}")
            return
        reason = _worker.reason_of_loss(self.site.folder, self.batch.first + i)
        if self.batch.lose(i, reason or f"its Ray actor died ({words})"):
            self.waiting.append(i)


def _in_words(error: Exception) -> str:
    """Ray's reason without its advice, which is a paragraph."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = " ".join(line for line in lines if line.startswith("The actor") or "exits" in line)
    said = said or ": ".join([type(error).__name__, *lines[:1]])
    short = re.split(r" Some common causes| Worker exit type:", said)[0]
    return terminal.one_line(short)
