"""Which numbers of a report are above what chance gives, alone or in a family of tests.

A mark says p <= 2.5%, one-sided. Of many such tests some pass by chance, so a study corrects its
marks over all that it shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from synpriv.audit.null import ALPHA

Report = dict[str, Any]
SHOWN = ("tpr@fpr=0.01", "tpr@fpr=0.001")  # the rates of a table, the headline first
AUC = "auc"
ALONE = f"each mark stands for itself (p <= {ALPHA:.1%}), not corrected for how many there are"


class Tested(NamedTuple):
    """One number of one report against chance."""

    row: int
    key: str
    p: float
    floor: float  # the smallest p that so many rounds can give


def tested(report: Report) -> list[str]:
    """Keys of the rates that count for or against a leak: resolved ones, else the headline."""
    return [key for key in SHOWN if report[key]["resolvable"]] or [SHOWN[0]]


def family(reports: Sequence[Report]) -> list[Tested]:
    """What a table of these reports tests: every AUC, and of every report its `tested` rates."""
    found = []
    for row, report in enumerate(reports):
        floor = 1 / (1 + report["null_rounds"])
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


def corrected(reports: Sequence[Report]) -> tuple[list[Report], str]:
    """The reports with marks that hold over the whole family, and a line that says so.

    A randomisation test of R rounds knows no p below 1/(1 + R). A number that beat every round
    counts as found where that is still too much for a family of this size, which the line says; the
    others are corrected as if its p were known to be small enough. One report alone is not.
    """
    if len(reports) <= 1:
        return list(reports), ALONE
    tests = family(reports)
    beaten = [test.p <= test.floor <= ALPHA for test in tests]  # no round was as large
    strictly = holm([test.p for test in tests])
    kept = holm([0.0 if best else test.p for test, best in zip(tests, beaten, strict=True)])
    beyond = "" if kept == strictly else _beyond(tests)
    found = [dict(report) for report in reports]
    for test, above in zip(tests, kept, strict=True):
        if test.key == AUC:
            found[test.row]["auc_above_chance"] = above
        else:
            rate = found[test.row][test.key]
            found[test.row][test.key] = rate | {"above_chance": above}
    return found, (
        f"marks corrected over {len(tests)} tests (Holm 1979): every AUC and every resolved rate "
        f"of the table, of a row without one the rate at 1%; one false finding or more in at most "
        f"{ALPHA:.1%} of such tables{beyond}"
    )


def _beyond(tests: Sequence[Tested]) -> str:
    """What is said where so many rounds cannot show what Holm asks for."""
    floor = max(test.floor for test in tests)
    return (
        f"; it asks for p <= {ALPHA / len(tests):.2g}, of which {round(1 / floor) - 1} rounds show "
        f"{floor:.2g}: what beat all of them counts as found"
    )
