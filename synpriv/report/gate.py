"""Bounds that a study must keep to, read from a yaml file: what breaks them, a line for each.

Whatever cannot be judged is a violation: a pattern that matches no audit, a figure that is not
there, an FPR that is not resolved, an audit of some of its models alone, a report that could not be
compared with its models, a cell without an audit. So is a valid bound above what is proven.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NotRequired

from synpriv.report import marks
from synpriv.report.html.shape import Missing
from synpriv.report.verdict import WORDS, proven_epsilon, refuted, verdict
from synpriv.results import names
from synpriv.signatures import require

Report = dict[str, Any]
Entry = dict[str, Any]
RATES = ("tpr@fpr=0.001", "tpr@fpr=0.01", "tpr@fpr=0.1")
EPSILONS = ("epsilon", "epsilon_tuned", "epsilon_group", "epsilon_bound")
BOUNDS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(RATES, ("max", "high_max", "resolvable")),
    "auc": ("max", "high_max"),
    "accuracy": ("min",),
    **dict.fromkeys(EPSILONS, ("max",)),
}
_WHICH = ("cells", "attack", "partial", "unverified", "verdict")
NOT_COMPARED = "not_compared"  # key of a report on disk that may be of other models
_DIGITS = 4


class Lost(Missing):
    """What is there but cannot be shown, and so cannot be judged; name: of the cell's folder."""

    asked: NotRequired[Mapping[str, Any]]  # heading of its report, where that much is intact


def read(file: Path) -> list[Entry]:
    """The entries of an expectations file; ValueError, in one line, for one that is malformed."""
    import yaml

    try:
        content = yaml.load(file.read_text("utf-8"), Loader=_loader())
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # of a date, or no utf-8
        raise ValueError(f"{file}: no yaml ({' '.join(str(error).split())})") from error
    entries = content.get("expect") if isinstance(content, dict) and len(content) == 1 else None
    right = "`expect:` with a list of entries, each with `cells:` and bounds"
    require(isinstance(entries, list) and bool(entries), f"{file}", right)
    assert isinstance(entries, list)
    for place, entry in enumerate(entries):
        _check(entry, f"{file}: expect[{place}]")
    return entries


