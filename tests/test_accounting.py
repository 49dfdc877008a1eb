"""Epsilon of DP-SGD against dp_accounting, quadrature, closed forms and published figures."""

import functools
import json
import math

import numpy as np
import pytest
from dp_accounting import NeighboringRelation
from dp_accounting import dp_event as events
from dp_accounting.pld import PLDAccountant
from dp_accounting.pld.privacy_loss_distribution import from_gaussian_mechanism
from dp_accounting.rdp import RdpAccountant
from opacus.accountants import RDPAccountant as OpacusAccountant
from opacus.accountants.analysis.rdp import compute_rdp
from scipy.special import logsumexp

from synpriv.guarantee import from_renyi, is_loose
from synpriv.methods.dpsgd.accounting import (
    LARGEST_FOR_PRV,
    ORDERS,
    SMALLEST_FOR_PRV,
    epsilon,
    guarantee,
    noise_for,
    renyi,
)
from synpriv.methods.dpsgd.recipe import ACCOUNTANTS

Setting = tuple[float, float, int, float]  # noise, sample rate, steps, delta
SETTINGS: list[Setting] = [
    (1.0, 256 / 950, 150, 1e-3),
    (2.0, 256 / 950, 150, 1e-4),
    (1.1, 512 / 25000, 5000, 1e-5),
    (0.8, 0.01, 1000, 1e-5),
    (4.0, 0.1, 500, 1e-6),
    (1.5, 0.5, 20, 1e-5),
]
in_settings = pytest.mark.parametrize("setting", SETTINGS, ids=str)
by_both = pytest.mark.parametrize("accountant", ACCOUNTANTS)

# Utility presets of Aerni et al. (CCS 2024) at delta 1e-5, and what they print.
PUBLISHED = [
    (0.2, 1 / 25, 5000, 3.56e3),
    (0.00625, 1 / 778, 12448, 1.74e8),
    (0.003125, 1 / 778, 19450, 1.09e9),
]
published = pytest.mark.parametrize(("noise", "rate", "steps", "printed"), PUBLISHED)


@functools.cache  # seconds per setting, and several tests ask for the same
def spent(setting: Setting, accountant: str) -> tuple[float, str]:
    noise, rate, steps, delta = setting
    return epsilon(
        noise_multiplier=noise, sample_rate=rate, steps=steps, delta=delta, accountant=accountant
    )


def event(setting: Setting) -> events.DpEvent:
    noise, rate, steps, _ = setting
    step = events.PoissonSampledDpEvent(rate, events.GaussianDpEvent(noise))
    return events.SelfComposedDpEvent(step, steps)


def pld(setting: Setting, relation: NeighboringRelation) -> float:
    accountant = PLDAccountant(relation)
    accountant.compose(event(setting))
    return float(accountant.get_epsilon(setting[3]))


def divergence(noise: float, rate: float, order: float) -> float:
    """Renyi divergence of the sampled Gaussian from the plain one, by summing over a grid."""
    z, step = np.linspace(-60 * noise - 5, 60 * noise + order + 5, 200_001, retstep=True)
    plain, shifted = -np.square([z, z - 1]) / (2 * noise**2)
    ratio = np.logaddexp(np.log1p(-rate), math.log(rate) + shifted - plain)
    integral = logsumexp(plain + order * ratio) + math.log(step / (noise * math.sqrt(2 * math.pi)))
    return float(integral / (order - 1))


# --- other accountants ---------------------------------------------------------------------------


@in_settings
def test_prv_is_the_privacy_loss_distribution_of_the_worse_direction(setting: Setting) -> None:
    # A library that only looked at adding one sample would be below.
    noise, rate, steps, delta = setting
    directions = from_gaussian_mechanism(noise, sampling_prob=rate, use_connect_dots=True)
    removed = directions._pmf_remove.self_compose(steps).get_epsilon_for_delta(delta)
    added = directions._pmf_add.self_compose(steps).get_epsilon_for_delta(delta)
    found, used = spent(setting, "prv")
    assert used == "prv"
    assert added < removed
    assert found == pytest.approx(removed, rel=0.02)
    assert found >= 0.99 * removed


