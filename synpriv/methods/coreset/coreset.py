"""Coreset selection: a part of the private images is released as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from synpriv.data.images import LabelledImages
from synpriv.methods import flops
from synpriv.methods.base import Release, Untrained, stream
from synpriv.methods.coreset import recipe
from synpriv.methods.coreset.selection import Records, select
from synpriv.models import Network


class Coreset(Untrained):
    """Release the `fraction` of the private set that a selection picks from a proxy's records.

    Nothing is trained here: the proxy is a run of its own, shared by all selections (`random` needs
    none), and the student is trained on what is released. selection.py names the sources.
    """

    def __init__(
        self,
        *,
        private: LabelledImages,
        model: Callable[[], Network],
        records: Records | None = None,
        **options: Any,
    ) -> None:
        super().__init__(private=private, model=model)
        self.recipe = own = recipe.Coreset(**options)
        own.check_proxy(None if records is None else len(records.logits))
        scores = () if own.selection == "random" else ("selection scores",)
        self.provenance = ("real pixels", "labels", *scores)
        if records is None:
            records = Records.of_labels(private.labels)
        if len(records) != len(private) or not torch.equal(records.labels, private.labels):
            raise ValueError("the proxy's records are not about this private set; train it again")
        self.records_of_proxy, self.draw = records, stream("selection")
        self.chosen = torch.empty(0, dtype=torch.long)

    def on_fit_start(self) -> None:
        """Select where the trainer computes."""
        super().on_fit_start()
        own = self.recipe
        with flops.part("selection"):
            self.chosen = select(
                self.records_of_proxy.to(self.device),
                selection=own.selection,
                num=round(own.fraction * len(self.private)),
                balance=own.balance,
                never_learned=own.never_learned,
                el2n_epochs=own.el2n_epochs,
                generator=self.draw,
            ).cpu()

    def release(self) -> Release:
        private = self.private.to(self.chosen.device)
        return Release(synthetic=private[self.chosen], indices=self.chosen)
