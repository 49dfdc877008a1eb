"""Somebody's own generator: it is given each private set, and a student learns what it makes."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from synpriv import callables, errors
from synpriv.data import returned
from synpriv.data.images import LabelledImages
from synpriv.data.returned import Wanted
from synpriv.methods.base import Release, Untrained
from synpriv.methods.external import function, program, recipe
from synpriv.methods.external.release import synthetic_set
from synpriv.models import Network

log = logging.getLogger(__name__)
Made = tuple[NDArray, NDArray, torch.nn.Module | None]  # the last, a generator, if there is one


class External(Untrained):
    """Release what a function or a program makes of the private set.

    It is given copies, images uint8 [N,H,W,ch] and labels int64 [N] in a random order, in which
    no canary is marked, and the seed that a method of ours draws everything from.
    """

    def __init__(
        self,
        *,
        private: LabelledImages,
        model: Callable[[], Network],
        num_classes: int,
        seed: int,
        **options: Any,
    ) -> None:
        super().__init__(private=private, model=model)
        self.recipe = own = recipe.External(**options)
        self.provenance, self.num_classes = own.channels, num_classes
        self.checks = own.check_repeats and seed == 0  # the first shadow model: once per cell
        self.run_seed = torch.initial_seed() % 2**32

    def on_fit_start(self) -> None:
        """Generate; the private images stay where NumPy finds them."""
        self.made = self._generate()

    def release(self) -> Release:
        synthetic, generator = self.made
        return Release(synthetic=synthetic, generator=generator)

    def metrics(self) -> dict[str, Any]:
        """Whether a second run at the same seed makes the same set; null if it was not asked.

        Here, as this run is no part of what the release costs.
        """
        repeats = None
        if self.checks:
            again, first = self._generate()[0], self.made[0]
            repeats = again.digest() == first.digest()
            if not repeats:
                log.warning(
                    "%s: two runs at one seed made different sets: the audit counts what it draws "
                    "by itself as noise; draw everything from `seed`",
                    self.recipe.where,
                )
        return {"generator": {"repeats": repeats, "sha256": self.recipe.sha256}}

    def _generate(self) -> tuple[LabelledImages, torch.nn.Module | None]:
        own = self.recipe
        callables.check_unchanged(own.generate, own.command, own.code, own.sha256)
        shape = self.private.images.shape
        wanted = Wanted((shape[1], shape[2], shape[3]), self.num_classes)
        make = self._by_function if own.generate else self._by_program
        images, labels, generator = make(*private_arrays(self.private), wanted)
        made = synthetic_set(images, labels, num_classes=self.num_classes, where=own.where)
        return made, generator

    def _by_function(self, images: NDArray, labels: NDArray, wanted: Wanted) -> Made:
        own = self.recipe
        assert own.generate is not None
        make = callables.load(own.generate)
        given = {"seed": self.run_seed, "num_classes": self.num_classes, **own.options}
        try:
            with function.as_found(self.run_seed):
                made = make(images, labels, **given)
        except Exception as error:  # noqa: BLE001 - it is somebody else's code
            raise self._failed(error) from None
        except SystemExit as stop:
            if function.is_interruption(stop):
                raise
            raise self._failed(stop) from None
        images, labels, generator = function.parts_of(made, own.where)
        return *returned.taken(images, labels, wanted, own.where), generator

    def _failed(self, error: BaseException) -> ValueError:
        """One line with the place in the user's own code; the traceback is logged."""
        log.error("%s failed", self.recipe.where, exc_info=error)
        return ValueError(f"{self.recipe.where}: {errors.unforeseen(error)}")

    def _by_program(self, images: NDArray, labels: NDArray, wanted: Wanted) -> Made:
        own = self.recipe
        assert own.command is not None
        num_classes = np.array(self.num_classes)
        made = program.run(
            callables.words(own.command),
            {"images": images, "labels": labels, "num_classes": num_classes},
            values={"seed": str(self.run_seed), "options": json.dumps(dict(own.options))},
            timeout_s=own.timeout_s,
            read=functools.partial(returned.read, wanted=wanted, where=f"{own.where}: {{output}}"),
        )
        return *made, None


def private_arrays(private: LabelledImages) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Copies that a function may change: images uint8 [N,H,W,ch], labels int64 [N]."""
    images = private.images.permute(0, 2, 3, 1).numpy()
    return np.array(images, order="C"), np.array(private.labels.numpy())
