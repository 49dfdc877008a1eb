"""What a table, a page and a run on disk say of groups as members."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from example_reports import report_of

from synpriv.guarantee import of_group
from synpriv.report import content, members, page, table
from synpriv.results import store
from synpriv.results.store import Cell

GROUPED: dict[str, Any] = {
    "groups": {"images": 210, "smallest": 2, "largest": 9},
    "num_canaries": 40,
}
DATA = {"in_words": "", "warnings": [], "sha256": "0", "num_private": 1000}


def grouped(**others: Any) -> dict[str, Any]:
    of_all = {"num": 200, "smallest": 1, "largest": 12}
    return report_of(**GROUPED, data=DATA | {"groups": of_all}, **others)


def test_a_table_says_that_it_speaks_of_groups() -> None:
    words = "members are groups of 2 to 9 images, not images: 40 of 200 groups are canaries"
    assert str(members.in_words(grouped())).startswith(words)
    assert members.in_words(report_of()) is None
    both = [grouped(method="dfkd"), report_of()]
    text = table.text(both, family="", rest="")
    assert f"dfkd: {words}" in text
    assert "mislabelled groups" in text
    assert words in page.markdown(both, family="")
    assert "members are groups" not in table.text([report_of()], family="", rest="")
    assert members.canaries(grouped()) == "40 mislabelled canary groups"
    assert members.canaries(report_of()) == "500 mislabelled canaries"


@pytest.mark.parametrize(
    ("proven", "whole", "words"),
    [
        (2.0, 31.4, "2 per image; 31.4 per group of 12 (delta 1e-05)"),
        (2.0, 314.0, "2 per image; 314, vacuous per group of 12 (delta 1e-05)"),
        (2.0, None, "2 per image; none per group of 12 (delta 1e-05)"),
    ],
)
def test_epsilon_is_named_per_image_and_converted(
    proven: float, whole: float | None, words: str
) -> None:
    mechanism = {"delta": 1e-5, "noise_multiplier": 1.0, "sample_rate": 0.1, "steps": 9}
    mechanism |= {"max_grad_norm": 1.0, "accountant": "prv"}
    report = grouped(epsilon=proven, epsilon_tuned=None, epsilon_group=whole, **mechanism)
    assert table.row(report, "x")[table.HEADER.index("epsilon")] == words


@pytest.mark.parametrize("largest", [None, 1, 5])
def test_the_guarantee_of_a_cell_is_that_of_its_largest_group(largest: int | None) -> None:
    orders = [1.5, 2.0, 4.0, 8.0, 16.0, 64.0]
    curve = {"orders": orders, "divergences": [0.01 * order for order in orders]}
    run = {"cell": "c", "epsilon": 0.9, "epsilon_rdp": 1.0, "renyi": curve, "delta": 1e-5}
    run |= {"noise_multiplier": 1.0, "sample_rate": 0.1, "steps": 9, "max_grad_norm": 1.0}
    groups = None if largest is None else {"num": 9, "smallest": 1, "largest": largest}
    run |= {"accountant": "prv", "data": {"groups": groups}}
    found = content.guarantee_of([run], 1, "fixed")
    if largest is None:
        assert "epsilon_group" not in found
    else:
        whole = of_group(orders, curve["divergences"], 1e-5, largest)
        assert found["epsilon_group"] == pytest.approx(0.9 if largest == 1 else whole)
    run["epsilon"] = None
    assert content.guarantee_of([run], 1, "fixed").get("epsilon_group") is None


def test_a_run_keeps_its_groups_and_all_runs_of_a_cell_have_the_same(tmp_path: Path) -> None:
    cell = Cell(tmp_path, "m-d-c-00000000", 4)
    of = np.array([0, 0, 1, 2, 2])

    def save(seed: int, groups: np.ndarray) -> None:
        member = (np.array([0, 1, 1]) == seed % 2)[groups]
        store.save_run(
            cell.run(seed),
            logits=np.zeros((5, 2, 3), dtype=np.float32),
            member=member,
            labels=np.zeros(5, dtype=np.int64),
            true_labels=np.zeros(5, dtype=np.int64),
            metrics={
                "cell": cell.name,
                "seed": seed,
                "canaries_sha256": "",
                "membership": "paired",
            },
            groups=groups,
        )

    for seed in range(4):
        save(seed, of)
    evidence = cell.evidence(range(4))
    np.testing.assert_array_equal(evidence.groups, of)
    assert evidence.bits.shape == (3, 4)
    save(3, np.array([0, 0, 1, 1, 2]))
    with pytest.raises(ValueError, match="other canaries"):
        cell.evidence(range(4))


def test_wrong_labels_of_own_canaries_are_counted() -> None:
    run = {"test_accuracy": 0.9, "data": {"num_test": 100, "num_private": 220, "sha256": "0"}}
    found = content.accuracy_of("path", 40, [run], [], num_wrong=20)["accuracy"]
    assert found["wrong_labels"] == pytest.approx(10 / 200)
    report = {"accuracy": found, "canary": "path", "data": {}}
    assert content.warnings_of_accuracy(report) == [
        "accuracy is that under 5.0% wrong labels, the canaries'"
    ]
