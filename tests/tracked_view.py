"""The page's data of one audit, as far as trackers read it, with names that nobody may trust."""

from __future__ import annotations

import base64
import io
from typing import Any, cast

from PIL import Image

from synpriv.report.html.shape import View

HOSTILE = "<script>alert(1)</script>|`=1+1`\x1b[31m" + "\N{SNOWMAN}" * 300


def png(grey: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (4, 4), grey).save(buffer, "PNG")
    return buffer.getvalue()


def view_of(num_canaries: int = 5) -> View:
    """Canary i has effect i, but for the first two; the last one has pictures."""
    most = num_canaries - 1
    near = {"picture": "b", "seed": 2, "distance": 0.25, "as_near": 1, "out": 4, "chance": 0.8}
    canary = {"canary": most, "place": HOSTILE, "trained_label": HOSTILE, "true_label": "cat"}
    canary |= {"effect": float(most), "found": 1.0, "accused": 0.0, "picture": "a", "nearest": near}
    numbers = range(num_canaries)
    cell: dict[str, Any] = {
        "verdict": {"kind": "leak", "words": "evidence of a leak", "sentence": HOSTILE},
        "roc": {
            **{"fpr": [0.0, 0.0, 0.0, 0.01, 0.01, 0.2, 1.0], "resolved_from": 0.1},
            "tpr": [0.0, 0.1, 0.3, 0.3, 0.5, 0.75, 1.0],
        },
        "n_out": 100,
        "most_exposed_null": 3.5,
        "canaries": [canary],
        "all_canaries": {
            **{"canary": [*numbers], "effect": [None, -1.0, *map(float, numbers[2:])]},
            "place": [HOSTILE for _ in numbers],
            **{"trained_label": ["=1+1" for _ in numbers], "true_label": ["cat" for _ in numbers]},
            **{"found": [i / num_canaries for i in numbers], "accused": [None for _ in numbers]},
        },
    }
    address = "data:image/png;base64,"
    pictures = {
        key: address + base64.b64encode(png(grey)).decode()
        for key, grey in {"a": 10, "b": 200}.items()
    }
    return cast(View, {"cells": [cell], "pictures": pictures})
