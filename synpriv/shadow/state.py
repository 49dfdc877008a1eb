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

from torch import Tensor, nn

from synpriv.data.images import LabelledImages
from synpriv.shadow import kinds
from synpriv.shadow.changes import CannotKeepError, Changes
from synpriv.shadow.restored import Restored

__all__ = ["CannotKeepError", "Graph"]
_OF_MODULES = frozenset(vars(nn.Module())) - {"training", "_parameters", "_buffers", "_modules"}
Key = Any


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
        self.hooks = dict[str, list[Any]]()
        self.images = set[int]()  # tensors of data sets, which nobody changes in place
        for name, root in roots.items():
            self._walk(root, name)
        shape = "\n".join(f"{path} {kinds.name_of(obj)}" for path, obj in self.objects.items())
        self.digest = hashlib.sha256(shape.encode()).hexdigest()

    def _walk(self, obj: Any, path: str) -> None:
        if type(obj) in kinds.ATOMS or id(obj) in self.paths:
            return
        self.objects[path], self.paths[id(obj)] = obj, path
        for base in filter(kinds.is_own_class, type(obj).__mro__):
            self._walk(base, f"class {base.__module__}.{base.__qualname__}")
        self.hooks[path] = kinds.hooks_of(obj)
        if isinstance(obj, Tensor):
            self.before[path] = (obj._version, obj.requires_grad)
        elif (parts := self.parts(obj, path)) is not None:
            self.before[path] = parts
            if isinstance(obj, LabelledImages):
                self.images |= set(map(id, parts.values()))
            for key, part in parts.items():
                self._walk(part, f"{path}.{key}")
        for number, hook in enumerate(self.hooks[path]):
            self._walk(hook, f"{path} hook {number}")
        if (attributes := kinds.attributes_beside(obj)) is not None:
            self._walk(attributes, f"{path}/")

    def parts(self, obj: Any, path: str) -> dict[Key, Any] | None:
        """What an object consists of, by name or index; None of one without parts."""
        if kinds.is_leaf(obj):
            return kinds.own_attributes(obj)
        if isinstance(obj, type):
            return kinds.class_attributes(obj)
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
        return Changes(self).found()

    def restore(self, changes: Mapping[str, Any]) -> None:
        """Make all as it was when the changes were taken, from a graph of the same shape.

        Also what was done since the walk, by a hook that comes before the first step. ValueError
        where the shape is another one, or a large tensor was changed since that was not kept.
        """
        if changes["digest"] != self.digest:
            raise ValueError("the method that was made anew is not built as the one that was kept")
        restored = Restored(self, changes["new"])
        restored.rewind(changes["old"])
        restored.fill(changes["old"])
