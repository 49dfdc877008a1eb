"""Visual privacy: whether a release comes nearer to a canary where that is a member.

The control is the canary itself in the models where it is OUT: whatever its class, its own look or
the data set make near is the same there. Where membership says nothing, each canary's bits are
exchangeable, so how often a member is nearer than in *every* OUT model by chance alone is known.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from synpriv.audit.evidence import Evidence
from synpriv.audit.null import ALPHA, redraw

Floats = NDArray[np.floating]
ROUNDS = 999  # redrawn memberships; the smallest p is 1/1000


class Rank(NamedTuple):
    """Of one canary in one model where it is IN."""

    as_near: int  # OUT models whose release is as near to it or nearer
    out: int  # OUT models of that canary


def rank(distance: Floats, member: NDArray[np.bool_], model: int) -> Rank:
    """distance, member: of one canary in all models, [S]; model: a column where it is IN."""
    others = distance[~member]
    return Rank(int((others <= distance[model]).sum()), len(others))


def nearer(distance: Floats, member: NDArray[np.bool_]) -> int:
    """Number of pairs (canary, IN model) nearer than in every OUT model of the canary.

    distance, member: [C,S]. A canary that is IN everywhere has no control and counts nothing; nor
    does a pair that is as near as one in an OUT model.
    """
    closest_out = np.where(member, np.inf, distance).min(1, keepdims=True)
    closest_out[member.all(1)] = -np.inf
    return int((member & (distance < closest_out)).sum())


def nearness(evidence: Evidence, *, rounds: int = ROUNDS) -> dict[str, Any]:
    """How many pairs are nearer than in every OUT model, what chance gives, and how sure that is.

    `nearer` of the `pairs`; `chance`: the mean over redrawn memberships; `p`: share of them that
    give as many or more (randomisation test, one-sided); `above_chance`: p <= 0.025. ValueError
    without distances.
    """
    if evidence.nearest is None:
        raise ValueError("no distances: the method releases no images; attack the classifier")
    distance = _of_groups(evidence.nearest, evidence)
    found = nearer(distance, evidence.bits)
    rng = np.random.default_rng(0)
    redrawn = [nearer(distance, redraw(evidence, rng)) for _ in range(rounds)]
    p = (1 + sum(count >= found for count in redrawn)) / (1 + rounds)
    return {
        "nearer": found,
        "pairs": int(evidence.bits.sum()),
        "chance": float(np.mean(redrawn)),
        "p": p,
        "above_chance": p <= ALPHA,
    }


def _of_groups(distance: Floats, evidence: Evidence) -> Floats:
    """Of each group its image that is nearest to the release, [G,S]; without groups [C,S]."""
    if evidence.groups is None:
        return distance
    order = np.argsort(evidence.groups, kind="stable")
    starts = np.searchsorted(evidence.groups[order], np.arange(len(evidence.bits)))
    return np.minimum.reduceat(distance[order], starts)
