"""The synthetic set alone: whether it comes nearer to a canary that was a member."""

from __future__ import annotations

from synpriv.audit.attacks.lira import by_view, log_ratios, references_of
from synpriv.audit.evidence import Evidence
from synpriv.audit.scores import Floats


def nearest(evidence: Evidence, *, shrinkage: float = 4.0) -> Floats:
    """Leave-one-out LiRA on minus the distance to the nearest synthetic image: statistic [C,S].

    For an attacker who gets the released images and no model. Distances are L2 over pixels.
    shrinkage: as in `log_ratios`.
    """
    if evidence.nearest is None:
        raise ValueError("attack=nearest: this method releases no images; use attack=lira")
    scores = by_view(-evidence.nearest.astype(float)[:, :, None])
    return log_ratios(scores, references_of(evidence), shrinkage=shrinkage)[0][0]
