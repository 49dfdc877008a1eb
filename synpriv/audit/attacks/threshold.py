"""The score itself, under one global threshold (Yeom et al., CSF 2018)."""

from __future__ import annotations

from synpriv.audit.evidence import Evidence
from synpriv.audit.scores import SCORES, Floats


def threshold(evidence: Evidence, *, score: str = "hinge") -> Floats:
    """The score of the unmodified image, view 0: statistic [C,S]. No shadow model is needed."""
    if score not in SCORES:
        raise ValueError(f"attack.score={score}: must be one of {', '.join(SCORES)}")
    return evidence.scores(score)[:, :, 0]
