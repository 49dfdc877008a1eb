"""What a training costs, in every form of a report; older runs and reports do not say all of it."""

from typing import Any

import pytest
from example_reports import report_of

from synpriv.report import content, latex, table
from synpriv.results import flat

OLD = {"wall_s": 10.0, "cpu_s": 9.0, "peak_mb": 500.0}
NEW = OLD | {"rise_mb": 20.0, "flops": 3e9}
MOMENTS = {"train_flops": {"mean": 3.21e12, "sd": 0.0, "n": 4}}
MOMENTS["peak_mb"] = {"mean": 512.4, "sd": 3.0, "n": 4}


def run_of(flops: float | None, **stages: dict[str, float]) -> dict[str, Any]:
    about = {"train_s": 1.0, "provenance": [], "data": {}, "canaries_sha256": "0"}
    return about | {"stages": stages, "train_flops": flops}


def test_costs_are_means_over_runs_of_the_sum_and_of_the_largest_peak() -> None:
    large = NEW | {"peak_mb": 700.0}
    runs = [run_of(2e9, fit=NEW, query=large), run_of(4e9, fit=NEW)]
    found = content.from_runs(runs)
    assert found["train_flops"]["mean"] == 3e9
    assert found["peak_mb"]["mean"] == 600.0


@pytest.mark.parametrize(
    "old", [run_of(None, fit=OLD), {**run_of(0, fit=OLD), "train_flops": None}]
)
def test_what_an_older_run_does_not_say_is_not_made_up(old: dict[str, Any]) -> None:
    del old["train_flops"]
    found = content.from_runs([run_of(2e9, fit=NEW), old])
    assert "train_flops" not in found
    assert found["peak_mb"]["mean"] == 500.0
    del old["stages"]
    assert "peak_mb" not in content.from_runs([old])


def test_table_latex_and_numbers_have_flops_and_memory() -> None:
    old, new = report_of(), report_of() | MOMENTS
    rows = [dict(zip(table.HEADER, row, strict=True)) for row in table.rows_of([old, new])]
    assert [row["FLOPs/model"] for row in rows] == ["-", "3.2e+12"]
    assert [row["peak MB"] for row in rows] == ["-", "512"]
    assert {"train_flops", "peak_mb"} & set(flat.flatten(old)) == set()
    assert flat.flatten(new)["train_flops"] == 3.21e12
    assert flat.flatten(new)["peak_mb"] == 512.4
    written = latex.latex([old, new], family="")
    assert " 2.0 s &" in written
    assert " 2.0 s, 3.2e+12 FLOPs, 512 MB &" in written


def test_a_terminal_s_table_is_no_wider_for_it() -> None:
    plain, more = (
        table.text([report], family="family", rest="elsewhere").splitlines()[0]
        for report in (report_of(), report_of() | MOMENTS)
    )
    assert more == plain
