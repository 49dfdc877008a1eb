"""The table, the files and the figure that people look at."""

import csv
import functools
import io
import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
from example_reports import ARRAYS, report_of
from matplotlib.figure import Figure

from synpriv.audit.evidence import Evidence
from synpriv.report import figure, page, pairs, table, trade_off
from synpriv.report.__main__ import audited, main
from synpriv.results import flat, names
from synpriv.results.reports import save

draw_groups = functools.partial(trade_off.draw_groups, family="alone")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    leaky = report_of("undefended", tpr=0.4321)
    words = "tpr@fpr=0.01 = 0.0110 is no evidence of a leak"
    for report in (leaky, report_of("distill_dm", tpr=0.011, p=0.4, warnings=[words])):
        file = tmp_path / report["cell"] / "threshold.json"
        save(file, report, ARRAYS, {"threshold.png": b"picture"})
    return tmp_path


def text_of(reports: list[dict]) -> str:
    return table.text(reports, family="alone", rest="report.md")


def markdown_of(reports: list[dict], *pictures: str) -> str:
    return page.markdown(reports, family="alone", pictures=pictures)


def shown(report: dict, column: str) -> str:
    """What stands in a column of a report's row."""
    (row,) = table.rows_of([report])
    return row[table.HEADER.index(column)]


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are drawn, without the seconds that writing them takes."""
    figures: list[Figure] = []

    def keep(figure: Figure, *_: object, **__: object) -> None:
        if figure not in figures:  # one is written in two formats
            figures.append(figure)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


@pytest.fixture
def not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which figures there are matters, not what is in them."""
    monkeypatch.setattr(
        trade_off, "draw", lambda _, file, **__: file.with_suffix(".png").write_bytes(b"picture")
    )


def test_table_holds_the_report_numbers_and_marks_what_is_no_evidence(results: Path) -> None:
    reports = [cell.report for cell in audited(results).cells]
    text = text_of(reports)
    assert "16000/16000" in markdown_of(reports)
    assert r"\*: no more than chance" in markdown_of(reports)  # else a list's bullet
    assert "pixels, labels" in markdown_of(reports)
    lines = {line.split()[0]: line for line in text.splitlines() if line.startswith(("und", "dis"))}
    assert "43.2% [38.9, 47.5]" in lines["undefended"]
    assert "*" not in lines["undefended"]
    assert lines["distill_dm"].count("*") == 3
    assert (
        "0.950 ± 0.004" in lines["undefended"]
    )  # half of the 95% interval of the clean-canary runs
    assert "90%/1%" in lines["undefended"]
    assert "8%/97%" in lines["undefended"]


def test_a_terminal_shows_one_table_its_marks_in_words_and_three_notes() -> None:
    many = [
        report_of(f"m{i}", tpr=0.01, p=0.5, cell=f"m{i}-0", warnings=[f"odd {i}", "few", "z" * 999])
        for i in range(12)
    ]
    lines = text_of(many).splitlines()
    below = lines[2 + len(many) :]
    assert max(map(len, lines)) <= table.WIDTH
    assert [line[0] for line in below[1:2]] == ["*"]  # no other mark occurs
    assert "no evidence of a leak" in below[1]
    assert below[2] == "alone"
    assert len(below[3:]) == 3
    assert below[3] == "m0: odd 0"
    assert below[4] == "all rows: few"
    assert below[5].startswith("12 more notes, ")
    assert below[5].endswith("report.md")
    written = markdown_of(many)
    assert all(f"- odd {i}" in written for i in range(12))
    assert "z" * 999 in written


@pytest.mark.parametrize("marks", ["", "*?!"])
def test_only_marks_that_occur_are_explained(marks: str) -> None:
    report = report_of() if not marks else report_of(p=0.5, n_out=90, auc=0.4, tpr=0.0)
    below = text_of([report]).splitlines()[3:]
    assert [line[0] for line in below if line[:2] in ("* ", "? ", "! ")] == list(marks)