def _loader() -> Any:
    """Yaml's safe loader, but of a key given twice none may be lost."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    def mapping(loader: Any, node: Any) -> dict[Any, Any]:
        keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if not isinstance(key, str):
                raise yaml.YAMLError(f"{key} is no name of a setting {node.start_mark}")
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"{key} is given twice {node.start_mark}")
        values = [loader.construct_object(value, deep=True) for _, value in node.value]
        return dict(zip(keys, values, strict=True))

    Loader.add_constructor("tag:yaml.org,2002:map", mapping)
    return Loader


def _check(entry: Any, where: str) -> None:
    """ValueError unless an entry says which cells, and bounds that there are."""
    require(isinstance(entry, dict), where, "a mapping with `cells:` and bounds")
    require(isinstance(entry.get("cells"), str), f"{where}.cells", "a pattern, such as 'dfkd*'")
    require(isinstance(entry.get("attack", ""), str), f"{where}.attack", "a pattern")
    for key in ("partial", "unverified"):
        require(isinstance(entry.get(key, False), bool), f"{where}.{key}", "true or false")
    known = (*_WHICH, *BOUNDS)
    for key in entry:
        require(key in known, f"{where}.{key}", f"one of {', '.join(known)}")
    right = f"one or more of {', '.join(WORDS)}"
    require(bool(_kinds(entry)) or "verdict" not in entry, f"{where}.verdict", right)
    for kind in _kinds(entry):
        known_kind = isinstance(kind, str) and kind in WORDS
        require(known_kind, f"{where}.verdict={kind}", right)
    require(bool(entry.keys() & {*BOUNDS, "verdict"}), where, "given at least one bound")
    for key in entry.keys() & BOUNDS.keys():
        _check_bound(entry[key], BOUNDS[key], f"{where}.{key}")


def _check_bound(bound: Any, allowed: Sequence[str], where: str) -> None:
    right = f"a mapping with {', '.join(allowed)}"
    require(isinstance(bound, dict) and bool(bound), where, right)
    for key, value in bound.items():
        require(key in allowed, f"{where}.{key}", f"one of {', '.join(allowed)}")
        if key == "resolvable":
            require(isinstance(value, bool), f"{where}.{key}={value}", "true or false")
        else:
            number = type(value) in (int, float) and abs(value) <= sys.float_info.max
            require(number, f"{where}.{key}={value}", "a number")


def _kinds(entry: Entry) -> list[Any]:
    given = entry.get("verdict", [])
    return given if isinstance(given, list) else [given]


def violations(
    entries: Sequence[Entry], reports: Sequence[Report], missing: Sequence[Lost] = ()
) -> list[str]:
    """What breaks the bounds, one line each; reports: with corrected marks (`marks.corrected`).

    A pattern is matched with the name of a cell's folder and with `names.distinct_names`.
    """
    called = names.distinct_names(reports)
    found = []
    for place, entry in enumerate(entries):
        pattern = entry["cells"]
        every = zip(called, reports, strict=True)
        chosen = [(name, report) for name, report in every if _is_of(entry, name, report)]
        lost = lacking(pattern, missing, reports, attack=entry.get("attack", "*"))
        found += [f"{lack['name']}: cannot be judged: {lack['why']}" for lack in lost]
        if not chosen and not lost:
            what = ", ".join(f"{key}: {entry[key]}" for key in ("cells", "attack") if key in entry)
            found.append(f"expect[{place}]: no audit matches {what}")
        found += [f"{name}: {line}" for name, report in chosen for line in _broken(entry, report)]
    return found


def unjudged(entries: Sequence[Entry], reports: Sequence[Report]) -> list[str]:
    """Names of the audits that no entry is of, so that nothing is said of them."""
    every = zip(names.distinct_names(reports), reports, strict=True)
    return [name for name, report in every if not any(_is_of(e, name, report) for e in entries)]


def _is_of(entry: Entry, name: str, report: Report) -> bool:
    fits = matches(entry["cells"], name, report)
    return fits and fnmatchcase(report["attack"], entry.get("attack", "*"))


def lacking(
    pattern: str, missing: Sequence[Lost], reports: Sequence[Report], *, attack: str = "*"
) -> list[Lost]:
    """What cannot be shown of all that a glob may be of; attack: a glob too.

    Whose name is not known may be of every pattern of names.
    """
    every = [*reports, *(dict(lack["asked"]) for lack in missing if "asked" in lack)]
    called = names.distinct_names(every)
    of_names = "," in pattern or any(
        fnmatchcase(name, pattern) and not fnmatchcase(one["cell"], pattern)
        for name, one in zip(called, every, strict=True)
    )
    lost_names = iter(called[len(reports) :])
    found = []
    for lack in missing:
        if "asked" not in lack:
            if of_names or fnmatchcase(lack["name"], pattern):
                found.append(lack)
            continue
        asked = lack["asked"]
        among, alone = next(lost_names), names.distinct_names([dict(asked)])[0]
        fits = any(matches(pattern, name, asked) for name in (among, alone))
        if fits and fnmatchcase(asked["attack"], attack):
            found.append(lack)
    return found


def matches(pattern: str, name: str, report: Mapping[str, Any]) -> bool:
    """Whether a glob is of this audit's folder or of its name; a name itself always is."""
    return any(
        pattern == called or fnmatchcase(called, pattern) for called in (report["cell"], name)
    )


def _broken(entry: Entry, report: Report) -> Iterator[str]:
    if report["partial"] and not entry.get("partial", False):
        yield f"partial: {report['num_models']} of {report['num_planned']} models were audited"
    if NOT_COMPARED in report and not entry.get("unverified", False):
        yield f"not compared with {report[NOT_COMPARED]} (unverified: true accepts it)"
    if (both := refuted(report)) is not None:
        yield f"epsilon_bound is {both[0]:.4g}, above the {both[1]:.4g} that is proven"
    if "verdict" in entry and (kind := verdict(report)["kind"]) not in _kinds(entry):
        yield f"verdict {kind} ({WORDS[kind]}), must be {' or '.join(_kinds(entry))}"
    for key, bound in entry.items():
        if key in BOUNDS:
            yield from _beyond(key, bound, report)


