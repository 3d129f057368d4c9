"""Compiled work in parts, on torch's own threads.

Another pool of threads would fight with torch's for the cores: OpenMP's threads go on spinning for milliseconds after
each operation. So the work is given to the OpenMP that torch itself has loaded, where that is GNU's; elsewhere the
thread that asks does all of it.

Threads take parts as they come. What a part computes depends on the part alone, so results do not depend on how many
threads there are.
"""

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from numba import types
from numba.extending import intrinsic

TAKEN, PARTS = 0, 1  # places in the arguments of a work: parts that are taken so far, and all
_Work = Callable[[Any], None]


class Parts:
    """A compiled function that is called once on each thread and takes parts until none is left.

    Args:
        work: takes the address of its arguments (int64): how many parts are taken, how many there are, then its own.
            It is compiled when it is first called.
    """

    def __init__(self, work: _Work) -> None:
        self._work = work

    @property
    def address(self) -> int:
        """Of the machine code."""
        return _compiled(self._work).address

    def __call__(self, parts: int, *arguments: int) -> None:
        """Do all parts; without any there is nothing to do, and memory of nothing has no address.

        Args:
            arguments: numbers and addresses, as the work knows them.
        """
        if parts == 0:
            return
        data = np.array([0, parts, *arguments], np.int64)
        threads = min(torch.get_num_threads(), parts)
        parallel = _openmp()
        if parallel is None or threads == 1:
            _DIRECT(self.address)(data.ctypes.data)
        else:
            parallel(self.address, data.ctypes.data, threads, 0)


_DIRECT = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@cache
def _compiled(work: _Work) -> Any:
    signature = types.void(types.voidptr)
    options: dict[str, Any] = {"nopython": True, "error_model": "numpy"}
    try:
        return numba.cfunc(signature, cache=True, **options)(work)
    except RuntimeError:  # there is no folder for the cache
        return numba.cfunc(signature, **options)(work)


@cache
def _openmp() -> Any:
    """``GOMP_parallel`` of the OpenMP that torch computes with; None where that is another."""
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        gomp_parallel = ctypes.CDLL(str(library)).GOMP_parallel
    except (OSError, AttributeError):
        return None
    gomp_parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    gomp_parallel.restype = None
    return gomp_parallel


def _next_part(typing_context: Any, data: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        taken = builder.bitcast(arguments[0], context.get_value_type(types.int64).as_pointer())
        return builder.atomic_rmw("add", taken, context.get_constant(types.int64, 1), "monotonic")

    return types.int64(types.voidptr), code


def _pointer(typing_context: Any, address: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.int64), code


next_part: Any = intrinsic(_next_part)
"""In a work, of the address of its arguments: a part that no other thread has; at or above `PARTS` none is left."""
pointer: Any = intrinsic(_pointer)
"""In a work: an address among its arguments, as numba's ``carray`` takes it."""