@pytest.mark.parametrize(("rule", "outside"), [({}, False), ({"admission": 0.73}, True)])
def test_a_row_below_the_accuracy_that_a_study_asks_for_is_marked(
    rule: dict[str, float], outside: bool
) -> None:
    reports = [report_of(**rule, accuracy=0.73), report_of("dfkd", **rule, accuracy=0.729)]
    text, written = text_of(reports), markdown_of(reports)
    assert ("0.729# ± 0.004" in text) == ("0.729# ± 0.004" in written) == outside
    assert "0.730 ± 0.004" in text
    assert ("outside the study's admission rule" in text) == outside
    rows = list(csv.DictReader(io.StringIO(table.as_csv(reports))))
    assert [row.get("admitted") for row in rows] == (["1", "0"] if outside else [None, None])


def test_a_page_lists_variants_definitions_and_data_once() -> None:
    reports = [report_of(), report_of("dfkd", cell="dfkd-0")]
    written = markdown_of(reports)
    assert written.count("| all/hinge/trained | 0.4200 | 0.7500 | 100% |") == 2
    assert written.count("largest with FPR &lt;= target") == 1
    assert written.count("digits: few images") == 1


def test_an_accuracy_under_wrong_labels_says_so() -> None:
    audited_models = {"source": "audited models", "mean": 0.9, "se": 0.01, "half": 0.02, "n": 64}
    for share, expected in ((0.06, "0.900 ± 0.020 under 6% wrong labels"), (0.01, "0.900 ± 0.020")):
        report = report_of(accuracy=0.9) | {"accuracy": audited_models | {"wrong_labels": share}}
        assert shown(report, "accuracy") == expected


def test_clean_canaries_have_no_wrong_label() -> None:
    reports = [report_of(canary="clean")]
    assert shown(reports[0], "wrong in/out") == "-"
    assert "wrong in/out" not in text_of(reports).splitlines()[0]
    assert shown(reports[0], "true in/out") == "8%/97%"


def test_a_bound_is_beside_what_could_be_shown_of_what_is_proven() -> None:
    report = report_of()
    assert shown(report, "bound") == "1.00 of 7.00"
    assert shown(report | {"epsilon_bound_at_proven": 3.5}, "bound") == "1.00 of 3.50"
    without = {k: v for k, v in report.items() if not k.startswith(("epsilon_bound", "epsilon_g"))}
    assert (shown(without, "bound"), shown(without, "GDP")) == ("-", "-")
    assert "bound" not in text_of([without]).splitlines()[0]


def test_csv_has_full_precision(results: Path) -> None:
    reports = [cell.report for cell in audited(results).cells]
    rows = list(csv.DictReader(io.StringIO(table.as_csv(reports))))
    for row, report in zip(rows, reports, strict=True):
        assert float(row["tpr@fpr=0.001"]) == report["tpr@fpr=0.001"]["tpr"]
        assert float(row["tpr@fpr=0.001/low"]) == report["tpr@fpr=0.001"]["low"]
        assert float(row["accuracy"]) == 0.95
        assert float(row["answers/trained_label/in"]) == 0.9
        assert row["epsilon"] == ""
        assert float(row["auc"]) == report["auc"]


