"""Putting back what a training had changed of a graph of objects (see state.py)."""

from __future__ import annotations

import collections
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from synpriv.shadow import kinds

if TYPE_CHECKING:
    from synpriv.shadow.state import Graph


class Restored:
    """Objects that are made again, once each."""

    def __init__(self, graph: Graph, new: list[Any]) -> None:
        self.graph, self.new, self.made = graph, new, dict[int, Any]()

    def fill(self, old: Mapping[str, Any]) -> None:
        for path, content in old.items():
            self._fill(self.graph.objects[path], content)

    def rewind(self, kept: Mapping[str, Any]) -> None:
        """Put all parts back to what they were when the graph was walked."""
        for path, before in self.graph.before.items():
            obj = self.graph.objects[path]
            if not isinstance(obj, Tensor):
                self._rewind(obj, before, path)
            elif path not in kept and obj._version != before[0]:
                raise ValueError(f"{path} was changed before the first step")
            elif obj.requires_grad != before[1]:
                obj.requires_grad_(before[1])

    def _rewind(self, obj: Any, before: dict[Any, Any], path: str) -> None:
        parts = self.graph.parts(obj, path) or {}
        if kinds.same_parts(obj, parts, before):
            return
        if isinstance(obj, dict):
            _refill(obj, before)
        elif isinstance(obj, set):
            _refill(obj, list(before))
        elif isinstance(obj, list | collections.deque):
            _refill(obj, list(before.values()))
        else:
            _set_attributes(obj, before, [key for key in parts if key not in before])

    def _fill(self, obj: Any, content: Any) -> None:
        if isinstance(obj, Tensor):
            with torch.no_grad():
                obj.copy_(content["value"])
            _finish(obj, content)
            return
        if "state" in content:
            kinds.set_leaf(obj, content["state"])
        if "set" in content:
            found = {key: self._value(ref) for key, ref in content["set"].items()}
            _set_attributes(obj, found, content["gone"])
        if "all" in content:
            inside = content["all"]
            if isinstance(obj, dict):
                _refill(obj, {key: self._value(ref) for key, ref in inside.items()})
            else:
                _refill(obj, [self._value(ref) for ref in inside])

    def _value(self, ref: Any) -> Any:
        if not isinstance(ref, dict):
            return ref
        if "at" in ref:
            return self.graph.objects[ref["at"]]
        number = ref["new"]
        if number not in self.made:
            self._make(number, self.new[number])
        return self.made[number]

    def _make(self, number: int, content: Any) -> None:
        kind = content["is"]
        if kind == "tensor":
            tensor = content["value"].to(content["device"], copy=True)
            made = nn.Parameter(tensor) if content["class"] == "Parameter" else tensor
            self.made[number] = _finish(made, content)
        elif kind == "generator":
            made = torch.Generator(content["device"])
            made.set_state(content["state"])
            self.made[number] = made
        elif kind != "object":  # of NumPy
            array = content["value"].copy()
            self.made[number] = array if kind == "ndarray" else array[()]
        else:
            self._make_object(number, content)

    def _make_object(self, number: int, content: Any) -> None:
        named, parts = content["class"], content["parts"]
        own = (
            kinds.BUILT_IN[named]
            if isinstance(named, str)
            else type(self.graph.objects[named["like"]])
        )
        if issubclass(own, tuple):  # nothing inside can hold it
            inside = [self._value(ref) for ref in parts]
            self.made[number] = own(*inside) if hasattr(own, "_fields") else own(inside)
            return
        made = self.made[number] = own.__new__(own)
        if issubclass(own, dict | set | list):
            self._fill(made, {"all": parts})
        else:
            self._fill(made, {"set": parts, "gone": []})


def _refill(obj: Any, content: Any) -> None:
    """Of a container that is not a tuple."""
    obj.clear()
    if isinstance(obj, dict | set):
        obj.update(content)
    else:
        obj.extend(content)


def _set_attributes(obj: Any, values: Mapping[str, Any], gone: list[str]) -> None:
    """Of an object, whatever it makes of assignments, or of a class."""
    if isinstance(obj, type):
        put: Any = functools.partial(setattr, obj)
        drop: Any = functools.partial(delattr, obj)
    else:
        put, drop = vars(obj).__setitem__, vars(obj).__delitem__
    for key in gone:
        drop(key)
    for key, value in values.items():
        put(key, value)


def _finish(tensor: Tensor, content: Any) -> Tensor:
    tensor.requires_grad_(content["requires_grad"])
    grad = content["grad"]
    tensor.grad = None if grad is None else grad.to(tensor.device, copy=True)
    return tensor
