"""What a run has come to while it trains, in its folder, for whoever trains it after a kill.

Written every few minutes by the process that holds the run's lock, one file that is replaced as a
whole, and removed when the run is done. A training that is over before that writes none.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn

from synpriv.data.images import LabelledImages
from synpriv.methods.base import Release
from synpriv.results import leftovers, packed, store
from synpriv.shadow.costs import Costs, Stage

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fitted:
    """What is left of a method when its training is over."""

    release: Release
    provenance: tuple[str, ...]
    metrics: dict[str, Any] = field(default_factory=dict)
    records: dict[str, NDArray] = field(default_factory=dict)


class Checkpoint:
    """A run's costs so far, what its first stage has released, and the state of its training.

    minutes: between two of them; None = none is written or read. of: what must be the same where it
    is read: cell, seed, code, versions, data. It is asked for only if there is a file, or one is
    written. costs: of this process, to which those of interrupted ones are added.
    """

    def __init__(
        self,
        folder: Path,
        minutes: float | None,
        costs: Costs,
        of: Callable[[], Mapping[str, Any]],
    ) -> None:
        self.file, self.costs, self._of = folder / store.CHECKPOINT, costs, of
        self._seconds = None if minutes is None else 60 * minutes
        self._written, self._complained = time.monotonic(), False
        self.fitted: Fitted | None = None
        self._training: dict[str, Any] | None = None
        self.resumed = 0  # how often, of what this process goes on with
        if self.wanted and self.file.is_file():
            self._read()

    def _read(self) -> None:
        try:
            content = packed.read(self.file)
            if other := _differing(content["of"], self._about()):
                raise ValueError(f"{self.file} is of another {', '.join(other)}")
            costs = {name: Stage(**stage) for name, stage in content["costs"].items()}
            fitted = None if content["fitted"] is None else _opened(content["fitted"])
            resumed, training = content["resumed"] + 1, content["training"]
            parts = {name: dict(known) for name, known in content["parts"].items()}
        except (OSError, ValueError) as error:
            self._discard(str(error))
        except (LookupError, TypeError, AttributeError) as error:
            self._discard(f"{self.file} is none ({type(error).__name__}: {error})")
        else:
            self.costs.add_earlier(costs, parts)
            self.resumed, self._training, self.fitted = resumed, training, fitted
            log.info("%s: the training goes on from it", self.file)

    def _discard(self, why: str) -> None:
        log.warning("%s: the training begins anew", why)
        self.remove()

    def _about(self) -> dict[str, Any]:
        return {"format": packed.FORMAT, **self._of()}

    def training(self, stage: str) -> dict[str, Any] | None:
        """State of the training of this stage, handed out once; None to begin at its beginning."""
        found, self._training = self._training, None
        return found if found is not None and found["stage"] == stage else None

    @property
    def wanted(self) -> bool:
        """Whether any is written or read."""
        return self._seconds is not None

    def due(self) -> bool:
        """Whether the last one is too long ago."""
        return self._seconds is not None and time.monotonic() - self._written >= self._seconds

    def keep(self, training: dict[str, Any] | None) -> None:
        """Replace the file. What cannot be written costs the checkpoint, and a warning."""
        content = {
            "of": self._about(),
            "resumed": self.resumed,
            "costs": {name: asdict(stage) for name, stage in self.costs.so_far().items()},
            "parts": self.costs.parts,
            "fitted": None if self.fitted is None else _closed(self.fitted),
            "training": training,
        }
        try:
            packed.write(self.file, content)
        except (OSError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            self.complain(str(error))
        self._written = time.monotonic()

    def complain(self, why: str) -> None:
        """Say once why there is none."""
        if not self._complained:
            log.warning("no checkpoint, a killed training begins anew: %s", why)
        self._complained, self._written = True, time.monotonic()

    def forget_training(self, stage: str) -> None:
        """It does not fit what was made anew, so nothing that was spent on it counts."""
        self.costs.forget_earlier(stage)
        if self.fitted is None:
            self.resumed = 0
        self.remove()

    def fit_is_over(self, fitted: Fitted) -> None:
        """Keep what the student is trained on, if it took long to make."""
        self.fitted = fitted
        if self.due() or self.file.is_file():
            self.keep(None)

    def remove(self) -> None:
        leftovers.remove(self.file)


def _differing(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """The names of what is not the same."""
    return [key for key in {**theirs, **ours} if theirs.get(key) != ours.get(key)]


class _Weights(nn.Module):
    """Released weights of a network whose class is not asked for any more."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self.tensors = tensors

    def state_dict(self, *_: Any, **__: Any) -> dict[str, Any]:  # type: ignore[override]
        return self.tensors


def _closed(fitted: Fitted) -> dict[str, Any]:
    """As plain data; a release that a student learns from holds no classifier."""
    own, sets = fitted.release, fitted.release.synthetic
    return {
        "synthetic": None if sets is None else (sets.images, sets.labels),
        "indices": own.indices,
        "generator": None if own.generator is None else dict(own.generator.state_dict()),
        "provenance": tuple(fitted.provenance),
        "metrics": fitted.metrics,
        "records": fitted.records,
    }


def _opened(kept: dict[str, Any]) -> Fitted:
    weights, sets = kept["generator"], kept["synthetic"]
    release = Release(
        synthetic=None if sets is None else LabelledImages(*sets),
        indices=kept["indices"],
        generator=None if weights is None else _Weights(weights),
    )
    return Fitted(release, kept["provenance"], kept["metrics"], kept["records"])
