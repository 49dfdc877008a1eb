"""How far images are from each other: in pixels, and in features that know no private image.

All that is learnt here (principal components, filters, scales) is learnt from reference images,
which are held out and judged by nobody. So private images and the other held-out ones are measured
alike: without a leak nobody can tell one from the other by a distance.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from synpriv.screen.reading import Images, keys

Floats = NDArray[np.float64]
COMPONENTS = 128  # principal components of pixels in which candidates are looked for
CANDIDATES = 8
FILTERS, PATCH, STRIDE = 96, 5, 2
DIMENSIONS = 24  # of the features
NEIGHBOURS = 5  # of the density estimates
_LEARNT_FROM, _PATCHES_FROM = 4000, 400  # reference images at the most
_BLOCK = 1 << 24  # numbers handled at once


class Nearest(NamedTuple):
    """The nearest of M images to each of N."""

    distance: Floats  # [N]
    place: NDArray[np.int64]  # [N]


class Pixels:
    """L2 over pixels in unit range, from the whole numbers that pixels are: a copy is at 0.

    The nearest image is looked for among the `CANDIDATES` that are nearest in principal components
    and in the norm of what these leave out, which bounds the distance from below.
    """

    def __init__(self, reference: Images) -> None:
        from sklearn.decomposition import PCA  # seconds

        some = _flat(reference[:_LEARNT_FROM])
        num = min(COMPONENTS, *some.shape)
        self._pca = PCA(num, svd_solver="randomized", random_state=0).fit(some)

    def places(self, images: Images) -> NDArray[np.float32]:
        """Components, and last the norm of the rest, [N,D+1]."""
        found = []
        for block in _blocks(images):
            centred = _flat(block) - self._pca.mean_
            inside = centred @ self._pca.components_.T
            rest = np.square(centred).sum(axis=1) - np.square(inside).sum(axis=1)
            found.append(np.column_stack([inside, np.sqrt(np.maximum(rest, 0))]))
        return np.concatenate(found).astype(np.float32)

    def nearest(self, images: Images, others: Images) -> Nearest:
        """The nearest of `others` to each image."""
        _, index = _neighbours(self.places(images), self.places(others), CANDIDATES)
        squares = np.empty(index.shape, dtype=np.int64)
        step = max(1, _BLOCK // (index.shape[1] * images[0].size))
        for start in range(0, len(images), step):
            block = slice(start, start + step)
            difference = images[block, None].astype(np.int32) - others[index[block]]
            np.square(difference, out=difference)
            squares[block] = difference.sum(axis=(2, 3, 4), dtype=np.int64)
        best = squares.argmin(axis=1)
        rows = np.arange(len(images))
        return Nearest(np.sqrt(squares[rows, best]) / 255, index[rows, best])


class Features:
    """What random filters find in each quarter of an image, whitened: [N,`DIMENSIONS`].

    Patches of reference images, whitened, are the filters of one convolution, whose positive and
    negative parts are averaged in each quarter (Coates and Ng, "The Importance of Encoding Versus
    Training with Sparse Coding and Vector Quantization", ICML 2011: random patches as a
    dictionary). No labels, no training, no download.
    """

    def __init__(self, reference: Images) -> None:
        from sklearn.decomposition import PCA

        rng, some = np.random.default_rng(0), reference[:_LEARNT_FROM]
        self._size = min(PATCH, *reference.shape[2:])
        patches = self._patches(some[:_PATCHES_FROM])
        patches = patches.reshape(-1, patches.shape[-1])
        patches = patches[rng.permutation(len(patches))[:20_000]]
        self._mean = patches.mean(axis=0)
        values, vectors = np.linalg.eigh(np.cov(patches, rowvar=False))
        white = (vectors / np.sqrt(values.clip(min=0) + 0.01 * values.max() + 1e-6)) @ vectors.T
        chosen = (patches[:FILTERS] - self._mean) @ white
        chosen /= np.linalg.norm(chosen, axis=1, keepdims=True) + 1e-6
        self._filters = (white @ chosen.T).astype(np.float32)  # [patch,F]
        raw = self._raw(some)
        self._scale = raw.std(axis=0) + 1e-6
        self.num = min(DIMENSIONS, *raw.shape)
        self._pca = PCA(self.num, whiten=True, svd_solver="full").fit(raw / self._scale)

    def __call__(self, images: Images) -> Floats:
        return self._pca.transform(self._raw(images) / self._scale).astype(np.float64)

    def _raw(self, images: Images) -> NDArray[np.float32]:
        return np.concatenate([self._averages(block) for block in _blocks(images, 8)])

    def _patches(self, images: Images) -> NDArray[np.float32]:
        """Patches in unit range, each without its mean, [N,h,w,ch*size*size]."""
        windows = np.lib.stride_tricks.sliding_window_view(
            images, (self._size, self._size), axis=(2, 3)
        )[:, :, ::STRIDE, ::STRIDE]
        found = windows.transpose(0, 2, 3, 1, 4, 5).astype(np.float32) / 255
        flat = found.reshape(*found.shape[:3], -1)
        return flat - flat.mean(axis=3, keepdims=True)

    def _averages(self, images: Images) -> NDArray[np.float32]:
        found = (self._patches(images) - self._mean).astype(np.float32) @ self._filters
        height, width = found.shape[1:3]
        rows, columns = (np.array_split(np.arange(n), min(2, n)) for n in (height, width))
        parts = []
        for r in rows:
            for c in columns:
                quarter = found[:, r[0] : r[-1] + 1, c[0] : c[-1] + 1]
                parts += [np.maximum(sign * quarter, 0).mean(axis=(1, 2)) for sign in (1, -1)]
        return np.concatenate(parts, axis=1)


def of_each(features: Features, *sets: Images) -> list[Floats]:
    """Features of several sets, those of equal images computed once: they are equal to the bit.

    In another block of a matrix product the last bits would differ.
    """
    names = [keys(images) for images in sets]
    _, first, inverse = np.unique(np.concatenate(names), return_index=True, return_inverse=True)
    found, start = np.empty((len(first), features.num)), 0
    for images in sets:
        here = (first >= start) & (first < start + len(images))
        if here.any():
            found[here] = features(images[first[here] - start])
        start += len(images)
    return np.split(found[inverse], np.cumsum([len(each) for each in names])[:-1])


def floor(points: Floats) -> float:
    """What counts as no distance: a thousandth of the median one to the nearest other point.

    Below it a distance is the rounding of two equal points, which depends on their places.
    """
    return max(1e-3 * float(np.median(to_neighbours(points, points, 0.0, 2)[:, -1])), 1e-9)


def to_neighbours(points: Floats, others: Floats, floor: float, k: int = NEIGHBOURS) -> Floats:
    """Distances [N,k] to the nearest of `others`, the nearest first, all at least `floor`."""
    distance, _ = _neighbours(points.astype(np.float32), others.astype(np.float32), k)
    return np.maximum(distance, floor)


def _neighbours(
    points: NDArray[np.float32], others: NDArray[np.float32], k: int
) -> tuple[Floats, NDArray[np.int64]]:
    """Distances and places [N,k] of the nearest of others, blocked and on all cores."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=min(k, len(others)), algorithm="brute", n_jobs=-1)
    distance, place = search.fit(others).kneighbors(points)
    return np.asarray(distance, dtype=np.float64), place


def _flat(images: Images) -> NDArray[np.float32]:
    return images.reshape(len(images), -1).astype(np.float32) / np.float32(255)


def _blocks(images: Images, times: int = 1) -> list[Images]:
    """Images in parts of about `_BLOCK` numbers, each pixel counting so many times."""
    num = -(-images.size * times // _BLOCK)
    return np.array_split(images, max(1, min(num, len(images))))
