"""Networks of torchvision that cut images into patches, for small images: ViT and ConvNeXt.

torchvision is imported when one is made: it takes most of a second.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from synpriv import architectures
from synpriv.models.network import Network


class Attention(nn.Module):
    """torch's MultiheadAttention of a sequence on itself, its weights in two linear layers.

    Of layers that are modules of their own per-sample gradients are known, and nothing is fused
    in eval mode: an image has the same logits wherever it is asked for.
    """

    def __init__(self, of: nn.MultiheadAttention) -> None:
        """Takes over the weights of `of`."""
        super().__init__()
        width = of.embed_dim
        self.num_heads, self.dropout = of.num_heads, of.dropout
        self.inputs, self.outputs = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.inputs.weight, self.inputs.bias = of.in_proj_weight, of.in_proj_bias
        self.outputs.weight, self.outputs.bias = of.out_proj.weight, of.out_proj.bias

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, need_weights: bool = False
    ) -> tuple[Tensor, None]:
        """Of a sequence [B,N,D], given three times as torchvision does; [B,N,D] and no weights."""
        heads = self.inputs(query).unflatten(2, (3, self.num_heads, -1))  # [B,N,3,heads,D/heads]
        queries, keys, values = heads.permute(2, 0, 3, 1, 4)
        dropped = self.dropout if self.training else 0.0
        mixed = scaled_dot_product_attention(queries, keys, values, dropout_p=dropped)
        return self.outputs(mixed.transpose(1, 2).flatten(2)), None


def vit_tiny(
    *,
    channels: int,
    size: int,
    num_classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    **options: Any,
) -> Network:
    """Vision transformer (Dosovitskiy et al., ICLR 2021) of DeiT's tiny size, small patches.

    torchvision's VisionTransformer; 5,362,762 parameters on CIFAR-10 with patches of 4x4.
    """
    from torchvision.models import VisionTransformer

    own = architectures.vit_tiny(**options)
    patch_size = own.patch(size)
    body = VisionTransformer(
        image_size=size,
        patch_size=patch_size,
        num_layers=own.depth,
        num_heads=own.num_heads,
        hidden_dim=own.width,
        mlp_dim=4 * own.width,
        dropout=own.dropout,
        attention_dropout=own.dropout,
        num_classes=num_classes,
    )
    body.conv_proj = _patchify(channels, own.width, patch_size)
    fan_in = body.conv_proj.weight[0].numel()
    nn.init.trunc_normal_(body.conv_proj.weight, std=math.sqrt(1 / fan_in))
    for block in body.encoder.layers:
        block.self_attention = Attention(block.self_attention)
    head, body.heads = body.heads.head, nn.Identity()
    return Network(body, head, mean, std)


def convnext_tiny(
    *,
    channels: int,
    size: int,
    num_classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    **options: Any,
) -> Network:
    """ConvNeXt-T (Liu et al., CVPR 2022) with smaller patches than ImageNet's 4x4.

    torchvision's ConvNeXt; 27,824,362 parameters on CIFAR-10 with patches of 2x2.
    """
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    own = architectures.convnext_tiny(**options)
    patch_size = own.patch(size)
    widths: list[int | None] = [own.width * 2**stage for stage in range(len(own.depths))]
    body = ConvNeXt(
        [
            CNBlockConfig(width, after, depth)
            for width, after, depth in zip(widths, [*widths[1:], None], own.depths, strict=True)
        ],
        stochastic_depth_prob=own.stochastic_depth,
        layer_scale=own.layer_scale,
        num_classes=num_classes,
        norm_layer=_over_channels,
    )
    body.features[0][0] = _patchify(channels, own.width, patch_size)
    nn.init.trunc_normal_(body.features[0][0].weight, std=0.02)
    norm, flatten, head = body.classifier
    return Network(nn.Sequential(body.features, body.avgpool, norm, flatten), head, mean, std)


def _patchify(channels: int, width: int, patch_size: int) -> nn.Conv2d:
    convolution = nn.Conv2d(channels, width, patch_size, stride=patch_size)
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return convolution


def _over_channels(channels: int) -> nn.Sequential:
    """LayerNorm of [B,ch,H,W] over ch, made of layers whose per-sample gradients are known."""
    from torchvision.ops.misc import Permute

    norm = nn.LayerNorm(channels, eps=1e-6)
    return nn.Sequential(Permute([0, 2, 3, 1]), norm, Permute([0, 3, 1, 2]))
