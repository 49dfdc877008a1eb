"""Data sets: what they hold, that they stay the same, and what is said when they are wrong."""

import gzip
import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from synpriv.data import datasets
from synpriv.data.content import file_sha256, folder_sha256
from synpriv.data.datasets import Source, class_balanced, digits, hold_out, with_public
from synpriv.data.images import LabelledImages


def pool(num: int, *, num_classes: int = 4, start: int = 0, size: int = 2) -> LabelledImages:
    """Distinct images whose pixels count up from `start`."""
    images = torch.arange(start, start + num, dtype=torch.uint8).view(-1, 1, 1, 1)
    return LabelledImages(
        images.expand(-1, 1, size, size).contiguous(), torch.arange(num) % num_classes
    )


def positions(data: LabelledImages) -> list[int]:
    return data.images[:, 0, 0, 0].tolist()


# --- digits --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def embedded() -> Source:
    return digits()


def test_digits_are_disjoint_pools_of_fixed_size(embedded: Source) -> None:
    assert embedded.public is not None
    pools = [embedded.private, embedded.public, embedded.test]
    assert [len(each) for each in pools] == [1000, 397, 400]
    assert len({image for each in pools for image in each.hashes()}) == 1797
    assert embedded.num_classes == 10


def test_digits_use_the_whole_range(embedded: Source) -> None:
    assert embedded.private.images.shape[1:] == (1, 8, 8)
    assert embedded.private.images.min() == 0
    assert embedded.private.images.max() == 255


def test_digits_never_change(embedded: Source) -> None:
    # An audit is only repeatable if the pools are: these hashes must never be updated lightly.
    def sha256(labels: Tensor) -> str:
        return hashlib.sha256(labels.numpy().tobytes()).hexdigest()[:16]

    assert embedded.public is not None
    assert sha256(embedded.private.labels) == "400cfdedd8a851dc"
    assert sha256(embedded.public.labels) == "512cea60fbab627e"
    assert sha256(embedded.test.labels) == "6b4f19f8d7c46719"
    assert embedded.private.digest().startswith("8c35d535ccbc6d70")


# --- subsets -------------------------------------------------------------------------------------


@pytest.mark.parametrize("num", [4, 10, 20, 39, 40])
def test_subsets_are_balanced_and_in_order(num: int) -> None:
    data = pool(40)
    chosen = class_balanced(data, num, seed=0, name="num_train")
    assert len(chosen) == num
    counts = torch.bincount(chosen.labels, minlength=4)
    assert counts.max() - counts.min() <= 1
    assert positions(chosen) == sorted(positions(chosen))


def test_a_rare_class_is_used_up_and_the_rest_stays_equal() -> None:
    labels = torch.tensor([0] * 20 + [1] * 20 + [2] * 3)
    data = LabelledImages(pool(43).images, labels)
    chosen = class_balanced(data, 23, seed=0, name="num_train")
    assert torch.bincount(chosen.labels).tolist() == [10, 10, 3]


def test_subsets_follow_their_seed() -> None:
    data = pool(200)
    first, again, other = (
        positions(class_balanced(data, 50, seed=seed, name="num_train")) for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other
    assert class_balanced(data, None, seed=0, name="num_train") is data


@pytest.mark.parametrize("num", [0, 41])
def test_impossible_subsets_are_refused(num: int) -> None:
    with pytest.raises(ValueError, match=rf"dataset\.num_test={num}: must be 1\.\.40"):
        class_balanced(pool(40), num, seed=0, name="num_test")


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5])
def test_hold_out_takes_the_same_share_of_every_class(rate: float) -> None:
    source = hold_out(pool(160), rate)
    assert torch.bincount(source.test.labels).tolist() == [round(40 * rate)] * 4
    assert sorted(positions(source.private) + positions(source.test)) == list(range(160))
    assert positions(source.private) == sorted(positions(source.private))


