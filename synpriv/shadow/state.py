"""What a training has changed of a method: to be kept, and put back into one that is made anew.

A method is a graph of objects: networks, tensors, generators, lists, objects of its own. Before the
first step the graph is walked once. Later only what differs from then is kept: which parts an
object has, what tensors hold, where generators stand. An object that was there before the first
step is changed in place, as the training did, so that whoever else holds it (an optimiser, a
closure) sees the change; one that the training made is made anew. So nobody lists the state of a
method, and what cannot be kept (an open file, an iterator) is refused and never left out.
"""

from __future__ import annotations

import collections
import functools
import hashlib
import types
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from synpriv.data.images import LabelledImages
from synpriv.shadow import kinds

_SMALL = 2**20  # bytes of a tensor that is always kept
_BUILT_IN: dict[str, type] = {
    t.__name__: t for t in (list, dict, set, tuple, torch.Size, collections.OrderedDict)
}
_OF_MODULES = frozenset(vars(nn.Module())) - {"training", "_parameters", "_buffers", "_modules"}
Key = Any


class CannotKeepError(ValueError):
    """A method holds something whose state nobody can read."""


class Graph:
    """All that is reachable from `roots`, as it is now.

    leave_out: attributes of the roots that are no state of theirs.
    """

    def __init__(self, roots: Mapping[str, Any], leave_out: frozenset[str] = frozenset()) -> None:
        self.leave_out, self.problem = leave_out, ""
        self.roots = {id(root) for root in roots.values()}
        self.objects = dict[str, Any]()  # by path
        self.paths = dict[int, str]()  # by id; `objects` keeps them alive
        self.before = dict[str, Any]()
        self.images = set[int]()  # tensors of data sets, which nobody changes in place
        for name, root in roots.items():
            self._walk(root, name)
        shape = "\n".join(f"{path} {kinds.name_of(obj)}" for path, obj in self.objects.items())
        self.digest = hashlib.sha256(shape.encode()).hexdigest()

    def _walk(self, obj: Any, path: str) -> None:
        if type(obj) in kinds.ATOMS or id(obj) in self.paths:
            return
        self.objects[path], self.paths[id(obj)] = obj, path
        if isinstance(obj, Tensor):
            self.before[path] = (obj._version, obj.requires_grad)
            return
        parts = self._parts(obj, path)
        if parts is None:
            return
        self.before[path] = parts
        if isinstance(obj, LabelledImages):
            self.images |= set(map(id, parts.values()))
        for key, part in parts.items():
            self._walk(part, f"{path}.{key}")
        if isinstance(obj, dict | list | set) and getattr(obj, "__dict__", None):
            self._walk(vars(obj), f"{path}/")

    def _parts(self, obj: Any, path: str) -> dict[Key, Any] | None:
        """What an object consists of, by name or index; None of one without parts."""
        if kinds.is_leaf(obj):
            return None
        if isinstance(obj, dict):
            if not all(kinds.is_plain(key) for key in obj):
                self._cannot(path, "a dict whose keys are no names or numbers")
            return dict(obj)
        if isinstance(obj, set | frozenset):
            if not all(kinds.is_plain(each) for each in obj):
                self._cannot(path, "a set of what is no name or number")
            return dict.fromkeys(obj)
        if isinstance(obj, list | tuple | collections.deque):
            return dict(enumerate(obj))
        if isinstance(obj, functools.partial):
            return {"func": obj.func, "args": obj.args, "keywords": obj.keywords}
        if isinstance(obj, types.MethodType):
            return {"self": obj.__self__}
        if not kinds.is_ordinary(obj):
            self._cannot(path, f"a {kinds.name_of(obj)}")
            return None
        left_out = _OF_MODULES if isinstance(obj, nn.Module) else frozenset()
        if id(obj) in self.roots:
            left_out |= self.leave_out
        return {name: part for name, part in vars(obj).items() if name not in left_out}

    def _cannot(self, path: str, what: str) -> None:
        self.problem = self.problem or f"{path} is {what}"

    def changes(self) -> dict[str, Any]:
        """What differs from how it was, as plain data whose tensors are the graph's own.

        CannotKeepError where something differs, or may, that cannot be told.
        """
        return _Changes(self).found()

    def restore(self, changes: Mapping[str, Any]) -> None:
        """Make all as it was when the changes were taken, from a graph of the same shape.

        ValueError where the shape is another one.
        """
        if changes["digest"] != self.digest:
            raise ValueError("the method that was made anew is not built as the one that was kept")
        _Restored(self, changes["new"]).fill(changes["old"])


