"""Marks corrected over the family of all that a table tests."""

import numpy as np
import pytest
from example_reports import rate_of, report_of
from hypothesis import given
from hypothesis import strategies as st

from synpriv.report import marks, table
from synpriv.results import flat


@given(st.lists(st.sampled_from([0.0001, 0.001, 0.004, 0.006, 0.01, 0.02, 0.3]), min_size=1))
def test_holm_is_the_smallest_adjusted_p_by_its_definition(p_values: list[float]) -> None:
    # Adjusted p of Holm (1979): of the k-th smallest the largest (m - j + 1) p_(j), j <= k.
    ordered, m = sorted(p_values), len(p_values)
    adjusted = {
        p: max((m - j) * ordered[j] for j in range(ordered.index(p) + 1)) for p in set(p_values)
    }
    expected = [adjusted[p] <= 0.025 for p in p_values]
    assert marks.holm(p_values) == expected


def test_the_family_wise_error_is_kept_where_bonferroni_would_miss_a_leak() -> None:
    rng = np.random.default_rng(0)
    false = [any(marks.holm(list(rng.random(12)))) for _ in range(4000)]
    assert np.mean(false) == pytest.approx(0.025, abs=0.008)
    assert marks.holm([0.002, 0.003, 0.02, 0.9]) == [True, True, False, False]
    assert marks.holm([0.012, 0.0125, 0.02]) == [False, False, False]
    assert marks.holm([0.008, 0.0125, 0.02]) == [True, True, True]


def test_the_family_is_what_the_table_shows_and_resolves() -> None:
    one, other = report_of("a"), report_of("b", n_out=1000, cell="b-0")
    found = [(test.row, test.key) for test in marks.family([one, other])]
    expected = [(0, "tpr@fpr=0.01"), (0, "tpr@fpr=0.001"), (0, "auc")]
    assert found == [*expected, (1, "tpr@fpr=0.01"), (1, "auc")]


def test_a_chance_finding_loses_its_mark_and_a_leak_keeps_it() -> None:
    leak = report_of("leak", p=1 / 1001, cell="leak-0")
    lucky = report_of("lucky", tpr=0.02, p=0.02, cell="lucky-0")
    found, words = marks.corrected([leak, lucky, report_of("none", p=0.7, cell="none-0")])
    assert "over 9 tests (Holm 1979)" in words
    above = [[rate["above_chance"] for rate in (r[key] for key in marks.SHOWN)] for r in found]
    assert above == [[True, True], [False, False], [False, False]]
    assert [flat.auc_above_chance(report) for report in found] == [True, False, False]
    assert lucky["tpr@fpr=0.01"]["above_chance"]  # the reports themselves stay as they are
    printed = table.text(found, family=words, rest="report.md").splitlines()
    assert [line.count("*") for line in printed[2:5]] == [0, 3, 3]


def test_one_report_alone_is_not_corrected_and_says_so() -> None:
    reports, words = marks.corrected([report_of(p=0.02)])
    assert "not corrected" in words
    assert reports[0]["tpr@fpr=0.01"]["above_chance"]


def test_a_family_that_the_rounds_cannot_resolve_is_said_not_erased() -> None:
    reports = [report_of(f"m{i}", p=1 / 1001, cell=f"m-{i}") for i in range(9)]
    found, words = marks.corrected(reports)
    assert "corrected over 27 tests" in words
    assert "1000 rounds show 0.001: what beat all of them counts as found" in words
    assert all(flat.auc_above_chance(report) for report in found)
    lucky = [report_of("lucky", p=0.02, cell="lucky-0"), *reports[:8]]
    assert not marks.corrected(lucky)[0][0]["tpr@fpr=0.01"]["above_chance"]
    more = {"null_rounds": 2000, "auc_p": 1 / 2001}
    more |= {key: rate_of(0.5, p=1 / 2001) for key in marks.SHOWN}
    enough = [report | more for report in reports]
    assert "corrected over 27" in marks.corrected(enough)[1]


def test_nothing_found_is_no_lack_of_rounds() -> None:
    early = [report_of(f"m{i}", p=0.4, null_rounds=30, cell=f"m-{i}") for i in range(20)]
    assert "corrected over 60" in marks.corrected(early)[1]
