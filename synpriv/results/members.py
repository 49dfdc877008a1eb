"""The shape of what a report says of its members: groups of images, where canaries come from."""

from __future__ import annotations

from typing import Annotated, NotRequired

from annotated_types import Ge
from typing_extensions import TypedDict  # typing's own is too old for pydantic

Count = Annotated[int, Ge(1)]


class Groups(TypedDict):
    """Images of the canary groups."""

    images: Count
    smallest: Count
    largest: Count


class OfData(TypedDict):
    """Groups of the private set, and images in the smallest and the largest."""

    num: Count
    smallest: Count
    largest: Count


class Source(TypedDict):
    """Where the canaries come from, see `synpriv.data.chosen.source_of`."""

    of: str
    rows: list[int]
    files: NotRequired[list[str]]
    groups: NotRequired[list[str]]
    group: NotRequired[list[int]]
