"""ROC and its summaries against scikit-learn, scipy and loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from reference import roc as naive
from scipy.stats import binomtest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score, roc_curve

from synpriv.audit.metrics import (
    auc,
    balanced_accuracy,
    clopper_pearson,
    effect_size,
    expected_fpr,
    needed,
    operating_point,
    readings,
    resolvable,
    roc,
    tpr_at_fpr,
)
from synpriv.data.draws import membership

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def sample(seed: int, levels: int, num: int = 200) -> tuple[Floats, Bools]:
    """Values on a grid of `levels`, few of them for many ties, members a little higher."""
    rng = np.random.default_rng(seed)
    member = rng.random(num) < 0.4
    member[:2] = True, False
    return np.round(rng.random(num) * levels + 0.1 * levels * member), member


@pytest.mark.parametrize("levels", [1, 3, 20, 10**9])
@pytest.mark.parametrize("seed", range(3))
def test_roc_is_scikit_learns(seed: int, levels: int) -> None:
    values, member = sample(seed, levels)
    curve = roc(values, member)
    fpr, tpr, threshold = roc_curve(member, values, drop_intermediate=False)
    np.testing.assert_allclose(curve.fpr, fpr)
    np.testing.assert_allclose(curve.tpr, tpr)
    np.testing.assert_array_equal(curve.threshold, threshold)
    assert auc(values, member) == pytest.approx(roc_auc_score(member, values))


def test_infinite_statistics_are_points_like_others() -> None:
    curve = roc([np.inf, 1, 0, -np.inf], [True, False, True, False])
    np.testing.assert_allclose(curve.tpr, [0, 0.5, 0.5, 1, 1])
    assert auc([np.inf, -np.inf], [True, False]) == 1.0


small = st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=2, max_size=40).filter(
    lambda pairs: len({is_in for _, is_in in pairs}) == 2
)

rates = st.integers(1, 1000).map(lambda thousandths: thousandths / 1000)


@given(pairs=small, fpr=rates)
def test_tpr_at_fpr_is_the_best_threshold_with_ties(
    pairs: list[tuple[int, bool]], fpr: float
) -> None:
    values, member = zip(*pairs, strict=True)
    assert tpr_at_fpr(values, member, fpr) == pytest.approx(naive.tpr_at_fpr(values, member, fpr))


@given(pairs=small, fprs=st.tuples(rates, rates))
def test_tpr_grows_with_fpr(pairs: list[tuple[int, bool]], fprs: tuple[float, float]) -> None:
    values, member = zip(*pairs, strict=True)
    strict, lenient = sorted(fprs)
    assert tpr_at_fpr(values, member, strict) <= tpr_at_fpr(values, member, lenient)
    assert tpr_at_fpr(values, member, 1.0) == 1.0


@given(pairs=small, fpr=rates)
def test_the_operating_point_describes_its_own_rule(
    pairs: list[tuple[int, bool]], fpr: float
) -> None:
    values, member = np.array([v for v, _ in pairs]), np.array([m for _, m in pairs])
    point = operating_point(values, member, fpr)
    said = values >= point.threshold
    assert (point.n_in, point.n_out) == (member.sum(), (~member).sum())
    assert point.false_positives == (said & ~member).sum()
    assert point.tpr == pytest.approx((said & member).sum() / point.n_in)
    assert point.fpr == pytest.approx(point.false_positives / point.n_out)
    assert point.fpr <= fpr


@pytest.mark.parametrize("n_out", [10, 30, 1000, 16000, 30000])
def test_exactly_the_allowed_false_positives_are_used(n_out: int) -> None:
    # OUT 1..n and IN just below each of them: k false positives catch k-1 members.
    values = np.concatenate([np.arange(n_out), np.arange(n_out) - 0.5])
    member = np.arange(2 * n_out) >= n_out
    for k in sorted({1, 3, 7, n_out // 1000, n_out // 10} - {0}):
        point = operating_point(values, member, k / n_out)
        # The member below the k-th OUT value still comes before the next one.
        assert (point.false_positives, point.tpr) == (k, k / n_out)
        below = operating_point(values, member, (k - 1e-6) / n_out)
        assert below.false_positives == k - 1


@given(pairs=small, fpr=rates)
def test_readings_are_the_loop_with_ties(pairs: list[tuple[int, bool]], fpr: float) -> None:
    values, member = np.array([v for v, _ in pairs]), np.array([m for _, m in pairs])
    rate, area = readings(values, member, [fpr])
    assert rate == pytest.approx(naive.tpr_at_fpr(values, member, fpr))
    assert area == pytest.approx(roc_auc_score(member, values))


def test_no_threshold_qualifies() -> None:
    point = operating_point([2, 1, 0], [False, True, True], 0.5)
    assert (point.tpr, point.fpr, point.false_positives) == (0.0, 0.0, 0)
    assert np.isinf(point.threshold)


@pytest.mark.parametrize("seed", range(3))
def test_balanced_accuracy_is_the_best_over_thresholds(seed: int) -> None:
    values, member = sample(seed, 20)
    rules = [values >= threshold for threshold in [*values, np.inf]]
    best = max(balanced_accuracy_score(member, rule) for rule in rules)
    assert balanced_accuracy(values, member) == pytest.approx(best)


def test_effect_size_is_the_loop() -> None:
    rng = np.random.default_rng(0)
    values, member = rng.normal(size=(12, 10)), rng.random((12, 10)) < 0.5
    member[:, :4] = True, True, False, False
    for canary, size in enumerate(effect_size(values, member)):
        inside, outside = values[canary, member[canary]], values[canary, ~member[canary]]
        squares = ((inside - inside.mean()) ** 2).sum() + ((outside - outside.mean()) ** 2).sum()
        pooled = np.sqrt(squares / (len(inside) + len(outside) - 2))
        assert size == pytest.approx((inside.mean() - outside.mean()) / pooled)


def test_effect_size_needs_two_models_on_each_side() -> None:
    values, member = np.random.default_rng(0).normal(size=(3, 6)), membership(3, 6, seed=0)
    member[1] = np.arange(6) < 1
    assert np.isnan(effect_size(values, member)).tolist() == [False, True, False]


def test_wrong_input_is_refused() -> None:
    values, member = sample(0, 20)
    with pytest.raises(ValueError, match="statistic has 199 values, member 200"):
        roc(values[1:], member)
    with pytest.raises(ValueError, match="1 of 200 statistics are NaN"):
        auc(np.append(values[1:], np.nan), member)
    with pytest.raises(ValueError, match="need members and non-members"):
        auc(values, np.ones(200, dtype=bool))
    for fpr in (0.0, -0.1, 1.1):
        with pytest.raises(ValueError, match=r"must be in \(0, 1\]"):
            tpr_at_fpr(values, member, fpr)


@pytest.mark.parametrize(("fpr", "n_out"), [(0.01, 1000), (0.001, 1000), (0.001, 300), (0.1, 99)])
def test_expected_fpr_is_what_new_non_members_meet(fpr: float, n_out: int) -> None:
    # Uniform values: beyond a threshold t lie 1 - t of the population.
    rng = np.random.default_rng(0)
    met = []
    for _ in range(400):
        values, member = rng.random(n_out + 1), np.arange(n_out + 1) == 0
        values[0] = -1.0
        k = operating_point(values, member, fpr).false_positives
        met.append(1 - np.sort(values[1:])[::-1][k])  # the first one that is not let through
    expected = expected_fpr(fpr, n_out)
    assert np.mean(met) == pytest.approx(expected, abs=4 * np.std(met) / np.sqrt(400))
    assert operating_point(values, member, fpr).expected_fpr == expected


def test_what_resolves_a_rate() -> None:
    assert [needed(fpr) for fpr in (0.1, 0.01, 0.001)] == [100, 1000, 10_000]
    assert resolvable(0.01, 1000)
    assert not resolvable(0.01, 999)


@pytest.mark.parametrize("levels", [3, 10**9])
def test_readings_are_the_rates_and_the_auc_of_what_is_finite(levels: int) -> None:
    values, member = sample(0, levels)
    gaps = np.append(values, [np.nan, -np.inf])
    expected = [*(tpr_at_fpr(values, member, fpr) for fpr in (0.01, 0.1)), auc(values, member)]
    read = readings(gaps, np.append(member, [True, False]), (0.01, 0.1))
    np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize(("successes", "trials"), [(0, 7), (3, 7), (7, 7), (1, 1000), (990, 1000)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_clopper_pearson_is_scipys(successes: int, trials: int, level: float) -> None:
    expected = binomtest(successes, trials).proportion_ci(level, method="exact")
    assert clopper_pearson(successes, trials, level=level) == pytest.approx(tuple(expected))
