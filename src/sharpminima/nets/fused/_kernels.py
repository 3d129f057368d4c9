"""BatchNorm, addition and ReLU in few passes over memory: the CPU's kernels.

All in one file: numba keeps what it has compiled of a file until that file changes.

Maps are bfloat16 with the channels last in memory, seen as one flat array; the arithmetic is float32, and sums over
parts float64. A part is a run of whole pixels. It is taken in tiles of several pixels, so that all that differs from
channel to channel is a row as long as a tile and every loop runs over contiguous numbers.

Arguments, after `runtime.parallel`'s own: elements of a part (whole pixels), elements, channels, elements of a tile,
and then addresses.
"""

from functools import partial
from typing import Any

import numpy as np
from numba import carray  # type: ignore[attr-defined] # numba's stubs leave it out

from sharpminima.runtime.bfloat16 import narrowed, widened
from sharpminima.runtime.compiled import compiled, unsigned
from sharpminima.runtime.parallel import PARTS, next_part, pointer

_contracted = partial(compiled, fastmath=frozenset({"contract"}))
_PART, _SIZE, _CHANNELS, _TILE, _OWN = range(2, 7)


@compiled
def _by_channel(row: np.ndarray, totals: np.ndarray) -> None:
    """Add the elements of a tile's row to the channel each belongs to."""
    channels = len(totals)
    for start in range(0, len(row), channels):
        for c in range(channels):
            totals[c] += row[start + c]


@_contracted
def _add_moments(x: np.ndarray, at: int, end: int, sums: np.ndarray, squares: np.ndarray) -> None:
    tile = len(sums)
    while at < end:
        first, size = unsigned(at), unsigned(min(tile, end - at))
        for j in range(size):
            value = widened(x[first + j])
            sums[j] += value
            squares[j] += value * value
        at += tile


def moments(data: Any) -> None:
    """Sums and sums of squares of each channel [parts, 2, channels], float64.

    Addresses: the maps, and what is to be written.
    """
    a = carray(data, (_OWN + 2,), np.int64)
    part, size, channels, tile = a[_PART], a[_SIZE], a[_CHANNELS], a[_TILE]
    x = carray(pointer(a[_OWN]), (size,), np.uint16)
    totals = carray(pointer(a[_OWN + 1]), (a[PARTS], 2, channels), np.float64)
    while True:
        number = next_part(data)
        if number >= a[PARTS]:
            return
        sums, squares = np.zeros(tile, np.float32), np.zeros(tile, np.float32)
        _add_moments(x, number * part, min(size, (number + 1) * part), sums, squares)
        totals[number] = 0.0
        _by_channel(sums, totals[number, 0])
        _by_channel(squares, totals[number, 1])


@_contracted
def _write_rectified(x: np.ndarray, at: int, end: int, scale: np.ndarray, shift: np.ndarray, y: np.ndarray) -> None:
    tile, zero = len(scale), np.float32(0)
    while at < end:
        first, size = unsigned(at), unsigned(min(tile, end - at))
        for j in range(size):
            value = widened(x[first + j]) * scale[j] + shift[j]
            y[first + j] = narrowed(zero if value < zero else value)  # NaN stays
        at += tile


@_contracted
def _write_rectified_sum(
    x: np.ndarray, other: np.ndarray, at: int, end: int, scale: np.ndarray, shift: np.ndarray, y: np.ndarray
) -> None:
    tile, zero = len(scale), np.float32(0)
    while at < end:
        first, size = unsigned(at), unsigned(min(tile, end - at))
        for j in range(size):
            value = widened(x[first + j]) * scale[j] + shift[j] + widened(other[first + j])
            y[first + j] = narrowed(zero if value < zero else value)
        at += tile


