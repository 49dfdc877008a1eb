"""Clipped per-sample gradients for little more than an ordinary backward pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from opacus import GradSampleModule
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import pad

TWICE = "DP-SGD needs networks that use each layer once"
Tape = list[tuple[nn.Module, Tensor, Tensor]]  # layer, its input, gradient at its output


@dataclass(frozen=True)
class Rows:
    """The gradients of one parameter, one row per sample.

    flat: float32 [B,P]; shape: what P consists of; order: the permutation of `shape` that gives the
    parameter's own. A convolution's rows have channels innermost, and only their sum is permuted.
    """

    parameter: Tensor
    flat: Tensor
    shape: tuple[int, ...]
    order: tuple[int, ...]

    def weighted_sum(self, weights: Tensor) -> Tensor:
        """A gradient in the parameter's own shape and layout in memory, weights [B]."""
        summed = (weights @ self.flat).view(self.shape).permute(self.order)
        return torch.empty_like(self.parameter).copy_(summed)


def clipped_sum(
    network: nn.Module,
    images: Tensor,
    loss: Callable[[Tensor], Tensor],
    *,
    max_grad_norm: float,
    num_views: int = 1,
) -> tuple[dict[str, Tensor], Tensor]:
    """Sum over samples of their gradients, each scaled down to a norm of at most `max_grad_norm`.

    images [B*K,ch,H,W], the K views of a sample next to each other; `loss` takes the network's
    output to the losses [B*K], and a sample's gradient is that of its mean over views (De et al.
    2022). Returns {parameter name: gradient} and the norms before clipping, [B].

    One backward pass with constant weights gives the gradient at the output of each layer, and the
    gradient of a layer's weights for one sample is the product of that and the layer's input
    (Goodfellow, "Efficient per-example gradient computations", 2015). What autograd would spend on
    the batch's own weight gradients is saved. Layers other than convolutions use Opacus's samplers.

    Raises ValueError for parameters in layers that Opacus does not know, or that are used twice.
    """
    named = _trainable(network)
    batch = len(images) // num_views
    if batch == 0:  # Poisson sampling may draw nobody
        return {name: torch.zeros_like(p) for name, p in named.items()}, images.new_zeros(0).float()
    tape = _backward(network, named, images, loss, num_views)
    # Outside autocast: rounded to bf16, a clipped gradient would exceed the bound by 0.3%.
    with torch.autocast(images.device.type, enabled=False):
        rows = [found for step in tape for found in _rows(*step, num_views)]
        _check_rows(rows, named)
        norms = torch.stack([found.flat.norm(dim=1) for found in rows]).norm(dim=0)
        norms = norms.nan_to_num(nan=torch.inf)
        for found in rows if norms.isinf().any() else ():
            found.flat[norms.isinf()] = 0  # no weight bounds what is not finite
        weights = (max_grad_norm / norms).clamp(max=1)  # a norm of 0 gives infinity, then 1
        sums = {found.parameter: found.weighted_sum(weights) for found in rows}
    return {name: sums[p] for name, p in named.items()}, norms


def _trainable(network: nn.Module) -> dict[str, nn.Parameter]:
    every = list(network.named_parameters(remove_duplicate=False))
    if len({id(p) for _, p in every}) < len(every):
        raise ValueError(TWICE)
    return {name: p for name, p in every if p.requires_grad}


def _check_rows(rows: list[Rows], named: dict[str, nn.Parameter]) -> None:
    found = [id(row.parameter) for row in rows]
    if missing := [name for name, p in named.items() if id(p) not in found]:
        known = sorted(layer.__name__ for layer in GradSampleModule.GRAD_SAMPLERS)
        raise ValueError(
            f"no per-sample gradient for {', '.join(missing)}: DP-SGD needs networks made of "
            f"{', '.join(known)} (padded with zeros)"
        )
    if len(found) > len(set(found)):
        raise ValueError(TWICE)


