"""How often an audit marks a leak where there is none.

Usage: python -m benchmarks.false_alarms [AUDITS [S ...]]

Every audit runs its randomisation test with 39 rounds, the fewest that can give p = 0.025: a test
of the same size, 1/40, as with 1,000 rounds (25/1001), at a fraction of the time. Audits come in
chunks, and after each chunk a line tells all so far: a run that is stopped has a whole table.
"""

from __future__ import annotations

import itertools
import sys
from collections import defaultdict

import numpy as np

from synpriv.audit import null
from synpriv.audit.attacks.lira import lira
from synpriv.audit.attacks.lira_parent import lira_parent
from synpriv.audit.attacks.nearest import nearest
from synpriv.audit.attacks.threshold import threshold
from synpriv.audit.audit import FPRS, Attack
from synpriv.audit.crossfit import statistic_of
from synpriv.audit.evidence import DESIGNS, Evidence
from synpriv.audit.metrics import Bools, Floats, readings
from synpriv.data.draws import membership

CANARIES, VIEWS, CLASSES, ROUNDS, CHUNK, STREAM = 24, 2, 4, 39, 100, 1_000_000
MODELS = (6, 8, 16, 32, 64)
ATTACKS: dict[str, Attack] = {
    "lira": lira,
    "lira_parent": lira_parent,
    "nearest": nearest,
    "threshold": threshold,
}


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
    distance = rng.gamma(4, size=shape) * np.exp(0.3 * rng.normal(size=(CANARIES, 1)))
    return Evidence(
        logits.astype(np.float32),
        member,
        labels,
        (labels + 1) % CLASSES,
        distance.astype(np.float32),
        design=design,
    )


def marked(name: str, given: Evidence, seed: int) -> Bools:
    """Whether each rate and, last, the AUC is called above chance.

    The null's draws are others in every audit, since the size is 1/40 over bits and draws, not for
    one set of 39; and their stream is not the evidence's, which would draw the true bits again.
    """

    def procedure(bits: Bools) -> Floats:
        return statistic_of(ATTACKS[name](given.with_member(bits)), bits)

    observed = readings(procedure(given.member), given.member, FPRS)
    found = null.randomisation(procedure, given, observed, FPRS, rounds=ROUNDS, seed=STREAM + seed)
    return found.p <= null.ALPHA


def main() -> None:
    """One line per attack, design, number of models and chunk: shares marked so far."""
    audits = int(sys.argv[1]) if len(sys.argv) > 1 else 1500
    sizes = [int(given) for given in sys.argv[2:]] or list(MODELS)
    found: defaultdict[tuple[str, str, int], list[Bools]] = defaultdict(list)
    for start in range(0, audits, CHUNK):
        for num_models, design in itertools.product(sizes, DESIGNS):
            for seed in range(start, min(start + CHUNK, audits)):
                given = evidence(design, num_models, seed)
                for name in ATTACKS:
                    found[name, design, num_models].append(marked(name, given, seed))
            for name in ATTACKS:
                so_far = found[name, design, num_models]
                rates = np.mean(so_far, axis=0).round(4).tolist()
                print(f"{name} {design} S={num_models}: {rates} of {len(so_far)}", flush=True)


if __name__ == "__main__":
    main()
