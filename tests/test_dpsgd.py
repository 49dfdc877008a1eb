"""DP-SGD against plain SGD, Opacus's optimiser and the definition of its noise."""

import copy
import functools
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from conftest import digits_as_tensors, facts_like
from omegaconf import OmegaConf
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from synpriv import models, schema, tracking
from synpriv.data.datasets import digits
from synpriv.data.draws import draw as draw_canaries
from synpriv.data.images import CHUNK, LabelledImages, PoissonBatches
from synpriv.data.intake import take_in
from synpriv.data.split import make_split
from synpriv.methods.base import stream
from synpriv.methods.dpsgd import dpsgd, recipe
from synpriv.methods.dpsgd.dpsgd import DPSGD
from synpriv.methods.dpsgd.per_sample import clipped_sum
from synpriv.shadow import fitting, query

CPU = OmegaConf.structured(schema.Trainer(accelerator="cpu"))
network = functools.partial(
    models.convnet, channels=1, size=8, num_classes=10, mean=[0.3], std=[0.37], width=4,
    norm="group",
)  # fmt: skip
WHOLE = digits_as_tensors()
PRIVATE = WHOLE.private[torch.arange(60)]
NOBODY = torch.empty(0, dtype=torch.int64)


def method(private: LabelledImages = PRIVATE, **options: Any) -> DPSGD:
    """Without noise, augmentation, clipping and averaging unless `options` say so."""
    torch.manual_seed(options.pop("seed", 0))
    defaults = {
        "model": network, "expected_size": len(private), "num_epochs": 3, "batch_size": 12,
        "lr": 0.1, "delta": 1e-5, "noise_multiplier": 0.0, "max_grad_norm": 1e9,
        "ema_decay": None, "crop": False,
    }  # fmt: skip
    return DPSGD(private=private, **(defaults | options))


def fitted(of: DPSGD, **trainer: object) -> nn.Module:
    fitting.quieten()
    return fitting.fit(of, OmegaConf.merge(CPU, trainer), tracking.NoTracker(), "fit").classifier


def by_hand(of: DPSGD) -> DPSGD:
    """Ready for `step` without a trainer."""
    optimiser = of.configure_optimizers()
    of.optimizers = lambda use_pl_optimizer: optimiser
    of.on_fit_start()
    return of


def recorded(of: DPSGD) -> tuple[list[Tensor], list[Tensor]]:
    """The batches of all steps and the head's weights after each, filled in while fitting."""
    batches: list[Tensor] = []
    weights: list[Tensor] = []
    real = of.step

    def step(batch: Tensor) -> Tensor:
        num_clipped = real(batch)
        batches.append(batch.clone())
        weights.append(of.network.head.weight.detach().clone())
        return num_clipped

    of.step = step
    return batches, weights


def drawn(num: int, rate: float, steps: int) -> list[Tensor]:
    """What Poisson sampling with the run's stream gives."""
    draw = functools.partial(torch.rand, num, generator=stream("sampling"), dtype=torch.float64)
    return [torch.nonzero(draw() < rate).flatten() for _ in range(steps)]


def flat(net: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def moved(of: DPSGD, batch: Tensor) -> dict[str, Tensor]:
    """Change of each parameter in one step."""
    before = {name: p.detach().clone() for name, p in of.network.named_parameters()}
    of.step(batch)
    return {name: p.detach() - before[name] for name, p in of.network.named_parameters()}


def test_without_noise_and_clipping_it_is_plain_sgd_on_poisson_batches() -> None:
    of = method(momentum=0.9, weight_decay=1e-2, physical_batch_size=5)
    net = copy.deepcopy(of.network)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2)
    for batch in drawn(60, 12 / 60, 15):
        loss = cross_entropy(net(PRIVATE.images[batch]), PRIVATE.labels[batch], reduction="sum")
        optimiser.zero_grad()
        (loss / 12).backward()
        optimiser.step()
    torch.testing.assert_close(flat(fitted(of)), flat(net), rtol=1e-4, atol=1e-5)


def test_clipping_is_that_of_opacus() -> None:
    of = method(momentum=0.9, max_grad_norm=2.0, physical_batch_size=7)
    net = GradSampleModule(copy.deepcopy(of.network), strict=False)
    for module in net.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False  # which Opacus's hooks do not allow
    optimiser = DPOptimizer(
        torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9),
        noise_multiplier=0.0, max_grad_norm=2.0, expected_batch_size=12,
    )  # fmt: skip
    clipped = 0
    for batch in drawn(60, 12 / 60, 15):
        optimiser.zero_grad()
        cross_entropy(net(PRIVATE.images[batch]), PRIVATE.labels[batch]).backward()
        norms = torch.stack([p.grad_sample.flatten(1).norm(dim=1) for p in net.parameters()])
        clipped += int((norms.norm(dim=0) > 2).sum())
        optimiser.step()
    assert clipped > 50
    torch.testing.assert_close(flat(fitted(of)), flat(net), rtol=1e-4, atol=1e-5)
    other = flat(fitted(method(momentum=0.9, max_grad_norm=1.0)))
    assert not torch.allclose(other, flat(net), atol=1e-3)


