"""A user's folder: what counts, of which class it is, how it becomes pixels, what is refused."""

import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from synpriv.data import datasets
from synpriv.data.content import file_sha256, folder_sha256
from synpriv.data.datasets import Source
from synpriv.data.folder import listing


def picture(file: Path, colour: tuple[int, int, int] = (1, 2, 3), *, size: int = 6) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (size, size), colour).save(file)


def drawn(
    root: Path, num: int = 5, *, names: str = "cat dog", start: int = 0, size: int = 6
) -> None:
    """A folder of `num` one-coloured PNG files per class: red says the class, green which file."""
    for name in names.split():
        for i in range(num):
            picture(root / name / f"{i}.png", (ord(name[0]), start + i, 7), size=size)


def folder(root: Path, **options: object) -> Source:
    return datasets.folder(str(root), **({"size": 4} | options))  # type: ignore[arg-type]


def content(source: Source) -> tuple[list[str], list[str]]:
    """Images and names of their classes, of the private and of the test set."""
    assert source.class_names is not None
    names = source.class_names
    sets = [
        [f"{hash_} {names[label]}" for hash_, label in zip(p.hashes(), p.labels, strict=True)]
        for p in (source.private, source.test)
    ]
    return sets[0], sets[1]


# --- what counts ---------------------------------------------------------------------------------


def test_classes_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    drawn(tmp_path)
    source = folder(tmp_path)
    assert source.private.images.shape == (8, 3, 4, 4)
    assert source.private.labels.tolist() == [0] * 4 + [1] * 4
    assert source.test.labels.tolist() == [0, 1]
    assert source.class_names == ("cat", "dog")
    for part in (source.private, source.test):  # colours, not their order, survived the resizing
        names = [ord("cd"[label]) for label in part.labels]
        assert part.images[:, 0, 0, 0].tolist() == names
        assert (part.images[:, 2] == 7).all()


def test_class_folders_that_are_links_are_hashed_and_read(tmp_path: Path) -> None:
    # They hashed to nothing: a second data set got the first one's report.
    hashes = []
    for name in ("a", "b"):
        drawn(tmp_path / f"store_{name}", start=100 * (name == "b"))
        (tmp_path / name).mkdir()
        for label in ("cat", "dog"):
            (tmp_path / name / label).symlink_to(tmp_path / f"store_{name}" / label)
        assert content(folder(tmp_path / name)) == content(folder(tmp_path / f"store_{name}"))
        assert folder_sha256(str(tmp_path / name)) == folder_sha256(str(tmp_path / f"store_{name}"))
        hashes.append(folder_sha256(str(tmp_path / name)))
    assert hashes[0] != hashes[1]


