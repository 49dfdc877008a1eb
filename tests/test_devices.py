"""Training steps, queries and nearest images on fake CUDA tensors: none is on the CPU.

A fake tensor has a device and a shape but no content. Reading content (`.item()`) is an error, so
a step that passes does not wait for the device either.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch._subclasses.fake_tensor import FakeTensorDeviceMismatchError
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from synpriv import models
from synpriv.data import dsa
from synpriv.data.images import LabelledImages
from synpriv.methods import base, classifier
from synpriv.methods.base import Method
from synpriv.methods.dfkd import fast
from synpriv.methods.diffusion import ddpm
from synpriv.methods.diffusion.denoising import denoising_loss, drop_labels
from synpriv.methods.distill import dm
from synpriv.methods.dpsgd import per_sample
from synpriv.shadow import query, visual

CUDA = torch.device("cuda:0")
network = functools.partial(
    models.convnet, channels=1, size=8, num_classes=10, mean=[0.3], std=[0.37], width=4
)


class CpuIndex(Exception):
    """Legal, but the host waits until the index has been copied to the GPU."""


class Watch(TorchDispatchMode):
    """Refuses CPU indices into CUDA tensors, which torch takes."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default):
            used = [leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor)]
            if used[0].device.type == "cuda" and any(t.device.type == "cpu" for t in used[1:]):
                raise CpuIndex(str(func))
        return func(*args, **(kwargs or {}))


