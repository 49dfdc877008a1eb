"""The default attack against loops, at the null of each design, and on degenerate scores."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from reference import lira as naive
from scipy.stats import t

from synpriv.audit import references
from synpriv.audit.attacks import lira as module
from synpriv.audit.attacks import whole_pairs
from synpriv.audit.attacks.lira import by_view, lira, log_ratios, references_of
from synpriv.audit.attacks.lira_parent import VARIANCES, lira_parent
from synpriv.audit.attacks.nearest import nearest
from synpriv.audit.evidence import DESIGNS, Evidence
from synpriv.audit.metrics import auc, tpr_at_fpr
from synpriv.data.draws import bernoulli_membership, membership

Scores = NDArray[np.float64]
Bools = NDArray[np.bool_]
CLOSE = {"rtol": 2e-7, "atol": 2e-6}  # statistics are rounded to the digits of a float32
designs = pytest.mark.parametrize("design", DESIGNS)


def drawn(design: str, num_canaries: int, num_models: int, seed: int = 0) -> Bools:
    if design == "balanced":
        return membership(num_canaries, num_models, seed=seed)
    if design == "bernoulli":
        return bernoulli_membership(num_canaries, num_models, seed=seed)
    first = np.random.default_rng(seed).random((num_canaries, num_models // 2)) < 0.5
    return np.stack([first, ~first], axis=2).reshape(num_canaries, num_models)


def evidence(
    design: str,
    num_canaries: int,
    num_models: int,
    num_views: int = 2,
    *,
    seed: int = 0,
    seeds: list[int] | None = None,
) -> Evidence:
    """No leak; canaries have means of their own. seeds: only these of the models are there."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(num_canaries, num_models, num_views, 4))
    logits += 2 * rng.normal(size=(num_canaries, 1, num_views, 4))
    columns = np.arange(num_models) if seeds is None else np.array(seeds)
    labels = rng.integers(0, 4, size=num_canaries)
    return Evidence(
        logits.astype(np.float32)[:, columns],
        drawn(design, num_canaries, num_models, seed)[:, columns],
        labels,
        (labels + 1) % 4,
        rng.uniform(size=(num_canaries, num_models)).astype(np.float32)[:, columns],
        design=design,
        seeds=columns,
    )


def by_loop(given: Evidence, scores: Scores, shrinkage: float) -> Scores:
    without = references_of(given)
    return naive.student(
        scores,
        given.member,
        shrinkage=shrinkage,
        removed=None if without.other is None else without.other.T,
        pair=given.pair if given.design == "paired" else None,
    )


# --- against the loop ----------------------------------------------------------------------------


@designs
@pytest.mark.parametrize("num_models", [6, 8])
@pytest.mark.parametrize("shrinkage", [0.0, 4.0])
def test_closed_form_is_the_loop(design: str, num_models: int, shrinkage: float) -> None:
    given = evidence(design, 6, num_models)
    found = lira(given, shrinkage=shrinkage)
    assert len(found) == 8
    for name, statistic in found.items():
        views, score, label = name.split("/")
        ratios = by_loop(given, naive.aligned(given.scores(score, label)), shrinkage)
        expected = ratios.mean(axis=2) if views == "all" else ratios[:, :, 0]
        np.testing.assert_allclose(statistic, expected, err_msg=name, **CLOSE)


PARTIAL = ([0, 1, 2, 3, 4, 5, 7, 9], [5, 0, 9, 1, 2, 4, 3], [0, 2, 4, 6, 7, 8, 9], [1, 2, 3, 4, 5])


@pytest.mark.parametrize("seeds", PARTIAL)
def test_incomplete_cells_are_compared_with_whole_pairs(seeds: list[int]) -> None:
    given = evidence("paired", 5, 10, seeds=seeds)
    scores = naive.aligned(given.scores("hinge"))
    if len(given.partners[0]) < 3:
        with pytest.raises(ValueError, match="LiRA needs 3 models IN and OUT per canary"):
            lira(given)
        return
    statistic = lira(given)["all/hinge/trained_label"]
    assert np.isfinite(statistic).all()
    np.testing.assert_allclose(statistic, by_loop(given, scores, 4.0).mean(axis=2), **CLOSE)


