"""Networks: their size, what they accept, and what they must not do."""

import math
from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from synpriv import models
from synpriv.models import Network

NETS = {
    "convnet": (models.convnet, 8),
    "convnet3": (models.convnet3, 8),
    "resnet18": (models.resnet18, 4),
    "resnet34": (models.resnet34, 2),
    "wrn16_4": (models.wrn16_4, 1),
    "wrn28_2": (models.wrn28_2, 1),
}
WIDE = (models.wrn16_4, models.wrn28_2)
every = pytest.mark.parametrize(("build", "width"), NETS.values(), ids=NETS.keys())
Build = Callable[..., Network]


def made(build: Build, *, channels: int = 3, size: int = 32, **options: object) -> Network:
    torch.manual_seed(0)
    mean, std = [0.4, 0.5, 0.6][:channels], [0.2, 0.3, 0.4][:channels]
    given = {"num_classes": 10, "mean": mean, "std": std} | options
    return build(channels=channels, size=size, **given)


def uint8(num: int, channels: int = 3, size: int = 32, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (num, channels, size, size)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("build", "norm", "expected"),
    [
        (models.wrn16_4, "batch", 2_751_146),
        (models.wrn16_4, "group", 2_751_562),
        (models.resnet18, "batch", 11_173_962),
        (models.resnet34, "batch", 21_282_122),
        (models.convnet3, "instance", 320_010),
    ],
)
def test_the_published_number_of_parameters(build: Build, norm: str, expected: int) -> None:
    network = made(build, norm=norm)
    assert sum(parameter.numel() for parameter in network.parameters()) == expected


@every
@pytest.mark.parametrize("size", [8, 28, 32])
@pytest.mark.parametrize("channels", [1, 3])
def test_all_sizes_and_channels(build: Build, width: int, size: int, channels: int) -> None:
    network = made(build, channels=channels, size=size, width=width, num_classes=7)
    logits = network(uint8(2, channels, size))
    assert logits.shape == (2, 7)
    assert logits.dtype == torch.float32
    assert torch.isfinite(logits).all()


@every
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 9])
def test_tiny_and_odd_sizes(build: Build, width: int, size: int) -> None:
    network = made(build, size=size, width=width).eval()
    assert network(uint8(2, size=size)).shape == (2, 10)


@every
def test_bytes_and_unit_range_are_the_same_image(build: Build, width: int) -> None:
    network = made(build, width=width).eval()
    images = uint8(4)
    torch.testing.assert_close(network(images), network(images.float() / 255))


def test_normalisation_is_per_channel() -> None:
    network = made(models.convnet, width=4)
    images = torch.tensor([0.4 + 0.2, 0.5 + 0.3, 0.6 + 0.4]).view(1, 3, 1, 1)  # mean + std
    torch.testing.assert_close(network.normalise(images), torch.ones(1, 3, 1, 1))


def test_constants_of_the_data_set_are_no_weights() -> None:
    network = made(models.convnet, width=4)
    assert {"mean", "std"} & set(network.state_dict()) == set()
    assert {"mean", "std"} <= {name for name, _ in network.named_buffers()}


@every
@pytest.mark.parametrize("norm", ["batch", "group", "instance"])
def test_only_batch_norm_lets_samples_see_each_other(build: Build, width: int, norm: str) -> None:
    if build in WIDE and norm == "instance":
        with pytest.raises(ValueError, match=r"^norm=instance: must be batch or group for wrn"):
            made(build, norm=norm)
        return
    network = made(build, norm=norm, width=width).train()
    first, second = uint8(4), uint8(4, seed=1)
    mixed = torch.cat([first[:1], second[1:]])
    same = torch.allclose(network(first)[0], network(mixed)[0], atol=1e-5)
    assert same == (norm != "batch")
    has_batch_norm = any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert has_batch_norm == (norm == "batch")


@every
def test_unknown_norms_and_widths_are_refused(build: Build, width: int) -> None:
    with pytest.raises(ValueError, match=r"^norm=layer: must be batch"):
        made(build, norm="layer", width=width)
    with pytest.raises(ValueError, match=r"^width=0: must be at least 1"):
        made(build, width=0)


@every
def test_every_parameter_gets_a_gradient(build: Build, width: int) -> None:
    network = made(build, width=width)
    network(uint8(4)).square().sum().backward()
    without = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert without == []


@every
def test_initialisation_follows_the_global_seed(build: Build, width: int) -> None:
    first, again = made(build, width=width), made(build, width=width)
    for one, two in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two)


