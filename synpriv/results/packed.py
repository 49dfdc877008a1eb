"""Nested plain data with tensors as one file that vouches for itself: JSON and safetensors.

No pickles. Values are None, bool, int, float and str; lists, tuples and dicts of them; tensors and
NumPy arrays. All come back as they were, floats to the last bit and tensors with their strides.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from synpriv.results import store

FORMAT = 2  # of what is packed here, for whoever reads it with another version
_TREE = "tree"
_DIGEST = 64  # hex digits of SHA-256 before all else


def write(file: Path, content: Any) -> None:
    """Create or replace `file` as a whole; TypeError where `content` is not plain."""
    body = _pack(content)
    digest = hashlib.sha256(body).hexdigest().encode()

    store.write(file, lambda stream: (stream.write(digest), stream.write(body)))


def read(file: Path) -> Any:
    """What was written; tensors are on the CPU. ValueError where the file is damaged."""
    content = memoryview(file.read_bytes())
    digest, body = content[:_DIGEST], content[_DIGEST:]
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise ValueError(f"{file} is damaged (checksum differs)")
    try:
        tensors = safetensors.torch.load(bytes(body))
        tree = json.loads(tensors.pop(_TREE).numpy().tobytes())
        return _opened(tree, tensors)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} is damaged ({type(error).__name__}: {error})") from error


def _pack(content: Any) -> bytes:
    tensors: dict[str, Tensor] = {}
    tree = json.dumps(_closed(content, tensors)).encode()
    tensors[_TREE] = torch.frombuffer(bytearray(tree), dtype=torch.uint8)
    return safetensors.torch.save(tensors)


def _closed(value: Any, tensors: dict[str, Tensor]) -> Any:
    """As JSON can say it: lists are lists, all else is an object of one key."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Tensor):
        return _closed_tensor(value, tensors)
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        flat = np.frombuffer(value.tobytes(), np.uint8)
        about = [value.dtype.str, list(value.shape), _added(torch.tensor(flat), tensors)]
        return {"array": about}
    if type(value) is list:
        return [_closed(part, tensors) for part in value]
    if isinstance(value, tuple):
        return {"tuple": [_closed(part, tensors) for part in value]}
    if isinstance(value, dict):
        pairs = [[_closed(k, tensors), _closed(v, tensors)] for k, v in value.items()]
        return {"dict": pairs}
    raise TypeError(f"a {type(value).__module__}.{type(value).__qualname__}")


def _closed_tensor(value: Tensor, tensors: dict[str, Tensor]) -> Any:
    if value.layout != torch.strided or value.is_complex() or value.is_quantized:
        raise TypeError(f"a {value.dtype} tensor of layout {value.layout}")
    own = value.detach().cpu()
    strides = list(own.stride())
    dense = own.is_contiguous() or torch.empty_like(own).stride() != own.stride()
    # One memory per tensor, and all of it: safetensors refuses tensors that share some.
    whole = own.contiguous()
    if whole.untyped_storage().nbytes() != whole.nbytes or whole is own:
        whole = whole.clone(memory_format=torch.contiguous_format)
    return {"tensor": [_added(whole, tensors), None if dense else strides]}


def _added(tensor: Tensor, tensors: dict[str, Tensor]) -> str:
    name = str(len(tensors))
    tensors[name] = tensor
    return name


def _opened(node: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(node, list):
        return [_opened(part, tensors) for part in node]
    if not isinstance(node, dict):
        return node
    ((kind, inside),) = node.items()
    if kind == "tuple":
        return tuple(_opened(part, tensors) for part in inside)
    if kind == "dict":
        return {_opened(key, tensors): _opened(value, tensors) for key, value in inside}
    if kind == "array":
        return _opened_array(inside, tensors)
    name, strides = inside
    found = tensors[name]
    if strides is None:
        return found
    return torch.empty_strided(found.shape, strides, dtype=found.dtype).copy_(found)


def _opened_array(about: list[Any], tensors: dict[str, Tensor]) -> NDArray:
    dtype, shape, name = about
    return np.frombuffer(tensors[name].numpy().tobytes(), np.dtype(dtype)).reshape(shape).copy()