def test_hold_out_is_seeded_and_mixed() -> None:
    first, again = hold_out(pool(160), 0.2), hold_out(pool(160), 0.2)
    assert positions(first.test) == positions(again.test)
    assert positions(first.test) != list(range(32))
    assert positions(first.test) != list(range(128, 160))


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.2, 20])
def test_impossible_test_shares_are_refused(rate: float) -> None:
    with pytest.raises(ValueError, match=rf"dataset\.test_rate={rate}: must be between 0 and 1"):
        hold_out(pool(20), rate)


# --- the public pool -----------------------------------------------------------------------------


def test_a_disjoint_public_pool_is_taken() -> None:
    source, public = Source(pool(20), pool(8, start=50)), pool(10, start=100)
    assert with_public(source, public).public is public
    own = Source(source.private, source.test, public)
    assert with_public(own, None).public is public
    other = pool(5, start=200)
    assert with_public(own, other).public is other
    assert with_public(source, None) is source


@pytest.mark.parametrize(("start", "shared", "name"), [(17, 3, "private"), (43, 7, "test")])
def test_an_overlapping_public_pool_is_refused(start: int, shared: int, name: str) -> None:
    source = Source(pool(20), pool(8, start=50))
    with pytest.raises(ValueError, match=f"public pool holds {shared} images of the {name} set"):
        with_public(source, pool(14, start=start))


def test_an_overlap_is_found_whatever_the_labels_say() -> None:
    copy = LabelledImages(pool(1, start=3).images, torch.tensor([1]))
    with pytest.raises(ValueError, match="1 images of the private set"):
        with_public(Source(pool(20), pool(8, start=50)), copy)


def test_the_own_public_pool_is_checked_too() -> None:
    with pytest.raises(ValueError, match="20 images of the private set"):
        with_public(Source(pool(20), pool(8, start=50), pool(20)), None)


def test_a_public_pool_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 3, 3\), the private set \(1, 2, 2\)"):
        with_public(Source(pool(20), pool(8, start=50)), pool(4, start=100, size=3))


# --- npz -----------------------------------------------------------------------------------------


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
    np.testing.assert_array_equal(source.private.images.numpy(), wanted)
    np.testing.assert_array_equal(source.test.images.numpy(), wanted[:6])
    assert source.private.labels.tolist() == given["labels"].tolist()
    assert source.num_classes == 3
    assert source.public is None


def test_npz_without_test_set_holds_one_out(tmp_path: Path) -> None:
    path = saved(tmp_path, **arrays(30, 4, 4))
    assert len(datasets.npz(path).test) == 6
    source = datasets.npz(path, test_rate=0.5)
    assert torch.bincount(source.test.labels).tolist() == [5, 5, 5]
    assert not set(source.private.hashes()) & set(source.test.hashes())


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64])
def test_npz_labels_of_any_integer_type(tmp_path: Path, dtype: type) -> None:
    given = arrays(30, 4, 4)
    given["labels"] = given["labels"].astype(dtype)
    assert datasets.npz(saved(tmp_path, **given)).private.labels.dtype == torch.int64


def test_npz_path_may_start_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    saved(tmp_path, **arrays(30, 4, 4))
    assert len(datasets.npz("~/own.npz").private) == 24


