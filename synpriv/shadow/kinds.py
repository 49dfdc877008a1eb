"""Kinds of Python objects: what a value says by itself, what has parts, whose state can be told."""

from __future__ import annotations

import collections
import enum
import functools
import logging
import pathlib
import random
import re
import sys
import types
from typing import Any

import numpy as np
import omegaconf
import torch
from torch import Tensor, nn

ATOMS = (type(None), bool, int, float, str)
BUILT_IN: dict[str, type] = {
    t.__name__: t for t in (list, dict, set, tuple, torch.Size, collections.OrderedDict)
}
_FIXED = (
    *(types.FunctionType, types.BuiltinFunctionType, types.ModuleType, bytes, complex),
    *(torch.dtype, torch.device, torch.memory_format, enum.Enum, pathlib.PurePath, range, slice),
    *(re.Pattern, logging.Logger, omegaconf.Container, np.dtype, np.ufunc),
)
_RANDOM = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
_THEIRS = {"torch", "torchvision", "pytorch_lightning", "lightning_fabric", "numpy", "omegaconf"}
_THEIRS |= sys.stdlib_module_names - {"__main__"}
_HOOKS: dict[type, tuple[str, ...]] = {  # that run in a training
    nn.Module: ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks"),
    Tensor: ("_backward_hooks", "_post_accumulate_grad_hooks"),
    torch.optim.Optimizer: ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks"),
}
_HEAP_TYPE = 1 << 9  # of type.__flags__: made by a class statement


def is_plain(key: Any) -> bool:
    """Whether a dict's key is a name or a number, or a tuple of them."""
    inside = key if type(key) is tuple else (key,)
    return all(type(each) in ATOMS for each in inside)


def is_leaf(obj: Any) -> bool:
    """Whether an object tells its state as a whole, or has none."""
    if isinstance(obj, type):
        return not is_own_class(obj)
    return isinstance(obj, (*_FIXED, *_RANDOM, np.ndarray, np.generic)) or _has_own_way(obj)


def is_own_class(cls: type) -> bool:
    """Whether somebody wrote a class for an audit: whatever is none of Python, torch and so on."""
    return cls.__module__.partition(".")[0] not in _THEIRS


def class_attributes(cls: type) -> dict[str, Any]:
    """What a class holds that is no method, property or the like, by name."""
    return {
        name: part
        for name, part in vars(cls).items()
        if not name.startswith("__") and name != "_abc_impl" and not hasattr(type(part), "__get__")
    }


def own_attributes(obj: Any) -> dict[str, Any] | None:
    """What is in no `state_dict` of an object of somebody's class; None of other leaves."""
    if not (_has_own_way(obj) and is_own_class(type(obj)) and hasattr(obj, "__dict__")):
        return None
    told = set(obj.state_dict())
    if isinstance(obj, torch.optim.Optimizer):
        told |= _of_optimisers()
    return {name: part for name, part in vars(obj).items() if name not in told}


@functools.cache
def _of_optimisers() -> frozenset[str]:
    """Attributes that torch itself gives an optimiser, one with a schedule too."""
    plain = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    torch.optim.lr_scheduler.ConstantLR(plain)
    return frozenset(vars(plain))


def attributes_beside(obj: Any) -> dict[str, Any] | None:
    """The `__dict__` of a tensor or container, which has it beside its content, if it has one."""
    both = Tensor | dict | list | tuple | set | frozenset | collections.deque | functools.partial
    return getattr(obj, "__dict__", None) if isinstance(obj, both) else None


def hooks_of(obj: Any) -> list[Any]:
    """What torch calls when it goes through a module, a tensor or an optimiser."""
    for kind, names in _HOOKS.items():
        if isinstance(obj, kind):
            return [hook for name in names for hook in (getattr(obj, name) or {}).values()]
    return []


def memory_of(array: Any) -> int | None:
    """Where a tensor or array has its memory, the same for all its views; None of an empty one."""
    while isinstance(array, np.ndarray) and isinstance(array.base, np.ndarray | Tensor):
        array = array.base
    if isinstance(array, Tensor):
        strided = array.layout == torch.strided
        return (array.untyped_storage().data_ptr() or None) if strided else None
    if isinstance(array, np.ndarray) and array.nbytes:
        return int(array.__array_interface__["data"][0])
    return None


def _has_own_way(obj: Any) -> bool:
    own = hasattr(type(obj), "state_dict") and hasattr(type(obj), "load_state_dict")
    return own and not isinstance(obj, nn.Module)


def is_ordinary(obj: Any) -> bool:
    """Whether all of an object is in its `__dict__`."""
    plain = (object, types.SimpleNamespace)
    bases = [base for base in type(obj).__mro__ if base not in plain]
    slots = any(getattr(base, "__slots__", ()) for base in bases)
    return hasattr(obj, "__dict__") and not slots and all(b.__flags__ & _HEAP_TYPE for b in bases)


def state_of(obj: Any) -> Any:
    """State of a leaf as plain data, None if it has none."""
    if isinstance(obj, torch.Generator):
        return obj.get_state()
    if isinstance(obj, np.random.Generator):
        return obj.bit_generator.state
    if isinstance(obj, np.random.RandomState):
        return obj.get_state(legacy=False)
    if isinstance(obj, random.Random):
        return obj.getstate()
    if isinstance(obj, np.ndarray):
        return obj
    return obj.state_dict() if _has_own_way(obj) else None


def set_leaf(obj: Any, state: Any) -> None:
    """Put a leaf where `state_of` found it."""
    if isinstance(obj, torch.Generator):
        obj.set_state(state)
    elif isinstance(obj, np.random.Generator):
        obj.bit_generator.state = state
    elif isinstance(obj, np.random.RandomState):
        obj.set_state(state)
    elif isinstance(obj, random.Random):
        obj.setstate(state)
    elif isinstance(obj, np.ndarray):
        obj[...] = state
    elif isinstance(obj, torch.optim.Optimizer):
        obj.load_state_dict(_rates_as_numbers(state))
    else:
        obj.load_state_dict(state)


def _rates_as_numbers(state: dict[str, Any]) -> dict[str, Any]:
    """A recorded step's learning rate is a tensor; the next recording makes it one anew."""
    for group in state.get("param_groups", ()):  # Lightning has a mock where there is none
        if isinstance(group["lr"], Tensor):
            group["lr"] = float(group["lr"])
    return state


def same_parts(obj: Any, parts: dict[Any, Any], before: dict[Any, Any]) -> bool:
    """Whether an object has the parts it had, a dict in the same order."""
    if parts.keys() != before.keys() or (isinstance(obj, dict) and list(parts) != list(before)):
        return False
    return all(same(parts[key], before[key]) for key in parts)


def same(value: Any, before: Any) -> bool:
    """Whether a part is still the same object, or an equal number or name."""
    if type(value) in ATOMS and type(value) is type(before):
        return repr(value) == repr(before)  # tells 0.0 from -0.0, and NaN from none
    return value is before


def name_of(obj: Any) -> str:
    """The class, with its module."""
    return f"{type(obj).__module__}.{type(obj).__qualname__}"
