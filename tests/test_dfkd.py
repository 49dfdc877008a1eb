"""Data-free distillation: the teacher untouched, the pool, the student's schedule."""

import copy
import functools
import re

import pytest
import torch
from conftest import Tensors, digits_as_tensors, facts_like
from omegaconf import OmegaConf
from torch import Tensor

from synpriv import models, schema, tracking
from synpriv.methods.base import Release
from synpriv.methods.classifier import Classifier
from synpriv.methods.dfkd import recipe, synthesis
from synpriv.methods.dfkd.fast import DFKD, distillation_loss
from synpriv.methods.dfkd.synthesis import Synthesis
from synpriv.shadow import fitting, query

CPU = OmegaConf.structured(schema.Trainer(accelerator="cpu"))
TINY = {"num_rounds": 4, "warmup_rounds": 2, "codes_per_round": 8, "code_size": 5, "width": 4}
TINY |= {"passes_per_round": 2, "batch_size": 8, "losses": {"batch_norm": 1.0, "one_hot": 0.0}}
network = functools.partial(
    models.convnet, channels=1, size=8, num_classes=10, mean=[0.3], std=[0.37], width=4
)


def fitted(method: torch.nn.Module) -> Release:
    fitting.quieten()
    return fitting.fit(method, CPU, tracking.NoTracker(), "fit")


def distilled(teacher: models.Network, seed: int = 0, **options: object) -> DFKD:
    torch.manual_seed(seed)
    shape = {"num_classes": 10, "image_shape": (1, 8, 8)}
    return DFKD(model=network, teacher=teacher, **shape, **(TINY | options))


@pytest.fixture(scope="module")
def source() -> Tensors:
    return digits_as_tensors()


@pytest.fixture(scope="module")
def trained(source: Tensors) -> models.Network:
    torch.manual_seed(1)
    method = Classifier(private=source.private, model=network, num_epochs=4, batch_size=32, lr=0.1)
    return fitted(method).classifier


@pytest.fixture
def teacher(trained: models.Network) -> models.Network:
    return copy.deepcopy(trained)


def bits(network: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, second[name]) for name, value in first.items())


def test_distillation_loss_is_the_softened_divergence_times_t_squared() -> None:
    teacher, student = torch.randn(6, 10) * 3, torch.randn(6, 10) * 3
    p, q = (teacher / 4).softmax(1), (student / 4).softmax(1)
    expected = 16 * (p * (p.log() - q.log())).sum() / 6
    torch.testing.assert_close(distillation_loss(teacher, student, 4.0), expected)
    same = 16 * torch.nn.functional.kl_div(q.log(), p, reduction="batchmean")
    torch.testing.assert_close(distillation_loss(teacher, student, 4.0), same)
    assert float(distillation_loss(teacher, teacher + 1, 4.0)) == pytest.approx(0, abs=1e-5)
    coarse = teacher.bfloat16(), student.bfloat16()  # rounded once, not by the division again
    fine = distillation_loss(coarse[0].float(), coarse[1].float(), 3.0)
    torch.testing.assert_close(distillation_loss(*coarse, 3.0), fine, rtol=0, atol=0)


