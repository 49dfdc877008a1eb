"""Conversions and tuning against other libraries; how honest the audit's estimate is."""

import math
from itertools import pairwise

import numpy as np
import pytest
from dp_accounting import dp_event as events
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from dp_accounting.rdp.rdp_privacy_accountant import compute_epsilon
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from opacus.accountants.analysis.rdp import get_privacy_spent
from scipy.optimize import brentq
from scipy.stats import binomtest, geom, logser, norm

from synpriv.audit import bounds
from synpriv.audit.attacks.lira import by_view, log_ratios
from synpriv.audit.bounds import audited, refuted
from synpriv.audit.references import left_out
from synpriv.data.draws import membership
from synpriv.guarantee import (
    DISTRIBUTIONS,
    _gamma,
    delta_from_renyi,
    from_renyi,
    is_loose,
    tuned,
)
from synpriv.methods.dpsgd.accounting import ORDERS, renyi

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
WHOLE = tuple(order for order in ORDERS if float(order).is_integer())  # exact everywhere
SHAPES = {"logarithmic": 0.0, "geometric": 1.0, "poisson": math.inf}
noises = pytest.mark.parametrize("noise", [0.5, 1.0, 2.0, 10.0])
random_draws = pytest.mark.parametrize("distribution", SHAPES)


def gaussian(noise: float, orders: tuple[float, ...] = ORDERS) -> Floats:
    """Renyi curve of the Gaussian mechanism."""
    return np.array(orders) / (2 * noise**2)


def gaussian_delta(epsilon: float, noise: float) -> float:
    """Exact (Balle and Wang, ICML 2018, theorem 8)."""
    below, above = 0.5 / noise - epsilon * noise, -0.5 / noise - epsilon * noise
    return float(norm.cdf(below) - math.exp(epsilon) * norm.cdf(above))


def gaussian_epsilon(noise: float, delta: float) -> float:
    return float(brentq(lambda epsilon: gaussian_delta(epsilon, noise) - delta, 0, 100))


# --- Renyi curves --------------------------------------------------------------------------------


@noises
@pytest.mark.parametrize("delta", [1e-8, 1e-5, 1e-3])
def test_the_conversion_is_that_of_opacus_and_dp_accounting(noise: float, delta: float) -> None:
    curve = gaussian(noise)
    found = from_renyi(ORDERS, curve, delta)
    assert found == pytest.approx(get_privacy_spent(orders=ORDERS, rdp=curve, delta=delta)[0])
    assert found == pytest.approx(compute_epsilon(ORDERS, curve, delta)[0])


@noises
@pytest.mark.parametrize(("delta", "slack"), [(1e-8, 0.07), (1e-5, 0.11), (1e-3, 0.2)])
def test_the_conversion_is_just_above_the_exact_epsilon(
    noise: float, delta: float, slack: float
) -> None:
    exact = gaussian_epsilon(noise, delta)
    assert exact < from_renyi(ORDERS, gaussian(noise), delta) < (1 + slack) * exact


@noises
@pytest.mark.parametrize("delta", [1e-8, 1e-5, 1e-3])
def test_delta_is_the_inverse_of_epsilon(noise: float, delta: float) -> None:
    curve = gaussian(noise)
    epsilon = from_renyi(ORDERS, curve, delta)
    assert delta_from_renyi(ORDERS, curve, epsilon) == pytest.approx(delta, rel=1e-9)
    assert delta_from_renyi(ORDERS, curve, epsilon) >= gaussian_delta(epsilon, noise)


def test_curves_that_prove_nothing_prove_nothing() -> None:
    assert from_renyi([], [], 1e-5) == math.inf
    assert from_renyi([2, 3], [math.inf, math.nan], 1e-5) == math.inf
    assert delta_from_renyi([2], [math.inf], 1.0) == 1.0
    assert from_renyi([1, 2, 3], [0.0, 1.0, math.inf], 1e-5) == from_renyi([2], [1.0], 1e-5)
    assert from_renyi([64], [0.0], 0.5) == 0.0
    for distribution in DISTRIBUTIONS:
        assert tuned([], [], 1e-5, num_trials=5, distribution=distribution) == math.inf


def test_a_curve_whose_best_order_is_its_last_is_loose() -> None:
    assert not is_loose(ORDERS, gaussian(1.0), 1e-5)  # the best order is about 1 + sqrt(2 log 1e5)
    assert is_loose([2, 3, 4], gaussian(1.0, (2, 3, 4)), 1e-5)
    assert is_loose([16, 32, 64], gaussian(1.0, (16, 32, 64)), 1e-5)
    assert not is_loose([], [], 1e-5)


