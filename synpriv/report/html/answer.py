"""The first lines of the page: what may be released, and what it is compared with."""

from __future__ import annotations

from collections.abc import Sequence

from synpriv.report.html.markup import KINDS, ROW, icon, words
from synpriv.report.html.shape import Release, View

MANY = 8  # releases above which only the first of each verdict are seen at once
_NEXT = "What follows from a verdict: “What the figures mean for a decision” in the documentation."


def answer(view: View) -> str:
    """A line per release; what is undefended apart, since nobody releases it."""
    if not view["releases"]:
        return "<p>Nothing can be said: there is no audit yet.</p>"
    released = [one for one in view["releases"] if not one["baseline"]]
    compared = [one for one in view["releases"] if one["baseline"]]
    lines = (
        _lines(released) or "<p>No release was audited, only what releases are compared with.</p>"
    )
    return f'{lines}\n{_compared(compared)}<p class="note">{words(_NEXT)}</p>'


def counts(view: View) -> str:
    """How many releases have which verdict, in the words of the first; baselines are no alarms."""
    released = [one for one in view["releases"] if not one["baseline"]]
    lines = []
    for kind in KINDS:
        if own := [one for one in released if one["kind"] == kind]:
            num = f"<strong>{len(own)} release{'s' * (len(own) > 1)}</strong>"
            said = words(own[0]["words"])
            lines.append(f"<li>{icon(kind)}<span>{num}: {said}</span></li>")
    if baselines := len(view["releases"]) - len(released):
        lines.append(f"<li>{baselines} undefended, to compare with</li>")
    return "\n".join(lines)


def _lines(releases: Sequence[Release]) -> str:
    if len(releases) <= MANY:
        return _list(releases)
    kinds = [[one for one in releases if one["kind"] == kind] for kind in KINDS]
    first = [one for own in kinds for one in own[:ROW]]
    rest = [one for own in kinds for one in own[ROW:]]
    more = f"<details><summary>{len(rest)} more releases</summary>{_list(rest)}</details>"
    return _list(first) + more * bool(rest)


def _list(releases: Sequence[Release]) -> str:
    return f'<ul class="answer">{"".join(map(_line, releases))}</ul>' if releases else ""


def _line(one: Release) -> str:
    partial = "Only a part of its shadow models is audited so far." * one["partial"]
    parts = [one["found"], one["audits"], partial]
    said = " ".join(words(part) for part in parts if part)
    return (
        f"<li>{icon(one['kind'])}<p>{_name(one)}: <strong>{words(one['words'])}</strong>. {said} "
        f"<strong>{words(one['advice'])}</strong></p></li>"
    )


def _compared(baselines: Sequence[Release]) -> str:
    """Without a verdict's icon: what is not protected is expected to leak."""
    if not baselines:
        return ""
    lines = "".join(
        f"<li><p>{_name(one)}: {words(one['words'])}. {words(one['found'])}</p></li>"
        for one in baselines
    )
    return (
        f"<p>Compared with training without any defence, which is no release:</p>"
        f'<ul class="answer baseline">{lines}</ul>\n'
    )


def _name(one: Release) -> str:
    return f'<a href="#cell-{words(one["cells"][0])}"><bdi>{words(one["name"])}</bdi></a>'
