"""LiRA: the likelihood-ratio attack, every shadow model the target once.

Carlini et al., "Membership Inference Attacks From First Principles" (S&P 2022), with shadow models
as targets (Aerni et al., CCS 2024), a variance that is shrunk towards the pooled one, and the
Student-t density that predicts a new score from the few at hand.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from synpriv.audit.attacks import whole_pairs
from synpriv.audit.attacks.whole_pairs import FARTHEST, MOST
from synpriv.audit.evidence import LABELS, Evidence
from synpriv.audit.references import LeftOut, Side, comparisons, left_out
from synpriv.audit.scores import SCORES, Floats, aligned

VIEWS = ("all", "view0")
_BLOCK = 1 << 17  # scores handled at once
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

    Names are `<views>/<score>/<label>`, or `<views>/given` where scores are all there is. views:
    `all` is the mean over the views of their log ratios, `view0` the ratio of the unmodified image.
    labels: the `trained_label` (wrong) or the `true_label` of a canary; variants on the latter are
    left out where all labels are true. shrinkage: as in `log_ratios`.
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
    if evidence.num_views == 1:
        views = views[:1]  # one view is all of them
    kinds = evidence.kinds(scores, labels)
    values = evidence.kept(f"aligned {kinds}", lambda: _aligned(evidence, kinds))
    found = log_ratios(values, references_of(evidence), shrinkage=shrinkage)
    statistics = dict(zip(("all", "view0"), found, strict=True))
    return {
        "/".join((which, *kind)): statistics[which][i]
        for i, kind in enumerate(kinds)
        for which in views
    }


def references_of(evidence: Evidence, *, equalise: bool = True) -> LeftOut:
    """What leave-one-out leaves out, by the design of the membership."""
    partners = evidence.partners if evidence.design == "paired" else None
    equalise = equalise and evidence.design == "balanced"
    return left_out(evidence.member, partners, equalise=equalise, groups=evidence.groups)


def _aligned(evidence: Evidence, kinds: Sequence[tuple[str, ...]]) -> ByView:
    """Kinds of scores without the shift that all canaries of a model share."""
    return by_view(*(aligned(_finite(evidence.scores(*kind))) for kind in kinds))


class ByView(NamedTuple):
    """A kinds of scores as leave-one-out goes through them, and the least variance they show."""

    values: Floats  # [Q,A,S,C]
    floor: Floats  # [Q,A,1,C] square of the resolution of float32 logits


def by_view(*scores: ArrayLike) -> ByView:
    """Scores [C,S,Q] of one or more kinds as `ByView`; ValueError where some are not finite."""
    kinds = [np.asarray(each, dtype=np.float64) for each in scores]
    for each in kinds:
        if each.ndim != 3:
            raise ValueError(f"scores {each.shape}: need [C,S,Q]")
    values = np.stack([_finite(each).transpose(2, 1, 0) for each in kinds], axis=1)
    resolution = np.abs(values).max(axis=2, keepdims=True) * np.finfo(np.float32).eps
    return ByView(values, np.square(resolution + _TINY))


def _finite(scores: Floats) -> Floats:
    """The scores; ValueError that counts those which are not finite, before they spread."""
    if not np.isfinite(scores).all():
        raise ValueError(f"{(~np.isfinite(scores)).sum()} scores are not finite")
    return scores


def log_ratios(
    scores: ByView, without: LeftOut, *, shrinkage: float = 4.0
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
    if not 0 <= shrinkage < math.inf:
        raise ValueError(f"attack.shrinkage={shrinkage}: must be 0 or more, and finite")
    require_models(without, 3, "LiRA")
    num_views, num_kinds = scores.values.shape[:2]
    found = np.empty((2, num_kinds, *without.member.shape))
    with np.errstate(all="ignore"):
        if sooner := whole_pairs.sums(scores.values, scores.floor, without, shrinkage):
            return readable(sooner[0] / num_views), readable(sooner[1])
        step = max(1, _BLOCK // without.member.size)
        for start in range(0, num_kinds, step):
            some = slice(start, start + step)
            each = ByView(scores.values[:, some], scores.floor[:, some])
            found[:, some] = _sums(each, without, shrinkage)
    return readable(found[0] / num_views), readable(found[1])


def _sums(scores: ByView, without: LeftOut, shrinkage: float) -> tuple[Floats, Floats]:
    """Log ratios summed over all views, and those of view 0: [A,S,C] each."""
    num_views, *shape = scores.values.shape
    total, first, ratios = np.zeros(shape), None, _Ratios(shape)
    for block in _blocks(num_views, math.prod(shape)):
        if ratios.num_views + block.stop - block.start > MOST:
            total += ratios.log()
            ratios = _Ratios(shape)
        ratios.take(scores.values[block], scores.floor[block], without, shrinkage)
        if first is None:
            first = ratios.log()
    assert first is not None
    return total + ratios.log(), first


def _blocks(num_views: int, size: int) -> Iterator[slice]:
    """View 0, then as many views of `size` scores at once as fit the cache."""
    yield slice(0, 1)
    step = min(max(1, _BLOCK // size), MOST)
    for start in range(1, num_views, step):
        yield slice(start, min(start + step, num_views))


class _Ratios:
    """Sums over views of log t(s; in) - log t(s; out), [A,S,C], with one logarithm for many views.

    With nu degrees of freedom, w = nu * scale^2 and the distance d from a side's mean, its log
    density is log Gamma((nu+1)/2) - log Gamma(nu/2) - log(pi w)/2 - (nu+1)/2 log((w + d^2) / w).
    So with the products over views of width = w_in / w_out, ratio = (w_out + d_out^2) /
    (w_in + d_in^2) and far = (w_out + d_out^2) / w_out, what stands before the logarithms is
    nu_in/2, (nu_in+1)/2 and (nu_out-nu_in)/2: `far` is needed only where the sides differ in size.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        self.num_views = 0
        self.width, self.ratio, self.far = np.ones((3, *shape))
        self.nu_in, self.nu_out = np.full((2, *shape[1:]), np.nan)

    def take(self, scores: Floats, floor: Floats, without: LeftOut, shrinkage: float) -> None:
        """Multiply in the views of scores [q,A,S,C], of variances above floor [q,A,1,C]."""
        for targets, inside, outside in comparisons(scores, without):
            nu_in, w_in = _shrunk(inside, floor, shrinkage)
            nu_out, w_out = _shrunk(outside, floor, shrinkage)
            width = _product(w_in / w_out)
            for columns, own in targets:
                within, beyond = _far(own, inside.mean, w_in), _far(own, outside.mean, w_out)
                if not np.array_equal(nu_in, nu_out):
                    self.far[:, columns] *= _product(beyond / w_out)
                self.ratio[:, columns] *= _product(np.divide(beyond, within, out=beyond))
                self.width[:, columns] *= width
                self.nu_in[columns], self.nu_out[columns] = nu_in, nu_out
        self.num_views += len(scores)

    def log(self) -> Floats:
        """The sum over the views so far [A,S,C], NaN where a side is too small."""
        found = np.log(self.ratio)
        found *= (self.nu_in + 1) / 2
        width = np.log(self.width)
        width *= self.nu_in / 2
        found += width
        if not np.array_equal(self.nu_in, self.nu_out):
            from scipy.special import gammaln

            found += (self.nu_out - self.nu_in) / 2 * np.log(self.far)
            for sign, nu in ((1, self.nu_in), (-1, self.nu_out)):
                found += sign * self.num_views * (gammaln((nu + 1) / 2) - gammaln(nu / 2))
        return found