def normalise(data: Any) -> None:
    """relu(BatchNorm(x) + other), and what BatchNorm remembers of the batch.

    Addresses: x; other, or 0; sums of `moments`; weight and bias [channels]; running mean and variance [channels];
    what is to be written: y, and mean and 1 / deviation of the batch [2, channels]. Behind them the share of this
    batch in the running statistics, and eps, as two float64 [2].
    """
    a = carray(data, (_OWN + 10,), np.int64)
    part, size, channels, tile = a[_PART], a[_SIZE], a[_CHANNELS], a[_TILE]
    x = carray(pointer(a[_OWN]), (size,), np.uint16)
    totals = carray(pointer(a[_OWN + 2]), (a[PARTS], 2, channels), np.float64)
    weight = carray(pointer(a[_OWN + 3]), (channels,), np.float32)
    bias = carray(pointer(a[_OWN + 4]), (channels,), np.float32)
    running = carray(pointer(a[_OWN + 5]), (channels,), np.float32)
    running_variance = carray(pointer(a[_OWN + 6]), (channels,), np.float32)
    y = carray(pointer(a[_OWN + 7]), (size,), np.uint16)
    kept = carray(pointer(a[_OWN + 8]), (2, channels), np.float32)
    share, eps = carray(pointer(a[_OWN + 9]), (2,), np.float64)
    pixels = size // channels
    while True:
        number = next_part(data)
        if number >= a[PARTS]:
            return
        scale, shift = np.empty(tile, np.float32), np.empty(tile, np.float32)
        for c in range(channels):
            mean = totals[:, 0, c].sum() / pixels
            variance = max(totals[:, 1, c].sum() / pixels - mean * mean, 0.0)
            inverse = 1.0 / np.sqrt(variance + eps)
            if number == 0:
                kept[0, c], kept[1, c] = mean, inverse
                unbiased = variance * pixels / (pixels - 1)
                running[c] += share * (mean - running[c])
                running_variance[c] += share * (unbiased - running_variance[c])
            scale[c] = weight[c] * inverse
            shift[c] = bias[c] - mean * weight[c] * inverse
        for j in range(channels, tile):
            scale[j], shift[j] = scale[j - channels], shift[j - channels]
        first, last = number * part, min(size, (number + 1) * part)
        if a[_OWN + 1] == 0:
            _write_rectified(x, first, last, scale, shift, y)
        else:
            other = carray(pointer(a[_OWN + 1]), (size,), np.uint16)
            _write_rectified_sum(x, other, first, last, scale, shift, y)


@_contracted
def _pass_slopes(
    slopes: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    at: int,
    end: int,
    mean: np.ndarray,
    passed: np.ndarray,
    sums: np.ndarray,
    products: np.ndarray,
) -> None:
    tile, nothing = len(mean), np.uint16(0)
    while at < end:
        first, size = unsigned(at), unsigned(min(tile, end - at))
        for j in range(size):
            slope = slopes[first + j] if y[first + j] != nothing else nothing
            passed[first + j] = slope
            value = widened(slope)
            sums[j] += value
            products[j] += value * (widened(x[first + j]) - mean[j])
        at += tile


@_contracted
def _pass_both_slopes(
    slopes: np.ndarray,
    others: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    at: int,
    end: int,
    mean: np.ndarray,
    passed: np.ndarray,
    sums: np.ndarray,
    products: np.ndarray,
) -> None:
    tile, nothing = len(mean), np.uint16(0)
    while at < end:
        first, size = unsigned(at), unsigned(min(tile, end - at))
        for j in range(size):
            both = narrowed(widened(slopes[first + j]) + widened(others[first + j]))
            slope = both if y[first + j] != nothing else nothing
            passed[first + j] = slope
            value = widened(slope)
            sums[j] += value
            products[j] += value * (widened(x[first + j]) - mean[j])
        at += tile


