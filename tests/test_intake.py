"""What every data set meets before an audit: numbered labels, no harmful copies, a record."""

import json
from dataclasses import replace

import numpy as np
import pytest
from conftest import make_pool as pool
from conftest import positions
from hypothesis import given
from hypothesis import strategies as st

from synpriv.data.datasets import Source, digits
from synpriv.data.draws import draw, wrong_labels
from synpriv.data.intake import Pools, content_sha256, in_words, is_own_mean, record, take_in
from synpriv.data.pool import Pool

OPTIONS = {"num_canaries": 12, "member_draw": "balanced", "num_models": 6, "audit_seed": 0}


def relabelled(source: Source, names: dict[int, int]) -> Source:
    """The same images under other label numbers."""

    def renamed(part: Pool) -> Pool:
        return Pool(part.images, np.array([names[label] for label in part.labels.tolist()]))

    return Source(renamed(source.private), renamed(source.test))


@pytest.fixture
def source() -> Source:
    return Source(pool(40), pool(12, start=100))


# --- labels --------------------------------------------------------------------------------------


def test_gaps_between_labels_make_no_classes_that_nobody_has(source: Source) -> None:
    # [0,1,2,1000] gave 1,001 classes; wrong labels fell on classes nobody has (TPR@1% 28 -> 74).
    gaps = take_in(relabelled(source, {0: 0, 1: 1, 2: 2, 3: 1000}))
    assert gaps.num_classes == 4
    assert gaps.class_names == ("0", "1", "2", "1000")
    plain = take_in(source)
    np.testing.assert_array_equal(gaps.private.labels, plain.private.labels)
    np.testing.assert_array_equal(gaps.test.labels, plain.test.labels)
    trained = draw(gaps, kind="mislabelled", **OPTIONS).labels  # type: ignore[arg-type]
    assert set(trained.tolist()) <= {0, 1, 2, 3}


@given(st.permutations(range(4)), st.sets(st.integers(0, 10**9), min_size=4, max_size=4))
def test_permuted_and_renamed_labels_leave_the_audit_unchanged(
    order: list[int], numbers: set[int]
) -> None:
    source = Source(pool(40), pool(12, start=100))
    names = sorted(numbers)
    plain = take_in(source)
    other = take_in(relabelled(source, {i: names[order[i]] for i in range(4)}))
    assert other.num_classes == 4
    place = np.array(order)  # class i is now class place[i]
    np.testing.assert_array_equal(other.private.labels, place[plain.private.labels])
    np.testing.assert_array_equal(other.test.labels, place[plain.test.labels])
    ours, theirs = (
        draw(pools, kind="mislabelled", **OPTIONS)  # type: ignore[arg-type]
        for pools in (plain, other)
    )
    np.testing.assert_array_equal(ours.canaries, theirs.canaries)
    np.testing.assert_array_equal(ours.member, theirs.member)
    for drawn, pools in ((ours, plain), (theirs, other)):
        assert (drawn.labels != pools.private.labels).sum() == 12
        assert set(drawn.labels.tolist()) <= set(range(4))


def test_wrong_labels_are_drawn_uniformly_among_classes_with_private_images() -> None:
    labels = np.repeat(np.array([3, 7, 900]), 4000)
    images = np.random.default_rng(0).integers(0, 256, (12_000, 1, 2, 2), dtype=np.uint8)
    pools = take_in(Source(Pool(images[:-3], labels[:-3]), Pool(images[-3:], labels[-3:])))
    wrong = wrong_labels(pools.private.labels, pools.num_classes, seed=0)
    counts = np.bincount(wrong, minlength=3)
    assert len(counts) == 3
    assert counts / len(wrong) == pytest.approx(np.full(3, 1 / 3), abs=0.02)


@pytest.mark.parametrize("label", [4, 1000])
def test_test_images_of_a_class_without_private_images_are_refused(
    source: Source, label: int
) -> None:
    test = Pool(source.test.images, np.where(source.test.labels == 0, label, source.test.labels))
    with pytest.raises(ValueError, match=f"label {label} of the test .* must be one of 0, 1, 2, 3"):
        take_in(Source(source.private, test))


def test_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="the private set has one class, 0: must be two or more"):
        take_in(Source(pool(8, num_classes=1), pool(4, num_classes=1, start=50)))


def test_a_subset_keeps_every_class(source: Source) -> None:
    assert take_in(source, num_train=4).num_classes == 4
    with pytest.raises(ValueError, match=r"dataset\.num_train=3: must be at least 4, one image"):
        take_in(source, num_train=3)
    with pytest.raises(ValueError, match=r"dataset\.num_test=13: must be 1\.\.12"):
        take_in(source, num_test=13)


# --- validation ----------------------------------------------------------------------------------


