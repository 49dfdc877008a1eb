"""Keeping a training between two chunks of its steps, and taking it up there.

Between chunks nothing is half done: the loader asks, before it draws the next chunk. To take a
training up, a method is made as at first, its loader goes through the epoch's chunks that were done
from the random state that the epoch began with, and then all is put where it was. A sampler thus
draws again the very batches it drew, and everything after them from where its generator stood.
"""

from __future__ import annotations

import copy
import functools
import logging
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from synpriv.methods.base import Method
from synpriv.shadow.checkpoints import Checkpoint
from synpriv.shadow.state import CannotKeepError, Graph

log = logging.getLogger(__name__)
_MISFITS = (ValueError, TypeError, LookupError, AttributeError, RuntimeError, StopIteration)


class CannotResumeError(Exception):
    """What was kept does not fit the method that was made anew."""


class Chunks:
    """A method's loader, which a trainer goes through once per epoch.

    of_trainer: attributes of a method that are its trainer's.
    """

    def __init__(
        self, method: Method, checkpoint: Checkpoint, stage: str, of_trainer: frozenset[str]
    ) -> None:
        self.method, self.checkpoint, self.stage = method, checkpoint, stage
        self.of_trainer = of_trainer
        self.kept = checkpoint.training(stage)
        self.graph: Graph | None = None
        self.start: dict[str, Any] = {}  # of the epoch: its loader and the global generators
        self.moved = False  # whether this process has taken a step

    @functools.cached_property
    def loader(self) -> Any:
        return self.method.train_dataloader()

    def __len__(self) -> int:
        return len(self.loader)

    def begin(self) -> int:
        """Look at all before the first step; returns the epoch to begin with."""
        trainer = self.method.trainer
        roots: dict[str, Any] = {"method": self.method, "loader": self.loader}
        roots["optimisers"] = list(trainer.optimizers)
        roots["schedules"] = [config.scheduler for config in trainer.lr_scheduler_configs]
        self.graph = Graph(roots, self.of_trainer | self.method.not_kept)
        self.own = Graph({"loader": self.loader})
        return 0 if self.kept is None else self.kept["epoch"]

    def __iter__(self) -> Iterator[Any]:
        kept, self.kept = self.kept, None
        self.done = 0
        if kept is None:
            self.start = {"loader": self._start(), "random": self._random()}
            batches = iter(self.loader)
        else:
            try:
                batches = self._caught_up(kept)
            except _MISFITS as error:
                raise CannotResumeError(f"{type(error).__name__}: {error}") from error
        while True:
            if self.moved and self.checkpoint.due():
                self.keep()
            try:
                chunk = next(batches)
            except StopIteration:
                return
            self.done += 1
            self.moved = True
            yield chunk

    def _start(self) -> dict[str, Any] | None:
        try:
            return copy.deepcopy(self.own.changes())
        except CannotKeepError:
            return None  # said when something is to be kept

    def _caught_up(self, kept: Mapping[str, Any]) -> Iterator[Any]:
        """The rest of the epoch's chunks, all else being where it was."""
        assert self.graph is not None
        start = self.start = kept["start"]
        self.own.restore(start["loader"])
        self._set_random(start["random"])
        batches = iter(self.loader)
        for _ in range(kept["done"]):
            next(batches)
        self.graph.restore(kept["method"])
        trainer = self.method.trainer
        trainer.precision_plugin.load_state_dict(kept["precision"])
        loop = trainer.fit_loop.epoch_loop
        loop.manual_optimization.optim_step_progress.total.completed = kept["global_step"]
        self.done = loop.batch_progress.current.ready = kept["done"]
        self._set_random(kept["random"])
        log.info(
            "%s: taken up in epoch %d of %d, chunk %d of %d",
            *(self.stage, kept["epoch"] + 1, self.method.max_epochs, self.done + 1, len(self)),
        )
        return batches

    def keep(self) -> None:
        """Write where the training stands."""
        assert self.graph is not None
        trainer = self.method.trainer
        try:
            if self.start["loader"] is None or self.method.automatic_optimization:
                self.own.changes()
                raise CannotKeepError("automatic optimisation")
            changes = self.graph.changes()
        except CannotKeepError as error:
            name = type(self.method).__name__
            self.checkpoint.complain(f"{name}: {error} (docs/add_a_method.md)")
            return
        self.checkpoint.keep(
            {
                "stage": self.stage,
                "epoch": trainer.current_epoch,
                "done": self.done,
                "start": self.start,
                "method": changes,
                "precision": trainer.precision_plugin.state_dict(),
                "global_step": trainer.global_step,
                "random": self._random(),
            }
        )

    def _random(self) -> dict[str, Any]:
        """Where the global generators stand."""
        found: dict[str, Any] = {"torch": torch.get_rng_state(), "python": random.getstate()}
        found["numpy"] = np.random.get_state(legacy=False)  # noqa: NPY002
        if self.method.device.type == "cuda":
            found["cuda"] = torch.cuda.get_rng_state(self.method.device)
        return found

    def _set_random(self, state: Mapping[str, Any]) -> None:
        torch.set_rng_state(state["torch"])
        random.setstate(state["python"])
        np.random.set_state(state["numpy"])  # noqa: NPY002
        if self.method.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"], self.method.device)
