"""Epsilon of DP-SGD with Poisson sampling, by Opacus's accountants.

Adding or removing one sample; noise of standard deviation noise_multiplier * max_grad_norm on the
sum of clipped gradients; each sample joins each step with `sample_rate`.
"""

from __future__ import annotations

import functools
import math
import warnings
from typing import Any

from opacus.accountants import PRVAccountant
from opacus.accountants.analysis.rdp import compute_rdp
from scipy.optimize import brentq

from synpriv.guarantee import from_renyi

# Small orders matter for utility presets: the best one is about 1 + log(1/delta) / epsilon, where
# epsilon reaches millions. At order 1 + h the series is cut off at e^-30, so a divergence is known
# to some 1e-13 / h a step: nothing beside the log(1/delta) / h that an epsilon holds there.
ORDERS = (
    *(1 + 10.0 ** -(k / 4) for k in range(28, 16, -1)),
    *(1 + 10.0**-k for k in (4, 3.5, 3, 2.5, 2, 1.5)),
    *(1 + k / 10 for k in range(1, 100)),
    *range(11, 64),
    *(64, 80, 96, 128, 192, 256, 512),
)
# Numerical composition needs memory in proportion to epsilon: 280 took 5 s, 10,000 took 22 GB.
LARGEST_FOR_PRV = 50.0
SMALLEST_FOR_PRV = 1e-12  # of delta: below it Opacus finds its floating point errors too large


@functools.cache
def renyi(noise_multiplier: float, sample_rate: float, steps: int) -> tuple[float, ...]:
    """Renyi divergence bounds at `ORDERS` (Mironov, Talwar and Zhang 2019)."""
    if noise_multiplier == 0:
        return (math.inf,) * len(ORDERS)
    curve = compute_rdp(
        q=sample_rate, noise_multiplier=noise_multiplier, steps=steps, orders=list(ORDERS)
    )
    return tuple(map(float, curve))


@functools.cache
def epsilon(
    *, noise_multiplier: float, sample_rate: float, steps: int, delta: float, accountant: str
) -> tuple[float, str]:
    """Epsilon at `delta`, infinite without noise, and the accountant that gave it.

    `prv`: numerical composition of privacy loss variables (Gopi, Lee and Wutschitz, NeurIPS 2021),
    tight; `rdp`: Renyi composition, an upper bound 5 to 20% higher. Where `prv` cannot work
    (epsilon above 50, delta below 1e-12, every sample in every step) or is not smaller, `rdp` is
    returned.
    """
    by_rdp = from_renyi(ORDERS, renyi(noise_multiplier, sample_rate, steps), delta)
    composable = by_rdp <= LARGEST_FOR_PRV and delta >= SMALLEST_FOR_PRV and sample_rate < 1
    if accountant == "rdp" or not composable:
        return by_rdp, "rdp"
    composed = PRVAccountant()
    composed.history = [(noise_multiplier, sample_rate, steps)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it probes orders and overflows on the way
        by_prv = float(composed.get_epsilon(delta))
    return (by_prv, "prv") if 0 <= by_prv < by_rdp else (by_rdp, "rdp")


@functools.cache
def noise_for(
    *, target_epsilon: float, sample_rate: float, steps: int, delta: float, accountant: str
) -> float:
    """The smallest noise multiplier (to 0.1%) whose epsilon does not exceed the target.

    By `prv` it is larger than need be for targets just below `LARGEST_FOR_PRV`.
    """
    setting = {"sample_rate": sample_rate, "steps": steps, "delta": delta}

    def excess(log_noise: float) -> float:
        noise = math.exp(log_noise)
        reached, _ = epsilon(noise_multiplier=noise, **setting, accountant=accountant)
        return math.log(max(reached, 1e-6) / target_epsilon)

    least, high = math.log(1e-2), math.log(1e4)
    low = least
    if accountant == "prv":  # slow, and never needs more noise than Renyi composition
        high = math.log(noise_for(target_epsilon=target_epsilon, **setting, accountant="rdp"))
        low = high - 0.5
        while excess(low) <= 0 and low > least:
            low -= 0.5
    if excess(low) <= 0:
        raise ValueError(f"target_epsilon={target_epsilon}: too large; give noise_multiplier")
    if excess(high) > 0:
        raise ValueError(f"target_epsilon={target_epsilon}: too small for any noise")
    root = brentq(excess, low, high, xtol=5e-4)
    while excess(root) > 0:  # the root is known to 5e-4 on either side
        root += 5e-4
    return math.exp(root)


def guarantee(
    *,
    noise_multiplier: float,
    sample_rate: float,
    steps: int,
    delta: float,
    max_grad_norm: float,
    accountant: str,
) -> dict[str, Any]:
    """What metrics.json says about a run; epsilon null where there is none."""
    curve = renyi(noise_multiplier, sample_rate, steps)
    by_rdp = from_renyi(ORDERS, curve, delta)
    reached, used = epsilon(
        noise_multiplier=noise_multiplier,
        sample_rate=sample_rate,
        steps=steps,
        delta=delta,
        accountant=accountant,
    )
    finite = [(o, value) for o, value in zip(ORDERS, curve, strict=True) if value < math.inf]
    return {
        "epsilon": reached if reached < math.inf else None,
        "epsilon_rdp": by_rdp if by_rdp < math.inf else None,
        "delta": delta,
        "noise_multiplier": noise_multiplier,
        "sample_rate": sample_rate,
        "steps": steps,
        "max_grad_norm": max_grad_norm,
        "accountant": used,
        "renyi": {"orders": [o for o, _ in finite], "divergences": [v for _, v in finite]},
    }