# --- tuning --------------------------------------------------------------------------------------


@random_draws
@pytest.mark.parametrize("num_trials", [2, 10, 50])
@pytest.mark.parametrize("setting", [(4.0, 1.0, 10), (1.1, 0.02, 5000), (1.0, 0.27, 150)])
def test_tuning_costs_what_dp_accounting_says(
    setting: tuple[float, float, int], num_trials: int, distribution: str
) -> None:
    noise, rate, steps = setting
    # Its fractional orders are exact for full batches only.
    orders = ORDERS if rate == 1 else WHOLE
    step = events.PoissonSampledDpEvent(rate, events.GaussianDpEvent(noise))
    training = events.SelfComposedDpEvent(step, steps)
    accountant = RdpAccountant(list(orders))  # adding or removing one sample
    accountant.compose(events.RepeatAndSelectDpEvent(training, num_trials, SHAPES[distribution]))
    curve = np.array(renyi(*setting))[np.isin(ORDERS, orders)]
    found = tuned(orders, curve, 1e-5, num_trials=num_trials, distribution=distribution)
    expected = accountant.get_epsilon(1e-5)
    # It also knows delta <= sqrt(1 - exp(-KL)), which saves a little where delta is near 1.
    slack = 0.04 if distribution == "poisson" and orders == WHOLE else 1e-3
    assert 0.999 * expected < found < (1 + slack) * expected


@pytest.mark.parametrize("num_trials", [1, 3, 20])
def test_a_grid_costs_its_whole_composition(num_trials: int) -> None:
    accountant = RdpAccountant(list(ORDERS))
    accountant.compose(events.SelfComposedDpEvent(events.GaussianDpEvent(2.0), num_trials))
    found = tuned(ORDERS, gaussian(2.0), 1e-5, num_trials=num_trials, distribution="fixed")
    assert found == pytest.approx(accountant.get_epsilon(1e-5))


@pytest.mark.parametrize("distribution", ["logarithmic", "geometric"])
def test_expecting_one_trial_costs_hardly_more_than_training_once(distribution: str) -> None:
    alone = from_renyi(ORDERS, gaussian(2.0), 1e-5)
    found = tuned(ORDERS, gaussian(2.0), 1e-5, num_trials=1, distribution=distribution)
    near = tuned(ORDERS, gaussian(2.0), 1e-5, num_trials=1.01, distribution=distribution)
    assert alone <= found == pytest.approx(alone, rel=1e-4)
    assert found < near < 1.1 * found


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_more_trials_cost_more(distribution: str) -> None:
    read = [
        tuned(ORDERS, gaussian(2.0), 1e-5, num_trials=k, distribution=distribution)
        for k in (1, 1.5, 2, 4, 10, 50, 300)
    ]
    assert all(few < many for few, many in pairwise(read)), read


@pytest.mark.parametrize("num_trials", [1.5, 2, 10, 50])
def test_gamma_gives_the_expected_number_of_trials(num_trials: float) -> None:
    # scipy's parameters: 1 - gamma of the log-series, gamma of the geometric distribution.
    logarithmic, geometric = _gamma(0.0, num_trials), _gamma(1.0, num_trials)
    assert logser(1 - logarithmic).mean() == pytest.approx(num_trials, rel=1e-6)
    assert geom(geometric).mean() == pytest.approx(num_trials, rel=1e-6)
    drawn = logser(1 - logarithmic).rvs(size=100_000, random_state=0)
    error = drawn.std() / math.sqrt(len(drawn))
    assert drawn.mean() == pytest.approx(num_trials, abs=4 * error)
    assert _gamma(0.0, 1) == _gamma(1.0, 1) == 1.0


def test_wrong_tuning_is_refused() -> None:
    with pytest.raises(ValueError, match="distribution=uniform: must be one of poisson, log"):
        tuned(ORDERS, gaussian(2.0), 1e-5, num_trials=2, distribution="uniform")
    for num_trials in (0, 0.99, -3, math.nan):
        with pytest.raises(ValueError, match="must be at least 1"):
            tuned(ORDERS, gaussian(2.0), 1e-5, num_trials=num_trials, distribution="geometric")


# --- what counts refute --------------------------------------------------------------------------


