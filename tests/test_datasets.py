"""Data sets: what they hold, that they stay the same, and what is said when they are wrong."""

import gzip
import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Compose, positions
from conftest import make_pool as pool
from numpy.typing import NDArray
from PIL import Image

from synpriv.data import datasets
from synpriv.data.content import file_sha256
from synpriv.data.datasets import Source, digits, hold_out
from synpriv.data.images import LabelledImages
from synpriv.data.intake import content_sha256, record, take_in
from synpriv.data.pool import Pool
from synpriv.shadow import pools
from synpriv.shadow.pools import load_pools

# --- digits ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def embedded() -> Source:
    return digits()


def test_digits_are_disjoint_pools_of_fixed_size(embedded: Source) -> None:
    assert embedded.public is not None
    pools = [embedded.private, embedded.public, embedded.test]
    assert [len(each) for each in pools] == [1000, 397, 400]
    assert len({image for each in pools for image in each.hashes()}) == 1797


def test_digits_use_the_whole_range(embedded: Source) -> None:
    assert embedded.private.images.shape[1:] == (1, 8, 8)
    assert embedded.private.images.min() == 0
    assert embedded.private.images.max() == 255


def test_digits_never_change(embedded: Source) -> None:
    # An audit is only repeatable if the pools are: these hashes must never be updated lightly.
    def sha256(labels: NDArray[np.int64]) -> str:
        return hashlib.sha256(labels.tobytes()).hexdigest()[:16]

    assert embedded.public is not None
    assert sha256(embedded.private.labels) == "400cfdedd8a851dc"
    assert sha256(embedded.public.labels) == "512cea60fbab627e"
    assert sha256(embedded.test.labels) == "6b4f19f8d7c46719"
    assert embedded.private.digest().startswith("8c35d535ccbc6d70")


def test_digits_are_those_of_scikit_learn(embedded: Source) -> None:
    from sklearn.datasets import load_digits

    theirs = load_digits()
    order = np.random.default_rng(0).permutation(1797)
    images = np.rint(theirs.images * (255 / 16)).astype(np.uint8)[order, None]
    assert embedded.public is not None
    pools = (embedded.private, embedded.public, embedded.test)
    np.testing.assert_array_equal(np.concatenate([each.images for each in pools]), images)
    labels = np.concatenate([each.labels for each in pools])
    np.testing.assert_array_equal(labels, theirs.target[order])


def test_digits_are_read_even_if_scikit_learn_moves_its_file(
    embedded: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "is_file", lambda file: False)
    assert digits().private.digest() == embedded.private.digest()


# --- held out -------------------------------------------------------------------------------------
def whole(num: int) -> Source:
    return Source(pool(num), pool(num))


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5])
def test_hold_out_takes_the_same_share_of_every_class(rate: float) -> None:
    source = hold_out(whole(160), rate)
    assert np.bincount(source.test.labels).tolist() == [round(40 * rate)] * 4
    assert sorted(positions(source.private) + positions(source.test)) == list(range(160))
    assert positions(source.private) == sorted(positions(source.private))


def test_hold_out_is_seeded_and_mixed() -> None:
    first, again = hold_out(whole(160), 0.2), hold_out(whole(160), 0.2)
    assert positions(first.test) == positions(again.test)
    assert positions(first.test) != list(range(32))
    assert positions(first.test) != list(range(128, 160))


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.2, 20])
def test_impossible_test_shares_are_refused(rate: float) -> None:
    with pytest.raises(ValueError, match=rf"dataset\.test_rate={rate}: must be between 0 and 1"):
        hold_out(whole(20), rate)


def test_hold_out_leaves_every_class_a_private_image() -> None:
    lonely = Pool(pool(9).images, np.array([0] * 4 + [1] * 4 + [7]))
    with pytest.raises(
        ValueError, match=r"dataset\.test_rate=0\.6: leaves class 7 without private"
    ):
        hold_out(Source(lonely, lonely), 0.6)


# --- npz ------------------------------------------------------------------------------------------


