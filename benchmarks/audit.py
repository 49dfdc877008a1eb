"""Whole audits: processor seconds of null, bootstrap, all variants and bounds, leak or none.

Usage: python -m benchmarks.audit [CxSxQ ...]
"""

from __future__ import annotations

import sys
import time

import numpy as np

import synpriv.audit.attacks.lira as default
from synpriv.audit.audit import audit
from synpriv.audit.evidence import Evidence

SIZES = ("125x16x9", "125x32x9", "500x64x18")  # canaries x models x views
LEAKS = {"none": 0.0, "clear": 3.0}  # shift of a member's logit; a model's own noise is 1.1
CLASSES = 10


def evidence(num_canaries: int, num_models: int, num_views: int, leak: float) -> Evidence:
    """Paired models that score alike but for noise, which views share in part."""
    rng = np.random.default_rng(0)
    first = rng.random((num_canaries, num_models // 2)) < 0.5
    member = np.stack([first, ~first], axis=2).reshape(num_canaries, num_models)
    logits = 2 * rng.normal(size=(num_canaries, 1, 1, CLASSES))
    logits = logits + rng.normal(size=(num_canaries, num_models, 1, CLASSES))
    logits = logits + 0.5 * rng.normal(size=(num_canaries, num_models, num_views, CLASSES))
    labels = rng.integers(0, CLASSES, num_canaries)
    logits[np.arange(num_canaries), :, :, labels] += leak * member[:, :, None]
    return Evidence(
        logits.astype(np.float32), member, labels, (labels + 1) % CLASSES, design="paired"
    )


def main() -> None:
    """One line per size and leak. SciPy's import comes first and does not count."""
    import scipy.stats

    assert scipy.stats
    for size in sys.argv[1:] or SIZES:
        for leak, shift in LEAKS.items():
            num_canaries, num_models, num_views = map(int, size.split("x"))
            given = evidence(num_canaries, num_models, num_views, shift)
            start, wall = time.process_time(), time.perf_counter()
            report, _ = audit(default.lira, given, delta=1e-5)
            cpu, wall = time.process_time() - start, time.perf_counter() - wall
            print(
                f"audit {size}, leak {leak}: {cpu:.1f} processor seconds ({wall:.1f} s), "
                f"{report['null_rounds']} null rounds, AUC {report['auc']:.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
