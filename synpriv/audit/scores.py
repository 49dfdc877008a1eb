"""Membership scores from logits: pure, float64, inputs never modified.

z are the logits of one canary under one model and view, y the label the canary is trained on.
Both scores avoid the softmax, whose saturated rows clip.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def hinge(logits: ArrayLike, labels: ArrayLike) -> Floats:
    """z_y - max over k != y of z_k. logits [C,...,K], labels [C] -> [C,...]."""
    own, others = _split(logits, labels)
    return own - others.max(axis=0)


def logit(logits: ArrayLike, labels: ArrayLike) -> Floats:
    """z_y - logsumexp over k != y of z_k = log p/(1-p). logits [C,...,K], labels [C] -> [C,...]."""
    own, others = _split(logits, labels)
    largest = others.max(axis=0)
    centre = np.where(np.isfinite(largest), largest, 0.0)
    others -= centre
    with np.errstate(divide="ignore"):
        return own - (centre + np.log(np.exp(others, out=others).sum(axis=0)))


def _split(logits: ArrayLike, labels: ArrayLike) -> tuple[Floats, Floats]:
    """The label's logit [C,...] and all logits with that one at minus infinity [K,C,...].

    Classes come first: sums and maxima over few classes are slow along the last axis.
    """
    given, labels = np.asarray(logits), np.asarray(labels)
    if given.ndim < 2 or labels.shape != given.shape[:1] or given.shape[-1] < 2:
        raise ValueError(f"logits {given.shape} and labels {labels.shape}: need [C,...,K>=2], [C]")
    if labels.size and not 0 <= labels.min() <= labels.max() < given.shape[-1]:
        raise ValueError(f"labels {labels.min()}..{labels.max()}: need 0..{given.shape[-1] - 1}")
    others = np.array(np.moveaxis(given, -1, 0), dtype=np.float64, order="C")  # always a copy
    rows = np.arange(len(labels))
    own = others[labels, rows]  # [C,...]
    others[labels, rows] = -np.inf
    return own, others


def aligned(scores: Floats) -> Floats:
    """Scores [C,S,Q] without the shift that all canaries of a model share, as far as there is one.

    Some models score everything higher. Left in, that shift is noise to whoever compares models;
    it shows in the other canaries, no membership needed. Per model and view it is the mean over
    canaries of the distance from the canary's own mean, canaries that vary much counting less. It
    is shrunk by the share of its variance that the canaries' own noise explains (James and Stein),
    so that what a few canaries happen to say is not subtracted. Laid out as [Q,S,C] in memory.
    """
    values = np.ascontiguousarray(scores.transpose(2, 1, 0))
    distance = values - values.mean(axis=1, keepdims=True)
    variance = np.square(distance).mean(axis=1)  # [Q,C]
    weight = 1 / (variance + variance.mean(axis=1, keepdims=True) + 1e-30)
    weight /= weight.sum(axis=1, keepdims=True)
    shift = (distance @ weight[:, :, None])[:, :, 0]  # [Q,S]
    by_chance = (np.square(weight) * variance).sum(axis=1)
    seen = np.square(shift).mean(axis=1)
    kept = np.clip(1 - by_chance / np.maximum(seen, 1e-30), 0, 1)
    return (values - (kept[:, None] * shift)[:, :, None]).transpose(2, 1, 0)


SCORES = {"hinge": hinge, "logit": logit}
