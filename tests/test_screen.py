"""A release beside private and held-out images: copies ring, other samples and noise do not."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from synpriv.data import datasets
from synpriv.screen import __main__ as command
from synpriv.screen import page, reading, screening, spaces, units

Images = NDArray[np.uint8]
FEW: dict[str, Any] = {"rounds": 399, "bootstrap_rounds": 20}


@pytest.fixture(scope="module")
def digits() -> tuple[Images, Images, Images]:
    """Private images, a holdout and others, 300 of each."""
    source = datasets.digits()
    assert source.public is not None
    pools = (source.private, source.test, source.public)
    whole = np.concatenate([pool.images for pool in pools])
    whole = whole[np.random.default_rng(0).permutation(len(whole))]
    _, first = np.unique(reading.keys(whole), return_index=True)
    whole = whole[np.sort(first)]
    return whole[:300], whole[300:600], whole[600:900]


def noisy(images: Images, sd: float) -> Images:
    moved = images + np.random.default_rng(1).normal(0, sd, images.shape)
    return moved.clip(0, 255).round().astype(np.uint8)


def test_a_copy_rings_in_every_space(digits: tuple[Images, Images, Images]) -> None:
    private, held_out, _ = digits
    report = screening.screen(private, private, held_out, **FEW).report
    assert report["copies"]["private"] == len(private)
    assert report["copies"]["control"] == 0
    assert {"copies", "nearest", *(f"{name}: auc" for name in screening.MEASURES)} <= set(
        report["found"]
    )
    assert report["measures"]["pixels"]["auc"]["value"] == 1.0
    assert page.verdict(report).startswith("ALARM")


def test_near_copies_of_a_tenth_ring(digits: tuple[Images, Images, Images]) -> None:
    private, held_out, others = digits
    release = np.concatenate([noisy(private[:30], 10), others[30:]])
    report = screening.screen(release, private, held_out, **FEW).report
    assert report["copies"]["private"] == 0
    assert "nearest" in report["found"]


def test_three_copies_are_the_first_line_although_no_test_rings(
    digits: tuple[Images, Images, Images],
) -> None:
    private, held_out, others = digits
    release = np.concatenate([private[:3], others])
    found = screening.screen(release, private, held_out, **FEW)
    assert found.report["found"] == []
    assert page.verdict(found.report).startswith("3 private images are in the release bit for bit")


@pytest.mark.parametrize("kind", ["independent", "noise", "constant"])
def test_what_knows_no_private_image_does_not_ring(
    kind: str, digits: tuple[Images, Images, Images]
) -> None:
    private, held_out, others = digits
    noise = np.random.default_rng(2).integers(0, 256, others.shape, dtype=np.uint8)
    release = {"independent": others, "noise": noise, "constant": np.full_like(others, 7)}[kind]
    found = screening.screen(release, private, held_out, **FEW)
    assert found.report["found"] == []
    assert found.report["nearest_is_of_own_set"] is None
    assert page.verdict(found.report).startswith("no evidence")
    assert all(np.isfinite(values).all() for values in found.statistics.values())


def test_a_holdout_of_another_law_is_named_and_not_judged(
    digits: tuple[Images, Images, Images],
) -> None:
    private, held_out, others = digits
    darker = (held_out * 0.8).astype(np.uint8)
    report = screening.screen(others, private, darker, **FEW | {"rounds": 999}).report
    (warning,) = (words for words in report["warnings"] if "not alike" in words)
    assert "p 0.001" in warning
    assert report["found"]
    assert page.verdict(report).startswith("not judged: the holdout is of another law; what rang:")


def test_the_nearest_image_and_its_distance_are_those_of_a_loop(
    digits: tuple[Images, Images, Images],
) -> None:
    private, held_out, others = (images[:60] for images in digits)
    found = spaces.Pixels(held_out).nearest(private, others)
    for i, image in enumerate(private):
        distances = [np.linalg.norm((image.astype(float) - other) / 255) for other in others]
        assert found.distance[i] == pytest.approx(min(distances))
        assert distances[found.place[i]] == pytest.approx(min(distances))


def test_fisher_s_p_is_the_share_of_all_assignments() -> None:
    chosen = np.array([True, True, True, False, False, False, False])
    is_private = np.array([True, True, False, True, False, False, False])
    counts = [sum(chosen[list(rows)]) for rows in itertools.combinations(range(7), 3)]
    found = units.above_expected(chosen, is_private)
    assert found["p"] == pytest.approx(np.mean(np.array(counts) >= 2))
    assert found["expected_private"] == pytest.approx(np.mean(counts))


@pytest.mark.slow
def test_releases_without_a_leak_ring_as_rarely_as_said() -> None:
    rng, rang, num = np.random.default_rng(3), 0, 150
    for _ in range(num):
        images = rng.normal(100, 40, (3, 60, 1, 4, 4)).clip(0, 255).astype(np.uint8)
        report = screening.screen(*images, rounds=599, bootstrap_rounds=10).report
        rang += bool(report["found"])
    assert rang <= 10  # of 150 at 2.5% are more than 10 in fewer than one of 500 such tests


def save(folder: Path, **sets: Any) -> list[str]:
    argv = []
    for name, images in sets.items():
        np.savez(
            folder / f"{name}.npz", **(images if isinstance(images, dict) else {"images": images})
        )
        argv += [f"--{name}", str(folder / f"{name}.npz")]
    return argv


def test_the_command_writes_what_it_says(
    digits: tuple[Images, Images, Images], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    private, held_out, others = (images[:, 0] for images in digits)
    monkeypatch.setitem(screening.screen.__kwdefaults__, "rounds", 50)
    monkeypatch.setitem(screening.screen.__kwdefaults__, "bootstrap_rounds", 20)
    release = np.concatenate([private[:200], others])
    argv = save(tmp_path, synthetic=release, private=private, holdout=held_out)
    assert command.main([*argv, "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert page.CANNOT in printed
    report = json.loads((tmp_path / "out" / "screen.json").read_bytes())
    assert report["copies"]["private"] == 200
    assert page.verdict(report) in printed
    with np.load(tmp_path / "out" / "screen.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["nearest_private"][:200], np.arange(200))
        assert len(arrays["pixels"]) == len(private) + len(arrays["control_rows"])
    written = (tmp_path / "out" / "screen.md").read_text()
    assert "| pixels |" in written
    assert "screen.png" in written
    assert Image.open(tmp_path / "out" / "screen.png").size[0] > 500


def test_a_folder_reads_as_the_archive_of_its_images(
    digits: tuple[Images, Images, Images], tmp_path: Path
) -> None:
    images = digits[0][:24, 0]
    for i, image in enumerate(images):
        place = tmp_path / "set" / f"class{i // 12}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{i:02d}.png")
    np.testing.assert_array_equal(reading.read(tmp_path / "set", "private")[:, 0], images)
    Image.fromarray(np.zeros((9, 8), np.uint8)).save(tmp_path / "set" / "odd.png")
    with pytest.raises(ValueError, match="images of sizes 8x8, 9x8: must be of one size"):
        reading.read(tmp_path / "set", "private")
    (tmp_path / "set" / "odd.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"1 of 25 images cannot be used: odd\.png"):
        reading.read(tmp_path / "set", "private")


GOOD = np.random.default_rng(0).integers(0, 256, (90, 6, 6), dtype=np.uint8)
BAD = [
    ({"private": GOOD[:30] / 255.0}, r"values 0.*..1; .* write np.rint.images . 255..astype"),
    ({"private": np.full((30, 6, 6), np.nan)}, "1080 values are NaN or infinite: mend or remove"),
    (dict.fromkeys(("private", "holdout", "synthetic"), GOOD[:, :1, :1]), "images of 1x1 pix"),
    ({"private": {"pictures": GOOD}}, "has no array 'images'"),
    ({"private": {"images": GOOD.astype(object)}}, "images.npy holds Python objects"),
    ({"private": GOOD[:5]}, "5 images: must be 20 or more"),
    ({"private": GOOD[:30, 0]}, r"images are uint8 .30, 6.; must be"),
    ({"synthetic": GOOD[60:, :5, :5]}, r"--synthetic has images .1, 5, 5. and --private .1, 6, 6."),
    ({"holdout": GOOD[20:35]}, "15 images: must be 20 or more"),
    ({"holdout": GOOD[5:45]}, "25 of 30 images of --private are in --holdout too, 5 are not"),
    ({"holdout": np.repeat(GOOD[30:33], 10, axis=0)}, "3 distinct images: must be 10 or more"),
    ({"holdout": np.zeros((30, 0, 6), np.uint8)}, "must be uint8"),
]


@pytest.mark.parametrize(("others", "words"), BAD)
def test_hostile_sets_are_one_line_and_nothing_is_written(
    others: dict[str, Any], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = {"private": GOOD[:30], "holdout": GOOD[30:60], "synthetic": GOOD[60:]} | others
    assert command.main([*save(tmp_path, **sets), "--out", str(tmp_path / "out")]) == 1
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    with pytest.raises(ValueError, match=words):
        raise ValueError(line)
    assert not (tmp_path / "out").exists()


def test_a_set_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.npz").write_text("no archive")
    for name, words in (
        ("none", "--holdout .*none: no such file or folder"),
        ("empty", "no images below it"),
        ("text.npz", "not a readable npz"),
    ):
        with pytest.raises(ValueError, match=words):
            reading.read(tmp_path / name, "holdout")


def test_images_of_both_sets_leave_both(digits: tuple[Images, Images, Images]) -> None:
    private, held_out, others = digits
    same = np.stack([np.full_like(private[0], level) for level in range(1, 10)])
    both = [np.concatenate([same, images]) for images in (private, held_out)]
    found = screening.screen(np.concatenate([same, others]), *both, **FEW)
    plain = screening.screen(np.concatenate([same, others]), private, held_out, **FEW)
    assert found.report["num_shared"] == {"private": 9, "holdout": 9}
    assert found.report["found"] == []
    assert found.report["measures"] == plain.report["measures"]
    np.testing.assert_array_equal(found.rows, np.arange(9, 309))
    np.testing.assert_array_equal(found.order, plain.order + 9)
    assert any("9 private and 9 held-out" in line for line in page.lines(found.report))


def people(num: int, each: int, seed: int) -> tuple[Images, NDArray[np.int64]]:
    """Images of so many people, much more alike than those of two."""
    rng = np.random.default_rng(seed)
    faces = rng.normal(128, 40, (num, 1, 1, 6, 6))
    images = (faces + rng.normal(0, 8, (num, each, 1, 6, 6))).clip(0, 255).astype(np.uint8)
    return images.reshape(-1, 1, 6, 6), np.repeat(np.arange(num), each)


def test_several_images_of_a_person_are_one_unit() -> None:
    alone = rang = 0
    for seed in range(3):
        images, person = people(100, 8, seed)
        private, held_out, release = (images[:320], images[320:560], images[560:])
        groups = person[:320], person[320:560] - 40
        report = screening.screen(release, private, held_out, groups, **FEW).report
        assert report["unit"] == "groups"
        assert report["num_units"] == {"private": 40, "control": 15}
        rang += bool(report["found"])
        without = screening.screen(release, private, held_out, **FEW).report
        alone += "ALARM, unless near-copies are of one person" in page.verdict(without)
        assert any("--groups" in words for words in without["warnings"])
    assert rang == 0
    assert alone >= 2  # else this shows nothing
    leak = screening.screen(private[::16], private, held_out, groups, **FEW).report
    assert leak["copies"]["private"] == 20
    assert "copies" in leak["found"]


def test_the_command_judges_by_groups(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(screening.screen.__kwdefaults__, "rounds", 20)
    monkeypatch.setitem(screening.screen.__kwdefaults__, "bootstrap_rounds", 10)
    images, person = people(30, 3, 0)
    named = [{"images": images[i : i + 45, 0], "who": person[i : i + 45]} for i in (0, 45)]
    argv = save(tmp_path, private=named[0], holdout=named[1], synthetic=images[:30, 0])
    assert command.main([*argv, "--groups", "who"]) == 0
    printed = capsys.readouterr().out
    assert "10 of 15 private and 0 of 7 control groups have images that lie in the" in printed
    assert "the images of each of 15 private and 7 control groups" in printed
    assert command.main([*argv, "--groups", "whose"]) == 1
    assert "--groups whose: must be one of its arrays" in capsys.readouterr().err


def test_halves_are_of_whole_groups_and_a_group_is_its_nearest_image() -> None:
    unit = units.numbered(np.array([7, 7, 3, 9, 3, 9, 9, 1, 1, 4]))
    np.testing.assert_array_equal(unit, [0, 0, 1, 2, 1, 2, 2, 3, 3, 4])
    known, control = units.halves(unit)
    assert not set(unit[known]) & set(unit[control])
    assert sorted([*known, *control]) == list(range(10))
    assert [len(set(unit[rows])) for rows in (known, control)] == [3, 2]
    values = np.random.default_rng(0).normal(size=10)
    expected = [max(values[unit == one]) for one in range(5)]
    np.testing.assert_array_equal(units.largest(values, unit), expected)


def test_groups_are_read_from_an_array_and_from_a_level(tmp_path: Path) -> None:
    for kind in range(2):
        for who in "ab":
            place = tmp_path / "set" / str(kind) / who
            place.mkdir(parents=True)
            for i in range(5):
                Image.fromarray(GOOD[i]).save(place / f"{i}.png")
    found = reading.read_groups(tmp_path / "set", "private", "1")
    assert list(found) == 2 * (5 * ["a"] + 5 * ["b"])
    with pytest.raises(ValueError, match="20 images lie in no such folder: 0/a/0"):
        reading.read_groups(tmp_path / "set", "private", "2")
    with pytest.raises(ValueError, match="--groups who: must be how many folders"):
        reading.read_groups(tmp_path / "set", "private", "who")
    save(tmp_path, private={"images": GOOD, "who": np.arange(90)})
    file = tmp_path / "private.npz"
    np.testing.assert_array_equal(reading.read_groups(file, "private", "who"), np.arange(90))
    with pytest.raises(ValueError, match=r"must be one of its arrays \['images', 'who'\]"):
        reading.read_groups(file, "private", "whose")
    with pytest.raises(ValueError, match="1 groups have images in --private and in --holdout: b;"):
        reading.sides(np.array(["a", "b"]), np.array(["b", "c"]), "who")
    mine, others = reading.sides(np.array([5, 6, 5]), np.array([1, 1, 2]), "who")
    assert [*mine, *others] == [0, 1, 0, 2, 2, 3]


@pytest.mark.parametrize("part", [300, 30])
def test_copies_of_private_and_of_held_out_images_are_alike(
    part: int, digits: tuple[Images, Images, Images]
) -> None:
    private, held_out, _ = digits
    release = np.concatenate([private[:part], held_out[:part]])
    found = screening.screen(release, private, held_out, **FEW)
    whole = found.statistics["features"]
    copied = whole == whole.max()
    assert copied.sum() == found.report["copies"]["private"] + found.report["copies"]["control"]
    assert found.report["found"] == []
    assert page.verdict(found.report).startswith("not judged: the release has held-out images")
    assert any("seen the holdout" in words for words in found.report["warnings"])


def test_out_is_checked_first_and_nothing_is_written_by_halves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("kept")
    none = [f"--{name}={tmp_path / 'none'}" for name in ("synthetic", "private", "holdout")]
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        assert command.main([*none, "--out", str(out)]) == 1
        assert "file is a file: must be a folder" in capsys.readouterr().err
    monkeypatch.setitem(screening.screen.__kwdefaults__, "rounds", 20)
    monkeypatch.setitem(screening.screen.__kwdefaults__, "bootstrap_rounds", 10)

    def full(*_: object) -> bytes:
        raise OSError("no room")

    monkeypatch.setattr(page, "png", full)
    argv = save(tmp_path, private=GOOD[:30], holdout=GOOD[30:60], synthetic=GOOD[60:])
    assert command.main([*argv, "--out", str(tmp_path / "out")]) == 1
    assert not (tmp_path / "out").exists()