WRONG = {
    "float images": ({"images": np.zeros((4, 8, 8))}, r"images are float64 \(4, 8, 8\); must be"),
    "flat images": (
        {"images": np.zeros((4, 64), np.uint8)},
        r"images are uint8 \(4, 64\); must be uint8 \[N,H,W\]",
    ),
    "too few labels": ({"labels": np.arange(3)}, r"labels are int64 \(3,\); must be integers \[4"),
    "one-hot labels": ({"labels": np.eye(4, dtype=int)}, r"labels are int64 \(4, 4\); must be"),
    "one label": ({"labels": np.array(3)}, r"labels are int64 \(\); must be integers \[4\]"),
    "float labels": ({"labels": np.zeros(4)}, r"labels are float64 \(4,\); must be integers"),
    "negative label": ({"labels": np.arange(4) - 1}, r"label -1 is negative; classes are 0\.\.K-1"),
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


# --- folders -------------------------------------------------------------------------------------


def drawn(root: Path, num: int = 5, *, size: int = 6, start: int = 0) -> None:
    """Two classes of `num` one-coloured PNG files."""
    for label, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for i in range(num):
            colour = (100 * label, start + i, 7)
            Image.new("RGB", (size, size), colour).save(root / name / f"{i}.png")


def test_folder_reads_classes_in_the_order_of_their_names(tmp_path: Path) -> None:
    drawn(tmp_path)
    source = datasets.folder(str(tmp_path), size=4)
    assert source.private.images.shape == (8, 3, 4, 4)
    assert source.private.labels.tolist() == [0] * 4 + [1] * 4
    assert source.test.labels.tolist() == [0, 1]
    for part in (source.private, source.test):  # colours, not their order, survived the resizing
        assert part.images[:, 0, 0, 0].tolist() == [100 * label for label in part.labels]
        assert (part.images[:, 2] == 7).all()


def test_folder_may_be_grey(tmp_path: Path) -> None:
    drawn(tmp_path)
    images = datasets.folder(str(tmp_path), size=8, channels=1).private.images
    assert images.shape == (8, 1, 8, 8)
    with pytest.raises(ValueError, match=r"dataset\.channels=2: must be 1 or 3"):
        datasets.folder(str(tmp_path), channels=2)


def test_folder_with_train_and_test_holds_nothing_out(tmp_path: Path) -> None:
    drawn(tmp_path / "train", 5)
    drawn(tmp_path / "test", 3, start=50)
    source = datasets.folder(str(tmp_path), size=4)
    assert (len(source.private), len(source.test)) == (10, 6)
    assert source.test.images[:, 1, 0, 0].tolist() == [50, 51, 52] * 2


def test_folders_that_are_wrong_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"absent: no such folder; dataset\.path must hold"):
        datasets.folder(str(tmp_path / "absent"))
    with pytest.raises(ValueError, match="needs one folder of images per class"):
        datasets.folder(str(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="needs one folder of images per class"):
        datasets.folder(str(tmp_path))


@pytest.mark.parametrize("change", ["content", "name", "file"])
def test_a_folder_that_changed_since_it_was_named_is_refused(tmp_path: Path, change: str) -> None:
    drawn(tmp_path)
    named = folder_sha256(str(tmp_path))
    datasets.folder(str(tmp_path), sha256=named)
    if change == "content":
        Image.new("RGB", (9, 9), (1, 2, 3)).save(tmp_path / "cat" / "0.png")
    elif change == "name":
        (tmp_path / "cat" / "0.png").rename(tmp_path / "dog" / "9.png")
    else:
        Image.new("RGB", (6, 6)).save(tmp_path / "cat" / "9.png")
    with pytest.raises(ValueError, match="changed while the sweep was running"):
        datasets.folder(str(tmp_path), sha256=named)


def test_files_and_folders_that_are_absent_have_no_hash(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"absent\.npz: no such file"):
        file_sha256(str(tmp_path / "absent.npz"))
    with pytest.raises(ValueError, match="absent: no such folder"):
        folder_sha256(str(tmp_path / "absent"))


# --- torchvision ---------------------------------------------------------------------------------


def idx(path: Path, values: NDArray[np.uint8]) -> None:
    """The format of MNIST's files."""
    header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, dtype=">i4").tobytes()
    with gzip.open(path.with_suffix(".gz"), "wb") as stream:
        stream.write(header + values.tobytes())
    path.write_bytes(header + values.tobytes())


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
    np.testing.assert_array_equal(source.test.images[:, 0].numpy(), images)


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
