"""A user's table of labels: which image is of which class, of whom, and in which part.

csv by the standard library; parquet by pyarrow where it is installed.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from synpriv.data.folder import (
    IMAGES,
    TEST,
    TRAIN,
    VALIDATION,
    File,
    Listing,
    check_known,
    some,
    walk,
)
from synpriv.signatures import require

TABLES = (".csv", ".tsv", ".txt", ".parquet", ".pq")
NEEDED = ("file", "label")
SPLIT = "split"  # an optional column
SEPARATORS = (",", ";", "\t")


class Table(NamedTuple):
    """Columns of text by name, all of one length; "" where a cell is empty."""

    columns: dict[str, list[str]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))


def read(file: Path) -> Table:
    """All columns of a table; ValueError if it cannot be read or has no rows."""
    if not file.is_file():
        raise ValueError(f"{file}: no such file; must be a table with columns file and label")
    require(file.suffix.lower() in TABLES, f"{file}", f"a table, one of {', '.join(TABLES)}")
    parquet = file.suffix.lower() in (".parquet", ".pq")
    table = _parquet(file) if parquet else _csv(file)
    require(len(table) > 0, f"{file}: has no rows", "one row per image")
    return table


def _csv(file: Path) -> Table:
    """Separated by comma, semicolon or tab, whichever its first line has most of."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            head = stream.readline()
            stream.seek(0)
            rows = list(csv.reader(stream, delimiter=max(SEPARATORS, key=head.count), strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: not a readable csv in UTF-8 ({error})") from error
    rows = [[cell.strip() for cell in row] for row in rows if any(map(str.strip, row))]
    require(bool(rows), f"{file}: is empty", "a table with columns file and label")
    names, *cells = rows
    _check_names(names, file)
    ragged = [row for row in cells if len(row) != len(names)]
    if ragged:
        raise ValueError(
            f"{file}: {len(ragged)} rows have not {len(names)} cells as the first line has, "
            f"the first of them {','.join(ragged[0])!r}; quote cells that hold a separator"
        )
    return Table({name: [row[i] for row in cells] for i, name in enumerate(names)})


def _parquet(file: Path) -> Table:
    try:
        from pyarrow import parquet
    except ImportError as error:
        better = "pip install pyarrow, or write it as csv"
        raise ValueError(f"{file}: parquet needs pyarrow: {better}") from error
    try:
        table = parquet.read_table(file)
    except Exception as error:  # pyarrow's own classes
        why = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise ValueError(f"{file}: not a readable parquet ({why})") from error
    names = list(map(str, table.column_names))
    _check_names(names, file)
    columns = (table.column(i).to_pylist() for i in range(len(names)))
    return Table({n: list(map(_text, values)) for n, values in zip(names, columns, strict=True)})


def _text(value: Any) -> str:
    """A cell as a csv would have it; no value and NaN are empty."""
    return "" if value is None or str(value) == "nan" else str(value).strip()


def _check_names(names: Sequence[str], file: Path) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    require(not twice, f"{file}: columns {some(twice)} occur twice", "named differently")
    lacking = [name for name in NEEDED if name not in names]
    if lacking:
        raise ValueError(
            f"{file}: has columns {some(names)}; needs {' and '.join(NEEDED)} "
            "(and may have split and a column for dataset.groups): rename them"
        )


def listing(root: Path, file: Path, *, groups: str | None = None) -> Listing:
    """The images that a table names below `root`, in its order.

    Column file: a path below root; label: the class; split, if there is one: train, test or val of
    each row, val being read as test only where there is no test; groups: the column that says of
    whom an image is.
    """
    table = read(file)
    files = _files(root, file, table, groups)
    parts = table.columns.get(SPLIT)
    kinds = None if parts is None else [_part(part, file) for part in parts]
    read_columns = {*NEEDED, SPLIT, *([] if groups is None else [groups])}
    unread = [name for name in table.columns if name not in read_columns]
    left_out = [f"columns {some(unread)} of {file.name}"] if unread else []
    left_out += _unlisted(root, files, file)
    if kinds is None:
        return Listing(files, None, tuple(left_out))
    by_kind = {
        kind: [f for f, k in zip(files, kinds, strict=True) if k == kind]
        for kind in ("train", "test", "val")
    }
    require(bool(by_kind["train"]), f"{file}: no row has split=train", "the private images")
    if by_kind["test"] and by_kind["val"]:
        left_out.append(f"{len(by_kind['val'])} rows of split=val")
    held_out = by_kind["test"] or by_kind["val"]
    check_known(held_out, by_kind["train"], file, Path("train"))
    return Listing(by_kind["train"], held_out or None, tuple(left_out))


def _part(name: str, file: Path) -> str:
    for kind, names in (("train", TRAIN), ("test", TEST), ("val", VALIDATION)):
        if name.lower() in names:
            return kind
    raise ValueError(f"{file}: split={name!r}: must be train, test or val")


def _files(root: Path, file: Path, table: Table, groups: str | None) -> list[File]:
    """One file per row; all rows that cannot be used are named at once."""
    columns = table.columns
    if groups is not None and groups not in columns:
        raise ValueError(f"dataset.groups={groups}: {file} has columns {some(list(columns))}")
    for name in (*NEEDED, *([] if groups is None else [groups])):
        empty = [str(i + 1) for i, cell in enumerate(columns[name]) if not cell]
        require(not empty, f"{file}: rows {some(empty)} have an empty {name}", "filled or gone")
    names = [Path(name) for name in columns["file"]]
    outside = [str(name) for name in names if name.is_absolute() or ".." in name.parts]
    require(not outside, f"{file}: names {some(outside)}", f"paths below {root}")
    twice = [str(name) for name, count in Counter(names).items() if count > 1]
    require(not twice, f"{file}: lists {len(twice)} images twice: {some(twice)}", "each once")
    others = [str(name) for name in names if name.suffix.lower() not in IMAGES]
    require(not others, f"{file}: {some(others)}", "images with their ending, as in cat/1.png")
    lost = [str(name) for name in names if not (root / name).is_file()]
    if lost:
        raise ValueError(
            f"{file}: {len(lost)} of {len(names)} images are not below {root}: {some(lost)}"
        )
    whose = [None] * len(names) if groups is None else columns[groups]
    rows = zip(names, columns["label"], whose, strict=True)
    return [File(root / name, label, group) for name, label, group in rows]


def _unlisted(root: Path, files: Sequence[File], file: Path) -> list[str]:
    """How many images lie below root that the table does not name."""
    listed = {found.path for found in files}
    others = [found for found in walk(root) if found not in listed]
    images = [str(f.relative_to(root)) for f in others if f.suffix.lower() in IMAGES]
    return [f"{len(images)} images that {file.name} does not list"] if images else []
