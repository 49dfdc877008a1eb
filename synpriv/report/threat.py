"""Who attacks: what an attacker sees of a release and what is known already, in words."""

from __future__ import annotations

from typing import Any

Report = dict[str, Any]
_OURS = "synpriv.audit.attacks."
_SHADOWS = "knows the recipe and all private images but the canaries"
_KNOWS = {  # by the function that attacks
    "lira": _SHADOWS,
    "lira_parent": _SHADOWS,
    "threshold": "knows nothing else",
    "nearest": _SHADOWS,
}


def attacker(report: Report) -> str:
    """The attacker as the subject of a sentence."""
    return " and ".join([f"An attacker who {_does(report)}", *_knows(report)])


def in_words(report: Report) -> str:
    """The threat model as a line: what the attacker does and knows, and what is asked."""
    what = "group of canaries" if "groups" in report else "canary"
    asked = f"asks of each {what} whether it was trained on"
    return "; ".join([_does(report), *_knows(report), asked])


def _attack(report: Report) -> str | None:
    """The name of the function if it is one of ours."""
    target = str(report["attack_options"].get("_target_", ""))
    ours, _, name = target.rpartition(".")
    return name if ours.startswith(_OURS) and name in _KNOWS else None


def _does(report: Report) -> str:
    attack = _attack(report)
    if attack == "nearest":
        return "sees the released images alone"
    if attack is None:
        return f"sees what the attack {report['attack']} reads"
    if "evidence_file" in report:
        return "queries the models whose outputs were brought"
    if any(key.startswith("method.student.") for key in report["settings"]):
        return "queries the classifier that was trained on the released images"
    return "queries the released classifier"


def _knows(report: Report) -> list[str]:
    attack = _attack(report)
    return [] if attack is None else [_KNOWS[attack]]
