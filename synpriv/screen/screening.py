"""Whether a release lies nearer to private images than to held-out ones, and how sure that is.

Where the generator did not look at the private images, these and held-out images of the same law
are exchangeable: any assignment of "private" and "held out" to all of them was as likely as the one
there is. So each test here permutes that assignment, and is exact whatever the distances are. What
is assigned is a unit: an image with its equals, or a group of images, which is judged as a whole.
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
from synpriv.data.pool import Ints
from synpriv.screen import reading, spaces, units
from synpriv.screen.reading import Images
from synpriv.signatures import require

Floats = NDArray[np.float64]
Report = dict[str, Any]
FPRS = (0.001, 0.01, 0.1)
ROUNDS = 999  # of permutations
BOOTSTRAP_ROUNDS = 1000
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
    rows: Ints  # of the private images that are judged
    order: Ints  # rows of the holdout that are controls
    unit: Ints  # [N] which images are judged as one


def screen(
    synthetic: Images,
    private: Images,
    held_out: Images,
    groups: tuple[Ints, Ints] | None = None,
    *,
    rounds: int = ROUNDS,
    bootstrap_rounds: int = BOOTSTRAP_ROUNDS,
) -> Found:
    """Judge a release [N,ch,H,W] by private and by held-out images; those in both are left out.

    One half of the holdout, drawn at random, is the reference: features and densities are learnt
    from it. The other half is the control that private images are compared with. groups: whose
    each private and each held-out image is, nobody's in both (reading.sides); without them equal
    images are one unit and all others are independent.
    """
    kept = reading.apart(private, held_out)
    rows = [np.flatnonzero(stay) for stay in kept]
    if groups is not None:
        unit = [units.numbered(whose[stay]) for whose, stay in zip(groups, kept, strict=True)]
    private, held_out = (
        images if stay.all() else images[stay]
        for images, stay in zip((private, held_out), kept, strict=True)
    )
    if groups is None:
        unit = [units.numbered(reading.keys(images)) for images in (private, held_out)]
    _require_units(unit[0], unit[1], "distinct images" if groups is None else "groups")
    known, controls = units.halves(unit[1])
    reference, control = held_out[known], held_out[controls]
    whose = np.concatenate([unit[0], units.numbered(unit[1][controls]) + unit[0].max() + 1])
    near, statistics, alike, own = _measured(synthetic, private, control, reference)
    is_private = np.arange(int(whose.max()) + 1) <= unit[0].max()
    judge = _Judge(is_private, rounds, bootstrap_rounds)
    of_units = {name: units.largest(values, whose) for name, values in statistics.items()}
    released = reading.keys(synthetic)
    copied = np.isin(np.concatenate([*map(reading.keys, (private, control))]), released)
    report: Report = {
        "num_synthetic": len(synthetic),
        "num_distinct": len(np.unique(released)),
        "num_private": len(private),
        "num_control": len(control),
        "num_reference": len(reference),
        "num_shared": {"private": int((~kept[0]).sum()), "holdout": int((~kept[1]).sum())},
        "unit": _name(groups, len(is_private) == len(whose)),
        "num_units": {"private": int(is_private.sum()), "control": int((~is_private).sum())},
        "image_shape": list(private.shape[1:]),
        "measures": judge.measures(of_units),
        "copies": units.above_expected(units.largest(copied.astype(float), whose) > 0, is_private),
        "nearest": units.nearest(of_units["pixels"], is_private),
        "law": judge.law(units.largest(alike, whose)),
        "nearest_is_of_own_set": own if groups is None else None,
    }
    report |= conclusions(report)
    return Found(report, statistics, *near, rows[0], rows[1][controls], whose)


def _name(groups: tuple[Ints, Ints] | None, distinct: bool) -> str:
    return "groups" if groups is not None else "images" if distinct else "distinct images"


def _require_units(private: Ints, held_out: Ints, name: str) -> None:
    for what, unit in (("private", private), ("holdout", held_out)):
        num = int(unit.max()) + 1
        require(num >= units.FEWEST, f"--{what}: {num} {name}", f"{units.FEWEST} or more")


class _Measured(NamedTuple):
    near: tuple[spaces.Nearest, spaces.Nearest]  # of private and of control images
    statistics: dict[str, Floats]  # [N]
    alike: Floats  # [N] nearness to reference images
    own: float | None  # units.near_copies


def _measured(synthetic: Images, private: Images, control: Images, reference: Images) -> _Measured:
    """What each private image and each control one is to the release and to the reference."""
    order = np.random.default_rng(2).permutation(len(synthetic))  # ties ignore the order it has
    release, pixels = synthetic[order], spaces.Pixels(reference)
    near = [pixels.nearest(images, release) for images in (private, control)]
    near = [each._replace(place=order[each.place]) for each in near]
    features = spaces.Features(reference)
    made, known, mine, others = spaces.of_each(features, release, reference, private, control)
    floor, judged = spaces.floor(known), np.concatenate([mine, others])
    to_made = spaces.to_neighbours(judged, made, floor)
    to_known = spaces.to_neighbours(judged, known, floor)
    statistics = {
        "pixels": -np.concatenate([each.distance for each in near]),
        "features": -to_made[:, 0],
        "density ratio": _log_density(to_made) - _log_density(to_known),
    }
    held_out = np.concatenate([known, others])
    distinct = [np.unique(each, axis=0) for each in (mine, held_out)]
    own = units.near_copies(distinct[0], distinct[1], floor)
    return _Measured((near[0], near[1]), statistics, -to_known[:, 0], own)


def _log_density(distance: Floats) -> Floats:
    """Minus the mean log distance to the nearest neighbours, of [N,k]: log density per dimension.

    Up to a constant (Kozachenko and Leonenko 1987, averaged over k so that one copy shows).
    """
    return -np.log(distance).mean(axis=1)


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


def conclusions(report: Report) -> dict[str, Any]:
    """What is found at a family-wise error of `LEVEL`, and what a reader must know first."""
    from synpriv.report.marks import holm

    tests = {"copies": report["copies"]["p"], "nearest": report["nearest"]["p"]}
    for name, read in report["measures"].items():
        shown = {key: one for key, one in read.items() if one["resolvable"]}
        tests |= {f"{name}: {key}": one["p"] for key, one in shown.items()}
    kept = holm(list(tests.values()), LEVEL)
    found = [name for name, above in zip(tests, kept, strict=True) if above]
    seen = report["copies"]["control"] > 0 and not found
    return {
        "found": found,
        "num_tests": len(tests),
        "not_judged": (
            "the holdout is of another law"
            if report["law"]["p"] <= UNLIKE
            else "the release has held-out images, so the generator has seen them"
            if seen
            else None
        ),
        "warnings": _warnings(report),
    }


def _warnings(report: Report) -> list[str]:
    found, law, own = [], report["law"], report["nearest_is_of_own_set"]
    if law["p"] <= UNLIKE:
        found.append(
            f"private and held-out images are not alike, whatever the release is: one tells them "
            f"apart by how near other held-out images are (AUC {law['auc']:.3f}, "
            f"p {law['p']:.2g}); what is found may be that difference alone. Hold out images at "
            "random, by person where there are several images of one (--groups)"
        )
    if report["copies"]["control"]:
        found.append(
            f"{report['copies']['control']} control {report['unit']} are in the release bit for "
            "bit: the generator has seen the holdout, and finding nothing then says nothing; hold "
            "out others"
        )
    if own is not None:
        found.append(
            f"near-copies lie inside --private or inside --holdout (the nearest other image is of "
            f"the same set for {own:.0%}, where images are independent for 50%): it looks like "
            "several images of one person, with which every p here is too small; say whose they "
            "are (--groups)"
        )
    fewest, num = metrics.needed(0.01), report["num_units"]["control"]
    if num < fewest:
        found.append(
            f"{num} control {report['unit']} (half of the holdout) resolve no TPR at 1% "
            f"FPR: {fewest} would, {metrics.needed(0.001):,} one at 0.1%"
        )
    if report["num_distinct"] < report["num_synthetic"]:
        found.append(
            f"only {report['num_distinct']:,} of {report['num_synthetic']:,} released images are "
            "distinct"
        )
    return found