@contextmanager
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fake CUDA tensors; C++ autograd and generators refuse them and are left out."""

    def backward(loss: Tensor, inputs: Any = None) -> None:
        assert loss.device == CUDA

    monkeypatch.setattr(Tensor, "backward", backward)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    real = base.stream
    for module in (base, classifier, ddpm, dm, fast):
        monkeypatch.setattr(module, "stream", lambda purpose, device="cpu": real(purpose))
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), Watch():
            yield
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)


def images(num: int = 40) -> LabelledImages:
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (num, 1, 8, 8), dtype=torch.uint8, generator=draw)
    return LabelledImages(pixels, torch.arange(num) % 10)


def prepared(method: Method) -> Method:
    """As Lightning leaves a module when training begins."""
    optimiser = method.configure_optimizers()
    optimiser = optimiser[0][0] if isinstance(optimiser, tuple) else optimiser
    method.optimizers = lambda use_pl_optimizer: optimiser
    method.lr_schedulers = lambda: None
    method.log = lambda *_, **__: None
    method.to(CUDA)
    assert all(p.device == CUDA for p in method.parameters())
    method.on_fit_start()
    return method


def plain(**options: Any) -> classifier.Classifier:
    shared = {"num_epochs": 1, "batch_size": 8, "lr": 0.1, "warmup_epochs": 0, "flip": True}
    return classifier.Classifier(private=images(), model=network, **shared, **options)


@pytest.mark.parametrize("norm", ["batch", "group", "instance"])
def test_a_classifier_s_step_stays_on_the_device(norm: str, monkeypatch: Any) -> None:
    method = plain(ema_decay=0.9)
    method.network, method.average = network(norm=norm), None
    method.average = base.MovingAverage(method.network, 0.9)
    with fake_cuda(monkeypatch):
        prepared(method).training_step([torch.arange(8, device=CUDA)] * 2, 0)


def test_a_step_that_mixes_devices_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    method = plain()
    with fake_cuda(monkeypatch):
        prepared(method)
        with pytest.raises(CpuIndex):
            method.training_step([torch.arange(8)], 0)
        method.private = images()
        with pytest.raises((FakeTensorDeviceMismatchError, RuntimeError)):
            method.training_step([torch.arange(8, device=CUDA)], 0)


def test_queries_and_nearest_images_stay_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    net, data = network(), images()
    with fake_cuda(monkeypatch):
        net.to(CUDA)
        for view in query.views(data.images.to(CUDA), flip=True):
            assert query.logits(net, view).device == CUDA
        found = visual.nearest(data.images.to(CUDA), data.images[:20].to(CUDA))
        assert found.distance.device == found.index.device == CUDA


def matching() -> dm.DistributionMatching:
    return dm.DistributionMatching(
        private=images(), model=network, embedder=network, num_classes=10, images_per_class=1,
        num_iterations=2, augment=["colour", "crop", "cutout", "flip", "scale", "rotate"],
    )  # fmt: skip


def diffusion() -> ddpm.Diffusion:
    return ddpm.Diffusion(
        private=images(), num_classes=10, image_shape=(1, 8, 8), expected_size=40,
        public_model=None, channels=[8, 8], layers_per_block=1, prediction="v_prediction",
        num_iterations=2, batch_size=8, lr=1e-3, warmup_iterations=1, ema_decay=0.9,
        null_rate=0.1, crop=True, flip=True, sampler="ddim", num_inference_steps=2, guidance=1.0,
    )  # fmt: skip


def dfkd() -> fast.DFKD:
    return fast.DFKD(
        model=network, teacher=network(), num_classes=10, image_shape=(1, 8, 8), num_rounds=2,
        warmup_rounds=0, codes_per_round=8, losses={"batch_norm": 1.0, "one_hot": 1.0},
    )  # fmt: skip


def losses_of_dfkd(method: fast.DFKD) -> None:
    codes = torch.randn(8, method.recipe.code_size, device=CUDA)
    targets = torch.zeros(8, dtype=torch.int64, device=CUDA)
    _, method.past = method.loss(method.synthesiser(codes), targets)
    loss, _ = method.loss(method.synthesiser(codes), targets)
    assert loss.device == CUDA


def steps_of_matching(method: dm.DistributionMatching) -> None:
    def embedder() -> models.Network:
        with torch.device(CUDA):
            made = network()
        made.to = lambda *_: made  # it is there already
        return made

    method.embedder = embedder
    for transform in dsa.STRATEGIES.values():  # in turn: what is drawn has no content here

        def in_turn(batches: list[Tensor], *_: object, of: Any = transform, **__: int) -> object:
            return [of(batch, torch.rand(len(batch), 3, device=CUDA)) for batch in batches]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(dm, "siamese", in_turn)
            method.optimise(method.loss())


def losses_of_diffusion(method: ddpm.Diffusion) -> None:
    batch = method.data[torch.arange(8, device=CUDA)]
    labels = drop_labels(batch.labels, null=10, rate=0.1, draw=method.noise)
    pixels = method.augment(batch.images).float() / 127.5 - 1
    loss = denoising_loss(method.network, method.schedule, pixels, labels, method.noise)
    method.optimise(loss)
    method._update_average()
    assert loss.device == CUDA


@pytest.mark.parametrize(
    ("make", "step"),
    [(matching, steps_of_matching), (dfkd, losses_of_dfkd), (diffusion, losses_of_diffusion)],
    ids=["distribution matching", "dfkd", "diffusion"],
)
def test_a_method_s_step_stays_on_the_device(
    make: Callable[[], Method], step: Callable[[Any], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    method = make()
    with fake_cuda(monkeypatch):
        step(prepared(method))


def test_per_sample_gradients_stay_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the backward pass would call, layer by layer: autograd refuses fake tensors."""
    seen: list[tuple[torch.nn.Module, Tensor, Tensor]] = []
    with fake_cuda(monkeypatch):
        with torch.device(CUDA):
            net = network(norm="group")
        table = per_sample._Table(net, batch=4, num_views=2, device=CUDA)
        for layer in net.modules():
            if list(layer.parameters(recurse=False)):
                layer.register_forward_hook(lambda own, x, y: seen.append((own, x[0], y)))
        with torch.no_grad():
            net(torch.zeros(8, 1, 8, 8, device=CUDA))
            for layer, inputs, output in seen:
                per_sample._fill(table, layer, inputs, torch.ones_like(output))
            table.check()
            norms = per_sample._norms(table.rows)
        assert norms.device == table.in_own_order(table.rows.sum(0)).device == CUDA