def test_markdown_rows_have_as_many_cells_as_the_header(results: Path) -> None:
    lines = markdown_of(
        [cell.report for cell in audited(results).cells], "report.png"
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


@pytest.mark.usefixtures("not_drawn")
def test_a_figure_of_an_earlier_report_does_not_stay(results: Path) -> None:
    (results / "trade_off.svg").touch()
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
    assert [cell.report["method"] for cell in audited(results).cells] == ["distill_dm"]
    assert f"left out: {file} " in capsys.readouterr().err


def test_a_rate_that_cannot_be_resolved_is_never_a_headline() -> None:
    small = report_of(n_out=900)
    assert shown(small, "TPR@1%FPR [95%]") == "50.0%? [45.0, 55.0] at FPR 0.011"
    assert shown(small, "TPR@0.1%FPR [95%]") == "50.0%? [45.0, 55.0] at FPR 0.0011"
    assert shown(report_of(n_out=900, p=0.5), "TPR@1%FPR [95%]").startswith("50.0%*? ")
    assert "TPR@0.1%" not in text_of([small]).splitlines()[0]
    assert "TPR@0.1%" in text_of([small, report_of(n_out=10_000, cell="x-0")]).splitlines()[0]
    assert trade_off.panels_of([small]) == ["tpr@fpr=0.1"]


@pytest.mark.parametrize(
    ("auc", "p", "expected"), [(0.56, 0.01, "0.560"), (0.5, 0.4, "0.500*"), (0.44, 0.99, "0.440!")]
)
def test_an_auc_below_its_band_is_not_shown_as_chance(auc: float, p: float, expected: str) -> None:
    report = report_of(auc=auc, auc_p=p, auc_low=0.41, auc_high=0.59)
    assert shown(report, "AUC [95%]") == f"{expected} [0.410, 0.590]"


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((16_000, 16_000), ["tpr@fpr=0.01", "tpr@fpr=0.001"]),
        ((16_000, 9_000), ["tpr@fpr=0.01"]),  # where it resolves for all
        ((1000,), ["tpr@fpr=0.01"]),
        ((100, 1000), ["tpr@fpr=0.1"]),
        ((90,), ["auc"]),
    ],
)
def test_only_what_all_resolve_is_drawn(
    sizes: tuple[int, ...], expected: list[str], tmp_path: Path, kept: list[Figure]
) -> None:
    reports = [report_of(n_out=n, cell=f"x-{n}{i}") for i, n in enumerate(sizes)]
    assert trade_off.panels_of(reports) == expected
    trade_off.draw(reports, tmp_path / "figure", family="alone")
    assert len(kept[0].axes) == len(expected)


def test_what_chance_gives_is_hollow(tmp_path: Path, kept: list[Figure]) -> None:
    from matplotlib.collections import PathCollection

    reports = [
        report_of(f"m{tpr}", tpr=tpr, p=p, accuracy=tpr, cell=f"m{tpr}-0")
        for tpr, p in ((0.9, 0.02), (0.05, 0.03))
    ]
    trade_off.draw(reports, tmp_path / "figure", family="alone")
    for axes in kept[0].axes:
        points = [c for c in axes.collections if isinstance(c, PathCollection)]
        hollow = {c.get_offsets()[0][0]: (c.get_facecolor() == 1).all() for c in points}
        assert hollow == {0.9: False, 0.05: True}


def twins(results: Path) -> list[dict]:
    """One method in two cells that differ in the number of epochs alone."""
    first = audited(results).cells[1].report
    settings = first["settings"] | {"method.num_epochs": 10}
    other = {"cell": "undefended-digits-mislabelled-89abcdef", "settings": settings}
    return [first, first | other]


def test_rows_that_differ_in_a_swept_option_show_it_and_no_hash(
    results: Path, tmp_path: Path, kept: list[Figure]
) -> None:
    reports = twins(results)
    expected = ["undefended num_epochs=3", "undefended num_epochs=10"]
    text = text_of(reports).partition("\n±")[0]
    assert [line.partition("  ")[0] for line in text.splitlines()[2:]] == expected
    assert "89abcdef" not in text
    lines = markdown_of(reports).splitlines()[2:4]
    assert [line.split(" | ")[0].strip("| ") for line in lines] == expected
    rows = list(csv.DictReader(io.StringIO(table.as_csv(reports))))
    assert [row["name"] for row in rows] == expected
    assert {row["method"] for row in rows} == {"undefended"}
    trade_off.draw(reports, tmp_path / "figure", family="alone")
    for axes in kept[0].axes:
        assert [label.get_text() for label in axes.texts] == expected
    assert [name.partition(",")[0] for name in names.distinct_names(reports)] == expected


def test_figure_axes_end_below_the_smallest_resolvable_fpr(
    results: Path, kept: list[Figure]
) -> None:
    figure.png([(cell.report, cell.roc) for cell in audited(results).cells])
    axes = kept[0].axes[0]
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert axes.get_xlim()[0] == pytest.approx(1 / 16_000 / 2)
    labels = [text.get_text() for text in kept[0].legends[0].get_texts()]
    assert labels[0] == "chance"
    assert len(labels) == 3


