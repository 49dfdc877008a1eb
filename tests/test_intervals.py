"""Resampling against a loop over repeated values, two-way variance against simulation."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from synpriv.audit import crossfit, intervals, reselection
from synpriv.audit.metrics import auc, clopper_pearson, tpr_at_fpr

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
FPRS = (0.05, 0.2)


def paired(num_canaries: int, num_models: int, rng: np.random.Generator) -> Bools:
    first = rng.random((num_canaries, num_models // 2)) < 0.5
    return np.stack([first, ~first], axis=2).reshape(num_canaries, num_models)


def world(
    num_canaries: int, num_models: int, seed: int, *, effect: float = 0.0
) -> tuple[Floats, Bools]:
    """How much a canary leaks is drawn per canary; a model shifts all its scores by `effect`."""
    rng = np.random.default_rng(seed)
    member = paired(num_canaries, num_models, rng)
    own = rng.exponential(1.5, size=(num_canaries, 1))
    shift = effect * rng.normal(size=num_models)
    return rng.normal(size=member.shape) + own * member + shift, member


def rate_by_loop(inside: Floats, outside: Floats, fpr: float) -> float:
    """Share of members above the k+1st largest non-member, between whole k linearly."""
    k = max(fpr * (len(outside) + 1) - 1, 0)
    highest = np.sort(outside)[::-1]
    rates = []
    for whole in (int(np.floor(k + 1e-9)), int(np.floor(k + 1e-9)) + 1):
        bound = highest[whole] if whole < len(highest) else -np.inf
        rates.append(float((inside > bound).mean()))
    part = max(k - np.floor(k + 1e-9), 0)
    return (1 - part) * rates[0] + part * rates[1]


@pytest.mark.parametrize("digits", [0, 9])  # with ties and without
def test_a_round_is_the_roc_of_repeated_values(digits: int) -> None:
    values, member = world(20, 8, 0)
    values = values.round(digits)
    values[3, 2] = np.nan
    pair = np.arange(8) // 2
    drawn = intervals.draws(20, pair, rounds=30)
    assert (drawn.canary.sum(axis=1) == 20).all()
    assert (drawn.cluster.sum(axis=1) == 4).all()
    found = intervals.resampled(values, member, FPRS, drawn)
    for canary, cluster, read in zip(drawn.canary, drawn.cluster, found, strict=True):
        times = np.where(np.isnan(values), 0, canary[:, None] * cluster[pair]).ravel()
        repeated, truth = np.repeat(values.ravel(), times), np.repeat(member.ravel(), times)
        assert read[-1] == pytest.approx(roc_auc_score(truth, repeated))
        for fpr, rate in zip(FPRS, read, strict=False):
            assert rate == pytest.approx(rate_by_loop(repeated[truth], repeated[~truth], fpr))


def test_the_rate_between_two_counts_has_no_bias() -> None:
    # Without a leak the TPR at a population FPR is that FPR; the reported point reads more.
    rng = np.random.default_rng(0)
    cluster, read, reported = np.arange(4) // 2, [], []
    everyone = intervals.draws_of_all(100, cluster)
    for _ in range(500):
        member = paired(100, 4, rng)
        values = rng.normal(size=member.shape)
        read.append(intervals.resampled(values, member, [0.02], everyone)[0, 0])
        reported.append(tpr_at_fpr(values, member, 0.02))
    error = np.std(read) / np.sqrt(len(read))
    assert np.mean(read) == pytest.approx(0.02, abs=3 * error)
    assert np.mean(reported) > 0.02 + 5 * error


def ends(values: Floats, member: Bools, *, rounds: int = 150, seed: int = 0) -> Floats:
    pair = np.arange(member.shape[1]) // 2
    drawn = intervals.draws(len(member), pair, rounds=rounds, seed=seed)
    sampled = intervals.resampled(values, member, FPRS, drawn)
    return intervals.intervals(values, member, pair, FPRS, sampled)


def test_intervals_contain_what_is_reported_and_the_binomial() -> None:
    for leak in (0.0, 2.0, 50.0):
        values, member = world(40, 8, 0)
        values += leak * member
        found = ends(values, member)
        assert found.shape == (3, 2)
        for (low, high), fpr in zip(found, FPRS, strict=False):
            rate = tpr_at_fpr(values, member, fpr)
            floor, ceiling = clopper_pearson(round(rate * 160), 160)
            assert 0 <= low <= floor <= rate <= ceiling <= high <= 1
        assert found[2, 0] <= auc(values, member) <= found[2, 1]


def test_a_certain_leak_still_has_intervals() -> None:
    member = paired(20, 8, np.random.default_rng(0))
    found = ends(member.astype(float), member)
    assert found[0] == pytest.approx(clopper_pearson(80, 80))
    assert found[2] == pytest.approx(clopper_pearson(80, 80))


def test_intervals_follow_their_seed() -> None:
    values, member = world(20, 8, 0)
    first, again, other = (ends(values, member, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("effect", [0.0, 0.7])
def test_intervals_cover_at_a_sensible_width(effect: float) -> None:
    # Models that differ are few: 8 pairs. The truth is that of very many canaries and models.
    many = [world(40, 16, 10_000 + seed, effect=effect) for seed in range(150)]
    values, member = (np.concatenate(x) for x in zip(*many, strict=True))
    truth = [*(tpr_at_fpr(values, member, fpr) for fpr in FPRS), auc(values, member)]
    audits = [world(40, 16, seed, effect=effect) for seed in range(100)]
    found = np.array([ends(*each, rounds=80) for each in audits])
    inside = (found[:, :, 0] <= truth) & (truth <= found[:, :, 1])
    assert (inside.mean(axis=0) >= 0.9).all()  # 0.95 would read below 0.9 once in 100
    areas = [auc(*each) for each in audits]
    width = (found[:, 2, 1] - found[:, 2, 0]).mean()
    assert width <= 1.6 * 2 * 1.96 * np.std(areas)


# --- the choice in every round --------------------------------------------------------------------


def test_rounds_choose_as_cross_fitting_with_their_weights_does() -> None:
    values, member = world(60, 8, 0)
    rng = np.random.default_rng(1)
    variants = np.stack([values + s * rng.normal(size=values.shape) for s in (1.5, 1.0, 0.1, 3.0)])
    variants[:, 5, 1] = np.nan
    pair = np.arange(8) // 2
    drawn = intervals.draws(60, pair, rounds=40)
    found = reselection.choices(variants, member, drawn)
    ranked, fold = crossfit.Ranked(variants), crossfit.fold_of(60)
    same = [
        ranked.choose(member, weight=canary[:, None] * cluster[pair]) == chosen[fold]
        for canary, cluster, chosen in zip(drawn.canary, drawn.cluster, found, strict=True)
    ]
    assert len(np.unique(found)) > 1  # there was something to choose
    assert np.mean(same) > 0.8  # the grid of thresholds decides near ties its own way


def test_an_unstable_choice_widens_the_interval() -> None:
    values, member = world(60, 8, 0)
    rng = np.random.default_rng(1)
    variants = np.stack([values + 0.5 * rng.normal(size=values.shape) for _ in range(4)])
    drawn = intervals.draws(60, np.arange(8) // 2, rounds=200)
    chosen = reselection.reselected(variants, member, FPRS, drawn)
    alone = [intervals.resampled(each, member, FPRS, drawn) for each in variants]
    one = reselection.reselected(variants[:1], member, FPRS, drawn)
    np.testing.assert_array_equal(one, alone[0])
    lowest, highest = np.min(alone, axis=0), np.max(alone, axis=0)
    between = (chosen[:, 2] >= lowest[:, 2] - 0.05) & (chosen[:, 2] <= highest[:, 2] + 0.05)
    assert between.all()
