"""How good released images are, so that a weak generator is not taken for a private one.

They are compared with held-out real images in the features of a network, and so are as many private
images: what these reach is good, whatever the features and the numbers of images. All of it is for
the reader of an audit; nothing that is trained or attacked knows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float64]  # [N,D]
NEIGHBOURS = 3
WEAK = 0.1  # of the precision or recall of private images


def frechet_distance(one: Features, other: Features) -> float:
    """Squared Frechet distance of two Gaussians with the moments of these features.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), Heusel et al., "GANs Trained by a Two Time-Scale
    Update Rule Converge to a Local Nash Equilibrium" (NeurIPS 2017), eq. 6: their FID, if the
    features were Inception's. Few images make it larger: compare equal numbers only.
    """
    difference = one.mean(0) - other.mean(0)
    first, second = (np.atleast_2d(np.cov(features, rowvar=False)) for features in (one, other))
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    # The product's eigenvalues are those of the symmetric C1^(1/2) C2 C1^(1/2).
    product = np.linalg.eigvalsh(root @ second @ root).clip(min=0)
    traces = np.trace(first) + np.trace(second) - 2 * np.sqrt(product).sum()
    return max(0.0, float(difference @ difference + traces))


def coverage(points: Features, by: Features, *, neighbours: int = NEIGHBOURS) -> float:
    """Share of the points that lie as near to one of `by` as its k-th neighbour among `by` does.

    Kynkaanniemi et al., "Improved Precision and Recall Metric for Assessing Generative Models"
    (NeurIPS 2019), eq. 1 to 3: precision of generated points by real ones, recall the other way.
    `by` has more points than neighbours.
    """
    among = _squared_distances(by, by)
    np.fill_diagonal(among, -1.0)  # itself comes first, also among copies of it
    radius = np.partition(among, neighbours, axis=1)[:, neighbours]
    return float((_squared_distances(points, by) <= radius).any(1).mean())


def _squared_distances(one: Features, other: Features) -> Features:
    squares = (one**2).sum(1)[:, None] + (other**2).sum(1) - 2 * one @ other.T
    return squares.clip(min=0)


def quality(made: Features, real: Features, private: Features) -> dict[str, Any] | None:
    """Frechet distance (`fid`), precision and recall of `made` and, as `private_*`, of `private`.

    real: of held-out images; private: as many as `made`. None where one of them has no more images
    than `NEIGHBOURS`.
    """
    if min(len(made), len(real), len(private)) <= NEIGHBOURS:
        return None
    found: dict[str, Any] = {"num": len(made), "num_real": len(real)}
    for prefix, features in (("", made), ("private_", private)):
        found[f"{prefix}fid"] = round(frechet_distance(features, real), 6)
        found[f"{prefix}precision"] = round(coverage(features, real), 6)
        found[f"{prefix}recall"] = round(coverage(real, features), 6)
    return found


def mean(found: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Each number's mean over shadow models."""
    return {key: float(np.mean([one[key] for one in found])) for key in found[0]}


def in_words(found: dict[str, float]) -> str:
    """Of images and, in brackets, of as many private ones."""
    return ", ".join(
        f"{name} {found[key]:.2f} ({found[f'private_{key}']:.2f})"
        for name, key in (("FID", "fid"), ("precision", "precision"), ("recall", "recall"))
    )


def warnings_of(found: dict[str, float]) -> list[str]:
    """One line for images that resemble no real ones, that few real ones resemble, or far off.

    FID too, since outliers inflate both shares: pixels drawn from different digits have a precision
    of .70 and 15 times the FID of private images.
    """
    good = all(found[key] >= WEAK * found[f"private_{key}"] for key in ("precision", "recall"))
    if good and WEAK * found["fid"] <= found["private_fid"]:
        return []
    return [
        f"its images against held-out ones, as many private images in brackets: {in_words(found)}; "
        "a generator this weak leaks little because it makes little"
    ]
