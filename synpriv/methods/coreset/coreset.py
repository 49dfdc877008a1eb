"""Coreset selection: a part of the private images is released as it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from synpriv.data.images import LabelledImages, StepChunks
from synpriv.methods.base import Method, Release, stream
from synpriv.methods.coreset.selection import Records, select
from synpriv.models import Network
from synpriv.signatures import require


class Coreset(Method):
    """Release the `fraction` of the private set that a selection picks from a proxy's records.

    Nothing is trained here: the proxy is a run of its own, shared by all selections (`random` needs
    none), and the student is trained on what is released. selection.py names the sources.
    """

    max_epochs = 1

    def __init__(
        self,
        *,
        private: LabelledImages,
        model: Callable[[], Network],
        selection: str,
        fraction: float,
        records: Records | None = None,
        balance: bool = True,
        never_learned: str = "first",
        el2n_epochs: Sequence[int] | None = None,
    ) -> None:
        super().__init__(private=private, model=model)
        scores = () if selection == "random" else ("selection scores",)
        self.provenance = ("real pixels", "labels", *scores)
        if records is None:
            if selection != "random":
                raise ValueError(
                    f"selection={selection}: needs a proxy; use method=coreset_{selection}"
                )
            records = Records.of_labels(private.labels)
        if len(records) != len(private) or not torch.equal(records.labels, private.labels):
            raise ValueError("the proxy's records are not about this private set; train it again")
        self.chosen = select(
            records,
            selection=selection,
            num=_size(private, fraction),
            balance=balance,
            never_learned=never_learned,
            el2n_epochs=el2n_epochs,
            generator=stream("selection"),
        )

    def train_dataloader(self) -> StepChunks:
        return StepChunks(1)

    def configure_optimizers(self) -> None:
        return None

    def training_step(self, chunk: list[int], batch_idx: int) -> None:
        """Selection is done; a Trainer wants a step all the same."""

    def release(self) -> Release:
        private = self.private.to(self.chosen.device)
        return Release(synthetic=private[self.chosen], indices=self.chosen)


def _size(private: LabelledImages, fraction: float) -> int:
    require(0 < fraction <= 1, f"fraction={fraction}", "above 0, at most 1")
    num, fewest = round(fraction * len(private)), len(private.labels.unique())
    least = f"at least {fewest / len(private):.2g}, one image per class"
    require(num >= fewest, f"fraction={fraction} of {len(private)} images", least)
    return num
