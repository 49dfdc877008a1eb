"""Coreset selections against loops and hand-made records; fair ties; exact budgets."""

import math
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from conftest import digits_as_tensors
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from synpriv.methods.coreset import recipe
from synpriv.methods.coreset.selection import (
    SELECTIONS,
    Records,
    budgets,
    early_epochs,
    el2n,
    forgetting,
    herding,
    k_center,
    largest,
    select,
)

every_selection = pytest.mark.parametrize("selection", sorted(SELECTIONS))
balanced_or_not = pytest.mark.parametrize("balance", [True, False])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_records(
    seed: int = 0, *, epochs: int = 5, num: int = 60, classes: int = 3, size: int = 4
) -> Records:
    draw = seeded(seed)
    return Records(
        logits=2 * torch.randn(epochs, num, classes, generator=draw),
        features=torch.randn(num, size, generator=draw),
        labels=torch.randint(classes, (num,), generator=draw),
    )


def equal_records(num: int) -> Records:
    """All samples alike, so that every selection has nothing but ties."""
    return Records(torch.zeros(3, num, 2), torch.ones(num, 4), torch.ones(num, dtype=torch.long))


# Right (1) or wrong (0) after each of five epochs, and how often right turned to wrong.
HISTORIES = {
    "11111": 0,
    "00011": 0,
    "00000": None,  # never learned
    "10000": 1,
    "10101": 2,
    "01010": 2,
    "00001": 0,
    "01101": 1,
}


def from_histories(histories: list[str]) -> tuple[Tensor, Tensor]:
    """Logits [E,N,3] that are right as told, and the labels [N]."""
    right = torch.tensor([[step == "1" for step in history] for history in histories]).T
    labels = torch.arange(len(histories)) % 3
    predicted = torch.where(right, labels, (labels + 1) % 3)
    return 3.0 * torch.nn.functional.one_hot(predicted, 3), labels


@pytest.mark.parametrize(("never_learned", "events"), [("first", math.inf), ("never", 0.0)])
def test_forgetting_events_of_hand_made_histories(never_learned: str, events: float) -> None:
    scores = forgetting(*from_histories(list(HISTORIES)), never_learned=never_learned)
    assert scores.tolist() == [events if n is None else n for n in HISTORIES.values()]


def test_never_learned_decides_whether_a_hopeless_label_is_kept() -> None:
    logits, labels = from_histories(list(HISTORIES))
    records = Records(logits, torch.zeros(len(labels), 1), labels)
    hopeless = list(HISTORIES).index("00000")

    def kept(never_learned: str, num: int, seed: int) -> list[int]:
        chosen = select(
            records,
            selection="forgetting",
            num=num,
            balance=False,
            never_learned=never_learned,
            generator=seeded(seed),
        )
        return chosen.tolist()

    forgotten = [i for i, events in enumerate(HISTORIES.values()) if events]
    for seed in range(10):
        assert kept("first", 1, seed) == [hopeless]
        assert kept("never", len(forgotten), seed) == forgotten
    # Beyond those that were forgotten it ties with the never forgotten: one in four.
    extra = sum(hopeless in kept("never", len(forgotten) + 1, seed) for seed in range(400))
    assert 60 < extra < 140


def test_one_epoch_has_no_events() -> None:
    logits, labels = from_histories(["1", "0"])
    assert forgetting(logits, labels, never_learned="first").tolist() == [0.0, math.inf]


def test_el2n_is_the_naive_loop() -> None:
    records = make_records()
    naive = []
    for i, label in enumerate(records.labels.tolist()):
        norms = []
        for logits in records.logits[:, i].tolist():
            total = sum(math.exp(z) for z in logits)
            error = [math.exp(z) / total - (k == label) for k, z in enumerate(logits)]
            norms.append(math.sqrt(sum(e * e for e in error)))
        naive.append(sum(norms) / len(norms))
    scores = el2n(records.logits, records.labels)
    torch.testing.assert_close(scores, torch.tensor(naive, dtype=torch.float64))


@pytest.mark.parametrize(
    ("num_epochs", "last"), [(1, 1), (2, 1), (5, 3), (19, 10), (20, 10), (200, 10)]
)
def test_early_epochs(num_epochs: int, last: int) -> None:
    assert list(early_epochs(num_epochs)) == list(range(1, last + 1))


