"""The canaries of an audit: how exposed each is, in how many models it is found, its pictures."""

from __future__ import annotations

import base64
import hashlib
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synpriv.audit.metrics import effect_size
from synpriv.report import members
from synpriv.report.audited import Audited
from synpriv.report.html.shape import AllCanaries, Canary, Heat, Nearest
from synpriv.report.pairs import Shown

COLUMNS = 60  # canaries in a heat map
_AT = "tpr@fpr=0.01"  # whose threshold accuses
_SIDE = 64  # pixels of a picture, at most
MOST_BYTES = 1_500_000  # of all pictures of a page, as base64
_UNKNOWN = "unknown"
_NOT_ASKED = "pictures are left out of this page"
_NO_ROOM = "no room on this page for more pictures"
Shares = list[float | None]


class Album:
    """Pictures of the page, each once, by the hash of its pixels; so many that it stays small."""

    def __init__(self, num_cells: int, *, most: int = MOST_BYTES) -> None:
        self.pictures: dict[str, str] = {}
        self.left_out = 0
        self._share, self._allowed, self._used = most / max(num_cells, 1), 0.0, 0

    def next_cell(self) -> None:
        """Each audit has its share of the room, and what those before it have left."""
        self._allowed += self._share

    def add(self, image: NDArray[np.uint8]) -> str | None:
        """The key of an image uint8 [ch,H,W], larger ones made smaller; None without room."""
        pixels = np.ascontiguousarray(np.moveaxis(image, 0, -1))
        key = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()[:12]
        if key in self.pictures:
            return key
        content = _png(pixels)
        if self._used + len(content) > self._allowed:
            self.left_out += 1
            return None
        self._used += len(content)
        self.pictures[key] = f"data:image/png;base64,{content}"
        return key


def _png(pixels: NDArray[np.uint8]) -> str:
    from PIL import Image

    grey_or_colour = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    picture = Image.fromarray(grey_or_colour)
    picture.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def everyone(cell: Audited) -> AllCanaries:
    """All canaries of an audit in their order."""
    num = len(cell.statistic)
    trained, true = _labels(cell, num)
    found, accused = shares(cell)
    return {
        "canary": list(range(num)),
        "place": [_place(cell.report, canary) for canary in range(num)],
        "trained_label": trained,
        "true_label": true,
        "effect": effects(cell),
        "found": found,
        "accused": accused,
    }


def effects(cell: Audited) -> Shares:
    """Effect size of each canary in sd, None where there are too few models for one."""
    values = effect_size(cell.statistic, cell.member)
    return [round(float(value), 4) if np.isfinite(value) else None for value in values]


def shares(cell: Audited) -> tuple[Shares, Shares]:
    """Of the models with, and without, each canary the share in which it is accused.

    At the threshold of an FPR of 1%. A statistic that is not finite accuses nobody and is not
    counted; None where none is left.
    """
    threshold = cell.report[_AT]["threshold"]
    accused = cell.statistic >= (np.inf if threshold is None else threshold)
    usable = np.isfinite(cell.statistic)
    return _shares(accused, usable & cell.member), _shares(accused, usable & ~cell.member)


def _shares(accused: NDArray[np.bool_], side: NDArray[np.bool_]) -> Shares:
    counts, hits = side.sum(axis=1), (accused & side).sum(axis=1)
    return [round(int(hit) / int(n), 4) if n else None for hit, n in zip(hits, counts, strict=True)]


def most_exposed(cell: Audited, every: AllCanaries, album: Album, *, num: int) -> list[Canary]:
    """The canaries of largest effect, with their pictures if there are any."""
    first = sorted(
        (canary for canary, effect in enumerate(every["effect"]) if effect is not None),
        key=lambda canary: -(every["effect"][canary] or 0.0),
    )
    found: list[Canary] = []
    for canary in first[:num]:
        effect = every["effect"][canary]
        assert effect is not None
        picture, no_picture = _picture(cell, canary, album)
        nearest, no_nearest = _nearest(cell, canary, album)
        found.append(
            {
                "canary": canary,
                "place": every["place"][canary],
                "trained_label": every["trained_label"][canary],
                "true_label": every["true_label"][canary],
                "effect": effect,
                "found": every["found"][canary],
                "accused": every["accused"][canary],
                "picture": picture,
                "no_picture": no_picture,
                "nearest": nearest,
                "no_nearest": no_nearest,
            }
        )
    return found


def _images_of(cell: Audited, canary: int) -> list[int]:
    """The image of a canary, or the images of a group."""
    if cell.canaries is None or cell.canaries.groups is None:
        return [canary]
    return np.flatnonzero(cell.canaries.groups == canary).tolist()


