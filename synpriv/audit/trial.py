"""An attack tried on random evidence; SciPy, which takes a second to import, is not needed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from synpriv.audit.evidence import Evidence


def check(
    attack: Callable[[Evidence], object],
    num_models: int,
    *,
    num_views: int,
    images: bool = True,
    design: str = "balanced",
) -> None:
    """Try an attack on a few random canaries, so that a wrong option fails before training.

    images: whether the method releases a synthetic set. design: as in `Evidence`.
    """
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4, num_models, num_views, 3)).astype(np.float32)
    member = np.tile([[True, False], [False, True]], (2, num_models // 2))
    labels = np.zeros(4, dtype=np.int64)
    distance = rng.uniform(size=member.shape).astype(np.float32) if images else None
    attack(Evidence(logits, member, labels, labels + 1, distance, design))
