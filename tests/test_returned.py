"""What comes back from somebody else's code: refused in one line, or taken as it is."""

from pathlib import Path

import numpy as np
import pytest
import torch

from synpriv.data import returned
from synpriv.data.returned import Wanted, taken

GREY, COLOUR = Wanted((1, 8, 6), 3), Wanted((3, 8, 6), 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 8, 6, 3), dtype=np.uint8)
LABELS = np.arange(6) % 3
SOFT = np.eye(3)[LABELS] * 0.4 + 0.2


def test_images_become_channels_first_and_labels_stay() -> None:
    images, labels = taken(IMAGES, LABELS.astype(np.uint8), COLOUR, "it")
    np.testing.assert_array_equal(images, np.moveaxis(IMAGES, 3, 1))
    np.testing.assert_array_equal(labels, LABELS)
    assert (images.dtype, labels.dtype) == (np.uint8, np.int64)
    grey, soft = taken(IMAGES[..., 0], SOFT, GREY, "it")
    np.testing.assert_array_equal(grey[:, 0], IMAGES[..., 0])
    np.testing.assert_array_equal(soft, SOFT.astype(np.float32))


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES / 255, LABELS, r"images are float64 \[6, 8, 6, 3\]; must be uint8 .*in 0\.\.1 ret"),
        (IMAGES.astype(int), LABELS, r"images are int64 .*private images$"),
        (IMAGES.transpose(0, 3, 1, 2), LABELS, r"channels first: images\.transpose"),
        (IMAGES[:, :7], LABELS, r"images are uint8 \[6, 7, 6, 3\]; must be uint8 \[M,8,6,3\]"),
        (IMAGES[..., 0], LABELS, r"images are uint8 \[6, 8, 6\]; must"),
        (IMAGES[:1], LABELS[:1], "1 images; must be at least 2"),
        (IMAGES[:0], LABELS[:0], "0 images; must be at least 2"),
        (IMAGES.astype(object), LABELS, "images are object"),
        (list(IMAGES), LABELS, "images are a list; must be a NumPy array$"),
        (torch.tensor(IMAGES), LABELS, r"images are a torch\.Tensor; .*images\.cpu\(\)\.numpy"),
        (IMAGES, None, "labels are a NoneType; must be a NumPy array"),
        (IMAGES, LABELS[:5], r"labels are int64 \[5\]; must be integers \[6\], or prob.*\[6,3\]"),
        (IMAGES, LABELS * 1.0, r"labels are float64 \[6\]"),
        (IMAGES, LABELS > 0, r"labels are bool \[6\]"),
        (IMAGES, SOFT[:, :2], r"labels are float64 \[6, 2\]"),
        (IMAGES, LABELS + 1, r"labels are 1\.\.3; must be 0\.\.2"),
        (IMAGES, LABELS - 1, r"labels are -1\.\.1; must be 0\.\.2"),
        (IMAGES, LABELS * 0 + 2, "all images are of class 2; must be of two or more"),
        (IMAGES, SOFT * np.nan, "soft labels are NaN or infinite"),
        (IMAGES, SOFT * 2, "soft labels down to 0.4, sums of rows as 2; must be at least 0 and su"),
        (IMAGES, SOFT - 0.3, r"soft labels down to -0\.1"),
    ],
)
def test_what_cannot_be_a_set_is_refused(images: object, labels: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"^it: .*{message}") as error:
        taken(images, labels, COLOUR, "it")
    assert "\n" not in str(error.value)


def test_archives_are_refused_by_their_headers(tmp_path: Path) -> None:
    def refused(message: str, **arrays: object) -> None:
        np.savez(tmp_path / "x.npz", **arrays)
        with pytest.raises(ValueError, match=message):
            returned.read(tmp_path / "x.npz", COLOUR, "it")

    refused(r"^it: has arrays \['images'\]; must have images and labels$", images=IMAGES)
    refused("^it: .*holds Python objects", images=IMAGES.astype(object), labels=LABELS)
    refused("^it: images are float64", images=IMAGES / 255, labels=LABELS)
    (tmp_path / "x.npz").write_bytes((tmp_path / "x.npz").read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"^it: not a readable npz archive"):
        returned.read(tmp_path / "x.npz", COLOUR, "it")


def test_classes_that_a_set_lacks_are_named() -> None:
    assert returned.missing_classes(np.array([0, 2, 2]), 4) == [1, 3]
    assert returned.missing_classes(np.array([[0.6, 0.4], [0.9, 0.1]]), 2) == [1]
