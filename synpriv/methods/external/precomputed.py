"""Sets that somebody else's pipeline made from exported private sets: a student learns each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from synpriv.data import sets
from synpriv.data.images import LabelledImages
from synpriv.data.returned import Wanted
from synpriv.methods.base import Release, Untrained
from synpriv.methods.external import recipe
from synpriv.methods.external.release import synthetic_set
from synpriv.models import Network


class Precomputed(Untrained):
    """Release the set that lies there for this shadow model.

    That it was made from this shadow model's private set is checked before (`Precomputed.check` of
    the recipe), by what the set or the manifest of the export says.
    """

    def __init__(
        self,
        *,
        model: Callable[[], Network],
        num_classes: int,
        image_shape: tuple[int, int, int],
        class_names: tuple[str, ...],
        seed: int,
        **options: Any,
    ) -> None:
        super().__init__(private=None, model=model)
        self.recipe = own = recipe.Precomputed(**options)
        self.provenance = own.channels
        sets.check_unchanged(own.path, own.num_models, own.sha256)
        file = sets.place(own.path, seed)
        self.says_itself = sets.own_claim(file) is not None
        images, labels = sets.read(own.path, seed, Wanted(image_shape, num_classes), class_names)
        self.made: LabelledImages = synthetic_set(
            images, labels, num_classes=num_classes, where=str(file)
        )

    def release(self) -> Release:
        return Release(synthetic=self.made)

    def metrics(self) -> dict[str, Any]:
        """Whether the set itself says which private set it was made from, or the manifest alone."""
        return {"set": {"says_itself": self.says_itself, "sha256": self.recipe.sha256}}