def _beyond(key: str, bound: dict[str, Any], report: Report) -> Iterator[str]:
    """What of one figure is beyond its bounds, or cannot be judged."""
    if key in RATES and not report[key]["resolvable"] and bound.get("resolvable", True):
        yield (
            f"{key} is not resolvable: {report['n_out']:,} non-members are too few "
            "(resolvable: false accepts it as it is)"
        )
    over: tuple[tuple[str, Callable[[float, float], bool], str], ...] = (
        ("max", float.__gt__, "at most"),
        ("high_max", float.__gt__, "at most"),
        ("min", float.__lt__, "at least"),
    )
    for limit, is_beyond, words in over:
        if limit not in bound:
            continue
        value, what = _figure(key, limit, report)
        if value is None:
            yield f"{key} {what}, must be {words} {bound[limit]:g}"
        elif is_beyond(float(value), float(bound[limit])):
            yield f"{what} is {value:.4g}, must be {words} {bound[limit]:g}"


def _figure(key: str, limit: str, report: Report) -> tuple[float | None, str]:
    """A number and what it is, or None and why there is none."""
    if key in RATES:
        upper = limit == "high_max"
        name = f"the upper 95% limit of {key}" if upper else key
        return report[key]["high" if upper else "tpr"], name
    if key == "auc":
        upper = limit == "high_max"
        return report["auc_high" if upper else "auc"], "the upper 95% limit of auc" * upper or key
    if key == "accuracy":
        known = report["accuracy"]
        return (None, "is not known") if known is None else (known["mean"], key)
    if report.get(key) is not None:
        return report[key], key
    if key == "epsilon_bound":
        return None, f"has no value ({report.get('epsilon_bound_none', 'not computed')})"
    infinite = key in report and key != "epsilon_tuned"
    return None, "is infinite" if infinite else "is not proven"


def expectations(reports: Sequence[Report]) -> str:
    """A file that these reports keep to: their upper limits, a lower one of the accuracy.

    `max` of a rate is its upper 95% limit, `high_max` lies as far beyond that; `min` of an accuracy
    its mean less half of its interval. reports: with corrected marks. ValueError where a valid
    bound is above what is proven, which is no state to keep to.
    """
    import yaml

    for report in reports:
        if (both := refuted(report)) is not None:
            where = f"{report['cell']}: no bounds are written, epsilon_bound is {both[0]:.4g}"
            require(False, where, f"at most the {both[1]:.4g} that is proven")
    entries = [_entry(report) for report in reports]
    head = (
        "# Written by python -m synpriv.report --write-expect; checked with --expect.\n"
        "# cells: glob of a cell's folder or name; what cannot be judged is a violation.\n"
    )
    return head + yaml.safe_dump({"expect": entries}, sort_keys=False, allow_unicode=True)


def _entry(report: Report) -> Entry:
    kind = verdict(report)["kind"]
    entry: Entry = {"cells": _literally(report["cell"]), "attack": _literally(report["attack"])}
    if report["partial"]:
        entry["partial"] = True
    if NOT_COMPARED in report:
        entry["unverified"] = True
    if kind != "leak":
        entry["verdict"] = ["none"] if kind == "none" else ["none", "unresolved"]
    for key in marks.SHOWN:
        rate = report[key]
        if rate["resolvable"] or key == marks.SHOWN[0]:
            beyond = min(1.0, 2 * rate["high"] - rate["tpr"])
            entry[key] = {"max": _up(rate["high"]), "high_max": _up(max(beyond, rate["high"]))}
            entry[key]["resolvable"] = rate["resolvable"]
    if report["accuracy"] is not None:
        least = report["accuracy"]["mean"] - report["accuracy"]["half"]
        entry["accuracy"] = {"min": -_up(-least)}
    for key in ("epsilon", "epsilon_tuned", "epsilon_group"):
        if report.get(key) is not None:
            entry[key] = {"max": _up(report[key])}
    proven = proven_epsilon(report)
    if proven is not None and report.get("epsilon_bound") is not None:
        entry["epsilon_bound"] = {"max": _up(proven)}
    return entry


def _literally(text: str) -> str:
    """A pattern that is of this text alone."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in text)


def _up(value: float) -> float:
    """Rounded up, so that what it was made from keeps to it."""
    return math.ceil(value * 10**_DIGITS) / 10**_DIGITS
