"""What a method is good for without the audit's wrong labels: the clean-canary runs of a cell.

Mislabelled canaries are noise that nobody trains with; accuracy under them says little about the
method. So where they are more than a few, some runs of the same cell with `canary.kind=clean`
measure it. They are runs like all others, of a cell of their own, and are not audited for it.
"""

from __future__ import annotations

from typing import NamedTuple

from omegaconf import DictConfig

from synpriv import config
from synpriv.data.draws import FEW_WRONG, wrong_label_share
from synpriv.data.groups import expected_images, sizes
from synpriv.results import store
from synpriv.shadow.cells import cell_of
from synpriv.shadow.pools import load_pools
from synpriv.signatures import target_of


class CleanRuns(NamedTuple):
    """The runs that measure the accuracy of a cell."""

    cfg: DictConfig
    cell: store.Cell
    seeds: list[int]

    @property
    def there(self) -> list[int]:
        """Seeds whose run is finished and intact."""
        return [seed for seed in self.seeds if self.cell.problem(seed) is None]


def clean_runs(cfg: DictConfig) -> CleanRuns | None:
    """The clean-canary runs of a cell, None where its own shadow models measure the accuracy.

    They share audit seed and seeds with the first shadow models, and so all that is random but the
    labels. At least one seed of their cell is left out: they alone are no cell to be audited.
    """
    wrong = cfg.canary.kind == "mislabelled"
    if not wrong or cfg.accuracy_models == 0 or _wrong_labels(cfg) <= FEW_WRONG:
        return None
    if not getattr(target_of(cfg.method, "method"), "can_be_made_anew", True):
        return None  # what is there was made from the private sets with wrong labels
    own = cfg.copy()
    own.canary.kind, own.seed, own.cell = "clean", 0, config.COMPUTED_NAME
    return CleanRuns(own, cell_of(own), list(range(min(cfg.accuracy_models, cfg.num_models - 1))))


def _wrong_labels(cfg: DictConfig) -> float:
    """Of the data that the shadow models saw; where there are none, of the data that are there."""
    cell = cell_of(cfg)
    for seed in cell.trained():
        if cell.problem(seed) is None:
            seen = cell.metrics(seed)["data"]
            break
    else:
        private = load_pools(cfg).private
        seen = {"num_private": len(private), "groups": sizes(private)}
    num = expected_images(cfg.canary.num_canaries, seen)
    return wrong_label_share(cfg.canary.kind, num, seen["num_private"])
