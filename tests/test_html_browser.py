"""The page in headless Chromium: what a reader sees, does and takes away.

Debian's Chromium (`apt-get install chromium`) driven by playwright, of which no browser is loaded.
"""

from __future__ import annotations

import csv
import io
import re
import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from example_views import HOSTILE, scores_of, view_of

from synpriv.audit.metrics import clopper_pearson
from synpriv.report import inert
from synpriv.report.html import shape, write

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium"),
]
MEMBERS = np.round(np.random.default_rng(1).normal(1.5, 1, 700), 3)
OTHERS = np.round(np.random.default_rng(2).normal(0, 1, 900), 3)


class Seen:
    """A page in the browser, and all that it said or asked for."""

    def __init__(self, browser: Any, file: Path, view: shape.View) -> None:
        file.write_text(write.html(view), encoding="utf-8")
        self.view, self.file = view, file
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page = browser.new_page()
        self.page.set_viewport_size({"width": 1280, "height": 800})
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.said.append("dialog"), dialog.dismiss()))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(file.as_uri())

    def drawn(self) -> Seen:
        self.page.wait_for_selector("html[data-drawn]")
        return self

    def until(self, true: str) -> None:
        """Wait for an expression; playwright's own wait needs eval, which the page forbids."""
        for _ in range(300):
            if self.page.evaluate(true):
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"never came true: {true}")

    def shown(self, selector: str) -> list[str]:
        """Ids of the cells of which such an element is shown, in the order of the page."""
        wanted = f"{selector}[data-cell]:not([hidden])"
        return self.page.eval_on_selector_all(wanted, "found => found.map(e => e.dataset.cell)")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        one = driver.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
        )
        yield one
        one.close()