def arrays(*shape: int, num_classes: int = 3) -> dict[str, NDArray]:
    images = np.random.default_rng(0).integers(0, 256, size=shape, dtype=np.uint8)
    return {"images": images, "labels": np.arange(shape[0]) % num_classes}


def saved(path: Path, **content: NDArray) -> str:
    np.savez(path / "own.npz", **content)
    return str(path / "own.npz")


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((30, 6, 6), None),
        ((30, 6, 6, 1), (0, 3, 1, 2)),
        ((30, 6, 6, 3), (0, 3, 1, 2)),
        ((30, 1, 6, 6), (0, 1, 2, 3)),
        ((30, 3, 6, 6), (0, 1, 2, 3)),
    ],
)
def test_npz_takes_the_usual_layouts(
    tmp_path: Path, shape: tuple[int, ...], axes: tuple[int, ...] | None
) -> None:
    given = arrays(*shape)
    tests = {"test_images": given["images"][:6], "test_labels": given["labels"][:6]}
    source = datasets.npz(saved(tmp_path, **given, **tests))
    wanted = given["images"][:, None] if axes is None else given["images"].transpose(axes)
    np.testing.assert_array_equal(source.private.images, wanted)
    np.testing.assert_array_equal(source.test.images, wanted[:6])
    assert source.private.labels.tolist() == given["labels"].tolist()
    assert source.public is None


def test_npz_without_test_set_holds_one_out(tmp_path: Path) -> None:
    path = saved(tmp_path, **arrays(30, 4, 4))
    assert len(datasets.npz(path).test) == 6
    source = datasets.npz(path, test_rate=0.5)
    assert np.bincount(source.test.labels).tolist() == [5, 5, 5]
    assert not set(source.private.hashes()) & set(source.test.hashes())


def test_a_test_rate_beside_a_test_set_is_refused(tmp_path: Path) -> None:
    # It was accepted, opened a new cell and changed nothing.
    given = arrays(30, 4, 4)
    path = saved(tmp_path, **given, test_images=given["images"], test_labels=given["labels"])
    datasets.npz(path, test_rate=0.2)
    with pytest.raises(ValueError, match=r"^dataset\.test_rate=0\.3: must be left out: "):
        datasets.npz(path, test_rate=0.3)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64])
def test_npz_labels_of_any_integer_type(tmp_path: Path, dtype: type) -> None:
    given = arrays(30, 4, 4)
    given["labels"] = given["labels"].astype(dtype)
    assert datasets.npz(saved(tmp_path, **given)).private.labels.dtype == np.int64


def test_npz_path_may_start_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    saved(tmp_path, **arrays(30, 4, 4))
    assert len(datasets.npz("~/own.npz").private) == 24


WRONG = {
    "float images": ({"images": np.zeros((4, 8, 8))}, r"float64 \(4, 8, 8\), values 0\.\.0; must"),
    "flat images": (
        {"images": np.zeros((4, 64), np.uint8)},
        r"images are uint8 \(4, 64\); must be uint8 \[N,H,W\]",
    ),
    "too few labels": ({"labels": np.arange(3)}, r"labels are int64 \(3,\); must be integers \[4"),
    "one-hot labels": ({"labels": np.eye(4, dtype=int)}, r"labels are int64 \(4, 4\); must be"),
    "one label": ({"labels": np.array(3)}, r"labels are int64 \(\); must be integers \[4\]"),
    "float labels": ({"labels": np.zeros(4)}, r"labels are float64 \(4,\); must be integers"),
    "negative label": ({"labels": np.arange(4) - 1}, r"label -1 is negative; labels are 0 or more"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arrays_are_named_with_their_file(tmp_path: Path, case: str) -> None:
    change, message = WRONG[case]
    good = {"images": np.zeros((4, 8, 8), np.uint8), "labels": np.arange(4)}
    path = saved(tmp_path, **(good | change))
    with pytest.raises(ValueError, match=re.escape(path) + ".*" + message):
        datasets.npz(path)


def test_wrong_test_arrays_are_refused_too(tmp_path: Path) -> None:
    given = arrays(6, 4, 4)
    path = saved(tmp_path, **given, test_images=given["images"], test_labels=given["labels"][:5])
    with pytest.raises(ValueError, match=r"must be integers \[6\]"):
        datasets.npz(path)


def test_wrong_names_of_arrays_are_listed(tmp_path: Path) -> None:
    path = saved(tmp_path, x=np.zeros(3), images=np.zeros(3))
    with pytest.raises(ValueError, match=r"has arrays \['images', 'x'\]; needs 'images' and"):
        datasets.npz(path)


def test_pickled_archives_are_refused(tmp_path: Path) -> None:
    # Unpickling a stranger's file runs their code.
    path = saved(tmp_path, images=np.array([{"a": 1}], dtype=object), labels=np.arange(1))
    with pytest.raises(ValueError, match="not a readable npz archive"):
        datasets.npz(path)


def test_files_that_are_no_archive_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("hello")
    for name in ("text.npz", "absent.npz"):
        with pytest.raises(ValueError, match=f"{name}: not a readable npz archive"):
            datasets.npz(str(tmp_path / name))


def test_a_truncated_archive_is_refused(tmp_path: Path) -> None:
    path = Path(saved(tmp_path, **arrays(30, 4, 4)))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="not a readable npz archive"):
        datasets.npz(str(path))


def test_a_single_npy_array_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.zeros((4, 8, 8), np.uint8))
    with pytest.raises(ValueError, match=r"one\.npy"):
        datasets.npz(str(tmp_path / "one.npy"))


