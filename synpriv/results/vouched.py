"""JSON that vouches for itself: written in one way, with a checksum of what it says.

metrics.json is the done marker of a run: what it does not vouch for is not used.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from pathlib import Path
from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict  # typing's own is too old for pydantic

EVIDENCE = "evidence.npz"
NOT_TRAINED = "not trained yet"


def read_metrics(file: Path) -> tuple[dict[str, Any] | None, str | None]:
    """What metrics.json says if its checksum agrees, else None and why."""
    if not file.is_file():
        return None, NOT_TRAINED
    try:
        content = json.loads(file.read_bytes())
        checksum = content.pop("metrics_sha256")
        _shape().validate_python(content, strict=True)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return None, f"{file} is damaged ({type(error).__name__}: {first_line(error)})"
    if json_sha256(content) != checksum:
        return None, f"{file} is damaged (checksum differs)"
    return content, None


class Basis(TypedDict):
    """Of a run that another is built on."""

    cell: str


class Metrics(TypedDict):
    """What is read of metrics.json where it need not be one of ours."""

    cell: str
    seed: int
    membership: NotRequired[Literal["paired", "balanced", "bernoulli"]]
    evidence_sha256: NotRequired[str]
    artefacts: NotRequired[dict[str, str]]
    artefact_bytes: NotRequired[dict[str, int]]
    builds_on: NotRequired[dict[str, Basis]]


@functools.cache
def _shape() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Metrics)


def owner(metrics: dict[str, Any]) -> tuple[str, int]:
    """Cell and seed of a run."""
    return metrics["cell"], metrics["seed"]


def checksums(metrics: dict[str, Any]) -> dict[str, str]:
    """Of all that a run left; one on public data alone has no evidence."""
    evidence = {EVIDENCE: metrics["evidence_sha256"]} if "evidence_sha256" in metrics else {}
    return evidence | metrics.get("artefacts", {})


def in_words(metrics: dict[str, Any]) -> str:
    """Whose run it is."""
    return f"seed {metrics['seed']} of {metrics['cell']}"


def json_sha256(content: Any) -> str:
    """Hash of what a JSON file says, whatever its layout."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def json_bytes(content: Any) -> bytes:
    """The one way to write it: a list of numbers takes one line."""
    text = json.dumps(content, indent=1, allow_nan=False)
    text = re.sub(r"\[\n[\s\d.,eE+-]*\]", lambda numbers: " ".join(numbers[0].split()), text)
    return f"{text}\n".encode()


def first_line(error: BaseException) -> str:
    """What is wrong, also of a shape that does not fit."""
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error).partition("\n")[0]
