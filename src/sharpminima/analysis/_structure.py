"""Tensors within tuples, lists, dictionaries and dataclasses: what nets take and give."""

import copy
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor


def mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same structure with every tensor changed; what is no tensor stays.

    >>> import torch
    >>> mapped({"x": (torch.ones(2), "name")}, lambda tensor: tensor + 1)
    {'x': (tensor([2., 2.]), 'name')}
    """
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        if not hasattr(value, "__setitem__"):
            return {key: mapped(part, change) for key, part in value.items()}
        made = copy.copy(value)
        for key, part in value.items():
            made[key] = mapped(part, change)
        return made
    if isinstance(value, tuple | list):
        parts = [mapped(part, change) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = copy.copy(value)
        for field in dataclasses.fields(value):
            # Frozen ones are copies of ours too.
            object.__setattr__(changed, field.name, mapped(getattr(value, field.name), change))
        return changed
    return value


def tensors_of(value: Any) -> list[Tensor]:
    """Every tensor of a structure, in its order.

    >>> import torch
    >>> [tensor.shape for tensor in tensors_of([torch.ones(2), {"x": torch.ones(3)}])]
    [torch.Size([2]), torch.Size([3])]
    """
    tensors: list[Tensor] = []

    def noted(tensor: Tensor) -> Tensor:
        tensors.append(tensor)
        return tensor

    mapped(value, noted)
    return tensors


def floating_of(value: Any) -> tuple[Tensor, ...]:
    """Every floating point tensor of a structure, in its order."""
    return tuple(tensor for tensor in tensors_of(value) if tensor.is_floating_point())


def with_floating(value: Any, tensors: Iterable[Tensor]) -> Any:
    """The same structure with other floating point tensors, in the order of `floating_of`."""
    others = iter(tensors)
    return mapped(value, lambda tensor: next(others) if tensor.is_floating_point() else tensor)


def shapes_of(value: Any) -> str:
    """The shapes and dtypes of a structure's tensors, for a message."""
    return ", ".join(f"{list(tensor.shape)} {tensor.dtype}" for tensor in tensors_of(value)) or "no tensor"
