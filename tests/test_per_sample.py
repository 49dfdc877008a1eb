"""Clipped per-sample gradients against one backward pass per sample."""

import functools
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from synpriv import models
from synpriv.methods.dpsgd import per_sample
from synpriv.methods.dpsgd.per_sample import clipped_sum, set_gradients

CLASSES = 5
Gradients = dict[str, Tensor]


NARROW = {"wrn16_4": {"width": 1}, "vit_tiny": {"width": 8, "num_heads": 2, "depth": 2}}
NARROW["convnext_tiny"] = {"width": 4, "depths": [1, 2], "layer_scale": 0.1}
NETWORKS = {
    f"{name}-{norm}-{size}-{channels}": functools.partial(
        getattr(models, name), channels=channels, size=size, num_classes=CLASSES, mean=[0.4],
        std=[0.3], norm=norm, **NARROW.get(name, {"width": 4}),
    )
    for name, norm in [
        *(("convnet", "group"), ("convnet", "instance"), ("convnet3", "instance")),
        *(("convnet3", "group"), ("resnet18", "group"), ("wrn16_4", "group")),
        *(("vit_tiny", "layer"), ("convnext_tiny", "layer")),
    ]
    for size, channels in ((8, 1), (16, 3))
}  # fmt: skip


def single(layer: nn.Module) -> nn.Module:
    """`layer` on [B,4,8,8] between others, so that it has both an input and gradients to pass."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), layer, nn.Tanh(), nn.Flatten(),
        nn.LazyLinear(CLASSES),
    )  # fmt: skip


conv = functools.partial(nn.Conv2d, 4, 6)
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "bias": lambda: conv(3),
    "strided": lambda: conv(3, stride=2, padding=1),
    "1x1": lambda: conv(1),
    "grouped": lambda: nn.Conv2d(4, 6, 3, groups=2, padding=1),
    "depthwise": lambda: nn.Conv2d(4, 4, 3, groups=4),
    "dilated": lambda: conv(3, dilation=2),
    "same": lambda: conv(3, padding="same"),
    "same-even-kernel": lambda: conv((2, 4), padding="same"),
    "group-norm": lambda: nn.GroupNorm(2, 4),
    "instance-norm": lambda: nn.InstanceNorm2d(4, affine=True),
    "layer-norm": lambda: nn.LayerNorm([4, 8, 8]),
    "linear-on-rows": lambda: nn.Linear(8, 3),
}


def example(
    build: Callable[[], nn.Module], batch: int = 5, views: int = 1
) -> tuple[nn.Module, Tensor, Tensor]:
    """Network, images and labels in float64; norm layers with weights other than 1 and 0."""
    torch.manual_seed(0)
    network = build().double()
    told = getattr(build, "keywords", {"channels": 1, "size": 8})
    shape = (batch * views, told["channels"], told["size"], told["size"])
    images = torch.rand(shape, dtype=torch.float64)
    network(images)  # lazy layers
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network, images, torch.randint(CLASSES, (batch,)).repeat_interleave(views)


def ours(
    network: nn.Module, images: Tensor, labels: Tensor, c: float, views: int = 1
) -> tuple[Gradients, Tensor]:
    def loss(logits: Tensor) -> Tensor:
        return cross_entropy(logits.to(torch.float64), labels, reduction="none")

    total, norms = clipped_sum(network, images, loss, max_grad_norm=c, num_views=views)
    return by_name(network, total), norms


def by_name(network: nn.Module, flat: Tensor) -> Gradients:
    named = {name: p for name, p in network.named_parameters() if p.requires_grad}
    parts = flat.split([p.numel() for p in named.values()])
    return {n: part.view(p.shape) for (n, p), part in zip(named.items(), parts, strict=True)}


def of_each(network: nn.Module, images: Tensor, labels: Tensor, views: int) -> list[list[Tensor]]:
    parameters = [p for p in network.parameters() if p.requires_grad]
    pairs = zip(images.split(views), labels.split(views), strict=True)
    return [list(torch.autograd.grad(cross_entropy(network(x), y), parameters)) for x, y in pairs]


def naive(
    network: nn.Module, images: Tensor, labels: Tensor, c: float, views: int = 1
) -> tuple[Gradients, Tensor]:
    """One backward pass per sample on the mean of its views' losses."""
    names = [name for name, p in network.named_parameters() if p.requires_grad]
    total, norms = dict.fromkeys(names, torch.zeros(())), []
    for gradient in of_each(network, images, labels, views):
        norms.append(float(sum(g.square().sum() for g in gradient)) ** 0.5)
        scale = min(1.0, c / norms[-1])
        total = {n: total[n] + scale * g for n, g in zip(names, gradient, strict=True)}
    return total, torch.tensor(norms, dtype=torch.float64)


