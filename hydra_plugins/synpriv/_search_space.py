"""What a hyper-parameter search chooses among, as Hydra's grammar writes it down. No optuna."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from hydra.core.override_parser.types import (
    ChoiceSweep,
    IntervalSweep,
    Override,
    RangeSweep,
)

from synpriv.signatures import require

# What trials may differ in. A search over the audit or the data would choose the weaker one.
_SEARCHED = ("method", "model", "scale", "public", "trainer")
_TAGS = ({"log"}, set[str]())


class Choices(NamedTuple):
    """One of a list, in no order; each as it is typed in an override."""

    texts: tuple[str, ...]

    @property
    def probes(self) -> tuple[str, ...]:
        """Values that must be fit to be tried before a search begins."""
        return self.texts


class Numbers(NamedTuple):
    """All numbers between two, both included, or every `step`-th of them."""

    low: float
    high: float
    step: float | None = None
    log: bool = False
    integer: bool = False

    @property
    def probes(self) -> tuple[str, ...]:
        return repr(self.low), repr(self.high)


Parameter = Choices | Numbers


class Space(NamedTuple):
    """A command line, divided into what is searched and what is not."""

    parameters: dict[str, Parameter]  # by key, in the order in which they were given
    fixed: list[str]  # all other overrides, a sweep over seeds included

    def trial(self, values: Mapping[str, Any]) -> list[str]:
        """The overrides of one trial, for all its seeds."""
        return [*self.fixed, *(f"{key}={value}" for key, value in values.items())]

    def probes(self) -> Iterator[list[str]]:
        """Overrides that try every option and both ends of every interval, one at a time."""
        first = {key: parameter.probes[0] for key, parameter in self.parameters.items()}
        yield self.trial(first)
        for key, parameter in self.parameters.items():
            for other in parameter.probes[1:]:
                yield self.trial({**first, key: other})


def space_of(overrides: Sequence[Override]) -> Space:
    """Every sweep but that over seeds is searched; ValueError for what cannot be."""
    parameters: dict[str, Parameter] = {}
    fixed: list[str] = []
    for override in overrides:
        word, key = str(override.input_line), override.get_key_element()
        if key == "seed" or not override.is_sweep_override():
            fixed.append(word)
            continue
        group = key.lstrip("+").partition(".")[0].partition("@")[0]
        plain = key.lstrip("+")
        right = f"fixed: a search is over {', '.join(_SEARCHED)}"
        require(group in _SEARCHED or plain.startswith("dataset@public"), word, right)
        parameters[key] = _parameter(override, word)
    right = "a key to choose, as method.lr=interval(0.01,0.3), method.lr=0.01,0.1 or range(1,5)"
    require(bool(parameters), "hydra/sweeper=optuna without a search space", right)
    return Space(parameters, fixed)


def _parameter(override: Override, word: str) -> Parameter:
    value = override.value()
    if isinstance(value, IntervalSweep):
        return _interval(value, word)
    sweeps = isinstance(value, ChoiceSweep | RangeSweep)
    require(sweeps, word, "options as a,b, an interval(a,b) or a range(a,b)")
    assert isinstance(value, ChoiceSweep | RangeSweep)
    require(not value.tags, word, "without a tag, which is for intervals")
    if isinstance(value, RangeSweep):
        values = [float(text) for text in override.sweep_string_iterator()]
        require(len(values) > 1, f"{word}: {len(values)} values", "two or more")
        whole = all(number.is_integer() for number in values) and isinstance(value.start, int)
        step = abs(float(value.step))
        ends = min(values), max(values)
        if whole:
            return Numbers(int(ends[0]), int(ends[1]), int(step), integer=True)
        return Numbers(*ends, step)
    texts = tuple(override.sweep_string_iterator())
    require(len(set(texts)) == len(texts) > 1, word, "two or more options, each given once")
    return Choices(texts)


def _interval(value: IntervalSweep, word: str) -> Numbers:
    low, high = value.start, value.end
    assert low is not None
    assert high is not None
    require(low < high, f"{word}: an empty interval", "the smaller end, then the larger one")
    require(value.tags in _TAGS, f"{word}: {', '.join(sorted(value.tags))}", "the tag log, or none")
    log = "log" in value.tags
    require(low > 0 or not log, f"{word}: the logarithm of {low:g}", "of positive ends")
    integer = isinstance(low, int) and isinstance(high, int)
    return Numbers(low, high, log=log, integer=integer)
