"""Functions that numba compiles: when they are first called, in seconds, and once where its cache can be written."""

import contextlib
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from torch import Tensor


def compiled(function: Callable[..., Any], *, fastmath: frozenset[str] = frozenset()) -> Any:
    """``function`` as machine code that checks no bounds.

    Args:
        fastmath: LLVM's flags for the arithmetic of floating point that the function allows.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": set(fastmath)}
    try:
        return _forgiving(numba.njit(cache=True, **options)(function))
    except RuntimeError:  # there is no folder for the cache
        return numba.njit(**options)(function)


def _forgiving(dispatcher: Any) -> Any:
    """The same, whose cache costs seconds at most: where it is damaged or the disk is full it is left out.

    A process that was killed while it wrote, or a full disk, leaves files that numba fails on for ever.
    """
    cache = dispatcher._cache
    load, save = cache.load_overload, cache.save_overload

    def load_overload(*given: Any) -> Any:
        try:
            return load(*given)
        except Exception:  # unpickling raises whatever the bytes suggest
            with contextlib.suppress(OSError):
                cache.flush()
            return None

    def save_overload(*given: Any) -> None:
        with contextlib.suppress(OSError):
            save(*given)

    cache.load_overload, cache.save_overload = load_overload, save_overload
    return dispatcher


@compiled
def unsigned(place: int) -> np.uint64:
    """As an index of a flat array: of a signed one numba asks whether it counts from the end, and uses no vectors."""
    return np.uint64(place)


def shared(tensor: Tensor) -> np.ndarray:
    """The elements of a contiguous tensor on the CPU as a flat array, the same memory."""
    return tensor.detach().view(-1).numpy()
