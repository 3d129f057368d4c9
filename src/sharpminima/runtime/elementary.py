"""Elementary functions of float32 in compiled code: arithmetic alone, so that loops over them have vector instructions.

Where Intel's vector library is not installed, numba's own call the C library a number at a time.
"""

from functools import partial

import numpy as np

from sharpminima.runtime.bfloat16 import bits_of, float_of
from sharpminima.runtime.compiled import compiled

_contracted = partial(compiled, fastmath=frozenset({"contract"}))

_LARGEST = np.float32(87.0)  # e^87 is just below the largest float32
_LOG2_E = np.float32(1.4426950408889634)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)  # n times the first is exact
_TO_INTEGER = np.float32(12582912.0)  # 1.5 2^23: added and taken off, it leaves the nearest integer
_EXP = tuple(np.float32(1 / factorial) for factorial in (720, 120, 24, 6, 2, 1, 1))  # Taylor's, on half of ln 2

_SQRT_HALF_BITS = np.uint32(0x3F3504F3)  # of the float32 nearest to the square root of 1/2
_MANTISSA = np.uint32(0x007FFFFF)
# Cephes' logf (S. Moshier, netlib.org/cephes): log(1 + f) = f - f^2 / 2 + f^3 P(f) for 1 + f in [sqrt(1/2), sqrt(2)].
_LOG = tuple(
    map(
        np.float32,
        (
            7.0376836292e-2,
            -1.1514610310e-1,
            1.1676998740e-1,
            -1.2420140846e-1,
            1.4249322787e-1,
            -1.6668057665e-1,
            2.0000714765e-1,
            -2.4999993993e-1,
            3.3333331174e-1,
        ),
    )
)
_HALF, _ONE = np.float32(0.5), np.float32(1)


@_contracted
def sigmoid(x: np.float32) -> np.float32:
    """1 / (1 + e^-x), to 3 units in the last place; NaN stays, and beyond +-87 it is what it is there."""
    x = _LARGEST if x > _LARGEST else x
    x = -_LARGEST if x < -_LARGEST else x
    shifted = _TO_INTEGER - x * _LOG2_E
    n = shifted - _TO_INTEGER
    r = (-x - n * _LN2_HIGH) - n * _LN2_LOW
    power = _EXP[0]
    power = power * r + _EXP[1]
    power = power * r + _EXP[2]
    power = power * r + _EXP[3]
    power = power * r + _EXP[4]
    power = power * r + _EXP[5]
    power = power * r + _EXP[6]
    return _ONE / (_ONE + float_of(bits_of(power) + (bits_of(shifted) << np.uint32(23))))


@_contracted
def log2(x: np.float32) -> np.float32:
    """Of a normal number above 0, to 2 units in the last place."""
    over = bits_of(x) - _SQRT_HALF_BITS
    exponent = np.float32(np.int32(over) >> np.int32(23))
    f = float_of((over & _MANTISSA) + _SQRT_HALF_BITS) - _ONE
    tail = _LOG[0]
    tail = tail * f + _LOG[1]
    tail = tail * f + _LOG[2]
    tail = tail * f + _LOG[3]
    tail = tail * f + _LOG[4]
    tail = tail * f + _LOG[5]
    tail = tail * f + _LOG[6]
    tail = tail * f + _LOG[7]
    tail = tail * f + _LOG[8]
    square = f * f
    return exponent + (f + (tail * f * square - _HALF * square)) * _LOG2_E