def test_el2n_looks_at_its_epochs_only() -> None:
    records = make_records(epochs=4)
    late = Records(records.logits.clone(), records.features, records.labels)
    late.logits[2:] = make_records(1, epochs=2).logits

    def kept(of: Records, epochs: list[int] | None) -> list[int]:
        how = {"selection": "el2n", "num": 20, "balance": False, "el2n_epochs": epochs}
        return select(of, generator=seeded(), **how).tolist()

    assert kept(records, None) == kept(late, None) == kept(late, [1, 2])
    assert kept(records, [3, 4]) != kept(late, [3, 4])
    best = el2n(late.logits[[3]], late.labels).argsort(descending=True)[:20]
    assert kept(late, [4]) == best.sort().values.tolist()


def naive_herding(features: Tensor, num: int) -> list[int]:
    rows = features.double()
    mean, picked = rows.mean(0), list[int]()
    for step in range(num):
        total = sum((rows[i] for i in picked), torch.zeros_like(mean))
        left = [i for i in range(len(rows)) if i not in picked]
        picked.append(min(left, key=lambda i: float(((step + 1) * mean - total - rows[i]).norm())))
    return picked


def naive_k_center(features: Tensor, num: int, first: int) -> list[int]:
    rows, picked = features.double(), [first]
    while len(picked) < num:
        left = [i for i in range(len(rows)) if i not in picked]
        picked.append(
            max(left, key=lambda i: min(float((rows[i] - rows[j]).norm()) for j in picked))
        )
    return picked


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("offset", [0.0, 1000.0])  # far from the origin, differences are small
def test_herding_is_the_naive_loop(seed: int, offset: float) -> None:
    features = make_records(seed).features + offset
    picks = herding(features, 60, seeded(seed)).tolist()
    assert picks == naive_herding(features, 60)
    assert picks[0] == int((features.double() - features.double().mean(0)).norm(dim=1).argmin())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_k_center_is_the_naive_loop(seed: int, offset: float) -> None:
    features = make_records(seed).features + offset
    picks = k_center(features, 60, seeded(seed)).tolist()
    assert picks == naive_k_center(features, 60, picks[0])


@pytest.mark.parametrize("choose", [herding, k_center])
def test_greedy_selections_of_digits_are_bit_for_bit_those_of_scalar_indexing(
    choose: Callable[[Tensor, int, torch.Generator], Tensor],
) -> None:
    """Pixels are whole numbers, so that there are ties that another rounding would break."""
    features = digits_as_tensors().private.images.float().flatten(1)[:400]
    order = torch.randperm(400, generator=seeded(3))
    rows = features[order].double()
    rows -= rows.mean(0)
    squares, total, picks = rows.square().sum(1), torch.zeros(64).double(), list[int]()
    nearest = torch.full_like(squares, math.inf)
    for _ in range(150):
        scores = -(squares + 2 * (rows @ total)) if choose is herding else nearest.clone()
        scores[picks] = -math.inf
        picks.append(int(scores.argmax()))
        total += rows[picks[-1]]
        distance = squares - 2 * (rows @ rows[picks[-1]]) + squares[picks[-1]]
        nearest = torch.minimum(nearest, distance)
    assert choose(features, 150, seeded(3)).tolist() == order[picks].tolist()


grids = st.lists(
    st.tuples(st.integers(-2, 2), st.integers(-2, 2)), min_size=1, max_size=12
)  # small, for many duplicates


@given(points=grids, seed=st.integers(0, 5), share=st.floats(0, 1))
def test_greedy_picks_are_optimal_steps_with_ties(
    points: list[tuple[int, int]], seed: int, share: float
) -> None:
    rows = torch.tensor(points, dtype=torch.float64)
    num = max(1, round(share * len(rows)))
    picks = herding(rows, num, seeded(seed))
    assert len(set(picks.tolist())) == num
    for step in range(num):
        distance = ((step + 1) * rows.mean(0) - rows[picks[:step]].sum(0) - rows).norm(dim=1)
        free = torch.ones(len(rows), dtype=torch.bool).index_fill(0, picks[:step], False)
        assert distance[picks[step]] <= distance[free].min() + 1e-6
    centres = k_center(rows, num, seeded(seed))
    assert len(set(centres.tolist())) == num
    for step in range(1, num):
        nearest = torch.cdist(rows, rows[centres[:step]]).min(1).values
        assert nearest[centres[step]] >= nearest.max() - 1e-6