def naive_wrn(
    weights: dict[str, torch.Tensor], norm: str, x: torch.Tensor, blocks: int
) -> torch.Tensor:
    """The wide ResNet of Aerni et al. (CCS 2024) from its formula, on normalised images [B,ch,H,W].

    Layers are taken in the order in which they stand in the network. A block computes its main
    path, then its shortcut.
    """
    layers = iter(dict.fromkeys(name.rpartition(".")[0] for name in weights))

    def conv(x: torch.Tensor, stride: int, padding: int) -> torch.Tensor:
        at = next(layers)
        return F.conv2d(x, weights[f"{at}.weight"], weights[f"{at}.bias"], stride, padding)

    def normed(x: torch.Tensor) -> torch.Tensor:
        at = next(layers)
        scale, shift = (weights[f"{at}.{name}"].view(-1, 1, 1) for name in ("weight", "bias"))
        if norm == "batch":  # in eval mode
            mean, var = (weights[f"{at}.running_{name}"].view(-1, 1, 1) for name in ("mean", "var"))
            return (x - mean) / (var + 1e-5).sqrt() * scale + shift
        grouped = x.view(len(x), 16, -1)
        var, mean = torch.var_mean(grouped, dim=2, correction=0, keepdim=True)
        return ((grouped - mean) / (var + 1e-5).sqrt()).view_as(x) * scale + shift

    def active(x: torch.Tensor) -> torch.Tensor:
        return normed(x.clamp(min=0)) if norm == "group" else normed(x).clamp(min=0)

    def projected(x: torch.Tensor, stride: int) -> torch.Tensor:
        return conv(active(x) if norm == "group" else x, stride, 0)

    x = conv(x, 1, 1)
    for stage_stride in (1, 2, 2):
        inside = conv(active(x), 1, 1)
        main = conv(active(inside), stage_stride, 1)
        x = main + projected(x, stage_stride)
        for _ in range(blocks - 1):
            inside = conv(active(x), 1, 1)
            x = x + conv(active(inside), 1, 1)
    pooled = active(x).mean(dim=(2, 3))
    return pooled @ weights["head.weight"].T + weights["head.bias"]


@pytest.mark.parametrize(("build", "blocks"), [(models.wrn16_4, 2), (models.wrn28_2, 4)])
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_wrn_is_the_network_of_its_formula(build: Build, blocks: int, norm: str) -> None:
    network = made(build, norm=norm, width=2).double()
    with torch.no_grad():  # else nothing depends on scales, shifts and running statistics
        for value in network.state_dict().values():
            if value.ndim == 1:
                value.uniform_(0.5, 1.5)
    images = uint8(2).double() / 255
    weights = network.eval().state_dict()
    normalised = (images - network.mean) / network.std
    torch.testing.assert_close(network(images), naive_wrn(weights, norm, normalised, blocks))


def test_wrn_28_2_has_the_usual_number_of_weights_beside_its_convolutions_biases() -> None:
    """1.47 million: Zagoruyko and Komodakis (BMVC 2016), whose convolutions have no bias."""
    network = made(models.wrn28_2)
    biases = [m.bias for m in network.modules() if isinstance(m, nn.Conv2d)]
    number = sum(p.numel() for p in network.parameters())
    assert number - sum(b.numel() for b in biases if b is not None) == 1_467_610


@pytest.mark.parametrize("name", ["resnet18", "resnet34"])
def test_resnets_are_torchvision_s_but_for_the_stem(name: str) -> None:
    theirs = getattr(torchvision.models, name)(num_classes=10)
    theirs.conv1, theirs.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    network = made(getattr(models, name))
    pairs = zip(network.state_dict().values(), theirs.state_dict().values(), strict=True)
    with torch.no_grad():
        for own, other in pairs:
            other.copy_(own.uniform_(0.5, 1.5) if own.ndim == 1 else own)
    images = uint8(2, size=16)
    expected = theirs.eval()(network.normalise(images))
    torch.testing.assert_close(network.eval()(images), expected)


def test_group_wrn_starts_from_normals_of_spread_one_over_the_root_of_fan_in() -> None:
    network = made(models.wrn16_4, norm="group")
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            std = 1 / math.sqrt(module.weight[0].numel())
            assert module.bias is not None
            assert not module.bias.any()
            if module.weight.numel() > 10_000:  # cut at 2 standard deviations it would be 0.88
                assert module.weight.std().item() == pytest.approx(std, rel=0.03)
                assert 3 * std < module.weight.abs().max() <= 2


def test_group_wrn_uses_sixteen_groups() -> None:
    network = made(models.wrn16_4, norm="group")
    groups = {m.num_groups for m in network.modules() if isinstance(m, nn.GroupNorm)}
    assert groups == {16}


def test_instance_norm_has_a_group_per_channel() -> None:
    network = made(models.convnet3)
    norms = [module for module in network.modules() if isinstance(module, nn.GroupNorm)]
    assert [(norm.num_groups, norm.num_channels) for norm in norms] == [(128, 128)] * 3


def test_convnet3_pads_28_to_32() -> None:
    shapes = [made(models.convnet3, size=size).head.weight.shape for size in (28, 32)]
    assert shapes == [(10, 128 * 16)] * 2


@pytest.mark.parametrize("size", [8, 28, 32])
def test_convnet_ends_at_four_pixels_or_more(size: int) -> None:
    network = made(models.convnet, size=size, width=4)
    features = network.features[:-2](torch.zeros(1, 3, size, size))
    assert 4 <= features.shape[-1] < 8


def test_resnet18_keeps_the_resolution_of_small_images() -> None:
    network = made(models.resnet18, width=4)
    assert network.features[0](torch.zeros(1, 3, 32, 32)).shape[-2:] == (32, 32)
    assert network.features[:-2](torch.zeros(2, 3, 32, 32)).shape == (2, 32, 4, 4)
