"""Compiled and recorded steps give the weights of eager ones; a recording is emulated here."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch._dynamo
from omegaconf import OmegaConf
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from synpriv import models, schema, tracking
from synpriv.data.images import LabelledImages
from synpriv.methods import steps
from synpriv.methods.base import MovingAverage
from synpriv.methods.classifier import Classifier
from synpriv.shadow import fitting

network = functools.partial(
    models.convnet, channels=1, size=8, num_classes=10, mean=[0.3], std=[0.37], width=4
)


class Recorder(TorchDispatchMode):
    """As a CUDA graph: operations on fixed memory, and every number but a tensor's a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple, dict, list[Tensor]]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, _tensors(result)))
        return result

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, results in self.calls:
            for old, new in zip(results, _tensors(func(*args, **kwargs)), strict=True):
                if old.untyped_storage().data_ptr() != new.untyped_storage().data_ptr():
                    old.copy_(new)


def _tensors(result: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]


def of(images: LabelledImages, **options: Any) -> Classifier:
    torch.manual_seed(0)
    method = Classifier(
        private=images, model=network, num_epochs=3, batch_size=8, lr=0.1, **options
    )
    (optimiser,), (schedule,) = method.configure_optimizers()
    method.optimizers = lambda use_pl_optimizer: optimiser
    method.lr_schedulers = lambda: schedule
    method.log = lambda *_, **__: None
    return method


def trained(method: Classifier, take_step: steps.Step | None = None) -> list[Tensor]:
    """Losses of the batches, then all weights and averages."""
    method.on_fit_start()
    step = take_step or method.take_step
    losses = list[Tensor]()

    def noted(images: Tensor, labels: Tensor) -> Tensor:
        losses.append(step(images, labels).clone())
        return losses[-1]

    method.take_step = noted
    for _ in range(method.max_epochs):
        for chunk in method.train_dataloader():
            method.training_step(chunk, 0)
    assert method.average is not None
    state = {**method.network.state_dict(), **method.average.module.state_dict(prefix="average.")}
    return [*losses, *state.values()]


@pytest.fixture
def images() -> LabelledImages:
    draw = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (44, 1, 8, 8), dtype=torch.uint8, generator=draw)
    return LabelledImages(pixels, torch.randint(0, 10, (44,), generator=draw))


@pytest.fixture
def recorders(monkeypatch: pytest.MonkeyPatch) -> list[Recorder]:
    """Recordings made in place of CUDA graphs, which run nothing when they are made."""
    made = list[Recorder]()

    def record(step: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        made.append(Recorder())
        tensors = [*touched.network.state_dict().values(), *touched.average.state_dict().values()]
        tensors += [state["momentum_buffer"] for state in touched.optimizers(False).state.values()]
        before = [tensor.clone() for tensor in tensors]
        with made[-1]:
            result = step()
        for tensor, value in zip(tensors, before, strict=True):
            tensor.copy_(value)
        return made[-1].replay, result

    monkeypatch.setattr(steps, "record", record)
    monkeypatch.setattr(steps, "aside", lambda step: step())
    return made


touched: Classifier  # by the recording under way


def recorded(method: Classifier) -> steps.Step:
    global touched  # noqa: PLW0603
    touched = method
    eager = functools.partial(method.step, steps.label_loss)
    return steps.FullBatches(steps.Recorded(eager, method.optimizers(False)), eager, 8)


@pytest.mark.parametrize("schedule", ["one_cycle", "step"])
def test_recorded_steps_are_the_eager_ones(
    schedule: str, images: LabelledImages, recorders: list[Recorder]
) -> None:
    # 6 batches an epoch, the last one short; rates that change, a moving average, statistics.
    options: dict[str, Any] = {"schedule": schedule, "milestones": [0.5, 1], "ema_decay": 0.9}
    expected = trained(of(images, **options))
    found = trained(method := of(images, **options), recorded(method))
    assert len(recorders) == 1
    assert len(found) == len(expected) > 3 * 6
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_rate_that_is_no_tensor_would_be_noticed(
    images: LabelledImages, recorders: list[Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    # That the emulation can fail: what a recording takes for a constant stays what it was.
    expected = trained(of(images, ema_decay=0.9))
    monkeypatch.setattr(steps.Recorded, "_rates_as_tensors", lambda self, device: None)
    found = trained(method := of(images, ema_decay=0.9), recorded(method))
    assert not torch.allclose(found[-1], expected[-1], rtol=1e-4, atol=1e-6)


def test_compiled_steps_are_the_eager_ones_and_compiled_once(
    images: LabelledImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = torch.compile(steps.label_loss, dynamic=False, backend="aot_eager")
    monkeypatch.setattr(steps, "compiled", lambda: fast)
    expected = trained(of(images, ema_decay=0.9))
    for error_on_recompile in (False, True):  # another network of the same architecture
        method = of(images, ema_decay=0.9)
        method.stepping = "compile"
        with torch._dynamo.config.patch(error_on_recompile=error_on_recompile):
            found = trained(method)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_cpu_has_no_graphs(images: LabelledImages) -> None:
    method = of(images, ema_decay=0.9)
    method.stepping = "graph"
    for one, other in zip(trained(method), trained(of(images, ema_decay=0.9)), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_only_full_batches_are_fast() -> None:
    seen = list[str]()

    def noted(name: str) -> steps.Step:
        return lambda images, labels: seen.append(name) or labels  # type: ignore[func-returns-value]

    step = steps.FullBatches(noted("fast"), noted("eager"), 8)
    for size in (5, 8, 8, 5):
        step(torch.zeros(size, 1), torch.zeros(size))
    assert seen == ["eager", "fast", "fast", "eager"]


def test_the_moving_average_is_torchs() -> None:
    torch.manual_seed(0)
    net = network()
    ours = MovingAverage(net, 0.9)
    torchs = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    for _ in range(4):
        net(torch.rand(8, 1, 8, 8))  # moves the statistics
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(torch.randn_like(parameter))
        ours.update_parameters(net)
        torchs.update_parameters(net)
    for name, value in torchs.module.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(ours.module.state_dict()[name], value, rtol=0, atol=0)


def test_a_warming_average_follows_its_formula() -> None:
    net = torch.nn.Linear(1, 1, bias=False)
    average, expected = MovingAverage(net, 0.5, warm_up=True), float("nan")
    for step in range(12):
        with torch.no_grad():
            net.weight.fill_(value := float(step**2))
        average.update_parameters(net)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = value if step == 0 else decay * expected + (1 - decay) * value
        torch.testing.assert_close(average.module.weight.item(), expected, rtol=1e-6, atol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_cuda_graph_gives_the_eager_steps(precision: str, images: LabelledImages) -> None:
    found = []
    for step in ("eager", "graph"):
        torch.manual_seed(0)
        method = Classifier(
            private=images, model=network, num_epochs=3, batch_size=8, lr=0.05, ema_decay=0.9
        )
        trainer = schema.Trainer(accelerator="gpu", precision=precision, step=step)
        fitting.no_tf32()
        fitting.fit(method, OmegaConf.structured(trainer), tracking.NoTracker(), "fit")
        found.append([*method.network.parameters(), *method.average.module.parameters()])
    tolerance = 1e-3 if precision == "32-true" else 3e-2
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
