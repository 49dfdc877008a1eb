"""Distribution matching as somebody else's function: a bare loop around our own loss."""

import functools

import pytorch_lightning as lightning
import torch

from synpriv import models
from synpriv.data.images import LabelledImages
from synpriv.methods.distill.dm import DistributionMatching


def match(images, labels, *, seed, num_classes, mean, std, width, depth, **options):
    """What method=distill_dm releases at the same seed."""
    lightning.seed_everything(seed, verbose=False)
    pixels = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    embedder = functools.partial(
        models.convnet3,
        channels=pixels.shape[1],
        size=pixels.shape[2],
        num_classes=num_classes,
        mean=mean,
        std=std,
        width=width,
        depth=depth,
    )
    method = DistributionMatching(
        private=LabelledImages(pixels, torch.from_numpy(labels)),
        model=embedder,
        embedder=embedder,
        num_classes=num_classes,
        **options,
    )
    optimiser = method.configure_optimizers()
    for _ in range(options["num_iterations"]):
        optimiser.zero_grad()
        method.loss().backward()
        optimiser.step()
        with torch.no_grad():
            method.pixels.clamp_(method.low, method.high)
    made = method.release().synthetic
    return made.images.permute(0, 2, 3, 1).numpy(), made.labels.numpy()


if __name__ == "__main__":
    import json
    import sys

    import numpy as np

    source, target, number, options = sys.argv[1:]
    torch.set_num_threads(1)
    with np.load(source, allow_pickle=False) as given:
        made = match(
            given["images"],
            given["labels"],
            seed=int(number),
            num_classes=int(given["num_classes"]),
            **json.loads(options),
        )
    np.savez(target, images=made[0], labels=made[1])
