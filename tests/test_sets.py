"""Sets that were made elsewhere: of the present split and whole, or refused for all at once."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, Compose
from omegaconf import DictConfig
from PIL import Image

from synpriv.data import sets
from synpriv.data.returned import Wanted
from synpriv.methods.external.precomputed import Precomputed
from synpriv.shadow import export
from synpriv.shadow.accuracy import clean_runs
from synpriv.shadow.check import check
from synpriv.split import main

SMALL = ("dataset.num_train=120", "dataset.num_test=40", "canary.num_canaries=20", "num_models=6")
DIGITS = tuple(map(str, range(10)))
WANTED = Wanted((1, 8, 8), 10)
IMAGES = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)
LABELS = np.arange(20) % 10


@pytest.fixture(scope="module")
def exported(compose: Compose, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six private sets, and noise as the sets that were made of them."""
    folder = tmp_path_factory.mktemp("exported")
    list(export.write(compose(*SMALL), folder, indices=True))
    (folder / "out").mkdir()
    for seed in range(6):
        np.savez(folder / "out" / f"{seed}.npz", images=IMAGES ^ seed, labels=LABELS)
    return folder


@pytest.fixture
def copied(exported: Path, tmp_path: Path) -> Path:
    return shutil.copytree(exported, tmp_path / "sets")


@pytest.fixture
def configured(compose: Compose, tmp_path: Path) -> Callable[..., DictConfig]:
    def make(path: str, *others: str) -> DictConfig:
        own = ("method=precomputed", f"method.path='{path}'", "logger=none")
        return compose(*SMALL, *own, f"results={tmp_path / 'results'}", *others)

    return make


def claims(folder: Path) -> dict[str, str]:
    return sets.splits_in(folder / sets.MANIFEST)


def test_sets_of_the_present_split_pass_and_no_clean_ones_are_asked_for(
    copied: Path, configured: Callable[..., DictConfig]
) -> None:
    cfg = configured(f"{copied}/out/{{seed}}.npz")
    assert check(cfg)["num_private"] == 120
    cfg.canary.num_canaries = 60
    assert clean_runs(cfg) is None


def test_missing_sets_are_named_together(
    copied: Path, configured: Callable[..., DictConfig]
) -> None:
    for seed in (1, 4):
        (copied / "out" / f"{seed}.npz").unlink()
    with pytest.raises(Exception, match="has no set of 2 of 6 shadow models, seeds 1, 4; make"):
        _ = configured(f"{copied}/out/{{seed}}.npz").cell


@pytest.mark.parametrize("other", ["audit_seed=1", "canary=clean", "dataset.num_train=121"])
def test_sets_of_other_private_sets_are_refused_before_a_training(
    other: str, copied: Path, configured: Callable[..., DictConfig]
) -> None:
    cfg = configured(f"{copied}/out/{{seed}}.npz", other)
    with pytest.raises(ValueError, match=r"^method\.path=.*0\.npz was made from another private s"):
        check(cfg)


def test_what_a_set_says_of_itself_counts_more_than_the_manifest(
    copied: Path, configured: Callable[..., DictConfig]
) -> None:
    said = claims(copied)
    for seed, claim in ((2, said["3"]), (3, said["3"])):  # two was made from three's
        file = copied / "out" / f"{seed}.npz"
        np.savez(file, images=IMAGES, labels=LABELS, split_sha256=np.array(claim))
    with pytest.raises(ValueError, match=r"2\.npz was made from .* \(in 1 of 6 shadow models, s"):
        check(configured(f"{copied}/out/{{seed}}.npz"))
    (copied / sets.MANIFEST).unlink()
    with pytest.raises(ValueError, match=r"^method\.path=.*nothing says which private set 0\.npz"):
        check(configured(f"{copied}/out/{{seed}}.npz"))


