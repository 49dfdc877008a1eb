"""The coreset method: its options reach the selection; others' membership only moves the budget."""

import pytest
import torch
from conftest import facts_like

from synpriv.data.images import LabelledImages
from synpriv.methods.coreset import recipe
from synpriv.methods.coreset.coreset import Coreset
from synpriv.methods.coreset.selection import Records


def coreset(records: Records | None, labels: torch.Tensor, **options: object) -> list[int]:
    """What is released of images that carry their own position."""
    torch.manual_seed(0)
    images = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1)
    private = LabelledImages(images, labels)
    method = Coreset(private=private, model=untouched, records=records, **options)
    method.on_fit_start()
    release = method.release()
    assert release.synthetic.images.flatten().tolist() == release.indices.tolist()
    assert release.synthetic.labels.tolist() == labels[release.indices].tolist()
    return release.indices.tolist()


def untouched() -> None:
    raise AssertionError("a coreset trains no network")


def margins(rows: list[list[float]], labels: list[int] | None = None) -> Records:
    """Of two classes: rows [E][N] say how far the right logit is above the other one."""
    right = torch.tensor(labels or [0] * len(rows[0]))
    logits = torch.tensor(rows)[:, :, None] * torch.nn.functional.one_hot(right, 2)
    return Records(logits, torch.zeros(len(right), 1), right)


def histories(words: list[str], labels: list[int] | None = None) -> Records:
    """Of samples that are right (1) or wrong (0) after each epoch."""
    epochs = zip(*words, strict=True)
    return margins([[3.0 if letter == "1" else -3.0 for letter in each] for each in epochs], labels)


@pytest.mark.parametrize(
    ("options", "kept"),
    [({}, [1, 2]), ({"never_learned": "first"}, [1, 2]), ({"never_learned": "never"}, [1, 4])],
)
def test_never_learned_decides_for_the_hopeless(options: dict[str, str], kept: list[int]) -> None:
    records = histories(["11111", "10101", "00000", "00111", "11011"])  # events 0 2 inf 0 1
    how = {"selection": "forgetting", "fraction": 0.4, "balance": False}
    assert coreset(records, records.labels, **how, **options) == kept


@pytest.mark.parametrize(
    ("epochs", "kept"),
    [(None, [0, 1]), ([1], [0, 1]), ([2], [2, 3]), ([3], [4, 5]), ([2, 3], [4, 5])],
)
def test_el2n_averages_over_the_epochs_it_is_told(
    epochs: list[int] | None, kept: list[int]
) -> None:
    # Each epoch errs on two samples; the first errs more than the second. By default 1 and 2 of 3.
    records = margins(
        [
            [-4.0, -4.0, 9.0, 9.0, 9.0, 9.0],
            [9.0, 9.0, -2.0, -2.0, 9.0, 9.0],
            [9.0, 9.0, 9.0, 9.0, -4.0, -4.0],
        ]
    )
    how = {"selection": "el2n", "fraction": 1 / 3, "balance": False}
    assert coreset(records, records.labels, el2n_epochs=epochs, **how) == kept


@pytest.mark.parametrize(
    ("options", "kept"),
    [({}, [2, 3, 7]), ({"balance": True}, [2, 3, 7]), ({"balance": False}, [5, 6, 7])],
)
def test_balance_decides_whether_a_hard_class_is_kept_more(
    options: dict[str, bool], kept: list[int]
) -> None:
    labels = [0, 0, 0, 0, 0, 1, 1, 1, 0]
    records = margins([[6.0, 5.0, 4.0, 3.0, 7.0, 2.0, 1.0, 0.0, 8.0]], labels)
    how = {"selection": "el2n", "fraction": 1 / 3}
    assert coreset(records, records.labels, **how, **options) == kept


def test_only_random_does_without_records_and_they_must_be_of_this_set() -> None:
    records = histories(["101", "110", "111", "011"])
    labels = records.labels
    assert len(coreset(None, labels, selection="random", fraction=0.5)) == 2
    with pytest.raises(ValueError, match="selection=el2n: needs a proxy; use method=coreset_el2n"):
        coreset(None, labels, selection="el2n", fraction=0.5)
    with pytest.raises(ValueError, match=r"el2n_epochs=\[4\]: must be epochs among 1\.\.3"):
        coreset(records, labels, selection="el2n", fraction=0.5, el2n_epochs=[4])
    for other in (labels[1:], 1 - labels):
        with pytest.raises(ValueError, match="not about this private set"):
            coreset(records, other, selection="el2n", fraction=0.5)


def test_a_fraction_of_less_than_an_image_per_class_is_refused() -> None:
    labels = torch.arange(40) % 4
    assert len(coreset(None, labels, selection="random", fraction=0.1)) == 4
    facts = facts_like(num_classes=4, num_train=40)
    recipe.Coreset(selection="random", fraction=0.1).check(facts)
    with pytest.raises(ValueError, match=r"fraction=0.07 of 40 images: must be at least 0\.1, one"):
        recipe.Coreset(selection="random", fraction=0.07).check(facts)


TIMES = [3, 8, 0, 6, 11, 1, 9, 4, 7, 2, 10, 5]
HALVES = [i % 2 for i in range(12)]
NO_TIES = {
    "el2n": margins([[-float(times) for times in TIMES]], HALVES),
    "forgetting": histories(["10" * times + "1" * 2 * (12 - times) for times in TIMES], HALVES),
}


@pytest.mark.parametrize("selection", NO_TIES)
def test_who_else_is_a_member_does_not_change_the_ranking(selection: str) -> None:
    """Not so of herding and k_center: each of their choices depends on all samples."""

    def kept(members: list[int]) -> list[set[int]]:
        """The samples kept as the fraction grows."""
        records, found = NO_TIES[selection][torch.tensor(members)], list[set[int]]()
        for num in range(2, len(members) + 1):
            how = {"selection": selection, "fraction": num / len(members), "balance": False}
            found.append({members[i] for i in coreset(records, records.labels, **how)})
        return found

    def first(ranked: list[int]) -> list[set[int]]:
        return [set(ranked[:num]) for num in range(2, len(ranked) + 1)]

    everyone = sorted(range(12), key=lambda i: -TIMES[i])
    assert kept(list(range(12))) == first(everyone)
    for out in range(12):
        rest = [i for i in range(12) if i != out]
        assert kept(rest) == first([i for i in everyone if i != out])