@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("seeds", [None, *PARTIAL[:2]])
def test_the_published_attack_leaves_pairs_out_too(variance: str, seeds: list[int] | None) -> None:
    given = evidence("paired", 5, 10, seeds=seeds)
    np.testing.assert_allclose(
        lira_parent(given, variance=variance),
        _gaussian_by_loop(given, variance),
        **CLOSE,
    )


def test_four_paired_models_are_enough_for_pooled_raw() -> None:
    given = evidence("paired", 5, 4)
    np.testing.assert_allclose(
        lira_parent(given, variance="pooled_raw"), _gaussian_by_loop(given, "pooled_raw"), **CLOSE
    )


def _gaussian_by_loop(given: Evidence, variance: str) -> Scores:
    return naive.leave_one_out(
        given.scores("hinge"), given.member, variance=variance, pair=given.pair
    )


def test_the_reference_s_density_is_scipy_s() -> None:
    sample, pooled, k = [1.0, 2.5, 2.0], 0.7, 4.0
    scale = np.sqrt((3 * np.var(sample) + k * pooled) / 6 * (1 + 1 / 3))
    expected = t.logpdf(0.3, 6, loc=np.mean(sample), scale=scale)
    assert naive._log_student(0.3, sample, pooled, k, 0.0) == pytest.approx(expected, rel=1e-12)


@designs
def test_nearest_is_the_loop(design: str) -> None:
    given = evidence(design, 6, 8)
    assert given.nearest is not None
    scores = -given.nearest.astype(np.float64)[:, :, None]
    np.testing.assert_allclose(nearest(given), by_loop(given, scores, 4.0)[:, :, 0], **CLOSE)


@designs
def test_an_outlying_target_leaves_the_digits_of_its_side(design: str) -> None:
    given = evidence(design, 6, 8)
    scores = given.scores("hinge").copy()
    scores[np.arange(6), np.arange(6)] += 1e6
    found, _ = log_ratios(by_view(scores), references_of(given), shrinkage=0.0)
    np.testing.assert_allclose(
        found[0], by_loop(given, scores, 0.0).mean(axis=2), rtol=1e-6, atol=2e-6
    )