def test_the_synthesis_loss_is_the_weighted_sum_and_leaves_out_weight_zero(
    teacher: models.Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def term(seen: Synthesis, name: str, value: float) -> Tensor:
        asked.append(name)
        return torch.tensor(value)

    for value, name in enumerate(("batch_norm", "one_hot", "adversarial", "balance"), start=1):
        monkeypatch.setitem(synthesis.LOSSES, name, functools.partial(term, name=name, value=value))
    losses = {"batch_norm": 2.0, "one_hot": 0.0, "adversarial": 0.5, "balance": 0}
    method = distilled(teacher, losses=losses, crop=False)
    method.on_fit_start()
    loss, _ = method.loss(torch.rand(8, 1, 8, 8), torch.zeros(8, dtype=torch.int64))
    assert float(loss) == 2.0 * 1 + 0.5 * 3
    assert asked == ["batch_norm", "adversarial"]


def test_statistics_average_over_rounds(teacher: models.Network) -> None:
    method = distilled(teacher, statistics_momentum=0.75, crop=False)
    method.on_fit_start()
    targets = torch.zeros(8, dtype=torch.int64)
    first, second = torch.rand(2, 8, 1, 8, 8)
    _, method.past = method.loss(first, targets)
    _, averaged = method.loss(second, targets)
    (_, ours, running), (_, theirs, _) = (synthesis.look(teacher, x) for x in (second, first))
    expected = [0.25 * x + 0.75 * y for x, y in zip(ours, theirs, strict=True)]
    torch.testing.assert_close(averaged, expected)
    torch.testing.assert_close(
        method.loss(second, targets)[0], synthesis.batch_norm_loss(expected, running)
    )


def test_both_networks_see_the_images_augmented(teacher: models.Network) -> None:
    losses = {"batch_norm": 1.0, "adversarial": 1.0}
    method = distilled(teacher, losses=losses, crop=True, flip=True)
    method.on_fit_start()
    seen: list[Tensor] = []
    for net in (method.teacher, method.network.eval()):
        net.register_forward_pre_hook(lambda net, inputs: seen.append(inputs[0]))
    images = torch.rand(8, 1, 8, 8, requires_grad=True)
    state = method.generator.get_state()
    loss, statistics = method.loss(images, torch.zeros(8, dtype=torch.int64))
    method.generator.set_state(state)
    expected = method.augment(images)
    assert not torch.equal(expected, images)
    assert all(torch.equal(inputs, expected) for inputs in seen)
    assert len(seen) == 2
    torch.testing.assert_close(statistics, synthesis.look(teacher, expected)[1])
    (gradient,) = torch.autograd.grad(loss, images)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize(
    "losses", [{"batch_norm": 1}, dict.fromkeys(synthesis.LOSSES, 1.0)], ids=["recipe", "all terms"]
)
def test_the_teacher_keeps_its_bits_and_the_student_learns(
    losses: dict[str, float], teacher: models.Network
) -> None:
    before = bits(teacher)
    method = distilled(teacher.train(), losses=losses)
    start = bits(method.network)
    fitted(method)
    assert same(before, teacher.state_dict())
    assert not any(module.training for module in teacher.modules())
    assert not any(parameter.grad is not None for parameter in teacher.parameters())
    assert not same(start, method.network.state_dict())


def test_the_student_does_not_start_from_the_initial_weights_of_a_teacher_of_its_seed(
    teacher: models.Network,
) -> None:
    torch.manual_seed(0)
    initial = network()  # what a teacher trained from seed 0 started from
    student = distilled(teacher, seed=0).network
    assert not torch.equal(initial.head.weight, student.head.weight)


def test_pool_grows_and_the_student_waits_for_the_warm_up(teacher: models.Network) -> None:
    method = distilled(teacher, num_rounds=5, warmup_rounds=2, cosine_rounds=2, final_lr=0.01)
    start, grow, distil = bits(method.network), method.grow, method.distil
    sizes: list[int] = []
    rates: list[float] = []

    def watched_grow() -> float:
        loss = grow()
        sizes.append(method.pooled)
        assert method.current_epoch > 2 or same(start, method.network.state_dict())
        return loss

    def watched_distil(lr: float) -> Tensor:
        rates.append(lr)
        return distil(lr)

    method.grow, method.distil = watched_grow, watched_distil
    released = fitted(method)
    assert sizes == [8, 16, 24, 32, 40]
    assert rates == pytest.approx([0.1, 0.055, 0.01])  # rounds 2, 3, 4
    pool = released.synthetic
    assert pool.images.shape == (40, 1, 8, 8)
    assert len(pool.images.unique(dim=0)) > 30
    with torch.no_grad():
        torch.testing.assert_close(pool.labels, teacher(pool.images).softmax(1))


def test_the_learning_rate_follows_torchs_cosine_past_its_period(teacher: models.Network) -> None:
    method = distilled(teacher, num_rounds=12, warmup_rounds=0, cosine_rounds=8, synthesis_steps=1)
    rates: list[float] = []
    method.distil = lambda lr: rates.append(lr) or torch.zeros(())
    fitted(method)
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 8, eta_min=2e-4)
    for rate in rates:
        assert rate == pytest.approx(schedule.get_last_lr()[0])
        optimiser.step()
        schedule.step()
    assert len(rates) == 12


