"""What an audit reads when nothing leaks: membership drawn anew, the whole procedure run again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np

from synpriv.audit.evidence import Evidence
from synpriv.audit.metrics import Bools, Floats, effect_size, readings

ALPHA = 0.025  # one-sided: `above_chance` is p <= ALPHA
ROUNDS = 1000
ENOUGH = 25  # exceedances after which, but in the very last round, p > ALPHA is certain
FEWEST = 200  # rounds at least, for the band
T = TypeVar("T")


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
    workers: int = 1,
) -> Null:
    """Randomisation test of the `observed` [F+1] readings, `procedure(member) -> statistic [C,S]`.

    Readings no smaller than the observed one are exceedances, ties included. Sampling is sequential
    (Besag and Clifford, Biometrika 1991): where the ENOUGH-th exceedance comes at round l,
    p = ENOUGH / l, else p = (1 + exceedances) / (1 + rounds); both are valid. The loop ends when
    every p is decided, not before FEWEST rounds. workers: threads that run rounds, of which the
    result does not depend; `procedure` is then called by several at once.
    """
    read: list[Floats] = []
    largest: list[float] = []
    exceedances = np.zeros(len(observed), dtype=np.int64)
    p = np.full(len(observed), np.nan)

    def one(drawn: Bools) -> tuple[Floats, float]:
        statistic = procedure(drawn)
        return readings(statistic, drawn, fprs), _largest(effect_size(statistic, drawn))

    rng = np.random.default_rng(seed)
    every = (redraw(evidence, rng) for _ in range(rounds))
    for reading, effect in _in_order(one, every, workers):
        read.append(reading)
        largest.append(effect)
        # The same area may be summed in another order: what differs by rounding alone is a tie.
        exceedances += reading >= observed - 1e-12
        p[(exceedances == ENOUGH) & np.isnan(p)] = ENOUGH / len(read)
        if not np.isnan(p).any() and len(read) >= FEWEST:
            break
    p = np.where(np.isnan(p), (1 + exceedances) / (1 + len(read)), p)
    return Null(np.array(read), p, np.array(largest))


def _in_order(one: Callable[[Bools], T], every: Iterator[Bools], workers: int) -> Iterator[T]:
    """`one` of each, in their order, by so many threads that are no more than a few ahead."""
    if workers == 1:
        yield from map(one, every)
        return
    with ThreadPoolExecutor(workers) as pool:
        ahead = deque(pool.submit(one, drawn) for drawn in islice(every, 2 * workers))
        try:
            while ahead:
                yield ahead.popleft().result()
                ahead.extend(pool.submit(one, drawn) for drawn in islice(every, 1))
        finally:
            for future in ahead:
                future.cancel()


def _largest(effects: Floats) -> float:
    finite = effects[np.isfinite(effects)]
    return float(finite.max()) if len(finite) else np.nan
