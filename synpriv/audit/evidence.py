"""What an attack may use: the canary logits of all shadow models and who was a member."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from synpriv.audit.scores import SCORES, Floats

_BLOCK = 1 << 22  # logits turned into float64 at once


@dataclass(frozen=True)
class Evidence:
    """A whole cell: C canaries, S shadow models, Q query views, K classes."""

    logits: NDArray[np.float32]  # [C,S,Q,K]
    member: NDArray[np.bool_]  # [C,S]
    labels: NDArray[np.int64]  # [C] the label the canary is trained on
    true_labels: NDArray[np.int64]  # [C]
    nearest: NDArray[np.float32] | None = None  # [C,S] distance to the nearest synthetic image
    _scores: dict[str, Floats] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        num_canaries, num_models, _, num_classes = self.logits.shape
        assert self.member.shape == (num_canaries, num_models)
        assert self.member.dtype == bool
        assert self.nearest is None or self.nearest.shape == self.member.shape
        for labels in (self.labels, self.true_labels):
            assert labels.shape == (num_canaries,)
            assert labels.min() >= 0
            assert labels.max() < num_classes

    def scores(self, name: str) -> Floats:
        """Scores `name` of the trained-on labels: float64 [C,S,Q], computed once, not to modify."""
        if name not in self._scores:
            step = max(1, _BLOCK // self.logits[0].size)
            blocks = range(0, len(self.logits), step)
            self._scores[name] = np.concatenate(
                [SCORES[name](self.logits[i : i + step], self.labels[i : i + step]) for i in blocks]
            )
            self._scores[name].flags.writeable = False
        return self._scores[name]

    def with_member(self, member: NDArray[np.bool_]) -> Evidence:
        """The same logits, whose scores need not be computed again, with other membership bits."""
        twin = replace(self, member=member)
        object.__setattr__(twin, "_scores", self._scores)
        return twin
