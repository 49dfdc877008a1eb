"""Whether a release lies nearer to private images than to held-out ones, and how sure that is.

Where the generator did not look at the private images, these and held-out images of the same law
are exchangeable: any assignment of "private" and "held out" to all of them was as likely as the one
there is. So each test here permutes that assignment, and is exact whatever the distances are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from synpriv.audit import metrics
from synpriv.audit.evidence import Evidence
from synpriv.audit.intervals import draws, intervals, resampled
from synpriv.audit.null import randomisation
from synpriv.screen import spaces
from synpriv.screen.reading import Images, keys

Floats = NDArray[np.float64]
Report = dict[str, Any]
FPRS = (0.001, 0.01, 0.1)
ROUNDS = 999  # of permutations
BOOTSTRAP_ROUNDS = 1000
NEAREST_SHARE = 0.01  # of all judged images: those whose nearest released image is nearest
FEWEST_NEAREST = 20
LEVEL = 0.025  # one-sided, of the whole family (Holm 1979)
UNLIKE = 0.001  # p below which private and held-out images are said to be of two laws
MEASURES = {
    "pixels": "minus the L2 distance to the nearest released image, pixels in unit range",
    "features": "minus the distance to the nearest released image in whitened random features",
    "density ratio": f"mean log distance to the {spaces.NEIGHBOURS} nearest reference images less "
    "that to released ones, in those features: an estimate of log p_released/p_reference per "
    "dimension (DOMIAS, van Breugel et al., AISTATS 2023, eq. 2, with nearest neighbours)",
}


class Found(NamedTuple):
    """A report, and the pairs that its picture shows: of private and of control images."""

    report: Report
    statistics: dict[str, Floats]  # [N] by measure, private images first
    private: spaces.Nearest
    control: spaces.Nearest
    order: NDArray[np.int64]  # rows of the holdout that are controls


def screen(
    synthetic: Images,
    private: Images,
    held_out: Images,
    *,
    rounds: int = ROUNDS,
    bootstrap_rounds: int = BOOTSTRAP_ROUNDS,
) -> Found:
    """Judge a release [N,ch,H,W] by the private and by held-out images that are no private ones.

    One half of the holdout, drawn at random, is the reference: features and densities are learnt
    from it. The other half is the control that private images are compared with.
    """
    order = np.random.default_rng(0).permutation(len(held_out))
    reference, controls = held_out[order[::2]], order[1::2]
    control = held_out[controls]
    pixels, features = spaces.Pixels(reference), spaces.Features(reference)
    near = pixels.nearest(private, synthetic), pixels.nearest(control, synthetic)
    made, known = features(synthetic), features(reference)
    judged = np.concatenate([features(private), features(control)])
    to_made, to_known = spaces.to_neighbours(judged, made), spaces.to_neighbours(judged, known)
    statistics = {
        "pixels": -np.concatenate([each.distance for each in near]),
        "features": -to_made[:, 0],
        "density ratio": _log_density(to_made) - _log_density(to_known),
    }
    is_private = np.arange(len(judged)) < len(private)
    judge = _Judge(is_private, rounds, bootstrap_rounds)
    released = keys(synthetic)
    copied = np.isin(np.concatenate([keys(private), keys(control)]), released)
    report: Report = {
        "num_synthetic": len(synthetic),
        "num_distinct": len(np.unique(released)),
        "num_private": len(private),
        "num_control": len(control),
        "num_reference": len(reference),
        "image_shape": list(private.shape[1:]),
        "measures": judge.measures(statistics),
        "copies": _above_expected(copied, is_private),
        "nearest": _nearest(statistics["pixels"], is_private),
        "law": judge.law(-to_known[:, 0]),
    }
    return Found(report | conclusions(report), statistics, *near, controls)


def _log_density(distance: Floats) -> Floats:
    """Minus the mean log distance to the nearest neighbours, of [N,k]: log density per dimension.

    Up to a constant (Kozachenko and Leonenko 1987, averaged over k so that one copy shows). Zeros
    count as half of the smallest distance that is none.
    """
    positive = distance[distance > 0]
    floor = positive.min() / 2 if len(positive) else 1.0
    return -np.log(np.maximum(distance, floor)).mean(axis=1)


class _Judge:
    """Private (members) against control images (non-members), by one statistic or several."""

    def __init__(self, is_private: NDArray[np.bool_], rounds: int, bootstrap_rounds: int) -> None:
        self.is_private = is_private
        self.rounds, self.bootstrap_rounds = rounds, bootstrap_rounds
        nothing, num = np.zeros(1, dtype=np.int64), len(is_private)
        # One row of all images: "balanced" membership is drawn anew by shuffling it.
        self.row = Evidence(
            None, is_private[None], nothing, nothing, given=np.zeros((1, num, 1), np.float32)
        )

    def measures(self, statistics: Mapping[str, Floats]) -> dict[str, Any]:
        """AUC and TPR at low FPR of each statistic [N], with intervals and p."""
        n_out = int((~self.is_private).sum())
        asked = [
            f if metrics.resolvable(f, n_out) else metrics.expected_fpr(f, n_out) for f in FPRS
        ]
        sampled = self._sampled(statistics, asked)
        found = {}
        for name, values in statistics.items():
            column, truth = values[:, None], self.is_private[:, None]
            ends = intervals(column, truth, np.zeros(1, np.int64), asked, sampled[name])
            found[name] = self._measure(values, ends, n_out)
        return found

    def _measure(self, values: Floats, ends: Floats, n_out: int) -> dict[str, Any]:
        observed = metrics.readings(values, self.is_private, FPRS)
        chance = randomisation(lambda _: values[None], self.row, observed, FPRS, rounds=self.rounds)
        names = [*(f"tpr@fpr={fpr:g}" for fpr in FPRS), "auc"]
        found: dict[str, Any] = {}
        for i, name in enumerate(names):
            found[name] = {
                "value": float(observed[i]),
                "low": float(ends[i, 0]),
                "high": float(ends[i, 1]),
                "p": float(chance.p[i]),
                "null_band": chance.band(i),
                "resolvable": name == "auc" or metrics.resolvable(FPRS[i], n_out),
            }
        return found

    def _sampled(self, statistics: Mapping[str, Floats], fprs: list[float]) -> dict[str, Floats]:
        """Readings in bootstrap rounds of images, [R,F+1] by name; a block of rounds at a time."""
        parts: dict[str, list[Floats]] = {name: [] for name in statistics}
        step = 50
        for start in range(0, self.bootstrap_rounds, step):
            num = min(step, self.bootstrap_rounds - start)
            drawn = draws(len(self.is_private), np.zeros(1, np.int64), rounds=num, seed=start)
            for name, values in statistics.items():
                both = values[:, None], self.is_private[:, None]
                parts[name].append(resampled(*both, fprs, drawn))
        return {name: np.concatenate(found) for name, found in parts.items()}

    def law(self, nearness: Floats) -> dict[str, Any]:
        """Whether private and control images are alike to reference images: no release in it."""
        area = metrics.auc(nearness, self.is_private)
        away = np.array([abs(area - 0.5)])
        rng, exceeding = np.random.default_rng(1), 0
        for _ in range(self.rounds):
            drawn = rng.permutation(self.is_private)
            exceeding += bool(abs(metrics.auc(nearness, drawn) - 0.5) >= away - 1e-12)
        return {"auc": area, "p": (1 + exceeding) / (1 + self.rounds)}


def _nearest(statistic: Floats, is_private: NDArray[np.bool_]) -> dict[str, Any]:
    """How many of the images that the release comes nearest to are private ones."""
    num = min(len(statistic), max(FEWEST_NEAREST, round(NEAREST_SHARE * len(statistic))))
    bound = np.sort(statistic)[::-1][num - 1]
    found = _above_expected(statistic >= bound, is_private)  # ties at the bound all count
    return found | {"largest_distance": float(-bound)}


def _above_expected(chosen: NDArray[np.bool_], is_private: NDArray[np.bool_]) -> dict[str, Any]:
    """Private ones among chosen images, what chance gives, and Fisher's exact p (one-sided)."""
    from scipy.stats import hypergeom

    num, total = int(chosen.sum()), len(chosen)
    private, of_private = int((chosen & is_private).sum()), int(is_private.sum())
    p = float(hypergeom.sf(private - 1, total, of_private, num)) if num else 1.0
    return {
        "private": private,
        "control": num - private,
        "expected_private": num * of_private / total,
        "p": min(1.0, p),
    }


