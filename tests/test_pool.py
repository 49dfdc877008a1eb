"""Pools of images: subsets, copies, what is shared."""

import hashlib

import numpy as np
import pytest
import torch
from conftest import make_pool as pool
from conftest import positions

from synpriv.data.images import LabelledImages
from synpriv.data.pool import Pool, class_balanced, found_in, twins


@pytest.mark.parametrize("num", [4, 10, 20, 39, 40])
def test_subsets_are_balanced_and_in_order(num: int) -> None:
    data = pool(40)
    chosen = class_balanced(data, num, seed=0, name="dataset.num_train")
    assert len(chosen) == num
    counts = np.bincount(chosen.labels, minlength=4)
    assert counts.max() - counts.min() <= 1
    assert positions(chosen) == sorted(positions(chosen))


def test_a_rare_class_is_used_up_and_the_rest_stays_equal() -> None:
    labels = np.array([0] * 20 + [1] * 20 + [2] * 3)
    data = Pool(pool(43).images, labels)
    chosen = class_balanced(data, 23, seed=0, name="dataset.num_train")
    assert np.bincount(chosen.labels).tolist() == [10, 10, 3]


def test_subsets_follow_their_seed() -> None:
    data = pool(200)
    first, again, other = (
        positions(class_balanced(data, 50, seed=seed, name="dataset.num_train"))
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other
    assert class_balanced(data, None, seed=0, name="dataset.num_train") is data


@pytest.mark.parametrize("num", [0, 41])
def test_impossible_subsets_are_refused(num: int) -> None:
    with pytest.raises(ValueError, match=rf"dataset\.num_test={num}: must be 1\.\.40"):
        class_balanced(pool(40), num, seed=0, name="dataset.num_test")


def test_copies_are_found_whatever_their_labels() -> None:
    images = pool(6).images[[0, 1, 1, 2, 3, 0]]
    assert twins(Pool(images, np.arange(6))).tolist() == [True, True, True, False, False, True]
    assert not twins(pool(50)).any()


def test_shared_images_are_found_whatever_their_labels() -> None:
    shared = found_in(pool(20), Pool(pool(20, start=17).images, np.zeros(20, dtype=np.int64)))
    assert np.flatnonzero(shared).tolist() == [17, 18, 19]


def test_the_hash_of_a_pool_is_that_of_its_tensors_and_of_its_bytes() -> None:
    whole = pool(9)
    assert whole.digest() == LabelledImages.of(whole).digest()
    content = whole.images.tobytes() + whole.labels.tobytes()
    assert whole.digest() == hashlib.sha256(content).hexdigest()
    assert Pool(whole.images, whole.labels[::-1].copy()).digest() != whole.digest()


def test_tensors_of_one_channel_have_the_strides_of_any_new_tensor() -> None:
    # Strides that look like channels-last gave every digit's convolution other bits.
    grey = np.ascontiguousarray(np.zeros((9, 4, 4), np.uint8)[:, None])
    for images in (grey, grey[np.arange(9) % 2 == 0], grey[np.arange(3)]):
        whole = LabelledImages.of(Pool(images, np.zeros(len(images), dtype=np.int64)))
        assert whole.images.stride() == (16, 16, 4, 1)
        assert whole[torch.arange(2)].images.stride() == (16, 16, 4, 1)


def test_tensors_are_copies_so_that_no_training_changes_the_pool() -> None:
    whole = pool(4)
    LabelledImages.of(whole).images.fill_(9)
    assert positions(whole) == [0, 1, 2, 3]


def test_hashes_are_of_the_pixels_alone() -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 3, 4, 4), dtype=np.uint8)
    images[5] = images[0]
    hashes = Pool(images, np.arange(6)).hashes()
    assert hashes[0] == hashes[5] == hashlib.sha256(bytes(images[0].ravel().tolist())).hexdigest()
    assert len(set(hashes)) == 5
    # A transposed view holds the same image, whatever its layout in memory.
    turned = np.ascontiguousarray(images.transpose(0, 1, 3, 2)).transpose(0, 1, 3, 2)
    assert Pool(turned, np.arange(6)).hashes() == hashes
    assert Pool(turned, np.arange(6)).digest() == Pool(images, np.arange(6)).digest()
