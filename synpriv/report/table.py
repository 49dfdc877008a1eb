"""The table of audits, for the terminal, Markdown and csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Report = dict[str, Any]

LEGEND = (
    "* in the band that chance alone gives; ? FPR too low for so few non-members;\n"
    "epsilon: proven; audited: estimated from below, of the most that this audit can show;\n"
    "s/model: wall seconds of training, teacher and proxy included; selected: share of the member\n"
    "canaries that is released"
)
VACUOUS = 50  # e^50: an epsilon above it promises nothing
HEADER = [
    *("method", "dataset", "canary", "attack", "test accuracy"),
    *("TPR@0.1%FPR [95%]", "TPR@1%FPR [95%]", "AUC", "epsilon", "audited >=", "n in/out"),
    *("s/model", "selected", "provenance", "guarantee", "cell"),
]


def row(report: Report) -> list[str]:
    """One audit in the columns of `HEADER`."""
    accuracy, seconds = report["test_accuracy"], report["train_s"]
    return [
        report["method"] + (" (partial)" if report["partial"] else ""),
        report["dataset"],
        report["canary"],
        report["attack"],
        f"{accuracy['mean']:.3f} ± {accuracy['sd']:.3f}",
        _rate(report["tpr@fpr=0.001"]),
        _rate(report["tpr@fpr=0.01"]),
        f"{report['auc']:.3f}" + ("" if report["auc"] > report["auc_null_band"][1] else "*"),
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


def _rate(rate: dict[str, Any]) -> str:
    """`*`: inside the band that chance alone gives; `?`: FPR below what this cell can resolve."""
    mark = ("" if rate["above_chance"] else "*") if rate["resolvable"] else "?"
    return f"{rate['tpr']:.2%}{mark} [{rate['low']:.2%}, {rate['high']:.2%}]"


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
    rows = [HEADER, *map(row, reports)]
    twins = len({(r["method"], r["attack"]) for r in reports}) < len(reports)
    columns = [column for column in zip(*rows, strict=True) if _is_printed(column, twins=twins)]
    widths = [max(map(len, column)) for column in columns]
    lines = [
        "  ".join(word.ljust(w) for word, w in zip(words, widths, strict=True))
        for words in zip(*columns, strict=True)
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines) + f"\n{LEGEND}\n{notes(reports)}"


def _is_printed(column: Sequence[str], *, twins: bool) -> bool:
    name, *values = column
    if name == "cell":
        return twins  # rows of one name
    if name in ("dataset", "canary", "attack"):
        return len(set(values)) > 1
    if name in ("epsilon", "selected"):
        return not set(values) <= {"none", "-"}
    return name not in ("n in/out", "provenance", "guarantee")


def markdown(reports: Sequence[Report], *, pictures: Sequence[str]) -> str:
    """A Markdown table, pictures and warnings below."""
    rows = [HEADER, ["---"] * len(HEADER), *map(row, reports)]
    table = "\n".join("| " + " | ".join(words) + " |" for words in rows)
    shown = "\n\n".join(f"![{Path(name).stem}]({name})" for name in pictures)
    legend = LEGEND.replace("*", r"\*")
    return f"{table}\n\n{legend}\n\n{shown}\n\n{notes(reports)}"


def notes(reports: Sequence[Report]) -> str:
    """What the marked rows warn of, one line each."""
    return "".join(
        f"- {report['cell']} {report['attack']}: {warning}\n"
        for report in reports
        for warning in report["warnings"]
    )


def as_csv(reports: Sequence[Report]) -> str:
    """One row per audit, numbers in full precision."""
    rates = [key for key in reports[0] if key.startswith("tpr@")] if reports else []
    buffer = io.StringIO()
    columns = ["cell", "method", "dataset", "canary", "attack", "partial", "num_models"]
    columns += ["num_canaries", "n_in", "n_out", "test_accuracy", "test_accuracy_sd", "train_s"]
    columns += [f"{key}{end}" for key in rates for end in ("", "/low", "/high", "/null_high")]
    columns += ["auc", "auc/null_high", "balanced_accuracy"]
    columns += ["epsilon", "epsilon_tuned", "num_trials", "delta"]
    columns += ["noise_multiplier", "sample_rate", "steps", "max_grad_norm", "epsilon_audited"]
    columns += ["canary_selection_rate", "provenance"]
    writer = csv.DictWriter(buffer, columns, extrasaction="ignore")
    writer.writeheader()
    for report in reports:
        flat = dict(report)
        if "epsilon" in report and report["epsilon"] is None:
            flat["epsilon"] = "inf"
        flat["test_accuracy_sd"] = report["test_accuracy"]["sd"]
        flat["auc/null_high"] = report["auc_null_band"][1]
        means = ["test_accuracy", "train_s"]
        means += ["canary_selection_rate"] if _is_coreset(report) else []
        flat |= {key: report[key]["mean"] for key in means}
        flat["provenance"] = ", ".join(report["provenance"])
        for key in rates:
            rate = report[key]
            flat |= {key: rate["tpr"], f"{key}/low": rate["low"], f"{key}/high": rate["high"]}
            flat[f"{key}/null_high"] = rate["null_band"][1]
        writer.writerow(flat)
    return buffer.getvalue()
