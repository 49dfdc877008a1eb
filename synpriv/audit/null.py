"""What an audit reads when nothing leaks: membership drawn anew, the whole procedure run again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from synpriv.audit.evidence import Evidence
from synpriv.audit.metrics import Bools, Floats, effect_size, readings

ALPHA = 0.025  # one-sided: `above_chance` is p <= ALPHA
ROUNDS = 1000
ENOUGH = 25  # exceedances after which, but in the very last round, p > ALPHA is certain
FEWEST = 200  # rounds at least, for the band


@dataclass(frozen=True)
class Null:
    """What chance gives, for the TPR at each of F FPRs and, last, the AUC."""

    readings: Floats  # [rounds,F+1]
    p: Floats  # [F+1]
    largest_effect: Floats  # [rounds] effect size of the most exposed canary

    def band(self, index: int) -> list[float]:
        """The central 95% of the readings."""
        low, high = np.quantile(self.readings[:, index], [0.025, 0.975])
        return [float(low), float(high)]

    @property
    def most_exposed(self) -> float | None:
        """The 95% point of the largest effect size, None if no canary ever had one."""
        finite = self.largest_effect[np.isfinite(self.largest_effect)]
        return float(np.quantile(finite, 0.95)) if len(finite) else None


def redraw(evidence: Evidence, rng: np.random.Generator) -> Bools:
    """Membership bits [C,S] (of groups: [G,S]) as they could as well have fallen, by the design.

    paired: swapped within each pair and canary on its own; a model without partner gets new bits.
    balanced: each canary's row is shuffled. bernoulli: each bit is drawn anew. Under the hypothesis
    that no score depends on membership the true bits are one more such draw.
    """
    member = evidence.bits
    if evidence.design == "balanced":
        return rng.permuted(member, axis=1)
    drawn = rng.random(member.shape) < 0.5
    if evidence.design == "paired":
        first, second = evidence.partners
        drawn[:, second] = ~drawn[:, first]
    return drawn


def randomisation(
    procedure: Callable[[Bools], Floats],
    evidence: Evidence,
    observed: Floats,
    fprs: Sequence[float],
    *,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> Null:
    """Randomisation test of the `observed` [F+1] readings, `procedure(member) -> statistic [C,S]`.

    Readings no smaller than the observed one are exceedances, ties included. Sampling is sequential
    (Besag and Clifford, Biometrika 1991): where the ENOUGH-th exceedance comes at round l,
    p = ENOUGH / l, else p = (1 + exceedances) / (1 + rounds); both are valid. The loop ends when
    every p is decided, not before FEWEST rounds.
    """
    rng = np.random.default_rng(seed)
    read: list[Floats] = []
    largest: list[float] = []
    exceedances = np.zeros(len(observed), dtype=np.int64)
    p = np.full(len(observed), np.nan)
    while len(read) < rounds and (np.isnan(p).any() or len(read) < FEWEST):
        drawn = redraw(evidence, rng)
        statistic = procedure(drawn)
        read.append(readings(statistic, drawn, fprs))
        largest.append(_largest(effect_size(statistic, drawn)))
        # The same area may be summed in another order: what differs by rounding alone is a tie.
        exceedances += read[-1] >= observed - 1e-12
        p[(exceedances == ENOUGH) & np.isnan(p)] = ENOUGH / len(read)
    p = np.where(np.isnan(p), (1 + exceedances) / (1 + len(read)), p)
    return Null(np.array(read), p, np.array(largest))


def _largest(effects: Floats) -> float:
    finite = effects[np.isfinite(effects)]
    return float(finite.max()) if len(finite) else np.nan
