"""bfloat16 in compiled code, which has no such type: its bits are the upper half of a float32's."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from sharpminima.runtime.compiled import compiled


def _same_bits(source: Any, target: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(target))

    return target(source), code


float_of: Any = intrinsic(lambda typing_context, bits: _same_bits(types.uint32, types.float32))
"""In compiled code: the float32 that has these bits (uint32)."""
bits_of: Any = intrinsic(lambda typing_context, value: _same_bits(types.float32, types.uint32))
"""In compiled code: the bits (uint32) of a float32."""


@compiled
def widened(half: np.uint16) -> np.float32:
    """The float32 with the same value as the bfloat16 with these bits."""
    return float_of(np.uint32(half) << np.uint32(16))


@compiled
def narrowed(value: np.float32) -> np.uint16:
    """The bits of the nearest bfloat16, of two the even one, as torch rounds."""
    bits = bits_of(value)
    return np.uint16((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))