def test_an_npz_that_changed_since_it_was_named_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, **arrays(30, 4, 4))
    named = file_sha256(path)
    assert named == hashlib.sha256(Path(path).read_bytes()).hexdigest()
    datasets.npz(path, sha256=named)
    saved(tmp_path, **arrays(33, 4, 4))
    with pytest.raises(ValueError, match="changed while the sweep was running"):
        datasets.npz(path, sha256=named)


def test_arrays_that_are_not_read_are_said(tmp_path: Path) -> None:
    given = arrays(30, 4, 4)
    path = saved(tmp_path, **given, x_test=given["images"], y_test=given["labels"])
    assert datasets.npz(path).notes == ("arrays left out: x_test, y_test",)
    assert datasets.npz(saved(tmp_path, **given)).notes == ()


# --- torchvision ----------------------------------------------------------------------------------


def idx(path: Path, values: NDArray[np.uint8]) -> None:
    """The format of MNIST's files."""
    header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, dtype=">i4").tobytes()
    with gzip.open(path.with_suffix(".gz"), "wb") as stream:
        stream.write(header + values.tobytes())
    path.write_bytes(header + values.tobytes())


def test_damaged_files_of_torchvision_are_one_line(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (raw / f"{part}-{kind}-ubyte").write_bytes(b"\0\0")  # an assert without a message
    with pytest.raises(ValueError, match=r"MNIST: no data in .* damaged .*\(AssertionError\)"):
        datasets.from_torchvision("MNIST", root=str(tmp_path), download=False)


def test_torchvision_files_are_read_from_their_folder(tmp_path: Path) -> None:
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part, num in (("train", 12), ("t10k", 6)):
        images = rng.integers(0, 256, size=(num, 28, 28), dtype=np.uint8)
        idx(raw / f"{part}-images-idx3-ubyte", images)
        idx(raw / f"{part}-labels-idx1-ubyte", (np.arange(num) % 3).astype(np.uint8))
    source = datasets.from_torchvision("FashionMNIST", root=str(tmp_path), download=False)
    assert source.private.images.shape == (12, 1, 28, 28)
    assert source.test.labels.tolist() == [0, 1, 2, 0, 1, 2]
    np.testing.assert_array_equal(source.test.images[:, 0], images)


def fashion(root: Path, seed: int) -> Path:
    """28x28 files of the same size whatever the seed, as torchvision leaves them."""
    images = np.random.default_rng(seed).integers(0, 256, (60, 1, 28, 28), dtype=np.uint8)
    whole = Pool(images, np.arange(60) % 3)
    as_torchvision(root, whole[np.arange(40)], whole[np.arange(40, 60)])
    return root


def test_pools_are_kept_read_only_and_equal_to_fresh_ones_until_a_file_changes(
    tmp_path: Path, compose: Compose
) -> None:
    words = ["dataset=fashion_mnist", f"dataset.root={fashion(tmp_path, 0)}", "model=convnet"]
    cfg = compose(*words)
    kept = load_pools(cfg)
    assert load_pools(compose(*words, "seed=1")) is kept
    with pytest.raises(ValueError, match="read-only"):
        kept.private.images[0] = 0
    torch_owned = LabelledImages.of(kept.private)
    torch_owned.images[0] = 0  # a job's own
    pools._load.cache_clear()
    fresh = load_pools(cfg)
    assert fresh is not kept
    assert content_sha256(fresh) == content_sha256(kept)
    file = tmp_path / "FashionMNIST" / "raw" / "t10k-labels-idx1-ubyte"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + b"\0")
    assert content[-1:] != b"\0"
    changed = load_pools(cfg)
    assert changed.test.labels[-1] == 0 != kept.test.labels[-1]
    fashion(tmp_path, 1)  # other images of the same size
    assert content_sha256(load_pools(cfg)) != content_sha256(changed)