def test_a_folder_of_images_is_a_set_too(tmp_path: Path) -> None:
    for place, (image, label) in enumerate(zip(IMAGES, LABELS, strict=True)):
        folder = tmp_path / "5" / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(folder / f"{place:02}.png")
    path = f"{tmp_path}/{{seed}}"
    images, labels = sets.read(path, 5, WANTED, DIGITS)
    order = np.argsort(LABELS, kind="stable")
    np.testing.assert_array_equal(images[:, 0], IMAGES[order][..., 0])
    np.testing.assert_array_equal(labels, LABELS[order])
    (tmp_path / "5" / sets.CLAIM).write_text("abc\n")
    sets.check(path, 5, lambda seed: "abc", WANTED, DIGITS)
    with pytest.raises(ValueError, match="5 was made from another private set"):
        sets.check(path, 5, lambda seed: "abcd", WANTED, DIGITS)
    with pytest.raises(ValueError, match=r"folders 9; must be among 0, 1"):
        sets.read(path, 5, WANTED, DIGITS[:9])
    with pytest.raises(ValueError, match="must be images of 7x7 pixels"):
        sets.read(path, 5, Wanted((1, 7, 7), 10), DIGITS)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": IMAGES[:, :7], "labels": LABELS}, r"images are uint8 \[20, 7, 8, 1\]; must"),
        ({"images": IMAGES}, r"has arrays \['images'\]"),
        ({"images": IMAGES.astype(object), "labels": LABELS}, "holds Python objects"),
    ],
)
def test_what_is_no_set_is_refused_by_its_headers(
    arrays: dict, message: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "0.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        sets.check(f"{tmp_path}/{{seed}}.npz", 0, str, WANTED, DIGITS)


def test_a_path_without_a_seed_and_a_damaged_manifest_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^path=x\.npz: must be one set per shadow model, with"):
        sets.place("x.npz", 0)
    for content in ("{", "[]", '{"splits": {"0": {}}}'):
        (tmp_path / sets.MANIFEST).write_text(content)
        with pytest.raises(ValueError, match=r"manifest\.json: cannot be read; must be as"):
            sets.splits_in(tmp_path / sets.MANIFEST)


def test_a_split_is_told_by_images_rows_and_labels() -> None:
    labels, included = np.arange(5), np.array([1, 1, 0, 1, 1], dtype=bool)
    first = sets.split_sha256("a", labels, included)
    assert first == sets.split_sha256("a", labels * [1, 1, 9, 1, 1], included)  # not in it
    assert first != sets.split_sha256("b", labels, included)
    assert first != sets.split_sha256("a", labels * 2, included)
    assert first != sets.split_sha256("a", labels, ~included)


def test_the_content_of_all_sets_names_the_cell(
    copied: Path, configured: Callable[..., DictConfig]
) -> None:
    first = configured(f"{copied}/out/{{seed}}.npz").cell
    moved = copied.rename(copied.with_name("moved"))
    assert configured(f"{moved}/out/{{seed}}.npz").cell == first
    np.savez(moved / "out" / "5.npz", images=IMAGES, labels=LABELS)
    assert configured(f"{moved}/out/{{seed}}.npz").cell != first


def test_sets_that_the_manifest_alone_stands_for_are_said(
    copied: Path, configured: Callable[..., DictConfig]
) -> None:
    cfg = configured(f"{copied}/out/{{seed}}.npz")
    (said,) = [words for words in check(cfg)["warnings"] if words.startswith("method.path")]
    assert said.startswith("method.path: 6 of 6 sets do not say which private set they were made")
    for seed, claim in claims(copied).items():
        file = copied / "out" / f"{seed}.npz"
        np.savez(file, images=IMAGES ^ int(seed), labels=LABELS, split_sha256=np.array(claim))
    told = configured(f"{copied}/out/{{seed}}.npz")
    assert not [words for words in check(told)["warnings"] if words.startswith("method.path")]
    np.savez(copied / "out" / "3.npz", images=IMAGES ^ 3, labels=LABELS)
    path = f"{copied}/out/{{seed}}.npz"
    options = {"path": path, "num_models": 6, "sha256": sets.sets_sha256(path, 6), "model": None}
    for seed, says in ((2, True), (3, False)):
        method = Precomputed(
            class_names=DIGITS, seed=seed, num_classes=10, image_shape=(1, 8, 8), **options
        )
        assert method.metrics()["set"]["says_itself"] is says


def test_a_set_that_changed_since_its_cell_was_named_is_refused(
    copied: Path, configured: Callable[..., DictConfig]
) -> None:
    path = f"{copied}/out/{{seed}}.npz"
    named = sets.sets_sha256(path, 6)
    sets.check_unchanged(path, 6, named)
    np.savez(copied / "out" / "2.npz", images=IMAGES ^ 77, labels=LABELS)
    with pytest.raises(ValueError, match=r"^method\.path=.*changed while the sweep was running"):
        sets.check_unchanged(path, 6, named)
    options = {"path": path, "num_models": 6, "sha256": named, "model": None, "num_classes": 10}
    with pytest.raises(ValueError, match="changed while the sweep was running; start the sweep"):
        Precomputed(class_names=DIGITS, seed=2, image_shape=(1, 8, 8), **options)


def image_folder(folder: Path, *, coloured: bool = False) -> Path:
    """A set as a folder, its grey images stored as RGB."""
    for place, (image, label) in enumerate(zip(IMAGES, LABELS, strict=True)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        rgb = image.repeat(3, 2)
        rgb[0, 0, 1] ^= 255 * coloured
        Image.fromarray(rgb).save(folder / str(label) / f"{place:02}.png")
    (folder / sets.CLAIM).write_text("abc")
    return folder


def test_grey_images_may_be_stored_as_colour_ones_and_coloured_ones_are_refused(
    tmp_path: Path,
) -> None:
    image_folder(tmp_path / "0")
    image_folder(tmp_path / "1", coloured=True)
    path = f"{tmp_path}/{{seed}}"
    sets.check(path, 0, lambda seed: "abc", WANTED, DIGITS)
    images, _ = sets.read(path, 0, WANTED, DIGITS)
    order = np.argsort(LABELS, kind="stable")
    np.testing.assert_array_equal(images[:, 0], IMAGES[order][..., 0])
    with pytest.raises(ValueError, match=r"20 of 20 images are coloured: must be of 1 channel"):
        sets.check(path, 1, lambda seed: "abc", WANTED, DIGITS)
    colour = Wanted((3, 8, 8), 10)
    np.testing.assert_array_equal(sets.read(path, 0, colour, DIGITS)[0], images.repeat(3, 1))
    with pytest.raises(ValueError, match="must be images of 7x7 pixels"):
        sets.check(path, 0, lambda seed: "abc", Wanted((1, 7, 7), 10), DIGITS)


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (["x.png"], "holds 1 images beside the class folders of 0"),
        (["3/notes.txt"], "holds 1 .txt"),
        (["3/split_sha256"], "holds 2 split_sha256"),
    ],
)
def test_what_of_a_folder_would_not_be_read_is_refused(
    places: list[str], message: str, tmp_path: Path
) -> None:
    folder = image_folder(tmp_path / "0")
    for place in places:
        (folder / place).write_bytes(b"")
    with pytest.raises(ValueError, match=f"0: {message}: must be one folder of images per class"):
        sets.check(f"{tmp_path}/{{seed}}", 0, lambda seed: "abc", WANTED, DIGITS)