def test_the_worse_direction_is_what_dp_accounting_gives_for_adding_or_removing() -> None:
    setting = SETTINGS[-1]
    expected = pld(setting, NeighboringRelation.ADD_OR_REMOVE_ONE)
    assert spent(setting, "prv")[0] == pytest.approx(expected, rel=0.02)


def test_the_relation_is_not_replacing_one_sample() -> None:
    setting = SETTINGS[2]
    assert pld(setting, NeighboringRelation.REPLACE_ONE) > 1.5 * spent(setting, "prv")[0]


@in_settings
def test_rdp_is_dp_accountings_on_the_same_orders(setting: Setting) -> None:
    # It knows integer orders exactly. At fractional ones it adds up the absolute values of an
    # alternating series (or gives up), so it is somewhat above; quadrature below judges those.
    accountant = RdpAccountant(list(ORDERS))
    accountant.compose(event(setting))
    theirs, ours = accountant._rdp, np.array(renyi(*setting[:3]))
    whole = np.array([float(order).is_integer() for order in ORDERS])
    np.testing.assert_allclose(ours[whole], theirs[whole], rtol=1e-6)
    assert (ours <= theirs * (1 + 1e-6)).all()
    slack = 0.05 if setting == SETTINGS[0] else 0.02
    found, _ = spent(setting, "rdp")
    assert found == pytest.approx(accountant.get_epsilon(setting[3]), rel=slack)


@pytest.mark.parametrize(
    ("noise", "rate"),
    [*(setting[:2] for setting in SETTINGS), *(preset[:2] for preset in PUBLISHED), (0.02, 0.27)],
)
def test_renyi_divergences_are_those_of_quadrature(noise: float, rate: float) -> None:
    for order, found in list(zip(ORDERS, renyi(noise, rate, 1), strict=True))[::12]:
        rounding = 1e-12 / (order - 1)  # an epsilon holds log(1/delta) / (order - 1)
        assert found == pytest.approx(divergence(noise, rate, order), rel=1e-3, abs=rounding), order


@in_settings
def test_prv_is_not_above_rdp(setting: Setting) -> None:
    (tight, _), (loose, used) = spent(setting, "prv"), spent(setting, "rdp")
    assert used == "rdp"
    assert 0.8 * loose < tight < loose


@pytest.mark.parametrize("accountant", ACCOUNTANTS)
def test_full_batches_are_the_gaussian_mechanism_composed(accountant: str) -> None:
    noise, steps, delta = 3.0, 40, 1e-5
    curve = renyi(noise, 1.0, steps)
    np.testing.assert_allclose(curve, np.array(ORDERS) / (2 * noise**2) * steps)
    found, used = spent((noise, 1.0, steps, delta), accountant)
    exact = from_gaussian_mechanism(noise / math.sqrt(steps)).get_epsilon_for_delta(delta)
    assert used == "rdp"
    assert exact <= found <= 1.1 * exact


# --- utility presets -----------------------------------------------------------------------------


@published
def test_opacus_orders_give_the_published_epsilon(
    noise: float, rate: float, steps: int, printed: float
) -> None:
    orders = OpacusAccountant.DEFAULT_ALPHAS
    curve = compute_rdp(q=rate, noise_multiplier=noise, steps=steps, orders=list(orders))
    theirs = from_renyi(orders, curve, 1e-5)
    assert theirs == pytest.approx(printed, rel=0.01)
    assert spent((noise, rate, steps, 1e-5), "rdp")[0] < theirs


