"""Which networks a cell's numbers are about: the audited one, and those its method works with."""

from __future__ import annotations

from typing import Any

_UNSAID = {"_target_", "name"}
PARTS = ("teacher", "proxy", "embedder")


def in_words(settings: dict[str, Any]) -> str:
    """The networks of a report's flat settings, those of one architecture together.

    A teacher and a proxy have the network of `model` unless the settings name another.
    """
    roles: dict[str, list[str]] = {}
    student = _described(settings, "method.student.model.")
    own = _described(settings, "model.")
    roles.setdefault(student or own, []).append("audited network")
    for part in PARTS:
        where = f"method.{part}."
        described = _described(settings, where if part == "embedder" else f"{where}model.")
        if any(key.startswith(where) for key in settings):
            roles.setdefault(described or own, []).append(part)
    return "; ".join(f"{' and '.join(parts)}: {network}" for network, parts in roles.items())


def _described(settings: dict[str, Any], where: str) -> str:
    """Name and options of the network whose settings begin so, "" if there are none."""
    options = {k.removeprefix(where): v for k, v in settings.items() if k.startswith(where)}
    if not options:
        return ""
    said = ", ".join(f"{key} {value}" for key, value in options.items() if key not in _UNSAID)
    name = options.get("name", options.get("_target_", "unnamed"))
    return f"{name} ({said})" if said else str(name)