def test_herding_follows_the_mean_closer_than_random() -> None:
    features = make_records(num=500, size=8).features
    mean = features.mean(0)
    picks, random = herding(features, 100, seeded()), torch.randperm(500, generator=seeded(1))
    error = {}
    for num in (10, 30, 100):
        error[num] = float((features[picks[:num]].mean(0) - mean).norm())
        assert error[num] < 0.5 * float((features[random[:num]].mean(0) - mean).norm())
    # Like 1/n, where random samples gain like 1/sqrt(n).
    assert error[100] < 0.2 * error[10]


def test_k_center_covers_better_than_random() -> None:
    features = make_records(num=500, size=3).features

    def radius(picks: Tensor) -> float:
        return float(torch.cdist(features, features[picks]).min(1).values.max())

    randoms = [radius(torch.randperm(500, generator=seeded(s))[:40]) for s in range(20)]
    assert radius(k_center(features, 40, seeded())) < 0.8 * min(randoms)


def test_the_first_centre_is_drawn() -> None:
    features = make_records(num=5).features
    firsts = Counter(int(k_center(features, 1, seeded(seed))) for seed in range(500))
    assert sorted(firsts) == [0, 1, 2, 3, 4]
    assert all(60 < count < 140 for count in firsts.values())
    assert k_center(features, 3, seeded(7)).tolist() == k_center(features, 3, seeded(7)).tolist()


@every_selection
@balanced_or_not
def test_ties_are_drawn_and_repeat_with_the_seed(selection: str, balance: bool) -> None:
    num, keep, repeats = 12, 4, 600
    records = equal_records(num)
    how = {"selection": selection, "num": keep, "balance": balance}
    counts, pairs = torch.zeros(num), torch.zeros(num, num)
    for seed in range(repeats):
        chosen = select(records, generator=seeded(seed), **how)
        counts[chosen] += 1
        pairs[chosen[:, None], chosen] += 1
    assert torch.equal(chosen, select(records, generator=seeded(repeats - 1), **how))
    # 600 * 4/12 = 200 times each, standard deviation 11.5; pairs 600/11 = 55 times, 7.
    assert (counts - 200).abs().max() < 58
    apart = pairs[~torch.eye(num, dtype=torch.bool)]
    assert (apart - repeats / 11).abs().max() < 35


def test_largest_is_sorted_and_draws_only_between_equals() -> None:
    scores = torch.tensor([1.0, 3.0, 1.0, math.inf, 1.0, -math.inf])
    lists = {tuple(largest(scores, 4, seeded(seed)).tolist()) for seed in range(100)}
    assert {picks[:2] for picks in lists} == {(3, 1)}
    assert {picks[2:] for picks in lists} == {
        (i, j) for i in (0, 2, 4) for j in (0, 2, 4) if i != j
    }
    assert largest(scores, 0, seeded()).tolist() == []


@every_selection
@balanced_or_not
@pytest.mark.parametrize("num", [1, 2, 7, 59, 60])
def test_exactly_num_sorted_distinct_positions(selection: str, balance: bool, num: int) -> None:
    records = make_records()
    before = [t.clone() for t in (records.logits, records.features, records.labels)]
    how = {"selection": selection, "num": num, "balance": balance}
    chosen = select(records, generator=seeded(), **how)
    assert chosen.dtype == torch.int64
    assert chosen.shape == (num,)
    assert (chosen.diff() > 0).all()
    assert int(chosen[0]) >= 0
    assert int(chosen[-1]) < 60
    after = (records.logits, records.features, records.labels)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


sizes_of_classes = st.lists(st.integers(0, 30), min_size=1, max_size=8).filter(any)