class _Changes:
    """The search for what differs."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.new, self.numbers = list[Any](), dict[int, int]()
        self.made = list[Any]()  # keeps ids from being used twice
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
        return {"digest": self.graph.digest, "old": old, "new": self.new}

    def _of_old(self, obj: Any, path: str) -> Any:
        before = self.graph.before.get(path)
        if isinstance(obj, Tensor):
            return self._of_tensor(obj, path) if self._differs(obj, before) else None
        if kinds.is_leaf(obj):
            return kinds.state_of(obj)
        if before is None:
            return None
        parts = self.graph._parts(obj, path) or {}
        if parts.keys() == before.keys() and all(kinds.same(parts[k], before[k]) for k in parts):
            return None
        if isinstance(obj, set):
            return {"set": list(parts)}
        if isinstance(obj, list | collections.deque):
            return {"set": [self._ref(part, f"{path}.{k}") for k, part in parts.items()]}
        changed = {
            key: self._ref(part, f"{path}.{key}")
            for key, part in parts.items()
            if key not in before or not kinds.same(part, before[key])
        }
        return {"set": changed, "gone": [key for key in before if key not in parts]}

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
        if isinstance(value, Tensor):
            about = {"is": "tensor", "device": str(value.device)}
            return about | {"class": type(value).__name__} | self._of_tensor(value, path)
        if isinstance(value, torch.Generator):
            return {"is": "generator", "device": str(value.device), "state": value.get_state()}
        if isinstance(value, np.ndarray | np.generic):
            return {"is": type(value).__name__, "value": np.asarray(value)}
        if kinds.is_leaf(value) or isinstance(value, functools.partial | types.MethodType):
            raise CannotKeepError(f"{path} has become another {kinds.name_of(value)}")
        parts = self.graph._parts(value, path) or {}
        if isinstance(value, set):
            inside: Any = list(parts)
        elif isinstance(value, list | tuple | collections.deque):
            inside = [self._ref(part, f"{path}.{key}") for key, part in parts.items()]
        else:
            inside = {key: self._ref(part, f"{path}.{key}") for key, part in parts.items()}
        return {"is": "object", "class": self._class(value, path), "parts": inside}

    def _class(self, value: Any, path: str) -> Any:
        if _BUILT_IN.get(type(value).__name__) is type(value):
            return type(value).__name__
        for known, obj in self.graph.objects.items():
            if type(obj) is type(value) and (isinstance(obj, tuple) or kinds.is_ordinary(obj)):
                return {"like": known}
        what = f"a {kinds.name_of(value)}, of which there was none before the first step"
        raise CannotKeepError(f"{path} has become {what}")


class _Restored:
    """Objects that are made again, once each."""

    def __init__(self, graph: Graph, new: list[Any]) -> None:
        self.graph, self.new, self.made = graph, new, dict[int, Any]()

    def fill(self, old: Mapping[str, Any]) -> None:
        for path, content in old.items():
            self._fill(self.graph.objects[path], content)

    def _fill(self, obj: Any, content: Any) -> None:
        if isinstance(obj, Tensor):
            with torch.no_grad():
                obj.copy_(content["value"])
            _finish(obj, content)
        elif kinds.is_leaf(obj):
            kinds.set_leaf(obj, content)
        elif isinstance(obj, set):
            obj.clear()
            obj.update(content["set"])
        elif isinstance(obj, list | collections.deque):
            inside = [self._value(ref) for ref in content["set"]]
            obj.clear()
            obj.extend(inside)
        else:
            parts = obj if isinstance(obj, dict) else vars(obj)
            for key in content["gone"]:
                del parts[key]
            for key, ref in content["set"].items():
                parts[key] = self._value(ref)

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
            _BUILT_IN[named] if isinstance(named, str) else type(self.graph.objects[named["like"]])
        )
        if issubclass(own, tuple):  # nothing inside can hold it
            inside = [self._value(ref) for ref in parts]
            self.made[number] = own(*inside) if hasattr(own, "_fields") else own(inside)
            return
        made = self.made[number] = own.__new__(own)
        if issubclass(own, set | list | collections.deque):
            self._fill(made, {"set": parts})
        else:
            self._fill(made, {"set": parts, "gone": []})


def _finish(tensor: Tensor, content: Any) -> Tensor:
    tensor.requires_grad_(content["requires_grad"])
    grad = content["grad"]
    tensor.grad = None if grad is None else grad.to(tensor.device, copy=True)
    return tensor
