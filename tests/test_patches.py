"""ViT and ConvNeXt against torchvision's own, and what they refuse."""

import pytest
import torch
import torchvision
from conftest import Compose, facts_like
from torch import Tensor, nn

from synpriv import architectures, models
from synpriv.models import Network
from synpriv.models.patches import Attention
from synpriv.shadow.recipes import check_recipes, recipes_of

SMALL = {
    "vit_tiny": {"width": 16, "depth": 2, "num_heads": 2, "patch_size": 2},
    "convnext_tiny": {"width": 8, "depths": [1, 1, 2], "patch_size": 1, "layer_scale": 0.5},
}
every = pytest.mark.parametrize("name", SMALL)


def made(name: str, *, channels: int = 3, size: int = 32, **options: object) -> Network:
    torch.manual_seed(0)
    told = {"num_classes": 10, "mean": [0.4] * channels, "std": [0.3] * channels} | options
    return getattr(models, name)(channels=channels, size=size, **told)


def images(num: int, channels: int = 3, size: int = 32) -> Tensor:
    draw = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (num, channels, size, size), generator=draw, dtype=torch.uint8)


def randomised(network: nn.Module) -> nn.Module:
    """With no weight that is 0 or 1, on which nothing would depend."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()


def assert_same(network: Network, theirs: nn.Module, size: int) -> None:
    """Equal logits once `theirs` holds the same weights, which lie in the same order."""
    own = randomised(network).state_dict().values()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), own, strict=True)))
    seen = images(3, size=size)
    logits = network(seen)
    assert logits.std() > 0.01
    torch.testing.assert_close(logits, theirs.eval()(network.normalise(seen)), rtol=1e-4, atol=1e-5)


def test_vit_is_torchvision_s() -> None:
    theirs = torchvision.models.VisionTransformer(
        image_size=16, patch_size=4, num_layers=3, num_heads=3, hidden_dim=24, mlp_dim=96,
        num_classes=10,
    )  # fmt: skip
    own = made("vit_tiny", size=16, width=24, depth=3, patch_size=4)
    assert_same(own, theirs, size=16)


def test_convnext_is_torchvision_s() -> None:
    block = torchvision.models.convnext.CNBlockConfig
    setting = [block(8, 16, 1), block(16, 32, 2), block(32, None, 1)]
    theirs = torchvision.models.ConvNeXt(setting, layer_scale=0.3, num_classes=10)
    own = made("convnext_tiny", width=8, depths=[1, 2, 1], patch_size=4, layer_scale=0.3)
    assert_same(own, theirs, size=32)


@pytest.mark.parametrize(("name", "published"), [("vit_tiny", 5.4e6), ("convnext_tiny", 27.8e6)])
def test_the_published_number_of_parameters(name: str, published: float) -> None:
    number = sum(p.numel() for p in made(name).parameters())
    assert round(number / 1e5) == round(published / 1e5)


@every
@pytest.mark.parametrize("size", [8, 28, 32])
@pytest.mark.parametrize("channels", [1, 3])
def test_all_sizes_and_channels(name: str, size: int, channels: int) -> None:
    network = made(name, channels=channels, size=size, num_classes=7, **SMALL[name])
    logits = network(images(2, channels, size))
    assert logits.shape == (2, 7)
    logits.square().sum().backward()
    assert all(p.grad is not None for p in network.parameters() if p.numel())
    assert network.features(network.normalise(images(2, channels, size))).ndim == 2
    assert isinstance(network.head, nn.Linear)


@every
def test_an_image_has_its_own_logits_in_training_and_evaluation(name: str) -> None:
    network = randomised(made(name, size=8, **SMALL[name]))
    seen = images(3, size=8)
    alone = torch.cat([network(image[None]) for image in seen])
    torch.testing.assert_close(network(seen), alone)
    torch.testing.assert_close(network.train()(seen), alone)  # nothing is dropped


@every
def test_the_seed_decides_the_first_weights(name: str) -> None:
    first, again = (list(made(name, **SMALL[name]).parameters()) for _ in range(2))
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))


@pytest.mark.parametrize(("size", "patch"), [(8, 1), (15, 1), (16, 2), (28, 2), (32, 2)])
def test_convnext_s_patches_leave_every_stage_a_place(size: int, patch: int) -> None:
    network = made("convnext_tiny", size=size, width=2, depths=[1, 1, 1, 1])
    assert network.features[0][0][0].kernel_size == (patch, patch)
    assert network(images(2, size=size)).shape == (2, 10)


def test_attention_drops_out_in_training_alone() -> None:
    attention = Attention(nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True))
    x = torch.rand(2, 5, 8)
    torch.testing.assert_close(attention.eval()(x, x, x)[0], attention(x, x, x)[0])
    attention.train()
    assert not torch.equal(attention(x, x, x)[0], attention(x, x, x)[0])


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"patch_size": 3}, r"^patch_size=3: must be a divisor of 8, "),
        ({"patch_size": 0}, r"^patch_size=0: must be at least 1"),
        ({"num_heads": 5}, r"^num_heads=5: must be a divisor of width=192"),
        ({"norm": "batch"}, r"^norm=batch: must be layer for vit_tiny"),
        ({"dropout": 1.0}, r"^dropout=1.0: must be at least 0, below 1"),
    ],
)
def test_vit_refuses(option: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made("vit_tiny", size=8, **option)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"patch_size": 2}, r"^patch_size=2: images of 8x8 leave 4x4 places: must be smaller, or"),
        ({"depths": [1]}, r"^depths=\[1\]: must be blocks per stage"),
        ({"layer_scale": 0.0}, r"^layer_scale=0.0: must be positive"),
        ({"stochastic_depth": -0.1}, r"^stochastic_depth=-0.1: must be at least 0"),
    ],
)
def test_convnext_refuses(option: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made("convnext_tiny", size=8, **option)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=vit_tiny", "model.patch_size=3"], r"^model\.patch_size=3: must be a divisor of 8"),
        (
            ["model=convnext_tiny", "model.patch_size=2"],
            r"^model\.patch_size=2: images of 8x8 leave 4x4 places",
        ),
        (
            ["method=dfkd", "model=vit_tiny"],
            r"^dfkd needs a teacher with BatchNorm: .* \(norm=layer\)",
        ),
    ],
)
def test_what_cannot_be_is_refused_without_torch(
    words: list[str], message: str, compose: Compose
) -> None:
    cfg = compose(*words)
    with pytest.raises(ValueError, match=message):
        check_recipes(recipes_of(cfg), facts_like(norm="layer", teacher_norm="layer"))


def test_dp_sgd_takes_them_and_leaves_their_norm(compose: Compose) -> None:
    cfg = compose("method=dpsgd_high", "model=vit_tiny", "model.patch_size=2")
    recipe = recipes_of(cfg)["model"]
    assert isinstance(recipe, architectures.vit_tiny)
    assert recipe.norm == "layer"
