"""Clipped per-sample gradients for little more than an ordinary backward pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from opacus import GradSampleModule
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import pad

from synpriv.methods.dpsgd.broadcast import one_per_view

TWICE = "DP-SGD needs networks that use each layer once"
BLOCK = 1024  # values whose squares are added up one after the other


def clipped_sum(
    network: nn.Module,
    images: Tensor,
    loss: Callable[[Tensor], Tensor],
    *,
    max_grad_norm: float,
    num_views: int = 1,
) -> tuple[Tensor, Tensor]:
    """Sum over samples of their gradients, each scaled down to a norm of at most `max_grad_norm`.

    images [B*K,ch,H,W], the K views of a sample next to each other; `loss` takes the network's
    output to the losses [B*K], and a sample's gradient is that of its mean over views (De et al.
    2022). Returns the gradient, float32 [P], the values of all trainable parameters one after the
    other, and the norms before clipping, float32 [B].

    One backward pass with constant weights gives the gradient at the output of each layer, and the
    gradient of a layer's weights for one sample is the product of that and the layer's input
    (Goodfellow, "Efficient per-example gradient computations", 2015). What autograd would spend on
    the batch's own weight gradients is saved.

    Raises ValueError for parameters in layers that Opacus does not know, or that are used twice.
    """
    table = _Table(network, len(images) // num_views, num_views, images.device)
    if len(images) == 0:  # Poisson sampling may draw nobody
        return table.in_own_order(table.rows.sum(0)), table.rows.sum(1)
    _backward(network, table, images, loss)
    table.check()
    # Rounded to bf16 or TF32, a clipped gradient would exceed the bound.
    with torch.autocast(images.device.type, enabled=False), _exact_products():
        norms = _norms(table.rows)
        infinite = norms.isinf()
        if infinite.is_cuda or infinite.any():  # on a GPU asking would cost more than writing
            table.rows.masked_fill_(infinite[:, None], 0)  # no weight bounds what is not finite
        weights = (max_grad_norm / norms).clamp(max=1)  # a norm of 0 gives infinity, then 1
        return table.in_own_order(weights @ table.rows), norms


def set_gradients(network: nn.Module, gradient: Tensor) -> None:
    """Make parts of `gradient`, [P] as `clipped_sum` gives it, the parameters' gradients."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    parts = gradient.split([p.numel() for p in parameters])
    for p, part in zip(parameters, parts, strict=True):
        own = part.view(p.shape)
        # An optimiser may read both in the order in which they lie in memory.
        p.grad = own if own.stride() == p.stride() else torch.empty_like(p).copy_(own)


def _norms(rows: Tensor) -> Tensor:
    """Of rows [B,P], P whole blocks, to float32's own precision; infinite where they are NaN.

    Adding up a whole row in float32 read up to a hundred thousandth too little.
    """
    norm = torch.linalg.vector_norm
    found = norm(norm(rows.unflatten(1, (-1, BLOCK)), dim=2), dim=1)
    return found.nan_to_num(nan=torch.inf, posinf=torch.inf)


@contextmanager
def _exact_products() -> Iterator[None]:
    """Matrix products of float32 in float32, whatever the process allows elsewhere."""
    backends = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "ieee"
    try:
        yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision


