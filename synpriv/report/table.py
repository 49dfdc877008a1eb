"""The table of audits, for the terminal and as cells for Markdown and csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from synpriv import terminal
from synpriv.audit import quality
from synpriv.report import content, inert, members
from synpriv.report.rows import rows
from synpriv.results import flat, names

Report = dict[str, Any]

PLUS_MINUS = "\N{PLUS-MINUS SIGN}"
VACUOUS = 50  # e^50: an epsilon above it promises nothing
MOST_NOTES = 3  # lines below a table on a terminal
WIDTH = 160  # characters of such a line
CHANCE = "no more than chance alone gives, so no evidence of a leak in this column"
MARKS = {
    "*": CHANCE,
    "?": "too few non-members for this FPR: read it as the TPR at the FPR that follows the rate",
    "#": "accuracy below what the study asks for: outside the study's admission rule",
    "!": "AUC below the band of chance, as one in 40 by chance (not corrected): scores inverted?",
}
LEGEND = (
    f"accuracy: of the method without wrong labels, {PLUS_MINUS} 95%\n"
    "TPR@f [95%]: share of the members found where a share f of the non-members is accused\n"
    "AUC [95%]: chance that a member scores above a non-member\n"
    "wrong in/out, true in/out: share of the member / non-member canaries to which the released "
    "model gives their wrong / true label\n"
    "epsilon: proven, for adding or removing one image (changing one image's label alone is two "
    "such steps and costs about twice as much); estimate: from below, no bound; GDP: the "
    "same if the mechanism were Gaussian; bound: valid lower bound, 95%, of the most that this "
    "audit would show\n"
    "image quality: FID, precision and recall of synthetic images against held-out ones, in the "
    "features of a network trained on others of these; in brackets: of as many private images\n"
    "s/model: wall seconds of training, teacher and proxy included; FLOPs/model: of the same, two "
    "per multiply-add; peak MB: highest memory of a run; selected: share of the member canaries "
    "that is released; more: docs/glossary.md"
)
IN_SHORT = (
    f"{PLUS_MINUS} and []: 95%; in/out: member / non-member canaries that the model calls by that "
    "label; "
)
TPR_1, TPR_01 = "TPR@1%FPR [95%]", "TPR@0.1%FPR [95%]"
HEADER = [
    *("method", "dataset", "canary", "attack", "accuracy", TPR_1, TPR_01, "AUC [95%]"),
    *("wrong in/out", "true in/out", "epsilon", "estimate", "GDP", "bound", "n in/out"),
    *("s/model", "FLOPs/model", "peak MB", "selected", "image quality"),
    *("membership", "provenance", "guarantee", "cell"),
]
_FILES_ONLY = {
    *("estimate", "GDP", "n in/out", "FLOPs/model", "peak MB", "selected", "image quality"),
    *("membership", "provenance", "guarantee", "cell"),
}
_MARKED = {"accuracy", TPR_1, TPR_01, "AUC [95%]"}
_SPARE = ("true in/out", "s/model", "bound")  # left out of a line that is too long, in this order


def rows_of(reports: Sequence[Report]) -> list[list[str]]:
    """One row per audit in the columns of `HEADER`."""
    return [row(*pair) for pair in zip(reports, names.distinct_methods(reports), strict=True)]


def row(report: Report, name: str) -> list[str]:
    """One audit, called `name`, in the columns of `HEADER`."""
    clean = report["canary"] == "clean"  # the label that it is trained on is the true one
    return [
        name + (" (partial)" if report["partial"] else ""),
        report["dataset"],
        members.kind(report),
        report["attack"],
        _accuracy(report),
        rate_in_words(report["tpr@fpr=0.01"]),
        rate_in_words(report["tpr@fpr=0.001"]),
        _auc(report),
        "-" if clean else _answers(report, "trained_label"),
        _answers(report, "true_label"),
        _epsilon(report),
        f"{report['epsilon_audited']:.2f} of {report['epsilon_audited_largest']:.2f}",
        _number(report.get("epsilon_gdp")),
        _bound(report),
        f"{report['n_in']}/{report['n_out']}",
        "-" if report["train_s"] is None else f"{report['train_s']['mean']:.1f}",
        f"{report['train_flops']['mean']:.2g}" if "train_flops" in report else "-",
        f"{report['peak_mb']['mean']:.0f}" if "peak_mb" in report else "-",
        f"{report['canary_selection_rate']['mean']:.0%}" if _is_coreset(report) else "-",
        quality.in_words(report["quality"]) if "quality" in report else "-",
        report["membership"],
        ", ".join(report["provenance"]),
        _guarantee(report),
        report["cell"],
    ]


def _is_coreset(report: Report) -> bool:
    return "canary_selection_rate" in report


def _accuracy(report: Report) -> str:
    """Mean and half of its 95% interval; where wrong labels are in it that is said."""
    if report["accuracy"] is None:
        return "-"
    mean, half = content.accuracy_95(report)
    wrong = content.wrong_labels(report)
    under = "" if wrong is None else f" under {wrong:.0%} wrong labels"
    mark = "" if flat.admitted(report) else "#"
    return f"{mean:.3f}{mark} {PLUS_MINUS} {half:.3f}{under}"


def rate_in_words(rate: dict[str, Any]) -> str:
    """A rate and its interval, marked as `MARKS` explains.

    One whose FPR cannot be resolved is followed by the FPR that is to be expected there.
    """
    mark = ("" if rate["above_chance"] else "*") + ("" if rate["resolvable"] else "?")
    where = "" if rate["resolvable"] else f" at FPR {rate['expected_fpr']:.2g}"
    interval = f"[{_percent(rate['low'])}, {_percent(rate['high'])}]"
    return f"{_percent(rate['tpr'])}%{mark} {interval}{where}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}" if share >= 0.1 else f"{100 * share:.2f}"


def _auc(report: Report) -> str:
    mark = "" if flat.auc_above_chance(report) else "*"
    if report["auc"] < report["auc_null_band"][0]:
        mark = "!"
    return f"{report['auc']:.3f}{mark} [{report['auc_low']:.3f}, {report['auc_high']:.3f}]"


def _answers(report: Report, label: str) -> str:
    if report["answers"] is None:
        return "-"
    shares = report["answers"][label]
    return f"{shares['in']:.0%}/{shares['out']:.0%}"


def _epsilon(report: Report) -> str:
    """What is proven: of the training, and of the tuned procedure if configurations were tried."""
    if "epsilon" not in report:
        return "-" if "evidence_file" in report else "none"
    proven = report["epsilon"]
    if proven is None:
        return "infinite"
    words = "at most " if report.get("epsilon_at_most") else ""
    words += f"{proven:.3g}" + (", vacuous" if proven > VACUOUS else "")
    if report["epsilon_tuned"] is not None:
        words += f", tuned {report['epsilon_tuned']:.3g}"
    return f"{words}{_of_group(report)} (delta {report['delta']:g})"


def _of_group(report: Report) -> str:
    """What is proven of the largest group, where what is proven of one image is not the matter."""
    if "epsilon_group" not in report:
        return ""
    proven, size = report["epsilon_group"], report["data"]["groups"]["largest"]
    whole = "none" if proven is None else f"{proven:.3g}" + ", vacuous" * (proven > VACUOUS)
    return f" per image; {whole} per group of {size}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _bound(report: Report) -> str:
    """The valid bound, and what this audit would show at most of what is proven or of anything."""
    if report.get("epsilon_bound") is None:
        return "-"
    at_proven = report.get("epsilon_bound_at_proven")
    most = report["epsilon_bound_largest"] if at_proven is None else at_proven
    return f"{report['epsilon_bound']:.2f} of {most:.2f}"


def _guarantee(report: Report) -> str:
    """What the proof rests on."""
    if "epsilon" not in report:
        return "-"
    return (
        f"noise_multiplier {report['noise_multiplier']:.4g}, "
        f"sample_rate {report['sample_rate']:.4g}, steps {report['steps']}, "
        f"max_grad_norm {report['max_grad_norm']:g}, {report['accountant']}"
    )


def text(reports: Sequence[Report], *, family: str, rest: str) -> str:
    """Aligned columns for a terminal, below them what the marks mean and at most three notes.

    What all rows share is left out, what only the files hold, and what fits no line. `family`: what
    the marks are corrected over, of `marks.corrected`; `rest`: where everything else stands.
    """
    rows = [HEADER, *([terminal.shown(word) for word in words] for words in rows_of(reports))]
    resolved = any(report["tpr@fpr=0.001"]["resolvable"] for report in reports)
    columns = [c for c in zip(*rows, strict=True) if _is_printed(c, strict_fpr=resolved)]
    lines = _aligned(columns)
    for name in _SPARE:
        if len(lines[1]) > WIDTH:
            columns = [column for column in columns if column[0] != name]
            lines = _aligned(columns)
    printed = "".join(word for column in columns for word in column[1:] if column[0] in _MARKED)
    explained = [f"{mark} {words}" for mark, words in MARKS.items() if mark in printed]
    below = [
        IN_SHORT + members.step(reports),
        *about_groups(reports),
        *explained,
        family,
        *_first_notes(reports, rest),
    ]
    return "\n".join([*(line.rstrip() for line in lines), *map(terminal.shown, below)])


def about_groups(reports: Sequence[Report]) -> list[str]:
    """That rows speak of groups of images, each sentence once with the rows that it is of."""
    rows: dict[str, list[str]] = {}
    for name, report in zip(names.distinct_methods(reports), reports, strict=True):
        if words := members.in_words(report):
            rows.setdefault(words, []).append(name)
    return [f"{_of(rows[words], len(reports))}: {words}" for words in rows]


def _aligned(columns: Sequence[Sequence[str]]) -> list[str]:
    """Rows of equally wide cells, a rule below the header."""
    widths = [max(map(len, column)) for column in columns]
    lines = [
        "  ".join(word.ljust(w) for word, w in zip(words, widths, strict=True))
        for words in zip(*columns, strict=True)
    ]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def _is_printed(column: Sequence[str], *, strict_fpr: bool) -> bool:
    name, *values = column
    if name in ("dataset", "canary", "attack"):
        return len(set(values)) > 1
    if name in ("accuracy", "epsilon", "wrong in/out", "true in/out", "bound", "s/model"):
        return not set(values) <= {"none", "-"}
    return name not in _FILES_ONLY and (name != TPR_01 or strict_fpr)


def _first_notes(reports: Sequence[Report], rest: str) -> list[str]:
    """What most concerns the reader, and where everything else is."""
    every = notes(reports)
    first = [_cut(note) for note in every[: MOST_NOTES - 1]]
    left = len(every) - len(first)
    more = f"{left} more note{'s' * (left > 1)}, " if left else ""
    return [*first, f"{more}variants of the attack and definitions: {rest}"]


def _cut(line: str) -> str:
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 3]}..."


def notes(reports: Sequence[Report]) -> list[str]:
    """What the reports warn of, each warning once with the rows that it is of."""
    rows: dict[str, list[str]] = {}
    called = names.distinct_methods(reports)
    if len(set(called)) < len(called):
        called = names.distinct_names(reports)
    for name, report in zip(called, reports, strict=True):
        for warning in report["warnings"]:
            rows.setdefault(warning, []).append(name)
    last = sorted(rows, key=lambda warning: "is not resolvable" in warning)  # `?` says it too
    return [f"{_of(rows[warning], len(reports))}: {warning}" for warning in last]


def _of(found: Sequence[str], num: int) -> str:
    if len(found) == num > 1:
        return "all rows"
    return " | ".join(found) if len(found) <= 3 else f"{found[0]} and {len(found) - 1} others"


def as_csv(reports: Sequence[Report], marked: Sequence[Report] | None = None) -> str:
    """One row per audit, numbers in full precision; marked: see `rows`."""
    found = rows(reports, marked)
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(found[0]) if found else [])
    writer.writerow(dict(_safe((key, key) for key in writer.fieldnames)))
    writer.writerows(dict(_safe(row.items())) for row in found)
    return buffer.getvalue()


def _safe(cells: Iterable[tuple[str, Any]]) -> Iterable[tuple[str, Any]]:
    return ((key, inert.cell(value)) for key, value in cells)
