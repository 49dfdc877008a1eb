"""Visual privacy: how near the released images come to the canaries.

Distance is no stand-in for membership: images of a class resemble each other anyway. A run compares
it with held-out test images of the same class, which no method has seen, and keeps its nearest
canaries; the report compares those with the canary's own distance in the models where it is OUT.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from synpriv.data.split import AuditSplit

CONTROLS = 1000  # test images compared at the most
KEPT = 50  # candidates for the picture of a report, per shadow model
_BLOCK = 2048  # synthetic images compared at once


@dataclass(frozen=True)
class Nearest:
    """The synthetic image nearest to each of N images."""

    distance: Tensor  # float64 [N], L2 over pixels in unit range
    index: Tensor  # int64 [N], into the synthetic set


def nearest(images: Tensor, synthetic: Tensor) -> Nearest:
    """For uint8 images [N,ch,H,W] the nearest of synthetic ones [M,ch,H,W], on their device."""
    ours = images.flatten(1).double() / 255
    best = torch.full((len(ours),), torch.inf, dtype=torch.float64, device=ours.device)
    index = torch.zeros(len(ours), dtype=torch.int64, device=ours.device)
    for start in range(0, len(synthetic), _BLOCK):
        block = synthetic[start : start + _BLOCK].flatten(1).double() / 255
        # ||a - b||^2 - ||a||^2 by one matrix product: which is nearest, not yet how near.
        partial, place = (block.square().sum(1) - 2 * ours @ block.T).min(1)
        closer = partial < best
        best = torch.where(closer, partial, best)
        index = torch.where(closer, place + start, index)
    # From the difference itself: squares that cancel would put a copy at 1e-7 instead of 0.
    return Nearest((ours - synthetic[index].flatten(1).double() / 255).norm(dim=1), index)


def nearer_held_out(split: AuditSplit, synthetic: Tensor, to_canaries: Nearest) -> Tensor:
    """For each canary the share of its class's test images that have a nearer synthetic image, [C].

    NaN for a class without test images. `to_canaries`: nearest(canaries, synthetic).
    """
    test = split.test[evenly(len(split.test), CONTROLS)].to(synthetic.device)
    control = nearest(test.images, synthetic).distance
    distance, classes = to_canaries.distance, split.true_labels.to(synthetic.device)
    same = test.labels[None, :] == classes[:, None]  # [C,T]
    nearer = same & (control[None, :] < distance[:, None])
    return nearer.sum(1).double() / same.sum(1)


def closest_pairs(
    split: AuditSplit, synthetic: Tensor, to_canaries: Nearest, closer: Tensor, *, num: int = KEPT
) -> dict[str, Tensor]:
    """The `num` members whose nearest synthetic image is nearest for their class, and that image.

    `to_canaries`: nearest(canaries, synthetic); `closer`: nearer_held_out. Returns on the CPU
    canary (their indices), images and synthetic uint8 [num,ch,H,W], distance, and closer: 0 =
    nearer than to any image it cannot know. Members of a class without test images are left out.
    """
    distance = to_canaries.distance
    # Without a control nothing is near.
    compared = split.member.to(synthetic.device) & ~closer.isnan()
    members = compared.nonzero()[:, 0]
    members = members[distance[members].argsort(stable=True)]
    chosen = members[closer[members].argsort(stable=True)[:num]]
    found = {
        "canary": chosen,
        "images": split.canaries.images.to(synthetic.device)[chosen],
        "synthetic": synthetic[to_canaries.index[chosen]],
        "distance": distance[chosen],
        "closer": closer[chosen],
    }
    return {name: tensor.cpu() for name, tensor in found.items()}


def evenly(num: int, most: int) -> Tensor:
    """Up to `most` of the positions 0..num-1, evenly spaced, whatever the order of the classes."""
    return torch.linspace(0, num - 1, min(num, most)).round().long()