def test_validation_images_are_private_ones_that_nothing_else_sees(source: Source) -> None:
    plain, tuned = take_in(source), take_in(source, num_validation=10)
    held_out, rest = positions(tuned.test), positions(tuned.private)
    assert sorted(held_out + rest) == positions(plain.private)
    assert len(held_out) == 10
    assert sorted(np.bincount(tuned.test.labels)) == [2, 2, 3, 3]
    assert held_out != positions(take_in(source, num_train=10).private)  # another draw
    drawn = draw(tuned, kind="clean", **(OPTIONS | {"num_canaries": 30}))  # type: ignore[arg-type]
    assert sorted(drawn.canaries.tolist()) == list(range(30))  # all that remain, none held out
    assert (plain.evaluated_on, tuned.evaluated_on) == ("test", "validation")
    assert "12 test" in in_words(record(plain))
    assert "10 validation" in in_words(record(tuned))


def test_with_a_validation_split_the_test_set_is_not_looked_at(source: Source) -> None:
    other = Source(source.private, Pool(pool(7, start=200).images, np.full(7, 99)))
    first, second = take_in(source, num_validation=8), take_in(other, num_validation=8)
    assert content_sha256(first) == content_sha256(second) != content_sha256(take_in(source))


def test_no_validation_image_is_a_test_image_of_the_cell_that_was_chosen_by_it(
    source: Source,
) -> None:
    """Not even as a copy: where it is private again, the test image that equals it is dropped."""
    held_out = take_in(source, num_validation=10).test
    everything = np.concatenate([source.test.images, held_out.images])
    labels = np.concatenate([source.test.labels, held_out.labels])
    copied = replace(source, test=Pool(everything, labels))
    again, final = take_in(copied, num_validation=10), take_in(copied)
    assert again.test.hashes() == held_out.hashes()
    assert not set(again.test.hashes()) & set(final.test.hashes())
    assert not set(again.test.hashes()) & set(again.private.hashes())
    assert len(final.test) == len(source.test)  # the copies are gone


@pytest.mark.parametrize("num", [0, 37])
def test_a_validation_split_leaves_every_class_an_image(source: Source, num: int) -> None:
    with pytest.raises(ValueError, match=rf"dataset\.num_validation={num}: must be 1\.\.36 for"):
        take_in(source, num_validation=num)
    assert take_in(source, num_validation=36).num_classes == 4


# --- copies --------------------------------------------------------------------------------------


def test_test_images_that_are_private_are_dropped_with_a_count() -> None:
    pools = take_in(Source(pool(40), pool(12, start=35)))
    assert positions(pools.test) == list(range(40, 47))
    assert pools.warnings[0] == "5 test images are private images too and were dropped"
    with pytest.raises(ValueError, match="all 12 test images are private images: must be others"):
        take_in(Source(pool(40), pool(12, start=20)))


def test_only_private_images_that_are_used_count_as_copies() -> None:
    source = Source(pool(40), pool(12, start=35))
    kept = take_in(source, num_train=8)
    taken = set(positions(kept.private)) & set(range(35, 40))
    assert len(kept.test) == 12 - len(taken)


def test_duplicates_inside_the_private_set_are_counted_and_are_no_canaries() -> None:
    # A copy that stays when a canary is taken out hides the leak: AUC .59 -> .51.
    images = np.concatenate([pool(40).images, pool(40).images[:10]])
    labels = np.concatenate([pool(40).labels, (pool(40).labels[:10] + 1) % 4])
    pools = take_in(Source(Pool(images, labels), pool(12, start=100)))
    assert pools.twins.sum() == 20
    assert pools.warnings[0].startswith("20 private images occur more than once")
    drawn = draw(pools, kind="clean", **(OPTIONS | {"num_canaries": 30}))  # type: ignore[arg-type]
    assert set(drawn.canaries.tolist()) == set(range(10, 40))
    with pytest.raises(ValueError, match=r"num_canaries=31: must be 1\.\.30 \(private images with"):
        draw(pools, kind="clean", **(OPTIONS | {"num_canaries": 31}))  # type: ignore[arg-type]


# --- the public pool -----------------------------------------------------------------------------


def test_a_disjoint_public_pool_is_taken_before_the_own_one(source: Source) -> None:
    public, own = pool(10, start=150), pool(8, start=200)
    given = take_in(Source(source.private, source.test, own), public=Source(public, public)).public
    assert given is not None
    assert given.digest() == public.digest()
    kept = take_in(Source(source.private, source.test, own)).public
    assert kept is not None
    assert kept.digest() == own.digest()
    assert take_in(source).public is None


@pytest.mark.parametrize(("start", "shared", "name"), [(37, 3, "private"), (93, 7, "test")])
def test_an_overlapping_public_pool_is_refused(
    source: Source, start: int, shared: int, name: str
) -> None:
    overlapping = pool(14, start=start, num_classes=2)  # whatever the labels say
    with pytest.raises(ValueError, match=f"public pool holds {shared} images of the {name} set"):
        take_in(source, public=Source(overlapping, overlapping))
    with pytest.raises(ValueError, match=f"public pool holds {shared} images of the {name} set"):
        take_in(Source(source.private, source.test, overlapping))


