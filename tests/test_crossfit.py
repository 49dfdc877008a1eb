"""Choosing among variants: against loops, blind to what it judges, and what it finds."""

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import rankdata

from synpriv.audit.attacks.lira import lira
from synpriv.audit.crossfit import LARGEST_FPR, Ranked, combine, fold_of, statistic_of
from synpriv.audit.evidence import DESIGNS, Evidence
from synpriv.audit.intervals import draws
from synpriv.audit.metrics import auc, tpr_at_fpr
from synpriv.audit.reselection import reselected
from synpriv.data.draws import bernoulli_membership, membership

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def partial_auc(values: Floats, member: Bools, weight: NDArray[np.int64]) -> float:
    """Mean TPR over the lowest 5% of FPR, one step per group of ties, by a loop over values."""
    usable = np.isfinite(values)
    values, member, weight = values[usable], member[usable], weight[usable]
    allowed = LARGEST_FPR * weight[~member].sum()
    won = 0.0
    for value in np.unique(values):
        higher = min(allowed, weight[~member & (values > value)].sum())
        upto = min(allowed, weight[~member & (values >= value)].sum())
        won += weight[member & (values == value)].sum() * (allowed - (higher + upto) / 2)
    return won / (allowed * weight[member].sum())


def drawn(seed: int, digits: int = 6) -> tuple[Floats, Bools]:
    """Four variants that know a little, with more ties the fewer the digits, some undefined."""
    rng = np.random.default_rng(seed)
    member = rng.random((23, 8)) < 0.5
    leak = rng.normal(size=(4, 1, 1)) * member
    variants = (leak + rng.normal(size=(4, 23, 8))).round(digits)
    variants[2, 5] = np.nan
    return variants, member


@pytest.mark.parametrize("digits", [0, 1, 6])
@pytest.mark.parametrize("weighted", [False, True])
def test_each_fold_takes_the_best_on_the_others(digits: int, weighted: bool) -> None:
    for seed in range(10):
        variants, member = drawn(seed, digits)
        weight = np.random.default_rng(seed).integers(0, 3, size=member.shape)
        fold = fold_of(23)
        expected = np.empty(23, dtype=int)
        for judged in range(5):
            others = fold != judged
            times = weight if weighted else np.ones_like(weight)
            read = [partial_auc(v[others], member[others], times[others]) for v in variants]
            expected[~others] = np.argmax(np.round(read, 12))
        _, chosen = combine(variants, member, weight=weight if weighted else None)
        np.testing.assert_array_equal(chosen, expected)


@pytest.mark.parametrize("shift", [0.0, 1.0, 9.0])
@pytest.mark.parametrize("digits", [0, 6])
def test_as_many_places_are_looked_at_as_it_takes(shift: float, digits: int) -> None:
    # Nothing, much and all of the top are members; ties may fill it.
    rng = np.random.default_rng(0)
    member = rng.random((60, 8)) < 0.5
    variants = (shift * member + rng.normal(size=(2, 60, 8))).round(digits)
    ranked = Ranked(variants)
    both = np.stack([~member, member]).reshape(2, -1).astype(float)
    expected = [
        [
            partial_auc(v[rest], member[rest], np.ones_like(member[rest], dtype=int))
            for v in variants
        ]
        for rest in (ranked.fold != f for f in range(5))
    ]
    found = [ranked._areas(both, places) for places in (44, 144, 480)]
    assert found[-1] is not None
    for read in found:
        if read is not None:
            np.testing.assert_allclose(read.T, expected, rtol=1e-12)
    enough = [read is not None for read in found]
    assert enough == sorted(enough)
    if digits == 6:
        assert enough.index(True) == {0.0: 0, 1.0: 1, 9.0: 2}[shift]


def test_a_weight_counts_like_repeated_canaries() -> None:
    variants, member = drawn(0)
    times = np.random.default_rng(0).integers(0, 4, size=23)
    ranked = Ranked(variants)
    _, chosen = ranked.combine(member, weight=np.repeat(times[:, None], 8, axis=1))
    longer = Ranked(np.repeat(variants, times, axis=1))
    longer.fold = np.repeat(ranked.fold, times)
    longer._of_pair = np.repeat(longer.fold, 8)
    _, expected = longer.combine(np.repeat(member, times, axis=0))
    np.testing.assert_array_equal(np.repeat(chosen, times), expected)


def test_the_judged_canaries_membership_does_not_choose() -> None:
    variants, member = drawn(1)
    fold = fold_of(23)
    _, chosen = combine(variants, member)
    for judged in range(5):
        flipped = np.where((fold == judged)[:, None], ~member, member)
        _, again = combine(variants, flipped)
        np.testing.assert_array_equal(again[fold == judged], chosen[fold == judged])


