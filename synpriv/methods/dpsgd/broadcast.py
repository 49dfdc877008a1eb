"""Parameters that are no layer's: of them every view of a batch is given one of its own."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

# Whose forward pass uses a parameter in nothing but broadcasting over the batch, so that one per
# view changes no output: module, parameter, and whether it has no place for the batch yet.
_OF_TORCHVISION = {
    ("torchvision.models.vision_transformer.VisionTransformer", "class_token"): False,
    ("torchvision.models.vision_transformer.Encoder", "pos_embedding"): False,
    ("torchvision.models.convnext.CNBlock", "layer_scale"): True,
}


def one_per_view(
    network: nn.Module, trained: Mapping[str, Tensor], num_views: int
) -> dict[str, Tensor]:
    """Leaves [num_views,...] to take the places of such parameters, by the parameters' names.

    `trained`: those that gradients are asked of. The gradient of a leaf has those of the views.
    """
    found = {}
    for name, parameter in trained.items():
        owner, _, own = name.rpartition(".")
        kind = type(network.get_submodule(owner))
        without_batch = _OF_TORCHVISION.get((f"{kind.__module__}.{kind.__qualname__}", own))
        if without_batch is not None:
            rows = parameter.detach()[None] if without_batch else parameter.detach()
            found[name] = rows.expand(num_views, *rows.shape[1:]).clone().requires_grad_()
    return found
