"""Leave-one-out LiRA as the text defines it: one loop per canary, target model, view and side."""

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def leave_one_out(
    scores: Floats,
    member: NDArray[np.bool_],
    *,
    variance: str = "per_sample",
    removed: NDArray[np.int64] | None = None,
    pair: NDArray[np.int64] | None = None,
) -> Floats:
    """Gaussian statistic [C,S] of scores [C,S,Q]; `left_out` says what the others mean."""
    num_canaries, num_models, num_views = scores.shape
    statistic = np.full((num_canaries, num_models), np.nan)
    for target in range(num_models):
        samples = _samples(scores, member, target, removed, pair)
        common = {
            side: _common_variance([v for key, v in samples.items() if key[2] is side], variance)
            for side in (True, False)
        }
        for canary in range(num_canaries):
            ratios = []
            for view in range(num_views):
                value = scores[canary, target, view]
                log_in, log_out = (
                    _log_density(value, samples[canary, view, side], common[side])
                    for side in (True, False)
                )
                ratios.append(log_in - log_out)
            statistic[canary, target] = sum(ratios) / num_views
    return statistic


def student(
    scores: Floats,
    member: NDArray[np.bool_],
    *,
    shrinkage: float,
    removed: NDArray[np.int64] | None = None,
    pair: NDArray[np.int64] | None = None,
) -> Floats:
    """Log ratios [C,S,Q] of predictive Student-t densities with shrunk variances."""
    num_canaries, num_models, num_views = scores.shape
    ratios = np.full(scores.shape, np.nan)
    for target in range(num_models):
        samples = _samples(scores, member, target, removed, pair)
        for view in range(num_views):
            pooled = {}
            for side in (True, False):
                large = [samples[c, view, side] for c in range(num_canaries)]
                large = [sample for sample in large if len(sample) > 1]
                degrees = sum(len(sample) - 1 for sample in large)
                pooled[side] = sum(map(_squares, large)) / degrees if degrees else math.nan
            for canary in range(num_canaries):
                floor = (np.abs(scores[canary, :, view]).max() * 2.0**-23 + 1e-30) ** 2
                log_in, log_out = (
                    _log_student(
                        scores[canary, target, view],
                        samples[canary, view, side],
                        pooled[side],
                        shrinkage,
                        floor,
                    )
                    for side in (True, False)
                )
                ratios[canary, target, view] = log_in - log_out
    return ratios


def aligned(scores: Floats) -> Floats:
    """Scores [C,S,Q] without the shrunk shift of each model and view, as documented."""
    found = scores.copy()
    num_canaries, num_models, num_views = scores.shape
    for view in range(num_views):
        rows = [[float(value) for value in row] for row in scores[:, :, view]]
        means = [sum(row) / num_models for row in rows]
        noise = [_squares(row) / num_models for row in rows]
        typical = sum(noise) / num_canaries
        weights = [1 / (own + typical) for own in noise]
        share = [weight / sum(weights) for weight in weights]
        shifts = [
            sum(share[c] * (rows[c][model] - means[c]) for c in range(num_canaries))
            for model in range(num_models)
        ]
        by_chance = sum(share[c] ** 2 * noise[c] for c in range(num_canaries))
        seen = sum(shift**2 for shift in shifts) / num_models
        kept = max(0.0, 1 - by_chance / seen)
        for model in range(num_models):
            found[:, model, view] -= kept * shifts[model]
    return found


def _samples(
    scores: Floats,
    member: NDArray[np.bool_],
    target: int,
    removed: NDArray[np.int64] | None,
    pair: NDArray[np.int64] | None,
) -> dict[tuple[int, int, bool], list[float]]:
    """Scores of the references of a target, by canary, view and side."""
    num_canaries, num_models, num_views = scores.shape
    return {
        (canary, view, side): [
            float(scores[canary, model, view])
            for model in range(num_models)
            if bool(member[canary, model]) is side
            and model not in left_out(target, canary, num_models, removed, pair)
        ]
        for canary in range(num_canaries)
        for view in range(num_views)
        for side in (True, False)
    }


def left_out(
    target: int,
    canary: int,
    num_models: int,
    removed: NDArray[np.int64] | None,
    pair: NDArray[np.int64] | None,
) -> set[int]:
    """The target; `removed` [C,S] beside it; or by `pair` [S] its pair and all broken pairs."""
    if pair is not None:
        same = [m for m in range(num_models) if pair[m] == pair[target]]
        return {*same, *(m for m in range(num_models) if list(pair).count(pair[m]) == 1)}
    return {target} if removed is None else {target, int(removed[canary, target])}


def _common_variance(samples: list[list[float]], variance: str) -> float | None:
    if variance == "per_sample":
        return None
    if variance == "pooled_raw":
        together = [value for sample in samples for value in sample]
        return _squares(together) / (len(together) - 1)
    large = [sample for sample in samples if len(sample) > 1]
    return sum(_squares(s) for s in large) / sum(len(s) - 1 for s in large)


def _squares(sample: list[float]) -> float:
    mean = sum(sample) / len(sample)
    return sum((value - mean) ** 2 for value in sample)


def _log_density(value: float, sample: list[float], common: float | None) -> float:
    if len(sample) < (2 if common is None else 1):
        return math.nan
    variance = _squares(sample) / (len(sample) - 1) if common is None else common
    mean = sum(sample) / len(sample)
    # Neither a spread below float32 resolution nor a distance beyond 10,000 deviations is known.
    deviation = max(math.sqrt(variance), abs(mean) * 2.0**-23 + 1e-30)
    z = max(-1e4, min(1e4, (value - mean) / deviation))
    return -0.5 * math.log(2 * math.pi) - math.log(deviation) - 0.5 * z * z


def _log_student(
    value: float, sample: list[float], pooled: float, shrinkage: float, floor: float
) -> float:
    num = len(sample)
    nu = num - 1 + shrinkage
    if num < 1 or nu <= 0:
        return math.nan
    variance = (_squares(sample) + (shrinkage * pooled if shrinkage else 0)) / nu
    scale = math.sqrt(max(variance, floor) * (1 + 1 / num))
    z = (value - sum(sample) / num) / scale
    constant = math.lgamma((nu + 1) / 2) - math.lgamma(nu / 2) - math.log(nu * math.pi) / 2
    return constant - math.log(scale) - (nu + 1) / 2 * math.log1p(z * z / nu)