@pytest.mark.parametrize(
    "name",
    [".DS_Store", "cat/.DS_Store", "cat/.0.png", ".cache/a.png", ".git/x/0.png", "cat/Thumbs.db"],
)
def test_hidden_and_other_files_change_nothing(tmp_path: Path, name: str) -> None:
    # A .DS_Store trained everything again.
    drawn(tmp_path)
    before, named = content(folder(tmp_path)), folder_sha256(str(tmp_path))
    (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
    (tmp_path / name).write_bytes(b"nothing")
    assert content(folder(tmp_path)) == before
    assert folder_sha256(str(tmp_path)) == named


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    drawn(tmp_path)
    (tmp_path / "cat" / "notes.txt").write_text("x")
    (tmp_path / "dog" / "a.mp4").write_text("x")
    picture(tmp_path / "overview.png")
    (note,) = [note for note in folder(tmp_path, size=6).notes if "left out" in note]
    assert note == f"left out: 1 .mp4, 1 .txt, 1 images beside the class folders of {tmp_path.name}"


def test_images_deeper_in_a_class_folder_count_to_the_class(tmp_path: Path) -> None:
    drawn(tmp_path)
    picture(tmp_path / "cat" / "more" / "9.PNG", (99, 99, 7))
    assert len(listing(tmp_path).private) == 11
    assert {f.label for f in listing(tmp_path).private if f.path.name == "9.PNG"} == {"cat"}


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    drawn(tmp_path)
    (tmp_path / "cat" / "up").symlink_to(tmp_path)
    with pytest.raises(ValueError, match=r"cat/up\S*: links lead in a circle; remove the link"):
        folder_sha256(str(tmp_path))


def test_a_broken_link_is_named(tmp_path: Path) -> None:
    drawn(tmp_path)
    (tmp_path / "cat" / "7.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "dog" / "8.png").symlink_to(tmp_path / "gone.png")
    for read in (folder, lambda root: folder_sha256(str(root))):
        with pytest.raises(ValueError, match=r"2 of 12 images cannot be used: cat/7\.png.* dog/8"):
            read(tmp_path)


NAMES = st.sampled_from(
    ["a.png", "b.png", "B.PNG", "c.jpg", ".d.png", "e.txt", "f/g.png", ".h/i.png"]
)
TREE = st.dictionaries(
    st.tuples(st.sampled_from(["cat", "dog", "ox", ".git"]), NAMES),
    st.tuples(st.integers(0, 3), st.booleans()),  # which picture, whether as a link
    min_size=1,
    max_size=8,
)


def grow(root: Path, tree: dict, pictures: Path) -> None:
    for (label, name), (which, link) in tree.items():
        file, source = root / label / name, pictures / f"{which}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        if link:
            file.symlink_to(source)
        else:
            shutil.copyfile(source, file)


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(first=TREE, second=TREE, change=st.sampled_from(["links", "one", "other"]), data=st.data())
def test_hashes_are_equal_if_and_only_if_images_and_labels_read_are(
    tmp_path_factory: pytest.TempPathFactory,
    first: dict,
    second: dict,
    change: str,
    data: st.DataObject,
) -> None:
    root = tmp_path_factory.mktemp("trees")
    for which in range(4):
        picture(root / "pictures" / f"{which}.png", (60 * which, 0, 0))
    if change == "links":  # the same pictures another way, and hidden ones beside them
        second = {key: (which, not link) for key, (which, link) in first.items()}
        second[".hidden", "a.png"] = second[min(first)[0], ".DS_Store"] = (0, False)
    if change == "one":
        second = dict(first)
        key = data.draw(st.sampled_from(sorted(first)))
        second[key] = data.draw(st.tuples(st.integers(0, 3), st.booleans()))
    seen = []
    for name, tree in (("a", first), ("b", second)):
        grow(root / name, tree, root / "pictures")
        seen.append(_seen(root / name))
    (hash_a, read_a), (hash_b, read_b) = seen
    assert (hash_a == hash_b) == (read_a == read_b)
    assert hash_a == hash_b or change != "links"


def _seen(root: Path) -> tuple[str, object]:
    """Hash, and what is read; a folder that is refused has neither, but in the same words."""
    try:
        named = folder_sha256(str(root))
    except ValueError as error:
        with pytest.raises(ValueError, match=r"."):
            listing(root)
        return (words := str(error).replace(str(root), "")), words
    found = listing(root).private
    pixels = [np.asarray(Image.open(file.path)).tobytes() for file in found]
    return named, [(file.label, image) for file, image in zip(found, pixels, strict=True)]


# --- splits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("held_out", ["test", "val", "valid", "validation", "Test", "testing"])
def test_train_beside_a_held_out_folder_is_not_two_classes(tmp_path: Path, held_out: str) -> None:
    # train and val were read as two classes: AUC .54 where the right reading gives .84.
    drawn(tmp_path / "train", 5)
    drawn(tmp_path / held_out, 3, start=50)
    source = folder(tmp_path)
    assert (len(source.private), len(source.test)) == (10, 6)
    assert source.class_names == ("cat", "dog")
    assert source.test.images[:, 1, 0, 0].tolist() == [50, 51, 52] * 2


def test_test_is_taken_before_val_and_that_is_said(tmp_path: Path) -> None:
    drawn(tmp_path / "train")
    drawn(tmp_path / "val", start=50)
    drawn(tmp_path / "test", 2, start=100)
    source = folder(tmp_path)
    assert source.test.images[:, 1, 0, 0].tolist() == [100, 101] * 2
    assert "left out: folder val" in source.notes


def test_train_alone_is_the_private_set_with_a_share_held_out(tmp_path: Path) -> None:
    drawn(tmp_path / "train")
    source = folder(tmp_path)
    assert source.class_names == ("cat", "dog")
    assert (len(source.private), len(source.test)) == (8, 2)


def test_a_class_missing_in_test_shifts_no_label(tmp_path: Path) -> None:
    # Later labels were shifted: accuracy .07 instead of .72.
    drawn(tmp_path / "train", names="ant bee cat")
    drawn(tmp_path / "test", 2, names="ant cat")
    source = folder(tmp_path)
    assert source.test.labels.tolist() == [0, 0, 2, 2]
    assert source.test.images[:, 0, 0, 0].tolist() == [ord("a")] * 2 + [ord("c")] * 2


def test_a_class_of_test_that_train_lacks_is_refused(tmp_path: Path) -> None:
    drawn(tmp_path / "train", names="ant bee")
    drawn(tmp_path / "test", names="ant wasp")
    with pytest.raises(ValueError, match="test: has classes wasp that train has not; must be"):
        folder(tmp_path)


@pytest.mark.parametrize("names", ["cat dog test", "train cat val", "val test", "cat val"])
def test_mixtures_of_classes_and_splits_are_refused(tmp_path: Path, names: str) -> None:
    for name in names.split():
        drawn(tmp_path / name)
    with pytest.raises(ValueError, match="a mixture of classes and of train and test"):
        folder(tmp_path)


def test_two_held_out_folders_of_a_kind_are_refused(tmp_path: Path) -> None:
    for name in ("train", "val", "validation"):
        drawn(tmp_path / name)
    with pytest.raises(ValueError, match="val and validation are both held out"):
        folder(tmp_path)


def test_trains_may_be_a_class_beside_buses(tmp_path: Path) -> None:
    drawn(tmp_path, names="bus train")
    assert folder(tmp_path).class_names == ("bus", "train")


# --- the wrong level -----------------------------------------------------------------------------


def test_a_folder_one_level_too_high_gets_a_hint(tmp_path: Path) -> None:
    drawn(tmp_path / "photos")
    with pytest.raises(ValueError, match=r"one level too high\? try .*/photos$"):
        folder(tmp_path)
    drawn(tmp_path / "more", names="cat horse")
    picture(tmp_path / "photos" / "preview.png")  # a stray one
    with pytest.raises(ValueError, match=r"folders more, photos share sub-folders cat: one level"):
        folder(tmp_path)


def test_splits_inside_classes_are_refused(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        drawn(tmp_path / label, names="train test")
    with pytest.raises(ValueError, match="share sub-folders test, train: one level too"):
        folder(tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        *("train_set test_set", "trainset testset", "train2017 val2017", "X_train X_test", "tr te"),
        *("training_set test_set", "train test_images", "Training-Data Testing-Data"),
    ],
)
def test_splits_that_are_spelt_oddly_are_refused(tmp_path: Path, names: str) -> None:
    # They were read as two classes.
    for name in names.split():
        drawn(tmp_path / name)
    with pytest.raises(ValueError, match="look like a training and a test set; must be called"):
        folder(tmp_path)


def test_a_test_set_may_lack_all_classes_but_one_and_not_all(tmp_path: Path) -> None:
    drawn(tmp_path / "train")
    drawn(tmp_path / "test", names="dog", start=50)
    assert folder(tmp_path).test.labels.tolist() == [1] * 5
    shutil.rmtree(tmp_path / "test")
    picture(tmp_path / "test" / "1.png")
    with pytest.raises(ValueError, match="test: images without class folders: must be in those"):
        folder(tmp_path)


def test_a_split_beside_the_folder_that_is_read_is_said(tmp_path: Path) -> None:
    drawn(tmp_path / "train", size=4)
    drawn(tmp_path / "val")
    assert listing(tmp_path / "train").left_out == ("folder val beside train",)


def test_a_decoder_s_own_error_does_not_hide_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # 36 pixels are a "bomb" then
    with pytest.raises(ValueError, match=r"10 of 10 images cannot be used: cat/0\.png"):
        folder(tmp_path)


def test_an_image_bomb_that_pillow_only_warns_of_is_refused_without_its_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)  # of 36, below twice that: a warning
    with warnings.catch_warnings(record=True) as said, pytest.raises(ValueError) as error:  # noqa: PT011
        folder(tmp_path)
    assert "cat/0.png (36 pixels, more than 30)" in str(error.value)
    assert not said


def test_a_link_to_itself_is_named_with_the_images(tmp_path: Path) -> None:
    drawn(tmp_path)
    (tmp_path / "cat" / "loop.png").symlink_to("loop.png")
    with pytest.raises(ValueError, match=r"1 of 11 images cannot be used: cat/loop\.png"):
        folder_sha256(str(tmp_path))


def test_an_empty_file_is_named_once(tmp_path: Path) -> None:
    drawn(tmp_path)
    (tmp_path / "cat" / "none.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r": cat/none\.png \(cannot identify image file\); mend"):
        folder(tmp_path)


def test_a_class_name_that_is_no_utf_8_is_refused_and_a_file_s_is_not(tmp_path: Path) -> None:
    drawn(tmp_path)
    known = folder_sha256(str(tmp_path))
    os.rename(tmp_path / "cat" / "4.png", os.fsencode(tmp_path / "cat") + b"/4\xe9.png")
    assert folder_sha256(str(tmp_path)) == known
    os.rename(tmp_path / "cat", os.fsencode(tmp_path) + b"/caf\xe9")
    with pytest.raises(ValueError, match=r"class folder b'caf\\xe9': must have a UTF-8 name"):
        folder_sha256(str(tmp_path))


def test_a_path_that_is_no_word_is_refused() -> None:
    with pytest.raises(ValueError, match="path=None: must be the name of a folder"):
        folder_sha256(None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="path=3: must be the name of an npz archive"):
        file_sha256(3)  # type: ignore[arg-type]


def test_a_folder_one_level_too_low_gets_a_hint(tmp_path: Path) -> None:
    drawn(tmp_path)
    with pytest.raises(ValueError, match=rf"no folder per class; .* too low\? try {tmp_path}$"):
        folder(tmp_path / "cat")


def test_wrong_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{tmp_path}/absent: no such folder; it must hold one"):
        folder(tmp_path / "absent")
    with pytest.raises(ValueError, match="no images in it; must hold one folder of images per"):
        folder(tmp_path)
    drawn(tmp_path, names="cat")
    with pytest.raises(ValueError, match="holds one class, cat; an audit needs two or more"):
        folder(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="class folders without an image: empty: must be filled"):
        folder(tmp_path)


# --- pixels --------------------------------------------------------------------------------------


def read_one(tmp_path: Path, image: Image.Image, name: str = "x.png", **options: object) -> NDArray:
    """Pixels [ch,H,W] of an image as it is read from a class folder."""
    drawn(tmp_path)
    (tmp_path / "ant").mkdir()
    image.save(tmp_path / "ant" / name)
    image.save(tmp_path / "ant" / f"copy_{name}")
    source = folder(tmp_path, **({"test_rate": 0.4, "size": image.size[0]} | options))
    return source.private.images[source.private.labels == 0][0]


@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.pgm"])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_images_are_scaled_not_white(tmp_path: Path, name: str, channels: int) -> None:
    deep = np.arange(0, 65536, 4096, dtype=np.uint16).reshape(4, 4)
    pixels = read_one(tmp_path, Image.fromarray(deep), name, channels=channels)
    expected = np.rint(deep / 65535 * 255)
    np.testing.assert_array_equal(pixels, np.broadcast_to(expected, (channels, 4, 4)))


def test_orientation_is_honoured(tmp_path: Path) -> None:
    lying = np.zeros((4, 4, 3), np.uint8)
    lying[0] = 200  # a bright upper row; orientation 6: turn clockwise to view
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(lying)
    drawn(tmp_path)
    (tmp_path / "ant").mkdir()
    for name in ("a.png", "b.png"):
        image.save(tmp_path / "ant" / name, exif=exif)
    source = folder(tmp_path, test_rate=0.4)
    pixels = source.private.images[0]
    assert (pixels[:, :, 3] == 200).all()
    assert (pixels[:, :, :3] == 0).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_laid_on_white(tmp_path: Path, mode: str) -> None:
    rgba = np.zeros((4, 4, 4), np.uint8)  # black, transparent but for one opaque and one half pixel
    rgba[0, 0, 3], rgba[0, 1, 3] = 255, 128
    image = Image.fromarray(rgba, "RGBA")
    if mode == "LA":
        image = image.convert("LA")
    if mode == "P":
        image = Image.fromarray(np.array([[1, 0], [0, 0]], np.uint8), "P")
        image.putpalette([9, 9, 9, 0, 0, 0])
        image.info["transparency"] = 0
    pixels = read_one(tmp_path, image)
    assert pixels[0, 0, 0] == 0
    assert pixels[0, -1, -1] == 255
    if mode != "P":
        assert pixels[0, 0, 1] == 127


def test_bits_palettes_and_print_colours_are_converted(tmp_path: Path) -> None:
    bits = Image.fromarray(np.eye(4, dtype=bool))
    assert read_one(tmp_path, bits)[0].tolist() == (255 * np.eye(4)).tolist()


@pytest.mark.parametrize(
    ("values", "name", "why"),
    [
        (np.ones((4, 4), np.float32), "x.tif", "pixels of mode F"),
        (np.full((4, 4), 70000, np.int32), "x.tif", "pixels of mode I"),
    ],
)
def test_pixels_without_one_meaning_are_refused(
    tmp_path: Path, values: NDArray, name: str, why: str
) -> None:
    with pytest.raises(ValueError, match=rf"2 of 12 images .*: ant/copy_{name} \({why}"):
        read_one(tmp_path, Image.fromarray(values), name)


def test_moving_pictures_are_refused(tmp_path: Path) -> None:
    drawn(tmp_path)
    frames = [Image.new("L", (4, 4), grey) for grey in (0, 90)]
    frames[0].save(tmp_path / "cat" / "x.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match=r"cat/x\.gif \(2 frames\)"):
        folder(tmp_path)


def test_all_unreadable_images_are_named_at_once(tmp_path: Path) -> None:
    drawn(tmp_path, 20)
    whole = (tmp_path / "cat" / "3.png").read_bytes()
    (tmp_path / "cat" / "3.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "cat" / "4.png").write_bytes(b"")
    for i in range(12):
        (tmp_path / "dog" / f"{i}.png").write_text("<html>")
    with pytest.raises(ValueError, match=r"14 of 40 images cannot be used") as caught:
        folder(tmp_path)
    words = str(caught.value)
    assert "\n" not in words
    assert "cat/3.png" in words
    assert "cat/4.png" in words
    assert words.endswith("and 4 more; mend or remove them")


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_resizing_keeps_the_aspect_by_choice_and_is_said(tmp_path: Path, fit: str) -> None:
    wide = np.zeros((4, 8, 3), np.uint8)
    wide[:, :2], wide[:, 2:6], wide[:, 6:] = 50, 100, 200
    drawn(tmp_path)
    (tmp_path / "ant").mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(wide).save(tmp_path / "ant" / name)
    source = folder(tmp_path, test_rate=0.4, fit=fit)
    row = source.private.images[0, 0, 1].tolist()
    if fit == "crop":
        assert row == [100] * 4
    else:
        assert row[0] < 100 < row[-1]
    top = source.private.images[0, 0, 0]
    assert (top == 0).all() == (fit == "pad")
    words = {"stretch": "stretched", "crop": "cropped to the middle and scaled", "pad": "padded"}
    assert f"images of 6x6 to 8x4 {words[fit]} to 4x4" in source.notes
    with pytest.raises(ValueError, match=r"dataset\.fit=squeeze: must be one of stretch, crop"):
        folder(tmp_path, fit="squeeze")


def test_images_of_the_right_size_need_no_word(tmp_path: Path) -> None:
    drawn(tmp_path)
    assert folder(tmp_path, size=6).notes == ()
    assert folder(tmp_path, size=3).notes == ("images of 6x6 scaled to 3x3",)


def test_channels_are_one_or_three(tmp_path: Path) -> None:
    drawn(tmp_path)
    assert folder(tmp_path, channels=1).private.images.shape == (8, 1, 4, 4)
    with pytest.raises(ValueError, match=r"dataset\.channels=2: must be 1 or 3"):
        folder(tmp_path, channels=2)


# --- content -------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["content", "class", "file"])
def test_a_folder_that_changed_since_it_was_named_is_refused(tmp_path: Path, change: str) -> None:
    drawn(tmp_path)
    named = folder_sha256(str(tmp_path))
    folder(tmp_path, sha256=named)
    if change == "content":
        picture(tmp_path / "cat" / "0.png", (9, 9, 9))
    elif change == "class":
        (tmp_path / "cat" / "0.png").rename(tmp_path / "dog" / "9.png")
    else:
        picture(tmp_path / "cat" / "9.png")
    with pytest.raises(ValueError, match="changed while the sweep was running"):
        folder(tmp_path, sha256=named)


def test_a_file_replaced_at_the_same_size_and_time_is_seen(tmp_path: Path) -> None:
    drawn(tmp_path)
    file = tmp_path / "cat" / "0.png"
    named, status = folder_sha256(str(tmp_path)), file.stat()
    other = tmp_path / "new.png"
    picture(other, (98, 0, 7))
    assert other.stat().st_size == status.st_size
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(file)
    assert folder_sha256(str(tmp_path)) != named
