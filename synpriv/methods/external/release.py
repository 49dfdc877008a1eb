"""A set of somebody else's as a release."""

from __future__ import annotations

import logging

import torch
from numpy.typing import NDArray

from synpriv.data.images import LabelledImages
from synpriv.data.returned import missing_classes

log = logging.getLogger(__name__)
_SHOWN = 6  # classes in a message


def synthetic_set(
    images: NDArray, labels: NDArray, *, num_classes: int, where: str
) -> LabelledImages:
    """Images uint8 [M,ch,H,W] and labels int64 [M] or float32 [M,K] as tensors of their own."""
    if lacking := missing_classes(labels, num_classes):
        more = ", ..." * (len(lacking) > _SHOWN)
        listed = ", ".join(map(str, lacking[:_SHOWN])) + more
        log.warning(
            "%s: no image of %d of %d classes, %s", where, len(lacking), num_classes, listed
        )
    pixels = torch.empty(images.shape, dtype=torch.uint8)  # strides are torch's, see LabelledImages
    pixels.numpy()[...] = images
    return LabelledImages(pixels, torch.tensor(labels))
