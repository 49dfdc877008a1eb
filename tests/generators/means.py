"""A generator as its user has it: a function, and the same as a program. NumPy alone."""

import json
import sys

import numpy as np


def make(images, labels, *, seed, num_classes, num=40, noise=40.0):
    """Class means with noise."""
    rng = np.random.default_rng(seed)
    chosen = np.arange(num) % num_classes
    means = np.stack([images[labels == label].mean(0) for label in range(num_classes)])
    pixels = means[chosen] + rng.normal(0, noise, (num, *images.shape[1:]))
    images[:] = 0  # what it is given is its own
    return pixels.round().clip(0, 255).astype(np.uint8), chosen


def soft(images, labels, *, seed, num_classes):
    """The same with probabilities."""
    made, chosen = make(images, labels, seed=seed, num_classes=num_classes)
    return made, np.eye(num_classes)[chosen]


def unseeded(images, labels, *, seed, num_classes):
    """What does not follow its seed."""
    return make(images, labels, seed=None, num_classes=num_classes)


def careless(images, labels, *, seed, num_classes):
    """What draws from the global generators and leaves settings behind."""
    import os

    import torch

    os.chdir("/")
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(2)
    drawn = np.random.rand() + float(torch.rand(()))  # noqa: NPY002
    return make(images, labels, seed=int(drawn * 1e6), num_classes=num_classes)


def broken(images, labels, *, seed, num_classes):
    """What raises."""
    return {}["what is not there"]


def leaves(images, labels, *, seed, num_classes):
    """What ends the process."""
    sys.exit(0)


if __name__ == "__main__":
    source, target, number, *rest = sys.argv[1:]
    with np.load(source, allow_pickle=False) as given:
        options = json.loads(rest[0]) if rest else {}
        result = make(
            given["images"],
            given["labels"],
            seed=int(number),
            num_classes=int(given["num_classes"]),
            **options,
        )
    print("made", len(result[0]), "images")
    np.savez(target, images=result[0], labels=result[1])
