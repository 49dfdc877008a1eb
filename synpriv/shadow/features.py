"""The features that released images are judged in: of a small network that knows no private image.

It is trained on one half of the held-out images and compares with the other half. So what it says
of a release depends on the private set through that release alone; the private images themselves
are measured beside it, for the reader. All methods of a data set share it, whatever they train.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig
from torch import Tensor

from synpriv.audit.quality import Features, quality
from synpriv.data.images import LabelledImages
from synpriv.data.intake import Pools
from synpriv.data.pool import Pool
from synpriv.methods.classifier import Classifier
from synpriv.models import Network, convnet
from synpriv.shadow.fitting import device_of, fit
from synpriv.tracking import NoTracker

TRAINED_ON = 2000  # held-out images at the most
COMPARED = 1000  # images of each kind at the most
_BATCH = 250
_OPTIONS: dict[str, Any] = {"num_epochs": 12, "batch_size": 32, "lr": 0.05}


@dataclass(frozen=True)
class _Kept:
    """What the features and what they are compared with depend on; equal for equal data."""

    private_sha256: str
    test_sha256: str
    constants: tuple[tuple[float, ...], tuple[float, ...]]  # mean and std
    pools: Pools = field(compare=False)
    trainer: DictConfig = field(compare=False)


@dataclass(frozen=True)
class Judge:
    """A network and the features of real images, [M,D]."""

    network: Network
    held_out: Features
    private: Features


def image_quality(synthetic: Tensor, pools: Pools, cfg: DictConfig) -> dict[str, Any] | None:
    """`audit.quality.quality` of uint8 images [N,ch,H,W]; None if there are too few to tell."""
    constants = tuple(tuple(map(float, cfg.dataset[name])) for name in ("mean", "std"))
    mean, std = constants
    sums = pools.private.digest(), pools.test.digest()
    judge = _judge(_Kept(*sums, (mean, std), pools=pools, trainer=cfg.trainer))
    most = min(COMPARED, len(judge.private))  # FID and recall depend on the number of images
    made = _features(judge.network, synthetic.numpy()[_drawn(len(synthetic), most)])
    return quality(made, judge.held_out, judge.private[: len(made)])


@functools.lru_cache(maxsize=1)  # for all shadow models that a worker trains
def _judge(kept: _Kept) -> Judge:
    private, test = kept.pools.natural, kept.pools.test
    order = _drawn(len(test), len(test))
    learnt, judged = order[::2][:TRAINED_ON], order[1::2][:COMPARED]
    network = _trained(test[learnt], kept)
    return Judge(
        network,
        held_out=_features(network, test.images[judged]),
        private=_features(network, private.images[_drawn(len(private), COMPARED)]),
    )


def _drawn(num: int, most: int) -> NDArray[np.int64]:
    """Positions in a random order, which is no rhythm of classes, as regular ones may be."""
    return np.random.default_rng(0).permutation(num)[:most]


def _trained(data: Pool, kept: _Kept) -> Network:
    """The network after training on these images; leaves torch's random state as it was."""
    own = kept.trainer.copy()
    own.precision, own.channels_last = "32-true", False  # one network for all methods
    own.step, own.cudnn_benchmark = "eager", False
    channels, size, _ = kept.pools.image_shape
    mean, std = kept.constants
    sizes = {"channels": channels, "size": size, "num_classes": kept.pools.num_classes}
    factory = functools.partial(convnet, **sizes, mean=mean, std=std, width=16, norm="batch")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        method = Classifier(private=LabelledImages.of(data), model=factory, **_OPTIONS)
        network = fit(method, own, NoTracker(), "features").classifier
    assert network is not None
    return network.to(device_of(own)).eval()


@torch.no_grad()
def _features(network: Network, images: NDArray[np.uint8]) -> Features:
    """What the head is given, float64 [N,D]."""
    device = network.mean.device
    parts = torch.from_numpy(np.ascontiguousarray(images)).split(_BATCH)
    every = [network.features(network.normalise(part.to(device))) for part in parts]
    return torch.cat(every).double().cpu().numpy()