def assert_same(got: tuple[Gradients, Tensor], want: tuple[Gradients, Tensor]) -> None:
    assert got[0].keys() == want[0].keys()
    torch.testing.assert_close(got[1].double(), want[1], rtol=1e-5, atol=1e-7)
    atol = 1e-5 * float(norm_of(want[0]))
    for name, expected in want[0].items():
        torch.testing.assert_close(
            got[0][name].double(), expected, rtol=1e-4, atol=atol, msg=lambda m, n=name: f"{n}: {m}"
        )


def norm_of(gradients: Gradients) -> Tensor:
    return torch.stack([g.double().norm() for g in gradients.values()]).norm()


def middle(network: nn.Module, images: Tensor, labels: Tensor, views: int = 1) -> float:
    """A bound that clips some samples and not others."""
    norms = naive(network, images, labels, 1.0, views)[1].sort().values
    assert norms[0] < norms[-1]
    return float(norms[len(norms) // 2 - 1 : len(norms) // 2 + 1].mean())


CASES = NETWORKS | {name: lambda layer=layer: single(layer()) for name, layer in LAYERS.items()}


@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_every_network_and_layer_gets_what_a_loop_over_samples_gives(name: str, views: int) -> None:
    network, images, labels = example(CASES[name], 4, views)
    c = middle(network, images, labels, views)
    assert_same(ours(network, images, labels, c, views), naive(network, images, labels, c, views))


@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_float32_networks_get_what_a_loop_in_float64_gives(name: str, views: int) -> None:
    network, images, labels = example(NETWORKS[name], 4, views)
    c = middle(network, images, labels, views)
    want, norms = naive(network, images, labels, c, views)
    got, found = ours(network.float(), images.float(), labels, c, views)
    torch.testing.assert_close(found.double(), norms, rtol=1e-3, atol=0)
    off = norm_of({key: got[key].double() - want[key] for key in want})
    assert off < 1e-3 * norm_of(want)


@settings(max_examples=25)
@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    bias=st.booleans(),
    c=st.floats(1e-3, 1e3),
)
def test_any_plain_convolution_gets_what_a_loop_gives(
    kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], bias: bool, c: float
) -> None:
    layer = functools.partial(conv, kernel, stride, padding, bias=bias)
    network, images, labels = example(lambda: single(layer()), 3)
    assert_same(ours(network, images, labels, c), naive(network, images, labels, c))


def test_views_give_the_mean_of_their_gradients_before_clipping() -> None:
    network, images, labels = example(NETWORKS["convnet-group-8-1"], 4, 3)
    per_view = of_each(network, images, labels, 1)
    means = [torch.stack(g).unflatten(0, (4, 3)).mean(1) for g in zip(*per_view, strict=True)]
    norms = sum(g.flatten(1).square().sum(1) for g in means).sqrt()
    c = float(norms.median())
    sums = [torch.einsum("n,n...->...", (c / norms).clamp(max=1), g) for g in means]
    names = [name for name, _ in network.named_parameters()]
    want = dict(zip(names, sums, strict=True)), norms
    assert_same(ours(network, images, labels, c, 3), want)


@pytest.mark.parametrize("autocast", [False, True])
def test_no_sample_contributes_more_than_the_bound(autocast: bool) -> None:
    network, images, labels = example(NETWORKS["convnet-group-8-1"], 12)
    network, images = network.float(), images.float()
    for c in (1e-3, 0.3, 0.77):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            alone = [ours(network, images[[i]], labels[[i]], c) for i in range(12)]
            together = norm_of(ours(network, images, labels, c)[0])
        assert together <= 12 * c * (1 + 1e-5)
        for gradient, norm in alone:
            assert norm_of(gradient) <= c * (1 + 1e-5)
            assert norm > c  # so that the bound has been at work
            assert norm_of(gradient) > 0.99 * c


