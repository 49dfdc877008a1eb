"""The glossary explains every word that the table prints, in one sentence each."""

import re
from pathlib import Path

import pytest

from synpriv.report import table

DOCS = Path(__file__).parents[1] / "docs"
ENTRIES = re.findall(
    r"^- \*\*(.+?)\*\*: (.+?)(?=\n- |\n\n|\Z)", (DOCS / "glossary.md").read_text(), re.M | re.S
)
WORDS = {word for words, _ in ENTRIES for word in [words, *words.split(", ")]}


@pytest.mark.parametrize("word", [*table.HEADER, "partial", "vacuous", "tuned"])
def test_every_header_of_the_table_is_in_the_glossary(word: str) -> None:
    assert word in WORDS


@pytest.mark.parametrize("mark", table.MARKS)
def test_every_mark_is_in_the_glossary(mark: str) -> None:
    assert f"`{mark}`" in WORDS


def test_the_legend_explains_every_column_that_is_no_plain_word() -> None:
    plain = {"method", "dataset", "canary", "attack", "membership", "provenance", "guarantee"}
    plain |= {"cell", "n"}
    for header in {header.partition(" ")[0] for header in table.HEADER} - plain:
        assert re.sub(r"@[\d.]+%FPR", "@f", header) in table.LEGEND


@pytest.mark.parametrize(("word", "text"), ENTRIES, ids=[word for word, _ in ENTRIES])
def test_a_word_is_explained_in_one_sentence(word: str, text: str) -> None:
    assert len(re.findall(r"\.(?:\s|$)", text)) == 1, text
    assert text.endswith((".", ".\n"))


def test_the_readme_leads_to_the_glossary_and_the_first_hour() -> None:
    readme = (DOCS.parent / "README.md").read_text()
    for name in ("docs/glossary.md", "docs/first_hour.md"):
        assert readme.count(name) >= 2
