"""Synthetic sets that say of themselves that something is wrong, and ordinary ones that do not."""

import numpy as np
import pytest
from numpy.typing import NDArray

from synpriv.audit import released
from synpriv.audit.audit import audit
from synpriv.audit.evidence import Evidence
from synpriv.data.datasets import digits
from synpriv.data.draws import membership
from synpriv.report import content

TEST = digits().test.images
LABELS = np.arange(200) % 10
Images = NDArray[np.uint8]


def images(seed: int, num: int = 200) -> Images:
    """Noise between black and white."""
    return np.random.default_rng(seed).integers(1, 255, (num, 1, 8, 8)).astype(np.uint8)


def facts(made: Images, labels: NDArray = LABELS, public: Images | None = None) -> released.Facts:
    return released.facts_of(made, labels, test=TEST, public=public)


def odd(made: Images, labels: NDArray = LABELS) -> set[str]:
    return set(released.oddities(facts(made, labels), largest_class=0.1))


def of_cell(sets: list[Images], public: Images | None = None, *channels: str) -> list[str]:
    every = [facts(made, public=public) for made in sets]
    return released.warnings_of_cell(every, largest_class=0.1, provenance=channels)


def test_noise_digits_and_black_and_white_data_are_not_odd() -> None:
    assert odd(images(0)) == set()
    assert odd(digits().private.images[:200], digits().private.labels[:200]) == set()
    ink = np.where(TEST > 100, 255, 0).astype(np.uint8)  # real images may have two values only
    again = released.facts_of(ink[:200], LABELS, test=ink, public=None)
    assert set(released.oddities(again, largest_class=0.1)) <= {"copies"}


def test_a_saturated_distillation_is_told() -> None:
    made = np.where(images(0) > 127, 255, 0).astype(np.uint8)
    assert odd(made) == {"saturated"}
    made[:, :, :4] = images(1)[:, :, :4]  # half of the pixels
    assert odd(made) == set()


def test_images_of_one_colour_and_copies_of_one_image_are_told() -> None:
    flat = np.broadcast_to(images(0)[:, :, :1, :1], (200, 1, 8, 8))
    assert "flat" in odd(np.ascontiguousarray(flat))
    assert odd(np.repeat(images(0, 1), 200, axis=0)) == {"copies"}
    assert "only 1 of its 200 images" in of_cell([np.repeat(images(0, 1), 200, axis=0)] * 2)[0]


@pytest.mark.parametrize("soft", [False, True])
def test_a_pool_that_collapses_to_a_class_is_told(soft: bool) -> None:
    labels = np.where(np.arange(200) < 180, 3, LABELS)
    given = np.eye(10, dtype=np.float32)[labels] if soft else labels
    assert odd(images(0), given) == {"collapsed"}
    assert odd(images(0), np.eye(10, dtype=np.float32)[LABELS] if soft else LABELS) == set()
    unequal = facts(images(0), labels)  # as unequal as the private images are: not collapsed
    assert not released.oddities(unequal, largest_class=0.9)


def test_the_same_set_for_all_seeds_means_that_the_audit_means_nothing() -> None:
    everyone_s = images(0)
    order = np.random.default_rng(1).permutation(200)
    again = released.facts_of(everyone_s[order], LABELS[order], test=TEST, public=None)
    assert again["sha256"] == facts(everyone_s)["sha256"]  # in whichever order it comes
    assert again["sha256"] != facts(everyone_s, LABELS[::-1].copy())["sha256"]
    (line,) = of_cell([everyone_s] * 6)
    assert "all 6 shadow models have the same synthetic set" in line
    assert "MEANS NOTHING" in line
    (line,) = of_cell([everyone_s, everyone_s, images(1), images(2)])
    assert line.startswith("2 of 4 shadow models have the same")
    assert of_cell([everyone_s]) == of_cell([images(seed) for seed in range(6)]) == []


def test_a_part_that_is_the_same_for_all_seeds_is_told_unless_it_is_public() -> None:
    shared = images(0, 160)
    sets = [np.concatenate([shared, images(seed, 40)]) for seed in range(1, 7)]
    (line,) = of_cell(sets)
    assert "are the same in all 6 shadow models" in line
    assert of_cell(sets, shared) == []  # what a method took from the public pool
    assert of_cell(sets, None, "real pixels") == []  # a coreset: members of all private sets
    few = [np.concatenate([images(0, 20), images(seed, 180)]) for seed in range(1, 7)]
    assert of_cell(few) == []


