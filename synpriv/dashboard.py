"""`python -m synpriv.dashboard`: a W&B workspace that shows a team all mirrored audits.

Saved where W&B is logged in, else written as JSON. What tells the audits in RESULTS apart decides
which settings are compared and which colour a cell has; without RESULTS these two are left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from synpriv import cli, interrupts, probe, schema, terminal, wandb_session
from synpriv.report.trade_off import MARKERS, paradigm
from synpriv.results import reports, store

Report = dict[str, Any]
DEFAULT = "multirun"  # need not be there: the audits themselves are in W&B
NAME = "synpriv: what leaks, at what accuracy and cost"
HEADLINE = "tpr@fpr=0.01"
_MOST_SETTINGS = 10  # axes of the parallel coordinates beside accuracy and rate
_READING = f"""\
**How to read this.** A rate says something only beside chance: compare `{HEADLINE}` with
`{HEADLINE}/null_high`, and look at `/above_chance` and `/resolvable`. `/low` and `/high` are the
ends of its 95% interval. Audits of other canaries, data or membership do not belong into one
figure. A rate of zero has no place on a logarithmic axis. Each audit's page is its artifact.
"""


def workspace(entity: str, project: str, found: Sequence[Report]) -> Any:
    """A wandb_workspaces Workspace of the audits in a project; nothing is sent before `save`."""
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces import expr

    sections = {
        "Trade-off": _trade_off(),
        "ROC": _roc(),
        "Settings": _settings(settings_that_differ(found)),
        "Cost": _cost(),
        "Canaries": _canaries(),
    }
    figures = (HEADLINE, f"{HEADLINE}/low", f"{HEADLINE}/high", f"{HEADLINE}/null_high")
    shown = ("verdict", *figures, "accuracy", "epsilon", "epsilon_bound", "train_s", "partial")
    return ws.Workspace(
        entity=entity,
        project=project,
        name=NAME,
        sections=[ws.Section(name=n, panels=p, is_open=True) for n, p in sections.items()],
        settings=ws.WorkspaceSettings(max_runs=100),
        runset_settings=ws.RunsetSettings(
            filters=expr.And(expr.Metric("JobType") == "audit"),
            # Of one cell alone the figures of several attacks would be averaged.
            groupby=[expr.Metric("Group"), expr.Config("attack.name")],
            group_colors=colours(found),
            order=[expr.Ordering(expr.Summary(HEADLINE), ascending=False)],
            pinned_columns=[f"summary:{key}" for key in shown],
        ),
    )


def colours(found: Sequence[Report]) -> dict[object, object]:
    """Cell -> the colour of its way of training, which figures of ours use too."""
    from matplotlib.colors import to_hex

    known = [(report["cell"], MARKERS.get(paradigm(report))) for report in found]
    return {cell: to_hex(look[0]) for cell, look in known if look is not None}


def settings_that_differ(found: Sequence[Report]) -> list[str]:
    """The method's settings that tell audits apart, those that most audits have first."""
    values: dict[str, list[str]] = {}
    for report in found:
        for key, value in report["settings"].items():
            if key.startswith("method.") and not key.endswith(("_target_", "_partial_")):
                values.setdefault(key, []).append(json.dumps(value, default=str))
    differing = [key for key, seen in values.items() if len(set(seen)) > 1 and key != "method.name"]
    differing.sort(key=lambda key: (-len(values[key]), key))
    return ["method.name", *differing[:_MOST_SETTINGS]]


def _trade_off() -> list[Any]:
    import wandb_workspaces.reports.v2 as wr

    accuracy, cost = wr.SummaryMetric("accuracy"), wr.SummaryMetric("train_s")
    rates = {HEADLINE: "TPR at FPR 1%", f"{HEADLINE}/high": "its upper 95% limit"}
    scatters = [
        wr.ScatterPlot(
            title=f"Accuracy against {words}",
            x=wr.SummaryMetric(key),
            y=accuracy,
            z=cost,
            log_x=True,
        )
        for key, words in rates.items()
    ]
    beside = [f"{HEADLINE}/low", HEADLINE, f"{HEADLINE}/high", f"{HEADLINE}/null_high"]
    epsilons = ["epsilon_bound", "epsilon"]
    return [
        wr.MarkdownPanel(markdown=_READING),
        *scatters,
        wr.BarPlot(title="TPR at FPR 1% with its interval, beside chance", metrics=[*beside]),
        wr.BarPlot(title="epsilon: audited from below, proven from above", metrics=[*epsilons]),
    ]


def _roc() -> list[Any]:
    import wandb_workspaces.reports.v2 as wr

    title = "ROC; left of roc/resolved_from mostly noise; chance is the diagonal"
    curve = wr.LinePlot(title=title, x="roc/fpr", y=["roc/tpr"], max_runs_to_show=100)
    curve.log_x, curve.log_y = True, True
    curve.range_x, curve.range_y = (None, 1.0), (None, 1.0)
    limits = wr.BarPlot(title="FPR from which a curve is resolved", metrics=["roc/resolved_from"])
    return [curve, limits, wr.MediaBrowser(title="ROC with the limit", media_keys=["roc"])]


