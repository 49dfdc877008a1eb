"""LiRA: the likelihood-ratio attack, every shadow model the target once.

Carlini et al., "Membership Inference Attacks From First Principles" (S&P 2022), with shadow models
as targets (Aerni et al., CCS 2024), a variance that is shrunk towards the pooled one, and the
Student-t density that predicts a new score from the few at hand.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from synpriv.audit.evidence import LABELS, Evidence
from synpriv.audit.references import LeftOut, Side, comparisons, left_out
from synpriv.audit.scores import SCORES, Floats, aligned

VIEWS = ("all", "view0")
_BLOCK = 1 << 17  # scores handled at once
_FARTHEST, _MOST = 1e15, 20  # largest factor; a product of so many is still a float64
_TINY = 1e-30


def lira(
    evidence: Evidence,
    *,
    views: Sequence[str] = VIEWS,
    scores: Sequence[str] = tuple(SCORES),
    labels: Sequence[str] = LABELS,
    shrinkage: float = 4.0,
) -> dict[str, Floats]:
    """Log-likelihood ratios: a statistic [C,S] for each view set, score and label, by name.

    Names are `<views>/<score>/<label>`. views: `all` is the mean over the views of their log
    ratios, `view0` the ratio of the unmodified image. labels: the `trained_label` (wrong) or the
    `true_label` of a canary; variants on the latter are left out where all labels are true.
    shrinkage: as in `log_ratios`.
    """
    for option, given, allowed in (
        ("views", views, VIEWS),
        ("scores", scores, tuple(SCORES)),
        ("labels", labels, LABELS),
    ):
        if not given or len(set(given)) < len(given) or not set(given) <= set(allowed):
            raise ValueError(
                f"attack.{option}={list(given)}: must be one or more of {', '.join(allowed)}"
            )
    if np.array_equal(evidence.labels, evidence.true_labels):
        labels = ("trained_label",)  # they are the true ones
    kinds = list(product(scores, labels))
    found = log_ratios(
        [_aligned(evidence, *kind) for kind in kinds],
        references_of(evidence),
        shrinkage=shrinkage,
    )
    statistics = dict(zip(("all", "view0"), found, strict=True))
    return {
        f"{which}/{score}/{label}": statistics[which][i]
        for i, (score, label) in enumerate(kinds)
        for which in views
    }


def references_of(evidence: Evidence, *, equalise: bool = True) -> LeftOut:
    """What leave-one-out leaves out, by the design of the membership."""
    partners = evidence.partners if evidence.design == "paired" else None
    equalise = equalise and evidence.design == "balanced"
    return left_out(evidence.member, partners, equalise=equalise)


class ByView(NamedTuple):
    """Scores as leave-one-out goes through them, and the smallest variance that they can show."""

    values: Floats  # [Q,S,C]
    floor: Floats  # [Q,1,C] square of the resolution of float32 logits


def by_view_of(evidence: Evidence, score: str, label: str) -> ByView:
    """The scores of evidence, kept for rounds with other membership bits."""
    return evidence.kept(f"by view {score} {label}", lambda: by_view(evidence.scores(score, label)))


def _aligned(evidence: Evidence, score: str, label: str) -> ByView:
    """As `by_view_of`, without the shift that all canaries of a model share."""
    return evidence.kept(
        f"aligned {score} {label}", lambda: by_view(aligned(_finite(evidence.scores(score, label))))
    )


def by_view(scores: ArrayLike) -> ByView:
    """Scores [C,S,Q] as `ByView`; ValueError where some are not finite."""
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 3:
        raise ValueError(f"scores {values.shape}: need [C,S,Q]")
    values = np.ascontiguousarray(_finite(values).transpose(2, 1, 0))  # no copy of `Evidence`'s
    resolution = np.abs(values).max(axis=1, keepdims=True) * np.finfo(np.float32).eps
    return ByView(values, np.square(resolution + _TINY))


def _finite(scores: Floats) -> Floats:
    """The scores; ValueError that counts those which are not finite, before they spread."""
    if not np.isfinite(scores).all():
        raise ValueError(f"{(~np.isfinite(scores)).sum()} scores are not finite")
    return scores


def log_ratios(
    scores: Sequence[ByView], without: LeftOut, *, shrinkage: float = 4.0
) -> tuple[Floats, Floats]:
    """Log-likelihood ratio of IN to OUT for each canary and model, from the other models only.

    A kinds of scores -> float64 [A,C,S] twice: the mean over views of log t(s; in) - log t(s; out),
    and that of view 0. NaN where a side keeps too few models.

    With n models on a side, s^2 their variance, dof = n - 1 and the variance of this view and side
    pooled over all canaries, the variance (dof s^2 + k pooled) / (dof + k), k = `shrinkage`, is the
    one of a normal-inverse-chi-squared model with a prior worth k observations; a new score is then
    Student-t with dof + k degrees of freedom, its scale widened by sqrt(1 + 1/n) (Gelman et al.,
    Bayesian Data Analysis, 3rd ed., sections 3.2 and 3.3). The pooled variance is that of the
    models that are left, so it has not seen the target either.
    """
    if not shrinkage >= 0:
        raise ValueError(f"attack.shrinkage={shrinkage}: must be 0 or more")
    require_models(without, 3, "LiRA")
    num_views = len(scores[0].values)
    shape = (len(scores), *without.member.shape)
    total, first, ratios = np.zeros(shape), None, _Ratios(shape)
    with np.errstate(all="ignore"):
        for block in _blocks(num_views, math.prod(shape)):
            if ratios.num_views + block.stop - block.start > _MOST:
                total += ratios.log()
                ratios = _Ratios(shape)
            values, floor = (
                np.stack([each[part][block] for each in scores], axis=1) for part in (0, 1)
            )
            ratios.take(values, floor, without, shrinkage)
            if first is None:
                first = ratios.log()
        total += ratios.log()
    assert first is not None
    return readable(total / num_views), readable(first)


def _blocks(num_views: int, size: int) -> Iterator[slice]:
    """View 0, then as many views of `size` scores at once as fit the cache."""
    yield slice(0, 1)
    step = min(max(1, _BLOCK // size), _MOST)
    for start in range(1, num_views, step):
        yield slice(start, min(start + step, num_views))


class _Ratios:
    """Sums over views of log t(s; in) - log t(s; out), [A,S,C], with one logarithm for many views.

    With nu degrees of freedom and w = nu * scale^2 a side's log density is
    log Gamma((nu+1)/2) - log Gamma(nu/2) - log(pi w)/2 - (nu+1)/2 log(1 + distance^2 / w),
    so products over views are kept of w_in / w_out and of 1 + distance^2 / w.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.num_views = 0
        self.width, self.far_in, self.far_out = np.ones((3, *shape))
        self.nu_in, self.nu_out = np.full((2, *shape[1:]), np.nan)

    def take(self, scores: Floats, floor: Floats, without: LeftOut, shrinkage: float) -> None:
        """Multiply in the views of scores [q,A,S,C], of variances above floor [q,A,1,C]."""
        for targets, inside, outside in comparisons(scores, without):
            nu_in, w_in = _shrunk(inside, floor, shrinkage)
            nu_out, w_out = _shrunk(outside, floor, shrinkage)
            width = w_in / w_out
            width = np.clip(width, 1 / _FARTHEST, _FARTHEST, out=width).prod(axis=0)
            w_in, w_out = np.divide(1, w_in, out=w_in), np.divide(1, w_out, out=w_out)
            for columns, own in targets:
                self.width[:, columns] *= width
                self.far_in[:, columns] *= _far(own, inside.mean, w_in)
                self.far_out[:, columns] *= _far(own, outside.mean, w_out)
                self.nu_in[columns], self.nu_out[columns] = nu_in, nu_out
        self.num_views += len(scores)

    def log(self) -> Floats:
        """The sum over the views so far [A,S,C], NaN where a side is too small."""
        found = np.log(self.far_out)
        found *= (self.nu_out + 1) / 2
        far_in = np.log(self.far_in)
        far_in *= (self.nu_in + 1) / 2
        found -= far_in
        found -= np.log(self.width) / 2
        if not np.array_equal(self.nu_in, self.nu_out):
            from scipy.special import gammaln

            for sign, nu in ((1, self.nu_in), (-1, self.nu_out)):
                found += sign * self.num_views * (gammaln((nu + 1) / 2) - gammaln(nu / 2))
        return found