def test_the_share_that_recurs_is_about_the_true_one() -> None:
    sets = [np.concatenate([images(0, 800), images(s, 200)]) for s in range(1, 3)]
    labels = np.arange(1000) % 10
    every = [released.facts_of(made, labels, test=TEST, public=None) for made in sets]
    (line,) = released.warnings_of_cell(every, largest_class=0.1, provenance=())
    share = float(line.split("about ")[1].split("%")[0]) / 100
    assert share == pytest.approx(0.8, abs=0.2)


def evidence(nearest: NDArray[np.float32]) -> Evidence:
    member = membership(20, 6, seed=0)
    labels = np.zeros(20, dtype=np.int64)
    noise = np.random.default_rng(0).normal(size=(*member.shape, 1, 2)).astype(np.float32)
    return Evidence(noise, member, labels, labels, nearest)


def test_non_members_in_the_released_images_are_counted_and_members_are_not() -> None:
    away = np.full((20, 6), 0.5, dtype=np.float32)
    member = evidence(away).member

    def told(distance: NDArray[np.float32]) -> list[str]:
        report, _ = audit(
            lambda e: e.scores("hinge")[:, :, 0],
            evidence(distance),
            null_rounds=5,
            bootstrap_rounds=100,
        )
        return [line for line in report["warnings"] if "bit for bit" in line]

    assert told(away) == told(np.where(member, 0, away)) == []
    copied = away.copy()
    copied[tuple(np.argwhere(~member)[:12].T)] = 0
    (line,) = told(copied)
    assert line.startswith("12 of 60 non-members (canary x model) lie in the released images")


def test_a_report_s_warnings_have_those_of_its_synthetic_sets() -> None:
    same = facts(images(0))
    data = {"class_sizes": [10] * 10, "num_private": 100, "warnings": []}
    common = {"builds_on": {}, "data": data, "code_sha256": "x", "provenance": ["pixels"]}
    report = {"partial": False, "test_accuracy": {"mean": 0.9}}
    runs = [common | {"seed": seed, "synthetic": same} for seed in range(6)]
    (line,) = content.warnings_of(6, runs, report)
    assert "MEANS NOTHING" in line
    told = {"set": {"says_itself": False}}
    (line,) = content.warnings_of(6, [common | told | {"seed": 0}, common | {"seed": 1}], report)
    assert line.startswith("1 of 2 sets do not say which private set they were made from")
    for nothing in ({}, {"synthetic": None}):  # of an earlier version, of a classifier alone
        assert content.warnings_of(6, [common | nothing | {"seed": 0}] * 6, report) == []


@pytest.mark.parametrize(
    ("ranks", "told"),
    [([0.5, 0.4, 0.6], False), ([0.3, 0.3], False), ([0.01, 0.02, 0.0], True), ([None], False)],
)
def test_near_copies_of_all_private_data_are_told_by_their_non_members(
    ranks: list[float | None], told: bool
) -> None:
    rng = np.random.default_rng(0)
    runs = [
        facts(rng.integers(0, 256, TEST.shape, dtype=np.uint8)[: len(LABELS)])
        | {"non_member_rank": rank}
        for rank in ranks
    ]
    found = released.warnings_of_cell(runs, largest_class=0.1, provenance=["?"])
    assert any("it saw what it must not have seen" in line for line in found) == told


def test_private_images_that_are_released_as_they_are_are_told() -> None:
    """By counting; of coresets, which say so, no word is needed."""
    private, made = images(5), images(6)
    made[:30] = private[50:80]
    few = released.facts_of(made, LABELS, test=TEST, public=None, private=private)
    none = released.facts_of(images(7), LABELS, test=TEST, public=None, private=private)
    assert few["num_originals"] == 30
    assert none["num_originals"] == 0

    def said(*channels: str) -> str:
        found = released.warnings_of_cell([few, none], largest_class=0.1, provenance=channels)
        return " ".join(found)

    assert "7.5% of the released images are private images bit for bit (in 1 of 2" in said()
    assert "bit for bit" not in said(released.COPIED)
