"""The page of several audits in Markdown: table, legend, pictures, then all that a cell says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from synpriv.report import inert, members, networks, table
from synpriv.report.verdict import verdict
from synpriv.results import names

Report = dict[str, Any]


def markdown(reports: Sequence[Report], *, family: str, pictures: Sequence[str] = ()) -> str:
    """What a terminal shows and everything that it leaves out.

    `family`: what the marks are corrected over, of `marks.corrected`; `pictures`: files beside it.
    """
    marked = "\n".join(f"- {mark}: {words}" for mark, words in table.MARKS.items())
    legend = f"{marked.replace('*', chr(92) + '*')}\n- {inert.markdown(family)}"
    explained = "\n".join(f"- {line}" for line in table.LEGEND.splitlines())
    of_groups = table.about_groups(reports)
    for words in [*of_groups, *([members.step(reports)] if of_groups else [])]:
        explained += f"\n- {inert.markdown(words)}"
    shown = "\n\n".join(f"![{inert.markdown(Path(n).stem)}]({quote(n)})" for n in pictures)
    parts = [_table([table.HEADER, *table.rows_of(reports)]), legend, explained, shown]
    parts += [_cell(*pair) for pair in zip(names.distinct_names(reports), reports, strict=True)]
    parts += [_listed("Networks", _about_networks(reports)), _listed("Data", _about_data(reports))]
    parts += [_listed("Definitions", _definitions(reports))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, the first row its header."""
    header, *others = [[inert.markdown(word) for word in row] for row in rows]
    every = [header, ["---"] * len(header), *others]
    return "\n".join("| " + " | ".join(words) + " |" for words in every)


def _listed(title: str, lines: Sequence[str]) -> str:
    """A heading and a list; nothing where there is nothing to list."""
    items = "\n".join(f"- {inert.markdown(line)}" for line in lines)
    return f"## {title}\n\n{items}" if lines else ""


def _cell(name: str, report: Report) -> str:
    """Its verdict, what it warns of, its most exposed canaries, what each variant reads."""
    found = verdict(report)
    lines = [*report["warnings"], *filter(None, [members.most_exposed(report)])]
    parts = [f"**{inert.markdown(found['words'])}.** {inert.markdown(found['sentence'])}"]
    parts.append("\n".join(f"- {inert.markdown(line)}" for line in lines))
    if variants := report.get("variants"):
        keys = list(next(iter(variants.values())))
        chosen = report.get("variants_chosen", {})
        rows = [["variant", *keys, "chosen for"]]
        rows += [
            [variant, *(f"{read[key]:.4f}" for key in keys), f"{chosen.get(variant, 0):.0%}"]
            for variant, read in variants.items()
        ]
        parts.append(_table(rows))
    return "\n\n".join([f"## {inert.markdown(name)}", *filter(None, parts)])


def _about_networks(reports: Sequence[Report]) -> list[str]:
    """Which network each cell audits, and which others its method works with."""
    every = zip(names.distinct_names(reports), reports, strict=True)
    return [f"{name}: {networks.in_words(report['settings'])}" for name, report in every]


def _about_data(reports: Sequence[Report]) -> list[str]:
    """What was seen of each data set."""
    seen = {f"{report['dataset']}: {report['data']['in_words']}": None for report in reports}
    return list(seen)


def _definitions(reports: Sequence[Report]) -> list[str]:
    """What the numbers mean, each once."""
    found = {
        f"{key}: {words}": None
        for report in reports
        for key, words in report["definitions"].items()
    }
    return list(found)