def _shrunk(side: Side, floor: Floats, shrinkage: float) -> tuple[Floats, Floats]:
    """Degrees of freedom, NaN where there are none, and w = nu scale^2 [q,A,G,C] of a side."""
    dof = side.count - 1
    nu = np.where((dof >= 0) & (dof + shrinkage > 0), dof + shrinkage, np.nan)
    w = side.squares
    if shrinkage:
        pooled = np.where(dof > 0, w, 0) if (dof <= 0).any() else w
        fewer = w.shape[-1] / dof.shape[-1]  # one number stands for all canaries
        degrees = np.maximum(dof, 0).sum(axis=-1, keepdims=True) * fewer
        w = w + pooled.sum(axis=-1, keepdims=True) * (shrinkage / degrees)
    w = np.maximum(w, floor * nu)
    w *= 1 + 1 / side.count
    return nu, w


def _far(scores: Floats, mean: Floats, inverse: Floats) -> Floats:
    """The product over views of 1 + distance^2 / w, [A,T,C]."""
    distance = scores - mean
    distance *= distance
    distance *= inverse
    distance += 1
    np.minimum(distance, _FARTHEST, out=distance)
    return distance.prod(axis=0) if len(distance) > 1 else distance[0]


def require_models(without: LeftOut, fewest: int, who: str) -> None:
    """ValueError where no target can be compared with anything."""
    if without.fewest < fewest:
        raise ValueError(
            f"{who} needs {fewest} models IN and OUT per canary, there are {without.fewest}: "
            f"train more (num_models >= {2 * fewest})"
        )


def readable(statistic: Floats) -> Floats:
    """[...,S,C] as [...,C,S], rounded.

    Rounding errors depend on which model was removed, hence on membership: between scores that tie
    they would read as a leak. Logits are float32, so the digits dropped here mean nothing.
    """
    rounded = statistic.round(6).astype(np.float32).astype(np.float64)
    return np.ascontiguousarray(rounded.swapaxes(-1, -2))