def test_files_that_are_there_are_read_without_a_lock(tmp_path: Path) -> None:
    datasets.from_torchvision("FashionMNIST", root=str(fashion(tmp_path, 0)), download=True)
    assert [file.name for file in tmp_path.iterdir()] == ["FashionMNIST"]


@pytest.mark.parametrize("dataset", ["CIFAR10", "FashionMNIST", "SVHN"])
@pytest.mark.parametrize("exists", [True, False])
def test_missing_data_names_the_absolute_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: str, exists: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    if exists:
        (tmp_path / "here").mkdir()
    message = f"{dataset}: no data in {re.escape(str(tmp_path / 'here'))} .*dataset.download"
    with pytest.raises(ValueError, match=message):
        datasets.from_torchvision(dataset, root="here", download=False)
    assert (tmp_path / "here").exists() == exists  # nothing is made for a mistyped folder


# --- all readers ---------------------------------------------------------------------------------


def as_npz(root: Path, private: Pool, test: Pool) -> Source:
    np.savez(
        root / "own.npz",
        images=private.images[:, 0],
        labels=private.labels,
        test_images=test.images[:, 0],
        test_labels=test.labels,
    )
    return datasets.npz(str(root / "own.npz"))


def as_folder(root: Path, private: Pool, test: Pool) -> Source:
    for part, whole in (("train", private), ("test", test)):
        for i, (image, label) in enumerate(zip(whole.images[:, 0], whole.labels, strict=True)):
            file = root / "own" / part / str(label) / f"{i:03}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(file)
    return datasets.folder(str(root / "own"), size=28, channels=1)


def as_torchvision(root: Path, private: Pool, test: Pool) -> Source:
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for part, whole in (("train", private), ("t10k", test)):
        idx(raw / f"{part}-images-idx3-ubyte", whole.images[:, 0])
        idx(raw / f"{part}-labels-idx1-ubyte", whole.labels.astype(np.uint8))
    return datasets.from_torchvision("FashionMNIST", root=str(root), download=False)


@pytest.mark.parametrize("reader", [as_npz, as_folder, as_torchvision])
def test_every_reader_meets_the_same_checks(
    tmp_path: Path, reader: Callable[[Path, Pool, Pool], Source]
) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 1, 28, 28), dtype=np.uint8)
    images[30:33] = images[:3]  # copies inside the private set
    images[3] = 9  # of one colour
    labels = np.repeat([2, 5, 200], [14, 13, 13])  # gaps
    test = Pool(np.concatenate([images[5:7], images[33:]]), labels[[5, 6, *range(33, 40)]])
    pools = take_in(reader(tmp_path, Pool(images[:33], labels[:33]), test))
    assert pools.class_names == ("2", "5", "200") or pools.class_names == ("2", "200", "5")
    seen = record(pools)
    assert sorted(seen["class_sizes"]) == [6, 13, 14]
    assert seen["num_test"] == 7
    assert seen["num_duplicates"] == 6
    assert [warning[:2] for warning in seen["warnings"]] == ["2 ", "6 ", "1 "]
