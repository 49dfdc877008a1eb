"""Audits of models trained elsewhere: their logits or scores, to the report that a cell has.

`audit_models` takes arrays; `python -m synpriv.audit` a file of them.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from synpriv import __version__, audits, hardware
from synpriv.audit import audit
from synpriv.audit.evidence import Evidence
from synpriv.audit.scores import Floats
from synpriv.fingerprint import audit_sha256
from synpriv.report import inert, marks, page
from synpriv.results import brought, locks, reports, store, vouched
from synpriv.results.brought import Brought
from synpriv.results.reports import Report
from synpriv.results.shape import Heading
from synpriv.signatures import check_arguments, no_such_option, require, target_of

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
    groups: ArrayLike | None = None,
    design: str | None = None,
    attack: str = "lira",
    options: Mapping[str, Any] | None = None,
    delta: float = 0.0,
    name: str = "models",
    out: str | Path | None = None,
) -> Report:
    """Audit C canaries in S models that were trained anywhere: the report that a cell has.

    The arrays are those of `results.brought.of_arrays`: member [C,S] with logits [C,S,Q,K] and
    labels [C], or with scores [C,S] or [C,S,Q], larger = more member-like; groups [C] where several
    canaries are of one person. Every model is the target once and is compared with all others.
    attack: one of `ATTACKS`, `options` its own; delta: at which epsilon is read. out: a folder for
    the report, its arrays, picture and page. ValueError, in one line, for what cannot be audited.
    """
    place = None if out is None else Path(out)
    require_place(place)
    found = brought.of_arrays(
        member,
        logits=logits,
        scores=scores,
        labels=labels,
        true_labels=true_labels,
        nearest=nearest,
        groups=groups,
        design=design,
    )
    return of_evidence(
        found, attack=attack, options=options, delta=delta, name=name, source=name, out=place
    )


def require_place(out: Path | None) -> None:
    """ValueError, before any work, for an `out` that can be no folder to write to."""
    if out is None:
        return
    store.require_folder(out, f"out={out}")
    own = not (out / "cell.yaml").exists()
    require(own, f"out={out} is a cell of a sweep", "another folder")


def of_evidence(
    found: Brought,
    *,
    attack: str,
    name: str,
    source: str,
    options: Mapping[str, Any] | None = None,
    delta: float = 0.0,
    out: Path | None = None,
    show: Callable[[Report], object] | None = None,
) -> Report:
    """The report of checked evidence, written below `out` unless that is None.

    name: what tables call the models; source: the file that they came from; show: what is done with
    the report before it is written. A report in `out` that was made of the same evidence in the
    same way is not made again; ValueError if one of other evidence is there.
    """
    require(0 <= delta < 1, f"delta={delta}", "0 or more and below 1")
    given, sha256 = _options(attack, options or {}), brought.digest(found.evidence)
    cell = name if out is None else inert.file_name(out.absolute().name)
    heading = _heading(found.evidence, given, cell=cell, name=name, source=source)
    made_of = {"attack": given, "code": audit_sha256(given["_target_"]), "delta": delta}
    made_of |= {"evidence": sha256, "version": __version__, "canaries": found.names}
    made_of |= {"heading": heading, "notes": found.notes}
    about = {**heading, **_about(found, sha256), "inputs_sha256": vouched.json_sha256(made_of)}
    if out is None:
        report, _ = _made(found, about, delta)
        if show is not None:
            show(report)
        return report
    _refuse_others(out, sha256, source)
    file = out / f"{attack}.json"
    there, statistic = reports.read(file), None
    if there is None or there["inputs_sha256"] != about["inputs_sha256"]:
        there, statistic = _made(found, about, delta)
    if show is not None:
        show(there)
    with locks.held(out, f"the audits in {out}"):
        _refuse_others(out, sha256, source)  # nobody else's came in between
        return _write(file, there, statistic, found.evidence)


def _made(found: Brought, about: Mapping[str, Any], delta: float) -> tuple[Report, Floats]:
    """The report, and the statistic that it is of."""
    call, workers = _call(about["attack_options"]), hardware.usable_cores()
    statistics, statistic = audit.audit(call, found.evidence, delta=delta, workers=workers)
    warnings = [*found.notes, *statistics["warnings"]]
    return {**about, **statistics, "warnings": warnings}, statistic


def _write(file: Path, report: Report, statistic: Floats | None, evidence: Evidence) -> Report:
    """Its page in any case, and the report with its files unless these are there (None)."""
    marked, family = marks.corrected([report])
    written = page.markdown(marked, family=family, pictures=[f"{file.stem}.png"])
    if statistic is not None:
        report = audits.save(file, report, statistic, evidence.bits)
    store.write_bytes(file.with_suffix(".md"), written.encode())
    return report


def _refuse_others(out: Path, sha256: str, source: str) -> None:
    """ValueError if reports of a cell or of other evidence are in a folder, which would be lost."""
    for file in sorted(out / f"{attack}.json" for attack in ATTACKS):
        if not file.exists():
            continue
        report, heading = reports.read(file), reports.heading_of(file)
        if report is None:  # damaged, or of an earlier version: made again from the same file
            same = heading is not None and heading.get("evidence_file") == source
        else:
            same = "evidence_file" in report and report["data"]["sha256"] == sha256
        require(same, f"out={out}: {file.name} there is of other evidence", "another folder")


def _options(attack: str, own: Mapping[str, Any]) -> dict[str, Any]:
    """All options of an attack by name, its defaults among them, as a cell's report has them."""
    require(attack in ATTACKS, f"attack={attack}", f"one of {', '.join(ATTACKS)}")
    node = {"_target_": ATTACKS[attack], "name": attack}
    parameters = inspect.signature(target_of(node, "attack")).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    for key in own:
        if key not in defaults:
            raise ValueError(no_such_option(f"options.{key}", defaults))
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
        "seeds": list(range(num_models)) if evidence.seeds is None else evidence.seeds.tolist(),
        "accuracy_cell": None,
        "accuracy_seeds": [],
        "num_planned": num_models,
        "evidence_file": source,
    }


def _about(found: Brought, sha256: str) -> dict[str, Any]:
    """What stands in the place of accuracy, cost and data, which nobody told."""
    evidence = found.evidence
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
        **({} if found.names is None else {"canary_names": found.names}),
    }
