"""What a hyper-parameter search is after: numbers of a report, and the bounds they must respect.

Both are written as text, `accuracy - 2*tpr@fpr=0.01` and `tpr@fpr=0.01 <= 0.05`, as a dictionary in
a yaml would be merged with its default and not replace it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from synpriv.signatures import require

VALIDATION_ACCURACY = "validation_accuracy"
_POINTS = ("tpr@fpr=0.001", "tpr@fpr=0.01", "tpr@fpr=0.1", "auc")
_ENDS = tuple(f"{name}/{end}" for name in _POINTS for end in ("low", "high"))
# Between 0 and 1, so that a penalty exists that is below all that may be reached.
RATES = ("accuracy", VALIDATION_ACCURACY, "balanced_accuracy", *_POINTS, *_ENDS)
BOUNDED = (*RATES, "epsilon_audited", "train_s")
_NAME = r"[a-z_]+(?:@fpr=[0-9.]+)?(?:/[a-z]+)?"
_NUMBER = r"[0-9]+(?:\.[0-9]*)?(?:e-?[0-9]+)?|\.[0-9]+"
_TERM = re.compile(rf"\s*([+-]?)\s*(?:({_NUMBER})\s*\*\s*)?({_NAME})\s*")
_BOUND = re.compile(rf"\s*({_NAME})\s*(<=|>=)\s*({_NUMBER})\s*")


class Bound(NamedTuple):
    """A number of the report and the value that it must not pass."""

    name: str
    at_most: bool  # else at least
    value: float

    def __str__(self) -> str:
        return f"{self.name} {'<=' if self.at_most else '>='} {self.value:g}"

    def excess(self, numbers: Mapping[str, float]) -> float:
        """How far beyond the bound a report is; zero or less where it is respected."""
        beyond = numbers[self.name] - self.value
        return beyond if self.at_most else -beyond


class Judged(NamedTuple):
    """A report as the objective sees it."""

    values: tuple[float, ...]  # of what is maximised
    excesses: dict[str, float]  # by bound; zero or less where it is respected

    @property
    def respects(self) -> bool:
        """Whether all bounds are respected."""
        return all(excess <= 0 for excess in self.excesses.values())


@dataclass(frozen=True)
class Objective:
    """Weighted sums to be maximised, several for a Pareto front, subject to bounds."""

    sums: tuple[dict[str, float], ...]  # weight by name
    bounds: tuple[Bound, ...]

    @property
    def names(self) -> list[str]:
        """The numbers that it reads, each once."""
        summed = [name for terms in self.sums for name in terms]
        return list(dict.fromkeys([*summed, *(bound.name for bound in self.bounds)]))

    def judge(self, numbers: Mapping[str, float]) -> Judged:
        """Values and excesses of a flat report."""
        lacking = [name for name in self.names if name not in numbers]
        require(not lacking, f"objective: {', '.join(lacking)}", "numbers that the report has")
        values = [sum(w * numbers[name] for name, w in terms.items()) for terms in self.sums]
        return Judged(tuple(values), {str(b): b.excess(numbers) for b in self.bounds})

    def scores(self, numbers: Mapping[str, float]) -> tuple[float, ...]:
        """One number per sum, to be maximised by a search that knows no bounds.

        A report that respects all bounds has the sums themselves. Any other is below whatever they
        can be, the lower the more it exceeds (Deb, "An efficient constraint handling method for
        genetic algorithms", 2000): minus the weights' absolute sum, minus all excesses.
        """
        judged = self.judge(numbers)
        if judged.respects:
            return judged.values
        over = sum(max(0.0, excess) for excess in judged.excesses.values())
        return tuple(-sum(map(abs, terms.values())) - over for terms in self.sums)


@functools.cache
def parse(maximise: str, subject_to: str | None) -> Objective:
    """The objective that the options `objective.maximise` and `objective.subject_to` describe.

    ValueError, naming the option, for what cannot be read or is a number of no report.
    """
    sums = tuple(_sum(text) for text in maximise.split(","))
    bounds = () if subject_to is None else tuple(_bound(text) for text in subject_to.split(","))
    return Objective(sums, bounds)


def _sum(text: str) -> dict[str, float]:
    option, terms, place = f"objective.maximise={text.strip()}", dict[str, float](), 0
    right = "numbers with factors, as 'accuracy - 2*tpr@fpr=0.01'; commas between several"
    while place < len(text) or not terms:
        match = _TERM.match(text, place)
        require(match is not None and bool(match[1] or not terms), option, right)
        assert match is not None
        sign, factor, name = match.groups()
        require(name in RATES, f"{option}: {name}", f"one of {', '.join(RATES)}")
        require(name not in terms, f"{option}: {name} twice", "named once")
        terms[name] = float(factor or 1) * (-1 if sign == "-" else 1)
        place = match.end()
    return terms


def _bound(text: str) -> Bound:
    option, match = f"objective.subject_to={text.strip()}", _BOUND.fullmatch(text)
    right = "a number and its bound, as 'tpr@fpr=0.01 <= 0.05'; commas between several; or null"
    require(match is not None, option, right)
    assert match is not None
    name, sign, value = match.groups()
    require(name in BOUNDED, f"{option}: {name}", f"one of {', '.join(BOUNDED)}")
    return Bound(name, sign == "<=", float(value))
