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


def test_one_report_alone_is_corrected_over_its_own_tests() -> None:
    (report,), words = marks.corrected([report_of(p=0.02)])
    assert "over 3 tests (Holm 1979) of this audit alone" in words
    assert not any(report[key]["above_chance"] for key in marks.SHOWN)
    assert not flat.auc_above_chance(report)
    one = {"tpr@fpr=0.01": rate_of(0.5, p=0.008), "auc_p": 0.0125}
    (report,), _ = marks.corrected([report_of(p=0.02) | one])
    assert [report[key]["above_chance"] for key in marks.SHOWN] == [True, True]


def test_marks_of_some_audits_are_those_of_all_that_are_there() -> None:
    every = [report_of(f"m{i}", p=p, cell=f"m-{i}") for i, p in enumerate((0.001, 0.007, 0.3))]
    over = marks.correction(every)
    together, words = marks.corrected(every)
    assert "of all 3 audits" in words
    for some in ([1], [0, 2], [2, 1]):
        found, words = marks.corrected([every[i] for i in some], over)
        assert found == [together[i] for i in some]
        assert f"over 9 tests (Holm 1979) of 3 audits, {3 - len(some)} of them not shown" in words
    assert marks.corrected(every[1:2])[0] != together[1:2]  # a new audit can take a mark away


@pytest.mark.parametrize("num_audits", [4, 50])
def test_the_bound_that_is_printed_holds_where_rounds_are_too_few(num_audits: int) -> None:
    rng = np.random.default_rng(1)
    rounds, num, wrong = 1000, 1000, 0
    blank = {"null_rounds": rounds, "tpr@fpr=0.001": {"resolvable": False, "p": 1.0}}
    for p_values in rng.integers(1, rounds + 2, (num, num_audits, 2)) / (rounds + 1):
        reports = [
            blank | {"auc_p": auc, "tpr@fpr=0.01": {"resolvable": True, "p": rate}}
            for rate, auc in p_values
        ]
        over = marks.correction(reports)
        wrong += any(over.finds(test) for test in marks.family(reports))
    said = {4: 0.025, 50: 0.125}[num_audits]  # Holm alone, or with 100 tests x 1/1001 each
    assert over.bound == pytest.approx(said, abs=1e-4)
    assert f"in at most {said:.1%} of" in over.in_words(num_audits).replace("12.5%", f"{said:.1%}")
    assert wrong / num <= over.bound + 3 * np.sqrt(over.bound / num)
    assert num_audits < 50 or wrong / num > 0.08  # nowhere near the 2.5% of Holm alone


def test_rounds_that_ended_early_are_no_lack_of_rounds() -> None:
    early = [report_of(f"m{i}", p=0.4, null_rounds=200, cell=f"m-{i}") for i in range(20)]
    assert marks.correction(early).bound == pytest.approx(0.025 + 60 / 1001)
    few = [report_of(f"m{i}", p=0.05, null_rounds=200, cell=f"m-{i}") for i in range(20)]
    assert marks.correction(few).bound == pytest.approx(0.025 + 60 / 201)


def test_a_family_that_the_rounds_cannot_resolve_is_said_not_erased() -> None:
    reports = [report_of(f"m{i}", p=1 / 1001, cell=f"m-{i}") for i in range(9)]
    found, words = marks.corrected(reports)
    assert "corrected over 27 tests" in words
    assert "1000 rounds show 0.001, and what beat all of them counts as found" in words
    assert "in at most 5.2% of such families, not 2.5%" in words
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
