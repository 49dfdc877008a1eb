"""A screening in words, for a terminal and as Markdown, and as a picture."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from synpriv.report import inert
from synpriv.screen.reading import Images
from synpriv.screen.screening import LEVEL, MEASURES, Found

Report = dict[str, Any]
SHOWN = 10
COLUMNS = ("tpr@fpr=0.001", "tpr@fpr=0.01", "auc")
CAN = (
    "What this can say: whether this one release lies nearer to the private images than to "
    "held-out images of the same law, on average and among the nearest; if so, it carries traces "
    "of them."
)
CANNOT = (
    "What this cannot say: that nobody in it is exposed. It is an average over all private images, "
    "no worst case: one person's leak drowns in thousands, and labels, trained models, other "
    "releases of the same generator and attackers with shadow models are not looked at. No "
    "evidence here is no evidence of privacy; that takes an audit with canaries (method=external)."
)


def rows(report: Report) -> list[list[str]]:
    """The table of measures: a header, then one row each."""
    found = [["private against held-out by", "TPR@0.1%FPR [95%]", "TPR@1%FPR [95%]", "AUC [95%]"]]
    for name, read in report["measures"].items():
        found.append([name, *(_reading(key, read[key]) for key in COLUMNS)])
    return found


def _reading(key: str, read: dict[str, Any]) -> str:
    if not read["resolvable"]:
        return "-"
    scale, digits = (1, 3) if key == "auc" else (100, 2)
    value, low, high = (f"{scale * read[end]:.{digits}f}" for end in ("value", "low", "high"))
    return f"{value}{'' if key == 'auc' else '%'} [{low}, {high}] p {read['p']:.2g}"


def lines(report: Report) -> list[str]:
    """Everything but the table: the verdict first."""
    near, copies = report["nearest"], report["copies"]
    num, unit, total = near["private"] + near["control"], report["unit"], report["num_units"]
    have = "lie" if unit != "groups" else "have images that lie"
    return [
        verdict(report),
        *(f"warning: {words}" for words in report["warnings"]),
        *_notes(report),
        f"copies: {copies['private']:,} of {total['private']:,} private and "
        f"{copies['control']:,} of {total['control']:,} control {unit} {have} in the release bit "
        f"for bit (p {copies['p']:.2g})",
        f"of the {num:,} {unit} that the release comes nearest to (L2 up to "
        f"{near['largest_distance']:.3f}), {near['private']:,} are private, chance gives "
        f"{near['expected_private']:.1f} (exact p {near['p']:.2g})",
        f"{report['num_synthetic']:,} released images; held out: {report['num_control']:,} "
        f"control, {report['num_reference']:,} reference images",
        CAN,
        CANNOT,
    ]


def _notes(report: Report) -> list[str]:
    shared, total, found = report["num_shared"], report["num_units"], []
    if shared["private"]:
        found.append(
            f"note: left out are {shared['private']:,} private and {shared['holdout']:,} held-out "
            "images that are in both sets, equal to the bit"
        )
    if report["unit"] != "images":
        found.append(
            f"note: judged, permuted and resampled as one are the images of each of "
            f"{total['private']:,} private and {total['control']:,} control {report['unit']}, by "
            "the largest value among them"
        )
    return found


def verdict(report: Report) -> str:
    """Whether there is an alarm, and what rang."""
    copies, unit = report["copies"], report["unit"]
    family = f"{report['num_tests']} tests, wrong in {LEVEL:.1%} of releases without a leak"
    if copies["private"] and not copies["control"] and not report["found"]:
        # A fact about these images, whatever a test over all of them says.
        return (
            f"{copies['private']:,} private {unit} are in the release bit for bit, no control "
            f"ones: do not release those; no test over all {unit} rings ({family})"
        )
    if report["not_judged"] is not None:
        rang = f"; what rang: {', '.join(report['found'])}" if report["found"] else ""
        return f"not judged: {report['not_judged']}{rang} ({family})"
    if report["found"]:
        people = report["nearest_is_of_own_set"] is not None
        unless = ", unless near-copies are of one person (see the warning)" * people
        rang = ", ".join(report["found"])
        return f"ALARM{unless}: the release knows the private images ({rang}; {family})"
    return f"no evidence that the release knows the private images ({family})"


def text(report: Report) -> str:
    """For a terminal."""
    cells = rows(report)
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    table = [
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
    rule = "  ".join("-" * width for width in widths)
    first, *rest = lines(report)
    return "\n".join([first, "", table[0], rule, *table[1:], "", *rest])


def markdown(report: Report, picture: str) -> str:
    """The same as a page, with definitions and the picture."""
    header, *others = rows(report)
    table = [header, ["---"] * len(header), *others]
    written = "\n".join(f"| {' | '.join(map(inert.markdown, row))} |" for row in table)
    first, *rest = (inert.markdown(line) for line in lines(report))
    meant = [f"- {name}: {inert.markdown(words)}" for name, words in MEASURES.items()]
    meant.append(
        f"- p: one-sided, who is private permuted among private and control {report['unit']}; "
        "exact where held-out ones are of the same law and each is drawn on its own"
    )
    parts = ["# Screening of one release", first, written, "\n".join(f"- {line}" for line in rest)]
    return "\n\n".join([*parts, f"![nearest pairs]({picture})", "\n".join(meant)]) + "\n"


def png(found: Found, synthetic: Images, private: Images, held_out: Images) -> bytes:
    """A PNG: the private images that the release comes nearest to, and the control ones, in pairs.

    The release's own image is below each.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.1 * SHOWN, 6.4), layout="constrained")
    axes = figure.subplots(4, SHOWN, subplot_kw=dict.fromkeys(("xticks", "yticks"), ()))
    for place in axes.ravel():
        place.set_axis_off()
    both = (
        (private, found.rows, found.private, "private"),
        (held_out, found.order, found.control, "held out"),
    )
    for pair, (images, rows, near, name) in zip((axes[:2], axes[2:]), both, strict=True):
        order = np.argsort(near.distance, kind="stable")[:SHOWN]
        for column, i in zip(pair.T, order, strict=False):
            for place, image in zip(
                column, (images[rows[i]], synthetic[near.place[i]]), strict=True
            ):
                grey = image[0] if len(image) == 1 else np.moveaxis(image, 0, -1)
                place.imshow(grey, cmap="gray", vmin=0, vmax=255)
            column[0].set_title(f"{name} {rows[i]}", fontsize=8)
            column[1].set_title(f"L2 {near.distance[i]:.2f}", fontsize=8)
    figure.suptitle(
        "nearest pairs, each above its nearest released image: private ones, then held-out ones "
        "that the generator has not seen",
        fontsize=9,
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=120, format="png")
    return buffer.getvalue()
