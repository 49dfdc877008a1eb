"""A user's arrays: whose names they have, what is made of them, what is refused."""

from pathlib import Path

import numpy as np
import pytest
from conftest import Compose
from numpy.typing import NDArray
from PIL import Image, ImageOps

from synpriv.config import science
from synpriv.data import archive, datasets
from synpriv.data.content import optional_sha256
from synpriv.data.datasets import Source

RNG = np.random.default_rng(0)


def images(*shape: int) -> NDArray[np.uint8]:
    return RNG.integers(0, 256, size=shape, dtype=np.uint8)


def labels(num: int) -> NDArray[np.int64]:
    return np.arange(num) % 3


def read(folder: Path, options: dict[str, object] | None = None, **content: NDArray) -> Source:
    np.savez(folder / "own.npz", **content)
    return datasets.npz(str(folder / "own.npz"), **(options or {}))  # type: ignore[arg-type]


def medmnist(num: int = 12, *, columns: int = 1) -> dict[str, NDArray]:
    """Arrays as MedMNIST stores them: labels are a column of bytes."""
    found: dict[str, NDArray] = {}
    for part, many in (("train", num), ("val", 3), ("test", 6)):
        found[f"{part}_images"] = images(many, 8, 8)
        found[f"{part}_labels"] = np.stack([labels(many)] * columns, 1).astype(np.uint8)
    return found


# --- names ----------------------------------------------------------------------------------------


def test_medmnist_s_names_are_known_and_val_is_left_out(tmp_path: Path) -> None:
    given = medmnist()
    source = read(tmp_path, **given)
    np.testing.assert_array_equal(source.private.images[:, 0], given["train_images"])
    np.testing.assert_array_equal(source.test.images[:, 0], given["test_images"])
    assert source.private.labels.tolist() == given["train_labels"][:, 0].tolist()
    assert source.test.labels.tolist() == given["test_labels"][:, 0].tolist()
    left_out = "arrays left out: val_images, val_labels"
    assert source.notes == (left_out, "labels of one column read as a list")


def test_several_labels_per_image_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"labels are uint8 \(12, 14\); .*one class per image"):
        read(tmp_path, **medmnist(columns=14))


def test_keras_s_names_are_known(tmp_path: Path) -> None:
    arrays = {"x_train": images(9, 4, 4), "y_train": labels(9)}
    arrays |= {"x_test": images(3, 4, 4), "y_test": labels(3)}
    source = read(tmp_path, **arrays)
    np.testing.assert_array_equal(source.private.images[:, 0], arrays["x_train"])
    np.testing.assert_array_equal(source.test.images[:, 0], arrays["x_test"])
    del arrays["y_test"]
    with pytest.raises(ValueError, match="has x_test alone; needs x_test and y_test"):
        read(tmp_path, **arrays)


# --- numbers --------------------------------------------------------------------------------------

