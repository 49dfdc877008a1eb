"""Which numbers of a report are above what chance gives, corrected over a family of tests.

A test finds something at p <= 2.5%, one-sided. Of many such tests some do by chance, so marks are
always corrected: of one report over what it tests, of a results folder over all its audits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from synpriv.audit.null import ALPHA, ENOUGH, ROUNDS

Report = dict[str, Any]
SHOWN = ("tpr@fpr=0.01", "tpr@fpr=0.001")  # the rates of a table, the headline first
AUC = "auc"


class Tested(NamedTuple):
    """One number of one report against chance."""

    row: int
    key: str
    p: float
    floor: float  # the smallest p that its rounds could give

    @property
    def beat_all(self) -> bool:
        """Whether no round was as large, of rounds that are enough for one test at least."""
        return self.p <= self.floor <= ALPHA


class Correction(NamedTuple):
    """What p counts as found in a family of tests, and how often one does by chance."""

    num_audits: int
    num_tests: int
    largest: float  # the largest p that Holm's procedure rejects; -1: none
    floor: float  # of the tests that have too few rounds for it, the largest; 0: none has
    bound: float  # of the probability of one false finding or more

    def finds(self, test: Tested) -> bool:
        """Whether this test, one of the family, is above what chance gives."""
        return test.p <= self.largest or self._is_exempt(test)

    def _is_exempt(self, test: Tested) -> bool:
        return _lacks_rounds(test, self.num_tests) and test.beat_all

    def in_words(self, shown: int) -> str:
        """What marks say; shown: how many of the audits a reader sees."""
        if not self.num_tests:
            return "no audit, so no mark"
        whose = f"of {self.num_audits} audits, {self.num_audits - shown} of them not shown here"
        if shown == self.num_audits:
            whose = "of this audit alone" if shown == 1 else f"of all {shown} audits"
        lack = ""
        if self.floor:
            lack = (
                f", not {ALPHA:.1%}: it asks for p <= {ALPHA / self.num_tests:.2g}, of which "
                f"{round(1 / self.floor) - 1} rounds show {self.floor:.2g}, and what beat all of "
                "them counts as found"
            )
        return (
            f"marks corrected over {self.num_tests} tests (Holm 1979) {whose}: every AUC and every "
            "resolved rate at 1% or 0.1%, without one the rate at 1%; any other rate is marked by "
            f"itself (p <= {ALPHA:.1%}); one false finding or more in at most {self.bound:.1%} of "
            f"such families{lack}"
        )


def tested(report: Report) -> list[str]:
    """Keys of the rates that count for or against a leak: resolved ones, else the headline."""
    return [key for key in SHOWN if report[key]["resolvable"]] or [SHOWN[0]]


def family(reports: Sequence[Report]) -> list[Tested]:
    """What a table of these reports tests: every AUC, and of every report its `tested` rates."""
    found = []
    for row, report in enumerate(reports):
        floor = 1 / (1 + _rounds(report))
        found += [Tested(row, key, report[key]["p"], floor) for key in tested(report)]
        found.append(Tested(row, AUC, report["auc_p"], floor))
    return found


def holm(p_values: Sequence[float], level: float = ALPHA) -> list[bool]:
    """Which hypotheses are rejected with a family-wise error of at most `level` (Holm 1979)."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    rejected = [False] * len(p_values)
    for place, i in enumerate(order):
        if p_values[i] > level / (len(p_values) - place):
            break
        rejected[i] = True
    return rejected


def correction(reports: Sequence[Report]) -> Correction:
    """Holm's correction over all that these reports test.

    A randomisation test of R rounds knows no p below 1/(1 + R). Where that is too much for a family
    of this size a number that beat every round counts as found all the same, and the others are
    corrected as if its p were known to be small enough. A true null does so with a probability of
    1/(1 + R), so the family-wise error is at most ALPHA plus the sum of these (union bound).
    """
    tests = family(reports)
    lacking = [_lacks_rounds(test, len(tests)) for test in tests]
    exempt = [lacks and test.beat_all for lacks, test in zip(lacking, tests, strict=True)]
    treated = [0.0 if best else test.p for best, test in zip(exempt, tests, strict=True)]
    rejected = zip(tests, exempt, holm(treated), strict=True)
    floors = [test.floor for test, lacks in zip(tests, lacking, strict=True) if lacks]
    return Correction(
        num_audits=len(reports),
        num_tests=len(tests),
        largest=max((test.p for test, best, holds in rejected if holds and not best), default=-1.0),
        floor=max(floors, default=0.0),
        bound=min(1.0, ALPHA + sum(floors)),
    )


def corrected(
    reports: Sequence[Report], over: Correction | None = None
) -> tuple[list[Report], str]:
    """The reports with marks that hold over a whole family, and a line that says so.

    over: of more audits than these (`correction`); None: of these.
    """
    if over is None:
        over = correction(reports)
    found = [dict(report) for report in reports]
    for test in family(reports):
        above = over.finds(test)
        if test.key == AUC:
            found[test.row]["auc_above_chance"] = above
        else:
            rate = reports[test.row][test.key]
            found[test.row][test.key] = rate | {"above_chance": above}
    return found, over.in_words(len(reports))


def _lacks_rounds(test: Tested, num_tests: int) -> bool:
    """Whether its rounds show no p that Holm's first step asks for, but one for a single test."""
    return ALPHA / num_tests < test.floor <= ALPHA


def _rounds(report: Report) -> int:
    """How many rounds there would have been, had one of its p been as small as can be.

    An audit ends early once `ENOUGH` rounds beat each of its numbers, which says nothing of how far
    it would have gone.
    """
    rounds: int = report["null_rounds"]
    every = [report["auc_p"], *(report[key]["p"] for key in report if key.startswith("tpr@"))]
    return max(rounds, ROUNDS) if min(every) * rounds > ENOUGH - 0.5 else rounds
