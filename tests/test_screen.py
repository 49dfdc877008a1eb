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
from synpriv.screen import page, reading, screening, spaces

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


@pytest.mark.parametrize("kind", ["independent", "noise", "constant"])
def test_what_knows_no_private_image_does_not_ring(
    kind: str, digits: tuple[Images, Images, Images]
) -> None:
    private, held_out, others = digits
    noise = np.random.default_rng(2).integers(0, 256, others.shape, dtype=np.uint8)
    release = {"independent": others, "noise": noise, "constant": np.full_like(others, 7)}[kind]
    found = screening.screen(release, private, held_out, **FEW)
    assert found.report["found"] == []
    assert page.verdict(found.report).startswith("no evidence")
    assert all(np.isfinite(values).all() for values in found.statistics.values())


def test_a_holdout_of_another_law_is_named(digits: tuple[Images, Images, Images]) -> None:
    private, held_out, others = digits
    darker = (held_out * 0.8).astype(np.uint8)
    (warning,) = (
        words
        for words in screening.screen(others, private, darker, **FEW | {"rounds": 999}).report[
            "warnings"
        ]
        if "not alike" in words
    )
    assert "p 0.001" in warning


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
    found = screening._above_expected(chosen, is_private)
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
    ({"private": GOOD[:30] / 255.0}, "images are float64 .*: must be uint8|must be uint8"),
    ({"private": {"pictures": GOOD}}, "has no array 'images'"),
    ({"private": {"images": GOOD.astype(object)}}, "images.npy holds Python objects"),
    ({"private": GOOD[:5]}, "5 images: must be 20 or more"),
    ({"private": GOOD[:30, 0]}, r"images are uint8 .30, 6.; must be"),
    ({"synthetic": GOOD[60:, :5, :5]}, r"--synthetic has images .1, 5, 5. and --private .1, 6, 6."),
    ({"holdout": GOOD[20:60]}, "10 of 40 held-out images are private images too"),
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
