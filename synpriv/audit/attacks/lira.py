"""LiRA: the likelihood-ratio attack, every shadow model the target once.

Carlini et al., "Membership Inference Attacks From First Principles" (S&P 2022), with shadow models
as targets (Aerni et al., CCS 2024), a variance that is shrunk towards the pooled one, and the
Student-t density that predicts a new score from the few at hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
from numpy.typing import ArrayLike

from synpriv.audit.evidence import LABELS, Evidence
from synpriv.audit.references import LeftOut, Side, comparisons, left_out
from synpriv.audit.scores import SCORES, Floats

VIEWS = ("all", "view0")
_BLOCK = 1 << 14  # scores per side handled at once: a dozen arrays of this size fit the cache
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
    ratios, `view0` the ratio of the unmodified image. labels: the `trained` (wrong) one or the
    `true` one of a canary; variants on the true label are left out where all labels are true.
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
        labels = ("trained",)  # they are the true ones
    without = references_of(evidence)
    found: dict[str, Floats] = {}
    for score, label in product(scores, labels):
        of_all, of_first = log_ratios(evidence.scores(score, label), without, shrinkage=shrinkage)
        statistics = {"all": of_all, "view0": of_first}
        found |= {f"{which}/{score}/{label}": statistics[which] for which in views}
    return found


def references_of(evidence: Evidence, *, equalise: bool = True) -> LeftOut:
    """What leave-one-out leaves out, by the design of the membership."""
    partners = evidence.partners if evidence.design == "paired" else None
    equalise = equalise and evidence.design == "balanced"
    return left_out(evidence.member, partners, equalise=equalise)


def log_ratios(
    scores: ArrayLike, without: LeftOut, *, shrinkage: float = 4.0
) -> tuple[Floats, Floats]:
    """Log-likelihood ratio of IN to OUT for each canary and model, from the other models only.

    scores [C,S,Q] -> float64 [C,S] twice: the mean over views of log t(s; in) - log t(s; out), and
    that of view 0. NaN where a side keeps too few models.

    With n models on a side, s^2 their variance, dof = n - 1 and the variance of this view and side
    pooled over all canaries, the variance (dof s^2 + k pooled) / (dof + k), k = `shrinkage`, is the
    one of a normal-inverse-chi-squared model with a prior worth k observations; a new score is then
    Student-t with dof + k degrees of freedom, its scale widened by sqrt(1 + 1/n) (Gelman et al.,
    Bayesian Data Analysis, 3rd ed., sections 3.2 and 3.3). The pooled variance is that of the
    models that are left, so it has not seen the target either.
    """
    if not shrinkage >= 0:
        raise ValueError(f"attack.shrinkage={shrinkage}: must be 0 or more")
    values = by_view(scores, without)
    require_models(without, 3, "LiRA")
    total, first, ratios = np.zeros(without.member.shape), None, _Ratios(without.member.shape)
    with np.errstate(all="ignore"):
        for block in _blocks(values.shape):
            if ratios.num_views + block.stop - block.start > _MOST:
                total += ratios.log()
                ratios = _Ratios(without.member.shape)
            ratios.take(values[block], without, shrinkage)
            if first is None:
                first = ratios.log()
        total += ratios.log()
    assert first is not None
    return readable(total / len(values)), readable(first)


def _blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """View 0, then as many views at once as fit the cache."""
    yield slice(0, 1)
    step = min(max(1, _BLOCK // (shape[1] * shape[2])), _MOST)
    for start in range(1, shape[0], step):
        yield slice(start, min(start + step, shape[0]))


class _Ratios:
    """Sums over views of log t(s; in) - log t(s; out), [S,C], with one logarithm for many views.

    With nu degrees of freedom and w = nu * scale^2 a side's log density is
    log Gamma((nu+1)/2) - log Gamma(nu/2) - log(pi w)/2 - (nu+1)/2 log(1 + distance^2 / w),
    so products over views are kept of w_in / w_out and of 1 + distance^2 / w.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.num_views = 0
        self.width, self.far_in, self.far_out = (np.ones(shape) for _ in range(3))
        self.nu_in, self.nu_out = (np.full(shape, np.nan) for _ in range(2))

    def take(self, scores: Floats, without: LeftOut, shrinkage: float) -> None:
        """Multiply in the views of scores [q,S,C]."""
        resolution = np.abs(scores).max(axis=1, keepdims=True) * np.finfo(np.float32).eps + _TINY
        floor = np.square(resolution)  # a spread below that of float32 logits is not known
        for comparison in comparisons(scores, without):
            inside, outside = comparison.inside, comparison.outside
            (nu_in, w_in), (nu_out, w_out) = (
                _shrunk(side, floor, shrinkage) for side in (inside, outside)
            )
            width = np.clip(w_in / w_out, 1 / _FARTHEST, _FARTHEST).prod(axis=0)
            w_in, w_out = 1 / w_in, 1 / w_out
            for target in comparison.targets:
                own = scores[:, target]
                self.width[target] *= width
                self.far_in[target] *= _far(own, inside.mean, w_in)
                self.far_out[target] *= _far(own, outside.mean, w_out)
                if not self.num_views:
                    self.nu_in[target], self.nu_out[target] = nu_in, nu_out
        self.num_views += len(scores)

    def log(self) -> Floats:
        """The sum over the views so far, NaN where a side is too small."""
        found = np.log(self.far_out) * ((self.nu_out + 1) / 2)
        found -= np.log(self.far_in) * ((self.nu_in + 1) / 2)
        found -= np.log(self.width) / 2
        if not np.array_equal(self.nu_in, self.nu_out):
            from scipy.special import gammaln

            for sign, nu in ((1, self.nu_in), (-1, self.nu_out)):
                found += sign * self.num_views * (gammaln((nu + 1) / 2) - gammaln(nu / 2))
        return found


