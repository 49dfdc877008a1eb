"""Image quality of real digits, of noise and of some classes, in features of held-out images."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from synpriv import schema
from synpriv.audit import quality
from synpriv.data.datasets import digits
from synpriv.data.intake import Pools, take_in
from synpriv.shadow import features, fitting

TRAINER = schema.Trainer(accelerator="cpu", precision="bf16-mixed", channels_last=True)
POOLS = take_in(digits())


@pytest.fixture(scope="module")
def cfg() -> Iterator[DictConfig]:
    fitting.quieten()
    yield OmegaConf.create({"trainer": TRAINER, "dataset": {"mean": [0.3], "std": [0.38]}})
    features._judge.cache_clear()


def judged(images: np.ndarray, cfg: DictConfig, pools: Pools = POOLS) -> dict[str, float]:
    found = features.image_quality(torch.from_numpy(images), pools, cfg)
    assert found is not None
    return found


def test_private_images_are_good_noise_is_not_and_lost_classes_cost_recall(
    cfg: DictConfig,
) -> None:
    private = POOLS.private
    good = judged(private.images[:300], cfg)
    assert good["num"] == 300
    assert good["num_real"] == 200  # the other 200 test images trained the network
    assert good["precision"] == pytest.approx(good["private_precision"], abs=0.1)
    assert good["recall"] == pytest.approx(good["private_recall"], abs=0.1)
    assert good["precision"] > 0.6
    noise = np.random.default_rng(0).integers(0, 256, (300, 1, 8, 8)).astype(np.uint8)
    weak = judged(noise, cfg)
    assert weak["recall"] < 0.1 * weak["private_recall"]
    assert weak["precision"] < 0.5 * weak["private_precision"]
    assert len(quality.warnings_of(weak)) == 1
    assert weak["fid"] > 10 * weak["private_fid"]
    half = judged(private.images[private.labels < 5][:300], cfg)
    assert half["recall"] < 0.75 * half["private_recall"]
    assert half["precision"] > 0.6


def test_the_network_is_trained_once_and_from_held_out_images_alone(
    cfg: DictConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, state = judged(POOLS.private.images[:50], cfg), torch.get_rng_state()
    seen: list[np.ndarray] = []
    fit = features.fit

    def watched(method: torch.nn.Module, *others: object) -> object:
        seen.append(method.private.images.numpy())
        return fit(method, *others)

    monkeypatch.setattr(features, "fit", watched)
    again = OmegaConf.merge(cfg, {"trainer": {"precision": "32-true"}})
    assert judged(POOLS.private.images[:50], again) == before
    assert not seen  # kept, for every trainer
    other = replace(POOLS, private=POOLS.private[np.arange(100)])
    changed = judged(POOLS.private.images[:50], cfg, other)
    (trained_on,) = seen
    held_out = {image.tobytes() for image in POOLS.test.images}
    assert {image.tobytes() for image in trained_on} <= held_out
    own = ("fid", "precision", "recall")
    assert [changed[key] for key in own] == [before[key] for key in own]
    assert changed["private_fid"] != before["private_fid"]
    assert torch.equal(torch.get_rng_state(), state)
