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
) -> Floats:
    """Statistic [C,S] of scores [C,S,Q]; `removed` [C,S] is dropped beside each target."""
    num_canaries, num_models, num_views = scores.shape
    statistic = np.full((num_canaries, num_models), np.nan)
    for target in range(num_models):
        samples = {
            (canary, view, side): _others(scores, member, canary, target, view, side, removed)
            for canary in range(num_canaries)
            for view in range(num_views)
            for side in (True, False)
        }
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


def _others(
    scores: Floats,
    member: NDArray[np.bool_],
    canary: int,
    target: int,
    view: int,
    side: bool,
    removed: NDArray[np.int64] | None,
) -> list[float]:
    left_out = {target} if removed is None else {target, int(removed[canary, target])}
    return [
        float(scores[canary, model, view])
        for model in range(scores.shape[1])
        if model not in left_out and bool(member[canary, model]) is side
    ]


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
