"""Query views and the logits they get."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from synpriv import models
from synpriv.data.images import LabelledImages
from synpriv.shadow import query


@pytest.fixture
def images() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    # No black pixel, so that black is filling.
    return torch.randint(1, 256, (3, 2, 16, 16), generator=generator, dtype=torch.uint8)


def moved(images: Tensor, dy: int, dx: int) -> Tensor:
    """Pixel by pixel: what was at (row, column) is at (row + dy, column + dx)."""
    result = torch.zeros_like(images)
    height, width = images.shape[2:]
    for row in range(height):
        for column in range(width):
            if 0 <= row + dy < height and 0 <= column + dx < width:
                result[:, :, row + dy, column + dx] = images[:, :, row, column]
    return result


@pytest.mark.parametrize(("flip", "num"), [(True, 18), (False, 9)])
def test_views_come_flip_outermost_then_dy_then_dx(images: Tensor, flip: bool, num: int) -> None:
    expected = [
        moved(images.flip(-1) if mirrored else images, dy, dx)
        for mirrored in ((False, True) if flip else (False,))
        for dy in (0, -2, 2)
        for dx in (0, -2, 2)
    ]
    views = list(query.views(images, flip=flip))
    assert len(views) == num
    for view, wanted in zip(views, expected, strict=True):
        torch.testing.assert_close(view, wanted, rtol=0, atol=0)


def test_view_0_is_the_image_itself(images: Tensor) -> None:
    assert torch.equal(next(query.views(images, flip=True)), images)


@pytest.mark.parametrize(("size", "step"), [(4, 1), (8, 1), (28, 3), (32, 4), (64, 8)])
def test_the_shift_is_an_eighth_of_the_height(size: int, step: int) -> None:
    white = torch.full((1, 1, size, size), 255, dtype=torch.uint8)
    black = [int((view == 0).sum()) for view in query.views(white, flip=False)]
    line, corner = size * step, 2 * size * step - step**2
    assert black == [0, line, line, line, corner, corner, line, corner, corner]


class _Recorder(nn.Module):
    """Features that keep what they were given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images)
        return images.flatten(1)


def test_filling_is_black_before_normalisation() -> None:
    recorder = _Recorder()
    network = models.Network(recorder, nn.Linear(64, 2), mean=[0.25], std=[0.5])
    white = LabelledImages(torch.full((1, 1, 8, 8), 255, dtype=torch.uint8), torch.tensor([0]))
    query.canary_logits(network, white, flip=False)
    down = recorder.seen[6]  # dy = 1
    torch.testing.assert_close(down[0, 0, 0], torch.full((8,), (0 - 0.25) / 0.5))
    torch.testing.assert_close(down[0, 0, 1], torch.full((8,), (1 - 0.25) / 0.5))


def network() -> models.Network:
    torch.manual_seed(0)
    return models.convnet(
        channels=2, size=16, num_classes=5, mean=[0.4, 0.5], std=[0.2, 0.3], width=4
    )


@pytest.mark.parametrize("flip", [True, False])
def test_logits_are_float32_per_canary_view_and_class(images: Tensor, flip: bool) -> None:
    classifier, canaries = network(), LabelledImages(images, torch.tensor([0, 1, 2]))
    result = query.canary_logits(classifier, canaries, flip=flip)
    assert result.shape == (3, 18 if flip else 9, 5)
    assert result.dtype == np.float32
    for place, view in enumerate(query.views(images, flip=flip)):
        with torch.no_grad():
            expected = classifier(view)
        np.testing.assert_allclose(result[:, place], expected.numpy(), rtol=1e-5, atol=1e-6)


def test_logits_are_computed_in_float32_under_autocast(images: Tensor) -> None:
    classifier = network()
    expected = query.logits(classifier, images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert classifier(images).dtype == torch.bfloat16
        found = query.logits(classifier, images)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert found.dtype == torch.float32


def test_batch_norm_is_in_eval_mode(images: Tensor) -> None:
    classifier = network().train()
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    together = query.logits(classifier, images)
    alone = torch.cat([query.logits(classifier, image[None]) for image in images])
    torch.testing.assert_close(together, alone)  # no canary influences another
    for name, tensor in classifier.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_logits_do_not_depend_on_the_batch_size(
    images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = network()
    whole = query.logits(classifier, images)
    monkeypatch.setattr(query, "forward_batch", lambda device: 2)
    torch.testing.assert_close(query.logits(classifier, images), whole)
    assert not whole.requires_grad


def test_accuracy_counts_the_largest_logit(images: Tensor) -> None:
    classifier = network()
    said = query.logits(classifier, images).argmax(1)
    assert query.accuracy(classifier, LabelledImages(images, said)) == 1.0
    said[0] = (said[0] + 1) % 5
    assert query.accuracy(classifier, LabelledImages(images, said)) == pytest.approx(2 / 3)