class _Table:
    """The gradients of all trainable parameters, one row per sample.

    rows: float32 [B,P'], zeros after P. A convolution may write weights with channels innermost.
    """

    def __init__(
        self, network: nn.Module, batch: int, num_views: int, device: torch.device
    ) -> None:
        every = list(network.named_parameters(remove_duplicate=False))
        if len({id(p) for _, p in every}) < len(every):
            raise ValueError(TWICE)
        self.named = {name: p for name, p in every if p.requires_grad}
        self.num_views = num_views
        self.sizes = [p.numel() for p in self.named.values()]
        total = sum(self.sizes)
        padded = math.ceil(total / BLOCK) * BLOCK
        self.rows = torch.empty(batch, padded, device=device)
        self.rows[:, total:] = 0
        columns = self.rows[:, :total].split(self.sizes, dim=1)
        self.columns = {id(p): own for p, own in zip(self.named.values(), columns, strict=True)}
        self.written: set[int] = set()
        self.channels_innermost: set[int] = set()

    def columns_of(self, parameter: Tensor | None) -> Tensor | None:
        """Where to write the gradients of a parameter, [B,P'], or None if it is not trained."""
        if parameter is None or id(parameter) not in self.columns:
            return None
        if id(parameter) in self.written:
            raise ValueError(TWICE)
        self.written.add(id(parameter))
        return self.columns[id(parameter)]

    def write(self, parameter: Tensor | None, gradients: Tensor) -> None:
        """From gradients [B*K,...] of views or [B,...] of samples."""
        if (columns := self.columns_of(parameter)) is not None:
            rows = gradients.reshape(len(columns), -1, columns.shape[1])
            columns.copy_(rows[:, 0] if rows.shape[1] == 1 else rows.float().sum(1))

    def write_product(self, parameter: Tensor, left: Tensor, right: Tensor) -> None:
        """From left [B,m,n] and right [B,n,k]."""
        if (columns := self.columns_of(parameter)) is not None:
            target = columns.unflatten(1, (left.shape[1], right.shape[2]))
            if left.dtype == target.dtype:
                torch.bmm(left, right, out=target)
            else:
                target.copy_(torch.bmm(left, right))

    def check(self) -> None:
        """ValueError if a parameter has got no gradients."""
        if missing := [n for n, p in self.named.items() if id(p) not in self.written]:
            known = sorted(layer.__name__ for layer in GradSampleModule.GRAD_SAMPLERS)
            raise ValueError(
                f"no per-sample gradient for {', '.join(missing)}: DP-SGD needs networks made of "
                f"{', '.join(known)} (padded with zeros)"
            )

    def in_own_order(self, row: Tensor) -> Tensor:
        """A row [P'] cut to [P], every parameter's values in the order of its indices."""
        row = row[: sum(self.sizes)]
        for p, own in zip(self.named.values(), row.split(self.sizes), strict=True):
            if id(p) in self.channels_innermost:
                found = own.view(p.shape[0], *p.shape[2:], p.shape[1]).permute(0, 3, 1, 2)
                own.copy_(found.flatten())
        return row


