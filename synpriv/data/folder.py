"""A user's folder of images: which files count, and of which class.

One list of files serves the hash that names the cell, the classes and the reading.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from synpriv.signatures import require

IMAGES = frozenset(
    (
        *(".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"),
        *(".ppm", ".pgm", ".pbm", ".pnm"),
    )
)
TRAIN = ("train", "training")
TEST = ("test", "testing", "holdout", "heldout", "held_out")
VALIDATION = ("val", "valid", "validation", "dev", "eval")
_SHOWN = 10  # names in a message


class File(NamedTuple):
    """One image, the class whose folder it lies in, and of whom it is if that is asked for."""

    path: Path
    label: str
    group: str | None = None


class Listing(NamedTuple):
    """What of a folder is read, in its order; `test` is None where nothing is held out."""

    private: list[File]
    test: list[File] | None
    left_out: tuple[str, ...]  # in words, what lies there and is not read

    @property
    def classes(self) -> list[str]:
        """The names of the training classes, sorted: their places are the labels."""
        return sorted({file.label for file in self.private})


def listing(root: Path, *, groups: int | None = None, held_out: bool = False) -> Listing:
    """The images below `root`, or a ValueError that says how the folder should look.

    Either one folder per class, or a folder `train` with one folder per class and held-out folders
    beside it: `test`, or if there is none `val`. Links are followed; hidden files and folders do
    not count; what is no image by its name is left out and said. Images deeper in a class's folder
    count to the class. groups: how many folders below the class's one is named after the group
    that its images are of; equal names are one group, of whatever class. held_out: these are a test
    set, which may have one class.
    """
    if root.is_file():
        raise ValueError(f"{root.absolute()}: is a file; for an npz archive write dataset=npz")
    if not root.is_dir():
        raise ValueError(f"{root.absolute()}: no such folder; it must hold one folder per class")
    folders = _folders(root)
    _refuse_odd_splits(root, folders)
    train = [name for name in folders if name.lower() in TRAIN]
    beside = [name for name in folders if name.lower() in (*TEST, *VALIDATION)]
    if not beside and not (train and _folders(root / train[0])):  # `train` may be a class
        private, left_out = _class_folders(root, groups, held_out=held_out)
        return Listing(private, None, (*left_out, *_unread_siblings(root)))
    others = [name for name in folders if name not in (*train, *beside)]
    if len(train) != 1 or others:
        raise ValueError(
            f"{root}: holds folders {some(folders)}, a mixture of classes and of train and test; "
            "must be one folder per class, or train beside test or val and nothing else"
        )
    return _split_folders(root, train[0], beside, groups)


def _refuse_odd_splits(root: Path, folders: Sequence[str]) -> None:
    """Names like train_set beside test_set would be read as classes."""
    words = {name: re.findall("[a-z]+", name.lower()) for name in folders}
    train = [n for n in folders if any(w.startswith("train") or w == "tr" for w in words[n])]
    others = (*TEST, *VALIDATION, "te", "ts")
    held_out = [n for n in folders if any(w.startswith("test") or w in others for w in words[n])]
    known = {*TRAIN, *TEST, *VALIDATION}
    if train and held_out and not all(name.lower() in known for name in (*train, *held_out)):
        raise ValueError(
            f"{root}: folders {some(folders)} look like a training and a test set; "
            "must be called train and test (or val) then, or else otherwise"
        )


def _unread_siblings(root: Path) -> list[str]:
    """Splits beside a folder that is one itself: the path may be one level too low."""
    splits = (*TRAIN, *TEST, *VALIDATION)
    if root.name.lower() not in splits:
        return []
    beside = [name for name in _folders(root.absolute().parent) if name.lower() in splits]
    return [f"folder {name} beside {root.name}" for name in beside if name != root.name]


def _split_folders(root: Path, train: str, held_out: Sequence[str], groups: int | None) -> Listing:
    private, left_out = _class_folders(root / train, groups)
    if not held_out:
        return Listing(private, None, left_out)
    tests = [name for name in held_out if name.lower() in TEST]
    chosen = tests or list(held_out)
    if len(chosen) > 1:
        raise ValueError(f"{root}: {' and '.join(chosen)} are both held out; must be one of them")
    test, more = _class_folders(root / chosen[0], groups, held_out=True)
    check_known(test, private, root / chosen[0], Path(train))
    unread = [f"folder {name}" for name in held_out if name not in chosen]
    return Listing(private, test, (*left_out, *more, *unread))


def check_known(test: Sequence[File], private: Sequence[File], where: Path, training: Path) -> None:
    """Refuse test images of classes that have no private image."""
    known = {file.label for file in private}
    unknown = sorted({file.label for file in test} - known)
    if unknown:
        raise ValueError(
            f"{where}: has classes {some(unknown)} that {training} has not; "
            f"must be among those of {training}: {some(sorted(known))}"
        )


def _class_folders(
    root: Path, groups: int | None, *, held_out: bool = False
) -> tuple[list[File], tuple[str, ...]]:
    """The images of one folder per class, by class and name, and what is left out."""
    names = _folders(root)
    files = {name: list(walk(root / name)) for name in names}
    images = {name: [file for file in files[name] if _is_image(file)] for name in names}
    beside = [file for file in _files(root) if _is_image(file)]
    if held_out:
        labelled = any(images.values())
        require(labelled, f"{root}: images without class folders", "in those of the training set")
    else:
        _refuse_level(root, images, beside, grouped=groups is not None)
    empty = [name for name in names if not images[name]]
    require(not empty, f"{root}: class folders without an image: {some(empty)}", "filled or gone")
    every = [*_files(root), *(file for of_class in files.values() for file in of_class)]
    others = [file for file in every if not _is_image(file)]
    ends = Counter(file.suffix.lower() or file.name for file in others)
    left_out = [f"{count} {end}" for end, count in sorted(ends.items())]
    if beside:
        left_out.append(f"{len(beside)} images beside the class folders of {root.name}")
    if groups is not None:
        _refuse_ungrouped(root, images, groups)
    found = [
        File(
            file,
            _as_text(root, name, "class"),
            None
            if groups is None
            else _as_text(root, file.relative_to(root).parts[groups], "group"),
        )
        for name in names
        for file in images[name]
    ]
    return found, tuple(left_out)


def _refuse_ungrouped(root: Path, images: dict[str, list[Path]], groups: int) -> None:
    every = [file.relative_to(root) for found in images.values() for file in found]
    bare = [str(file) for file in every if len(file.parts) < groups + 2]
    if bare:
        raise ValueError(
            f"dataset.groups={groups}: {len(bare)} of {len(every)} images of {root} lie in no "
            f"group's folder: {some(bare)}; must be as in class/patient/image.png, which is 1"
        )


def _as_text(root: Path, name: str, of: str) -> str:
    """A folder's name as text whatever the locale, since it is written into reports."""
    stored = os.fsencode(name)
    try:
        return stored.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{root}: {of} folder {stored!r}: must have a UTF-8 name") from error