def _backward(
    network: nn.Module,
    named: dict[str, nn.Parameter],
    images: Tensor,
    loss: Callable[[Tensor], Tensor],
    num_views: int,
) -> Tape:
    """One pass forward and back that records what each layer with weights saw."""
    tape: Tape = []
    # The constant weights ask for no gradient, so something else must: added to the first output.
    anchor = torch.zeros((), device=images.device, requires_grad=True)

    def record(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        seen = inputs[0].detach()
        version = seen._version

        def keep(gradient: Tensor) -> None:
            if seen._version != version:
                raise ValueError(f"the input of {layer} was modified in place after its use")
            tape.append((layer, seen, gradient))

        output = output if output.requires_grad else output + anchor
        output.register_hook(keep)
        return output

    layers = [m for m in network.modules() if any(True for _ in m.parameters(recurse=False))]
    hooks = [layer.register_forward_hook(record) for layer in layers]
    try:
        constant = {name: p.detach() for name, p in named.items()}
        losses = loss(functional_call(network, constant, (images,)))
    finally:
        for hook in hooks:
            hook.remove()
    (losses.sum() / num_views).backward()
    return tape


def _rows(layer: nn.Module, inputs: Tensor, output_gradient: Tensor, num_views: int) -> list[Rows]:
    """Nothing for a layer that nobody knows, a subclass of a known one included."""
    if getattr(layer, "padding_mode", "zeros") != "zeros":
        return []  # Opacus would take the padding for zeros
    if type(layer) is nn.Conv2d and _is_plain(layer):
        return _convolution(layer, inputs, output_gradient, num_views)
    sampler = GradSampleModule.GRAD_SAMPLERS.get(type(layer), lambda *_: {})
    return [
        Rows(p, _sum_views(views, num_views), tuple(p.shape), tuple(range(p.ndim)))
        for p, views in sampler(layer, [inputs], output_gradient).items()
    ]


def _sum_views(gradients: Tensor, num_views: int) -> Tensor:
    """[B*K,...] -> [B,P]."""
    return gradients.float().flatten(1).unflatten(0, (-1, num_views)).sum(1)


def _is_plain(layer: nn.Conv2d) -> bool:
    numbers = not isinstance(layer.padding, str)
    return numbers and layer.groups == 1 and layer.dilation == (1, 1)


def _convolution(
    layer: nn.Conv2d, inputs: Tensor, output_gradient: Tensor, num_views: int
) -> list[Rows]:
    """From inputs [B*K,ch,H,W] and output_gradient [B*K,out,h,w].

    A sample's weight gradient is one matrix product over all places and views. Gathered with
    channels innermost, a row of a patch is one run of memory: several times faster than torch's
    unfold on a CPU.
    """
    batch = len(inputs) // num_views
    patches = _patches(inputs.to(output_gradient.dtype), layer)  # [B*K,h*w,P]
    patches = patches.view(batch, -1, patches.shape[2])
    across = output_gradient.flatten(2).unflatten(0, (batch, num_views)).transpose(1, 2).flatten(2)
    weight = torch.bmm(across, patches).flatten(1).float()
    shape = (layer.out_channels, *layer.kernel_size, layer.in_channels)
    found = [Rows(layer.weight, weight, shape, (0, 3, 1, 2))]
    if layer.bias is not None:
        found.append(Rows(layer.bias, across.sum(2).float(), (layer.out_channels,), (0,)))
    return [row for row in found if row.parameter.requires_grad]


def _patches(images: Tensor, layer: nn.Conv2d) -> Tensor:
    """What each output place sees: [N,ch,H,W] -> [N,h*w,kh*kw*ch], channels innermost."""
    (kernel_h, kernel_w), (stride_h, stride_w) = layer.kernel_size, layer.stride
    assert not isinstance(layer.padding, str)
    pad_h, pad_w = layer.padding
    padded = pad(images.permute(0, 2, 3, 1), (0, 0, pad_w, pad_w, pad_h, pad_h)).contiguous()
    num, height, width, channels = padded.shape
    out_h, out_w = (height - kernel_h) // stride_h + 1, (width - kernel_w) // stride_w + 1
    image, row, place, _ = padded.stride()
    windows = padded.as_strided(
        (num, out_h, out_w, kernel_h, kernel_w * channels),
        (image, row * stride_h, place * stride_w, row, 1),
    )
    return windows.reshape(num, out_h * out_w, -1)
