"""One statistic per group: what the images of one person, IN or OUT together, say together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from synpriv.audit import one_run
from synpriv.audit.evidence import Evidence
from synpriv.audit.one_run import Attack
from synpriv.audit.scores import Floats


def per_group(attack: Attack) -> Attack:
    """The attack whose statistics are those of `Evidence.bits`, [G,S], in each of its variants.

    Evidence without groups is attacked as it is.
    """

    def combined(evidence: Evidence) -> Floats | Mapping[str, Floats]:
        found = attack(evidence)
        if evidence.groups is None:
            return found
        if isinstance(found, Mapping):
            return {name: combine(values, evidence) for name, values in found.items()}
        return combine(found, evidence)

    return combined


def combine(statistic: Floats, evidence: Evidence) -> Floats:
    """Statistics [C,S] of images as one of each group, [G,S]: sum of t - mean(t) over root of size.

    For log-likelihood ratios the plain sum is best where the images of a group are independent
    given its membership, and the mean where they all say the same; the root lies between and loses
    little to either. The mean over all images and models, which no membership enters but through
    the statistics, is taken off so that a score that is far from zero does not rank groups by size.
    A group with an image whose statistic is not finite has none.
    """
    if statistic.shape != evidence.member.shape:
        expected = evidence.member.shape
        raise ValueError(f"attack gave {statistic.shape}, must be [C,S] {expected}")
    assert evidence.groups is not None
    finite = np.isfinite(statistic)
    centre = statistic[finite].mean() if finite.any() else 0.0
    order = np.argsort(evidence.groups, kind="stable")
    sizes = np.bincount(evidence.groups)
    starts = np.cumsum(sizes) - sizes
    return np.add.reduceat((statistic - centre)[order], starts) / np.sqrt(sizes)[:, None]


def report(evidence: Evidence) -> dict[str, Any]:
    """The groups' part of a report: how many images they have; {} where canaries are images."""
    if evidence.groups is None:
        return {}
    sizes = np.bincount(evidence.groups)
    found = {"images": len(evidence.groups), "smallest": sizes.min(), "largest": sizes.max()}
    return {"groups": {key: int(value) for key, value in found.items()}}


def definitions(evidence: Evidence) -> dict[str, str]:
    """What keys of a report mean otherwise where canaries are groups; {} where they are images."""
    if evidence.groups is None:
        return {}
    return {
        "canary": "a group of images, IN or OUT as a whole: rates, intervals, p and bounds are of "
        "groups; its statistic is the sum of its images' less their mean over all images and "
        "models, over the root of how many it has",
        "epsilon_bound_assumes": one_run.ASSUMES.replace("one image", "one group"),
        "answers": "shares of images, not of groups",
        "nearness": "of each group its image that is nearest to the release",
    }
