"""What a training step will keep in memory, counted on tensors without content."""

from __future__ import annotations

import torch
from omegaconf import DictConfig
from torch import Tensor
from torch.nn.functional import cross_entropy

from synpriv.data.archive import memory, readable
from synpriv.data.intake import Pools
from synpriv.models import Network
from synpriv.shadow.offering import NetworkFactory, network_factory
from synpriv.shadow.recipes import Batch
from synpriv.signatures import require

SHARE = 0.5  # of this machine's memory: worth a warning


def check_steps(batches: list[Batch], pools: Pools, cfg: DictConfig) -> list[str]:
    """Warnings of steps that may not fit in memory; ValueError if a CPU is to take them.

    Of a GPU's memory nothing is asked before a training.
    """
    found = []
    for where, size, model, node in batches:
        try:
            factory = network_factory(node, model, pools, cfg)
            kept = kept_bytes(factory, (size, *pools.image_shape), pools.num_classes)
        except (NotImplementedError, RuntimeError) as error:  # a layer that looks at its content
            why = next(iter(str(error).splitlines()), type(error).__name__)
            found.append(f"{where}: what a step of {model} keeps in memory is not known ({why})")
            continue
        shape = "x".join(map(str, pools.image_shape))
        told = f"{where}: of {size} images of {shape} a step of {model} keeps {readable(kept)}"
        fits = kept < memory() or cfg.trainer.accelerator != "cpu"
        better = "a smaller batch, or smaller images or another network"
        has = f"less than the {readable(memory())} of memory of this machine: {better}"
        require(fits, told, has)
        if kept > SHARE * memory():
            found.append(f"{told}, of {readable(memory())} of memory of this machine")
    return found


def kept_bytes(factory: NetworkFactory, shape: tuple[int, ...], num_classes: int) -> int:
    """Bytes that a step keeps from its forward for its backward pass, without the weights.

    shape: (B, ch, H, W) of the batch. Each stored tensor counts once, however many layers keep it.
    """
    stored: dict[int, torch.UntypedStorage] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        stored[storage._cdata] = storage
        return tensor

    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        network: Network = factory().train()
        images = torch.empty(shape, dtype=torch.uint8)
        labels = torch.zeros(shape[0], dtype=torch.long)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            cross_entropy(network(images), labels)
        own = {t.untyped_storage()._cdata for t in (*network.parameters(), *network.buffers())}
    return sum(storage.nbytes() for key, storage in stored.items() if key not in own)