def test_a_unanimous_choice_keeps_its_values_and_a_mixed_one_its_order() -> None:
    rng = np.random.default_rng(0)
    member = rng.random((40, 8)) < 0.5
    noise = rng.normal(size=(3, 40, 8))
    noise[1] += 5 * member
    statistic, chosen = combine(noise, member)
    assert set(chosen) == {1}
    np.testing.assert_array_equal(statistic, noise[1])
    noise = rng.normal(size=(3, 40, 8)).round(1)
    noise[0, 3, 4] = np.nan
    ranked = Ranked(noise)
    mixed = np.arange(40) % 3
    merged = ranked.merge(mixed)
    for index in range(3):
        ranks = rankdata(noise[index], axis=None, nan_policy="omit").reshape(40, 8)
        np.testing.assert_array_equal(merged[mixed == index], ranks[mixed == index])


def test_folds_are_even_and_fixed() -> None:
    fold = fold_of(23)
    assert sorted(np.bincount(fold)) == [4, 4, 5, 5, 5]
    np.testing.assert_array_equal(fold, fold_of(23))
    assert fold_of(3).max() == 2


def test_one_variant_is_the_attack_itself() -> None:
    variants, member = drawn(0)
    np.testing.assert_array_equal(combine(variants[:1], member)[0], variants[0])
    np.testing.assert_array_equal(statistic_of(variants[0], member), variants[0])
    np.testing.assert_array_equal(statistic_of({"a": variants[0]}, member), variants[0])


def test_other_shapes_are_refused() -> None:
    variants, member = drawn(0)
    with pytest.raises(ValueError, match=r"need \[V,C,S\]"):
        combine(variants[0], member)
    with pytest.raises(ValueError, match=r"variants \(4, 23, 8\) and member \(8, 23\) differ"):
        combine(variants, member.T)


# --- the procedure -------------------------------------------------------------------------------


def bits(design: str, num_canaries: int, num_models: int, seed: int) -> Bools:
    if design == "balanced":
        return membership(num_canaries, num_models, seed=seed)
    if design == "bernoulli":
        return bernoulli_membership(num_canaries, num_models, seed=seed)
    first = np.random.default_rng(seed).random((num_canaries, num_models // 2)) < 0.5
    return np.stack([first, ~first], axis=2).reshape(num_canaries, num_models)


def cell(leak: float, *, design: str = "paired", num_models: int = 16, seed: int = 0) -> Evidence:
    """Canaries whose members raise the logit of their TRUE label by `leak` deviations.

    Images say their true label anyway, so a leak moves the wrong label's share by next to nothing.
    """
    rng = np.random.default_rng(seed)
    member = bits(design, 100, num_models, seed)
    labels = rng.integers(0, 10, size=100)
    true = (labels + rng.integers(1, 10, size=100)) % 10
    logits = rng.normal(size=(100, num_models, 3, 10)).astype(np.float32)
    rows = np.arange(100)
    # What a member's true label gains the largest other one gains too: the margin of the wrong
    # label to it keeps its law.
    logits[rows, :, :, true] += 4
    margin = leak * member[:, :, None]
    logits[rows, :, :, true] += margin
    logits[rows, :, :, labels] += margin
    return Evidence(logits, member, labels, true, design=design)


def test_a_method_that_keeps_true_labels_is_found_and_missed_by_the_wrong_label_alone() -> None:
    given = cell(3.0)
    found = statistic_of(lira(given), given.member)
    wrong = statistic_of(lira(given, labels=["trained_label"]), given.member)
    assert tpr_at_fpr(wrong, given.member, 0.01) < 0.06
    assert tpr_at_fpr(found, given.member, 0.01) > 0.25


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("num_models", [6, 8, 16])
def test_without_a_leak_the_procedure_reads_chance(design: str, num_models: int) -> None:
    read = []
    for seed in range(12):
        given = cell(0.0, design=design, num_models=num_models, seed=seed)
        statistic = statistic_of(lira(given), given.member)
        usable = np.isfinite(statistic)
        read.append(auc(statistic[usable], given.member[usable]))
    # Twelve AUCs of 100 S pairs each, of which canaries' eight variants are one draw.
    assert np.mean(read) == pytest.approx(0.5, abs=4 * 0.58 / np.sqrt(1200 * num_models))


def test_the_bits_of_a_round_give_what_new_evidence_gives() -> None:
    given = cell(2.0)
    statistic_of(lira(given), given.member)
    other = bits("paired", 100, 16, 5)
    np.testing.assert_array_equal(
        statistic_of(lira(given.with_member(other)), other),
        statistic_of(lira(dataclasses.replace(given, member=other)), other),
    )


def test_the_number_of_threads_changes_no_interval() -> None:
    variants, member = np.random.default_rng(0).normal(size=(3, 24, 8)), membership(24, 8, seed=0)
    drawn = draws(24, np.arange(8), rounds=60)
    alone, many = (reselected(variants, member, [0.1], drawn, workers=w) for w in (1, 3))
    np.testing.assert_array_equal(alone, many)
