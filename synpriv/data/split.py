"""What one shadow model is trained and audited on, as tensors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from synpriv.data.draws import Draw
from synpriv.data.images import LabelledImages
from synpriv.data.intake import Pools
from synpriv.data.pool import Pool


@dataclass(frozen=True)
class AuditSplit:
    """What one shadow model is trained and audited on."""

    train: LabelledImages  # all non-canaries and the member canaries, in random order
    test: LabelledImages
    canaries: LabelledImages  # all C, with the label they are trained on
    true_labels: torch.Tensor  # int64 [C]
    member: torch.Tensor  # bool [C]
    public: LabelledImages | None  # disjoint from private and test
    expected_size: int  # of train, rounded down: public, the same for all seeds
    position: torch.Tensor  # int64 [C], index of a member in train, -1 for a non-member
    groups: torch.Tensor | None = None  # int64 [C] 0..G-1, canaries that are IN or OUT together


def make_split(pools: Pools, drawn: Draw, *, seed: int) -> AuditSplit:
    """The split of shadow model `seed`: canaries are IN or OUT, everything else is IN."""
    rows, member, chosen = drawn.rows(seed), drawn.member[:, seed], drawn.canaries
    relabelled = Pool(pools.private.images, drawn.labels)
    position = np.full(len(relabelled), -1)
    position[rows] = np.arange(len(rows))
    return AuditSplit(
        train=LabelledImages.of(relabelled[rows]),
        test=LabelledImages.of(pools.test),
        canaries=LabelledImages.of(relabelled[chosen]),
        true_labels=torch.tensor(pools.private.labels[chosen]),
        member=torch.tensor(member),
        public=None if pools.public is None else LabelledImages.of(pools.public),
        expected_size=drawn.expected_size,
        position=torch.tensor(position[chosen]),
        groups=None if drawn.groups is None else torch.tensor(drawn.groups),
    )
