"""The synthetic set alone: whether it comes nearer to a canary that was a member."""

from __future__ import annotations

from synpriv.audit.attacks.lira import AUTO, chosen_variance, leave_one_out
from synpriv.audit.evidence import Evidence
from synpriv.audit.scores import Floats


def nearest(evidence: Evidence, *, variance: str = AUTO, equalise: bool = True) -> Floats:
    """Leave-one-out LiRA on minus the distance to the nearest synthetic image: statistic [C,S].

    For an attacker who gets the released images and no model. Distances are L2 over pixels.
    """
    if evidence.nearest is None:
        raise ValueError("attack=nearest: this method releases no images; use attack=lira")
    scores = -evidence.nearest.astype(float)[:, :, None]
    variance = chosen_variance(variance, evidence.member.shape[1])
    return leave_one_out(scores, evidence.member, variance=variance, equalise=equalise)