@published
def test_presets_are_never_composed_numerically(
    noise: float, rate: float, steps: int, printed: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Composing 10,000 took 22 GB; were it tried, this would raise instead.
    monkeypatch.setattr("synpriv.methods.dpsgd.accounting.PRVAccountant", None)
    renyi.cache_clear()
    epsilon.cache_clear()
    found, used = spent((noise, rate, steps, 1e-5), "prv")
    assert used == "rdp"
    assert LARGEST_FOR_PRV < found < printed


def simulated(noise: float, rate: float, steps: int, delta: float) -> float:
    """Epsilon by Monte Carlo where noise is so small that a step shows whether a sample was in it.

    Then the privacy loss is that of the Gaussian in the steps that drew the sample, and
    log(1 - rate) in the others; delta is E[max(0, 1 - exp(epsilon - loss))], solved for epsilon.
    """
    rng = np.random.default_rng(0)
    drawn = rng.binomial(steps, rate, size=400_000)
    loss = drawn * (1 / (2 * noise**2) + math.log(rate)) + (steps - drawn) * math.log1p(-rate)
    loss += np.sqrt(drawn) / noise * rng.normal(size=len(drawn))
    low, high = 0.0, loss.max()
    while high - low > 1:
        epsilon = (low + high) / 2
        missed = np.maximum(0, -np.expm1(np.minimum(0, epsilon - loss))).mean()
        low, high = (epsilon, high) if missed > delta else (low, epsilon)
    return high


@pytest.mark.parametrize("setting", [(0.003, 0.0341, 725, 1e-4), (0.00625, 1 / 778, 12448, 1e-4)])
def test_vacuous_epsilons_are_near_those_of_a_simulation(setting: Setting) -> None:
    found, _ = spent(setting, "rdp")
    truth = simulated(*setting)
    assert 0.98 * truth < found < 1.2 * truth
    assert not is_loose(ORDERS, renyi(*setting[:3]), setting[3])
    ended = np.array(ORDERS) >= 1 + 0.99e-4  # as orders did once
    before = np.array(ORDERS)[ended], np.array(renyi(*setting[:3]))[ended]
    assert is_loose(*before, setting[3])
    assert from_renyi(*before, setting[3]) > found


def test_orders_for_vacuous_epsilons_change_no_noise() -> None:
    # They would otherwise change what is trained under an old cell's name.
    assert min(np.diff(ORDERS)) > 0
    for setting in SETTINGS:
        curve = np.array(renyi(*setting[:3]))
        few = np.array(ORDERS) >= 1 + 0.99e-4
        assert from_renyi(np.array(ORDERS)[few], curve[few], setting[3]) == spent(setting, "rdp")[0]


# --- monotone ------------------------------------------------------------------------------------


@by_both
@pytest.mark.parametrize(
    ("place", "values", "grows"),
    [
        (0, (0.7, 1.0, 2.0, 5.0), False),
        (1, (0.01, 0.05, 0.3, 0.9), True),
        (2, (1, 20, 100, 300), True),
        (3, (1e-8, 1e-5, 1e-3), False),
    ],
    ids=["noise", "sample_rate", "steps", "delta"],
)
def test_epsilon_is_monotone(
    place: int, values: tuple[float, ...], grows: bool, accountant: str
) -> None:
    read = []
    for value in values:
        setting = [1.0, 0.05, 100, 1e-5]
        setting[place] = value
        read.append(spent((setting[0], setting[1], int(setting[2]), setting[3]), accountant)[0])
    steps = np.diff(read)
    assert (steps > 0).all() if grows else (steps < 0).all(), read


# --- noise for a target --------------------------------------------------------------------------


@by_both
@pytest.mark.parametrize(("rate", "steps"), [(0.1, 50), (1.0, 20)])
def test_noise_for_reaches_the_target_from_below(rate: float, steps: int, accountant: str) -> None:
    noises = []
    for target in (1.0, 4.0):
        noise = noise_for(
            target_epsilon=target,
            sample_rate=rate,
            steps=steps,
            delta=1e-4,
            accountant=accountant,
        )
        reached, _ = spent((noise, rate, steps, 1e-4), accountant)
        assert 0.998 * target <= reached <= target
        noises.append(noise)
    assert noises == sorted(noises, reverse=True)
    assert len(set(noises)) == 2


def test_prv_needs_less_noise_than_rdp() -> None:
    by_prv, by_rdp = (
        noise_for(target_epsilon=4.0, sample_rate=0.1, steps=50, delta=1e-4, accountant=accountant)
        for accountant in ("prv", "rdp")
    )
    assert 0.5 * by_rdp < by_prv < by_rdp


@by_both
@pytest.mark.parametrize(
    ("target", "what"),
    [(1e12, "too large; give noise_multiplier"), (1e-5, "too small for any noise")],
)
def test_targets_out_of_reach_are_refused_in_one_line(
    target: float, what: str, accountant: str
) -> None:
    with pytest.raises(ValueError, match=what) as caught:
        noise_for(
            target_epsilon=target,
            sample_rate=0.1,
            steps=1000,
            delta=1e-5,
            accountant=accountant,
        )
    assert "\n" not in str(caught.value)
    assert f"target_epsilon={target}" in str(caught.value)


# --- metrics.json --------------------------------------------------------------------------------


@pytest.mark.parametrize("delta", [1e-14, 1e-30, 5e-324])
def test_a_delta_too_small_for_prv_is_accounted_by_renyi_and_says_so(delta: float) -> None:
    # Opacus's prv raises for these: "Floating point errors will dominate".
    found, used = spent((4.0, 0.064, 400, delta), "prv")
    accountant = RdpAccountant(list(ORDERS))
    accountant.compose(event((4.0, 0.064, 400, delta)))
    assert used == "rdp"
    assert found == pytest.approx(accountant.get_epsilon(delta), rel=0.02)
    assert found > spent((4.0, 0.064, 400, SMALLEST_FOR_PRV), "prv")[0]
    assert spent((4.0, 0.064, 400, SMALLEST_FOR_PRV), "prv")[1] == "prv"


@by_both
@pytest.mark.parametrize("noise", [1.0, 0.00625, 0.0])
def test_a_guarantee_is_json_and_holds_its_curve(noise: float, accountant: str) -> None:
    said = guarantee(
        noise_multiplier=noise,
        sample_rate=0.1,
        steps=50,
        delta=1e-4,
        max_grad_norm=1.5,
        accountant=accountant,
    )
    read = json.loads(json.dumps(said, allow_nan=False))
    assert read == said
    keys = "epsilon epsilon_rdp delta noise_multiplier sample_rate steps max_grad_norm accountant"
    assert list(read) == [*keys.split(), "renyi"]
    assert (read["delta"], read["noise_multiplier"]) == (1e-4, noise)
    assert (read["sample_rate"], read["steps"], read["max_grad_norm"]) == (0.1, 50, 1.5)
    assert read["accountant"] == (accountant if noise == 1.0 else "rdp")
    proven = from_renyi(**read["renyi"], delta=1e-4)
    if noise:
        assert proven == read["epsilon_rdp"] >= read["epsilon"] > 0
        assert (read["epsilon"], read["accountant"]) == spent((noise, 0.1, 50, 1e-4), accountant)
    else:
        assert read["epsilon"] is read["epsilon_rdp"] is None
        assert read["renyi"] == {"orders": [], "divergences": []}
        assert proven == math.inf


@by_both
def test_no_noise_is_no_guarantee(accountant: str) -> None:
    assert spent((0.0, 0.1, 50, 1e-5), accountant) == (math.inf, "rdp")


def test_little_noise_suffices_for_few_rare_steps() -> None:
    found = noise_for(target_epsilon=0.05, sample_rate=0.001, steps=1, delta=1e-5, accountant="prv")
    assert spent((found, 0.001, 1, 1e-5), "prv")[0] <= 0.05