REFUSED = {
    "unit": (
        np.linspace(0, 1, 48).reshape(3, 4, 4),
        r"values 0\.\.1; .*write np\.rint\(images \* 2",
    ),
    "float": (np.full((3, 4, 4), 7.0), r"values 7\.\.7; .*write images\.astype\(np\.uint8\)"),
    "normal": (np.full((3, 4, 4), -1.5), r"values -1\.5\.\.-1\.5; .*scale them to 0\.\.255"),
    "deep": (np.full((3, 4, 4), 4095, np.uint16), r"uint16 .*4095\.\.4095; .*scale them"),
    "NaN": (np.full((3, 4, 4), np.nan), r"48 values are NaN or infinite: mend or remove them"),
    "bool": (np.zeros((3, 4, 4), bool), r"images are bool \(3, 4, 4\); must be uint8"),
    "text": (np.full((3, 4, 4), "x"), r"images are <U1 \(3, 4, 4\); must be uint8"),
    "none": (np.zeros((0, 4, 4), np.uint8), r"images are uint8 \(0, 4, 4\); must be uint8"),
    "five channels": (np.zeros((3, 4, 4, 5), np.uint8), "with 1 or 3 channels"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("part", ["train", "test"])
def test_images_that_are_no_bytes_say_what_would_make_them_so(
    tmp_path: Path, case: str, part: str
) -> None:
    wrong, message = REFUSED[case]
    given = medmnist(3) | {f"{part}_images": wrong, f"{part}_labels": np.arange(len(wrong))}
    if part == "test":
        message = message.replace("images", "(test_)?images")
    with pytest.raises(ValueError, match=message.replace("images", "(train_)?images", 1)) as caught:
        read(tmp_path, **given)
    assert "\n" not in str(caught.value)


def test_the_advice_on_unit_floats_is_right(tmp_path: Path) -> None:
    stored = images(9, 4, 4)
    floats = (stored / 255).astype(np.float32)
    with pytest.raises(ValueError, match=r"write np\.rint\(images \* 255\)\.astype\(np\.uint8\)"):
        read(tmp_path, images=floats, labels=labels(9))
    advised = np.rint(floats * 255).astype(np.uint8)
    np.testing.assert_array_equal(advised, stored)


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    marker = tmp_path / "run"

    class Hostile:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (marker,)

    for options, name in (({}, "labels"), ({"groups": "who"}, "who")):
        given = {"images": images(1, 4, 4), "labels": labels(1), "who": labels(1)}
        given[name] = np.array([Hostile()], dtype=object)
        with pytest.raises(ValueError, match=f"{name}.npy holds Python objects"):
            read(tmp_path, options, **given)  # type: ignore[arg-type]
        assert not marker.exists()


# --- sizes and colours ----------------------------------------------------------------------------


def by_pillow(
    array: NDArray[np.uint8], fit: str, size: int, channels: int | None
) -> NDArray[np.uint8]:
    """One image [H,W] or [H,W,3] as Pillow alone would bring it to [ch,size,size]."""
    image = Image.fromarray(array)
    if channels is not None:
        image = image.convert("L" if channels == 1 else "RGB")
    how = {"pad": ImageOps.pad, "crop": ImageOps.fit}.get(fit)
    if how is None:
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    else:
        image = how(image, (size, size), Image.Resampling.BICUBIC)
    turned = np.asarray(image)
    return turned[None] if turned.ndim == 2 else turned.transpose(2, 0, 1)


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("channels", [None, 1, 3])
@pytest.mark.parametrize("colour", [False, True])
def test_arrays_are_brought_to_a_size_as_pillow_does(
    tmp_path: Path, fit: str, channels: int | None, colour: bool
) -> None:
    given = images(6, 10, 7, 3) if colour else images(6, 10, 7)
    options = {"size": 8, "fit": fit, "channels": channels}
    source = read(tmp_path, options, images=given, labels=labels(6), test_images=given,
                  test_labels=labels(6))  # fmt: skip
    expected = np.stack([by_pillow(image, fit, 8, channels) for image in given])
    np.testing.assert_array_equal(source.private.images, expected)
    np.testing.assert_array_equal(source.test.images, expected)
    done = {"stretch": "stretched", "crop": "cropped to the middle and scaled", "pad": "padded"}
    assert source.notes[0] == f"images of 7x10 {done[fit]} to 8x8"
    turned = channels is not None and channels != (3 if colour else 1)
    assert ("6 of 6 images colour made grey" in source.notes) == (turned and colour)
    assert ("6 of 6 images grey made colour" in source.notes) == (turned and not colour)


def test_padding_to_the_longer_side_moves_pixels_and_changes_none(tmp_path: Path) -> None:
    given = images(6, 6, 10)
    source = read(tmp_path, {"fit": "pad", "test_rate": 0.4}, images=given, labels=labels(6))
    whole = np.zeros((6, 10, 10), np.uint8)
    whole[:, 2:8] = given
    found = np.concatenate([source.private.images, source.test.images])[:, 0]
    assert sorted(map(bytes, found)) == sorted(map(bytes, whole))
    cropped = read(tmp_path, {"fit": "crop", "test_rate": 0.4}, images=given, labels=labels(6))
    assert cropped.private.images.shape[2:] == (6, 6)
    assert bytes(cropped.private.images[0, 0]) in {bytes(image[:, 2:8].copy()) for image in given}


def test_images_that_are_no_square_need_a_fit(tmp_path: Path) -> None:
    given = {"images": images(6, 8, 6), "labels": labels(6)}
    for options in ({}, {"size": 8}, {"fit": "stretch"}):
        with pytest.raises(ValueError, match=r"images are 8x6: dataset\.fit=\w+: must be pad \(wi"):
            read(tmp_path, options, **given)  # type: ignore[arg-type]
    for name, wrong in (("size", 0), ("channels", 2), ("fit", "zoom")):
        with pytest.raises(ValueError, match=rf"dataset\.{name}={wrong}: must be"):
            read(tmp_path, {name: wrong}, **given)


def test_images_that_fit_are_left_as_they_are(tmp_path: Path) -> None:
    given = {"images": images(15, 8, 8), "labels": labels(15)}
    plain = read(tmp_path, **given)
    same = read(tmp_path, {"size": 8, "channels": 1, "fit": "pad"}, **given)
    assert (same.private.digest(), same.notes) == (plain.private.digest(), ())


def test_a_size_that_no_memory_holds_is_refused_before_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "memory", lambda: 10_000_000)
    given = {"images": images(90, 8, 8, 3), "labels": labels(90)}
    assert len(read(tmp_path, {"size": 32}, **given).private) == 72
    with pytest.raises(
        ValueError, match=r"dataset\.size=224: 90 images take 13\.\d MB: must be le"
    ):
        read(tmp_path, {"size": 224}, **given)


# --- a test set and groups ------------------------------------------------------------------------


def test_another_archive_may_be_the_test_set(tmp_path: Path) -> None:
    own = {"images": images(9, 4, 4), "labels": labels(9)}
    others = {"images": images(3, 4, 4), "labels": labels(3)}
    path = tmp_path / "test.npz"
    np.savez(path, **others)
    named = optional_sha256(str(path))
    source = read(tmp_path, {"test_path": str(path), "test_sha256": named}, **own)
    np.testing.assert_array_equal(source.private.images[:, 0], own["images"])
    np.testing.assert_array_equal(source.test.images[:, 0], others["images"])
    assert optional_sha256(None) is None
    both = {"test_images": others["images"], "test_labels": labels(3)}
    with pytest.raises(ValueError, match=r"test_path=.*: must be left out: .* has a test set"):
        read(tmp_path, {"test_path": str(path)}, **own, **both)
    np.savez(path, images=images(3, 5, 5), labels=labels(3))
    with pytest.raises(ValueError, match=r"test images are \(1, 5, 5\), images \(1, 4, 4\)"):
        read(tmp_path, {"test_path": str(path)}, **own)
    with pytest.raises(ValueError, match=r"test\.npz: changed while the sweep was running"):
        read(tmp_path, {"test_path": str(path), "test_sha256": named}, **own)


@pytest.mark.parametrize("kind", [np.int32, "<U8"])
def test_an_array_says_of_whom_images_are(tmp_path: Path, kind: type | str) -> None:
    whose, others = np.array([7, 7, 12, 12, 9, 9]).astype(kind), np.array([3, 9, 9]).astype(kind)
    given = {"images": images(6, 4, 4), "labels": labels(6), "who": whose}
    given |= {"test_images": images(3, 4, 4), "test_labels": labels(3), "test_who": others}
    source = read(tmp_path, {"groups": "who"}, **given)
    names = source.group_names
    assert names is not None
    assert source.private.groups is not None
    assert source.test.groups is not None
    assert [names[g] for g in source.private.groups] == [str(name) for name in whose]
    assert [names[g] for g in source.test.groups] == [str(name) for name in others]
    assert read(tmp_path, **given).private.groups is None
    with pytest.raises(ValueError, match=r"dataset\.groups=person: must be the name of one of"):
        read(tmp_path, {"groups": "person"}, **given)
    with pytest.raises(ValueError, match=r"groups=who is \(5,\): must be \[6\]"):
        read(tmp_path, {"groups": "who"}, **(given | {"who": whose[:5]}))


# --- names of cells -------------------------------------------------------------------------------


def test_options_that_nobody_sets_name_no_cell_anew(tmp_path: Path, compose: Compose) -> None:
    np.savez(tmp_path / "own.npz", images=np.zeros((6, 8, 8), np.uint8), labels=labels(6))
    np.savez(tmp_path / "test.npz", images=np.ones((6, 8, 8), np.uint8), labels=labels(6))
    path = tmp_path / "own.npz"
    cfg = compose("dataset=npz", f"dataset.path={path}", "canary.num_canaries=2")
    plain = science(cfg)["dataset"]
    old = {"_target_": "npz", "test_rate": 0.2, "sha256": optional_sha256(str(path))}
    assert plain["load"] == old
    assert {"size", "channels", "fit", "groups", "test_path"}.isdisjoint(plain)
    cfg.dataset.test_path = str(tmp_path / "test.npz")
    other = optional_sha256(cfg.dataset.test_path)
    assert science(cfg)["dataset"]["load"] == old | {"test_sha256": other}
    cfg.dataset.test_path, cfg.dataset.size = None, 16
    assert science(cfg)["dataset"]["load"] == old | {"size": 16}