@pytest.fixture(scope="module")
def seen(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """Nine audits, of which two have no time or no images; of the first all scores are known."""
    view = view_of(9)
    first = view["cells"][0]
    first |= {"scores": scores_of(MEMBERS, OTHERS, 80), "n_in": 700, "n_out": 900}
    first["all_canaries"]["place"][:4] = ["=1+1", '+a "b", c', "\uff1dx", "@\u202e\n<b>"]
    return Seen(browser, tmp_path_factory.mktemp("page") / "page.html", view).drawn()


@pytest.fixture(autouse=True)
def _as_it_was(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test leaves the filters of the shared page as it found them, and no message."""
    yield
    if "seen" in request.fixturenames:
        page = request.getfixturevalue("seen")
        page.page.click("#filters button[type=reset]")
        page.page.set_viewport_size({"width": 1280, "height": 800})
        assert page.said == []


def test_the_page_asks_for_nothing_and_its_figure_shows_the_view_s_numbers(seen: Seen) -> None:
    assert seen.asked == [seen.file.as_uri()]
    traces = seen.page.evaluate(
        "document.getElementById('trade-off-plot').data.filter(t => t.customdata).map(t => "
        "({ids: t.customdata, x: t.x, y: t.y, up: t.error_y.array, symbol: t.marker.symbol, "
        "size: t.marker.size}))"
    )
    drawn = {
        ident: (trace["x"][i], trace["y"][i], trace["up"][i], trace["symbol"][i], trace["size"][i])
        for trace in traces
        for i, ident in enumerate(trace["ids"])
    }
    wanted = [c for c in seen.view["cells"] if c["comparable"] == "digits/lira"]
    assert set(drawn) == {cell["id"] for cell in wanted}
    for cell in wanted:
        point = next(p for p in cell["points"] if p["panel"] == "tpr@fpr=0.01")
        x, y, up, symbol, _ = drawn[cell["id"]]
        assert x == point["x"]
        assert y == max(point["y"], min(0.5 / c["n_in"] for c in wanted))
        assert up == pytest.approx(point["y_high"] - y)
        assert symbol.endswith("-open") != point["above_chance"]
    by_cost = sorted(wanted, key=lambda cell: cell["train_s"] or 0)
    assert sorted(drawn, key=lambda ident: drawn[ident][-1]) == [cell["id"] for cell in by_cost]
    assert "stands at the bottom: distill_dm" in seen.page.inner_text("#trade-off-words")
    curves = seen.page.evaluate("document.getElementById('roc-plot').data.map(t => t.y)")
    assert len(curves) == 1 + 5
    assert curves[2] == [max(y, 1 / 1920) for y in seen.view["cells"][1]["roc"]["tpr"]]


def test_a_hollow_marker_says_what_its_rate_is_corrected_over(
    seen: Seen, browser: Any, tmp_path: Path
) -> None:
    assert "hollow: no more than chance gives" in seen.page.inner_text("#trade-off-words")
    view = view_of(3)
    for cell in view["cells"]:
        cell["points"] = [cell["points"][0] | {"panel": "tpr@fpr=0.1", "above_chance": False}]
    small = Seen(browser, tmp_path / "page.html", view).drawn()
    assert "hollow: p > 2.5%, each marker by itself" in small.page.inner_text("#trade-off-words")
    assert small.said == []
    small.page.close()


def test_columns_sort_both_ways_and_what_is_missing_comes_last(seen: Seen) -> None:
    def expected(key: Any) -> list[str]:
        known = [cell for cell in seen.view["cells"] if key(cell) is not None]
        rest = [cell for cell in seen.view["cells"] if key(cell) is None]
        return [cell["id"] for cell in sorted(known, key=key) + rest]

    accuracy = seen.page.locator("#table th", has_text="Accuracy")
    accuracy.locator("button").click()
    assert seen.shown("tr") == expected(lambda cell: cell["accuracy"]["value"])
    assert accuracy.get_attribute("aria-sort") == "ascending"
    seen.page.keyboard.press("Enter")  # the button has the focus
    assert seen.shown("tr") == expected(lambda cell: -cell["accuracy"]["value"])
    assert accuracy.get_attribute("aria-sort") == "descending"
    proven = seen.page.locator("#table th", has_text="Epsilon proven")
    proven.locator("button").click()
    assert seen.shown("tr")[:2] == ["c2", "c1"]  # 8 and 6.69e+05
    assert accuracy.get_attribute("aria-sort") == "none"
    proven.locator("button").click()
    assert seen.shown("tr")[:2] == ["c1", "c2"]  # "none" is last again


def test_the_frontier_is_what_no_other_point_beats(seen: Seen) -> None:
    rng = np.random.default_rng(0)
    points = [{"x": float(x), "y": float(y)} for x, y in rng.integers(0, 12, (25, 2))]
    kept = seen.page.evaluate("points => frontier(points)", points)
    assert {(p["x"], p["y"]) for p in kept} == {
        (p["x"], p["y"])
        for p in points
        if not any(q != p and q["x"] >= p["x"] and q["y"] <= p["y"] for q in points)
    }
    corners = seen.page.evaluate("points => steps(frontier(points), -1)", points)
    for x in np.arange(-0.5, max(p["x"] for p in points), 0.5):
        right = next(i for i, corner in enumerate(corners) if corner[0] >= x)
        assert corners[right][1] == min(p["y"] for p in points if p["x"] >= x)


def test_filters_choose_cards_rows_and_points(seen: Seen) -> None:
    form = seen.page.locator("#filters")
    form.locator("input[type=search]").fill("CORESET  option_3=0.375")
    wanted = [c["id"] for c in seen.view["cells"] if "coreset" in c["name"]]
    for kind in ("article", "tr", "details", "label"):
        assert sorted(seen.shown(kind)) == wanted, kind
    assert form.locator("output").inner_text() == f"{len(wanted)} of 9 audits"
    ids = "document.getElementById('trade-off-plot').data.flatMap(t => t.customdata ?? [])"
    assert sorted(seen.page.evaluate(ids)) == wanted
    form.locator("input[type=search]").fill("")
    form.locator("[name=verdict]").select_option("unresolved")
    form.locator("[name=dataset]").select_option("digits")
    assert seen.shown("tr") == ["c5"]
    form.locator("[name=dataset]").select_option("fashion_mnist")
    assert seen.shown("tr") == []  # and nothing breaks
    empty = seen.page.locator(".nothing:visible, #heat .none:visible")
    assert empty.count() == 6  # every section but those that follow no filter
    assert not seen.page.locator("#heat .plot").is_visible()
    form.locator("button[type=reset]").click()
    seen.until("document.querySelectorAll('.nothing:not([hidden])').length === 0")
    form.locator("input[type=search]").fill("undefended")  # also a setting of others
    assert sorted(seen.shown("tr")) == ["c0", "c8"]
    labels = "document.querySelector('#heat .plot').layout.yaxis.ticktext"
    assert len(set(seen.page.evaluate(labels))) == 2
    rows = "document.querySelector('#heat .plot').data[0].z"
    assert seen.page.evaluate(rows) == [seen.view["heat"][0]["values"][i] for i in (0, 8)]
    form.locator("input[type=search]").fill("lr=0")  # not 0.1, which the ninth has
    assert sorted(seen.shown("tr")) == [f"c{i}" for i in range(8)]


def test_curves_and_points_have_names_of_their_own_and_nothing_is_shared(seen: Seen) -> None:
    some = seen.page.evaluate(
        """() => {
        const alike = (i, short, attack) => ({...view.cells[i], short, attack});
        const long = "undefended num_epochs_of_training=";
        return [...distinctLabels([alike(0, "a", "lira"), alike(1, "a", "nearest"),
          alike(2, `${long}2`, "lira"), alike(3, `${long}30`, "lira"),
          alike(4, "b" + "c".repeat(60) + "d", "x"), alike(5, "b" + "c".repeat(61) + "d", "x"),
        ].map((cell, i) => ({...view.cells[i], ...cell, id: `c${i}`})), 22).values()];
        }"""
    )
    assert some[:2] == ["a, lira", "a, nearest"]
    assert len(set(some)) == 6
    assert max(map(len, some)) <= 22
    titles = seen.page.eval_on_selector_all(".modebar-btn", "all => all.map(e => e.dataset.title)")
    assert any("Zoom" in title for title in titles)
    assert not [title for title in titles if re.search("share|cloud|studio", title, re.I)]


def test_hovering_names_the_cell_and_a_click_opens_it(seen: Seen) -> None:
    seen.page.locator("#trade-off-plot").scroll_into_view_if_needed()
    seen.page.evaluate("document.getElementById('cell-c3').open = false")
    place = seen.page.evaluate(
        """() => {
        const plot = document.getElementById("trade-off-plot"), box = plot.getBoundingClientRect();
        const {xaxis, yaxis} = plot._fullLayout, point = cells.get("c3").points[0];
        return [box.left + xaxis._offset + xaxis.d2p(point.x),
          box.top + yaxis._offset + yaxis.d2p(point.y)];
        }"""
    )
    seen.page.mouse.move(place[0] + 30, place[1] + 30)
    seen.page.mouse.move(*place)
    seen.page.wait_for_selector("#trade-off-plot .hoverlayer text")
    words = seen.page.inner_html("#trade-off-plot .hoverlayer")
    cell = seen.view["cells"][3]
    point = cell["points"][0]
    assert cell["name"] in words
    assert f"{100 * point['y']:.1f}%" in words
    assert f"{point['x']:.3f}" in words
    assert cell["rates"]["tpr@fpr=0.01"]["reference"] in words
    seen.page.mouse.click(*place)
    assert seen.page.evaluate("document.getElementById('cell-c3').open")
    assert seen.page.evaluate("document.activeElement.parentElement.id") == "cell-c3"


def test_the_slider_counts_as_somebody_who_counts(seen: Seen) -> None:
    seen.page.evaluate("openCell('c0')")
    part = seen.page.locator("#cell-c0 .threshold")
    slider, prior = part.locator("input[type=range]"), part.locator("input[type=number]")
    start = int(slider.input_value())
    at = seen.view["cells"][0]["scores"]["thresholds"]
    assert (at[start] <= OTHERS).mean() <= 0.01 < (at[start + 1] <= OTHERS).mean()
    slider.focus()
    for key, step in (("ArrowRight", 1), ("ArrowRight", 1), ("Home", None), ("End", None)):
        seen.page.keyboard.press(key)
        i = int(slider.input_value())
        start = {"Home": 0, "End": len(at) - 1}.get(key, start + (step or 0))
        assert i == start
        for share in ("0.1", "0.5"):
            prior.fill(share)
            tp = sum(score >= at[i] for score in MEMBERS.tolist())
            fp = sum(score >= at[i] for score in OTHERS.tolist())
            found, rest = Fraction(tp, 700) * Fraction(share), Fraction(fp, 900)
            right = float(found / (found + rest * (1 - Fraction(share))))
            said = part.locator("output").inner_text()
            assert f"{tp} of 700 members" in said
            assert f"{fp} of 900 non-members" in said
            ends = re.findall(r"([\d.]+)% to ([\d.]+)%, beside a prior", said)
            if min(tp, fp) < 10:
                assert f"{tp} true and {fp} false positives are too few" in said
                assert float(ends[0][0]) < 100 * right + 0.051
                assert float(ends[0][1]) > 100 * right - 0.051
                continue
            assert ends == []
            ppv = float(re.findall(r"([\d.]+)%, beside a prior", said)[0])
            assert ppv == pytest.approx(100 * right, abs=0.051)
        slider.focus()
    line = seen.page.evaluate(
        "document.querySelector('#cell-c0 .threshold .plot').layout.shapes[0].x0"
    )
    assert line == at[-1]


def test_a_ppv_says_no_more_than_counts_and_prior_do(seen: Seen) -> None:
    for count, n in ((0, 900), (1, 900), (9, 900), (9, 16_000), (3, 3), (0, 1), (10, 900)):
        low, high = clopper_pearson(count, n) if count < 10 else (count / n, count / n)
        assert seen.page.evaluate(f"limits({count}, {n})") == pytest.approx([low, high], abs=1e-9)
    words = "([tp, fp, prior]) => ppvWords({n_in: 700, n_out: 900},"
    words += " {tp, fp, tpr: tp / 700, fpr: fp / 900}, prior)"
    for tp, fp, prior, said in (
        (0, 0, 0.5, "-: nobody is accused"),
        (0, 1, 1, "-: at this prior nobody who is asked about is accused"),
        (1, 0, 0, "-: at this prior nobody who is asked about is accused"),
        (350, 90, 0.5, "83.3%, beside a prior of 50.0%"),
    ):
        assert seen.page.evaluate(words, [tp, fp, prior]) == said
    most = clopper_pearson(0, 900)[1]
    said = seen.page.evaluate(words, [35, 0, 0.1])
    lowest = 0.1 * 0.05 / (0.1 * 0.05 + 0.9 * most)  # 35 of 700 members
    assert said.startswith(f"{100 * lowest:.1f}% to 100.0%")
    seen.page.evaluate("openCell('c0')")
    part = seen.page.locator("#cell-c0 .threshold")
    prior = part.locator("input[type=number]")
    for wrong in ("1.5", "-0.1", ""):
        prior.fill(wrong)
        assert "the prior must be a number between 0 and 1" in part.locator("output").inner_text()
        assert prior.get_attribute("aria-invalid") == "true"
    prior.fill("0.1")
    assert prior.get_attribute("aria-invalid") == "false"


def test_the_csv_holds_every_canary_and_no_formula(seen: Seen) -> None:
    seen.page.evaluate("openCell('c0')")
    with seen.page.expect_download() as waiting:
        seen.page.click("#cell-c0 button:has-text('as csv')")
    assert waiting.value.suggested_filename == "undefended-00000000-lira-canaries.csv"
    text = Path(waiting.value.path()).read_text(encoding="utf-8-sig")
    head, *rows = csv.reader(io.StringIO(text))
    wanted: dict[str, list[Any]] = dict(seen.view["cells"][0]["all_canaries"])
    wanted["largest_by_chance"] = [2.5] * len(rows)
    assert head == list(wanted)
    for column, name in enumerate(head):
        read = [row[column] for row in rows]
        if name in ("effect", "found", "accused", "largest_by_chance"):
            assert [float(value) for value in read] == wanted[name]
        else:
            expected = ["" if v is None else str(inert.cell(v)) for v in wanted[name]]
            assert read == expected


def test_canaries_stand_beside_what_chance_gives(seen: Seen) -> None:
    seen.page.evaluate("openCell('c5')")
    seen.page.wait_for_selector("#cell-c5 table")
    words = seen.page.inner_text("#cell-c5 .body")
    assert "Effect (largest by chance: up to 2.5 sd)" in words
    assert "84 of 500 pairs are nearer; chance gives 49" in words
    assert "chance gives so few for about 50.0% of canaries" in words
    assert "the pairs of its models are lost or were not kept" in words
    below = sum(one["effect"] <= 2.5 for one in seen.view["cells"][5]["canaries"])
    assert words.count("no more than the largest by chance") == below > 0
    assert "goes up to 2.5 sd by chance alone" in seen.page.inner_text("#heat-plots")
    hovered = seen.page.evaluate("document.querySelector('#heat-plots .plot').data[0].hovertext")
    assert "too few models on a side" in hovered[0][3]
    for row, texts in zip(seen.view["heat"][0]["values"], hovered, strict=True):
        for value, text in zip(row, texts, strict=True):
            assert ("no more" in text) == (value is not None and value <= 2.5)


def test_the_keyboard_reaches_and_opens_everything(seen: Seen) -> None:
    page = seen.page
    page.evaluate("document.getElementById('cell-c1').open = false; document.activeElement.blur()")
    page.evaluate("scrollTo(0, 0)")
    page.focus(".skip")
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    page.focus("#cell-c1 summary")
    page.keyboard.press("Enter")
    page.wait_for_selector("#cell-c1 .threshold")
    page.keyboard.press("Tab")
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) == "solid"
    loose = page.evaluate(
        "[...document.querySelectorAll('input, select')].filter(e => !e.labels.length).length"
    )
    assert loose == 0
    page.focus("#table th button")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Data set"
    assert page.evaluate(outline) == "solid"


def test_phones_and_the_dark(seen: Seen) -> None:
    seen.page.evaluate("openCell('c0')")
    seen.page.set_viewport_size({"width": 320, "height": 640})
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= 320
    box = seen.page.locator("#audits .scroll")
    assert box.evaluate("e => e.scrollWidth <= e.clientWidth")  # rows are cards
    label = "getComputedStyle(document.querySelector('#table td'), '::before').content"
    assert seen.page.evaluate(label) == '"Method"'
    seen.page.wait_for_selector("#heat ol", state="visible")  # drawn again, with rows numbered
    assert seen.page.locator("#heat ol li").all_inner_texts() == seen.view["heat"][0]["rows"]
    colour = "document.getElementById('roc-plot').layout.font.color"
    light = seen.page.evaluate(colour)
    seen.page.emulate_media(color_scheme="dark")
    seen.until(f"{colour} !== '{light}'")
    body = seen.page.evaluate("getComputedStyle(document.body).color")
    numbers = [int(part) for part in re.findall(r"\d+", body)]
    assert seen.page.evaluate(colour) == "#" + "".join(f"{n:02x}" for n in numbers)
    seen.page.emulate_media(color_scheme="light")
    seen.until(f"{colour} === '{light}'")


def test_fifty_audits_fit_and_are_read_at_once(
    browser: Any, tmp_path: Path, record_property: Any
) -> None:
    seen = Seen(browser, tmp_path / "page.html", view_of(50)).drawn()
    assert seen.file.stat().st_size < 3_000_000
    paint = seen.page.evaluate("performance.getEntriesByType('paint').map(e => e.startTime)")
    record_property("first_paint_ms", min(paint))
    assert len(seen.shown("article")) == len(seen.shown("tr")) == 50
    assert len(seen.page.query_selector_all("article:visible")) == 9  # a row per verdict
    seen.page.select_option("[name=verdict]", "none")
    assert seen.shown("tr") == [
        c["id"] for c in seen.view["cells"] if c["verdict"]["kind"] == "none"
    ]
    assert (seen.said, seen.asked) == ([], [seen.file.as_uri()])
    seen.page.close()


def test_hostile_names_stay_text(browser: Any, tmp_path: Path) -> None:
    view = view_of(len(HOSTILE), hostile=True)
    seen = Seen(browser, tmp_path / "page.html", view).drawn()
    for cell in view["cells"]:
        seen.page.evaluate(f"openCell('{cell['id']}')")
    seen.page.wait_for_selector(f"#cell-c{len(HOSTILE) - 1} .threshold .main-svg")
    assert seen.page.evaluate("document.scripts.length") == 4  # Plotly, which the page adds
    assert seen.page.evaluate("[...document.images].every(i => i.src.startsWith('data:'))")
    links = "[...document.links].map(a => a.getAttribute('href') ?? a.href.baseVal)"
    assert all(link.startswith("#") for link in seen.page.evaluate(links))
    for shown in ("#cell-c0 .settings", "#roc-chosen", "article h3 >> nth=0"):
        assert HOSTILE[0] in seen.page.inner_text(shown)
    labels = seen.page.locator("#trade-off-plot .textpoint").all_text_contents()
    assert any(text.startswith("<script>al") for text in labels)
    seen.page.set_viewport_size({"width": 320, "height": 640})
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= 320
    assert (seen.said, seen.asked) == ([], [seen.file.as_uri()])
    seen.page.close()


def test_without_audits_or_scripts_there_is_no_error(browser: Any, tmp_path: Path) -> None:
    empty = Seen(browser, tmp_path / "empty.html", view_of(0))
    empty.until("view !== undefined")
    assert empty.said == []
    assert "no audit to show" in empty.page.inner_text("#verdicts")
    assert not empty.page.is_visible("#trade-off")
    empty.page.close()
    context = browser.new_context(java_script_enabled=False)
    still = Seen(context, tmp_path / "page.html", view_of(3))
    assert still.page.locator("article:visible, #table tbody tr:visible").count() == 6
    assert not still.page.is_visible("#filters")
    context.close()