def test_a_test_set_within_a_set_is_refused(tmp_path: Path) -> None:
    image_folder(tmp_path / "0" / "train")
    image_folder(tmp_path / "0" / "test")
    with pytest.raises(ValueError, match="20 held-out images: must be one folder of images per"):
        sets.read(f"{tmp_path}/{{seed}}", 0, WANTED, DIGITS)


def test_a_wrong_path_begins_with_the_option(tmp_path: Path) -> None:
    for path in ("x.npz", "~nobody_of_that_name/{seed}.npz"):
        with pytest.raises(ValueError, match=r"^method\.path="):
            sets.sets_sha256(path, 6)


# --- python -m synpriv.split ---------------------------------------------------------------------


def test_nothing_that_is_exported_says_who_is_a_canary(exported: Path, compose: Compose) -> None:
    manifest = json.loads((exported / sets.MANIFEST).read_text())
    assert set(manifest) == {"version", "num_classes", "class_names", "image_shape", "splits"}
    assert set(manifest["splits"]["0"]) == {"file", "sha256", "seed", "split_sha256"}
    said = (exported / sets.MANIFEST).read_text() + (exported / "README.md").read_text()
    for word in ("canar", "member", "audit_seed", "mislabel"):
        assert word not in said


def test_more_private_sets_are_added_and_others_are_refused(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {file.name: file.read_bytes() for file in (copied / "in").iterdir()}
    main([*SMALL[:3], "num_models=8", f"--out={copied}", "--indices"])
    assert "8 private sets in" in capsys.readouterr().out
    now = {file.name: file.read_bytes() for file in (copied / "in").iterdir()}
    assert len(now) == 8
    assert {name: now[name] for name in before} == before
    with pytest.raises(ValueError, match="holds the private sets of other options"):
        main([*SMALL, "audit_seed=1", "--out", str(copied)])
    with pytest.raises(ValueError, match="holds 8 private sets; must be another folder for 6"):
        main([*SMALL, "--out", str(copied)])


def test_a_folder_of_sets_that_nothing_tells_apart_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match=r"has a folder out of sets and no manifest\.json"):
        main([*SMALL, "--out", str(tmp_path)])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "^--out: must be followed by"),
        (["--out"], "^--out: must be followed by"),
        (["--out", "x", "-m"], "^-m: no flag of synpriv.split"),
        (["--out", "x", "seed=0..3"], "is a sweep"),
    ],
)
def test_wrong_words_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        main(words)


@pytest.mark.slow  # four processes that import torch
def test_distillation_through_every_door_gives_the_same_evidence(
    compose: Compose, tmp_path: Path
) -> None:
    from test_external import assert_same, distilled, evidence, through_the_door

    generators = ROOT / "tests" / "generators"
    sys.path.insert(0, str(generators))
    import matching

    built_in, options = distilled(compose, tmp_path)
    program = through_the_door(compose, built_in, options)
    program.method.command = (
        f"{sys.executable} {generators / 'matching.py'} {{input}} {{output}} {{seed}} {{options}}"
    )
    assert_same(evidence(built_in), evidence(program))
    list(export.write(compose(*SMALL), tmp_path / "sets", indices=False))
    (tmp_path / "sets" / "out").mkdir()
    for seed in range(6):
        with np.load(tmp_path / "sets" / "in" / f"{seed}.npz", allow_pickle=False) as given:
            own = {"seed": int(given["seed"]), "num_classes": 10, **json.loads(options)}
            images, labels = matching.match(given["images"], given["labels"], **own)
        np.savez(tmp_path / "sets" / "out" / f"{seed}.npz", images=images, labels=labels)
    path = f"method.path='{tmp_path}/sets/out/{{seed}}.npz'"
    made = compose(
        *SMALL, "method=precomputed", path, "model.width=4", "logger=none", "trainer=cpu",
        "accuracy_models=0", f"results={tmp_path}", "seed=1",
    )  # fmt: skip
    made.method.student = built_in.method.student
    assert_same(evidence(built_in), evidence(made))
