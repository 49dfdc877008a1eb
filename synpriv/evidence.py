"""What an attack may use: the canary logits of all shadow models and who was a member."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Evidence:
    """A whole cell: C canaries, S shadow models, Q query views, K classes."""

    logits: NDArray[np.float32]  # [C,S,Q,K]
    member: NDArray[np.bool_]  # [C,S]
    labels: NDArray[np.int64]  # [C] the label the canary is trained on
    true_labels: NDArray[np.int64]  # [C]

    def __post_init__(self) -> None:
        num_canaries, num_models, _, num_classes = self.logits.shape
        assert self.member.shape == (num_canaries, num_models)
        assert self.member.dtype == bool
        for labels in (self.labels, self.true_labels):
            assert labels.shape == (num_canaries,)
            assert labels.min() >= 0
            assert labels.max() < num_classes