def _picture(cell: Audited, canary: int, album: Album) -> tuple[str | None, str | None]:
    """Of a group its first image, without images of the cell that of a pair; or why there is none.

    The key in the album, or None and why.
    """
    first = _images_of(cell, canary)[0]
    if cell.canaries is not None and cell.canaries.images is not None:
        key = album.add(cell.canaries.images[first])
    elif (pair := cell.nearest.get(first)) is not None:
        key = album.add(pair.pair["images"])
    else:
        return None, "its image was not kept" if cell.pictures else _NOT_ASKED
    return key, _NO_ROOM if key is None else None


def _nearest(cell: Audited, canary: int, album: Album) -> tuple[Nearest | None, str | None]:
    """The closest pair of a canary, or of the images of a group; or why there is none."""
    every = (cell.nearest.get(image) for image in _images_of(cell, canary))
    there: list[Shown] = [pair for pair in every if pair is not None]
    if not there:
        return None, _why_no_pair(cell)
    best = min(there, key=lambda s: (s.rank.as_near / s.rank.out, float(s.pair["distance"])))
    picture = album.add(best.pair["synthetic"])
    if picture is None:
        return None, _NO_ROOM
    with_it = int(cell.member[canary].sum())
    return {
        "picture": picture,
        "seed": best.seed,
        "distance": round(float(best.pair["distance"]), 4),
        "as_near": best.rank.as_near,
        "out": best.rank.out,
        "chance": round(as_few_by_chance(best.rank.as_near, best.rank.out, with_it), 4),
    }, None


def _why_no_pair(cell: Audited) -> str:
    if "nearness" not in cell.report:
        return "no released images to compare"
    if "evidence_file" in cell.report:
        return "of models trained elsewhere there are distances alone"
    if not cell.pictures:
        return _NOT_ASKED
    if not cell.nearest:
        return "the pairs of its models are lost or were not kept"
    return "not among the nearest pairs that its models kept"


def as_few_by_chance(as_near: int, out: int, with_it: int) -> float:
    """Chance that of `out` models without a canary at most `as_near` come as near as the best.

    The best is the nearest of `with_it` models with the canary. Where nothing is learnt of it all
    orders of their distances are as likely: more are as near only if the nearest `as_near` + 1 of
    all are without it.
    """
    return 1 - math.comb(out, as_near + 1) / math.comb(out + with_it, as_near + 1)


def _place(report: dict[str, Any], canary: int) -> str | None:
    if "canary_names" in report:
        return str(report["canary_names"][canary])
    source = report.get("canary_source")
    return None if source is None else members.place(source, canary)


def _labels(cell: Audited, num: int) -> tuple[list[str], list[str]]:
    """Trained and true label of each canary, of a group the first three that differ."""
    if cell.canaries is None:
        return [_UNKNOWN] * num, [_UNKNOWN] * num
    names = cell.report["data"].get("class_names")
    images = [_images_of(cell, canary) for canary in range(num)]
    sides = (cell.canaries.labels, cell.canaries.true_labels)
    trained, true = ([_named(side[some], names) for some in images] for side in sides)
    return trained, true


def _named(labels: NDArray[np.int64], names: Sequence[str] | None) -> str:
    words = dict.fromkeys(str(label) if names is None else names[label] for label in labels)
    some = list(words)[:3]
    return ", ".join(some) + ", ..." * (len(words) > len(some))


def heat_maps(cells: Sequence[Audited], names: Sequence[str]) -> list[Heat]:
    """One map for each set of canaries that two or more audits share, most exposed first."""
    groups: dict[tuple[str, int], list[int]] = {}
    for place, cell in enumerate(cells):
        key = cell.report["canaries_sha256"], len(cell.statistic)
        groups.setdefault(key, []).append(place)
    return [_heat(cells, names, group) for group in groups.values() if len(group) > 1]


def _heat(cells: Sequence[Audited], names: Sequence[str], group: Sequence[int]) -> Heat:
    """Effects [rows, C]; a canary is as exposed as the audit shows that exposes it most."""
    every = [effects(cells[place]) for place in group]
    known = np.array([[np.nan if e is None else e for e in row] for row in every])
    largest = np.where(np.isnan(known), -np.inf, known).max(axis=0)
    columns = np.argsort(-largest, kind="stable")[:COLUMNS].tolist()
    report = cells[group[0]].report
    shown = f"{len(columns)} most exposed of " if len(columns) < len(largest) else ""
    return {
        "title": f"{shown}{members.canaries(report)}, {report['dataset']}",
        "rows": [names[place] for place in group],
        "columns": columns,
        "values": [[row[column] for column in columns] for row in every],
        "chance": [cells[place].report.get("most_exposed_null") for place in group],
    }
