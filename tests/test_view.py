"""What the page shows: the numbers of the reports, and of the canaries what loops count again."""

from __future__ import annotations

import base64
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from example_reports import ARRAYS, report_of
from PIL import Image

from benchmarks.page import study
from synpriv.audit.metrics import operating_point, roc
from synpriv.data.pool import Pool
from synpriv.report import figure
from synpriv.report.__main__ import Found, audited, main
from synpriv.report.audited import Audited, Canaries, with_files
from synpriv.report.html import compared, curves, exposed, view
from synpriv.report.html.shape import View
from synpriv.report.html.write import html, view_of
from synpriv.results import canary_images, store

NUM_CELLS, NUM_MODELS, NUM_CANARIES = 3, 8, 40


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("study")
    study(place, NUM_CELLS, NUM_MODELS, NUM_CANARIES)
    return place


@pytest.fixture(scope="module")
def found(results: Path) -> Found:
    return audited(results)


@pytest.fixture(scope="module")
def page(found: Found) -> View:
    shown = view.view(found.cells, missing=found.missing)
    return json.loads(json.dumps(shown, allow_nan=False))


@pytest.fixture
def not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which figures there are matters, not the seconds that drawing takes."""
    pictures = dict.fromkeys(figure.FORMATS, b"picture")
    monkeypatch.setattr(figure, "in_all_formats", lambda _: pictures)
    monkeypatch.setattr(figure, "roc", lambda _: None)


def audited_of(*reports: dict) -> list[Audited]:
    statistic, member = ARRAYS["statistic"], ARRAYS["member"]
    curve = roc(statistic, member)
    return [Audited(report, curve, statistic, member, [], None, {}) for report in reports]


def test_every_number_is_that_of_the_report(page: View, found: Found) -> None:
    assert len(page["cells"]) == NUM_CELLS
    for cell, audit in zip(page["cells"], found.cells, strict=True):
        report = audit.report
        for key in ("tpr@fpr=0.001", "tpr@fpr=0.01", "tpr@fpr=0.1"):
            shown, rate = cell["rates"][key], report[key]
            assert [shown[k] for k in ("value", "low", "high")] == [
                rate[k] for k in ("tpr", "low", "high")
            ]
            assert [shown["reference_low"], shown["reference_high"]] == rate["null_band"]
        ends = [cell["auc"][key] for key in ("value", "low", "high")]
        assert ends == [report["auc"], report["auc_low"], report["auc_high"]]
        mean, half = report["accuracy"]["mean"], report["accuracy"]["half"]
        assert cell["accuracy"]["low"] == pytest.approx(mean - half)
        assert [(p["x"], p["x_half"]) for p in cell["points"]] == [(mean, half)] * len(
            cell["points"]
        )
        assert cell["settings"]["method.step"] == report["settings"]["method.step"]
        assert cell["stages"] == [
            {"stage": stage, "wall_s": 10.0, "cpu_s": 9.0, "peak_mb": 500.0}
            | {"rise_mb": None, "flops": None}
            for stage in ("fit", "query")
        ]
    dfkd, distill, undefended = page["cells"]
    assert undefended["accuracy"]["reference"] == "this is the undefended model"
    assert dfkd["accuracy"]["reference"].startswith("undefended 0.900")
    assert distill["nearness"] is not None
    assert undefended["nearness"] is None


def test_a_thinned_curve_is_made_of_exact_points_and_thresholds(page: View, found: Found) -> None:
    for cell, audit in zip(page["cells"], found.cells, strict=True):
        points = set(zip(curves.rounded(audit.roc.fpr), curves.rounded(audit.roc.tpr), strict=True))
        curve, scores = cell["roc"], cell["scores"]
        shown = list(zip(curve["fpr"], curve["tpr"], strict=True))
        assert set(shown) <= points
        assert shown[0] == (0.0, 0.0)
        assert shown[-1] == (1.0, 1.0)
        assert len(shown) <= curves.MOST
        values, truth = audit.statistic.ravel(), audit.member.ravel()
        assert scores["thresholds"] == sorted(scores["thresholds"], reverse=True)
        for i, threshold in enumerate(scores["thresholds"]):
            accused = [bool(value >= threshold) for value in values]
            pairs = list(zip(accused, truth.tolist(), strict=True))
            assert scores["true_positives"][i] == pairs.count((True, True))
            assert scores["false_positives"][i] == pairs.count((True, False))


@pytest.mark.parametrize("seed", range(5))
def test_what_a_report_reads_is_among_the_thresholds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    member = rng.random((300, 101)) < 0.5
    statistic = (rng.normal(size=member.shape) + 2 * member).round(4)
    found = curves.scores(statistic, member, roc(statistic, member))
    assert len(found["thresholds"]) <= curves.MOST
    n_out = int((~member).sum())
    for fpr in (0.001, 0.01, 0.1):
        point = operating_point(statistic, member, fpr)
        i = found["thresholds"].index(point.threshold)
        assert found["false_positives"][i] == point.false_positives
        assert found["false_positives"][i + 1] > fpr * n_out  # where a slider begins


def test_histograms_count_every_score_and_gather_what_is_extreme() -> None:
    rng = np.random.default_rng(0)
    statistic = np.append(rng.normal(size=998), [1e9, -1e9]).reshape(100, 10)
    statistic[3, 4] = np.nan
    member = rng.random((100, 10)) < 0.5
    usable = np.isfinite(statistic)
    found = curves.scores(statistic, member, roc(statistic[usable], member[usable]))
    edges = found["edges"]
    assert -5 < edges[0] < edges[-1] < 5
    for side, counts in ((member, found["members"]), (~member, found["non_members"])):
        naive = [0] * (len(edges) - 1)
        for value in statistic[usable & side]:
            inside = min(max(value, edges[0]), edges[-1])
            naive[max(i for i in range(len(naive)) if edges[i] <= inside)] += 1
        assert counts == naive
        assert sum(counts) == (usable & side).sum()
    equal = curves.scores(np.ones((2, 2)), ARRAYS["member"], roc(np.ones(4), [1, 0, 1, 0]))
    assert sum(equal["members"]) == sum(equal["non_members"]) == 2


def test_found_and_accused_are_shares_of_models_at_the_reports_threshold(
    page: View, found: Found
) -> None:
    for cell, audit in zip(page["cells"], found.cells, strict=True):
        threshold = audit.report["tpr@fpr=0.01"]["threshold"]
        every = cell["all_canaries"]
        for canary in range(NUM_CANARIES):
            for side, key in ((True, "found"), (False, "accused")):
                models = [s for s in range(NUM_MODELS) if audit.member[canary, s] == side]
                hits = [s for s in models if audit.statistic[canary, s] >= threshold]
                assert every[key][canary] == pytest.approx(len(hits) / len(models), abs=1e-4)
        shown = [(c["canary"], c["effect"]) for c in cell["canaries"]]
        assert shown == [(int(i), effect) for i, effect in audit.report["most_exposed"]]


def test_undefined_statistics_give_no_number_instead_of_a_wrong_one() -> None:
    statistic = np.array([[np.nan, np.nan], [2.0, 0.0]])
    report = report_of(num_canaries=2, num_models=2)
    audit = audited_of(report)[0]._replace(statistic=statistic)
    every = exposed.everyone(audit)
    assert every["found"] == [None, 1.0]
    assert every["accused"] == [None, 0.0]
    assert every["effect"] == [None, None]  # one model on a side has no spread
    never = report | {"tpr@fpr=0.01": report["tpr@fpr=0.01"] | {"threshold": None}}
    assert exposed.shares(audit._replace(report=never)) == ([None, 0.0], [None, 0.0])


def test_pictures_are_the_canaries_and_the_nearest_released_images(
    results: Path, page: View, found: Found
) -> None:
    with np.load(next(results.glob("*/canaries.npz")), allow_pickle=False) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    for cell, audit in zip(page["cells"], found.cells, strict=True):
        for canary in cell["canaries"]:
            assert canary["picture"] is not None
            shown = pixels(page, canary["picture"])
            np.testing.assert_array_equal(shown, np.moveaxis(images[canary["canary"]], 0, -1))
            assert canary["trained_label"] == "abcdefghij"[labels[canary["canary"]]]
            assert canary["place"] == f"row {canary['canary']}"
            if (near := canary["nearest"]) is None:
                continue
            run = results / cell["cell"] / str(near["seed"])
            pairs = store.read_arrays(run / store.PAIRS)
            row = pairs["canary"].tolist().index(canary["canary"])
            np.testing.assert_array_equal(
                pixels(page, near["picture"]), np.moveaxis(pairs["synthetic"][row], 0, -1)
            )
            distances = [
                store.read_arrays(run.parent / str(seed) / store.EVIDENCE)["nearest"]
                for seed in range(NUM_MODELS)
            ]
            outside = [s for s in range(NUM_MODELS) if not audit.member[canary["canary"], s]]
            own = distances[near["seed"]][canary["canary"]]
            assert near["as_near"] == sum(distances[s][canary["canary"]] <= own for s in outside)
            assert near["out"] == len(outside)
            assert near["chance"] == pytest.approx(
                exposed.as_few_by_chance(near["as_near"], len(outside), NUM_MODELS - len(outside)),
                abs=1e-4,
            )
    assert any(canary["nearest"] for canary in page["cells"][1]["canaries"])
    assert any("private images of the data set" in line for line in page["legend"])


def test_how_many_come_as_near_is_read_against_chance() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.random((20_000, 9)).argsort(1)  # distances of 4 models with, 5 without a canary
    as_near = (drawn[:, 4:] < drawn[:, :4].min(1, keepdims=True)).sum(1)
    for few in range(6):
        chance = exposed.as_few_by_chance(few, 5, 4)
        assert chance == pytest.approx((as_near <= few).mean(), abs=0.02)
    assert exposed.as_few_by_chance(0, 4, 4) == 0.5


def test_effects_and_pairs_stand_beside_what_chance_gives(page: View, found: Found) -> None:
    nulls = [audit.report["most_exposed_null"] for audit in found.cells]
    assert [cell["most_exposed_null"] for cell in page["cells"]] == page["heat"][0]["chance"]
    assert page["heat"][0]["chance"] == nulls
    assert all(null is not None for null in nulls)
    distill = page["cells"][1]
    assert "40 of 160 pairs" in str(distill["nearness_in_words"])
    assert "no picture below shows a leak" in str(distill["nearness_in_words"])
    assert page["cells"][2]["nearness_in_words"] is None


def test_a_picture_that_is_not_there_says_why(found: Found) -> None:
    undefended, distill = found.cells[2], found.cells[1]
    bare = distill._replace(canaries=None, nearest={})
    elsewhere = bare._replace(report=distill.report | {"evidence_file": "a.npz"})
    with_pair = exposed.most_exposed(distill, exposed.everyone(distill), room(), num=10)
    others = [one["no_nearest"] for one in with_pair if one["nearest"] is None]
    assert set(others) <= {"not among the nearest pairs that its models kept"}
    for audit, album, picture, nearest in (
        (undefended, room(), None, "no released images to compare"),
        (distill, room(0), "no room", "no room"),
        (bare, room(), "its image was not kept", "lost or were not kept"),
        (bare._replace(pictures=False), room(), "pictures are left out", "pictures are left out"),
        (elsewhere, room(), "its image was not kept", "there are distances alone"),
    ):
        every = exposed.everyone(audit)
        shown = exposed.most_exposed(audit, every, album, num=10)
        one = next(c for c, pair in zip(shown, with_pair, strict=True) if pair["nearest"])
        assert (one["nearest"], one["picture"] is None) == (None, picture is not None)
        assert str(picture or "None") in str(one["no_picture"])
        assert nearest in str(one["no_nearest"])


def room(most: int = exposed.MOST_BYTES) -> exposed.Album:
    album = exposed.Album(1, most=most)
    album.next_cell()
    return album


def pixels(page: View, key: str) -> np.ndarray:
    _, _, content = page["pictures"][key].partition(",")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


def test_a_large_picture_is_made_small_and_each_audit_has_its_share_of_the_room() -> None:
    album = exposed.Album(1)
    album.next_cell()
    key = album.add(np.zeros((3, 200, 100), np.uint8))
    assert key is not None
    assert album.add(np.zeros((3, 200, 100), np.uint8)) == key
    content = album.pictures[key].partition(",")[2]
    assert Image.open(io.BytesIO(base64.b64decode(content))).size == (32, 64)
    noise = np.random.default_rng(0).integers(0, 256, (40, 3, 32, 32), dtype=np.uint8)
    album = exposed.Album(2, most=60_000)
    found = []
    for images in (noise[:20], noise[20:]):
        album.next_cell()
        found.append([album.add(image) is not None for image in images])
    assert found[0] == sorted(found[0], reverse=True)  # the most exposed come first
    assert 5 <= sum(found[0]) <= sum(found[1]) + 1
    assert album.left_out == 40 - sum(map(sum, found))
    assert sum(map(len, album.pictures.values())) < 60_000 + 40 * 30


def test_a_heat_map_holds_the_effects_of_shared_canaries(page: View, found: Found) -> None:
    (heat,) = page["heat"]
    assert heat["rows"] == [cell["name"] for cell in page["cells"]]
    for row, cell in zip(heat["values"], page["cells"], strict=True):
        assert row == [cell["all_canaries"]["effect"][column] for column in heat["columns"]]
    largest = [max(values) for values in zip(*heat["values"], strict=True)]
    assert largest == sorted(largest, reverse=True)
    reports = [report_of("a", cell="a-0"), report_of("b", cell="b-0", canaries_sha256="1")]
    assert view.view(audited_of(*reports))["heat"] == []


def test_members_of_a_group_are_one_row_with_the_picture_of_its_first_image() -> None:
    images = np.arange(3 * 4, dtype=np.uint8).reshape(3, 1, 2, 2)
    labels, groups = np.array([1, 0, 2]), np.array([1, 0, 1])
    report = report_of(groups={"images": 3, "smallest": 1, "largest": 2})
    report["data"] = report["data"] | {"class_names": ["cat", "dog", "cow"]}
    given = Canaries(labels, labels, groups, images)
    audit = audited_of(report)[0]._replace(canaries=given)
    every = exposed.everyone(audit)
    assert every["trained_label"] == ["cat", "dog, cow"]
    album = exposed.Album(1)
    album.next_cell()
    assert exposed.most_exposed(audit, every, album, num=9) == []  # no effect is known
    every["effect"] = [1.0, 2.0]
    first, second = exposed.most_exposed(audit, every, album, num=9)
    assert [first["canary"], second["canary"]] == [1, 0]
    content = album.pictures[first["picture"] or ""].partition(",")[2]
    opened = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))
    np.testing.assert_array_equal(opened, images[0, 0])


def test_dominated_is_what_another_beats_beyond_doubt() -> None:
    def report(name: str, tpr: float, accuracy: float) -> dict:
        return report_of(name, tpr=tpr, accuracy=accuracy, cell=f"{name}-0")

    reports = [
        report("worse", 0.5, 0.90),
        report("better", 0.2, 0.91),  # leaks less: [.18, .22] and [.45, .55]
        report("near", 0.49, 0.905),  # neither interval is apart from that of `worse`
        report("costly", 0.1, 0.60),
        report("equal", 0.5, 0.95),  # as leaky, more accurate beyond .004 on both sides
    ]
    shown = view.view(audited_of(*reports))["cells"]
    ids = {cell["method"]: cell["id"] for cell in shown}
    found = {cell["method"]: set(cell["dominated_by"]) for cell in shown}
    assert found["worse"] == {ids["better"], ids["equal"]}
    assert found["near"] == {ids["better"]}
    assert found["better"] == found["costly"] == set()
    assert found["equal"] == set()
    other = report("elsewhere", 0.01, 0.99) | {"dataset": "other"}
    alone = view.view(audited_of(reports[0], other))["cells"]
    assert [cell["dominated_by"] for cell in alone] == [[], []]
    assert len({cell["comparable"] for cell in alone}) == 2
    assert {cell["dominated_at"] for cell in shown} == {"TPR at 1% FPR"}
    few = [report(name, tpr, 0.9) | {"n_out": 90} for name, tpr in (("a", 0.5), ("b", 0.2))]
    for one in few:
        for key in ("tpr@fpr=0.01", "tpr@fpr=0.001", "tpr@fpr=0.1"):
            one[key] = one[key] | {"resolvable": False}
    judged = view.view(audited_of(*few))
    assert [cell["dominated_by"] for cell in judged["cells"]] == [["c1"], []]
    assert "(accuracy and AUC)" in html(judged)
    part = view.view(audited_of(few[0], few[1] | {"partial": True}))
    assert part["cells"][0]["dominated_by"] == []


@pytest.mark.parametrize(
    "change",
    [{"accuracy": {"source": "audited models"}}, {"data": {"evaluated_on": "validation"}}],
)
def test_accuracies_of_other_models_or_images_are_not_compared(change: dict) -> None:
    worse = report_of("dfkd", tpr=0.5, accuracy=0.9, cell="d-0")
    better = report_of("undefended", tpr=0.2, accuracy=0.95, cell="u-0")
    (key, value), *_ = change.items()
    other = better | {key: better[key] | value}
    for second, compares in ((better, True), (other, False)):
        cell, _ = view.view(audited_of(worse, second))["cells"]
        assert (cell["dominated_by"] != []) is compares
        assert cell["accuracy"]["reference"].startswith("undefended") is compares


def test_a_reference_is_whole_and_the_best_of_several() -> None:
    def undefended(cell: str, accuracy: float, **others: bool) -> dict:
        return report_of("undefended", accuracy=accuracy, cell=cell, **others)

    several = [undefended("u-0", 0.3), undefended("u-1", 0.9), undefended("u-1", 0.9)]
    for reports, said in (
        ([undefended("u-0", 0.9, partial=True)], "no whole undefended cell"),
        (several, "undefended 0.900 ± 0.004 (the most accurate of 2)"),
        (several[1:], "undefended 0.900 ± 0.004"),
    ):
        cell, *_ = view.view(audited_of(report_of("dfkd", cell="d-0"), *reports))["cells"]
        said_here = cell["accuracy"]["reference"]
        assert said_here == said or (said.startswith("no ") and said_here.startswith(said))


def test_a_random_subset_of_as_many_images_is_a_reference() -> None:
    reports = [report_of("coreset_random", accuracy=0.7, cell="r-0"), report_of("dfkd", cell="d-0")]
    better = reports[0]["accuracy"] | {"mean": 0.8}
    sizes = (100, 103), (101, 101)
    cells = [
        cell._replace(runs=[{"num_synthetic": n} for n in some])
        for cell, some in zip(audited_of(*reports), sizes, strict=True)
    ]
    assert compared.random_subset(cells[1], cells) == "0.700 ± 0.004 (102 random images)"
    assert compared.random_subset(cells[0], cells) is None
    several = [cells[0]._replace(report=cells[0].report | {"cell": "r-1", "accuracy": better})]
    best = compared.random_subset(cells[1], [*cells, *several])
    assert best == "0.800 ± 0.004 (102 random images) (the most accurate of 2)"
    cells[0] = cells[0]._replace(report=cells[0].report | {"partial": True})
    assert compared.random_subset(cells[1], cells) is None
    cells[0] = cells[0]._replace(report=cells[0].report | {"partial": False})
    larger = cells[1]._replace(runs=[{"num_synthetic": 200}])
    assert compared.random_subset(larger, cells) is None


def test_models_trained_elsewhere_are_shown_without_what_nobody_told() -> None:
    report = report_of(evidence_file="a.npz", settings={})
    report |= {"accuracy": None, "train_s": None, "test_accuracy": None}
    (cell,) = view.view(audited_of(report))["cells"]
    assert cell["accuracy"]["value"] is None
    assert cell["points"] == []
    assert cell["all_canaries"]["trained_label"] == ["unknown", "unknown"]
    assert cell["canaries"] == []  # of two models no canary has an effect size


def test_nothing_at_all_is_a_page_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = view.view([], missing=[{"name": "a", "why": "damaged"}])
    assert empty["cells"] == empty["heat"] == []
    assert empty["missing"] == [{"name": "a", "why": "damaged"}]
    assert main([str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert "no audited cell" in said.err
    assert f"written: {tmp_path / 'report.html'}" in said.out
    assert (tmp_path / "report.html").stat().st_size > 1000


def test_what_is_damaged_or_not_audited_is_on_the_page(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], not_drawn: None
) -> None:
    place = tmp_path / "copy"
    shutil.copytree(results, place)
    first, second, third = sorted(p for p in place.iterdir() if p.is_dir())
    (first / "threshold.npz").write_bytes(b"damaged")
    (first / "0" / "evidence.npz").unlink()  # so that it cannot be made again
    for file in second.glob("threshold.*"):
        file.unlink()
    (third / "canaries.npz").write_bytes(b"PK")
    assert main([str(place), "--out", str(tmp_path), "--cells", "*"]) == 0
    shown = audited(place)
    assert [lack["name"] for lack in shown.missing] == [first.name]
    assert "threshold.npz damaged" in shown.missing[0]["why"]
    assert shown.cells[0].canaries is not None
    assert shown.cells[0].canaries.images is None  # the damaged pictures are left out, not shown
    assert f"not audited: {second}" in capsys.readouterr().out
    written = {file.name for file in tmp_path.iterdir() if file.is_file()}
    kinds = ("html", "md", "csv", "tex", "png", "svg", "pdf")
    assert written == {f"report.{kind}" for kind in kinds}


@pytest.mark.parametrize("damage", [b"x\n", b"", None])
def test_a_damaged_side_file_takes_nothing_with_it_but_what_it_holds(
    results: Path, tmp_path: Path, found: Found, damage: bytes | None
) -> None:
    distill = found.cells[1]
    name = distill.report["cell"]
    cell = Path(shutil.copytree(results / name, tmp_path / "copy" / name))

    def read(*seeds: int) -> Audited:
        for seed in seeds:
            file = cell / str(seed) / store.EVIDENCE
            file.unlink(missing_ok=True)
            if damage is not None:
                file.write_bytes(damage)
        return with_files(cell / "threshold.json", distill.report)

    assert read().nearest.keys() == distill.nearest.keys() != set()
    one = read(0)
    assert one.canaries is not None
    assert distill.canaries is not None
    np.testing.assert_array_equal(one.canaries.labels, distill.canaries.labels)
    assert one.nearest == {}
    assert "evidence of a model is damaged" in one.report["warnings"][-1]
    (whole,) = audited(cell.parent).cells
    assert whole.canaries is not None
    none = read(*range(NUM_MODELS))
    assert none.canaries is None
    assert "no evidence is intact" in none.report["warnings"][-1]
    again = with_files(cell / "threshold.json", none.report)
    assert again.report["warnings"] == none.report["warnings"]
    (shown,) = view.view([none])["cells"]
    assert set(shown["all_canaries"]["trained_label"]) == {"unknown"}
    assert shown["rates"] == view.view([distill])["cells"][0]["rates"]


def test_cells_are_chosen_by_folder_or_name(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], not_drawn: None
) -> None:
    assert main([str(results), "--out", str(tmp_path), "--cells", "dist*", "--no-pictures"]) == 0
    rows = (tmp_path / "report.csv").read_text().splitlines()
    assert len(rows) == 2
    assert "distill_dm" in rows[1]
    written = (tmp_path / "report.html").read_text()
    (cell,) = view_of(written)["cells"]
    assert cell["all_canaries"]["place"] == [None] * NUM_CANARIES
    assert "row " not in json.dumps(cell) + (tmp_path / "report.md").read_text()
    assert main([str(results), "--out", str(tmp_path), "--cells", "nothing*"]) == 1
    error = capsys.readouterr().err
    assert "--cells=nothing* is of no audit; there are " in error
    assert error.count("made-mislabelled") == NUM_CELLS
    assert "\n" not in error.strip()


def test_the_same_figure_and_page_give_the_same_bytes(page: View, found: Found) -> None:
    again = view.view(found.cells, missing=found.missing)
    assert json.loads(json.dumps(again)) == page
    curves_of = [(cell.report, cell.roc) for cell in found.cells[:1]]
    drawn = [figure.roc(curves_of) for _ in range(2)]
    for suffix in (".svg", ".pdf"):
        first, other = (figure.written(each, suffix) for each in drawn)
        assert first == other
        assert len(first) > 1000


def test_canary_images_are_kept_once_and_checked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 1, 4, 4), dtype=np.uint8)
    canaries = Pool(images, np.arange(5))
    file = tmp_path / canary_images.CANARIES
    assert canary_images.read(tmp_path, canaries.digest()) is None
    canary_images.keep(tmp_path, canaries, np.arange(5))
    before = file.stat()
    canary_images.keep(tmp_path, canaries, np.arange(5))
    assert file.stat() == before
    found = canary_images.read(tmp_path, canaries.digest())
    np.testing.assert_array_equal(found, images)
    assert canary_images.read(tmp_path, "another") is None
    assert "is of other canaries" in caplog.text
    whole = file.read_bytes()
    flipped = [whole[:i] + bytes([whole[i] ^ 4]) + whole[i + 1 :] for i in range(0, 900, 7)]
    for damage in (b"", whole[:200], b"\x93NUMPY", *flipped):
        file.write_bytes(damage)
        assert canary_images.read(tmp_path, canaries.digest()) is None
        canary_images.keep(tmp_path, canaries, np.arange(5))
        assert canary_images.read(tmp_path, canaries.digest()) is not None