def _shrunk(side: Side, floor: Floats, shrinkage: float) -> tuple[Floats, Floats]:
    """Degrees of freedom, NaN where there are none, and w = nu scale^2 [q,G,C] of a side."""
    dof = side.count - 1
    nu = np.where((dof >= 0) & (dof + shrinkage > 0), dof + shrinkage, np.nan)
    w = side.squares
    if shrinkage:
        usable = np.broadcast_to(dof > 0, w.shape[1:])
        squares = w if usable.all() else np.where(usable, w, 0)
        degrees = np.broadcast_to(np.maximum(dof, 0), w.shape[1:]).sum(axis=1, keepdims=True)
        w = w + squares.sum(axis=2, keepdims=True) * (shrinkage / degrees)
    w = np.maximum(w, floor * nu)
    w *= 1 + 1 / side.count
    return nu, w


def _far(scores: Floats, mean: Floats, inverse: Floats) -> Floats:
    """The product over views of 1 + distance^2 / w [G,C]."""
    distance = scores - mean
    distance *= distance
    distance *= inverse
    distance += 1
    np.minimum(distance, _FARTHEST, out=distance)
    return distance.prod(axis=0)


def by_view(scores: ArrayLike, without: LeftOut) -> Floats:
    """Scores [C,S,Q] as contiguous float64 [Q,S,C]; ValueError where they cannot be compared."""
    values = np.asarray(scores, dtype=np.float64)
    shape = without.member.shape
    if values.ndim != 3 or values.shape[1::-1] != shape:
        raise ValueError(f"scores {values.shape} and member {shape[::-1]}: need [C,S,Q] and [C,S]")
    values = np.ascontiguousarray(values.transpose(2, 1, 0))  # no copy of scores of `Evidence`
    if not np.isfinite(values.sum()):
        raise ValueError(f"{(~np.isfinite(values)).sum()} scores are not finite")
    return values


def require_models(without: LeftOut, fewest: int, who: str) -> None:
    """ValueError where no target can be compared with anything."""
    if without.fewest < fewest:
        raise ValueError(
            f"{who} needs {fewest} models IN and OUT per canary, there are {without.fewest}: "
            f"train more (num_models >= {2 * fewest})"
        )


def readable(statistic: Floats) -> Floats:
    """[S,C] as [C,S], rounded.

    Rounding errors depend on which model was removed, hence on membership: between scores that tie
    they would read as a leak. Logits are float32, so the digits dropped here mean nothing.
    """
    return np.ascontiguousarray(statistic.T.round(6).astype(np.float32).astype(np.float64))
