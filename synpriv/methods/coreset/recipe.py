"""The recipe of coresets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from synpriv.recipe import Facts, Recipe
from synpriv.signatures import require

SELECTIONS = ("random", "herding", "k_center", "el2n", "forgetting")
BY_FEATURES = ("herding", "k_center")  # the others look at logits
# The forgetting events of a sample that is wrong in every record.
NEVER_LEARNED: dict[str, float] = {"first": math.inf, "never": 0.0}


@dataclass(frozen=True, kw_only=True)
class Coreset(Recipe):
    """Options of `methods.coreset.coreset.Coreset`, explained at `selection.select`."""

    makes = "synpriv.methods.coreset.coreset.Coreset"
    parts = ("proxy", "student")

    selection: str
    fraction: float
    balance: bool = True
    never_learned: str = "first"
    el2n_epochs: Sequence[int] | None = None

    def __post_init__(self) -> None:
        known, selection = f"one of {', '.join(SELECTIONS)}", self.selection
        require(selection in SELECTIONS, f"selection={selection}", known)
        require(0 < self.fraction <= 1, f"fraction={self.fraction}", "above 0, at most 1")
        there = self.never_learned in NEVER_LEARNED
        require(there, f"never_learned={self.never_learned}", " or ".join(NEVER_LEARNED))
        epochs = self.el2n_epochs
        counted = epochs is None or (len(epochs) > 0 and min(epochs) >= 1)
        require(counted, f"el2n_epochs={epochs}", "epochs of the proxy, from 1, or null")

    def needs(self) -> dict[str, tuple[str, ...]]:
        return {"proxy": ("features",)} if self.selection in BY_FEATURES else {}

    def check(self, facts: Facts) -> None:
        self.check_proxy(facts.proxy_epochs)
        num, fewest = facts.num_train, facts.num_classes
        least = f"at least {fewest / num:.2g}, one image per class"
        enough = round(self.fraction * num) >= fewest
        require(enough, f"fraction={self.fraction} of {num} images", least)

    def check_proxy(self, num_epochs: int | None) -> None:
        """Raise where the selection needs a proxy, or more epochs of it than there are."""
        if num_epochs is None:
            if self.selection != "random":
                better = f"use method=coreset_{self.selection}"
                raise ValueError(f"selection={self.selection}: needs a proxy; {better}")
        elif self.el2n_epochs is not None:
            there = max(self.el2n_epochs) <= num_epochs
            require(there, f"el2n_epochs={self.el2n_epochs}", f"epochs among 1..{num_epochs}")
