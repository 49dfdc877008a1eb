"""Data-free distillation: synthesis and distillation against bare loops."""

import copy
import functools

import torch
from omegaconf import OmegaConf
from torch import Tensor

from synpriv import models, schema, tracking
from synpriv.data.images import random_crop, random_flip
from synpriv.methods.base import stream
from synpriv.methods.dfkd.fast import DFKD
from synpriv.shadow import fitting

CPU = OmegaConf.structured(schema.Trainer(accelerator="cpu"))
TINY = {"num_rounds": 3, "warmup_rounds": 2, "codes_per_round": 8, "code_size": 5, "width": 4}
TINY |= {"passes_per_round": 3, "batch_size": 8, "losses": {"batch_norm": 1.0}}
network = functools.partial(
    models.convnet, channels=1, size=8, num_classes=10, mean=[0.3], std=[0.37], width=4
)


def distilled(**options: object) -> DFKD:
    """With a random teacher, sure of its classes."""
    torch.manual_seed(0)
    teacher, shape = network(), {"num_classes": 10, "image_shape": (1, 8, 8)}
    with torch.no_grad():
        teacher.head.weight.mul_(10)
    return DFKD(model=network, teacher=teacher, **shape, **(TINY | options))


def test_distillation_is_a_bare_loop_of_sgd_on_the_augmented_pool() -> None:
    options = {"temperature": 4.0, "momentum": 0.7, "weight_decay": 0.01, "crop": True}
    method = distilled(flip=True, **options)
    distil, compared = method.distil, list[str]()

    def bare(lr: float) -> tuple[torch.nn.Module, float]:
        student, losses = copy.deepcopy(method.network).train(), list[float]()
        sgd = torch.optim.SGD(student.parameters(), lr=lr, momentum=0.7, weight_decay=0.01)
        augmentation, order = (torch.Generator() for _ in range(2))
        augmentation.set_state(method.generator.get_state())
        order.set_state(method.order.get_state())
        for _ in range(3):
            for batch in torch.randperm(24, generator=order).split(8):
                images = random_crop(method.pool[batch], 1, augmentation)
                images = random_flip(images, augmentation)
                p = (method.teacher(images) / 4).softmax(1)
                q = (student(images) / 4).softmax(1)
                loss = 16 * (p * (p / q).log()).sum() / 8
                sgd.zero_grad()
                loss.backward()
                sgd.step()
                losses.append(float(loss.detach()))
        return student, sum(losses) / 9

    def watched(lr: float) -> Tensor:
        student, expected = bare(lr)
        mean = distil(lr)
        torch.testing.assert_close(float(mean), expected, rtol=1e-4, atol=0)
        for name, value in student.state_dict().items():
            theirs = method.network.state_dict()[name]
            torch.testing.assert_close(theirs, value, rtol=1e-3, atol=1e-4, msg=name)
            compared.append(name)
        return mean

    method.distil = watched
    fitting.quieten()
    fitting.fit(method, CPU, tracking.NoTracker(), "fit")
    assert "head.weight" in compared


def test_synthesis_is_a_bare_loop_of_adam_on_generator_and_codes() -> None:
    options = {"generator_lr": 0.02, "code_lr": 0.05, "betas": (0.3, 0.9), "synthesis_steps": 5}
    method = distilled(losses={"one_hot": 1.0}, crop=False, **options)
    method.on_fit_start()
    generator, draw = copy.deepcopy(method.synthesiser), stream("codes")
    codes = torch.randn(8, 5, generator=draw).requires_grad_()
    targets = torch.randint(10, (8,), generator=draw)
    adams = [
        torch.optim.Adam(generator.parameters(), lr=0.02, betas=(0.3, 0.9)),
        torch.optim.Adam([codes], lr=0.05, betas=(0.3, 0.9)),
    ]
    made: list[tuple[float, Tensor]] = []
    for _ in range(5):
        images = generator(codes)
        loss = torch.nn.functional.cross_entropy(method.teacher(images), targets)
        made.append((float(loss.detach()), images.detach()))
        for adam in adams:
            adam.zero_grad()
        loss.backward()
        for adam in adams:
            adam.step()
    best = min(range(5), key=lambda step: made[step][0])
    assert best > 1
    value, images, _ = method.synthesise()
    torch.testing.assert_close(value, made[best][0], rtol=1e-4, atol=0)
    torch.testing.assert_close(images, made[best][1], rtol=1e-3, atol=1e-4)


def test_synthesis_against_the_student_leaves_its_statistics_alone() -> None:
    method = distilled(losses={"adversarial": 1.0, "batch_norm": 1.0})
    method.on_fit_start()
    method.network.train()  # as the last round's distillation leaves it
    before = {name: value.clone() for name, value in method.network.state_dict().items()}
    assert any("running_mean" in name for name in before)
    method.synthesise()
    for name, value in method.network.state_dict().items():
        assert torch.equal(value, before[name]), name