def naively_refuted(
    tp: int, fp: int, n_in: int, n_out: int, *, delta: float, error: float
) -> float:
    def upper(successes: int, trials: int) -> float:
        test = binomtest(successes, trials, alternative="less")
        return float(test.proportion_ci(1 - error, method="exact").high)

    fpr, fnr, best = upper(fp, n_out), upper(n_in - tp, n_in), 0.0
    for rate, of_other in ((1 - fnr, fpr), (1 - fpr, fnr)):
        if rate > delta:
            best = max(best, math.log((rate - delta) / of_other))
    return best


@settings(max_examples=200)
@given(
    sizes=st.tuples(st.integers(1, 500), st.integers(1, 500)),
    shares=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    delta=st.sampled_from([0.0, 1e-5, 0.01, 0.3]),
    error=st.sampled_from([0.05, 0.0125, 0.001]),
)
def test_refuted_is_the_naive_one(
    sizes: tuple[int, int], shares: tuple[float, float], delta: float, error: float
) -> None:
    tp, fp = (round(n * share) for n, share in zip(sizes, shares, strict=True))
    found = float(refuted([tp], [fp], *sizes, delta=delta, error=error)[0])
    expected = naively_refuted(tp, fp, *sizes, delta=delta, error=error)
    assert found == pytest.approx(expected, abs=1e-8)
    assert found >= 0
    assert float(refuted([tp], [fp], *sizes, delta=min(1, delta + 0.1), error=error)[0]) <= found


def test_a_thousand_perfect_guesses_refute_a_known_epsilon() -> None:
    miss = 1 - 0.05 ** (1 / 1000)  # what no error in 1,000 leaves possible, 0.3%
    (found,) = refuted([1000], [0], 1000, 1000, delta=0.0, error=0.05)
    assert found == pytest.approx(math.log((1 - miss) / miss)) == pytest.approx(5.8091, abs=1e-4)
    (less,) = refuted([1000], [0], 1000, 1000, delta=0.1, error=0.05)
    assert less == pytest.approx(math.log((1 - miss - 0.1) / miss))


# --- audits --------------------------------------------------------------------------------------


def estimate(statistic: Floats, member: Bools) -> float:
    return audited(statistic, member, delta=1e-5).value


def noisy_bits(noise: float, shape: tuple[int, int], seed: int) -> tuple[Floats, Bools]:
    """The Gaussian mechanism on a bit: the truth is `gaussian_epsilon(noise, delta)`."""
    rng = np.random.default_rng(seed)
    member = rng.random(shape) < 0.5
    return member + noise * rng.normal(size=shape), member


@pytest.mark.parametrize("attack", ["lira", "independent"])
@pytest.mark.parametrize(("num_canaries", "num_models"), [(60, 8), (100, 64)])
def test_audits_without_a_leak_rarely_read_one(
    num_canaries: int, num_models: int, attack: str
) -> None:
    trials, alarms = 200 if num_models < 64 else 40, 0
    for seed in range(trials):
        member = membership(num_canaries, num_models, seed=seed)
        scores = np.random.default_rng(seed).normal(size=(num_canaries, num_models, 1))
        statistic = scores[:, :, 0]
        if attack == "lira":
            statistic = log_ratios(by_view(scores), left_out(member))[0][0]
        alarms += estimate(statistic, member) > 0
    assert alarms / trials <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / trials)


@pytest.mark.parametrize("noise", [0.5, 2.0])
def test_the_estimate_stays_below_a_gaussian_mechanism_and_grows(noise: float) -> None:
    truth, means = gaussian_epsilon(noise, 1e-5), []
    for num_canaries in (20, 60, 200):
        read = [estimate(*noisy_bits(noise, (num_canaries, 16), seed)) for seed in range(60)]
        assert np.mean(np.array(read) > truth) <= 0.05
        means.append(np.mean(read))
    assert means[0] < means[1] < means[2]
    assert means[2] > 0.15 * truth


@pytest.mark.parametrize("truth", [1.0, 3.0])
def test_the_estimate_comes_close_to_randomised_response_from_below(truth: float) -> None:
    # Its own answer is the best attack on it, so that nothing but sampling error is in between.
    honest, read = 1 / (1 + math.exp(-truth)), []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        member = rng.random((200, 16)) < 0.5
        answer = member == (rng.random(member.shape) < honest)
        read.append(estimate(answer.astype(float), member))
    assert np.mean(np.array(read) > truth) <= 0.05
    assert np.mean(read) > 0.85 * truth


