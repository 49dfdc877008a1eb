"""Groups of images as members: one statistic, one coin, one place in null, intervals and bound."""

from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from synpriv.audit import groups, nearness, null, one_run
from synpriv.audit.attacks.lira import lira
from synpriv.audit.attacks.threshold import threshold
from synpriv.audit.audit import audit
from synpriv.audit.evidence import Evidence
from synpriv.audit.metrics import auc
from synpriv.audit.references import left_out
from synpriv.data.draws import membership, paired_membership

ONE = partial(lira, views=["view0"], scores=["hinge"])
NAME = "view0/hinge/trained_label"


def drawn(
    num_groups: int,
    num_models: int,
    *,
    seed: int,
    leak: float = 0.0,
    shared: float = 0.5,
    largest: int = 9,
    design: str = "paired",
) -> Evidence:
    """Groups of 1 to `largest` images whose noise is shared to that share of its variance."""
    rng = np.random.default_rng(seed)
    of = np.repeat(np.arange(num_groups), rng.integers(1, largest + 1, size=num_groups))
    draw = {"paired": paired_membership, "balanced": membership}[design]
    member = draw(num_groups, num_models, seed=seed)[of]
    noise = np.sqrt(shared) * rng.normal(size=(num_groups, num_models))[of]
    noise += np.sqrt(1 - shared) * rng.normal(size=member.shape)
    logits = np.zeros((*member.shape, 1, 2), dtype=np.float32)
    logits[:, :, 0, 0] = 2 * rng.normal(size=(len(of), 1)) + noise + leak * member
    labels = np.zeros(len(of), dtype=np.int64)
    near = (10 + noise).astype(np.float32)
    return Evidence(logits, member, labels, labels, near, design, groups=of)


def test_a_group_s_statistic_is_the_centred_sum_over_the_root_of_its_size() -> None:
    rng = np.random.default_rng(0)
    evidence = drawn(20, 8, seed=0)
    assert evidence.groups is not None
    order = rng.permutation(len(evidence.groups))  # images of a group need not be neighbours
    mixed = Evidence(
        *(x[order] for x in (evidence.logits, evidence.member, evidence.labels)),
        evidence.true_labels[order],
        design="paired",
        groups=evidence.groups[order],
    )
    values = rng.normal(size=mixed.member.shape)
    found = groups.combine(values, mixed)
    assert mixed.groups is not None
    of = mixed.groups.tolist()
    for group in range(20):
        for model in range(8):
            own = [values[i, model] - values.mean() for i in range(len(of)) if of[i] == group]
            assert found[group, model] == pytest.approx(sum(own) / len(own) ** 0.5)
    np.testing.assert_allclose(groups.combine(values + 7, mixed), found, atol=1e-12)
    values[3, 2] = np.inf
    with np.errstate(invalid="ignore"):
        broken = groups.combine(values, mixed)
    assert np.argwhere(~np.isfinite(broken)).tolist() == [[mixed.groups[3], 2]]


def test_groups_of_one_image_read_as_images() -> None:
    given = drawn(60, 8, seed=1, leak=1.0, largest=1)
    plain = Evidence(given.logits, given.member, given.labels, given.labels, design="paired")
    grouped = Evidence(
        given.logits, given.member, given.labels, given.labels, design="paired", groups=given.groups
    )
    ours, theirs = (
        audit(lira, e, null_rounds=30, bootstrap_rounds=50)[0] for e in (grouped, plain)
    )
    assert ours["groups"] == {"images": 60, "smallest": 1, "largest": 1}
    for key in ("auc", "auc_low", "auc_p", "auc_null_band", "epsilon_bound", "n_out"):
        assert ours[key] == pytest.approx(theirs[key]), key


@pytest.mark.parametrize(("design", "shared"), [("paired", 0.5), ("paired", 1.0), ("balanced", 1)])
def test_without_a_leak_groups_of_correlated_images_read_one_half(
    design: str, shared: float
) -> None:
    def area(seed: int) -> float:
        evidence = drawn(60, 8, seed=seed, shared=shared, design=design)
        found = groups.per_group(ONE)(evidence)
        assert isinstance(found, dict)
        return auc(found[NAME], evidence.bits)

    areas = [area(seed) for seed in range(100)]
    assert np.mean(areas) == pytest.approx(0.5, abs=4 * np.std(areas) / 10)


