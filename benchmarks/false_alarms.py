"""How often an audit marks a leak where there is none.

Usage: python -m benchmarks.false_alarms [AUDITS [S ...]]

Every audit runs its randomisation test with 39 rounds, the fewest that can give p = 0.025: a test
of the same size as with 1,000, at a fraction of the time.
"""

from __future__ import annotations

import sys

import numpy as np

from synpriv.audit import null
from synpriv.audit.attacks.lira import lira
from synpriv.audit.attacks.threshold import threshold
from synpriv.audit.audit import FPRS, Attack
from synpriv.audit.crossfit import statistic_of
from synpriv.audit.evidence import DESIGNS, Evidence
from synpriv.audit.metrics import Bools, Floats, readings
from synpriv.data.draws import membership

CANARIES, VIEWS, CLASSES, ROUNDS = 50, 2, 4, 39
MODELS = (6, 8, 16, 32, 64)
ATTACKS: dict[str, Attack] = {"lira": lira, "threshold": threshold}


def evidence(design: str, num_models: int, seed: int) -> Evidence:
    """Canaries and models that differ, and no leak."""
    rng = np.random.default_rng(seed)
    shape = CANARIES, num_models
    if design == "paired":
        first = rng.random((CANARIES, num_models // 2)) < 0.5
        member = np.stack([first, ~first], axis=2).reshape(shape)
    elif design == "balanced":
        member = membership(*shape, seed=seed)
    else:
        member = rng.random(shape) < 0.5
    logits = rng.normal(size=(*shape, VIEWS, CLASSES)) + 2 * rng.normal(
        size=(CANARIES, 1, 1, CLASSES)
    )
    logits *= np.exp(0.3 * rng.normal(size=(1, num_models, 1, 1)))
    labels = rng.integers(0, CLASSES, CANARIES)
    return Evidence(
        logits.astype(np.float32), member, labels, (labels + 1) % CLASSES, design=design
    )


def marked(name: str, given: Evidence) -> Bools:
    """Whether each rate and, last, the AUC is called above chance."""

    def procedure(bits: Bools) -> Floats:
        return statistic_of(ATTACKS[name](given.with_member(bits)), bits)

    observed = readings(procedure(given.member), given.member, FPRS)
    found = null.randomisation(procedure, given, observed, FPRS, rounds=ROUNDS, seed=1)
    return found.p <= null.ALPHA


def main() -> None:
    """One line per attack, design and number of models."""
    audits = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    for num_models in map(int, sys.argv[2:] or MODELS):
        for design in DESIGNS:
            for name in ATTACKS:
                found = [marked(name, evidence(design, num_models, s)) for s in range(audits)]
                rates = np.mean(found, axis=0).round(4).tolist()
                print(f"{name} {design} S={num_models}: {rates} of {audits}", flush=True)


if __name__ == "__main__":
    main()