def test_the_best_iterate_is_kept(teacher: models.Network) -> None:
    method = distilled(teacher, synthesis_steps=3)
    method.on_fit_start()
    values, seen = iter([3.0, 1.0, 2.0]), []

    def loss(images: Tensor, targets: Tensor) -> tuple[Tensor, list[Tensor]]:
        seen.append(images.detach().clone())
        return images.mean() * 0 + next(values), [torch.tensor(float(len(seen)))]

    method.loss = loss
    value, images, statistics = method.synthesise()
    assert value == 1.0
    assert torch.equal(images, seen[1])
    assert statistics == [torch.tensor(2.0)]


def test_synthesis_that_diverges_is_an_error_and_no_black_images(teacher: models.Network) -> None:
    method = distilled(teacher)
    method.loss = lambda images, targets: (images.mean() * float("nan"), [])
    with pytest.raises(ValueError, match=r"^generator_lr=0.005, code_lr=0.015: .* diverged"):
        fitted(method)


def test_same_seed_same_bits_and_another_seed_other_bits(teacher: models.Network) -> None:
    first, second, other = (fitted(distilled(teacher, seed)) for seed in (3, 3, 4))
    assert same(first.classifier.state_dict(), second.classifier.state_dict())
    assert torch.equal(first.synthetic.images, second.synthetic.images)
    assert not same(first.classifier.state_dict(), other.classifier.state_dict())
    assert not torch.equal(first.synthetic.images, other.synthetic.images)


def test_the_last_weights_are_released(teacher: models.Network) -> None:
    method = distilled(teacher)
    after: list[dict[str, Tensor]] = []
    optimise = method.optimise
    method.optimise = lambda loss: (optimise(loss), after.append(bits(method.network)))
    released = fitted(method).classifier
    assert released is method.network
    assert same(after[-1], released.state_dict())
    assert not same(after[-2], released.state_dict())
    assert len(after) == 2 * 3 + 2 * 4  # two passes over pools of 24 and 32
    assert not released.training


def test_a_student_of_the_digits_is_clearly_better_than_chance(
    teacher: models.Network, source: Tensors
) -> None:
    options = {"num_rounds": 12, "warmup_rounds": 4, "codes_per_round": 64, "width": 16}
    options |= {"code_size": 32, "synthesis_steps": 10, "batch_size": 32, "crop": False}
    options |= {"losses": {"batch_norm": 1.0, "one_hot": 1.0}}
    student = fitted(distilled(teacher, **options)).classifier
    assert query.accuracy(student, source.test) > 0.4  # chance: 0.1, other seeds: 0.57 to 0.73


def test_a_teacher_without_batch_norm_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^dfkd needs a teacher with BatchNorm: model.norm=batch"):
        distilled(network(norm="group"))
    made = recipe.DFKD(**TINY)
    made.check(facts_like(norm="group", teacher_norm="batch"))
    with pytest.raises(ValueError, match=r"^dfkd needs a teacher with BatchNorm: model.norm=batch"):
        made.check(facts_like(norm="batch", teacher_norm="group"))


def test_the_recipe_knows_the_losses() -> None:
    assert tuple(synthesis.LOSSES) == recipe.LOSSES


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *[("num_rounds", 0), ("warmup_rounds", 4), ("warmup_rounds", -1), ("codes_per_round", 1)],
        *[("temperature", 0.0), ("lr", -1), ("statistics_momentum", 1.0), ("cosine_rounds", 0)],
        *[("betas", [0.5]), ("betas", [0.5, 1.0])],
    ],
)
def test_a_bad_option_is_named(option: str, value: object, teacher: models.Network) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(f'{option}={value}')}: must be"):
        distilled(teacher, **{option: value})


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ({"bn": 1.0}, "losses.bn: no such term; there are batch_norm"),
        ({"one_hot": -1.0}, "losses.one_hot=-1.0: must be"),
        ({"one_hot": "x"}, "losses.one_hot=x: must be"),
        ({"one_hot": 0.0}, "must be positive"),
    ],
)
def test_bad_losses_are_named(
    losses: dict[str, float], message: str, teacher: models.Network
) -> None:
    with pytest.raises(ValueError, match=message):
        distilled(teacher, losses=losses)
