"""The table, the files and the figure that people look at."""

import copy
import csv
import functools
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from synpriv.audit.audit import audit
from synpriv.audit.evidence import Evidence
from synpriv.audit.metrics import roc
from synpriv.data.draws import membership
from synpriv.report import content, figure, names, pairs, table, trade_off
from synpriv.report.__main__ import audited, main
from synpriv.results.reports import save


def report_of(leak: float, method: str) -> tuple[dict, np.ndarray, np.ndarray]:
    return copy.deepcopy(_audited(leak, method))


@functools.cache
def _audited(leak: float, method: str) -> tuple[dict, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    member = membership(50, 64, seed=0)
    labels = np.zeros(50, dtype=np.int64)
    logits = rng.normal(size=(50, 64, 1, 3)).astype(np.float32)
    logits[:, :, 0, 0] += leak * member

    def attack(evidence: Evidence) -> np.ndarray:
        return evidence.logits[:, :, 0, 0].astype(float)

    statistics, statistic = audit(
        attack, Evidence(logits, member, labels, labels), null_rounds=40, bootstrap_rounds=100
    )
    heading = {
        "cell": f"{method}-digits-mislabelled-0123abcd",
        "method": method,
        "dataset": "digits",
        "canary": "mislabelled",
        "attack": "threshold",
        "attack_options": {"score": "hinge"},
        "settings": {"method.name": method, "method.num_epochs": 3},
        "partial": False,
        "test_accuracy": {"mean": 0.95, "sd": 0.01, "n": 64},
        "train_s": {"mean": 2.0, "sd": 0.1, "n": 64},
        "provenance": ["pixels", "labels"],
        "data": {"in_words": "1,000 private images", "warnings": [], "sha256": "0"},
        "tuning": {"num_trials": 1, "distribution": "logarithmic"},
        "seeds": list(range(64)),
        "num_planned": 64,
        "inputs_sha256": "0",
    }
    return heading | statistics, statistic, member


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for leak, method in ((3.0, "undefended"), (0.0, "distill_dm")):
        report, statistic, member = report_of(leak, method)
        file = tmp_path / report["cell"] / "threshold.json"
        curve = roc(statistic, member)
        arrays = {"roc_fpr": curve.fpr, "roc_tpr": curve.tpr}
        save(file, report, arrays, {"threshold.png": figure.png([(report, curve)])})
    return tmp_path


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are drawn."""
    from matplotlib import pyplot as plt

    figures: list[Figure] = []
    monkeypatch.setattr(plt, "close", figures.append)
    return figures


def test_table_holds_the_report_numbers_and_marks_what_is_no_evidence(results: Path) -> None:
    reports = [report for report, _ in audited(results)]
    text = table.text(reports)
    leaky = next(r for r in reports if r["method"] == "undefended")
    assert f"{leaky['tpr@fpr=0.01']['tpr']:.2%}" in text
    assert "1600/1600" in table.markdown(reports, pictures=[])
    assert r"\* no more than chance" in table.markdown(reports, pictures=[])  # else a list's bullet
    assert "pixels, labels" in table.markdown(reports, pictures=[])
    assert max(map(len, text.splitlines()[:3])) < 120
    lines = {line.split()[0]: line for line in text.splitlines() if line.startswith(("und", "dis"))}
    assert "*" in lines["distill_dm"]
    assert "*" not in lines["undefended"]
    assert "no evidence of a leak" in text


def test_csv_has_full_precision(results: Path) -> None:
    reports = [report for report, _ in audited(results)]
    rows = list(csv.DictReader(io.StringIO(table.as_csv(reports))))
    for row, report in zip(rows, reports, strict=True):
        assert float(row["tpr@fpr=0.001"]) == report["tpr@fpr=0.001"]["tpr"]
        assert float(row["tpr@fpr=0.001/low"]) == report["tpr@fpr=0.001"]["low"]
        assert float(row["test_accuracy"]) == 0.95
        assert float(row["auc"]) == report["auc"]


def test_markdown_rows_have_as_many_cells_as_the_header(results: Path) -> None:
    lines = table.markdown(
        [report for report, _ in audited(results)], pictures=["report.png"]
    ).splitlines()[:4]
    assert len({line.count("|") for line in lines}) == 1


def test_report_command_writes_its_files(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(results)]) == 0
    assert "undefended" in capsys.readouterr().out
    assert (results / "report.png").read_bytes().startswith(b"\x89PNG")
    assert (results / "report.md").stat().st_size > 0
    assert (results / "report.csv").stat().st_size > 0
    assert (results / "trade_off.png").read_bytes().startswith(b"\x89PNG")
    assert (results / "trade_off.svg").read_text().rstrip().endswith("</svg>")
    assert "](trade_off.png)" in (results / "report.md").read_text()


def test_a_figure_of_an_earlier_report_does_not_stay(results: Path) -> None:
    for name in ("trade_off-x-y-6x30.png", "trade_off-x-y-6x30.svg", "trade_off-mine.txt"):
        (results / name).touch()
    assert main([str(results)]) == 0
    assert (results / "trade_off.png").is_file()
    assert {file.name for file in results.glob("trade_off-*")} == {"trade_off-mine.txt"}
    shutil.rmtree(next(results.glob("distill*")))
    assert main([str(results)]) == 0  # one report alone is compared with nothing
    assert not list(results.glob("trade_off.*"))


def test_report_command_without_results_says_what_to_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cell").mkdir()
    (tmp_path / "cell" / "cell.yaml").touch()
    for folder, right in (
        (tmp_path, "run python run.py"),
        (tmp_path / "none", "no such folder"),
        (tmp_path / "cell", f"name the folder above it, {tmp_path}"),
    ):
        assert main([str(folder)]) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert right in error


@pytest.mark.parametrize("end", ["json", "npz"])
def test_a_damaged_report_without_its_models_is_named_and_left_out(
    results: Path, end: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = next(results.glob(f"undefended*/threshold.{end}"))
    file.write_text("{")
    assert [report["method"] for report, _ in audited(results)] == ["distill_dm"]
    assert f"left out: {file} " in capsys.readouterr().err


def unresolved(tpr: float, *, above: bool) -> dict:
    """A rate of 90 non-members, which cannot resolve an FPR of 1%."""
    rate = {"tpr": tpr, "low": 0.96 * tpr, "high": tpr, "above_chance": above, "resolvable": False}
    return rate | {"null_band": [0.0, 0.06], "false_positives": 0}


def test_a_certain_finding_of_a_small_cell_is_not_marked_as_unknown(results: Path) -> None:
    whole = audited(results)[0][0] | {"n_out": 90}
    for above, shown in (
        (True, "100.00% [96.00%, 100.00%] at 0 of 90"),
        (False, "5.00%? [4.80%, 5.00%]"),
    ):
        rate = unresolved(1.0 if above else 0.05, above=above)
        (row,) = table.rows_of([whole | dict.fromkeys(trade_off.FPRS, rate)])
        assert row[table.HEADER.index("TPR@1%FPR [95%]")] == shown


@pytest.mark.parametrize(("auc", "shown"), [(0.56, "0.560"), (0.5, "0.500*"), (0.44, "0.440!")])
def test_an_auc_below_its_band_is_not_shown_as_chance(
    results: Path, auc: float, shown: str
) -> None:
    report = audited(results)[0][0] | {"auc": auc, "auc_null_band": [0.46, 0.54]}
    (row,) = table.rows_of([report])
    assert row[table.HEADER.index("AUC")] == shown


def test_a_point_found_at_no_false_positive_is_filled(
    results: Path, tmp_path: Path, kept: list[Figure]
) -> None:
    from matplotlib.collections import PathCollection

    whole = audited(results)[0][0] | {"n_out": 90}
    reports = [
        whole
        | dict.fromkeys(trade_off.FPRS, unresolved(tpr, above=tpr == 1.0))
        | {"test_accuracy": {"mean": tpr, "sd": 0, "n": 6}}
        for tpr in (1.0, 0.05)
    ]
    trade_off.draw(reports, tmp_path / "figure")
    for axes in kept[0].axes:
        points = [c for c in axes.collections if isinstance(c, PathCollection)]
        hollow = {c.get_offsets()[0][0]: (c.get_facecolor() == 1).all() for c in points}
        assert hollow == {1.0: False, 0.05: True}
        assert "read at 0 false positives of 90" in axes.get_title()


def twins(results: Path) -> list[dict]:
    """One method in two cells that differ in the number of epochs alone."""
    first = audited(results)[1][0]
    settings = first["settings"] | {"method.num_epochs": 10}
    other = {"cell": "undefended-digits-mislabelled-89abcdef", "settings": settings}
    return [first, first | other]


def test_rows_that_differ_in_a_swept_option_show_it_and_no_hash(
    results: Path, tmp_path: Path, kept: list[Figure]
) -> None:
    reports = twins(results)
    expected = ["undefended num_epochs=3", "undefended num_epochs=10"]
    text = table.text(reports).partition("TPR@f")[0]
    assert [line.partition("  ")[0] for line in text.splitlines()[2:]] == expected
    assert "89abcdef" not in text
    lines = table.markdown(reports, pictures=[]).splitlines()[2:4]
    assert [line.split(" | ")[0].strip("| ") for line in lines] == expected
    rows = list(csv.DictReader(io.StringIO(table.as_csv(reports))))
    assert [row["name"] for row in rows] == expected
    assert {row["method"] for row in rows} == {"undefended"}
    trade_off.draw(reports, tmp_path / "figure")
    for axes in kept[0].axes:
        assert [label.get_text() for label in axes.texts] == expected
    assert [name.partition(",")[0] for name in names.distinct_names(reports)] == expected


def test_figure_axes_end_below_the_smallest_resolvable_fpr(
    results: Path, kept: list[Figure]
) -> None:
    figure.png(audited(results))
    axes = kept[0].axes[0]
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert axes.get_xlim()[0] == pytest.approx(1 / 1600 / 2)
    labels = [text.get_text() for text in kept[0].legends[0].get_texts()]
    assert labels[0] == "chance"
    assert len(labels) == 3


def test_trade_off_draws_each_report_where_its_numbers_are(
    results: Path, tmp_path: Path, kept: list[Figure]
) -> None:
    from matplotlib.collections import PathCollection

    reports = [report for report, _ in audited(results)]
    slow = report_of(1.0, "dpsgd_high")[0] | {"train_s": {"mean": 8.0, "sd": 0.1, "n": 64}}
    slow |= {"test_accuracy": {"mean": 0.9, "sd": 0.01, "n": 64}}
    private = report_of(0.0, "dpsgd_eps8")[0] | {"test_accuracy": {"mean": 0.8, "sd": 0, "n": 64}}
    reports += [slow, private]
    trade_off.draw(reports, tmp_path / "figure")
    for axes, key in zip(kept[0].axes, ("tpr@fpr=0.001", "tpr@fpr=0.01"), strict=True):
        assert axes.get_yscale() == "log"
        floor = axes.get_ylim()[0]
        points = [c for c in axes.collections if isinstance(c, PathCollection)]
        drawn = [tuple(c.get_offsets()[0]) for c in points]
        expected = [(r["test_accuracy"]["mean"], max(r[key]["tpr"], floor)) for r in reports]
        np.testing.assert_allclose(sorted(drawn), sorted(expected))
        areas = {c.get_offsets()[0][0]: c.get_sizes()[0] for c in points}
        assert areas[0.9] == max(areas.values()) > areas[0.8]
        joined = [line for line in axes.lines if len(line.get_xdata()) == 2]
        assert [list(line.get_xdata()) for line in joined] == [[0.8, 0.9]]


def test_a_label_does_not_cover_the_point_beside_its_own(
    results: Path, tmp_path: Path, kept: list[Figure]
) -> None:
    from matplotlib.text import Annotation

    leak = audited(results)[0][0]
    rate = leak["tpr@fpr=0.1"] | {"low": 0.1, "high": 0.1}
    places = {"left": (0.60, 0.1), "right": (0.610, 0.123), "far": (0.9, 0.1)}
    reports = [
        leak
        | {"method": name, "test_accuracy": {"mean": accuracy, "sd": 0, "n": 2}}
        | dict.fromkeys(trade_off.FPRS, rate | {"tpr": tpr})
        for name, (accuracy, tpr) in places.items()
    ]
    trade_off.draw(reports, tmp_path / "figure")
    for axes in kept[0].axes:
        labels = [x for x in axes.texts if isinstance(x, Annotation)]
        boxes = {label.get_text(): label.get_window_extent() for label in labels}
        assert list(boxes) == list(places)
        points = {name: axes.transData.transform(place) for name, place in places.items()}
        for name, box in boxes.items():
            assert not any(box.contains(*points[other]) for other in places), name
        assert not boxes["left"].overlaps(boxes["right"])


def test_only_what_is_alike_is_compared(results: Path, tmp_path: Path) -> None:
    reports = [report for report, _ in audited(results)]
    assert trade_off.draw_groups(reports[:1], tmp_path / "one") == []
    assert trade_off.draw_groups(reports, tmp_path / "f") == [tmp_path / "f.png"]
    other = [report | {"attack": "lira"} for report in reports]
    clean = [reports[0] | {"canary": "clean"}]
    found = trade_off.draw_groups([*reports, *other, *clean], tmp_path / "f")
    assert [file.name for file in found] == [
        f"f-digits-mislabelled-{attack}-64x50.png" for attack in ("threshold", "lira")
    ]
    assert all(file.is_file() for file in found)


@pytest.mark.parametrize(
    ("other", "name"),
    [
        ({"num_models": 16}, "f-digits-mislabelled-threshold-16x50.png"),
        ({"num_canaries": 9}, "f-digits-mislabelled-threshold-64x9.png"),
        ({"attack_options": {"score": "logit"}}, "f-digits-mislabelled-threshold-64x50-2.png"),
    ],
)
def test_audits_of_other_precision_are_not_compared(
    results: Path, tmp_path: Path, other: dict, name: str
) -> None:
    reports = [report for report, _ in audited(results)]
    found = trade_off.draw_groups([*reports, *(r | other for r in reports)], tmp_path / "f")
    assert [file.name for file in found] == ["f-digits-mislabelled-threshold-64x50.png", name]


def test_a_figure_says_that_cells_are_missing(
    results: Path, tmp_path: Path, kept: list[Figure]
) -> None:
    reports = [report for report, _ in audited(results)]
    for missing in (0, 2):
        trade_off.draw_groups(reports, tmp_path / "f", missing=missing)
    titles = [figure.get_suptitle() for figure in kept]
    assert "MISSING" not in titles[0]
    assert "2 CELLS ARE MISSING" in titles[1]


def pair_arrays(canaries: list[int], closer: list[float], distance: list[float]) -> pairs.Pairs:
    images = np.zeros((len(canaries), 3, 4, 4), dtype=np.uint8)
    found = {"canary": canaries, "closer": closer, "distance": distance}
    return {"images": images, "synthetic": images} | {k: np.array(v) for k, v in found.items()}


def test_pairs_show_each_canary_once_the_closest_first() -> None:
    runs = [
        (0, pair_arrays([3, 5], [0.0, 0.5], [0.7, 0.1])),
        (1, pair_arrays([3, 9], [0.0, 0.0], [0.2, 0.9])),
    ]
    shown = pairs.closest(runs, 2)
    assert [(seed, int(pair["canary"])) for seed, pair in shown] == [(1, 3), (1, 9)]
    assert len(pairs.closest(runs, 10)) == 3
    assert pairs.png(runs, title="x").startswith(b"\x89PNG")


def test_a_dashboard_sees_what_is_no_evidence() -> None:
    leak, none = report_of(3.0, "undefended")[0], report_of(0.0, "distill_dm")[0]
    none["partial"] = True
    for report, found in ((leak, 1), (none, 0)):
        flat = content.flatten(report)
        assert all(type(value) in (int, float) for value in flat.values())
        for key in ("tpr@fpr=0.001", "tpr@fpr=0.01", "tpr@fpr=0.1"):
            assert flat[f"{key}/above_chance"] == found
            assert flat[f"{key}/resolvable"] == report[key]["resolvable"]
            assert [flat[f"{key}/null_{end}"] for end in ("low", "high")] == report[key][
                "null_band"
            ]
            assert (flat[key] > flat[f"{key}/null_high"]) == found
        assert [flat["auc/null_low"], flat["auc/null_high"]] == report["auc_null_band"]
        assert flat["auc/above_chance"] == found
        assert flat["partial"] == 1 - found
        assert content.objective(report, "auc") == report["auc"]
