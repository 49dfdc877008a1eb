"""What a hyper-parameter search ends with: its trials as a table and a csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from hydra_plugins.synpriv._study import Study, Trial
from synpriv import terminal
from synpriv.objective import Objective
from synpriv.report import inert
from synpriv.results import store

_MOST_COMMANDS = 5  # of configurations that no other beats
_MOST_ROWS = 30  # of the table; the csv has all


def ranked(study: Study) -> list[Trial]:
    """All trials: those that no other beats, others that respect all bounds, the rest, failed."""
    best = {trial.number for trial in study.best()}

    def rank(trial: Trial) -> tuple:
        done = trial.state == "complete"
        highest = [-value for value in trial.score]
        return trial.number not in best, not done, not trial.respects, highest, trial.number

    return sorted(study.trials(), key=rank)


def winners(study: Study) -> list[Trial]:
    """Those to train anew: of several with the same cell the first."""
    cells: dict[str, Trial] = {}
    for trial in study.best():
        cells.setdefault(trial.about["cell"], trial)
    return list(cells.values())[:_MOST_COMMANDS]


def table(study: Study, objective: Objective) -> str:
    """The best trials, what matters in them, and how many there were."""
    trials, best = ranked(study), {trial.number for trial in study.best()}
    shown = list(dict.fromkeys([*objective.names, "accuracy", "tpr@fpr=0.01"]))
    rows = [["trial", *study.space, *shown, ""]]
    for trial in trials[:_MOST_ROWS]:
        values = [_short(trial.values.get(key, "")) for key in study.space]
        numbers = [_short(trial.numbers.get(name, "-")) for name in shown]
        number = f"{trial.number}{' *' * (trial.number in best)}"
        rows.append([number, *values, *numbers, _about(trial)])
    states = [trial.state for trial in trials]
    counted = ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states))
    asked = " and ".join(_sum(terms) for terms in objective.sums)
    bounds = f" subject to {', '.join(map(str, objective.bounds))}" * bool(objective.bounds)
    lines = ["", *_aligned(rows), f"{len(trials)} trials ({counted}); * best: {asked}{bounds}"]
    if shares := study.importances():
        told = ", ".join(f"{key} {share:.2f}" for key, share in shares.items())
        lines.append(f"importance (PED-ANOVA): {told}")
    lines.append(f"all trials: {study.file('csv')}")
    return "\n".join(map(terminal.one_line, lines))


def _sum(terms: dict[str, float]) -> str:
    """As it might have been typed."""
    text = "".join(
        f" {'-' if factor < 0 else '+'} {'' if abs(factor) == 1 else f'{abs(factor):g}*'}{name}"
        for name, factor in terms.items()
    )
    return text.removeprefix(" + ").strip()


def _about(trial: Trial) -> str:
    if trial.state == "complete":
        return "" if trial.respects else "exceeds a bound"
    return f"failed: {trial.reason[:60]}" if trial.reason else trial.state


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def none_fits(study: Study, objective: Objective) -> str:
    """That nothing was found, in one line."""
    bounds, found = ", ".join(map(str, objective.bounds)), study.trials()
    if not any(trial.state == "complete" for trial in found):
        return f"none of {len(found)} trials could be trained and audited, see above"
    return f"none of {len(found)} trials respects {bounds}; search elsewhere, or bound it less"


def write(study: Study, objective: Objective) -> None:
    """Write all trials, best first, as a csv."""
    names = list(dict.fromkeys(name for trial in study.trials() for name in trial.numbers))
    sums = [f"maximised/{place}" for place in range(len(objective.sums))]
    best = {trial.number for trial in study.best()}
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(
        map(
            inert.cell,
            ["trial", "state", "best", "respects", *study.space, *sums, *names, "cell", "why"],
        )
    )
    for trial in ranked(study):
        respects = int(trial.respects) if trial.state == "complete" else ""
        line = [trial.number, trial.state, int(trial.number in best), respects]
        line += [trial.values.get(key, "") for key in study.space]
        line += list(trial.score) or [""] * len(sums)
        line += [trial.numbers.get(name, "") for name in names]
        rows.writerow(map(inert.cell, [*line, trial.about.get("cell", ""), trial.reason]))
    store.write_bytes(study.file("csv"), text.getvalue().encode())
