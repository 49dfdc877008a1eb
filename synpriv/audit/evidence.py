"""What an attack may use: the canary logits of all shadow models and who was a member."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from synpriv.audit.scores import SCORES, Floats

DESIGNS = ("paired", "balanced", "bernoulli")
T = TypeVar("T")
LABELS = ("trained_label", "true_label")
_BLOCK = 1 << 22  # logits turned into float64 at once


@dataclass(frozen=True)
class Evidence:
    """A whole cell: C canaries, S shadow models, Q query views, K classes.

    Of models trained elsewhere there may be `given` scores in place of logits; they then stand for
    every score.
    """

    logits: NDArray[np.float32] | None  # [C,S,Q,K]
    member: NDArray[np.bool_]  # [C,S]
    labels: NDArray[np.int64]  # [C] the label the canary is trained on
    true_labels: NDArray[np.int64]  # [C]
    nearest: NDArray[np.float32] | None = None  # [C,S] distance to the nearest synthetic image
    design: str = "balanced"  # how `member` was drawn, one of DESIGNS
    seeds: NDArray[np.int64] | None = None  # [S] of the columns, 0..S-1 if it is not given
    groups: NDArray[np.int64] | None = None  # [C] 0..G-1: canary images that are IN or OUT together
    given: NDArray[np.floating] | None = None  # [C,S,Q] scores, larger = more member-like
    _kept: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        assert (self.logits is None) != (self.given is None)
        num_canaries, num_models = self.member.shape
        assert self._outputs.shape[:2] == (num_canaries, num_models)
        num_classes = 1 if self.logits is None else self.logits.shape[3]
        assert self.member.dtype == bool
        assert self.nearest is None or self.nearest.shape == self.member.shape
        for labels in (self.labels, self.true_labels):
            assert labels.shape == (num_canaries,)
            assert labels.min() >= 0
            assert labels.max() < num_classes
        if self.groups is not None:
            assert self.groups.shape == (num_canaries,)
            assert np.array_equal(np.unique(self.groups), np.arange(self.groups.max() + 1))
            if not np.array_equal(self.bits[self.groups], self.member):
                raise ValueError("images of one group are IN and OUT: it is a member as a whole")
        assert self.design in DESIGNS
        assert self.seeds is None or self.seeds.shape == (num_models,)
        if self.design == "paired":
            first, second = self.partners
            if not (self.member[:, first] != self.member[:, second]).all():
                raise ValueError("paired models hold a canary both or neither: no paired design")

    @property
    def bits(self) -> NDArray[np.bool_]:
        """Who is a member, where one coin decides: `member` of each group [G,S], else of images."""
        if self.groups is None:
            return self.member
        return self.member[np.unique(self.groups, return_index=True)[1]]

    @property
    def _outputs(self) -> NDArray[np.floating]:
        """What the models said: logits or scores, [C,S,Q,...]."""
        found = self.given if self.logits is None else self.logits
        assert found is not None
        return found

    @property
    def num_views(self) -> int:
        """Q."""
        return self._outputs.shape[2]

    @property
    def pair(self) -> NDArray[np.int64]:
        """The pair of each model, int [S]: models 2p and 2p + 1 are pair p."""
        seeds = np.arange(self.member.shape[1]) if self.seeds is None else self.seeds
        return seeds // 2

    @property
    def partners(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Columns of the first and of the second model of each whole pair, int [P] each."""
        return self.kept("partners", self._partners)

    def _partners(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        order = np.argsort(self.pair, kind="stable")
        whole = np.flatnonzero(self.pair[order][1:] == self.pair[order][:-1])
        return order[whole], order[whole + 1]

    def scores(self, name: str, label: str = "trained_label") -> Floats:
        """Scores `name` of the `trained_label` or the `true_label`: float64 [C,S,Q], not to modify.

        Computed once. In memory they lie as [Q,S,C], as leave-one-out goes through them.
        """
        return self.kept(f"{name} {label}", lambda: self._scores_of(name, label))

    def kinds(self, names: Sequence[str], labels: Sequence[str]) -> list[tuple[str, ...]]:
        """Arguments of `scores` that give different ones, of these names and labels."""
        if self.logits is None:
            return [("given",)]
        if np.array_equal(self.labels, self.true_labels):
            labels = ("trained_label",)  # they are the true ones
        return list(product(names, labels))

    def _scores_of(self, name: str, label: str) -> Floats:
        labels = {"trained_label": self.labels, "true_label": self.true_labels}[label]
        num_canaries, num_models = self.member.shape
        found = np.empty((self.num_views, num_models, num_canaries)).T
        step = max(1, _BLOCK // self._outputs[0].size)
        for i in range(0, num_canaries, step):
            block = slice(i, i + step)
            if self.logits is None:
                found[block] = self._outputs[block]
            else:
                found[block] = SCORES[name](self.logits[block], labels[block])
        found.flags.writeable = False
        return found

    def kept(self, key: str, make: Callable[[], T]) -> T:
        """What `make` computes from all but the membership bits, once for all `with_member`."""
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def of_models(self, columns: NDArray[np.int64]) -> Evidence:
        """What these models alone show."""

        def some(values: NDArray | None) -> NDArray | None:
            return None if values is None else values[:, columns]

        return replace(
            self,
            logits=some(self.logits),
            member=self.member[:, columns],
            nearest=some(self.nearest),
            seeds=columns if self.seeds is None else self.seeds[columns],
            given=some(self.given),
        )

    def with_member(self, bits: NDArray[np.bool_]) -> Evidence:
        """The same logits, whose scores need not be computed again, with other `bits` [G,S]."""
        twin = replace(self, member=bits if self.groups is None else bits[self.groups])
        object.__setattr__(twin, "_kept", self._kept)
        return twin
