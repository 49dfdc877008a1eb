"""The fixed query views of the canaries and the logits a classifier gives them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synpriv.data.images import LabelledImages, forward_batch, shift, shift_for
from synpriv.methods import flops
from synpriv.models import Network


def views(images: Tensor, *, flip: bool) -> Iterator[Tensor]:
    """The query views of images [C,ch,H,W], one [C,ch,H,W] tensor after the other.

    Mirrored {no, yes} x dy {0,-s,s} x dx {0,-s,s} with s = H/8 and black filling, flip outermost:
    18 views, or 9 where a mirrored image is another class (`flip` false). View 0 is the image.
    """
    step = shift_for(images.shape[2])
    for mirrored in (False, True) if flip else (False,):
        base = images.flip(-1) if mirrored else images
        for dy in (0, -step, step):
            for dx in (0, -step, step):
                rows = torch.full((len(images),), dy, device=images.device)
                columns = torch.full((len(images),), dx, device=images.device)
                yield shift(base, rows, columns, step)


@torch.no_grad()
def logits(classifier: Network, images: Tensor) -> Tensor:
    """Eval-mode logits [N,K] on the images' device, computed in float32 whatever was trained in."""
    classifier.eval()
    parts = images.split(forward_batch(images.device))
    exact = torch.autocast(images.device.type, enabled=False)
    with exact, flops.part("logits", len(images)):
        return torch.cat([classifier(part) for part in parts])


def canary_logits(
    classifier: Network, canaries: LabelledImages, *, flip: bool
) -> NDArray[np.float32]:
    """Logits of each canary in each query view: float32 [C,Q,K]."""
    per_view = [logits(classifier, view) for view in views(canaries.images, flip=flip)]
    return torch.stack(per_view, dim=1).cpu().numpy()


def accuracy(classifier: Network, test: LabelledImages) -> float:
    """Share of the test images whose label has the largest logit."""
    return float((logits(classifier, test.images).argmax(1) == test.labels).float().mean())
