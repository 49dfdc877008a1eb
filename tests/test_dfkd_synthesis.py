"""Synthesis of images: its losses against naive formulas, the generator."""

import functools

import pytest
import torch
from conftest import Tensors, digits_as_tensors

from synpriv import models
from synpriv.methods.dfkd import synthesis
from synpriv.methods.dfkd.synthesis import Generator

network = functools.partial(
    models.convnet, channels=1, size=8, num_classes=10, mean=[0.3], std=[0.37], width=4
)


@pytest.fixture(scope="module")
def source() -> Tensors:
    return digits_as_tensors()


@torch.no_grad()
def test_batch_norm_loss_is_zero_for_the_data_that_set_the_statistics(source: Tensors) -> None:
    torch.manual_seed(0)
    net = network().train()
    for layer in synthesis.batch_norms(net):
        layer.momentum = 1.0
    net(source.private.images)
    _, batch, running = synthesis.look(net.eval(), source.private.images)  # 1,000 images, one batch
    assert float(synthesis.batch_norm_loss(batch, running)) < 1e-3
    _, others, _ = synthesis.look(net, 255 - source.private.images)
    assert float(synthesis.batch_norm_loss(others, running)) > 0.1


def test_statistics_and_their_loss_equal_a_naive_computation() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.BatchNorm2d(3),
        torch.nn.Conv2d(3, 2, 3),
        torch.nn.Flatten(),
        torch.nn.BatchNorm1d(18),
        torch.nn.Linear(18, 4),
    ).eval()
    images = torch.randn(7, 3, 5, 5) * 2 + 1
    logits, batch, running = synthesis.look(net, images)
    torch.testing.assert_close(logits, net(images))
    assert not any(layer._forward_pre_hooks for layer in net)
    second = net[2](net[1](net[0](images)))
    expected = 0.0
    for k in range(3):
        torch.testing.assert_close(batch[0][k], images[:, k].mean())
        torch.testing.assert_close(batch[1][k], images[:, k].var())
    for inputs, layer in ((images, net[0]), (second[..., None, None], net[3])):
        mean, variance = inputs.mean((0, 2, 3)), inputs.var((0, 2, 3))
        expected += float((mean - layer.running_mean).square().sum().sqrt())
        expected += float((variance - layer.running_var).square().sum().sqrt())
    assert float(synthesis.batch_norm_loss(batch, running)) == pytest.approx(expected, rel=1e-5)


def test_the_other_terms_against_naive_formulas() -> None:
    teacher, student = torch.randn(20, 3) * 2, torch.randn(20, 3) * 2
    targets = torch.randint(0, 3, (20,))
    p, q = teacher.softmax(1), student.softmax(1)
    one_hot = -p[torch.arange(20), targets].log().mean()
    torch.testing.assert_close(synthesis.one_hot_loss(teacher, targets), one_hot)
    agree = [i for i in range(20) if p[i].argmax() == q[i].argmax()]
    assert 0 < len(agree) < 20
    adversarial = -sum((p[i] * (p[i] / q[i]).log()).sum() for i in agree) / 20
    torch.testing.assert_close(synthesis.adversarial_loss(teacher, student), adversarial)
    mean = p.mean(0)
    torch.testing.assert_close(synthesis.balance_loss(teacher), (mean * mean.log()).sum())
    sure = torch.tensor([[200.0, 0.0, 0.0]])
    assert float(synthesis.balance_loss(sure)) == 0


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (2, 9, 15), (1, 1, 3)])
def test_generator_makes_images_of_any_size(shape: tuple[int, int, int]) -> None:
    images = Generator(code_size=6, image_shape=shape, width=4)(torch.randn(5, 6))
    assert images.shape == (5, *shape)
    assert float(images.min()) >= 0
    assert float(images.max()) <= 1