def _refuse_level(
    root: Path, images: dict[str, list[Path]], beside: Sequence[Path], *, grouped: bool
) -> None:
    """A hint for a path that is one level too low or too high."""
    if not any(images.values()):
        if beside:
            raise ValueError(
                f"{root}: holds images, but no folder per class; "
                f"one level too low? try {root.absolute().parent}"
            )
        raise ValueError(f"{root}: no images in it; must hold one folder of images per class")
    nested = sum(f.parent != root / name for name, found in images.items() for f in found)
    alone = len(images) == 1
    if 2 * nested > sum(map(len, images.values())):
        if alone:
            raise ValueError(
                f"{root}: its folder {min(images)} holds no images but folders; "
                f"one level too high? try {root / min(images)}"
            )
        often = Counter(name for folder in images for name in _folders(root / folder))
        shared = sorted(name for name, count in often.items() if count > 1)
        if shared and not grouped:
            raise ValueError(
                f"{root}: its folders {some(sorted(images))} share sub-folders {some(shared)}: "
                "one level too high, or splits in classes? must be one folder of images per class "
                "(dataset.groups=1 if they are people)"
            )
    if alone:
        raise ValueError(f"{root}: holds one class, {min(images)}; an audit needs two or more")


def walk(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """All visible files below a folder, sorted; links in a circle are refused."""
    here = folder.resolve()
    if here in above:
        raise ValueError(f"{folder}: links lead in a circle; remove the link")
    yield from _files(folder)
    for name in _folders(folder):
        yield from walk(folder / name, (*above, here))


def _files(folder: Path) -> list[Path]:
    return [Path(entry.path) for entry in _visible(folder) if not _is_folder(entry)]


def _folders(folder: Path) -> list[str]:
    return [entry.name for entry in _visible(folder) if _is_folder(entry)]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """A link that leads to itself is none: like a broken one it is said with the images."""
    return os.path.isdir(entry.path)


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted((e for e in entries if e.name[0] != "."), key=lambda entry: entry.name)


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in IMAGES


def below(root: Path, file: Path) -> str:
    """A file's name in a message: below the root if it lies there."""
    return str(file.relative_to(root) if file.is_relative_to(root) else file)


def some(names: Sequence[str]) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