@pytest.mark.parametrize("name", ["convnet-group-8-1", "resnet18-group-8-1", "wrn16_4-group-8-1"])
def test_autocast_is_that_of_a_loop_and_gives_float32(name: str) -> None:
    network, images, labels = example(NETWORKS[name])
    network, images = network.float(), images.float()
    exact = naive(network, images, labels, 0.5)[0]
    with torch.autocast("cpu", torch.bfloat16):
        near, norms = ours(network, images, labels, 0.5)
        loop, loop_norms = naive(network, images, labels, 0.5)
    assert {g.dtype for g in (norms, *near.values())} == {torch.float32}
    torch.testing.assert_close(norms.double(), loop_norms, rtol=0.01, atol=0)
    off = norm_of({key: near[key] - loop[key] for key in exact})
    assert off < 0.01 * norm_of(exact)
    away = float(norm_of({key: near[key] - exact[key] for key in exact}) / norm_of(exact))
    assert 0.005 < away < (0.1 if "convnet" in name else 0.6)  # 0: autocast had no effect


@pytest.mark.parametrize("allowed", ["tf32", "ieee"])
def test_sums_are_of_float32_whatever_the_process_allows(
    allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backends = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul
    before = [backend.fp32_precision for backend in backends]
    seen: list[str] = []
    real = per_sample._norms

    def spy(rows: Tensor) -> Tensor:
        seen.extend(backend.fp32_precision for backend in backends)
        return real(rows)

    monkeypatch.setattr(per_sample, "_norms", spy)
    network, images, labels = example(NETWORKS["convnet-group-8-1"])
    try:
        for backend in backends:
            backend.fp32_precision = allowed
        ours(network, images, labels, 1.0)
        assert seen == ["ieee", "ieee"]
        assert [backend.fp32_precision for backend in backends] == [allowed] * 2
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision


def test_norms_of_long_rows_are_exact_to_float32() -> None:
    rows = torch.rand(3, 2**20, generator=torch.Generator().manual_seed(0)).add_(1)
    norms = per_sample._norms(rows).double()
    torch.testing.assert_close(norms, rows.double().norm(dim=1), rtol=3e-7, atol=0)


@pytest.mark.parametrize(
    ("layer", "frozen"),
    [("1x1", "0.weight"), ("1x1", "2.bias"), ("1x1", "2."), ("group-norm", "2.weight"),
     ("grouped", "2.bias"), ("grouped", "2."), ("group-norm", "5.weight")],
)  # fmt: skip
def test_frozen_parameters_are_left_out(layer: str, frozen: str) -> None:
    network, images, labels = example(lambda: single(LAYERS[layer]()))
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(not name.startswith(frozen))
    got = ours(network, images, labels, 0.3)
    assert not any(name.startswith(frozen) for name in got[0])
    assert_same(got, naive(network, images, labels, 0.3))


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.ones(4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.by * x


class Standardised(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight - self.weight.mean(), self.bias)


class Twice(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return self[0](self[0](x))


class InPlace(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        seen = self[0](x)
        return self[1](seen) + self[2](seen).mul_(1) + seen.mul_(2)  # linear: autograd sees nothing


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Scale, r"for 2\.by: "),
        (lambda: nn.BatchNorm2d(4), r"for 2\.weight, 2\.bias: "),
        (lambda: nn.ConvTranspose2d(4, 4, 3), r"for 2\.weight, 2\.bias: "),
        (lambda: Standardised(4, 4, 3), r"2\.weight"),  # not the gradient of a plain convolution
        (lambda: nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), "padded with zeros"),
        (lambda: nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), "padded with zeros"),
        (lambda: Twice(nn.Conv2d(4, 4, 1)), "once"),
        (lambda: Twice(nn.GroupNorm(2, 4)), "once"),
        (lambda: nn.Sequential(*[nn.Linear(8, 8)] * 2), "once"),
        (lambda: InPlace(nn.Tanh(), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)), "modified in place"),
    ],
)
def test_what_cannot_be_right_is_refused_and_the_network_stays(
    layer: Callable[[], nn.Module], message: str
) -> None:
    network, images, labels = example(lambda: single(layer()))
    before = [id(p) for p in network.parameters()]
    with pytest.raises(ValueError, match=message):
        ours(network, images, labels, 1.0)
    assert [id(p) for p in network.parameters()] == before
    assert not any(m._forward_hooks for m in network.modules())