def conclusions(report: Report) -> dict[str, Any]:
    """What is found at a family-wise error of `LEVEL`, and what a reader must know first."""
    from synpriv.report.marks import holm

    tests = {"copies": report["copies"]["p"], "nearest": report["nearest"]["p"]}
    for name, read in report["measures"].items():
        shown = {key: one for key, one in read.items() if one["resolvable"]}
        tests |= {f"{name}: {key}": one["p"] for key, one in shown.items()}
    kept = holm(list(tests.values()), LEVEL)
    found = [name for name, above in zip(tests, kept, strict=True) if above]
    return {"found": found, "num_tests": len(tests), "warnings": _warnings(report)}


def _warnings(report: Report) -> list[str]:
    found, law = [], report["law"]
    if law["p"] <= UNLIKE:
        found.append(
            f"private and held-out images are not alike, whatever the release is: one tells them "
            f"apart by how near other held-out images are (AUC {law['auc']:.3f}, "
            f"p {law['p']:.2g}); what is found may be that difference alone. Hold out images at "
            "random"
        )
    fewest = metrics.needed(0.01)
    if report["num_control"] < fewest:
        found.append(
            f"{report['num_control']} control images (half of the holdout) resolve no TPR at 1% "
            f"FPR: {fewest} would, {metrics.needed(0.001):,} one at 0.1%"
        )
    if report["num_distinct"] < report["num_synthetic"]:
        found.append(
            f"only {report['num_distinct']:,} of {report['num_synthetic']:,} released images are "
            "distinct"
        )
    return found
