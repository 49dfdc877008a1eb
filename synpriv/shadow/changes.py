"""The search for what a training has changed of a graph of objects (see state.py)."""

from __future__ import annotations

import collections
import functools
import types
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from synpriv.shadow import kinds

if TYPE_CHECKING:
    from synpriv.shadow.state import Graph

_SMALL = 2**20  # bytes of a tensor that is always kept


class CannotKeepError(ValueError):
    """A method holds something whose state nobody can read."""


class Changes:
    """The search for what differs."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.new, self.numbers = list[Any](), dict[int, int]()
        self.made = list[Any]()  # keeps ids from being used twice
        self.memory = collections.Counter[int]()  # how many lie where
        self.fixed = set[int]()  # where data sets lie: nobody changes them, a copy is as good
        self.new_memory = dict[str, int]()  # by path, of what is made anew
        always = (m for m in graph.objects.values() if isinstance(m, nn.Module))
        self.weights = {
            id(t) for m in always for t in (*m._parameters.values(), *m._buffers.values())
        }

    def found(self) -> dict[str, Any]:
        old = {}
        for path, obj in self.graph.objects.items():
            if (content := self._of_old(obj, path)) is not None:
                old[path] = content
        if self.graph.problem:
            raise CannotKeepError(self.graph.problem)
        for path, place in self.new_memory.items():
            if self.memory[place] > 1 and place not in self.fixed:
                raise CannotKeepError(f"{path} shares its memory with another tensor or array")
        return {"digest": self.graph.digest, "old": old, "new": self.new}

    def _of_old(self, obj: Any, path: str) -> Any:
        before = self.graph.before.get(path)
        if list(map(id, kinds.hooks_of(obj))) != list(map(id, self.graph.hooks[path])):
            raise CannotKeepError(f"{path} has other hooks than before the first step")
        if isinstance(obj, Tensor):
            self._lies(obj, obj.grad)
            return self._of_tensor(obj, path) if self._differs(obj, before) else None
        content = {}
        if kinds.is_leaf(obj) and (state := kinds.state_of(obj)) is not None:
            self._lies(*_arrays(state))
            content["state"] = state
        if before is not None:
            content |= self._of_parts(obj, before, path)
        return content or None

    def _of_parts(self, obj: Any, before: dict[Any, Any], path: str) -> dict[str, Any]:
        parts = self.graph.parts(obj, path) or {}
        if kinds.same_parts(obj, parts, before):
            return {}
        if isinstance(obj, set):
            return {"all": list(parts)}
        if isinstance(obj, list | collections.deque):
            return {"all": [self._ref(part, f"{path}.{k}") for k, part in parts.items()]}
        if isinstance(obj, dict):  # its order is state
            return {"all": {k: self._ref(part, f"{path}.{k}") for k, part in parts.items()}}
        changed = {
            key: self._ref(part, f"{path}.{key}")
            for key, part in parts.items()
            if key not in before or not kinds.same(part, before[key])
        }
        return {"set": changed, "gone": [key for key in before if key not in parts]}

    def _lies(self, *arrays: Any, path: str | None = None) -> None:
        """Note where these have their memory; path: of one that is made anew, not in place."""
        for each in arrays:
            if (place := kinds.memory_of(each)) is None:
                continue
            self.made.append(each)
            self.memory[place] += 1
            if id(each) in self.graph.images:
                self.fixed.add(place)
            if path is not None:
                self.new_memory[path] = place

    def _differs(self, tensor: Tensor, before: Any) -> bool:
        if id(tensor) in self.weights or (tensor._version, tensor.requires_grad) != before:
            return True  # `.data` and CUDA graphs change weights without a new version
        return id(tensor) not in self.graph.images and tensor.nbytes <= _SMALL

    def _of_tensor(self, tensor: Tensor, path: str) -> Any:
        if type(tensor) not in (Tensor, nn.Parameter, nn.Buffer) or tensor.grad_fn is not None:
            raise CannotKeepError(f"{path} is a tensor with a history, or of a class of its own")
        return {
            "value": tensor.detach(),
            "grad": tensor.grad,
            "requires_grad": tensor.requires_grad,
        }

    def _ref(self, value: Any, path: str) -> Any:
        if type(value) in kinds.ATOMS:
            return value
        if (known := self.graph.paths.get(id(value))) is not None:
            return {"at": known}
        if id(value) not in self.numbers:
            self.numbers[id(value)] = len(self.new)
            self.made.append(value)
            self.new.append(None)
            self.new[self.numbers[id(value)]] = self._of_new(value, path)
        return {"new": self.numbers[id(value)]}

    def _of_new(self, value: Any, path: str) -> Any:
        beside = kinds.attributes_beside(value)
        if (beside and not isinstance(value, nn.Buffer)) or kinds.hooks_of(value):
            raise CannotKeepError(f"{path} is new and has hooks, or attributes beside its content")
        if isinstance(value, Tensor | np.ndarray):
            self._lies(value, path=path)
        if isinstance(value, Tensor):
            self._lies(value.grad)
            about = {"is": "tensor", "device": str(value.device)}
            return about | {"class": type(value).__name__} | self._of_tensor(value, path)
        if isinstance(value, torch.Generator):
            return {"is": "generator", "device": str(value.device), "state": value.get_state()}
        if isinstance(value, np.ndarray | np.generic):
            return {"is": type(value).__name__, "value": np.asarray(value)}
        whole = functools.partial | types.MethodType | type
        if kinds.is_leaf(value) or isinstance(value, whole):
            raise CannotKeepError(f"{path} has become another {kinds.name_of(value)}")
        parts = self.graph.parts(value, path) or {}
        if isinstance(value, set):
            inside: Any = list(parts)
        elif isinstance(value, list | tuple | collections.deque):
            inside = [self._ref(part, f"{path}.{key}") for key, part in parts.items()]
        else:
            inside = {key: self._ref(part, f"{path}.{key}") for key, part in parts.items()}
        return {"is": "object", "class": self._class(value, path), "parts": inside}

    def _class(self, value: Any, path: str) -> Any:
        if kinds.BUILT_IN.get(type(value).__name__) is type(value):
            return type(value).__name__
        for known, obj in self.graph.objects.items():
            if type(obj) is type(value) and (isinstance(obj, tuple) or kinds.is_ordinary(obj)):
                return {"like": known}
        what = f"a {kinds.name_of(value)}, of which there was none before the first step"
        raise CannotKeepError(f"{path} has become {what}")


def _arrays(state: Any) -> Iterator[Any]:
    """All tensors and arrays of plain data."""
    if isinstance(state, Tensor | np.ndarray):
        yield state
    elif isinstance(state, Mapping):
        for part in state.values():
            yield from _arrays(part)
    elif isinstance(state, list | tuple):
        for part in state:
            yield from _arrays(part)
