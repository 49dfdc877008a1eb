"""The central figure: what a method leaks against what it is good for, and what it costs."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from synpriv.audit.null import ALPHA
from synpriv.report import content, figure, inert, marks, members
from synpriv.results import flat, names, store, vouched

Report = dict[str, Any]
RATES = {  # the headline first
    "tpr@fpr=0.01": "TPR at 1% FPR",
    "tpr@fpr=0.001": "TPR at 0.1% FPR",
    "tpr@fpr=0.1": "TPR at 10% FPR",
}
MARKERS = {
    "undefended": ("black", "*"),
    "dpsgd": ("tab:blue", "o"),
    "coreset": ("tab:orange", "s"),
    "distill": ("tab:green", "D"),
    "dfkd": ("tab:red", "^"),
    "diffusion": ("tab:purple", "v"),
}
HOLLOW = "hollow: no more than chance gives"
# Where a label may be beside its point, in points of type, the nearest first.
CORNERS = tuple((x, y) for ys in ((4, -11), (15, -22), (26, -33)) for x in (8, -8) for y in ys)


class Height(NamedTuple):
    """What one report reads in a panel, with its 95% interval."""

    value: float
    low: float
    high: float
    above_chance: bool


def draw_groups(
    reports: Sequence[Report], file: Path, *, family: str, missing: int = 0
) -> list[Path]:
    """Draw what can be compared, `file` or one file per kind of audit.

    family: what the marks are corrected over, of `marks.corrected`.

    Alike are audits of the same canaries in the same data, in as many shadow models of one
    architecture whose members were drawn in the same way, by the same attack; their accuracies are
    of models with wrong labels or of ones without, on test images or on held-out ones. A report
    without others like it is left out, and so is one of unknown accuracy. Returns the PNGs.
    """
    groups: dict[tuple[str, ...], list[Report]] = {}
    for report in reports:
        if report["accuracy"] is None:
            continue
        groups.setdefault(kind(report), []).append(report)
    networks = {alike: _called(model_of(group[0])) for alike, group in groups.items()}
    several = len(set(networks.values())) > 1
    found, used = [], Counter[str]()
    for alike, group in groups.items():
        if len(group) == 1:
            continue
        name = (
            file.name
            if len(groups) == 1
            else "-".join([file.name, *map(inert.file_name, alike[:-1])])
        )
        name += f"-{inert.file_name(networks[alike])}" * several
        used[name] += 1  # groups may differ in what the name does not say
        target = file.with_name(name if used[name] == 1 else f"{name}-{used[name]}")
        draw(group, target, family=family, missing=missing)
        found.append(target.with_suffix(".png"))
    if file.with_suffix(".png") not in found:  # of an earlier time, when all were of one kind
        for suffix in figure.FORMATS:
            file.with_suffix(suffix).unlink(missing_ok=True)
    return found


def kind(report: Report) -> tuple[str, ...]:
    """What two audits must share to be compared; the last part is in no file's name."""
    size = f"{report['num_models']}x{report['num_canaries']}"
    named = (report["dataset"], report["canary"], report["attack"], size)
    others = [report[key] for key in ("attack_options", "canaries_sha256", "membership")]
    others += [report["data"]["sha256"], _network(report), *_measured_on(report)]
    return *named, vouched.json_sha256(others)


def trained_alike(report: Report) -> tuple[str, ...]:
    """What two cells must share for one's accuracy to be the other's reference: all but methods."""
    seen = [report["canaries_sha256"], report["data"]["sha256"], report["membership"]]
    seen += [_network(report), *_measured_on(report)]
    return report["dataset"], report["canary"], vouched.json_sha256(seen)


def _measured_on(report: Report) -> list[str | None]:
    """Of which models an accuracy is, with wrong labels or without, and on which images."""
    source = None if report["accuracy"] is None else str(report["accuracy"]["source"])
    return [source, str(report["data"].get("evaluated_on", "test"))]


def _network(report: Report) -> dict[str, Any]:
    """The architecture; its normalisation is a method's own choice (DP-SGD has no BatchNorm)."""
    return {key: value for key, value in model_of(report).items() if key != "norm"}


def model_of(report: Report) -> dict[str, Any]:
    """Settings of the audited architecture."""
    every = report["settings"].items()
    return {key.removeprefix("model."): v for key, v in every if key.startswith("model.")}


def panels_of(reports: Sequence[Report]) -> list[str]:
    """Keys of what is drawn: the rates that all of these reports resolve.

    TPR at 1% FPR first, beside it at 0.1%; where neither can be resolved 10%, else the AUC.
    """
    resolved = [key for key in RATES if all(report[key]["resolvable"] for report in reports)]
    return [key for key in resolved if key in marks.SHOWN] or [*resolved, marks.AUC][:1]


def hollow(panel: str) -> str:
    """What a hollow marker says: of a rate that stands in no family, its own p alone."""
    corrected = panel in (*marks.SHOWN, marks.AUC)
    return HOLLOW if corrected else f"hollow: p > {ALPHA:.1%}, each marker by itself"


def height(report: Report, key: str) -> Height:
    """A report's number in the panel `key`."""
    if key == marks.AUC:
        ends = (report["auc"], report["auc_low"], report["auc_high"])
        return Height(*ends, above_chance=flat.auc_above_chance(report))
    rate = report[key]
    return Height(rate["tpr"], rate["low"], rate["high"], above_chance=rate["above_chance"])