@given(sizes=sizes_of_classes, share=st.floats(0, 1), seed=st.integers(0, 3))
def test_budgets_are_proportional_and_exact(sizes: list[int], share: float, seed: int) -> None:
    total = sum(sizes)
    num = max(1, round(share * total))
    keep = budgets(torch.tensor(sizes), num, seeded(seed)).tolist()
    assert sum(keep) == num
    for size, kept in zip(sizes, keep, strict=True):
        assert kept in (num * size // total, -(-num * size // total))  # hence not above size
    cut = [num * size % total for size in sizes]
    more = [c for c, size, k in zip(cut, sizes, keep, strict=True) if k > num * size // total]
    rest = [c for c, size, k in zip(cut, sizes, keep, strict=True) if k == num * size // total]
    assert not more or not rest or min(more) >= max(rest)


def test_which_of_equal_classes_gets_the_remainder_is_drawn() -> None:
    sizes = torch.tensor([10, 10, 10])
    keep = [budgets(sizes, 4, seeded(seed)) for seed in range(300)]
    assert (torch.stack(keep).sum(0) - 400).abs().max() < 40  # 300 * 4/3, standard deviation 8


@every_selection
def test_balance_selects_within_each_class(selection: str) -> None:
    records = make_records(num=90)
    labels = torch.tensor([1] * 60 + [5] * 20 + [9] * 10)[torch.randperm(90, generator=seeded(3))]
    logits = torch.nn.functional.pad(records.logits, (0, 7))  # 10 classes, most without a sample
    records = Records(logits, records.features, labels)
    how = {"selection": selection, "balance": True}
    chosen = select(records, num=27, generator=seeded(), **how)
    assert Counter(labels[chosen].tolist()) == {1: 18, 5: 6, 9: 3}
    if selection == "herding":
        members = (labels == 5).nonzero()[:, 0]
        expected = members[naive_herding(records.features[members], 6)]
        assert chosen[labels[chosen] == 5].tolist() == expected.sort().values.tolist()


@pytest.mark.parametrize("selection", ["el2n", "herding"])  # no ties here, nothing else drawn
@balanced_or_not
def test_the_order_of_the_samples_does_not_matter(selection: str, balance: bool) -> None:
    # Equal classes and a budget without remainder: no draw between classes either.
    records = make_records(num=60)
    records = Records(records.logits, records.features, torch.arange(60) % 3)
    order = torch.randperm(60, generator=seeded(1))
    how = {"selection": selection, "num": 21, "balance": balance}
    plain = select(records, generator=seeded(2), **how)
    permuted = select(records[order], generator=seeded(3), **how)
    assert order[permuted].sort().values.tolist() == plain.tolist()


@every_selection
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(selection: str, dtype: torch.dtype) -> None:
    # Rounded first, so that every type holds the same numbers.
    plain = make_records()
    rounded = Records(plain.logits.to(dtype), plain.features.to(dtype), plain.labels)
    single = Records(rounded.logits.float(), rounded.features.float(), plain.labels.int())
    how = {"selection": selection, "num": 20, "balance": True}
    assert torch.equal(
        select(rounded, generator=seeded(), **how), select(single, generator=seeded(), **how)
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num": 0}, r"num=0: must be 1\.\.60"),
        ({"num": 61}, r"num=61: must be 1\.\.60"),
    ],
)
def test_bad_input_costs_one_line(wrong: dict[str, object], message: str) -> None:
    right = {"selection": "random", "num": 3, "balance": False}
    with pytest.raises(ValueError, match=message) as error:
        select(make_records(), generator=seeded(), **(right | wrong))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"selection": "grand"}, "selection=grand: must be one of random, herding, k_center"),
        ({"never_learned": "last"}, "never_learned=last: must be first or never"),
        ({"el2n_epochs": []}, r"el2n_epochs=\[\]: must be epochs of the proxy, from 1"),
        ({"el2n_epochs": [0, 1]}, r"el2n_epochs=\[0, 1\]: must be epochs of the proxy, from 1"),
    ],
)
def test_the_recipe_refuses_what_no_records_fit(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recipe.Coreset(**({"selection": "random", "fraction": 0.5} | wrong))


def test_the_recipe_knows_the_selections() -> None:
    assert tuple(SELECTIONS) == recipe.SELECTIONS


def test_a_diverged_proxy_is_refused() -> None:
    records = make_records()
    records.logits[-1, 3, 0] = math.nan
    with pytest.raises(ValueError, match="diverged"):
        select(records, selection="el2n", num=3, balance=False, generator=seeded())


def test_records_that_do_not_fit_are_refused() -> None:
    fine = make_records()
    with pytest.raises(ValueError, match=r"\[59, 4\]"):
        Records(fine.logits, fine.features[1:], fine.labels)
    with pytest.raises(ValueError, match="must be"):
        Records(fine.logits[0], fine.features, fine.labels)
