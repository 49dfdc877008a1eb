"""The page as a parser reads it: it says what the view says, and nothing in it does anything."""

from __future__ import annotations

import base64
import gzip
import hashlib
import itertools
import re
from html.parser import HTMLParser

import pytest
from conftest import ROOT
from example_views import HOSTILE, beside, view_of

from synpriv.report.html import shape, strip, write
from synpriv.terminal import one_line

PAGE = ROOT / "synpriv" / "report" / "html" / "page"


class Reader(HTMLParser):
    """Every element with its attributes and the text that is directly in it, in order."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self.open: list[int] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}, []))
        if tag not in ("meta", "input", "path", "rect", "circle"):
            self.open.append(len(self.elements) - 1)

    handle_startendtag = handle_starttag

    def handle_endtag(self, tag: str) -> None:
        if tag in ("path", "rect", "circle"):
            return
        assert self.elements[self.open.pop()][0] == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        for i in self.open:
            self.elements[i][2].append(data)

    def of(self, tag: str, **attributes: str) -> list[str]:
        """The texts of such elements."""
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return [
            " ".join("".join(text).split())
            for found, attrs, text in self.elements
            if found == tag and wanted.items() <= attrs.items()
        ]


@pytest.fixture(scope="module")
def view() -> shape.View:
    return view_of(8)


@pytest.fixture(scope="module")
def page(view: shape.View) -> str:
    return write.html(view)


@pytest.fixture(scope="module")
def hostile() -> str:
    return write.html(view_of(2 * len(HOSTILE), hostile=True))


def test_the_data_can_be_read_back_and_the_same_view_gives_the_same_page(
    view: shape.View, page: str
) -> None:
    assert write.view_of(page) == view
    assert write.html(view_of(8)) == page
    with pytest.raises(ValueError, match=r"no page of synpriv\.report"):
        write.view_of("<html></html>")


def test_verdicts_and_table_stand_there_without_a_script(view: shape.View, page: str) -> None:
    read = Reader(page)
    rows = [text for tag, attrs, text in read.elements if tag == "tr" and "data-cell" in attrs]
    assert len(rows) == len(view["cells"])
    for cell, row in zip(view["cells"], rows, strict=True):
        said = "".join(row)
        numbers = [cell["accuracy"], cell["auc"], cell["epsilon_bound"]]
        numbers += [cell["rates"]["tpr@fpr=0.01"], cell["rates"]["tpr@fpr=0.001"]]
        for number in (*numbers, *filter(None, [cell["nearness"]])):
            assert number["in_words"] in said
            assert number["reference"] in said
        assert cell["random_subset"] is None or cell["random_subset"] in said
        assert cell["epsilon_proven"] in said
        for other in view["cells"]:
            if other["id"] in cell["dominated_by"]:
                assert other["short"] in said.partition("dominated by")[2]
    for cell, card in zip(view["cells"], read.of("article"), strict=True):
        verdict = cell["verdict"]
        for line in (
            cell["plain"],
            verdict["words"],
            verdict["sentence"],
            cell["name"],
            *verdict["reasons"],
        ):
            assert line in card


def test_a_card_s_colour_is_its_verdict_s_and_no_number_s(view: shape.View) -> None:
    def classes(of: shape.View) -> list[str]:
        read = Reader(write.html(of))
        return [attrs["class"] for tag, attrs, _ in read.elements if tag == "article"]

    other = view_of(8)
    for cell in other["cells"]:
        cell["auc"] |= {"value": 0.99, "in_words": "0.990"}
    assert classes(view) == classes(other)
    assert classes(view) == [
        f"card {cell['verdict']['kind']}" + " baseline" * (cell["method"] == "undefended")
        for cell in view["cells"]
    ]


def test_names_do_nothing_and_are_shown(hostile: str, page: str) -> None:
    read, plain = Reader(hostile), Reader(page)
    assert not read.open[2:]  # every element is closed, whatever names say
    for kind in ("script", "style", "img", "iframe", "link", "object", "base", "form"):
        assert len(read.of(kind)) == len(plain.of(kind)), kind
    shown = "".join("".join(text) for tag, _, text in read.elements if tag == "main")
    for word in HOSTILE:
        assert one_line(word) in shown
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u2028]", hostile)


def test_nothing_is_fetched_and_only_two_known_scripts_run(hostile: str) -> None:
    read = Reader(hostile)
    for _, attrs, _ in read.elements:
        assert not [name for name in attrs if name.startswith("on")]
        for name in ("src", "href", "action", "srcset", "poster", "data"):
            assert attrs.get(name, "#").startswith("#"), attrs
    policy = next(attrs["content"] for _, attrs, _ in read.elements if "http-equiv" in attrs)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert set(rules) == {
        *("default-src", "script-src", "style-src", "img-src", "base-uri", "form-action")
    }
    scripts = [(a, "".join(t)) for tag, a, t in read.elements if tag == "script"]
    packed = {attrs["id"]: text for attrs, text in scripts if attrs}
    plotly = gzip.decompress(base64.b64decode(packed["plotly"]))
    (ours,) = (text for attrs, text in scripts if not attrs)
    digests = {base64.b64encode(hashlib.sha256(s).digest()) for s in (ours.encode(), plotly)}
    assert set(rules["script-src"].split()) == {f"'sha256-{d.decode()}'" for d in digests}
    recorded = (PAGE.parent / "plotly" / "VERSION").read_text().split()[-1]
    assert hashlib.sha256(plotly).hexdigest() == recorded


def test_the_page_s_own_files_are_short_and_ask_for_nothing() -> None:
    files = sorted(PAGE.iterdir())
    assert {file.name for file in files if file.suffix == ".js"} == set(write.SCRIPTS)
    for file in files:
        text = file.read_text()
        assert len(text.splitlines()) <= 300, file
        for word in ("http:", "https:", "innerHTML", "outerHTML", "insertAdjacent", "@import"):
            assert word not in text, (file, word)
        assert not re.search(r"\b(eval|Function|document\.write|fetch|XMLHttpRequest)\(", text)


def test_headings_go_down_one_level_at_a_time_and_ids_are_unique(page: str) -> None:
    for text in (page, write.html(view_of(14))):  # 14: verdicts in groups
        read = Reader(text)
        levels = [int(tag[1]) for tag, _, _ in read.elements if re.fullmatch("h[1-6]", tag)]
        assert levels[0] == 1
        assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
        ids = [attrs["id"] for _, attrs, _ in read.elements if "id" in attrs]
        assert len(ids) == len(set(ids))
        for _, attrs, _ in read.elements:
            if attrs.get("href", "").startswith("#"):
                assert attrs["href"][1:] in ids
    assert {"header", "main", "footer", "nav"} <= {tag for tag, _, _ in read.elements}
    assert next(attrs for tag, attrs, _ in read.elements if tag == "html")["lang"] == "en"


def test_many_verdicts_are_grouped_and_all_there() -> None:
    view = view_of(16)
    read = Reader(write.html(view))
    kinds = [c["verdict"]["kind"] for c in view["cells"]]
    groups = read.of("h3", class_="group")
    assert [int(text.rpartition(":")[2]) for text in groups] == [
        kinds.count(kind) for kind in ("leak", "none", "unresolved")
    ]
    assert len(read.of("article")) == 16


def _section(page: str, ident: str) -> str:
    (said,) = Reader(page).of("section", id=ident)
    return said


@pytest.mark.parametrize("num", [8, 40])
def test_the_first_lines_answer_for_releases_and_baselines_are_no_alarms(num: int) -> None:
    view = view_of(num)
    text = write.html(view)
    said, released, compared = _section(text, "answer"), 0, 0
    for one in view["releases"]:
        lines = [line for line in Reader(text).of("li") if line.startswith(one["name"] + ":")]
        line = next(line for line in lines if one["found"] in line)  # names may repeat
        assert one["words"] in line
        assert (one["advice"] in line) != one["baseline"]
        released, compared = released + (not one["baseline"]), compared + one["baseline"]
    top = Reader(text).of("ul", class_="counts")[0]
    assert sum(int(n) for n in re.findall(r"(\d+) releases?:", top)) == released
    assert f"{compared} undefended, to compare with" in top
    assert "What the figures mean for a decision" in said
    assert text.index('id="answer"') < text.index('id="filters"')
    assert "<details open" not in text  # reasons are read by who asks for them


def test_a_row_is_a_card_on_a_phone_whose_lines_are_called_as_columns(page: str) -> None:
    read = Reader(page)
    heads = [head.strip() for head in read.of("th")]
    called = [attrs["data-label"] for tag, attrs, _ in read.elements if tag == "td"]
    assert called == heads * (len(called) // len(heads))


def test_of_nothing_at_all_the_page_promises_no_list() -> None:
    text = write.html(view_of(0) | {"missing": []})  # type: ignore[typeddict-item]
    assert "Nothing was found" in _section(text, "missing")
    assert "below" not in _section(text, "verdicts")


def test_without_audits_the_page_says_so_and_what_is_missing() -> None:
    text = write.html(view_of(0))
    read = Reader(text)
    assert "There is no audit to show yet" in "".join(read.of("main"))
    assert "3 of 64 shadow models are trained" in "".join(read.of("main"))
    assert read.of("dt")[0] == "dfkd-digits-<b>"


def test_what_is_not_known_is_a_dash_with_its_reason() -> None:
    view = view_of(1)
    cell = view["cells"][0]
    cell |= {"train_s": None, "nearness": None, "stages": []}
    cell["accuracy"] |= {"value": None, "in_words": "-", "reference": ""}
    cell["rates"] = {}
    (row,) = (text for text in Reader(write.html(view)).of("tr") if "undefended" in text)
    assert "-not known" in row
    assert row.count("-not reported") == 2
    assert "-no released images" in row
    assert "-its trainings were not timed" in row


def test_a_line_shows_number_interval_and_band_where_they_are() -> None:
    number = beside(0.1, 0.05, "10%", "chance 0 to 2%", (0.0, 0.02))
    drawn = strip.strip(number, log=True)
    left, right = strip.EDGE, strip.WIDTH - strip.EDGE

    def place(text: str) -> float:  # back to a share
        return 1e-3 ** (1 - (float(text) - left) / (right - left))

    band, _, interval = re.findall(r'd="M([\d.]+) 6H([\d.]+)"', drawn)
    assert place(re.findall(r'cx="([\d.]+)"', drawn)[0]) == pytest.approx(0.1, rel=0.01)
    assert [place(x) for x in interval] == pytest.approx([0.05, 0.15], rel=0.01)
    assert [place(x) for x in band] == pytest.approx([1e-3, 0.02], rel=0.01)  # 0 stands at the end
    half = strip.strip(beside(0.5, 0.0, "0.5", ""), log=False)
    assert float(re.findall(r'cx="([\d.]+)"', half)[0]) == (left + right) / 2
    assert strip.strip(beside(None, 0.0, "-", ""), log=True) == ""


def _luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.1 defines it."""
    digits = colour.lstrip("#")
    whole = "".join(2 * d for d in digits) if len(digits) == 3 else digits
    shares = [int(whole[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return sum(w * s for w, s in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_told_from_its_background(scheme: str) -> None:
    first, second = re.findall(r":root \{(.*?)\}", (PAGE / "page.css").read_text(), re.S)[:2]
    own = dict(re.findall(r"--([\w-]+): (#\w+)", first if scheme == "light" else second))
    inks = ["text", "muted", "link", "leak", "none", *(n for n in own if n.startswith("paradigm"))]
    for ink, ground in itertools.product(inks, ("page", "card")):
        light, dark = sorted((_luminance(own[ink]), _luminance(own[ground])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (scheme, ink, ground)
