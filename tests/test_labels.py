"""A table of labels beside a folder: what it says is what is read, and what is wrong is named."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from synpriv.data import datasets, labels
from synpriv.data.content import folder_sha256
from synpriv.data.datasets import Source

ROWS = [  # file, label, group, split: a flat folder and one below it, out of order
    ("b2.png", "nevus", "p1", "train"),
    ("a1.png", "melanoma", "p1", "train"),
    ("sub/c3.png", "nevus", "p2", "train"),
    ("d4.png", "melanoma", "p3", "train"),
    ("e5.png", "melanoma", "p4", "test"),
    ("f6.png", "nevus", "p5", "test"),
    ("g7.png", "nevus", "p6", "val"),
]
HEAD = ("file", "label", "group", "split")


def pictures(root: Path, rows: Sequence[Sequence[str]] = ROWS) -> None:
    """One image per row whose colour is its place."""
    for i, (file, *_) in enumerate(rows):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (i, 2 * i, 200)).save(root / file)


def table(
    root: Path,
    rows: Sequence[Sequence[str]] = ROWS,
    *,
    head: Sequence[str] = HEAD,
    separator: str = ",",
    name: str = "labels.csv",
    columns: int = 4,
) -> str:
    with (root / name).open("w", newline="", encoding="utf-8-sig") as stream:
        writer = csv.writer(stream, delimiter=separator)
        writer.writerows([head[:columns], *(row[:columns] for row in rows)])
    return name


def read(root: Path, **options: object) -> Source:
    options = {"size": 4, "labels": "labels.csv"} | options
    return datasets.folder(str(root), **options)  # type: ignore[arg-type]


def seen(source: Source, *, test: bool = False) -> list[tuple[int, str, str]]:
    """Which image, of which class, of whom, by NumPy alone."""
    pool, names, groups = source.private, source.class_names, source.group_names
    pool = source.test if test else pool
    assert names is not None
    red = pool.images[:, 0].reshape(len(pool), -1)
    assert (red == red[:, :1]).all()
    whose = ["" if groups is None else groups[g] for g in (pool.groups if groups else pool.labels)]
    return [(int(r[0]), names[x], g) for r, x, g in zip(red, pool.labels, whose, strict=True)]


def wanted(split: str, *, grouped: bool = True) -> list[tuple[int, str, str]]:
    return [
        (i, label, group if grouped else "")
        for i, (_, label, group, part) in enumerate(ROWS)
        if part == split
    ]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_says_class_group_and_part(tmp_path: Path, separator: str) -> None:
    pictures(tmp_path)
    table(tmp_path, separator=separator)
    source = read(tmp_path, groups="group")
    assert seen(source) == wanted("train")
    assert seen(source, test=True) == wanted("test")
    assert source.notes[-1] == "left out: 1 rows of split=val"
    assert source.files == tuple(file for file, *_, part in ROWS if part == "train")


def test_parquet_is_read_as_the_csv(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    pictures(tmp_path)
    table(tmp_path)
    columns = {name: [row[i] for row in ROWS] for i, name in enumerate(HEAD)}
    parquet.write_table(pyarrow.table(columns), tmp_path / "labels.parquet")
    both = [read(tmp_path, labels=f"labels.{end}", groups="group") for end in ("csv", "parquet")]
    assert seen(both[0]) == seen(both[1])
    hashes = {folder_sha256(str(tmp_path), f"labels.{end}", "group") for end in ("csv", "parquet")}
    assert len(hashes) == 1
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match=r"bad\.parquet: not a readable parquet"):
        labels.read(tmp_path / "bad.parquet")


def test_without_pyarrow_a_parquet_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="parquet needs pyarrow: pip install pyarrow, or write it"):
        labels.read(tmp_path / "x.parquet")


def test_without_a_split_a_share_is_held_out_and_columns_left_out_are_said(tmp_path: Path) -> None:
    rows = [(f"{i}.png", "xy"[i % 2], f"p{i // 4}", "") for i in range(20)]
    pictures(tmp_path, rows)
    table(tmp_path, rows, columns=3)
    Image.new("RGB", (4, 4)).save(tmp_path / "unlisted.png")
    source = read(tmp_path, test_rate=0.25)
    assert (len(source.private), len(source.test)) == (16, 4) or len(source.test) == 6
    assert source.private.groups is None
    said = "left out: columns group of labels.csv, 1 images that labels.csv does not list"
    assert source.notes[-1] == said


def test_a_test_table_of_its_own_and_none_of_its_images_private(tmp_path: Path) -> None:
    pictures(tmp_path)
    train, test = ([row for row in ROWS if row[3] == part] for part in ("train", "test"))
    table(tmp_path, train, columns=3)
    table(tmp_path, test, columns=3, name="test.csv")
    source = read(tmp_path, groups="group", test_path="test.csv")
    assert (seen(source), seen(source, test=True)) == (wanted("train"), wanted("test"))
    table(tmp_path, [*test, train[0]], columns=3, name="test.csv")
    with pytest.raises(ValueError, match=r"test\.csv: 1 of its images are private: .*b2\.png"):
        read(tmp_path, test_path="test.csv")


def test_content_and_not_names_decides_the_hash(tmp_path: Path) -> None:
    pictures(tmp_path)
    table(tmp_path)
    path, named = str(tmp_path), folder_sha256(str(tmp_path), "labels.csv")
    table(tmp_path, separator=";", name="other.csv")
    assert folder_sha256(path, str(tmp_path / "other.csv")) == named  # another name and separator
    grouped = folder_sha256(path, "labels.csv", "group")
    changed = [list(row) for row in ROWS]
    changed[0][2] = "p9"
    table(tmp_path, changed)
    assert folder_sha256(path, "labels.csv") == named  # groups that nobody asks for
    assert folder_sha256(path, "labels.csv", "group") != grouped
    changed[0][1] = "melanoma"
    table(tmp_path, changed)
    assert folder_sha256(path, "labels.csv") != named
    with pytest.raises(ValueError, match="changed while the sweep was running"):
        read(tmp_path, sha256=named)


def bad_tables() -> dict[
    str, tuple[list[tuple[str, ...]], tuple[str, ...], dict[str, object], str]
]:
    other = ("image_id", "dx", "group", "split")
    return {
        "names": (ROWS, other, {}, "has columns image_id, dx, group, split; needs file and label"),
        "lost": (
            [*ROWS, ("gone.png", "nevus", "p", "train")],
            HEAD,
            {},
            r"1 of 8 images are not below .*: gone\.png",
        ),
        "twice": ([*ROWS, ROWS[0]], HEAD, {}, r"lists 1 images twice: b2\.png"),
        "no label": ([("b2.png", " ", "p", "train")], HEAD, {}, r"rows 1 have an empty label"),
        "no group": ([("b2.png", "x", "", "train")], HEAD, {"groups": "group"}, "an empty group"),
        "column": (ROWS, HEAD, {"groups": "who"}, r"dataset\.groups=who: .* has columns file, lab"),
        "level": (ROWS, HEAD, {"groups": 1}, r"dataset\.groups=1: must be a column"),
        "split": ([("b2.png", "x", "p", "fold3")], HEAD, {}, "split='fold3': must be train, test"),
        "no train": ([ROWS[4]], HEAD, {}, "no row has split=train"),
        "outside": ([("../b2.png", "x", "p", "train")], HEAD, {}, r"names \.\./b2\.png: must be"),
        "ending": ([("b2", "x", "p", "train")], HEAD, {}, "images with their ending"),
        "ragged": ([*ROWS, ("b2.png",)], HEAD, {}, "1 rows have not 4 cells"),
        "empty": ([], HEAD, {}, "has no rows"),
        "doubled": (ROWS, ("file", "label", "label", "split"), {}, "columns label occur twice"),
        "class": (
            [*ROWS[:4], ("e5.png", "other", "p", "test")],
            HEAD,
            {},
            "has classes other that .* has not",
        ),
        "both": (ROWS, HEAD, {"test_path": "labels.csv"}, "must be left out: .* has a test set"),
        "rate": (ROWS, HEAD, {"test_rate": 0.3}, r"dataset\.test_rate=0\.3: must be left out"),
        "absent": (ROWS, HEAD, {"labels": "no.csv"}, r"no\.csv: no such file; must be a table"),
        "kind": (ROWS, HEAD, {"labels": "b2.png"}, r"b2\.png: must be a table, one of \.csv"),
    }


@pytest.mark.parametrize("case", bad_tables())
def test_what_is_wrong_with_a_table_is_one_line(tmp_path: Path, case: str) -> None:
    rows, head, options, message = bad_tables()[case]
    pictures(tmp_path)
    table(tmp_path, rows, head=head)
    with pytest.raises(ValueError, match=message) as caught:
        read(tmp_path, **options)
    assert "\n" not in str(caught.value)


def test_a_table_that_is_no_text_is_one_line(tmp_path: Path) -> None:
    pictures(tmp_path)
    (tmp_path / "labels.csv").write_bytes(b"file,label\n\xff\xfe,1\n")
    with pytest.raises(ValueError, match="not a readable csv in UTF-8"):
        read(tmp_path)
    (tmp_path / "labels.csv").write_text('file,label\n"b2.png,1\n')
    with pytest.raises(ValueError, match="not a readable csv in UTF-8"):
        read(tmp_path)


# --- groups and test sets of class folders ----------------------------------------------------


def patients(root: Path, names: str = "p1 p2 p3 p4") -> None:
    for c, label in enumerate(("benign", "malignant")):
        for i, name in enumerate(names.split()):
            pictures(root / label / name, [(f"{j}.png",) for j in range(2)])
            for j in range(2):
                file = root / label / name / f"{j}.png"
                Image.new("RGB", (4, 4), (100 * c + 10 * i + j, 0, 9)).save(file)


def test_a_folder_s_level_says_of_whom_images_are(tmp_path: Path) -> None:
    patients(tmp_path / "train")
    patients(tmp_path / "test", "p7 p8")
    source = datasets.folder(str(tmp_path), size=4, groups=1)
    every = [
        (100 * c + 10 * i + j, label, f"p{i + 1}")
        for c, label in enumerate(("benign", "malignant"))
        for i in range(4)
        for j in range(2)
    ]
    assert seen(source) == every  # one patient has images of both classes
    assert {group for *_, group in seen(source, test=True)} == {"p7", "p8"}
    assert source.group_names == ("p1", "p2", "p3", "p4", "p7", "p8")


def test_images_outside_of_a_group_s_folder_are_named(tmp_path: Path) -> None:
    patients(tmp_path)
    Image.new("RGB", (4, 4)).save(tmp_path / "benign" / "x.png")
    with pytest.raises(ValueError, match=r"dataset\.groups=1: 1 of 17 images .*benign/x\.png"):
        datasets.folder(str(tmp_path), size=4, groups=1)
    for wrong in (0, "patient", 1.5, True):
        with pytest.raises(ValueError, match=rf"dataset\.groups={wrong}: must be how many"):
            datasets.folder(str(tmp_path), size=4, groups=wrong)  # type: ignore[arg-type]


def test_a_test_folder_of_its_own(tmp_path: Path) -> None:
    mine, elsewhere = str(tmp_path / "mine"), str(tmp_path / "elsewhere")
    patients(tmp_path / "mine")
    patients(tmp_path / "elsewhere", "p9")
    source = datasets.folder(mine, size=4, test_path=elsewhere, groups=1)
    assert len(source.private) == 16
    held_out = [(0, "benign"), (1, "benign"), (100, "malignant"), (101, "malignant")]
    assert seen(source, test=True) == [(*each, "p9") for each in held_out]
    assert folder_sha256(mine, None, 1, elsewhere) != folder_sha256(mine, None, 1)
    (tmp_path / "elsewhere" / "odd" / "p").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "elsewhere" / "odd" / "p" / "x.png")
    with pytest.raises(ValueError, match=r"has classes odd that .*mine has not"):
        folder_sha256(mine, None, 1, elsewhere)


def test_the_pixels_are_pillow_s(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [(f"{i}.png", "xy"[i % 2], "", "train") for i in range(4)]
    for file, *_ in rows:
        Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)).save(tmp_path / file)
    table(tmp_path, [*rows[:2], *((*row[:3], "test") for row in rows[2:])])
    source = read(tmp_path, size=5, channels=1)
    for i, (file, *_) in enumerate(rows[:2]):
        grey = np.asarray(Image.open(tmp_path / file).convert("L"))
        np.testing.assert_array_equal(source.private.images[i, 0], grey)
    assert source.notes[0] == "4 of 4 images colour made grey"
