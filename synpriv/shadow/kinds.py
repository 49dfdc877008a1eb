"""Kinds of Python objects: what a value says by itself, what has parts, whose state can be told."""

from __future__ import annotations

import enum
import logging
import pathlib
import random
import re
import types
from typing import Any

import numpy as np
import omegaconf
import torch
from torch import nn

ATOMS = (type(None), bool, int, float, str)
_FIXED = (
    *(type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType, bytes, complex),
    *(torch.dtype, torch.device, torch.memory_format, enum.Enum, pathlib.PurePath, range, slice),
    *(re.Pattern, logging.Logger, omegaconf.Container, np.dtype, np.ufunc),
)
_RANDOM = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
_HEAP_TYPE = 1 << 9  # of type.__flags__: made by a class statement


def is_plain(key: Any) -> bool:
    """Whether a dict's key is a name or a number, or a tuple of them."""
    inside = key if type(key) is tuple else (key,)
    return all(type(each) in ATOMS for each in inside)


def is_leaf(obj: Any) -> bool:
    """Whether an object tells its state as a whole, or has none."""
    return isinstance(obj, (*_FIXED, *_RANDOM, np.ndarray, np.generic)) or _has_own_way(obj)


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
    else:
        obj.load_state_dict(state)


def same(value: Any, before: Any) -> bool:
    """Whether a part is still the same object, or an equal number or name."""
    if type(value) in ATOMS and type(value) is type(before):
        return repr(value) == repr(before)  # tells 0.0 from -0.0, and NaN from none
    return value is before


def name_of(obj: Any) -> str:
    """The class, with its module."""
    return f"{type(obj).__module__}.{type(obj).__qualname__}"