def test_trade_off_draws_each_report_where_its_numbers_are(
    tmp_path: Path, kept: list[Figure]
) -> None:
    from matplotlib.collections import LineCollection, PathCollection

    slow = {"train_s": {"mean": 8.0, "sd": 0.1, "n": 64}}
    reports = [
        report_of("undefended", tpr=0.9),
        report_of("distill_dm", tpr=0.0, accuracy=0.7, p=0.5),
        report_of("dpsgd_high", tpr=0.2, accuracy=0.9, **slow),
        report_of("dpsgd_eps8", tpr=0.01, accuracy=0.8, p=0.5),
    ]
    trade_off.draw(reports, tmp_path / "figure", family="alone")
    for axes in kept[0].axes:
        assert axes.get_yscale() == "log"
        floor = axes.get_ylim()[0]
        points = [c for c in axes.collections if isinstance(c, PathCollection)]
        drawn = [tuple(c.get_offsets()[0]) for c in points]
        expected = [(0.95, 0.9), (0.7, floor), (0.9, 0.2), (0.8, 0.01)]
        np.testing.assert_allclose(sorted(drawn), sorted(expected))
        areas = {c.get_offsets()[0][0]: c.get_sizes()[0] for c in points}
        assert areas[0.9] == max(areas.values()) > areas[0.8]
        joined = [line for line in axes.lines if list(line.get_xdata()) == [0.8, 0.9]]
        assert len(joined) == 1
        bars = [c for c in axes.collections if isinstance(c, LineCollection)]
        ends = [bar.get_segments()[0] for bar in bars]
        across = [segment for segment in ends if segment[0][0] < segment[1][0]]
        widths = [segment[1][0] - segment[0][0] for segment in across]
        np.testing.assert_allclose(widths, 2 * 0.004)  # 95%, as the TPR's
        upright = {round(s[0][0], 6): (s[0][1], s[1][1]) for s in ends if s[0][0] == s[1][0]}
        assert upright[0.9] == pytest.approx((0.18, 0.22))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [((0, 0), "without wrong labels"), ((0.06, 0), "under up to 6% wrong labels (1 of 2 points)")],
)
def test_the_axis_says_what_accuracy_it_shows(
    wrong: tuple[float, ...], said: str, tmp_path: Path, kept: list[Figure]
) -> None:
    reports = [
        report_of(cell=f"x-{i}")
        | {"accuracy": {"mean": 0.9, "se": 0.01, "half": 0.02, "n": 4, "source": "audited models"}}
        for i in range(2)
    ]
    for report, share in zip(reports, wrong, strict=True):
        report["accuracy"]["wrong_labels"] = share
    trade_off.draw(reports, tmp_path / "figure", family="alone")
    assert {axes.get_xlabel() for axes in kept[0].axes} == {f"test accuracy {said}"}


def test_a_label_does_not_cover_the_point_beside_its_own(
    tmp_path: Path, kept: list[Figure]
) -> None:
    from matplotlib.text import Annotation

    places = {"left": (0.60, 0.1), "right": (0.610, 0.123), "far": (0.9, 0.1)}
    reports = [
        report_of(name, tpr=tpr, accuracy=accuracy) for name, (accuracy, tpr) in places.items()
    ]
    trade_off.draw(reports, tmp_path / "figure", family="alone")
    for axes in kept[0].axes:
        labels = [x for x in axes.texts if isinstance(x, Annotation)]
        boxes = {label.get_text(): label.get_window_extent() for label in labels}
        assert list(boxes) == list(places)
        points = {name: axes.transData.transform(place) for name, place in places.items()}
        for name, box in boxes.items():
            assert not any(box.contains(*points[other]) for other in places), name
        assert not boxes["left"].overlaps(boxes["right"])