@designs
def test_views_in_small_blocks_give_the_same_numbers(
    design: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = evidence(design, 7, 8, num_views=26)  # more than one product of views holds
    whole = lira(given)
    expected = by_loop(given, naive.aligned(given.scores("logit")), 4.0).mean(axis=2)
    np.testing.assert_allclose(whole["all/logit/trained_label"], expected, **CLOSE)
    monkeypatch.setattr(module, "_BLOCK", 3 * 4 * 7 * 8)  # three views of the four scores
    for name, statistic in lira(given).items():
        np.testing.assert_allclose(statistic, whole[name], **CLOSE)


@designs
def test_a_row_that_is_short_spoils_only_itself(design: str) -> None:
    if design == "paired":
        return
    given = evidence(design, 8, 8)
    member = given.member.copy()
    member[3] = np.arange(8) < 1
    given = dataclasses.replace(given, member=member)
    found = lira(given)["all/hinge/trained_label"]
    scores = naive.aligned(given.scores("hinge"))
    np.testing.assert_allclose(found, by_loop(given, scores, 4.0).mean(axis=2), **CLOSE)
    # The only member has no other one to be compared with; of the others there is one IN.
    np.testing.assert_array_equal(np.isnan(found[3]), np.arange(8) < 1)


# --- the null ------------------------------------------------------------------------------------


@designs
@pytest.mark.parametrize("num_models", [6, 8, 16])
def test_no_leak_reads_as_chance(design: str, num_models: int) -> None:
    read = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        scores = rng.normal(size=(400, num_models, 1)) + 3 * rng.normal(size=(400, 1, 1))
        member = drawn(design, 400, num_models, seed)
        given = Evidence(
            np.zeros((400, num_models, 1, 2), np.float32),
            member,
            *np.zeros((2, 400), int),
            design=design,
        )
        found = log_ratios(by_view(scores), references_of(given))[0][0]
        usable = np.isfinite(found)
        read.append(auc(found[usable], member[usable]))
    assert np.mean(read) == pytest.approx(0.5, abs=4 * 0.32 / np.sqrt(4000 * num_models))


@designs
@pytest.mark.parametrize("values", [(0.0, 1.0), (0.1, 0.3)])
def test_tied_scores_without_a_leak_read_as_chance(
    design: str, values: tuple[float, float]
) -> None:
    # Sides that are all equal have no spread at all; what rounding leaves of it must not tell.
    read = []
    for seed in range(12):
        member = drawn(design, 300, 8, seed)
        scores = np.random.default_rng(seed).choice(values, size=(300, 8, 1), p=[0.8, 0.2])
        partners = (np.arange(0, 8, 2), np.arange(1, 8, 2)) if design == "paired" else None
        without = references.left_out(member, partners, equalise=design == "balanced")
        found = log_ratios(by_view(scores), without)[0][0]
        usable = np.isfinite(found)
        read.append(auc(found[usable], member[usable]))
    assert np.mean(read) == pytest.approx(0.5, abs=0.015)


@designs
def test_constant_scores_are_finite_and_say_nothing(design: str) -> None:
    given = evidence(design, 10, 8)
    given.logits[:] = 7.0
    for statistic in lira(given).values():
        values = statistic[np.isfinite(statistic)]
        assert len(values) > 60
        if design != "bernoulli":  # there sides of different sizes have different densities
            np.testing.assert_array_equal(values, 0.0)


@designs
@pytest.mark.parametrize("num_models", [6, 32])
@pytest.mark.parametrize("size", [1e2, 1e30])
def test_a_perfect_leak_is_finite_and_reads_as_one(
    design: str, num_models: int, size: float
) -> None:
    given = evidence(design, 100, num_models)
    given.logits[np.arange(100), :, :, given.labels] += np.float32(size) * given.member[:, :, None]
    found = lira(given)["all/hinge/trained_label"]
    usable = np.isfinite(found)
    assert usable.mean() > 0.9
    assert tpr_at_fpr(found[usable], given.member[usable], 0.001) == 1.0


@designs
def test_a_target_does_not_stand_in_its_own_references(design: str) -> None:
    given = evidence(design, 4, 8)
    scores = given.scores("hinge").copy()
    without = references_of(given)
    before = log_ratios(by_view(scores), without)[0][0]
    scores[:, 2] += 100.0
    after = log_ratios(by_view(scores), without)[0][0]
    assert (np.abs(after[:, 2]) > np.abs(before[:, 2])).all()  # it would be at home in its side


def test_a_pair_does_not_stand_in_the_references_of_either() -> None:
    given = evidence("paired", 5, 8)
    swapped = given.member.copy()
    swapped[:, [4, 5]] = swapped[:, [5, 4]]
    for name, statistic in lira(given).items():
        other = lira(given.with_member(swapped))[name]
        np.testing.assert_allclose(statistic[:, 4:6], other[:, 4:6], **CLOSE)


# --- the attack ----------------------------------------------------------------------------------


def test_views_scores_and_labels_restrict_the_set() -> None:
    given = evidence("paired", 6, 8)
    whole = lira(given)
    assert set(whole) == {
        f"{views}/{score}/{label}"
        for views in ("all", "view0")
        for score in ("hinge", "logit")
        for label in ("trained_label", "true_label")
    }
    (only,) = lira(given, views=["view0"], scores=["logit"], labels=["true_label"]).items()
    assert only[0] == "view0/logit/true_label"
    np.testing.assert_array_equal(only[1], whole["view0/logit/true_label"])


def test_view_0_is_the_unmodified_image_alone() -> None:
    given = evidence("paired", 6, 8, num_views=5)
    cut = dataclasses.replace(given, logits=given.logits[:, :, :1])
    for score in ("hinge", "logit"):
        name = f"{score}/trained_label"
        np.testing.assert_array_equal(lira(given)[f"view0/{name}"], lira(cut)[f"all/{name}"])


def test_clean_canaries_have_one_label() -> None:
    given = evidence("paired", 6, 8)
    clean = dataclasses.replace(given, true_labels=given.labels)
    assert {name.split("/")[2] for name in lira(clean)} == {"trained_label"}
    assert set(lira(clean, labels=["true_label"], views=["all"], scores=["hinge"])) == {
        "all/hinge/trained_label"
    }


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("views", ["first"], r"attack\.views=\['first'\]: must be one or more of all, view0"),
        ("scores", [], r"attack\.scores=\[\]: must be one or more of hinge, logit"),
        (
            "labels",
            ["true_label", "true_label"],
            r"attack\.labels=.*: must be one or more of trained_label, true_label",
        ),
        ("shrinkage", -1.0, r"attack\.shrinkage=-1\.0: must be 0 or more"),
        ("shrinkage", float("inf"), r"attack\.shrinkage=inf: must be 0 or more, and finite"),
    ],
)
def test_wrong_options_are_named(option: str, value: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        lira(evidence("paired", 6, 8), **{option: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("attack", [lira, lira_parent])
def test_scores_that_are_not_finite_are_counted(attack: Callable[[Evidence], object]) -> None:
    given = evidence("paired", 5, 8)
    given.logits[0, 0, 0, given.labels[0]] = np.nan  # it must not spread to the whole model first
    with pytest.raises(ValueError, match=r"^1 scores are not finite"):
        attack(given)


@designs
def test_other_bits_on_the_same_logits_are_computed_as_new_evidence_is(design: str) -> None:
    given = evidence(design, 6, 8)
    lira(given)
    other = drawn(design, 6, 8, seed=1)
    fresh = dataclasses.replace(given, member=other)
    for name, statistic in lira(given.with_member(other)).items():
        np.testing.assert_array_equal(statistic, lira(fresh)[name])


@pytest.mark.parametrize("num_views", [1, 3, 43])
def test_whole_pairs_give_the_sums_of_the_sides_looked_at_one_by_one(num_views: int) -> None:
    given = evidence("paired", 20, 10, num_views)
    values = by_view(given.scores("hinge"), 50 + 3 * given.scores("logit"))
    without = references_of(given)
    sooner = whole_pairs.sums(values.values, values.floor, without, 4.0)
    assert sooner is not None
    for found, expected in zip(sooner, module._sums(values, without, 4.0), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_whole_pairs_leave_what_they_cannot_do_to_the_sides() -> None:
    given, lone = (
        evidence("paired", 20, 10),
        evidence("paired", 20, 10, seeds=[0, 1, 2, 3, 4, 5, 8]),
    )
    values, ties = by_view(given.scores("hinge")), by_view(np.ones((20, 10, 2)))
    without = references_of(given)
    assert whole_pairs.sums(values.values, values.floor, without, 0.0) is None
    assert whole_pairs.sums(ties.values, ties.floor, without, 4.0) is None
    far = values.values.copy()
    far[:, :, 2:4] += [[1e6], [-1e6]]  # without that pair there is no square left that is known
    assert whole_pairs.sums(far, values.floor, without, 4.0) is None
    some = by_view(lone.scores("hinge"))
    assert whole_pairs.sums(some.values, some.floor, references_of(lone), 4.0) is None
