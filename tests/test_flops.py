"""FLOPs of a training, counted in its first steps, against a count of every step."""

import dataclasses
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from test_methods import configured, logits, obtained, split_of
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from synpriv import models
from synpriv.data.datasets import digits
from synpriv.data.intake import Pools, take_in
from synpriv.methods import flops
from synpriv.methods.dpsgd.per_sample import BLOCK, clipped_sum
from synpriv.shadow import query, training
from synpriv.shadow.costs import Costs, Stage

# One of each family; of 110 images the last batch of 16 is ragged, Poisson batches all differ.
FAST = ["undefended", "coreset_herding", "distill_dm", "dpsgd_high"]
SMALL_VIT = "dpsgd_high model=vit_tiny model.width=12 model.patch_size=2 model.depth=2"
SLOW = ["dfkd", "diffusion_scratch", SMALL_VIT]


@pytest.fixture(scope="module")
def pools() -> Pools:
    whole = digits()
    private, test = whole.private[np.arange(120)], whole.test[np.arange(40)]
    return take_in(dataclasses.replace(whole, private=private, test=test))


class EveryStep(Costs):
    """Also counts whatever a stage does, step for step."""

    pairs: ClassVar[list[tuple[str, float | None, int]]] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        with flops.counter() as counter, super().stage(name):
            yield
        self.pairs.append((name, self.stages[name].flops, counter.get_total_flops()))


class Uncounted(Costs):
    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        yield


@pytest.mark.parametrize(
    "words", [*FAST, *(pytest.param(words, marks=pytest.mark.slow) for words in SLOW)]
)
def test_a_count_of_first_steps_is_that_of_every_step(
    words: str, pools: Pools, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "Costs", EveryStep)
    monkeypatch.setattr(EveryStep, "pairs", [])
    obtained(configured(*f"method={words}".split()), split_of(pools), pools)
    assert EveryStep.pairs
    for stage, got, every in EveryStep.pairs:
        assert got == pytest.approx(every, rel=0.02), stage
    assert any(every for _, _, every in EveryStep.pairs)


@pytest.mark.parametrize("method", ["undefended", "dpsgd_high"])
def test_counting_changes_no_bit_of_what_is_learnt(
    method: str, pools: Pools, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg, split = configured(f"method={method}"), split_of(pools)
    counted, _ = obtained(cfg, split, pools)
    monkeypatch.setattr(training, "Costs", Uncounted)
    plain, _ = obtained(cfg, split, pools)
    np.testing.assert_array_equal(logits(counted, split), logits(plain, split))


def test_a_resnet_18_takes_0_56_gmac_for_an_image_of_cifar_10() -> None:
    """By hand, multiply-adds of a 3x3 convolution: 9 x inputs x outputs x places."""
    macs = 9 * 3 * 64 * 32**2 + 4 * 9 * 64**2 * 32**2 + 512 * 10
    for stage in (1, 2, 3):
        width, places = 64 * 2**stage, (32 // 2**stage) ** 2
        macs += places * (9 * width * width // 2 + 3 * 9 * width**2 + width * width // 2)
    assert macs / 1e9 == pytest.approx(0.56, abs=0.005)  # He et al.'s network on 32x32
    network = models.resnet18(channels=3, size=32, num_classes=10, mean=[0.5], std=[0.25])
    with flops.counted() as count:
        query.logits(network, torch.zeros(3, 3, 32, 32))
        query.logits(network, torch.zeros(4, 3, 32, 32))
    assert count.total == 7 * 2 * macs


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("stride", [1, 2])
def test_convolutions_in_groups_are_counted_as_what_they_multiply(groups: int, stride: int) -> None:
    layer = nn.Conv2d(6, 12, 3, stride, 1, groups=groups)
    images = torch.rand(5, 6, 8, 8, requires_grad=True)
    with flops.counter() as counter:
        layer(images).sum().backward()
    forward = 2 * 5 * 12 * (8 // stride) ** 2 * 9 * 6 // groups
    assert counter.get_total_flops() == 3 * forward  # with both gradients
    if groups == 1:
        with FlopCounterMode(display=False) as theirs:
            layer(images).sum().backward()
        assert theirs.get_total_flops() == 3 * forward


def test_per_sample_gradients_take_what_the_batch_s_take() -> None:
    network = models.convnet(
        channels=1, size=8, num_classes=10, mean=[0.3], std=[0.4], width=4, norm="group"
    )
    images, labels = torch.rand(6, 1, 8, 8), torch.arange(6)

    def losses(logits: Tensor) -> Tensor:
        return cross_entropy(logits, labels, reduction="none")

    with flops.counter() as own:
        clipped_sum(network, images, losses, max_grad_norm=1.0)
    with flops.counter() as batch:
        losses(network(images)).sum().backward()
    rows = math.ceil(sum(p.numel() for p in network.parameters()) / BLOCK) * BLOCK
    assert own.get_total_flops() == batch.get_total_flops() + 2 * 6 * rows  # the clipped sum


def test_a_part_is_counted_once_and_known_for_other_sizes() -> None:
    layer, seen = nn.Linear(3, 5), torch.zeros(4, 3)
    with flops.counted() as count:
        for size in (4, 0, 2):
            with flops.part("layer", size):
                layer(seen[:size])
        with flops.part("nothing"):
            pass
    assert count.total == 2 * 3 * 5 * (4 + 2)
    assert count.of_one == {"layer": 2 * 3 * 5, "nothing": 0}


def test_what_has_no_parts_is_not_known_and_nothing_is_counted_outside() -> None:
    with flops.part("layer"):
        pass
    with flops.counted() as count:
        nn.Linear(3, 5)(torch.zeros(4, 3))
    assert count.total is None


def test_the_sum_holds_what_a_run_is_built_on_but_a_public_model(tmp_path: Path) -> None:
    costs = Costs()
    costs.stages = {"fit": Stage(1.0, flops=2.0), "student": Stage(2.0, flops=3.0)}
    costs.stages["query"] = Stage(4.0, flops=100.0)

    def basis(name: str, **about: object) -> Path:
        (tmp_path / name).mkdir(exist_ok=True)
        content = {"cell": name, "train_s": 1.0, "artefacts": {"x": "0"}} | about
        (tmp_path / name / "metrics.json").write_text(json.dumps(content))
        return tmp_path / name / "x"

    before = {"teacher": basis("a", train_flops=10.0), "public_model": basis("b", train_flops=50.0)}
    assert costs.summary(before)["train_flops"] == 15.0
    old = costs.summary({"teacher": basis("a")})  # of a run before there was a count
    assert (old["train_flops"], old["train_s"]) == (None, 4.0)
    costs.stages["fit"].flops = None  # somebody's own generator
    assert costs.summary({})["train_flops"] is None


def test_memory_of_a_stage_is_its_own(tmp_path: Path) -> None:
    costs = Costs()
    with costs.stage("large"):
        held = torch.ones(30 * 2**20)  # 120 MB
        del held
    with costs.stage("small"):
        pass
    large, small = costs.stages["large"], costs.stages["small"]
    if large.rise_mb is None or small.rise_mb is None:  # a system that does not reset its peak
        assert small.peak_mb >= large.peak_mb
    else:
        assert large.rise_mb > 100 > small.rise_mb + 50
        assert large.peak_mb > small.peak_mb + 50
