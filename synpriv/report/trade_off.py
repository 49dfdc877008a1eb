"""The central figure: what a method leaks against what it is good for, and what it costs."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from synpriv.report import inert, names
from synpriv.results import store, vouched

Report = dict[str, Any]
FPRS = {"tpr@fpr=0.001": "TPR at 0.1% FPR", "tpr@fpr=0.01": "TPR at 1% FPR"}
MARKERS = {
    "undefended": ("black", "*"),
    "dpsgd": ("tab:blue", "o"),
    "coreset": ("tab:orange", "s"),
    "distill": ("tab:green", "D"),
    "dfkd": ("tab:red", "^"),
    "diffusion": ("tab:purple", "v"),
}
CORNERS = ((8, 4), (8, -11), (-8, 4), (-8, -11))  # of a label beside its point, in points of type


def draw_groups(reports: Sequence[Report], file: Path, *, missing: int = 0) -> list[Path]:
    """Draw what can be compared, `file` or one file per kind of audit.

    Alike are audits of the same data with as many canaries of one kind in as many shadow models by
    the same attack. A report without others like it is left out. Returns the PNGs.
    """
    groups: dict[tuple[str, ...], list[Report]] = {}
    for report in reports:
        groups.setdefault(_kind(report), []).append(report)
    found, used = [], Counter[str]()
    for kind, group in groups.items():
        if len(group) == 1:
            continue
        name = (
            file.name
            if len(groups) == 1
            else "-".join([file.name, *map(inert.file_name, kind[:-1])])
        )
        used[name] += 1  # groups may differ in the attack's options alone
        target = file.with_name(name if used[name] == 1 else f"{name}-{used[name]}")
        draw(group, target, missing=missing)
        found.append(target.with_suffix(".png"))
    if file.with_suffix(".png") not in found:  # of an earlier time, when all were of one kind
        for suffix in (".png", ".svg"):
            file.with_suffix(suffix).unlink(missing_ok=True)
    return found


def _kind(report: Report) -> tuple[str, ...]:
    """What two audits must share to be compared, the attack's options last."""
    size = f"{report['num_models']}x{report['num_canaries']}"
    named = (report["dataset"], report["canary"], report["attack"], size)
    return *named, vouched.json_sha256([report["attack_options"], report["data"]["sha256"]])


def draw(reports: Sequence[Report], file: Path, *, missing: int = 0) -> None:
    """Write `file` as PNG and SVG: TPR with its interval against accuracy, one point per report.

    Marker area grows with the seconds per shadow model; hollow markers lie in the band that chance
    alone gives, which is shaded; DP-SGD's points are joined. Where the FPR cannot be resolved, the
    points are those at no false positive, which the panel's title says. A TPR of zero has no place
    on a log axis and stands at the bottom. `reports`: alike as in `draw_groups`. missing: cells of
    the study that are not audited yet, which the title then says.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(12, 5.2), layout="constrained", sharex=True)
    floor = min(0.5 / report["n_in"] for report in reports)
    slowest = max(report["train_s"]["mean"] for report in reports)
    named = []
    for axes, (key, title) in zip(panels, FPRS.items(), strict=True):
        band = max(report[key]["null_band"][1] for report in reports)
        axes.axhspan(floor, max(band, floor), color="0.93", zorder=0)
        private = sorted(
            (r["test_accuracy"]["mean"], max(r[key]["tpr"], floor))
            for r in reports
            if family(r) == "dpsgd"
        )
        axes.plot(*zip(*private, strict=True) if private else ((), ()), color="tab:blue", zorder=1)
        labels = [
            _point(axes, report, key, name, floor=floor, slowest=slowest)
            for report, name in zip(reports, names.distinct_methods(reports), strict=True)
        ]
        axes.set(yscale="log", ylim=(floor, 1.3), xlabel="test accuracy")
        axes.set_title(title + _unresolved(reports, key))
        axes.set_ylabel("true positive rate of the attack (95%)")
        axes.grid(True, which="major", color="0.9", zorder=0)
        named.append(labels)
    figure.draw_without_rendering()  # the layout decides where the labels are
    for labels in named:
        _spread(labels)
    first, lack = reports[0], f"; {missing} CELLS ARE MISSING" if missing else ""
    about = (
        f"{first['dataset']}, {first['num_canaries']} {first['canary']} canaries, "
        f"{first['num_models']} shadow models, {first['attack']}"
    )
    figure.suptitle(
        f"{inert.label(about)}; area: seconds per model, largest {slowest:.0f} s; "
        f"line: DP-SGD{lack}\n"
        "grey band, hollow markers: no evidence of a leak at this FPR",
        fontsize=9,
    )
    for suffix, options in ((".png", {"dpi": 150}), (".svg", {"metadata": {"Date": None}})):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix[1:], **options)
        store.write_bytes(file.with_suffix(suffix), buffer.getvalue())
    plt.close(figure)


def _unresolved(reports: Sequence[Report], key: str) -> str:
    """What is read where the FPR is too low for so few non-members."""
    counts = sorted({r["n_out"] for r in reports if not r[key]["resolvable"]})
    if not counts:
        return ""
    return f", read at 0 false positives of {' or '.join(map(str, counts[:3]))}"


def family(report: Report) -> str:
    """The paradigm that a method's name begins with."""
    return str(report["method"]).partition("_")[0]


def _spread(labels: Sequence[Any]) -> None:
    """Move each label to the corner of its point where it covers fewest other labels and points."""
    taken = [_point_box(label) for label in labels]
    for label in labels:

        def crowding(corner: tuple[int, int], label: Any = label) -> tuple[bool, int]:
            box = _place(label, corner)
            panel = label.axes.bbox
            outside = box.x0 < panel.x0 or box.x1 > panel.x1 or not box.overlaps(panel)
            return outside, sum(box.overlaps(other) for other in taken)

        taken.append(_place(label, min(CORNERS, key=crowding)))


def _place(label: Any, corner: tuple[int, int]) -> Any:
    """Put a label there; returns the box that it takes, in pixels."""
    label.set_position(corner)
    label.set_horizontalalignment("left" if corner[0] > 0 else "right")
    return label.get_window_extent()


def _point_box(label: Any) -> Any:
    """About the marker that a label names, in pixels."""
    from matplotlib.transforms import Bbox

    x, y = label.axes.transData.transform(label.xy)
    return Bbox.from_extents(x - 6, y - 6, x + 6, y + 6)


def _point(axes: Any, report: Report, key: str, name: str, *, floor: float, slowest: float) -> Any:
    """Draw one report; returns its label, the name."""
    rate, accuracy = report[key], report["test_accuracy"]
    colour, marker = MARKERS.get(family(report), ("0.4", "P"))
    height = max(rate["tpr"], floor)
    below, above = height - max(rate["low"], floor), max(rate["high"], height) - height
    axes.errorbar(
        accuracy["mean"],
        height,
        yerr=[[max(below, 0)], [above]],
        xerr=accuracy["sd"],
        color=colour,
        linewidth=0.8,
        capsize=2,
        zorder=2,
    )
    axes.scatter(
        accuracy["mean"],
        height,
        s=40 + 260 * report["train_s"]["mean"] / slowest,
        marker=marker,
        facecolor=colour if rate["above_chance"] else "white",
        edgecolor=colour,
        clip_on=False,
        zorder=3,
    )
    return axes.annotate(
        inert.label(name),
        (accuracy["mean"], height),
        xytext=CORNERS[0],
        textcoords="offset points",
        fontsize=7,
        color=colour,
        zorder=4,
    )