@pytest.mark.parametrize(("noise", "bound", "batch_size"), [(2.0, 0.5, 12), (0.7, 3.0, 30)])
def test_noise_has_its_size_everywhere(noise: float, bound: float, batch_size: int) -> None:
    options = {"noise_multiplier": noise, "max_grad_norm": bound, "batch_size": batch_size}
    of = by_hand(method(lr=1.0, **options))
    steps = [moved(of, NOBODY) for _ in range(60)]
    std = noise * bound / batch_size
    for name in steps[0]:
        draws = torch.stack([step[name] for step in steps]).flatten().double()
        assert len(draws) > 200
        assert abs(float(draws.std()) / std - 1) < max(0.03, 4 / (2 * len(draws)) ** 0.5), name
        assert abs(float(draws.mean())) < 4 * std / len(draws) ** 0.5, name
    everything = torch.stack([torch.cat([d.flatten() for d in step.values()]) for step in steps])
    assert abs(float(everything.std()) / std - 1) < 0.01
    assert len(everything.unique()) > 0.99 * everything.numel()  # no draw comes twice
    shared = torch.corrcoef(everything).fill_diagonal_(0).abs().max()
    assert shared < 6 / everything.shape[1] ** 0.5


def test_the_noise_is_the_same_for_the_same_seed_only() -> None:
    options: dict[str, Any] = {"noise_multiplier": 1.0, "max_grad_norm": 1.0, "num_epochs": 1}
    first, again, other = (flat(fitted(method(seed=seed, **options))) for seed in (1, 1, 2))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_pieces_make_no_difference_also_where_an_epoch_ends(noise: float) -> None:
    paths = []
    options: dict[str, Any] = {"noise_multiplier": noise, "max_grad_norm": 1.0, "momentum": 0.9}
    for size in (1, 3, 7, 64, 1000):
        batches, weights = recorded(of := method(physical_batch_size=size, **options))
        fitted(of)
        paths.append(torch.stack(weights))
        assert any(len(batch) % 3 for batch in batches)
        torch.testing.assert_close(paths[-1], paths[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_chunks_make_no_difference(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = []
    for chunk in (1, 50):
        monkeypatch.setattr("synpriv.data.images.CHUNK", chunk)
        of = method(noise_multiplier=1.0, max_grad_norm=1.0, crop=True, num_views=2)
        ends.append(flat(fitted(of, precision=precision)))
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=0)


def test_layout_in_memory_makes_no_difference() -> None:
    options: dict[str, Any] = {"noise_multiplier": 0.5, "max_grad_norm": 1.0, "momentum": 0.9}
    plain, last = (flat(fitted(method(**options), channels_last=c)) for c in (False, True))
    torch.testing.assert_close(plain, last, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("num", "batch_size"), [(60, 12), (7, 1), (103, 10)])
def test_all_steps_are_taken_and_accounted_for(num: int, batch_size: int) -> None:
    private = PRIVATE[torch.arange(num) % 60]
    batches, _ = recorded(of := method(private, batch_size=batch_size, num_epochs=13))
    fitted(of)
    assert len(batches) == of.num_steps == of.metrics()["steps"] == 13 * round(num / batch_size)
    assert of.metrics()["sample_rate"] == batch_size / num
    assert all(map(torch.equal, batches, drawn(num, batch_size / num, len(batches))))
    if batch_size == 1:
        assert sum(len(batch) == 0 for batch in batches) > 20


def test_at_most_a_physical_batch_is_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def spy(net: nn.Module, images: Tensor, *args: object, **options: Any) -> object:
        seen.append(len(images) // options["num_views"])
        return clipped_sum(net, images, *args, **options)

    monkeypatch.setattr(dpsgd, "clipped_sum", spy)
    batches, _ = recorded(of := method(physical_batch_size=5, num_views=3, crop=True))
    fitted(of)
    assert max(seen) == 5
    assert sum(seen) == sum(map(len, batches))


def test_equal_views_change_nothing_and_other_views_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def end(views: int) -> Tensor:
        return flat(fitted(method(max_grad_norm=1.0, num_views=views, crop=True)))

    cropped = end(3)
    monkeypatch.setattr("synpriv.data.images.random_crop", lambda images, *_, fill: images)
    torch.testing.assert_close(end(3), end(1), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(end(3), cropped, atol=1e-3)


@pytest.mark.parametrize(("noise", "low", "high"), [(0.0, 0.6, 1.0), (1000.0, 0.0, 0.2)])
def test_much_noise_and_only_that_prevents_learning(noise: float, low: float, high: float) -> None:
    options = {"noise_multiplier": noise, "max_grad_norm": 1.0, "batch_size": 40, "num_epochs": 8}
    of = method(WHOLE.private[torch.arange(400)], lr=0.5, **options)
    assert low <= query.accuracy(fitted(of), WHOLE.test) <= high


@pytest.mark.parametrize("decay", [0.3, 0.9])
def test_the_average_is_taken_once_after_each_step_with_a_warm_up(decay: float) -> None:
    of = method(ema_decay=decay, physical_batch_size=2, noise_multiplier=1.0, max_grad_norm=1.0)
    batches, weights = recorded(of)
    released, expected = fitted(of).head.weight, weights[0].double()
    for t, now in enumerate(weights[1:], start=1):
        d = min(decay, (1 + t) / (10 + t))
        expected = d * expected + (1 - d) * now.double()
    torch.testing.assert_close(released.double(), expected, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(released, weights[-1])
    assert len(batches) == of.average.num_updates == 15


def test_without_averaging_the_last_weights_are_released() -> None:
    _, weights = recorded(of := method(ema_decay=None))
    torch.testing.assert_close(fitted(of).head.weight, weights[-1], rtol=0, atol=0)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"model": functools.partial(network, norm="batch")}, r"model\.norm=.*model\.norm=group"),
    ({"noise_multiplier": None}, "exactly one"),
    ({"noise_multiplier": 1.0, "target_epsilon": 1.0}, "exactly one"),
    ({"delta": 0.0}, "delta=0.0"), ({"delta": 1.0}, "delta=1.0"), ({"num_views": 2}, "num_views=2"),
    ({"noise_multiplier": None, "target_epsilon": 0.0}, "^target_epsilon=0"),
    ({"noise_multiplier": -1.0}, "multiplier=-1"),
    ({"max_grad_norm": 0.0}, "norm=0"), ({"physical_batch_size": 0}, "physical_batch_size=0"),
    ({"ema_decay": 1.0}, "ema_decay=1"), ({"accountant": "x"}, "accountant=x"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "message"), BAD)
def test_a_bad_option_is_named_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        method(**options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delta": 1 / 60}, r"^delta=0\.01\d*: must be above 0 and below 1/60"),
        ({"batch_size": 61}, r"^batch_size=61: must be at most 60, the expected number"),
        ({}, r"^model\.norm=batch: .*model\.norm=group"),
    ],
)
def test_what_does_not_fit_the_data_is_refused(options: dict[str, Any], message: str) -> None:
    given = {"num_epochs": 3, "batch_size": 60, "lr": 0.1, "delta": 1e-5, "noise_multiplier": 1.0}
    recipe.DPSGD(**given).check(facts_like(norm="group"))
    with pytest.raises(ValueError, match=message):
        recipe.DPSGD(**(given | options)).check(facts_like(norm="group" if options else "batch"))


@pytest.mark.parametrize("draw", ["paired", "balanced", "bernoulli"])
def test_who_is_a_member_changes_neither_rate_nor_number_of_steps(draw: str) -> None:
    pools = take_in(digits(), num_train=60)
    how: dict[str, Any] = {"kind": "mislabelled", "num_canaries": 40, "member_draw": draw}
    drawn = draw_canaries(pools, **how, num_models=16, audit_seed=0)
    splits = [make_split(pools, drawn, seed=seed) for seed in range(16)]
    assert len({len(s.train) for s in splits}) > 1
    found = [method(s.train, expected_size=s.expected_size) for s in splits]
    assert {(of.sample_rate, of.num_steps) for of in found} == {(12 / 40, 9)}


def test_poisson_batches_draw_each_sample_on_its_own() -> None:
    num, rate, steps = 40, 0.15, 4000
    batches = PoissonBatches(num, rate, steps, torch.Generator().manual_seed(0))
    chunks = list(batches)
    assert [len(chunk) for chunk in chunks] == [CHUNK] * len(batches) == [50] * 80
    joins = torch.zeros(steps, num, dtype=torch.float64)
    for row, batch in zip(joins, itertools.chain(*chunks), strict=True):
        row[batch] += 1
    assert joins.max() == 1  # nobody twice
    spread = (rate * (1 - rate) / steps) ** 0.5
    assert (joins.mean(0) - rate).abs().max() < 4.5 * spread
    sizes = joins.sum(1)
    assert abs(float(sizes.mean()) - num * rate) < 4 * spread * num**0.5
    assert float(sizes.var()) == pytest.approx(num * rate * (1 - rate), rel=0.1)
    for table in (joins.T, torch.stack((sizes[:-1], sizes[1:]))):  # across samples, across steps
        shared = np.corrcoef(table.numpy()) - np.eye(len(table))
        assert np.abs(shared).max() < 5 / steps**0.5


def test_poisson_batches_keep_to_their_number_and_generator() -> None:
    def draw(steps: int, seed: int = 1) -> list[list[Tensor]]:
        return list(PoissonBatches(9, 0.5, steps, torch.Generator().manual_seed(seed)))

    assert [list(map(len, draw(steps))) for steps in (0, 1, 50, 51)] == [[], [1], [50], [50, 1]]
    assert str(draw(51)) == str(draw(51)) != str(draw(51, seed=2))
