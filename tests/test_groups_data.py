"""Groups of images in the data: numbered, never cut, members as a whole; what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Compose, make_pool
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from synpriv import config
from synpriv.data import groups
from synpriv.data.chosen import source_of
from synpriv.data.datasets import Source, hold_out, npz
from synpriv.data.draws import Draw, draw, wrong_labels
from synpriv.data.intake import Pools, content_sha256, in_words, record, take_in
from synpriv.data.pool import Pool, first_of_classes, share_in_class

Ints = NDArray[np.int64]


def grouped(num: int, of: Ints, *, num_classes: int = 4) -> Pool:
    return replace(make_pool(num, num_classes=num_classes), groups=of)


def by_size(num: int, size: int, seed: int = 0) -> Ints:
    """Groups of `size` images in a random order."""
    return np.random.default_rng(seed).permutation(num) // size


def source(num: int = 60, size: int = 3) -> Source:
    names = tuple(f"p{i}" for i in range(num))
    return Source(grouped(num, by_size(num, size)), make_pool(20, start=200), group_names=names)


def drawn(pools: Pools, num: int = 6, kind: str = "mislabelled", num_models: int = 8) -> Draw:
    return draw(
        pools,
        kind=kind,
        num_canaries=num,
        member_draw="paired",
        num_models=num_models,
        audit_seed=0,
    )


# --- subsets -------------------------------------------------------------------------------------


@given(st.integers(0, 10**6), st.integers(2, 9), st.floats(0.1, 0.8))
def test_no_split_cuts_a_group(seed: int, size: int, rate: float) -> None:
    pool = grouped(200, by_size(200, size, seed), num_classes=3)
    held = hold_out(Source(pool, pool), rate)
    assert held.private.groups is not None
    assert held.test.groups is not None
    assert not set(held.private.groups.tolist()) & set(held.test.groups.tolist())
    assert len(held.private) + len(held.test) == 200
    assert abs(len(held.test) - 200 * rate) <= 3 * size  # half a group per class at the most
    chosen = first_of_classes(pool, 90, seed=seed)
    assert 90 - size < chosen.sum() <= 90
    assert pool.groups is not None
    assert not set(pool.groups[chosen].tolist()) & set(pool.groups[~chosen].tolist())


def test_groups_of_one_are_split_as_images_are() -> None:
    """As far as their order is: the share in its class of each image is one of rank + 1/2."""
    pool = make_pool(40)
    alone = replace(pool, groups=np.arange(40))
    for label in range(4):
        ours, theirs = (
            np.sort(share_in_class(p, seed=0)[pool.labels == label]) for p in (alone, pool)
        )
        np.testing.assert_allclose(ours, theirs)
        np.testing.assert_allclose(theirs, (np.arange(10) + 0.5) / 10)
    assert first_of_classes(alone, 8, seed=0).sum() == 8
    assert np.bincount(pool.labels[first_of_classes(alone, 8, seed=0)]).tolist() == [2] * 4


def test_validation_images_and_subsets_are_of_other_groups() -> None:
    pools = take_in(source(), num_train=45, num_validation=12)
    assert pools.private.groups is not None
    assert pools.private.rows is not None
    whole = source().private.groups
    assert whole is not None
    private = set(whole[pools.private.rows].tolist())
    assert len(pools.private) == 33
    for group in private:  # all of its images
        assert (whole[pools.private.rows] == group).sum() == (whole == group).sum()
    assert pools.private.groups.max() + 1 == len(private)
    assert pools.group_names is not None
    for row, number in zip(pools.private.rows, pools.private.groups, strict=True):
        assert pools.group_names[number] == f"p{whole[row]}"


def test_test_images_of_private_groups_are_dropped_and_said() -> None:
    given = source()
    of_test = np.array([0] * 4 + [50] * 16)  # p0 is private, p50 is not
    pools = take_in(replace(given, test=replace(given.test, groups=of_test)))
    assert len(pools.test) == 16
    assert any("4 test images are of groups with private images" in w for w in pools.warnings)
    with pytest.raises(ValueError, match="all 20 test images are of private groups"):
        take_in(replace(given, test=replace(given.test, groups=np.zeros(20, dtype=np.int64))))
    assert any("whether theirs are private" in w for w in take_in(given).warnings)


# --- canaries ------------------------------------------------------------------------------------


def test_canaries_are_whole_groups_with_a_coin_each() -> None:
    pools = take_in(source())
    found, more = drawn(pools), drawn(pools, num_models=16)
    assert found.groups is not None
    assert pools.private.groups is not None
    np.testing.assert_array_equal(more.member[:, :8], found.member)  # whatever their number
    np.testing.assert_array_equal(np.unique(found.groups), np.arange(6))
    of = pools.private.groups
    for group in range(6):
        own = found.canaries[found.groups == group]
        assert sorted(own.tolist()) == np.flatnonzero(of == of[own[0]]).tolist()
        rows = found.member[found.groups == group]
        np.testing.assert_array_equal(rows, rows[:1].repeat(len(rows), axis=0))
    coins = found.member[np.unique(found.groups, return_index=True)[1]]
    assert len(np.unique(coins, axis=0)) > 3
    wrong = wrong_labels(pools.private.labels, 4, seed=0)  # each image its own
    np.testing.assert_array_equal(found.labels[found.canaries], wrong[found.canaries])
    for seed in range(8):
        included = found.included(seed)
        assert all(len(set(included[of == group])) == 1 for group in range(20))
    said = source_of(pools, found.canaries, found.groups)
    assert said["of"] == "the data"
    names = [said["groups"][group] for group in said["group"]]
    assert pools.group_names is not None
    assert names == [pools.group_names[of[i]] for i in found.canaries]


def test_without_groups_nothing_is_drawn_otherwise() -> None:
    plain = take_in(Source(make_pool(60), make_pool(20, start=200)))
    alone = take_in(
        Source(grouped(60, np.arange(60)), make_pool(20, start=200), group_names=("p",) * 60)
    )
    ours, theirs = drawn(alone), drawn(plain)
    assert theirs.groups is None
    for name in ("canaries", "member", "labels"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    assert any("every group has one image" in w for w in alone.warnings)
    assert record(plain)["groups"] is None
    assert content_sha256(plain) != content_sha256(alone)


def test_a_copy_within_a_group_leaves_with_it_and_one_elsewhere_does_not() -> None:
    given = source()
    of = given.private.groups
    assert of is not None
    images = given.private.images.copy()
    first, second = np.flatnonzero(of == 0)[:2]
    images[second] = images[first]
    private = replace(given.private, images=images)
    assert not take_in(replace(given, private=private)).twins.any()
    elsewhere = int(np.flatnonzero(of == 1)[0])
    images[elsewhere] = images[first]
    pools = take_in(replace(given, private=private))
    assert np.flatnonzero(pools.twins).tolist() == sorted([first, second, elsewhere])
    assert not set(of[drawn(pools, num=14).canaries].tolist()) & {0, 1}
    with pytest.raises(ValueError, match=r"must be 1\.\.18 \(private groups without a copy\)"):
        drawn(pools, num=19)


def test_a_group_that_is_everything_is_refused() -> None:
    everything = Source(grouped(40, np.zeros(40, dtype=np.int64)), make_pool(8, start=200))
    with pytest.raises(ValueError, match="all 40 private images are of one group"):
        take_in(replace(everything, group_names=("a",)))


def test_a_class_that_only_canaries_have_is_refused_and_half_of_one_is_said() -> None:
    pool = make_pool(60)
    of = np.where(pool.labels == 2, 0, 1 + np.arange(60) % 19)
    names = tuple(f"p{i}" for i in range(20))
    pools = take_in(Source(replace(pool, groups=of), make_pool(20, start=200), group_names=names))
    assert any("group p0 has 100% of class 2" in w for w in pools.warnings)
    with pytest.raises(ValueError, match="canary groups have all images of class"):
        drawn(pools, num=20, kind="clean")


@pytest.mark.parametrize("name", ["num_train", "num_validation"])
def test_a_class_that_goes_with_its_groups_is_named(name: str) -> None:
    pool = make_pool(60)
    of = np.where(pool.labels == 2, 0, 1 + np.arange(60) % 19)
    given = Source(replace(pool, groups=of), make_pool(20, start=200), group_names=("p",) * 20)
    number = {"num_train": 12, "num_validation": 48}[name]
    with pytest.raises(ValueError, match=r"class 2, as groups are not cut|none is cut"):
        take_in(given, **{name: number})  # type: ignore[arg-type]


# --- an archive ----------------------------------------------------------------------------------


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    pool = make_pool(60, size=4)
    patient = np.array([f"patient {i}" for i in by_size(60, 4)])
    np.savez(
        tmp_path / "mine.npz",
        images=pool.images[:, 0],
        labels=pool.labels,
        patient=patient,
        halves=np.arange(60) / 2,
        short=np.arange(5),
        empty=np.where(np.arange(60) == 7, " ", patient),
    )
    return tmp_path / "mine.npz"


def test_groups_of_an_archive_are_read_by_name(archive: Path) -> None:
    read = npz(str(archive), groups="patient")
    assert read.group_names is not None
    assert read.private.groups is not None
    assert read.private.rows is not None
    with np.load(archive) as arrays:
        given = arrays["patient"]
    names = [read.group_names[number] for number in read.private.groups]
    assert names == given[read.private.rows].tolist()
    pools = take_in(read)
    assert "15 groups" not in in_words(record(pools))  # some are held out
    assert "groups of 4 images, none of them cut" in in_words(record(pools))
    assert npz(str(archive)).private.groups is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nobody", "dataset.groups=nobody: must be the name of one of its arrays"),
        ("halves", "groups are float64"),
        ("short", r"must be \[\d+\], one per image"),
        ("empty", "row 7 has no group"),
    ],
)
def test_what_is_no_column_of_groups_is_refused(archive: Path, name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        npz(str(archive), groups=name)


def test_a_cell_s_name_holds_its_groups_and_only_then(archive: Path, compose: Compose) -> None:
    plain = compose("dataset=npz", f"dataset.path={archive}", "canary.num_canaries=5")
    named = plain.copy()
    named.dataset.groups = "patient"
    science = config.science(plain)
    assert "groups" not in science["dataset"]
    assert "groups" not in science["dataset"]["load"]
    assert config.named(plain).cell != config.named(named).cell


def test_groups_are_counted_in_words() -> None:
    assert groups.sizes(make_pool(4)) is None
    found = groups.sizes(grouped(7, np.array([0, 0, 1, 2, 2, 2, 0])))
    assert found == {"num": 3, "smallest": 1, "largest": 3}
    assert groups.expected_images(6, {"num_private": 100, "groups": {"num": 20}}) == 30
    assert groups.expected_images(6, {"num_private": 100}) == 6