def _backward(
    network: nn.Module, table: _Table, images: Tensor, loss: Callable[[Tensor], Tensor]
) -> None:
    """One pass forward and back in which each layer with weights fills its columns."""
    # The constant weights ask for no gradient, so something else must: added to the first output.
    anchor = torch.zeros((), device=images.device, requires_grad=True)

    def watch(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        seen = inputs[0].detach()
        version = seen._version

        def fill(gradient: Tensor) -> None:
            if seen._version != version:
                raise ValueError(f"the input of {layer} was modified in place after its use")
            _fill(table, layer, seen, gradient)

        output = output if output.requires_grad else output + anchor
        output.register_hook(fill)
        return output

    own = one_per_view(network, table.named, len(images))
    layers = dict.fromkeys(name.rpartition(".")[0] for name in table.named if name not in own)
    hooks = [network.get_submodule(layer).register_forward_hook(watch) for layer in layers]
    for parameter in table.named.values():
        parameter.requires_grad_(False)
    try:
        losses = loss(functional_call(network, own, (images,)) if own else network(images))
    finally:
        for hook in hooks:
            hook.remove()
        for parameter in table.named.values():
            parameter.requires_grad_(True)
    with torch.autocast(images.device.type, enabled=False):  # also for what the layers fill in
        (losses.sum() / table.num_views).backward()
    for name, views in own.items():
        if views.grad is not None:  # else it is missing, and named as such
            table.write(table.named[name], views.grad)


def _fill(table: _Table, layer: nn.Module, inputs: Tensor, gradient: Tensor) -> None:
    """Nothing for a layer that nobody knows, a subclass of a known one included."""
    inputs = inputs.to(gradient.dtype)
    if getattr(layer, "padding_mode", "zeros") != "zeros":
        return  # Opacus would take the padding for zeros
    if type(layer) is nn.Conv2d and not isinstance(layer.padding, str):
        _fill_convolution(table, layer, inputs, gradient)
    elif type(layer) is nn.Linear:
        _fill_linear(table, layer, inputs, gradient)
    elif type(layer) is nn.GroupNorm:
        exact = torch.promote_types(gradient.dtype, torch.float32)
        _fill_group_norm(table, layer, inputs.to(exact), gradient.to(exact))
    elif sampler := GradSampleModule.GRAD_SAMPLERS.get(type(layer)):
        for parameter, gradients in sampler(layer, [inputs], gradient).items():
            table.write(parameter, gradients)


def _fill_linear(table: _Table, layer: nn.Linear, inputs: Tensor, gradient: Tensor) -> None:
    """From inputs [B*K,...,in] and gradient [B*K,...,out]."""
    batch = len(table.rows)
    across = gradient.reshape(batch, -1, layer.out_features)
    table.write_product(
        layer.weight, across.transpose(1, 2), inputs.reshape(batch, -1, layer.in_features)
    )
    table.write(layer.bias, across.float().sum(1))


def _fill_group_norm(table: _Table, layer: nn.GroupNorm, inputs: Tensor, gradient: Tensor) -> None:
    """From inputs and gradient [B*K,ch,...]."""
    normalised = torch.nn.functional.group_norm(inputs, layer.num_groups, eps=layer.eps)
    table.write(layer.weight, (gradient * normalised).flatten(2).sum(2))
    table.write(layer.bias, gradient.flatten(2).sum(2))


def _fill_convolution(table: _Table, layer: nn.Conv2d, inputs: Tensor, gradient: Tensor) -> None:
    """From inputs [B*K,ch,H,W] and gradient [B*K,out,h,w]."""
    simple = layer.groups == 1 and layer.dilation == (1, 1)
    many_places = gradient.shape[2] * gradient.shape[3] > layer.out_channels
    if simple and not (many_places and not inputs.is_cuda):
        _fill_by_patches(table, layer, inputs, gradient)
    else:
        _fill_by_groups(table, layer, inputs, gradient)
    table.write(layer.bias, gradient.flatten(2).sum(2, dtype=torch.float32))


def _fill_by_groups(table: _Table, layer: nn.Conv2d, inputs: Tensor, gradient: Tensor) -> None:
    """One convolution of which every sample is a group, the views its batch.

    The faster way where matrix products of one sample would be long and thin.
    """
    batch, views = len(table.rows), table.num_views
    shape = (batch * layer.out_channels, *layer.weight.shape[1:])
    _, weight, _ = torch.ops.aten.convolution_backward.default(
        _samples_to_channels(gradient, views), _samples_to_channels(inputs, views),
        inputs.new_empty(shape), None, layer.stride, layer.padding, layer.dilation, False, [0, 0],
        batch * layer.groups, [False, True, False],
    )  # fmt: skip
    if (columns := table.columns_of(layer.weight)) is not None:
        columns.copy_(weight.reshape(batch, -1))


def _samples_to_channels(images: Tensor, num_views: int) -> Tensor:
    """[B*K,ch,H,W] -> [K,B*ch,H,W]."""
    return images.unflatten(0, (-1, num_views)).transpose(0, 1).flatten(1, 2)


def _fill_by_patches(table: _Table, layer: nn.Conv2d, inputs: Tensor, gradient: Tensor) -> None:
    """One matrix product per sample over all places and views.

    Gathered with channels innermost, a row of a patch is one run of memory: several times faster
    than torch's unfold on a CPU.
    """
    batch, views = len(table.rows), table.num_views
    patches = _patches(inputs, layer)  # [B*K,h*w,P]
    across = gradient.flatten(2)
    if views > 1:
        across = across.unflatten(0, (batch, views)).transpose(1, 2).flatten(2)
    table.channels_innermost.add(id(layer.weight))
    table.write_product(layer.weight, across, patches.view(batch, -1, patches.shape[2]))


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