@pytest.mark.usefixtures("not_drawn")
def test_only_what_is_alike_is_compared(results: Path, tmp_path: Path) -> None:
    reports = [cell.report for cell in audited(results).cells]
    assert draw_groups(reports[:1], tmp_path / "one") == []
    assert draw_groups(reports, tmp_path / "f") == [tmp_path / "f.png"]
    other = [report | {"attack": "lira"} for report in reports]
    clean = [reports[0] | {"canary": "clean"}]
    found = draw_groups([*reports, *other, *clean], tmp_path / "f")
    assert [file.name for file in found] == [
        f"f-digits-mislabelled-{attack}-64x500.png" for attack in ("threshold", "lira")
    ]
    assert all(file.is_file() for file in found)


@pytest.mark.usefixtures("not_drawn")
@pytest.mark.parametrize(
    ("other", "name"),
    [
        ({"num_models": 16}, "f-digits-mislabelled-threshold-16x500.png"),
        ({"num_canaries": 9}, "f-digits-mislabelled-threshold-64x9.png"),
        ({"attack_options": {"score": "logit"}}, "f-digits-mislabelled-threshold-64x500-2.png"),
        ({"canaries_sha256": "1"}, "f-digits-mislabelled-threshold-64x500-2.png"),
        ({"membership": "balanced"}, "f-digits-mislabelled-threshold-64x500-2.png"),
        (
            {"settings": {"model.width": 9, "model.name": "convnet"}},
            "f-digits-mislabelled-threshold-64x500-2.png",
        ),
    ],
)
def test_audits_of_other_precision_canaries_or_models_are_not_compared(
    results: Path, tmp_path: Path, other: dict, name: str
) -> None:
    reports = [cell.report for cell in audited(results).cells]
    found = draw_groups([*reports, *(r | other for r in reports)], tmp_path / "f")
    assert [file.name for file in found] == ["f-digits-mislabelled-threshold-64x500.png", name]


@pytest.mark.usefixtures("not_drawn")
def test_figures_of_several_networks_are_named_by_them(results: Path, tmp_path: Path) -> None:
    reports = [cell.report for cell in audited(results).cells]
    other = {"settings": {"model.name": "vit_digits", "model._target_": "vit_tiny"}}
    found = draw_groups([*reports, *(r | other for r in reports)], tmp_path / "f")
    assert [file.name for file in found] == [
        f"f-digits-mislabelled-threshold-64x500-{name}.png" for name in ("convnet", "vit_digits")
    ]


def test_labels_of_points_side_by_side_do_not_overlap() -> None:
    from matplotlib.figure import Figure as Canvas

    whole = Canvas(figsize=(6, 4))
    axes = whole.subplots()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    labels = [
        axes.annotate(
            f"method_{i}", (0.5, 0.5 + i / 100), xytext=(8, 4), textcoords="offset points"
        )
        for i in range(6)
    ]
    whole.draw_without_rendering()
    trade_off._spread(labels)
    boxes = [label.get_window_extent() for label in labels]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_a_figure_says_that_cells_are_missing(
    results: Path, tmp_path: Path, kept: list[Figure]
) -> None:
    reports = [cell.report for cell in audited(results).cells]
    for missing in (0, 2):
        draw_groups(reports, tmp_path / "f", missing=missing)
    titles = [figure.get_suptitle() for figure in kept]
    assert "MISSING" not in titles[0]
    assert "2 CELLS ARE MISSING" in titles[1]


def test_a_title_names_what_all_points_share(tmp_path: Path, kept: list[Figure]) -> None:
    settings = {"model._target_": "synpriv.models.convnet", "model.width": 16, "method.x": 3}
    draw_groups([report_of(settings=settings)] * 2, tmp_path / "f")
    title = kept[0].get_suptitle().replace("\n", " ")
    for words in ("digits (1,000 private images)", "500 mislabelled canaries", "64 paired shadow"):
        assert words in title
    assert "(convnet, width 16), threshold" in title
    assert "alone" in title


