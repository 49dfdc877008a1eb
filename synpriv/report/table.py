"""The table of audits, for the terminal, Markdown and csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from synpriv import terminal
from synpriv.report import inert, names

Report = dict[str, Any]

LEGEND = (
    "TPR@f: share of the members found where a share f of the non-members is accused [95%];\n"
    "* no more than chance alone gives; ! AUC even below that: scores inverted or biased;\n"
    "? the same as *, and f too low for so few non-members; at 0 of n: f too low as well, but\n"
    "found at 0 false positives of n non-members; epsilon: proven; audited: estimated from below,\n"
    "of the most that this audit can show; s/model: wall seconds of training, teacher and proxy\n"
    "included; selected: share of the member canaries that is released; more: docs/glossary.md"
)
PLUS_MINUS = "\N{PLUS-MINUS SIGN}"
VACUOUS = 50  # e^50: an epsilon above it promises nothing
HEADER = [
    *("method", "dataset", "canary", "attack", "test accuracy"),
    *("TPR@0.1%FPR [95%]", "TPR@1%FPR [95%]", "AUC", "epsilon", "audited >=", "n in/out"),
    *("s/model", "selected", "provenance", "guarantee", "cell"),
]


def rows_of(reports: Sequence[Report]) -> list[list[str]]:
    """One row per audit in the columns of `HEADER`."""
    return [row(*pair) for pair in zip(reports, names.distinct_methods(reports), strict=True)]


def row(report: Report, name: str) -> list[str]:
    """One audit, called `name`, in the columns of `HEADER`."""
    accuracy, seconds = report["test_accuracy"], report["train_s"]
    return [
        name + (" (partial)" if report["partial"] else ""),
        report["dataset"],
        report["canary"],
        report["attack"],
        f"{accuracy['mean']:.3f} {PLUS_MINUS} {accuracy['sd']:.3f}",
        _rate(report["tpr@fpr=0.001"], report["n_out"]),
        _rate(report["tpr@fpr=0.01"], report["n_out"]),
        _auc(report["auc"], *report["auc_null_band"]),
        _epsilon(report),
        f"{report['epsilon_audited']:.2f} of {report['epsilon_audited_largest']:.2f}",
        f"{report['n_in']}/{report['n_out']}",
        f"{seconds['mean']:.1f}",
        f"{report['canary_selection_rate']['mean']:.0%}" if _is_coreset(report) else "-",
        ", ".join(report["provenance"]),
        _guarantee(report),
        report["cell"],
    ]


def _is_coreset(report: Report) -> bool:
    return "canary_selection_rate" in report


def _rate(rate: dict[str, Any], n_out: int) -> str:
    """A rate and its interval, marked.

    `*`: no more than chance alone gives; `?`: neither, and the FPR is below what this cell can
    resolve. A finding at an FPR that it cannot resolve is one at no false positive, which is said.
    """
    mark = "" if rate["above_chance"] else "*" if rate["resolvable"] else "?"
    where = "" if rate["resolvable"] or mark else f" at 0 of {n_out}"
    return f"{rate['tpr']:.2%}{mark} [{rate['low']:.2%}, {rate['high']:.2%}]{where}"


def _auc(auc: float, low: float, high: float) -> str:
    """`*`: in the band that chance alone gives; `!`: below it."""
    return f"{auc:.3f}" + ("" if auc > high else "!" if auc < low else "*")


def _epsilon(report: dict[str, Any]) -> str:
    """What is proven: of the training, and of the tuned procedure if configurations were tried."""
    if "epsilon" not in report:
        return "none"
    proven = report["epsilon"]
    if proven is None:
        return "infinite"
    words = f"{proven:.3g}" + (", vacuous" if proven > VACUOUS else "")
    if report["epsilon_tuned"] is not None:
        words += f", tuned {report['epsilon_tuned']:.3g}"
    return f"{words} (delta {report['delta']:g})"


def _guarantee(report: Report) -> str:
    """What the proof rests on."""
    if "epsilon" not in report:
        return "-"
    return (
        f"noise_multiplier {report['noise_multiplier']:.4g}, "
        f"sample_rate {report['sample_rate']:.4g}, steps {report['steps']}, "
        f"max_grad_norm {report['max_grad_norm']:g}, {report['accountant']}"
    )


def text(reports: Sequence[Report]) -> str:
    """Aligned columns for a terminal, legend and warnings below.

    What all rows share is left out, and what only the files hold: channels, counts, cells' names.
    """
    rows = [HEADER, *([terminal.shown(word) for word in words] for words in rows_of(reports))]
    columns = [column for column in zip(*rows, strict=True) if _is_printed(column)]
    widths = [max(map(len, column)) for column in columns]
    lines = [
        "  ".join(word.ljust(w) for word, w in zip(words, widths, strict=True))
        for words in zip(*columns, strict=True)
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    table = "\n".join(line.rstrip() for line in lines)
    return f"{table}\n{LEGEND}\n{_listed(notes(reports), terminal.shown)}"


def _is_printed(column: Sequence[str]) -> bool:
    name, *values = column
    if name in ("dataset", "canary", "attack"):
        return len(set(values)) > 1
    if name in ("epsilon", "selected"):
        return not set(values) <= {"none", "-"}
    return name not in ("n in/out", "provenance", "guarantee", "cell")


def markdown(reports: Sequence[Report], *, pictures: Sequence[str]) -> str:
    """A Markdown table, pictures and warnings below."""
    rows = [[inert.markdown(word) for word in words] for words in rows_of(reports)]
    every = [HEADER, ["---"] * len(HEADER), *rows]
    table = "\n".join("| " + " | ".join(words) + " |" for words in every)
    shown = "\n\n".join(f"![{inert.markdown(Path(n).stem)}]({quote(n)})" for n in pictures)
    legend = LEGEND.replace("*", r"\*")
    below = _listed([*notes(reports), *about_data(reports)], inert.markdown)
    return f"{table}\n\n{legend}\n\n{shown}\n\n{below}"


def _listed(lines: Sequence[str], made_inert: Callable[[str], str]) -> str:
    return "".join(f"- {made_inert(line)}\n" for line in lines)


def notes(reports: Sequence[Report]) -> list[str]:
    """What the marked rows warn of."""
    return [
        f"{name}: {warning}"
        for name, report in zip(names.distinct_names(reports), reports, strict=True)
        for warning in report["warnings"]
    ]


def about_data(reports: Sequence[Report]) -> list[str]:
    """What was seen of each data set."""
    seen = {f"{report['dataset']}: {report['data']['in_words']}": None for report in reports}
    return list(seen)


def as_csv(reports: Sequence[Report]) -> str:
    """One row per audit, numbers in full precision."""
    rates = [key for key in reports[0] if key.startswith("tpr@")] if reports else []
    buffer = io.StringIO()
    columns = ["cell", "name", "method", "dataset", "canary", "attack", "partial"]
    columns += [
        "num_models",
        "num_canaries",
        "n_in",
        "n_out",
        "test_accuracy",
        "test_accuracy_sd",
        "train_s",
    ]
    columns += [f"{key}{end}" for key in rates for end in ("", "/low", "/high", "/null_high")]
    columns += ["auc", "auc/null_low", "auc/null_high", "balanced_accuracy"]
    columns += ["epsilon", "epsilon_tuned", "num_trials", "delta"]
    columns += ["noise_multiplier", "sample_rate", "steps", "max_grad_norm", "epsilon_audited"]
    columns += ["canary_selection_rate", "provenance"]
    writer = csv.DictWriter(buffer, columns)
    writer.writerow({key: inert.cell(key) for key in columns})
    for report, name in zip(reports, names.distinct_methods(reports), strict=True):
        flat = report | {"name": name}
        if "epsilon" in report and report["epsilon"] is None:
            flat["epsilon"] = "inf"
        flat["test_accuracy_sd"] = report["test_accuracy"]["sd"]
        flat["auc/null_low"], flat["auc/null_high"] = report["auc_null_band"]
        means = ["test_accuracy", "train_s"]
        means += ["canary_selection_rate"] if _is_coreset(report) else []
        flat |= {key: report[key]["mean"] for key in means}
        flat["provenance"] = ", ".join(report["provenance"])
        for key in rates:
            rate = report[key]
            flat |= {key: rate["tpr"], f"{key}/low": rate["low"], f"{key}/high": rate["high"]}
            flat[f"{key}/null_high"] = rate["null_band"][1]
        writer.writerow({key: inert.cell(flat.get(key)) for key in columns})
    return buffer.getvalue()