def _shrunk(side: Side, floor: Floats, shrinkage: float) -> tuple[Floats, Floats]:
    """Degrees of freedom, NaN where there are none, and w = nu scale^2 [q,A,G,C] of a side."""
    dof = side.count - 1
    nu = np.where((dof >= 0) & (dof + shrinkage > 0), dof + shrinkage, np.nan)
    w = side.squares  # nobody else needs them
    if shrinkage:
        pooled = np.where(dof > 0, w, 0) if (dof <= 0).any() else w
        fewer = w.shape[-1] / dof.shape[-1]  # one number stands for all canaries
        degrees = np.maximum(dof, 0).sum(axis=-1, keepdims=True) * fewer
        w += pooled.sum(axis=-1, keepdims=True) * (shrinkage / degrees)
    np.maximum(w, floor * nu, out=w)
    w *= 1 + 1 / side.count
    return nu, w


def _far(scores: Floats, mean: Floats, w: Floats) -> Floats:
    """The squared distance and w, [q,A,T,C]."""
    distance = scores - mean
    distance *= distance
    distance += w
    return distance


def _product(factors: Floats) -> Floats:
    """The product over views of factors [q,A,T,C], which are cut in place."""
    np.clip(factors, 1 / FARTHEST, FARTHEST, out=factors)
    return factors.prod(axis=0) if len(factors) > 1 else factors[0]


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
