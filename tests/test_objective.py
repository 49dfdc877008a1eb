"""What a search is after, read from its text, against sums and comparisons written out."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from synpriv import cli, objective

NUMBERS = {"accuracy": 0.9, "tpr@fpr=0.01": 0.08, "tpr@fpr=0.01/high": 0.2, "auc": 0.6}
NUMBERS |= {"epsilon_audited": 3.0, "train_s": 10.0}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("accuracy", (0.9,)),
        ("accuracy - 2*tpr@fpr=0.01", (0.9 - 2 * 0.08,)),
        (" - tpr@fpr=0.01/high+.5 * accuracy", (0.5 * 0.9 - 0.2,)),
        ("accuracy, -tpr@fpr=0.01", (0.9, -0.08)),
        ("1e-2*auc", (0.006,)),
    ],
)
def test_a_sum_is_what_it_says(text: str, values: tuple[float, ...]) -> None:
    found = objective.parse(text, None)
    assert found.judge(NUMBERS).values == pytest.approx(values)
    assert found.scores(NUMBERS) == pytest.approx(values)


@pytest.mark.parametrize(
    ("bounds", "over"),
    [
        ("tpr@fpr=0.01 <= 0.08", 0),
        ("tpr@fpr=0.01 <= 0.05", 0.03),
        ("accuracy >= 0.95, auc<=0.5", 0.05 + 0.1),
        ("accuracy >= 0.95, auc<=0.7", 0.05),
        ("epsilon_audited <= 1, train_s >= 1", 2),
    ],
)
def test_what_exceeds_a_bound_is_below_all_that_respects_them(bounds: str, over: float) -> None:
    found = objective.parse("accuracy - 2*auc", bounds)
    assert found.judge(NUMBERS).respects == (over == 0)
    (score,) = found.scores(NUMBERS)
    assert score == pytest.approx(0.9 - 1.2 if over == 0 else -3 - over)
    lowest = 0 - 2 * 1
    assert (score < lowest) == (over > 0)


@pytest.mark.parametrize(
    ("maximise", "subject_to", "words"),
    [
        ("loss", None, "maximise=loss: loss: must be one of accuracy, "),
        ("test_accuracy", None, "test_accuracy: must be one of"),
        ("train_s", None, "train_s: must be one of"),  # has no bound that a penalty could be below
        ("accuracy tpr@fpr=0.01", None, "must be numbers with factors"),
        ("", None, "must be numbers with factors"),
        ("accuracy,", None, "must be numbers with factors"),
        ("2*", None, "must be numbers with factors"),
        ("accuracy + accuracy", None, "must be named once"),
        ("accuracy", "tpr@fpr=0.01 < 0.05", "subject_to=tpr@fpr=0.01 < 0.05: must be a number and"),
        ("accuracy", "tpr@fpr=0.05 <= 0.05", "tpr@fpr=0.05: must be one of"),
        ("accuracy", "", "must be a number and its bound"),
    ],
)
def test_what_no_report_has_is_refused(maximise: str, subject_to: str | None, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        objective.parse(maximise, subject_to)


def test_a_report_without_the_number_is_told_of() -> None:
    with pytest.raises(ValueError, match="objective: balanced_accuracy: must be numbers that"):
        objective.parse("balanced_accuracy", None).judge(NUMBERS)


def test_on_the_command_line_it_is_typed_as_it_is_read() -> None:
    for word in ("maximise=accuracy - 2*tpr@fpr=0.01", "subject_to=auc <= 0.6, tpr@fpr=0.1 <= 0.4"):
        (typed,) = cli.normalise([f"objective.{word}"])
        (override,) = OverridesParser.create().parse_overrides([typed])
        assert override.value() == word.partition("=")[2]
    with pytest.raises(ValueError, match=r"objective=auc: has parts; write objective\.maximise="):
        cli.normalise(["objective=auc"])
