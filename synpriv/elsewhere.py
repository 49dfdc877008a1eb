"""Audits of models trained elsewhere: their logits or scores, to the report that a cell has.

`audit_models` takes arrays; `python -m synpriv.audit` a file of them.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from synpriv import __version__, audits, hardware
from synpriv.audit import audit
from synpriv.audit.evidence import Evidence
from synpriv.fingerprint import audit_sha256
from synpriv.report import inert, marks, page
from synpriv.results import brought, reports, store, vouched
from synpriv.results.reports import Report
from synpriv.results.shape import Heading
from synpriv.signatures import check_arguments, require, target_of

ATTACKS = {target.rpartition(".")[2]: target for target in sorted(audits.OURS)}
UNKNOWN = "-"


def audit_models(
    member: ArrayLike,
    *,
    logits: ArrayLike | None = None,
    scores: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    true_labels: ArrayLike | None = None,
    nearest: ArrayLike | None = None,
    design: str | None = None,
    attack: str = "lira",
    options: Mapping[str, Any] | None = None,
    delta: float = 0.0,
    name: str = "models",
    out: str | Path | None = None,
) -> Report:
    """Audit C canaries in S models that were trained anywhere: the report that a cell has.

    The arrays are those of `results.brought.of_arrays`: member [C,S] with logits [C,S,Q,K] and
    labels [C], or with scores [C,S] or [C,S,Q], larger = more member-like. Every model is the
    target once and is compared with all others. attack: one of `ATTACKS`, `options` its own; delta:
    at which epsilon is read. out: a folder for the files of `write`. ValueError, in one line, for
    what cannot be audited.
    """
    evidence = brought.of_arrays(
        member,
        logits=logits,
        scores=scores,
        labels=labels,
        true_labels=true_labels,
        nearest=nearest,
        design=design,
    )
    place = None if out is None else Path(out)
    return of_evidence(
        evidence, attack=attack, options=options, delta=delta, name=name, source=name, out=place
    )


def of_evidence(
    evidence: Evidence,
    *,
    attack: str,
    name: str,
    source: str,
    options: Mapping[str, Any] | None = None,
    delta: float = 0.0,
    canaries: Sequence[str] | None = None,
    out: Path | None = None,
) -> Report:
    """The report of checked evidence, written below `out` unless that is None.

    name: what tables call the models; source: the file that they came from; canaries: their names.
    A report in `out` that was made of the same evidence in the same way is not made again.
    """
    require(0 <= delta < 1, f"delta={delta}", "0 or more and below 1")
    given = _options(attack, options or {})
    cell = name if out is None else inert.file_name(out.absolute().name)
    sha256 = brought.digest(evidence)
    made_of = {"attack": given, "code": audit_sha256(given["_target_"]), "delta": delta}
    made_of |= {"evidence": sha256, "version": __version__, "canaries": canaries}
    heading = _heading(evidence, given, cell=cell, name=name, source=source)
    inputs = vouched.json_sha256(made_of | {"heading": heading})
    file = None if out is None else out / f"{attack}.json"
    if file and (there := reports.read(file)) and there["inputs_sha256"] == inputs:
        return there
    statistics, statistic = audit.audit(
        _call(given), evidence, delta=delta, workers=hardware.usable_cores()
    )
    report = {
        **heading,
        **_about(evidence, sha256),
        **({} if canaries is None else {"canary_names": list(canaries)}),
        **statistics,
        "inputs_sha256": inputs,
    }
    if file is None:
        return report
    saved = audits.save(file, report, statistic, evidence.member)
    written = page.markdown([saved], family=marks.ALONE, pictures=[f"{attack}.png"])
    store.write_bytes(file.with_name("table.md"), written.encode())
    return saved


def _options(attack: str, own: Mapping[str, Any]) -> dict[str, Any]:
    """All options of an attack by name, its defaults among them, as a cell's report has them."""
    require(attack in ATTACKS, f"attack={attack}", f"one of {', '.join(ATTACKS)}")
    node = {"_target_": ATTACKS[attack], "name": attack}
    parameters = inspect.signature(target_of(node, "attack")).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    every = {key: _listed(value) for key, value in (defaults | dict(own)).items()}
    check_arguments({"_target_": ATTACKS[attack], **every}, "attack")
    return node | every


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _call(options: Mapping[str, Any]) -> audit.Attack:
    own = {key: value for key, value in options.items() if key not in ("_target_", "name")}
    return functools.partial(target_of(options, "attack"), **own)


def _heading(
    evidence: Evidence, attack: dict[str, Any], *, cell: str, name: str, source: str
) -> Heading:
    mislabelled = bool((evidence.labels != evidence.true_labels).any())
    known = "mislabelled" if mislabelled else "clean"
    num_models = evidence.member.shape[1]
    return {
        "cell": cell,
        "method": name,
        "dataset": UNKNOWN,
        "canary": UNKNOWN if evidence.logits is None else known,
        "membership": evidence.design,
        "attack": attack["name"],
        "attack_options": attack,
        "tuning": {"num_trials": 1, "distribution": "fixed"},
        "settings": {},
        "seeds": list(range(num_models)),
        "accuracy_cell": None,
        "accuracy_seeds": [],
        "num_planned": num_models,
        "evidence_file": source,
    }


def _about(evidence: Evidence, sha256: str) -> dict[str, Any]:
    """What stands in the place of accuracy, cost and data, which nobody told."""
    num_canaries, num_models = evidence.member.shape
    what = "scores" if evidence.logits is None else "logits"
    words = f"{what} of {num_canaries:,} canaries by {num_models} models trained elsewhere"
    return {
        "partial": False,
        "test_accuracy": None,
        "accuracy": None,
        "train_s": None,
        "provenance": ["unknown"],
        "data": {"in_words": words, "sha256": sha256, "num_private": None, "warnings": []},
        "canaries_sha256": vouched.json_sha256([evidence.labels.tolist(), num_canaries]),
    }
