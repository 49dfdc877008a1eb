"""Canaries of one's own, from a file or by their rows: where they go, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Compose, make_pool, positions
from numpy.typing import NDArray

from synpriv import config
from synpriv.data import canaries
from synpriv.data.chosen import source_of
from synpriv.data.datasets import Source, hold_out
from synpriv.data.draws import Draw, draw
from synpriv.data.intake import Pools, record, take_in
from synpriv.data.pool import Pool
from synpriv.data.split import make_split
from synpriv.report import members

LABELS = np.array([5, 7, 5, 9, 7, 5])


def of_classes(pool: Pool) -> Pool:
    """Labels 0..3 as 5, 7, 9, 11."""
    return Pool(pool.images, 5 + 2 * pool.labels)


def save(folder: Path, **others: Any) -> Path:
    arrays: dict[str, Any] = {"images": make_pool(6, start=150).images, "labels": LABELS}
    file = folder / "mine.npz"
    np.savez(file, **{k: v for k, v in (arrays | others).items() if v is not None})
    return file


def source() -> Source:
    return Source(of_classes(make_pool(40)), of_classes(make_pool(12, start=100)))


def drawn(pools: Pools, num: int = 6, kind: str = "path", **others: Any) -> Draw:
    options = {"member_draw": "paired", "num_models": 8, "audit_seed": 0} | others
    return draw(pools, kind=kind, num_canaries=num, **options)


def test_they_follow_the_private_images_and_are_in_or_out(tmp_path: Path) -> None:
    true = np.array([7, 7, 9, 9, 11, 5])
    pools = take_in(source(), own=canaries.read(str(save(tmp_path, true_labels=true))))
    assert pools.num_own == 6
    assert positions(pools.private) == [*range(40), *range(150, 156)]
    assert positions(pools.natural) == list(range(40))
    found = drawn(pools)
    assert found.canaries.tolist() == list(range(40, 46))
    np.testing.assert_array_equal(found.labels[40:], (LABELS - 5) // 2)
    np.testing.assert_array_equal(found.labels[:40], np.arange(40) % 4)  # nobody else is wrong
    np.testing.assert_array_equal(found.member.sum(axis=1), 4)
    assert found.expected_size == 43
    for seed in (0, 1):
        split = make_split(pools, found, seed=seed)
        ours = set(split.train.images[:, 0, 0, 0].tolist()) & set(range(150, 156))
        assert ours == set((150 + np.flatnonzero(found.member[:, seed])).tolist())
        np.testing.assert_array_equal(split.true_labels.numpy(), (true - 5) // 2)
    assert source_of(pools, found.canaries, None) == {"of": "mine.npz", "rows": [0, 1, 2, 3, 4, 5]}
    assert record(pools)["num_own"] == 6
    assert "6 of the private images are canaries of your own" in record(pools)["in_words"]


def test_without_true_labels_those_that_are_given_are_true(tmp_path: Path) -> None:
    own = canaries.read(str(save(tmp_path)))
    np.testing.assert_array_equal(own.true_labels, LABELS)


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ({"labels": LABELS + 1}, r"mine.npz: labels\[0\] is 6, no class of the private set"),
        ({"true_labels": LABELS + 30}, r"true_labels\[0\] is 35, no class"),
        ({"images": make_pool(6, start=150, size=4).images}, "images are .* the private ones"),
        (
            {"images": make_pool(6, start=38).images},
            r"2 canaries are in the private set",
        ),
        ({"images": make_pool(1).images.repeat(6, axis=0) + 150}, "in the file more than once"),
        ({"images": make_pool(6).images / 255}, "must be uint8"),
        ({"labels": None}, "has arrays .* must be images and labels"),
        ({"labels": LABELS[:3]}, "labels are int64"),
        ({"labels": LABELS.astype(object)}, "Python objects"),
        ({"groups": np.arange(6)}, "needs a private set of groups"),
    ],
)
def test_what_cannot_be_a_canary_is_refused(
    tmp_path: Path, others: dict[str, NDArray[Any]], words: str
) -> None:
    file = save(tmp_path, **others)
    with pytest.raises(ValueError, match=words):
        take_in(source(), own=canaries.read(str(file)))


def test_a_public_image_is_no_canary_and_a_test_image_leaves_the_test_set(tmp_path: Path) -> None:
    """Whoever is trained on a copy hides the leak; a test image is only looked at."""
    given = source()
    own = canaries.read(str(save(tmp_path, images=make_pool(6, start=108).images)))
    pools = take_in(given, own=own)
    assert positions(pools.test) == list(range(100, 108))
    assert any("4 test images are private images" in words for words in pools.warnings)
    public = Source(of_classes(make_pool(20, start=110)), given.test)
    with pytest.raises(ValueError, match="canaries are in the public pool too"):
        take_in(given, own=own, public=public)


def test_in_a_set_of_groups_they_are_groups_of_the_file_or_each_its_own(tmp_path: Path) -> None:
    private = make_pool(40)
    given = Source(
        Pool(private.images, 5 + 2 * private.labels, np.arange(40) // 4),
        of_classes(make_pool(12, start=100)),
        group_names=tuple(f"p{i}" for i in range(10)),
    )
    pools = take_in(given, own=canaries.read(str(save(tmp_path))))
    found = drawn(pools)
    assert found.groups is not None
    assert found.groups.tolist() == list(range(6))
    file = save(tmp_path, groups=np.array(["b", "b", "a", "a", "a", "c"]))
    assert canaries.count(str(file)) == 3
    pools = take_in(given, own=canaries.read(str(file)))
    found = drawn(pools, num=3)
    assert found.groups is not None
    assert found.groups.tolist() == [0, 0, 1, 1, 1, 2]  # as they come in the file
    assert source_of(pools, found.canaries, found.groups)["groups"] == ["b", "a", "c"]
    own = canaries.read(str(save(tmp_path, groups=np.array(["p3", *"aaaaa"]))))
    with pytest.raises(ValueError, match="group p3: must be of people that the"):
        take_in(given, own=own)


# --- by their rows -------------------------------------------------------------------------------


def test_rows_are_those_of_the_data_as_read() -> None:
    held = hold_out(source(), 0.25)
    assert held.private.rows is not None
    rows = sorted(held.private.rows[[3, 11, 20]].tolist())
    pools = take_in(held)
    found = drawn(pools, num=3, kind="mislabelled", indices=rows[::-1])
    assert [positions(pools.private)[i] for i in found.canaries] == rows  # pixels count rows
    assert source_of(pools, found.canaries, None) == {"of": "the data", "rows": rows}
    assert (found.labels[found.canaries] != pools.private.labels[found.canaries]).all()
    gone = int(np.setdiff1d(np.arange(40), held.private.rows)[0])
    with pytest.raises(ValueError, match=f"rows {gone} are not private here"):
        drawn(pools, num=1, kind="clean", indices=[gone])
    with pytest.raises(ValueError, match=r"num_canaries=5: must be 3, the number that"):
        drawn(pools, num=5, kind="clean", indices=rows)


def test_named_rows_have_no_copy_and_are_of_different_groups() -> None:
    pool = make_pool(40)
    images = pool.images.copy()
    images[7] = images[30]
    twins = take_in(Source(Pool(images, pool.labels), make_pool(12, start=100)))
    with pytest.raises(ValueError, match="row 7 or its group has a copy"):
        drawn(twins, num=2, kind="clean", indices=[3, 7])
    of = Pool(pool.images, pool.labels, np.arange(40) // 4)
    names = tuple("abcdefghij")
    grouped = take_in(Source(of, make_pool(12, start=100), group_names=names))
    found = drawn(grouped, num=2, kind="clean", indices=[1, 22])
    assert found.canaries.tolist() == [0, 1, 2, 3, 20, 21, 22, 23]
    with pytest.raises(ValueError, match="rows 21 and 22 are of one group"):
        drawn(grouped, num=3, kind="clean", indices=[1, 22, 21])


def test_named_rows_are_no_validation_images_nor_is_anything_of_their_groups() -> None:
    plain = take_in(source(), num_validation=12)
    rows = sorted(positions(plain.test)[:3])
    pools = take_in(source(), num_validation=12, named=rows)
    assert drawn(pools, num=3, kind="clean", indices=rows).canaries.tolist() == [
        positions(pools.private).index(row) for row in rows
    ]
    assert sorted(positions(pools.test) + positions(pools.private)) == list(range(40))
    assert sorted(np.bincount(pools.test.labels)) == [3, 3, 3, 3]
    others = take_in(source(), num_validation=12, named=[99])  # whatever is named, no other draw
    assert positions(others.test) == positions(plain.test)
    with pytest.raises(ValueError, match=r"num_validation=33: must be 1\.\.32 for this data set"):
        take_in(source(), num_validation=33, named=[0])
    of = make_pool(40)
    grouped = Source(Pool(of.images, of.labels, np.arange(40) // 4), make_pool(12, start=100))
    first = positions(take_in(grouped, num_validation=12).test)[0]
    held_out = positions(take_in(grouped, num_validation=12, named=[first]).test)
    assert len(held_out) == 12
    assert not {first - first % 4 + i for i in range(4)} & set(held_out)


# --- the config ----------------------------------------------------------------------------------


def test_content_names_the_cell_and_the_order_of_rows_does_not(
    tmp_path: Path, compose: Compose
) -> None:
    first = save(tmp_path)
    (tmp_path / "b").mkdir()
    moved = save(tmp_path / "b")
    own, plain = compose("canary=path", f"canary.path={first}"), compose()
    assert own.canary.num_canaries == 6
    before = config.named(own).cell
    assert before.startswith("undefended-digits-path-")
    own.canary.path = str(moved)
    assert config.named(own).cell == before
    np.savez(moved, images=make_pool(5, start=150).images, labels=LABELS[:5])
    assert config.named(own).cell != before
    assert "indices" not in config.science(plain)["canary"]
    cells = []
    for rows in ([3, 17], [17, 3], [3, 18]):
        plain.canary.indices = rows
        assert plain.canary.num_canaries == 2
        cells.append(config.named(plain).cell)
    assert cells[0] == cells[1] != cells[2]


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("indices", [3, 3], "each named once"),
        ("indices", [], "each named once"),
        ("indices", [-1], "each named once"),
        ("path", "x.npz", r"canary\.path=x\.npz: must be left out"),
        ("kind", "path", r"canary\.path=None: must be an npz archive"),
    ],
)
def test_options_that_nothing_reads_are_refused(
    option: str, value: Any, words: str, compose: Compose
) -> None:
    cfg = compose()
    cfg.canary[option] = value
    with pytest.raises(ValueError, match=words):
        config.validate(cfg)


# --- the report ----------------------------------------------------------------------------------


def test_the_most_exposed_canaries_are_named_by_their_place() -> None:
    report: dict[str, Any] = {"most_exposed": [[1, 4.25], [0, 1.5]], "most_exposed_null": 2.0}
    assert members.most_exposed(report) is None
    source = {"of": "mine.npz", "rows": [4, 9, 12]}
    words = members.most_exposed(report | {"canary_source": source})
    assert words is not None
    assert words.endswith("up to 2.0), of mine.npz: row 9 (4.2); row 4 (1.5)")
    files = source | {"of": "the data", "files": ["a/1.png", "a/2.png", "b/1.png"]}
    assert "a/2.png (4.2)" in str(members.most_exposed(report | {"canary_source": files}))
    of = source | {"groups": ["p7", "p1"], "group": [0, 1, 1]}
    named = str(members.most_exposed(report | {"canary_source": of}))
    assert "group p1 (rows 9, 12) (4.2); group p7 (row 4) (1.5)" in named