def rectify_slopes(data: Any) -> None:
    """What the ReLU passes of the gradient, and what BatchNorm needs of it: sums [parts, 2, channels], float64.

    The sums are those of the gradient and of its products with x - mean. Addresses: the gradient of y; another to be
    added to it, or 0; y; x; mean and 1 / deviation [2, channels]; to be written: what passes, like y, and the sums.
    """
    a = carray(data, (_OWN + 7,), np.int64)
    part, size, channels, tile = a[_PART], a[_SIZE], a[_CHANNELS], a[_TILE]
    slopes = carray(pointer(a[_OWN]), (size,), np.uint16)
    y = carray(pointer(a[_OWN + 2]), (size,), np.uint16)
    x = carray(pointer(a[_OWN + 3]), (size,), np.uint16)
    kept = carray(pointer(a[_OWN + 4]), (2, channels), np.float32)
    passed = carray(pointer(a[_OWN + 5]), (size,), np.uint16)
    totals = carray(pointer(a[_OWN + 6]), (a[PARTS], 2, channels), np.float64)
    while True:
        number = next_part(data)
        if number >= a[PARTS]:
            return
        mean = np.empty(tile, np.float32)
        for j in range(tile):
            mean[j] = kept[0, j % channels]
        sums, products = np.zeros(tile, np.float32), np.zeros(tile, np.float32)
        first, last = number * part, min(size, (number + 1) * part)
        if a[_OWN + 1] == 0:
            _pass_slopes(slopes, y, x, first, last, mean, passed, sums, products)
        else:
            others = carray(pointer(a[_OWN + 1]), (size,), np.uint16)
            _pass_both_slopes(slopes, others, y, x, first, last, mean, passed, sums, products)
        totals[number] = 0.0
        _by_channel(sums, totals[number, 0])
        _by_channel(products, totals[number, 1])


@_contracted
def _write_slopes(
    slopes: np.ndarray,
    x: np.ndarray,
    at: int,
    end: int,
    scale: np.ndarray,
    tilt: np.ndarray,
    shift: np.ndarray,
    to_x: np.ndarray,
) -> None:
    tile = len(scale)
    while at < end:
        first, size = unsigned(at), unsigned(min(tile, end - at))
        for j in range(size):
            value = scale[j] * widened(slopes[first + j]) + (tilt[j] * widened(x[first + j]) + shift[j])
            to_x[first + j] = narrowed(value)
        at += tile


def slopes(data: Any) -> None:
    """Gradients of x, of BatchNorm's weight and of its bias.

    With the gradient g behind BatchNorm, n pixels and h = (x - mean) / deviation, that of x is
    weight / deviation (g - sum(g) / n - h sum(g h) / n); those of weight and bias are sum(g h) and sum(g).

    Addresses: what passes the ReLU, g; x; mean and 1 / deviation [2, channels]; sums of `rectify_slopes`; weight
    [channels]; to be written: the gradients of x, and of weight and bias [2, channels].
    """
    a = carray(data, (_OWN + 7,), np.int64)
    part, size, channels, tile = a[_PART], a[_SIZE], a[_CHANNELS], a[_TILE]
    passed = carray(pointer(a[_OWN]), (size,), np.uint16)
    x = carray(pointer(a[_OWN + 1]), (size,), np.uint16)
    kept = carray(pointer(a[_OWN + 2]), (2, channels), np.float32)
    sums = carray(pointer(a[_OWN + 3]), (a[PARTS], 2, channels), np.float64)
    weight = carray(pointer(a[_OWN + 4]), (channels,), np.float32)
    to_x = carray(pointer(a[_OWN + 5]), (size,), np.uint16)
    to_parameters = carray(pointer(a[_OWN + 6]), (2, channels), np.float32)
    pixels = size // channels
    while True:
        number = next_part(data)
        if number >= a[PARTS]:
            return
        scale, tilt, shift = np.empty(tile, np.float32), np.empty(tile, np.float32), np.empty(tile, np.float32)
        for c in range(channels):
            mean, inverse = np.float64(kept[0, c]), np.float64(kept[1, c])
            total, product = sums[:, 0, c].sum(), sums[:, 1, c].sum() * inverse
            if number == 0:
                to_parameters[0, c], to_parameters[1, c] = product, total
            slope = weight[c] * inverse
            scale[c] = slope
            tilt[c] = -slope * inverse * product / pixels
            shift[c] = slope * (mean * inverse * product - total) / pixels
        for j in range(channels, tile):
            scale[j], tilt[j], shift[j] = scale[j - channels], tilt[j - channels], shift[j - channels]
        last = min(size, (number + 1) * part)
        _write_slopes(passed, x, number * part, last, scale, tilt, shift, to_x)
