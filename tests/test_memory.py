"""What a step keeps in memory, compared with a count by hand, and what is said of it."""

import functools
import math
from collections.abc import Callable

import pytest
import torch
from conftest import Compose
from omegaconf import DictConfig
from torch import nn

from synpriv.data import archive
from synpriv.models import Network, convnet3
from synpriv.shadow import check as checks
from synpriv.shadow import memory
from synpriv.shadow.memory import kept_bytes
from synpriv.shadow.recipes import batches, recipes_of


def small(num_classes: int) -> Network:
    body = nn.Sequential(nn.Conv2d(1, 5, 3, padding=1), nn.Sigmoid(), nn.Flatten())
    return Network(body, nn.Linear(5 * 8 * 8, num_classes), [0.5], [0.25])


def test_a_step_keeps_what_a_count_by_hand_says() -> None:
    pixels, batch, classes = 8 * 8, 6, 10
    # Images before the convolution, the sigmoid's output (the head's input too), log-probabilities.
    floats = batch * (pixels + 5 * pixels + classes)
    labels = 8 * batch
    found = kept_bytes(functools.partial(small, classes), (batch, 1, 8, 8), classes)
    assert abs(found - (4 * floats + labels)) <= 8  # and a number or two


def test_it_grows_with_the_batch_and_the_square_of_the_side() -> None:
    def kept(batch: int, size: int) -> int:
        made = functools.partial(convnet3, channels=3, size=size, num_classes=4, width=8,
                                 mean=[0.5], std=[0.25])  # fmt: skip
        return kept_bytes(made, (batch, 3, size, size), 4)

    state = torch.random.get_rng_state()
    assert math.isclose(kept(8, 32), 2 * kept(4, 32), rel_tol=0.01)
    assert math.isclose(kept(4, 64), 4 * kept(4, 32), rel_tol=0.01)
    assert torch.equal(torch.random.get_rng_state(), state)


Large = Callable[..., DictConfig]


def test_steps_that_fit_in_no_memory_are_said_and_refused_on_a_cpu(
    compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_set = ["dataset.num_train=60", "dataset.num_test=20", "canary.num_canaries=10"]
    cfg = compose(*small_set, "num_models=6", "logger=none", "method.batch_size=20")
    monkeypatch.setattr(checks, "LARGE", 7)  # as if digits were large
    assert checks.check(cfg)["warnings"] == []
    kept = []
    real = kept_bytes
    monkeypatch.setattr(memory, "kept_bytes", lambda *a: kept.append(real(*a)) or kept[-1])
    monkeypatch.setattr(memory, "memory", lambda: 1_000_000)
    (warning,) = checks.check(cfg)["warnings"]
    told = "method.batch_size=20: of 20 images of 1x8x8 a step of model keeps"
    assert warning == f"{told} {kept[0] / 1000:.3g} kB, of 1 MB of memory of this machine"
    monkeypatch.setattr(memory, "memory", lambda: 500_000)
    checks.check(cfg)  # it may have a GPU
    cfg.trainer.accelerator = "cpu"
    with pytest.raises(
        ValueError, match=r"^method\.batch_size=20: .* must be less than the 500 kB"
    ):
        checks.check(cfg)
    monkeypatch.setattr(archive, "memory", lambda: 10_000)
    monkeypatch.setattr(checks, "LARGE", 64)
    (warning,) = checks.check(cfg)["warnings"]
    assert warning.startswith("a run holds the images about 3 times, 15.4 kB of 10 kB of memory")


def test_every_training_s_batch_is_looked_at_with_its_own_network(compose: Compose) -> None:
    cfg = compose("method=dfkd", "model@method.teacher.model=resnet18")
    found = {each.where: each.model for each in batches(cfg, recipes_of(cfg))}
    assert found == {
        "method.batch_size=64": "model",
        "method.teacher.batch_size=64": "method.teacher.model",
    }
    cfg = compose("method=dpsgd", "method.num_views=3")
    (own,) = batches(cfg, recipes_of(cfg))
    assert (own.where, own.size) == ("method.physical_batch_size=64", 192)
