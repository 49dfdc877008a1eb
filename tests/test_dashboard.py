"""The W&B workspace: what its own classes read back from the spec, and what the command says."""

import json
from pathlib import Path
from typing import Any

import pytest
from example_reports import report_of

from synpriv import dashboard, wandb_session
from synpriv.results import reports

pytest.importorskip("wandb_workspaces", reason="the extra [dashboard] is not installed")
from wandb_workspaces import expr
from wandb_workspaces.workspaces import Workspace, internal

KEY = "0" * 40


def audits() -> list[dict[str, Any]]:
    """A DP-SGD at two settings, a distillation with one of its own, a method that nobody knows."""
    base = {"method._target_": "a.b", "method.num_epochs": 3, "canary.kind": "clean"}
    return [
        report_of("dpsgd_low", settings=base | {"method.sigma": 1.0}),
        report_of("dpsgd_high", settings=base | {"method.sigma": 2.0, "canary.kind": "path"}),
        report_of("distill", settings=base | {"method.ipc": 1, "method.num_epochs": 5}),
        report_of("their_own", settings=base),
    ]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Whole reports, and one that is none."""
    for report in audits():
        file = tmp_path / report["cell"] / f"{report['attack']}.json"
        file.parent.mkdir()
        file.write_text("{}")
    return tmp_path


def read_back(spec: dict[str, Any]) -> Workspace:
    """A written spec, through the classes of wandb-workspaces."""
    content = internal.WorkspaceViewspec.model_validate(spec["spec"])
    view = internal.View(
        **{"entity": spec["entity"], "project": spec["project"], "id": "", "name": ""},
        **{"display_name": spec["name"], "spec": content},
    )
    return Workspace._from_model(view)


def panels(found: Workspace) -> dict[str, list[Any]]:
    by_kind: dict[str, list[Any]] = {}
    for section in found.sections:
        for panel in section.panels:
            by_kind.setdefault(type(panel).__name__, []).append(panel)
    return by_kind


def test_the_spec_reads_back_as_what_was_built() -> None:
    made = dashboard.workspace("team", "leaks", audits())
    written = json.dumps(dashboard.spec(made))
    found = read_back(json.loads(written))
    assert (found.entity, found.project, found.name) == ("team", "leaks", dashboard.NAME)
    again = dashboard.spec(found)
    assert again == json.loads(written)


def test_the_panels_show_what_an_audit_mirrors() -> None:
    found = read_back(dashboard.spec(dashboard.workspace("team", "leaks", audits())))
    by_kind = panels(found)
    scatter = by_kind["ScatterPlot"][0]
    assert (scatter.x.name, scatter.y.name, scatter.z.name) == (
        "tpr@fpr=0.01",
        "accuracy",
        "train_s",
    )
    assert scatter.log_x
    (curve,) = by_kind["LinePlot"]
    assert (curve.x.name, [y.name for y in curve.y]) == ("roc/fpr", ["roc/tpr"])
    assert curve.log_x
    assert curve.log_y
    (axes,) = by_kind["ParallelCoordinatesPlot"]
    assert [column.metric.name for column in axes.columns] == [
        *("method.name", "method.num_epochs", "method.sigma", "accuracy", "tpr@fpr=0.01"),
    ]
    assert by_kind["RunComparer"][0].diff_only == "split"
    media = [key for panel in by_kind["MediaBrowser"] for key in panel.media_keys]
    assert media == ["roc", "canaries/most_exposed", "nearest_pairs/released", "visual_privacy"]
    tables = [panel.table_name for panel in by_kind["WeavePanelSummaryTable"]]
    assert tables == ["canaries", "nearest_pairs"]
    assert "UnknownPanel" not in by_kind


def test_audits_alone_are_shown_none_averaged_coloured_by_method() -> None:
    found = read_back(dashboard.spec(dashboard.workspace("team", "leaks", audits())))
    shown = found.runset_settings
    assert expr.expr_to_filters(shown.filters) == expr.expr_to_filters(
        'Metric("JobType") == "audit"'
    )
    assert [key.name for key in shown.groupby] == ["Group", "attack.name"]
    low, high, distilled, own = (report["cell"] for report in audits())
    assert shown.group_colors[low] == shown.group_colors[high] != shown.group_colors[distilled]
    assert own not in shown.group_colors
    assert "summary:tpr@fpr=0.01/null_high" in shown.pinned_columns


def test_without_a_key_the_spec_is_written_and_the_line_says_how_to_save_it(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(wandb_session, "reach", lambda: ("offline", "https://w", "it has no key"))
    monkeypatch.setattr(reports, "read", lambda file: next(left))
    left = iter([*audits()[:3], None])
    assert dashboard.main([str(results), "--entity", "team", "--project", "leaks"]) == 0
    written = json.loads((results / "dashboard.json").read_text())
    assert (written["entity"], written["project"]) == ("team", "leaks")
    assert len(written["spec"]["section"]["customRunColors"]) == 3
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "not saved: W&B has no key for https://w; `wandb login` stores one; then python" in said


def test_a_view_is_saved_once_and_a_refusal_leaves_the_spec(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sent: list[Any] = []

    def takes(view: Any) -> dict[str, Any]:
        sent.append(view)
        return {"upsertView": {"view": {"name": view.name, "id": "1"}}}

    monkeypatch.setattr(wandb_session, "reach", lambda: ("online", "https://w", None))
    monkeypatch.setattr(wandb_session, "default_entity", lambda: "me")
    monkeypatch.setattr(Workspace, "url", property(lambda self: "https://w/me/synpriv"))
    monkeypatch.setattr(internal, "upsert_view2", takes)
    for name in ("WANDB_ENTITY", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    assert dashboard.main([str(results)]) == 0
    said = capsys.readouterr().out
    assert "no whole report" in said
    assert "saved: https://w/me/synpriv\n" in said
    assert [(view.entity, view.project) for view in sent] == [("me", "synpriv")]
    assert not (results / "dashboard.json").exists()

    def refuses(view: Any) -> None:
        raise RuntimeError("permission\ndenied")

    monkeypatch.setattr(internal, "upsert_view2", refuses)
    assert dashboard.main([str(results), "--out", str(results / "x" / "y.json")]) == 1
    assert "not saved: permission denied" in capsys.readouterr().err
    assert read_back(json.loads((results / "x" / "y.json").read_text())).project == "synpriv"


def test_a_mistyped_folder_is_refused_and_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"typo: no such folder; must be the `results`"):
        dashboard.main([str(tmp_path / "typo")])
    assert list(tmp_path.iterdir()) == []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(wandb_session, "reach", lambda: ("offline", "https://w", None))
    assert dashboard.main([]) == 0


def test_a_mistake_of_ours_is_no_refusal_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(dashboard, "_roc")
    with pytest.raises(NameError):
        dashboard._save("me", "leaks", [])


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"pip install 'synpriv\[dashboard\]'$"):
        dashboard.main([])
