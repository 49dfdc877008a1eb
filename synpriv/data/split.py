"""Canaries and membership: the only place that draws who is a member.

The draws follow Aerni, Zhang and Tramer, "Evaluations of Machine Learning Privacy Defenses are
Misleading" (CCS 2024): the same seed gives the same canaries, wrong labels and shadow models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from synpriv.data.datasets import Source
from synpriv.data.images import LabelledImages


@dataclass(frozen=True)
class AuditSplit:
    """What one shadow model is trained and audited on."""

    train: LabelledImages  # all non-canaries and the member canaries, in the data set's order
    test: LabelledImages
    canaries: LabelledImages  # all C, with the label they are trained on
    true_labels: torch.Tensor  # int64 [C]
    member: torch.Tensor  # bool [C]
    public: LabelledImages | None  # disjoint from private and test
    expected_size: int  # of train, rounded down: public, the same for all seeds
    position: torch.Tensor  # int64 [C], index of a member in train, -1 for a non-member


class _Streams(NamedTuple):
    shadow: np.random.Generator
    canary_order: np.random.Generator
    label_noise: np.random.Generator


def _streams(seed: int) -> _Streams:
    """The independent generators of the protocol, in the order in which it spawns them."""
    _, shadow, rest = np.random.default_rng(seed).spawn(3)
    canary_order, rest = rest.spawn(2)
    canary_transforms, _ = rest.spawn(2)
    label_noise, _ = canary_transforms.spawn(2)
    return _Streams(shadow, canary_order, label_noise)


def membership(num_samples: int, num_models: int, *, seed: int) -> NDArray[np.bool_]:
    """Who is IN which shadow model: bool [N,S] with exactly S/2 True per row.

    Drawn for all N samples, hence independent of the number of canaries.
    """
    if num_models < 2 or num_models % 2:
        raise ValueError(f"num_models={num_models}: must be even and at least 2")
    noise = _streams(seed).shadow.uniform(size=(num_models, num_samples))
    member = np.zeros((num_models, num_samples), dtype=bool)
    np.put_along_axis(member, noise.argsort(axis=0)[: num_models // 2], True, axis=0)
    return member.T


def bernoulli_membership(num_samples: int, num_models: int, *, seed: int) -> NDArray[np.bool_]:
    """Independent fair coins, bool [N,S]: what one-run epsilon bounds need."""
    noise = _streams(seed).shadow.uniform(size=(num_models, num_samples))
    return (noise < 0.5).T


def canary_indices(
    num_samples: int, num_canaries: int, *, seed: int, num_models: int
) -> NDArray[np.int64]:
    """Positions of the canaries in the private set, int [C].

    The protocol draws them from a stream of their own, so audits of one `seed` that differ in
    `num_models` share their canaries; the argument is only checked.
    """
    if not 1 <= num_canaries <= num_samples:
        raise ValueError(
            f"canary.num_canaries={num_canaries}: must be 1..{num_samples} (the private set); "
            f"write, say, canary.num_canaries={max(1, num_samples // 10)}"
        )
    if num_models < 1:
        raise ValueError(f"num_models={num_models}: must be positive")
    return _streams(seed).canary_order.permutation(num_samples)[:num_canaries]


def wrong_labels(labels: NDArray[np.int64], num_classes: int, *, seed: int) -> NDArray[np.int64]:
    """For each sample a uniform label other than its own, int [N], the same in all models."""
    draw = _streams(seed).label_noise.integers(0, num_classes - 1, size=len(labels))
    return np.where(draw < labels, draw, draw + 1)


def run_seed(seed: int, *, audit_seed: int, num_models: int) -> int:
    """The seed from which everything random in one shadow model derives."""
    return audit_seed * (num_models + 1) + seed + 1


MEMBERSHIPS = {"balanced": membership, "bernoulli": bernoulli_membership}
CANARIES = ("mislabelled", "clean")


def make_split(
    source: Source,
    *,
    kind: str,
    num_canaries: int,
    member_draw: str,
    num_models: int,
    audit_seed: int,
    seed: int,
) -> AuditSplit:
    """The split of shadow model `seed`: canaries are IN or OUT, everything else is IN."""
    if kind not in CANARIES:
        raise ValueError(f"canary.kind={kind}: must be one of {', '.join(CANARIES)}")
    private = source.private
    num = len(private)
    chosen = canary_indices(num, num_canaries, seed=audit_seed, num_models=num_models)
    member = MEMBERSHIPS[member_draw](num, num_models, seed=audit_seed)[chosen, seed]
    labels = private.labels.clone()
    if kind == "mislabelled":
        wrong = wrong_labels(private.labels.numpy(), source.num_classes, seed=audit_seed)
        labels[chosen] = torch.from_numpy(wrong[chosen])
    included = np.ones(num, dtype=bool)
    included[chosen] = member
    relabelled = LabelledImages(private.images, labels)
    return AuditSplit(
        train=relabelled[torch.from_numpy(included)],
        test=source.test,
        canaries=relabelled[torch.from_numpy(chosen)],
        true_labels=private.labels[torch.from_numpy(chosen)],
        member=torch.from_numpy(member),
        public=source.public,
        expected_size=num - num_canaries + num_canaries // 2,
        position=torch.from_numpy(np.where(member, np.cumsum(included)[chosen] - 1, -1)),
    )