def test_a_sample_without_a_finite_gradient_adds_nothing_and_counts_as_clipped() -> None:
    torch.manual_seed(0)
    network = single(nn.Conv2d(4, 4, 3, padding=1))
    network(torch.zeros(1, 1, 8, 8))
    images, labels = torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 2, 3])
    scale = torch.tensor([1.0, 1e38, 1.0, 1.0])

    def losses(logits: Tensor) -> Tensor:
        of = labels[: len(logits)] if len(logits) == 4 else labels[[0, 2, 3]]
        own = scale if len(logits) == 4 else torch.ones(3)
        return cross_entropy(logits, of, reduction="none") * own * own

    with_it, norms = clipped_sum(network, images, losses, max_grad_norm=0.1)
    without, _ = clipped_sum(network, images[[0, 2, 3]], losses, max_grad_norm=0.1)
    assert norms.isinf().tolist() == [False, True, False, False]
    torch.testing.assert_close(with_it, without)


@pytest.mark.parametrize("value", [3e38, float("inf"), float("nan")])
def test_a_gradient_that_overflows_stays_within_the_bound(value: float) -> None:
    """Also one of finite entries, whose squares are infinite."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 1))
    images = torch.ones(2, 1, 2, 2)
    images[1] = value
    total, norms = clipped_sum(network, images, lambda y: y.sum(1), max_grad_norm=1.0)
    alone, _ = clipped_sum(network, images[:1], lambda y: y.sum(1), max_grad_norm=1.0)
    assert norms.isinf().tolist() == [False, True]
    torch.testing.assert_close(total, alone)


def test_nobody_and_a_gradient_of_zero_give_zeros() -> None:
    network, images, labels = example(NETWORKS["convnet-group-8-1"])
    sums, norms = ours(network, images[:0], labels[:0], 1.0, 4)
    assert norms.shape == (0,)
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(sums.pop(name), torch.zeros_like(parameter).float())
    assert not sums
    total, norms = clipped_sum(network, images, lambda y: 0 * y.sum(1), max_grad_norm=1.0)
    assert not norms.any()
    assert not total.any()


def test_the_network_is_as_before() -> None:
    network, images, labels = example(NETWORKS["resnet18-group-8-1"])
    called: list[str] = []
    network.head.register_forward_hook(lambda *_: called.append("mine"))
    marked = network.head.weight
    marked.grad = torch.full_like(marked, 7)
    network.head.bias.requires_grad_(False)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    parameters = dict(network.named_parameters())
    ours(network, images, labels, 1.0)
    assert called == ["mine"]
    assert sum(len(m._forward_hooks) + len(m._backward_hooks) for m in network.modules()) == 1
    for name, parameter in network.named_parameters():
        assert parameter is parameters[name]
        assert parameter.requires_grad == (name != "head.bias")
        assert parameter.grad is None or parameter is marked
        torch.testing.assert_close(parameter.detach(), before[name], rtol=0, atol=0)
    assert (marked.grad == 7).all()


@pytest.mark.parametrize("name", ["convnet-group-8-1", "resnet18-group-16-3"])
def test_channels_last_networks_get_gradients_in_their_own_layout(name: str) -> None:
    network, images, labels = example(NETWORKS[name])
    plain = ours(network, images, labels, 0.3)
    network.to(memory_format=torch.channels_last)
    sums, norms = ours(network, images.to(memory_format=torch.channels_last), labels, 0.3)
    assert_same((sums, norms), ({n: g.double() for n, g in plain[0].items()}, plain[1].double()))
    assert any(not p.is_contiguous() for p in network.parameters())
    set_gradients(network, torch.cat([g.double().flatten() for g in sums.values()]))
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.stride() == parameter.stride()
        torch.testing.assert_close(parameter.grad, sums[key].double(), rtol=0, atol=0)