def test_a_group_tells_more_than_one_of_its_images() -> None:
    evidence = drawn(200, 16, seed=0, leak=0.6, shared=0.3)
    found = groups.per_group(ONE)(evidence)
    images = ONE(evidence)[NAME]
    first = np.unique(evidence.groups, return_index=True)[1]
    assert isinstance(found, dict)
    # Simulated: .72 against .63, standard error .01.
    assert auc(found[NAME], evidence.bits) > auc(images[first], evidence.bits) + 0.04


def test_images_of_one_group_lose_the_same_model_of_the_other_side() -> None:
    evidence = drawn(30, 8, seed=2, design="balanced")
    other = left_out(evidence.member, groups=evidence.groups).other
    assert other is not None
    assert evidence.groups is not None
    for group in range(30):
        own = other[:, evidence.groups == group]
        np.testing.assert_array_equal(own, own[:, :1].repeat(own.shape[1], axis=1))
    assert (left_out(evidence.member).other != other).any()


def test_a_redraw_is_of_groups() -> None:
    evidence = drawn(50, 8, seed=3)
    bits = null.redraw(evidence, np.random.default_rng(0))
    assert bits.shape == (50, 8)
    np.testing.assert_array_equal(bits[:, ::2], ~bits[:, 1::2])
    again = evidence.with_member(bits)
    np.testing.assert_array_equal(again.bits, bits)
    np.testing.assert_array_equal(again.member, bits[evidence.groups])


def test_a_group_that_is_in_and_out_is_refused() -> None:
    evidence = drawn(5, 8, seed=4, largest=3)
    member = evidence.member.copy()
    member[int(np.argmax(np.bincount(evidence.groups) > 1))] ^= True  # type: ignore[arg-type]
    own = np.zeros(len(member), dtype=np.int64)
    with pytest.raises(ValueError, match="member as a whole"):
        Evidence(evidence.logits, member, own, own, groups=own)


def test_the_bound_is_of_groups_and_holds_where_images_are_alike() -> None:
    """Bits of images are no independent coins: taken for such, copies of one refute epsilon 0."""

    def bounds(seed: int) -> tuple[float, float]:
        grouped = drawn(12, 24, seed=seed, shared=1.0, largest=60)
        plain = Evidence(
            grouped.logits, grouped.member, grouped.labels, grouped.labels, design="paired"
        )
        found = [
            one_run.one_run(attack, e, delta=0.0)
            for attack, e in ((groups.per_group(threshold), grouped), (threshold, plain))
        ]
        assert found[0] is not None
        assert found[1] is not None
        assert found[0].bits == 12 * 6
        return found[0].epsilon, found[1].epsilon

    read = np.array([bounds(seed) for seed in range(60)])
    false = (read > 0).mean(axis=0)
    assert false[0] <= 0.05 + 3 * (0.05 * 0.95 / 60) ** 0.5
    assert false[1] > 0.2


def naive_nearness(near: NDArray[np.float32], of: NDArray[np.int64], bits: np.ndarray) -> int:
    num = 0
    for group, row in enumerate(bits):
        distance = [min(near[i, s] for i in np.flatnonzero(of == group)) for s in range(len(row))]
        out = [d for d, inside in zip(distance, row, strict=True) if not inside]
        num += sum(d < min(out) for d, inside in zip(distance, row, strict=True) if inside)
    return num


def test_the_distance_of_a_group_is_that_of_its_nearest_image() -> None:
    evidence = drawn(20, 8, seed=5)
    assert evidence.nearest is not None
    assert evidence.groups is not None
    found = nearness.nearness(evidence, rounds=20)
    assert found["nearer"] == naive_nearness(evidence.nearest, evidence.groups, evidence.bits)
    assert found["pairs"] == evidence.bits.sum()


def test_the_report_speaks_of_groups() -> None:
    report, statistic = audit(ONE, drawn(40, 8, seed=6), null_rounds=20, bootstrap_rounds=20)
    assert statistic.shape == (40, 8)
    assert report["num_canaries"] == 40
    assert report["n_in"] == report["n_out"] == 160
    assert "40 groups x" in " ".join(report["warnings"])
    assert "one group" in report["definitions"]["epsilon_bound_assumes"]
    wrong = drawn(10, 8, seed=0)
    with pytest.raises(ValueError, match=r"must be \[C,S\]"):
        audit(lambda e: np.zeros((3, 3)), wrong)