def _settings(keys: Sequence[str]) -> list[Any]:
    import wandb_workspaces.reports.v2 as wr

    axis = wr.ParallelCoordinatesPlotColumn
    columns = [axis(metric=wr.Config(key)) for key in keys]
    columns += [axis(metric=wr.SummaryMetric("accuracy"))]
    columns += [axis(metric=wr.SummaryMetric(HEADLINE), log=True)]
    title = "The method's settings, accuracy and leak"
    return [
        wr.ParallelCoordinatesPlot(title=title, columns=columns),
        wr.RunComparer(diff_only="split"),
    ]


def _cost() -> list[Any]:
    import wandb_workspaces.reports.v2 as wr

    x, y = wr.SummaryMetric("train_s"), wr.SummaryMetric("accuracy")
    return [
        wr.BarPlot(title="Seconds of training, mean over shadow models", metrics=["train_s"]),
        wr.ScatterPlot(title="Accuracy against seconds of training", x=x, y=y, log_x=True),
    ]


def _canaries() -> list[Any]:
    import wandb_workspaces.reports.v2 as wr

    keys = {
        "The most exposed canaries": ["canaries/most_exposed"],
        "Released images nearest to them": ["nearest_pairs/released"],
        "Nearest pairs, all in one picture": ["visual_privacy"],
    }
    pictures = [wr.MediaBrowser(title=t, media_keys=k, num_columns=5) for t, k in keys.items()]
    tables = [wr.WeavePanelSummaryTable(table_name=name) for name in ("canaries", "nearest_pairs")]
    return [*pictures, *tables]


def spec(made: Any) -> dict[str, Any]:
    """A workspace as plain JSON: what `save` would send, and where to."""
    model = made._to_model()
    content = json.loads(model.spec.model_dump_json(by_alias=True, exclude_none=True))
    return {"entity": made.entity, "project": made.project, "name": made.name, "spec": content}


def audits_in(results: Path) -> list[Report]:
    """The whole reports below a folder; `synpriv.report` says what is wrong with others."""
    read = (reports.read(file) for file in sorted(results.glob("*/[!.]*.json")))
    return [report for report in read if report is not None]


def main(argv: list[str]) -> int:
    """Save or write the workspace; ValueError in one line where that cannot be."""
    terminal.never_fail()
    parser = argparse.ArgumentParser(prog="python -m synpriv.dashboard", description=__doc__)
    parser.add_argument("results", nargs="?", default=DEFAULT, type=Path)
    parser.add_argument("--entity", default=os.environ.get("WANDB_ENTITY"), help="a user or team")
    project = os.environ.get("WANDB_PROJECT") or schema.Logger.project
    parser.add_argument("--project", default=project, help=f"by default {project}")
    parser.add_argument("--out", type=Path, help="JSON if not saved; RESULTS/dashboard.json")
    given = parser.parse_args(argv)
    if importlib.util.find_spec("wandb_workspaces") is None:
        raise ValueError("wandb-workspaces is not installed; pip install 'synpriv[dashboard]'")
    wandb_session.check()
    if not given.results.is_dir() and given.results != Path(DEFAULT):
        raise ValueError(f"{given.results}: no such folder; must be the `results` of a sweep")
    found = audits_in(given.results)
    if not found:
        print(terminal.one_line(f"{given.results}: no whole report, so no colours and settings"))
    mode, url, problem = wandb_session.reach()
    if problem == wandb_session.NO_KEY:
        problem = f"W&B has no key for {url}; `wandb login` stores one"
    elif problem is not None:
        problem = f"W&B at {url}: {problem}"
    why = problem or (None if mode in ("online", "shared") else "WANDB_MODE asks for no server")
    refused = why is None
    if why is None and (why := _save(given.entity, given.project, found)) is None:
        return 0
    out = given.out or given.results / "dashboard.json"
    content = spec(workspace(given.entity or "", given.project, found))
    out.parent.mkdir(parents=True, exist_ok=True)
    store.write_bytes(out, json.dumps(content, indent=1).encode())
    again = shlex.join(["python", "-m", "synpriv.dashboard", *argv])
    line = f"written: {out}; not saved: {why}; then {again} saves it"
    print(terminal.one_line(line), file=sys.stderr if refused else sys.stdout)
    return int(refused)


def _save(entity: str | None, project: str, found: Sequence[Report]) -> str | None:
    """Why the server or its client did not save it; None once it is."""
    try:
        whose = entity or wandb_session.default_entity()
    except Exception as error:  # noqa: BLE001 - of the client, said in one line
        return probe.in_one_line(error)
    made = workspace(whose, project, found)
    try:
        made.save()
    except Exception as error:  # noqa: BLE001 - of the server or of its client, said in one line
        return probe.in_one_line(error)
    print(terminal.one_line(f"saved: {probe.without_password(made.url)}"))
    print(
        "saved again it is a second view, since W&B finds none by its title: delete the older one"
    )
    return None


if __name__ == "__main__":
    with cli.errors_in_one_line():
        interrupts.raise_in_main()
        sys.exit(main(sys.argv[1:]))