def draw(reports: Sequence[Report], file: Path, *, family: str, missing: int = 0) -> None:
    """Write `file` as PNG, SVG and PDF: what leaks against accuracy, one point per report.

    Both with their 95% intervals. Marker area grows with the seconds per shadow model; hollow
    markers are what `hollow` says; DP-SGD's points are joined. A TPR of zero has no place on
    a log axis and stands at the bottom. reports: alike, and family, as in `draw_groups`. missing:
    cells of the study that are not audited yet, which the title then says.
    """
    from matplotlib.figure import Figure

    keys = panels_of(reports)
    whole = Figure(figsize=(6.6 * len(keys), 5.4), layout="constrained")
    panels = whole.subplots(1, len(keys), sharex=True, squeeze=False)
    named = [_panel(axes, reports, key) for axes, key in zip(panels[0], keys, strict=True)]
    slowest = max(report["train_s"]["mean"] for report in reports)
    lack = f"; {missing} CELLS ARE MISSING" if missing else ""
    words = [
        inert.label(_shared(reports)),
        f"bars: 95%; area: seconds per model, largest {slowest:.0f} s; line: DP-SGD{lack}",
        f"{hollow(keys[0])}; {family}",
    ]
    wrapped = "\n".join(textwrap.fill(line, 95 * len(keys)) for line in words)
    whole.suptitle(wrapped, fontsize=9)
    whole.draw_without_rendering()  # the layout decides where the labels are
    whole.set_layout_engine("none")  # and stays
    for labels in named:
        _spread(labels)
    for suffix, picture in figure.in_all_formats(whole).items():
        store.write_bytes(file.with_suffix(suffix), picture)


def _panel(axes: Any, reports: Sequence[Report], key: str) -> list[Any]:
    """Draw all reports at one FPR, or their AUC; returns their labels."""
    rates = key != marks.AUC
    floor = min(0.5 / report["n_in"] for report in reports) if rates else 0.0
    slowest = max(report["train_s"]["mean"] for report in reports)
    private = sorted(
        (content.accuracy_95(r)[0], max(height(r, key).value, floor))
        for r in reports
        if paradigm(r) == "dpsgd"
    )
    axes.plot(*zip(*private, strict=True) if private else ((), ()), color="tab:blue", zorder=1)
    labels = [
        _point(axes, report, key, name, floor=floor, slowest=slowest)
        for report, name in zip(reports, names.distinct_methods(reports), strict=True)
    ]
    if rates:
        axes.set(yscale="log", ylim=(floor, 1.3), ylabel="true positive rate of the attack")
    else:
        axes.set(ylabel="AUC of the attack")
    axes.set(xlabel=_accuracy(reports), title=RATES.get(key, "AUC"))
    axes.grid(True, which="major", color="0.9", zorder=0)
    return labels


def _accuracy(reports: Sequence[Report]) -> str:
    """What accuracy the axis shows."""
    wrong = [share for report in reports if (share := content.wrong_labels(report)) is not None]
    images = "/".join(sorted({report["data"].get("evaluated_on", "test") for report in reports}))
    if not wrong:
        return f"{images} accuracy without wrong labels"
    these = "" if len(wrong) == len(reports) else f" ({len(wrong)} of {len(reports)} points)"
    return f"{images} accuracy under up to {max(wrong):.0%} wrong labels{these}"


def _shared(reports: Sequence[Report]) -> str:
    """What all points of a figure share."""
    report, model = reports[0], model_of(reports[0])
    if any(model_of(other) != model for other in reports):
        model = _network(report)
    called = _called(model)
    own = {key: value for key, value in model.items() if key not in ("name", "_target_")}
    options = ", ".join(f"{key} {value}" for key, value in own.items())
    return (
        f"{report['dataset']} ({report['data']['num_private']:,} private images), "
        f"{members.canaries(report)}, {report['num_models']} "
        f"{report['membership']} shadow models ({called}{', ' if options else ''}{options}), "
        f"{report['attack']}"
    )


def _called(model: dict[str, Any]) -> str:
    """What an architecture is called: by its yaml, else by its code."""
    code = str(model.get("_target_", "classifier")).rpartition(".")[2]
    return str(model.get("name") or code)


def paradigm(report: Report) -> str:
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
    read, (accuracy, half) = height(report, key), content.accuracy_95(report)
    colour, marker = MARKERS.get(paradigm(report), ("0.4", "P"))
    y = max(read.value, floor)
    below, above = y - max(read.low, floor), max(read.high, y) - y
    axes.errorbar(
        accuracy,
        y,
        yerr=[[max(below, 0)], [above]],
        xerr=half,
        color=colour,
        linewidth=0.8,
        capsize=2,
        zorder=2,
    )
    axes.scatter(
        accuracy,
        y,
        s=30 + 150 * report["train_s"]["mean"] / slowest,
        marker=marker,
        facecolor=colour if read.above_chance else "white",
        edgecolor=colour,
        clip_on=False,
        zorder=3,
    )
    return axes.annotate(
        inert.label(name),
        (accuracy, y),
        xytext=CORNERS[0],
        textcoords="offset points",
        fontsize=7,
        color=colour,
        zorder=4,
    )