def pair_arrays(canaries: list[int], closer: list[float], distance: list[float]) -> pairs.Pairs:
    images = np.zeros((len(canaries), 3, 4, 4), dtype=np.uint8)
    found = {"canary": canaries, "closer": closer, "distance": distance}
    return {"images": images, "synthetic": images} | {k: np.array(v) for k, v in found.items()}


def test_pairs_show_each_canary_once_first_what_no_model_without_it_comes_near() -> None:
    member = np.array([[True, False, True, False]] * 3)
    distance = np.array([[0.2, 0.1, 0.3, 0.9], [0.5, 0.6, 0.9, 0.7], [0.1, 0.1, 0.4, 0.4]])
    labels = np.zeros(3, dtype=np.int64)
    logits = np.zeros((3, 4, 1, 2), dtype=np.float32)
    evidence = Evidence(logits, member, labels, labels, distance.astype(np.float32))
    runs = [
        (10, pair_arrays([0, 1, 2], [0.0, 0.5, 0.0], [0.2, 0.5, 0.1])),
        (12, pair_arrays([0, 1], [0.0, 0.0], [0.3, 0.9])),
    ]
    shown = pairs.closest(runs, evidence, [10, 11, 12, 13], 10)
    assert [(s.seed, int(s.pair["canary"]), s.rank) for s in shown] == [
        (10, 1, (0, 2)),  # far, but farther still where it is OUT
        (10, 2, (1, 2)),
        (10, 0, (1, 2)),
    ]
    assert len(pairs.closest(runs, evidence, [10, 11, 12, 13], 2)) == 2
    found = {"nearer": 1, "pairs": 6, "chance": 1.9, "p": 0.4, "above_chance": False}
    assert pairs.png(shown, found, title="x").startswith(b"\x89PNG")


def test_a_picture_says_whether_chance_gives_as_much(kept: list[Figure]) -> None:
    found = {"nearer": 1234, "pairs": 6000, "chance": 98.7, "p": 0.4, "above_chance": False}
    for above, words in ((False, "no picture below shows a leak"), (True, "nearer to members")):
        pairs.png([], found | {"above_chance": above}, title="x")
        title = kept[-1].get_suptitle()
        assert "1,234 of 6,000 pairs" in title
        assert "chance gives 99" in title
        assert words in title


def test_a_dashboard_sees_what_is_no_evidence() -> None:
    leak, none = report_of(), report_of("distill_dm", tpr=0.0, p=0.5, partial=True)
    leak["nearness"] = {"nearer": 9, "pairs": 99, "chance": 8.5, "p": 0.4, "above_chance": False}
    for report, found in ((leak, 1), (none, 0)):
        numbers = flat.flatten(report)
        assert all(type(value) in (int, float) for value in numbers.values())
        for key in ("tpr@fpr=0.001", "tpr@fpr=0.01", "tpr@fpr=0.1"):
            assert numbers[f"{key}/above_chance"] == found
            assert numbers[f"{key}/resolvable"] == report[key]["resolvable"]
            assert [numbers[f"{key}/null_{end}"] for end in ("low", "high")] == report[key][
                "null_band"
            ]
            assert numbers[f"{key}/p"] == report[key]["p"]
        assert [numbers["auc/null_low"], numbers["auc/null_high"]] == report["auc_null_band"]
        assert numbers["auc/above_chance"] == found
        assert numbers["partial"] == 1 - found
        assert [numbers["auc/low"], numbers["auc/high"]] == [report["auc_low"], report["auc_high"]]
        assert numbers["accuracy/se"] == 0.002
        assert numbers["epsilon_bound"] == 1.0


@pytest.mark.parametrize(
    ("n_out", "words"),
    [(200, "hollow: p > 2.5%, each marker by itself; alone"), (16_000, trade_off.HOLLOW)],
)
def test_a_hollow_marker_of_a_rate_in_no_family_says_so(
    n_out: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(
        figure, "in_all_formats", lambda drawn: said.append(drawn.get_suptitle()) or {}
    )
    reports = [report_of(name, n_out=n_out, cell=name) for name in ("a", "b")]
    trade_off.draw(reports, tmp_path / "figure", family="alone")
    assert words in " ".join(said[0].split())