def test_perfect_separation_reads_the_largest_epsilon() -> None:
    member = membership(60, 16, seed=0)
    statistic = member + 0.01 * np.random.default_rng(0).normal(size=member.shape)
    found = audited(statistic, member, delta=1e-5)
    judged = 30 * 8  # half of the canaries, half of the models, at a quarter of the error
    expected = naively_refuted(judged, 0, judged, judged, delta=1e-5, error=0.0125)
    assert found.value == found.largest == pytest.approx(expected)
    weaker, _ = noisy_bits(1.0, (60, 16), 0)
    assert audited(weaker, member, delta=1e-5).largest == found.largest


@pytest.mark.parametrize(("mu", "delta"), [(0.3, 1e-5), (1.0, 1e-5), (2.0, 1e-3), (6.0, 1e-8)])
def test_the_epsilon_of_a_gaussian_mechanism_is_exact(mu: float, delta: float) -> None:
    assert bounds.gaussian_epsilon(mu, delta) == pytest.approx(gaussian_epsilon(1 / mu, delta))


def test_a_gaussian_mechanism_costs_what_dp_accounting_says() -> None:
    theirs = PLDAccountant().compose(events.GaussianDpEvent(1.0)).get_epsilon(1e-5)
    assert bounds.gaussian_epsilon(1.0, 1e-5) == pytest.approx(theirs, rel=0.01)


def test_no_leak_or_a_large_delta_is_no_epsilon() -> None:
    assert bounds.gaussian_epsilon(0.0, 1e-5) == bounds.gaussian_epsilon(1e-6, 1e-5) == 0.0
    for mu, delta in ((1.0, 0.0), (1.0, 1.0), (-1.0, 0.1), (math.nan, 0.1)):
        with pytest.raises(ValueError, match="need mu >= 0 and a delta"):
            bounds.gaussian_epsilon(mu, delta)


@pytest.mark.parametrize("mu", [1.0, 2.0])
def test_the_gaussian_reading_is_near_the_truth_where_it_holds_and_not_above(mu: float) -> None:
    given = [noisy_bits(1 / mu, (200, 16), seed) for seed in range(40)]
    read = np.array([bounds.gaussian(*each).value for each in given])
    assert (read > mu).mean() <= 0.05
    assert read.mean() > 0.75 * mu
    truth = gaussian_epsilon(1 / mu, 1e-5)
    assert bounds.gaussian_epsilon(read.mean(), 1e-5) > 0.7 * truth
    assert np.mean([estimate(*each) for each in given]) < 0.7 * truth  # without the assumption


def test_without_a_leak_the_gaussian_reading_is_rarely_above_nothing() -> None:
    read = [bounds.gaussian(*noisy_bits(1e6, (60, 16), seed)).value for seed in range(150)]
    assert np.mean(np.array(read) > 0) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 150)


def test_nans_are_left_out() -> None:
    statistic, member = noisy_bits(0.5, (60, 24), 0)
    holed = statistic.copy()
    holed[:, 16:] = np.nan
    whole, cut = (audited(s, member, delta=1e-5) for s in (holed, statistic))
    assert whole == audited(statistic[:, :16], member[:, :16], delta=1e-5)
    assert whole.largest < cut.largest
    nothing = audited(np.full((60, 24), np.nan), member, delta=1e-5)
    assert (nothing.value, nothing.largest) == (0.0, 0.0)


def test_order_does_not_matter() -> None:
    statistic, member = noisy_bits(0.5, (100, 16), 0)
    before = estimate(statistic, member)
    models, canaries = (np.random.default_rng(1).permutation(n) for n in (16, 100))
    assert estimate(statistic[:, models], member[:, models]) == before
    # Other canaries fall into the two halves.
    assert estimate(statistic[canaries], member[canaries]) == pytest.approx(before, rel=0.3)
    assert audited(statistic, member, delta=1e-5, seed=3).value == pytest.approx(before, rel=0.3)


def test_certain_non_members_are_found_by_the_complement() -> None:
    # A fifth of the non-members give themselves away; nothing tells who is a member for sure.
    rng = np.random.default_rng(0)
    member = membership(200, 16, seed=0)
    statistic = np.where(~member & (rng.random(member.shape) < 0.2), -1.0, 0.0)
    found = estimate(statistic, member)
    assert found > 2
    # Its mirror image: members give themselves away. Same test, sides swapped.
    assert estimate(-statistic, ~member) == pytest.approx(found, rel=0.1)