def test_a_public_pool_of_another_shape_is_refused(source: Source) -> None:
    with pytest.raises(ValueError, match=r"\(1, 3, 3\), the private set \(1, 2, 2\)"):
        take_in(source, public=Source(pool(4, start=150, size=3), pool(4, start=150, size=3)))


def test_public_labels_count_as_the_private_ones_of_the_same_name_or_not_at_all() -> None:
    # Private 1..4 were numbered 0..3, public 1..3 passed for the classes beside theirs.
    images = pool(40).images
    private = Pool(images, np.arange(40) % 4 + 1)
    source = Source(private, Pool(pool(12, start=100).images, np.arange(12) % 4 + 1))

    def public(*values: int) -> list[int]:
        labels = np.resize(np.array(values), 20)
        own = Pool(pool(20, start=150).images, labels)
        found = take_in(source, public=Source(own, own)).public
        assert found is not None
        return sorted(set(found.labels.tolist()))

    assert public(1, 2, 3) == [0, 1, 2]
    assert public(4, 2) == [1, 3]
    assert public(0, 1, 2) == [4, 5, 6]  # class 0 is nobody's: none is taken for a private one


def test_values_of_fewer_bits_than_stored_are_warned_of() -> None:
    images = np.random.default_rng(0).integers(0, 17, (60, 1, 6, 6), dtype=np.uint8)
    whole = Pool(images, np.arange(60) % 3)
    (warning,) = take_in(Source(whole[np.arange(50)], whole[np.arange(50, 60)])).warnings
    assert warning.startswith("values go up to 16 of 255")


# --- pixels --------------------------------------------------------------------------------------


def noisy(num: int, flat: int) -> Source:
    """Images of noise, the first `flat` of them of (nearly) one colour."""
    images = np.random.default_rng(0).integers(0, 256, (num + 20, 1, 4, 4), dtype=np.uint8)
    images[:flat] = np.arange(flat)[:, None, None, None] + images[:flat] % 2
    labels = np.arange(num + 20) % 4
    return Source(Pool(images[:num], labels[:num]), Pool(images[num:], labels[num:]))


@pytest.mark.parametrize(("flat", "warned"), [(0, False), (3, False), (4, True), (90, True)])
def test_a_constant_or_nearly_constant_image_set_is_warned_of(flat: int, warned: bool) -> None:
    warnings = take_in(noisy(400, flat)).warnings
    assert bool(warnings) == warned
    if warned:
        assert warnings[0].startswith(f"{flat} of 400 private images are of one colour")


def test_own_constants_are_those_of_the_whole_data_set() -> None:
    source = digits()
    mean = float(source.private.images.mean() / 255)
    assert take_in(source, num_train=100, mean=[mean + 5e-4]).own_constants
    assert not take_in(source, mean=[mean + 5e-3]).own_constants
    assert not take_in(source).own_constants


def test_the_own_mean_is_exact_per_channel() -> None:
    images = np.random.default_rng(0).integers(0, 256, (70, 3, 5, 5), dtype=np.uint8)
    images[:, 1] //= 2
    mean = [sum(images[:, c].ravel().tolist()) / (70 * 25) / 255 for c in range(3)]
    assert is_own_mean(images, mean)
    for channel in range(3):
        near, off = list(mean), list(mean)
        near[channel] += 0.999e-3
        off[channel] += 1.001e-3
        assert is_own_mean(images, near)
        assert not is_own_mean(images, off)


# --- record --------------------------------------------------------------------------------------


def test_the_record_says_what_was_seen() -> None:
    seen = record(take_in(digits()))
    assert json.loads(json.dumps(seen)) == seen
    sizes = np.bincount(digits().private.labels)
    assert seen["class_sizes"] == sizes.tolist()
    assert seen["num_classes"] == 10
    assert (seen["num_private"], seen["num_test"], seen["num_public"]) == (1000, 400, 397)
    assert in_words(seen) == (
        "1,000 private images of 10 classes (0, 1, 2, 3, 4, 5, 6, 7, 8, 9; "
        f"{sizes.min()} to {sizes.max()} each), 1x8x8, values 0..255; 400 test, 397 public; "
        "no duplicates"
    )


def test_the_hash_of_the_data_sees_images_labels_and_names(source: Source) -> None:
    def sha256(**change: object) -> str:
        parts = {"private": source.private, "test": source.test, "class_names": tuple("abcd")}
        return content_sha256(take_in(Source(**(parts | change))))  # type: ignore[arg-type]

    def relabel(part: Pool) -> Pool:
        return Pool(part.images, part.labels[::-1].copy())

    changes = (
        {},
        {"private": pool(41)},
        {"private": relabel(source.private)},
        {"test": pool(12, start=101)},
        {"test": relabel(source.test)},
        {"class_names": tuple("abce")},
    )
    assert len({sha256(**change) for change in changes}) == len(changes)
    assert sha256() == sha256()


def test_pools_know_their_shape(source: Source) -> None:
    pools: Pools = take_in(source)
    assert pools.image_shape == (1, 2, 2)
