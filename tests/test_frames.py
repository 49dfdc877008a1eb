"""All reports, runs and costs as data frames: the same numbers as the files they come from."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from example_reports import ARRAYS, report_of

from benchmarks.page import study
from synpriv.report import table
from synpriv.results import frame
from synpriv.results.reports import save


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("frames")
    study(place, 1, 6, 12)
    other = report_of("dpsgd_eps8", cell="dpsgd_eps8-0", epsilon=8.0)
    save(place / "dpsgd_eps8-0" / "threshold.json", other, ARRAYS, {"threshold.png": b""})
    return place


def test_audits_are_the_numbers_of_the_csv_with_their_settings(results: Path) -> None:
    found = frame(results)
    reports = [json.loads(file.read_bytes()) for file in sorted(results.glob("*/threshold.json"))]
    rows = list(csv.DictReader(table.as_csv(reports).splitlines()))
    assert found["cell"].tolist() == [report["cell"] for report in reports]
    assert list(found.columns[: len(rows[0])]) == list(rows[0])
    for row, (_, shown) in zip(rows, found.iterrows(), strict=True):
        for key in row:
            try:
                assert float(row[key]) == pytest.approx(float(shown[key]))
            except ValueError:
                assert row[key] == str(shown[key]) or (row[key] == "" and shown[key] != shown[key])
    assert found["method.num_epochs"].tolist()[0] == 3
    assert found.attrs["left_out"] == []


def test_runs_and_stages_have_a_row_each(results: Path) -> None:
    runs, stages = frame(results, level="runs"), frame(str(results), level="stages")
    assert runs["seed"].tolist() == list(range(6))
    metrics = json.loads((results / runs["cell"][0] / "3" / "metrics.json").read_bytes())
    assert runs["test_accuracy"][3] == metrics["test_accuracy"]
    assert runs["data.num_private"][3] == metrics["data"]["num_private"]
    assert len(stages) == 6 * 2
    assert set(stages.columns) == {"cell", "seed", "method", "stage", "wall_s", "cpu_s", "peak_mb"}
    assert stages.groupby("stage")["wall_s"].mean().to_dict() == {"fit": 10.0, "query": 10.0}


def test_what_is_damaged_is_named_and_left_out(
    results: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, content in (("a/lira.json", "{"), ("a/0/metrics.json", "[]")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    for level in ("audits", "runs", "stages"):
        found = frame(tmp_path, level=level)  # type: ignore[arg-type]
        assert len(found) == 0
        assert len(found.attrs["left_out"]) == 1
        assert "damaged" in found.attrs["left_out"][0]
    assert caplog.text.count("left out: ") == 3
    with pytest.raises(ValueError, match=r"level=cells: must be one of audits, runs, stages"):
        frame(tmp_path, level="cells")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no such folder"):
        frame(tmp_path / "nothing")


def test_a_renamed_copy_is_no_second_row(results: Path, tmp_path: Path) -> None:
    place = tmp_path / "copied"
    shutil.copytree(results / "dpsgd_eps8-0", place / "dpsgd_eps8-0")
    shutil.copytree(results / "dpsgd_eps8-0", place / "backup-0")
    found = frame(place)
    assert found["cell"].tolist() == ["dpsgd_eps8-0"]
    (why,) = found.attrs["left_out"]
    assert "threshold of dpsgd_eps8-0; name it as it was" in why
    assert "backup-0" in why


def test_the_columns_do_not_depend_on_what_was_audited(results: Path, tmp_path: Path) -> None:
    alone = report_of("distill", tpr=0.01, p=0.7)
    save(tmp_path / alone["cell"] / "threshold.json", alone, ARRAYS, {"threshold.png": b""})
    one, every = frame(tmp_path), frame(results)
    columns = ["name", "epsilon", "epsilon_tuned", "noise_multiplier", "delta", "verdict"]
    assert set(columns) <= set(one.columns) & set(every.columns)
    assert one[columns[:1] + columns[-1:]].values.tolist() == [["distill", "none"]]
    assert one[columns[1:-1]].isna().to_numpy().all()
    assert one["epsilon"].dtype == float
    assert dict(zip(every["method"], every["epsilon"], strict=True))["dpsgd_eps8"] == 8.0
