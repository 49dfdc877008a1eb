"""A number on a line of its own: its interval, and the band that it is read against."""

from __future__ import annotations

import math

from synpriv.report.html.shape import Beside

WIDTH, HEIGHT = 120, 12  # of the drawing, in its own units
LEAST = 1e-3  # the left end of a logarithmic line; what is smaller stands there
EDGE = 4  # room for the mark at both ends


def strip(number: Beside, *, log: bool) -> str:
    """An inline SVG; words beside it say the same, so that it is hidden from screen readers.

    log: from 0.1% to 100% in decades, as rates are; else from 0 to 1.
    """
    if number["value"] is None:
        return ""
    band = _line(number["reference_low"], number["reference_high"], "band", log=log)
    interval = _line(number["low"], number["high"], "interval", log=log)
    ends = f'<path class="axis" d="M{EDGE} 6H{WIDTH - EDGE}"/>'
    mark = f'<circle cx="{_place(number["value"], log=log)}" cy="6" r="3"/>'
    return (
        f'<svg class="strip" viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true">'
        f"{band}{ends}{interval}{mark}</svg>"
    )


def _line(low: float | None, high: float | None, name: str, *, log: bool) -> str:
    if low is None or high is None:
        return ""
    left, right = _place(low, log=log), _place(high, log=log)
    return f'<path class="{name}" d="M{left} 6H{max(right, left + 1):g}"/>'


def _place(value: float, *, log: bool) -> float:
    """Where a share stands, rounded to what can be seen."""
    inside = min(max(value, LEAST if log else 0.0), 1.0)
    share = 1 - math.log10(inside) / math.log10(LEAST) if log else inside
    return round(EDGE + share * (WIDTH - 2 * EDGE), 1)
