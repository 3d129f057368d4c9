"""ReLU and max-pooling in one pass over memory: the CPU's kernels.

Maps are bfloat16 with the channels last in memory, seen as one flat array of their bits: those of numbers that are not
negative have the numbers' order, as integers with a sign. A part is some rows of windows, over all images.

Arguments, after `runtime.parallel`'s own: rows of windows of a part, of all images, and of one; windows of a row;
channels; height and width of a window; height and width of a map; and then addresses.
"""

from typing import Any

import numpy as np
from numba import carray  # type: ignore[attr-defined] # numba's stubs leave it out

from sharpminima.runtime.compiled import compiled, unsigned
from sharpminima.runtime.parallel import PARTS, next_part, pointer

_PART, _ROWS, _OF_IMAGE, _COLUMNS, _CHANNELS, _TALL, _WIDE, _HEIGHT, _WIDTH, _OWN = range(2, 12)


@compiled
def _rectified(bits: np.int16) -> np.int16:
    """The bits of relu; NaN, which stays, is above all numbers."""
    if (bits & np.int16(0x7FFF)) > np.int16(0x7F80):
        return np.int16(0x7FC0)
    return max(bits, np.int16(0))


@compiled
def _pool_row(
    x: np.ndarray, first: int, width: int, columns: int, channels: int, tall: int, wide: int, y: np.ndarray, at: int
) -> None:
    size = unsigned(channels)
    for column in range(columns):
        to = unsigned(at + column * channels)
        for place in range(tall * wide):
            there = unsigned(first + (place // wide * width + column * wide + place % wide) * channels)
            if place == 0:
                for c in range(size):
                    y[to + c] = _rectified(x[there + c])
            else:
                for c in range(size):
                    y[to + c] = max(y[to + c], _rectified(x[there + c]))


def pool(data: Any) -> None:
    """relu(max(x)) of each window. Addresses: x; y, to be written."""
    a = carray(data, (_OWN + 2,), np.int64)
    rows, of_image, columns, channels = a[_ROWS], a[_OF_IMAGE], a[_COLUMNS], a[_CHANNELS]
    tall, wide, height, width = a[_TALL], a[_WIDE], a[_HEIGHT], a[_WIDTH]
    x = carray(pointer(a[_OWN]), (rows // of_image * height * width * channels,), np.int16)
    y = carray(pointer(a[_OWN + 1]), (rows * columns * channels,), np.int16)
    while True:
        number = next_part(data)
        if number >= a[PARTS]:
            return
        for row in range(number * a[_PART], min(rows, (number + 1) * a[_PART])):
            first = (row // of_image * height + row % of_image * tall) * width * channels
            _pool_row(x, first, width, columns, channels, tall, wide, y, row * columns * channels)


@compiled
def _unpool_row(
    slopes: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    at: int,
    columns: int,
    channels: int,
    tall: int,
    wide: int,
    left: np.ndarray,
    to_x: np.ndarray,
    first: int,
    width: int,
) -> None:
    size, nothing = unsigned(channels), np.int16(0)
    for column in range(columns):
        of = unsigned(at + column * channels)
        for c in range(size):
            left[c] = slopes[of + c] if y[of + c] > nothing else nothing
        for place in range(tall * wide):
            there = unsigned(first + (place // wide * width + column * wide + place % wide) * channels)
            for c in range(size):
                here = x[there + c] == y[of + c]
                to_x[there + c] = left[c] if here else nothing
                left[c] = nothing if here else left[c]


def unpool(data: Any) -> None:
    """The gradient of each window to the first of its largest, where that is positive, and zero to the others.

    Addresses: the gradient of y; x; y; the gradient of x, to be written.
    """
    a = carray(data, (_OWN + 4,), np.int64)
    rows, of_image, columns, channels = a[_ROWS], a[_OF_IMAGE], a[_COLUMNS], a[_CHANNELS]
    tall, wide, height, width = a[_TALL], a[_WIDE], a[_HEIGHT], a[_WIDTH]
    inputs, outputs = rows // of_image * height * width * channels, rows * columns * channels
    slopes = carray(pointer(a[_OWN]), (outputs,), np.int16)
    x = carray(pointer(a[_OWN + 1]), (inputs,), np.int16)
    y = carray(pointer(a[_OWN + 2]), (outputs,), np.int16)
    to_x = carray(pointer(a[_OWN + 3]), (inputs,), np.int16)
    left = np.empty(channels, np.int16)
    while True:
        number = next_part(data)
        if number >= a[PARTS]:
            return
        for row in range(number * a[_PART], min(rows, (number + 1) * a[_PART])):
            first = (row // of_image * height + row % of_image * tall) * width * channels
            at = row * columns * channels
            _unpool_row(slopes, x, y, at, columns, channels, tall, wide, left, to_x, first, width)
