"""A lower bound on epsilon that is valid: membership guessed from models whose bits are fair coins.

Shadow models are divided into references, whose bits the attack may see, and targets, whose bits
only judge its guesses. Of a pair the two models hold opposite bits, so it is one or the other, and
of a target pair one model alone is used. Given the references, the C bits of each target are then
independent fair coins, and T targets are one mechanism on T*C bits. Balanced rows allow no bound:
there the references tell the targets' bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from synpriv.audit.evidence import Evidence
from synpriv.audit.scores import Floats

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Attack = Callable[[Evidence], Floats | Mapping[str, Floats]]
FEWEST = 3  # pairs that LiRA needs to compare one with the others; without pairs twice as many
SHARES = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.45, 0.48)  # of bits, IN or OUT
ASSUMES = (
    "valid at 95% (Steinke, Nasr and Jagielski 2023) for adding or removing one image if training "
    "runs are independent given who is a member, membership bits are fair coins, and canaries and "
    "wrong labels do not depend on them"
)


@dataclass(frozen=True)
class Bound:
    """What guesses about `bits` independent coins refute."""

    epsilon: float
    bits: int
    guesses: int
    right: int


class _Plan(NamedTuple):
    """What is done to the targets, settled before a bit of theirs is looked at."""

    variant: int
    num_in: int
    num_out: int


def one_run(
    attack: Attack, evidence: Evidence, *, delta: float, level: float = 0.95, seed: int = 0
) -> Bound | None:
    """Largest epsilon that an attack refutes at confidence `level`; None if `unfit` says why not.

    `seed` alone divides the models. The attack gets the references and the targets with all bits of
    the targets blanked, so no attack, ours or another's, can look at them. Which variant is used,
    and how many of the most extreme statistics are guessed IN and OUT, is what would show most on
    the references; that is settled without the targets' logits too, which carry their bits.
    Statistics that are not finite are not guessed.
    """
    if unfit(evidence) is not None:
        return None
    references, targets = divide(evidence, seed)
    known = _variants(attack, _blanked(evidence, references, targets[:0]))
    found = _statistics(attack, evidence, references, targets)
    bits, error = targets.size * len(evidence.bits), 1 - level
    plan = _plan(known, evidence.bits[:, references], bits, delta=delta, error=error)
    guesses = _guess(found[plan.variant], plan.num_in, plan.num_out)
    truth = evidence.bits[:, targets]
    right = int((guesses == np.where(truth, 1, -1)).sum())
    num = plan.num_in + plan.num_out
    return Bound(refuted(bits, num, right, delta=delta, error=error), bits, num, right)


def unfit(evidence: Evidence) -> str | None:
    """Why there is no valid bound, in words; None if there is one."""
    if evidence.design == "balanced":
        return "balanced membership: each bit follows from the others; canary.membership=paired"
    paired = evidence.design == "paired"
    num = len(evidence.partners[0]) if paired else evidence.member.shape[1]
    fewest = (FEWEST if paired else 2 * FEWEST) + 1
    if num < fewest:
        return f"{num} {'pairs' if paired else 'models'}: a bound needs {fewest}"
    return None


def divide(evidence: Evidence, seed: int) -> tuple[Ints, Ints]:
    """Columns of the reference models and of the targets: about half of the pairs (or models) each.

    One model of each target pair is chosen as well; a model without partner is not used.
    """
    # Draws of members and of training runs take other entropy from the same seed.
    rng = np.random.default_rng([seed, *b"one run"])
    if evidence.design == "paired":
        pairs = rng.permutation(np.stack(evidence.partners, axis=1))
        num = max(FEWEST, len(pairs) - len(pairs) // 2)
        sides = rng.integers(0, 2, size=len(pairs) - num)
        return np.sort(pairs[:num].ravel()), pairs[num:][np.arange(len(sides)), sides]
    models = rng.permutation(evidence.member.shape[1])
    num = max(2 * FEWEST, len(models) - len(models) // 2)
    return np.sort(models[:num]), models[num:]


def _statistics(attack: Attack, evidence: Evidence, references: Ints, targets: Ints) -> Floats:
    """Statistics of targets [V,C,T], no bit of a target given away.

    A target without its partner is compared with whole pairs alone, so one pass serves all. Without
    pairs it would be compared with the blanks of the other targets: it comes alone.
    """
    groups = [targets] if evidence.design == "paired" else list(targets[:, None])
    passes = [_variants(attack, _blanked(evidence, references, group)) for group in groups]
    return np.concatenate([found[:, :, len(references) :] for found in passes], axis=2)


def _blanked(evidence: Evidence, references: Ints, targets: Ints) -> Evidence:
    some = evidence.of_models(np.concatenate([references, targets]))
    some.member[:, len(references) :] = False
    return some


def _variants(attack: Attack, evidence: Evidence) -> Floats:
    """All statistics of an attack, [V,C,S]."""
    found = attack(evidence)
    return np.stack(list(found.values()) if isinstance(found, Mapping) else [found])


def _plan(known: Floats, member: Bools, bits: int, *, delta: float, error: float) -> _Plan:
    """The variant and numbers of guesses of largest expected bound, from references [V,C,R] alone.

    Shares of right guesses are those among as large a share of the references, drawn towards 1/2 by
    one guess of each kind, without which a handful of perfect guesses would look best. Half of the
    bits of pairs are members, of targets half but for a deviation of sqrt(bits) / 2: twice that is
    left out of what can be right on a side.
    """
    most = bits / 2 - math.sqrt(bits)
    best, plan = 0.0, _Plan(0, round(SHARES[4] * bits), round(SHARES[4] * bits))
    rates = np.array([_rates(statistic, member) for statistic in known])  # [V,2,shares]
    for i, share_in in enumerate(SHARES):
        for j, share_out in enumerate(SHARES):
            num_in, num_out = round(share_in * bits), round(share_out * bits)
            right = np.minimum(num_in * rates[:, 0, i], most)
            right = right + np.minimum(num_out * rates[:, 1, j], most)
            expected = max(0, int(right.max()))
            counts = (bits, num_in + num_out, expected)
            if refuted(*counts, delta=0.0, error=error) <= best:
                continue  # delta only takes away, and is slow
            found = refuted(*counts, delta=delta, error=error)
            if found > best:
                best, plan = found, _Plan(int(right.argmax()), num_in, num_out)
    return plan


def _rates(statistic: Floats, member: Bools) -> Floats:
    """Shares of right guesses IN and OUT at each of `SHARES`, [2,shares]."""
    usable = np.isfinite(statistic)
    truth = member[usable][np.argsort(-statistic[usable], kind="stable")]
    counts = np.array([round(share * len(truth)) for share in SHARES])
    right = [np.append(0, np.cumsum(side))[counts] for side in (truth, ~truth[::-1])]
    return (np.array(right) + 1) / (counts + 2)


def _guess(statistic: Floats, num_in: int, num_out: int) -> Ints:
    """1 for the highest, -1 for the lowest statistics, 0 elsewhere, int [C,T]."""
    flat = statistic.ravel()
    usable = np.flatnonzero(np.isfinite(flat))
    order = usable[np.argsort(-flat[usable], kind="stable")]
    guesses = np.zeros(len(flat), dtype=np.int64)
    guesses[order[:num_in]] = 1
    guesses[order[max(num_in, len(order) - num_out) :]] = -1
    return guesses.reshape(statistic.shape)


def refuted(bits: int, guesses: int, right: int, *, delta: float, error: float = 0.05) -> float:
    """Largest epsilon >= 0 that so many right guesses refute with error probability `error`.

    Steinke, Nasr and Jagielski, "Privacy Auditing with One (1) Training Run" (NeurIPS 2023),
    main theorem: of `bits` independent fair coins an (epsilon, delta) mechanism lets `guesses`, a
    number fixed beforehand, be right `right` times with a probability of at most
    beta + 2 bits delta max_i P[right > X >= right - i] / i, where beta = P[X >= right] and X is
    binomial with 1 / (1 + e^-epsilon).
    """
    if not 0 <= right <= guesses <= bits:
        raise ValueError(f"right={right}, guesses={guesses}, bits={bits}: must not fall")
    if right == 0:
        return 0.0
    from scipy.special import betaincinv, logit  # a second, which a check before training saves

    high = max(0.0, float(logit(betaincinv(right, guesses - right + 1, error))))
    if delta == 0 or _probability(bits, guesses, right, delta, 0.0) >= error:
        return high if delta == 0 else 0.0
    low = 0.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        refutes = _probability(bits, guesses, right, delta, middle) < error
        low, high = (middle, high) if refutes else (low, middle)
    return low


def _probability(bits: int, guesses: int, right: int, delta: float, epsilon: float) -> float:
    """Of so many right guesses or more, at most."""
    from scipy.special import betainc, expit, gammaln

    beta = betainc(right, guesses - right + 1, expit(epsilon))
    below = np.arange(right - 1, -1, -1)
    others = guesses - below
    log_choices = gammaln(guesses + 1) - gammaln(below + 1) - gammaln(others + 1)
    log_mass = log_choices - below * math.log1p(math.exp(-epsilon))
    log_mass -= others * np.logaddexp(0, epsilon)
    excess = (np.cumsum(np.exp(log_mass)) / np.arange(1, right + 1)).max()
    return float(min(1.0, beta + 2 * bits * delta * excess))


def attainable(bits: int, epsilon: float, *, delta: float, error: float = 0.05) -> float:
    """What is shown of a mechanism that leaks epsilon to the full, every bit of which is guessed.

    Randomised response answers each bit with the truth with probability 1 / (1 + e^-epsilon); its
    expected number of right answers is judged. Infinite epsilon: all guesses are right, the most
    that so many bits can show.
    """
    right = math.floor(bits / (1 + math.exp(-epsilon)))
    return refuted(bits, bits, right, delta=delta, error=error)


def report(
    attack: Attack, evidence: Evidence, *, delta: float, proven: float | None, seed: int
) -> dict[str, Any]:
    """The bound's part of a report; `proven`: epsilon of the method at `delta`, if there is one."""
    bound = one_run(attack, evidence, delta=delta, seed=seed)
    if bound is None:
        return {"epsilon_bound": None, "epsilon_bound_none": unfit(evidence)}
    found = {
        "epsilon_bound": bound.epsilon,
        "epsilon_bound_largest": attainable(bound.bits, math.inf, delta=delta),
        "epsilon_bound_counts": {
            "bits": bound.bits,
            "guesses": bound.guesses,
            "right": bound.right,
        },
    }
    if proven is not None:
        found["epsilon_bound_at_proven"] = attainable(bound.bits, proven, delta=delta)
    return found
