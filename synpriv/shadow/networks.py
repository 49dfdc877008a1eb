"""Networks of the user's own: tried on a few images before anything is trained with them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm

from synpriv import errors
from synpriv.data.intake import Pools
from synpriv.methods.dpsgd.per_sample import clipped_sum
from synpriv.models import Network
from synpriv.shadow.offering import network_factory
from synpriv.shadow.recipes import OwnNetwork
from synpriv.signatures import require

TRIED = 4  # images; BatchNorm needs more than one


def check_networks(own: Sequence[OwnNetwork], pools: Pools, cfg: DictConfig) -> None:
    """Raise ValueError for a network that does not keep what docs/add_a_model.md promises of it.

    Or that lacks what the method needs. torch's random state stays as it is.
    """
    images = torch.tensor(pools.private.images[:TRIED])
    labels = torch.tensor(pools.private.labels[:TRIED])
    for where, node, needs in own:
        with torch.random.fork_rng(devices=[]):
            try:
                made = network_factory(node, where, pools, cfg)()
                network = _checked(made, where, images, labels, num_classes=pools.num_classes)
                for need in needs:
                    _NEEDS[need](network, where, images, labels)
            except Exception as error:
                if errors.is_foreseen(error):
                    raise
                tried = f"{where}._target_={node['_target_']}: tried on {TRIED} images"
                raise ValueError(f"{tried}: {errors.unforeseen(error)}") from error


def _checked(
    network: object, where: str, images: Tensor, labels: Tensor, *, num_classes: int
) -> Network:
    """The network, in eval mode, if it keeps what every method counts on."""
    given = f"{where}: makes a {type(network).__name__}"
    require(isinstance(network, Network), given, "a synpriv.models.Network(features, head, ...)")
    assert isinstance(network, Network)
    require(any(True for _ in network.parameters()), f"{where}: no parameters", "at least one")
    logits = network.train()(images)
    wanted = (len(images), num_classes)
    given = f"{where}: logits are {logits.dtype} {tuple(logits.shape)}"
    fits = tuple(logits.shape) == wanted and logits.is_floating_point()
    require(fits, given, f"floating {wanted}, one per image and class")
    require(bool(logits.isfinite().all()), f"{where}: logits are not finite", "numbers")
    cross_entropy(logits, labels).backward()
    idle = [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None]
    require(not idle, f"{where}: {', '.join(idle[:5])} get no gradient", "used in forward, or gone")
    network.zero_grad()
    _check_evaluation(network.eval(), where, images)
    return network


@torch.no_grad()
def _check_evaluation(network: Network, where: str, images: Tensor) -> None:
    """In eval mode an image has one answer, whatever it comes with and as what numbers."""
    logits, right = network(images), "deterministic in eval mode"
    same = torch.allclose(network(images), logits)
    require(same, f"{where}: gives other logits when asked again", right)
    alone = torch.cat([network(image[None]) for image in images])
    near = torch.allclose(alone, logits, rtol=1e-3, atol=1e-4)
    require(near, f"{where}: logits depend on the rest of a batch", "of each image by itself")
    unit = network(images.float() / 255)
    near = torch.allclose(unit, logits, rtol=1e-3, atol=1e-4)
    given = f"{where}: logits of bytes and of the same images in 0..1 differ"
    require(near, given, "alike: leave `normalise` to synpriv.models.Network")


def _has_features(network: Network, where: str, images: Tensor, labels: Tensor) -> None:
    """Features [B,D] before a linear head, which the head turns into logits."""
    head = network.head
    given = f"{where}: its head is a {type(head).__name__}"
    right = "an nn.Linear on `features`: this method looks at the features before it"
    require(isinstance(head, nn.Linear), given, right)
    assert isinstance(head, nn.Linear)
    with torch.no_grad():
        features = network.features(network.normalise(images))
        given = f"{where}: features are {tuple(features.shape)}"
        wanted = (len(images), head.in_features)
        require(tuple(features.shape) == wanted, given, f"{wanted}, as its head takes them")
        same = torch.allclose(head(features), network(images), rtol=1e-3, atol=1e-4)
        require(same, f"{where}: head(features) are other numbers than its logits", "the same")


def _has_statistics(network: Network, where: str, images: Tensor, labels: Tensor) -> None:
    """BatchNorm with running statistics, and nothing else is asked."""
    kept = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    right = "with BatchNorm: this method matches its running statistics"
    require(bool(kept), f"{where}: a network without BatchNorm", right)


def _has_sample_gradients(network: Network, where: str, images: Tensor, labels: Tensor) -> None:
    """Per-sample gradients: no sample sees another one, and every layer is known."""
    mixing = [name for name, m in network.named_modules() if isinstance(m, _BatchNorm)]
    right = "GroupNorm: BatchNorm mixes the samples of a batch, and DP-SGD bounds each one's part"
    require(not mixing, f"{where}: BatchNorm at {', '.join(mixing[:3])}", right)

    def losses(logits: Tensor) -> Tensor:
        return cross_entropy(logits, labels, reduction="none")

    network.train()
    torch.manual_seed(0)  # both passes drop out alike
    try:
        total, _ = clipped_sum(network, images, losses, max_grad_norm=math.inf)
    except ValueError as error:  # a layer of which there are no per-sample gradients
        raise ValueError(f"{where}: {error}") from error
    network.zero_grad()
    torch.manual_seed(0)
    losses(network(images)).sum().backward()
    parts = [p.grad.flatten() for p in network.parameters() if p.grad is not None]
    near = torch.allclose(torch.cat(parts), total, rtol=1e-2, atol=1e-4)
    given = f"{where}: per-sample gradients do not add up to the batch's"
    require(near, given, "made of layers that treat each image alone")


_NEEDS = {
    "features": _has_features,
    "batch_norm": _has_statistics,
    "sample_gradients": _has_sample_gradients,
}
