"""Convolutions by their surviving weights alone, and max-pooling: the CPU's kernels.

All in one file: numba keeps what it has compiled of a file until that file changes.

Maps lie in memory as [channels, height, width, batch], so that what one weight does to a row of a map is one long run
of multiplications and additions: row y of filter f gains w times the row of the inputs that w meets. Four weights at a
time go over a run, which then is read and written once for the four. A run is taken in tiles that stay in the
first-level cache, whatever the batch. With a horizontal stride a run is one position of all images instead of a row.

A convolution whose maps only a max-pooling reads does not write them, the largest tensors of a small net: it pools one
band of rows, as high as a window, of one filter at a time.

All arrays are flat; places, steps and lengths count their elements.
"""

from functools import partial
from typing import NamedTuple

import numpy as np

from sharpminima.runtime.compiled import compiled, unsigned

_TILE = 1024  # four tiles of inputs and one of outputs, in float32: less than a first-level cache
# What LLVM may do to the arithmetic: one rounding for a product and its sum; and sums in the order that vectors take.
_contracted = partial(compiled, fastmath=frozenset({"contract"}))
_reordered = partial(compiled, fastmath=frozenset({"contract", "reassoc", "nsz"}))


class Geometry(NamedTuple):
    """How a convolution's runs lie."""

    rows: int  # of a map of outputs
    runs: int  # of a row
    length: int  # of a run
    row_step: int  # in the inputs, from one row of outputs to the next
    run_step: int  # likewise from run to run


@_contracted
def _add(
    sums: np.ndarray,
    at: int,
    length: int,
    terms: np.ndarray,
    places: np.ndarray,
    shift: int,
    weights: np.ndarray,
    first: int,
    last: int,
) -> None:
    """Add ``weights[k]`` times the run of ``terms`` from ``places[k] + shift`` on, for k from ``first`` to ``last``."""
    to, size = unsigned(at), unsigned(length)
    k = first
    while k + 4 <= last:
        w0, w1, w2, w3 = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
        p0, p1 = unsigned(places[k] + shift), unsigned(places[k + 1] + shift)
        p2, p3 = unsigned(places[k + 2] + shift), unsigned(places[k + 3] + shift)
        for j in range(size):
            sums[to + j] += w0 * terms[p0 + j] + w1 * terms[p1 + j] + w2 * terms[p2 + j] + w3 * terms[p3 + j]
        k += 4
    while k < last:
        w0, p0 = weights[k], unsigned(places[k] + shift)
        for j in range(size):
            sums[to + j] += w0 * terms[p0 + j]
        k += 1


@_contracted
def convolve(
    inputs: np.ndarray,
    weights: np.ndarray,
    bias: np.ndarray,
    starts: np.ndarray,
    places: np.ndarray,
    geometry: Geometry,
    outputs: np.ndarray,
) -> None:
    """The outputs.

    Args:
        inputs: padded [channels * height * width * batch].
        weights: [S], by filter.
        bias: [filters].
        starts: [filters + 1], where the weights of each filter begin.
        places: [S], where each weight meets the inputs for the first output of a map.
        geometry: of the runs.
        outputs: [filters * rows * runs * length], to be written.
    """
    rows, runs, length, row_step, run_step = geometry
    size = rows * runs * length
    for y in range(rows):
        for run in range(runs):
            for begin in range(0, length, _TILE):
                tile = min(_TILE, length - begin)
                shift = y * row_step + run * run_step + begin
                here = (y * runs + run) * length + begin
                for f in range(len(starts) - 1):
                    at = f * size + here
                    outputs[at : at + tile] = bias[f]
                    _add(outputs, at, tile, inputs, places, shift, weights, starts[f], starts[f + 1])


@_reordered
def _multiply(
    inputs: np.ndarray,
    slopes: np.ndarray,
    at: int,
    length: int,
    places: np.ndarray,
    shift: int,
    first: int,
    last: int,
    totals: np.ndarray,
) -> None:
    """Add to ``totals[k]``, for k from ``first`` to ``last``, the product of two runs.

    They are that of ``inputs`` from ``places[k] + shift`` on, and that of ``slopes`` from ``at`` on.
    """
    g, size = unsigned(at), unsigned(length)
    k = first
    while k + 4 <= last:
        p0, p1 = unsigned(places[k] + shift), unsigned(places[k + 1] + shift)
        p2, p3 = unsigned(places[k + 2] + shift), unsigned(places[k + 3] + shift)
        s0 = s1 = s2 = s3 = inputs.dtype.type(0)
        for j in range(size):
            slope = slopes[g + j]
            s0 += slope * inputs[p0 + j]
            s1 += slope * inputs[p1 + j]
            s2 += slope * inputs[p2 + j]
            s3 += slope * inputs[p3 + j]
        totals[k] += s0
        totals[k + 1] += s1
        totals[k + 2] += s2
        totals[k + 3] += s3
        k += 4
    while k < last:
        p0 = unsigned(places[k] + shift)
        s0 = inputs.dtype.type(0)
        for j in range(size):
            s0 += slopes[g + j] * inputs[p0 + j]
        totals[k] += s0
        k += 1


@_reordered
def to_weights(
    inputs: np.ndarray,
    gradient: np.ndarray,
    starts: np.ndarray,
    places: np.ndarray,
    geometry: Geometry,
    weight_gradient: np.ndarray,
) -> None:
    """The gradients of the weights.

    Args:
        inputs, starts, places, geometry: as for `convolve`.
        gradient: of the outputs.
        weight_gradient: zeros [S], to be added to.
    """
    rows, runs, length, row_step, run_step = geometry
    size = rows * runs * length
    for y in range(rows):
        for run in range(runs):
            for begin in range(0, length, _TILE):
                tile = min(_TILE, length - begin)
                shift = y * row_step + run * run_step + begin
                here = (y * runs + run) * length + begin
                for f in range(len(starts) - 1):
                    at = f * size + here
                    _multiply(inputs, gradient, at, tile, places, shift, starts[f], starts[f + 1], weight_gradient)


@_contracted
def to_inputs(
    gradient: np.ndarray,
    weights: np.ndarray,
    starts: np.ndarray,
    filters: np.ndarray,
    tops: np.ndarray,
    lefts: np.ndarray,
    stride: int,
    height: int,
    width: int,
    geometry: Geometry,
    input_gradient: np.ndarray,
) -> None:
    """The gradients of the inputs.

    Args:
        gradient: of the outputs.
        weights: [S], by channel and, within it, by column of the kernel.
        starts: [channels * columns + 1], where the weights of each channel and column begin.
        filters: [S], of each weight.
        tops: [S], the row of the inputs that each weight meets for the first row of outputs.
        lefts: [columns], the place in a row of inputs that a column meets for the first output of a row.
        stride: vertical.
        height, width: rows of the padded inputs, and the length of one.
        geometry: as for `convolve`.
        input_gradient: zeros, like the inputs, to be added to.
    """
    rows, runs, length, _, run_step = geometry
    size = rows * runs * length
    columns = len(lefts)
    places = np.empty(len(weights), np.int64)  # of the weights that meet a row, and the weights
    meeting = np.empty_like(weights)
    for group in range(len(starts) - 1):
        channel, column = group // columns, group % columns
        for row in range(height):
            count = 0
            for k in range(starts[group], starts[group + 1]):
                below = row - tops[k]
                if below >= 0 and below % stride == 0 and below // stride < rows:
                    places[count] = filters[k] * size + below // stride * runs * length
                    meeting[count] = weights[k]
                    count += 1
            at = (channel * height + row) * width + lefts[column]
            for run in range(runs):
                for begin in range(0, length, _TILE):
                    tile = min(_TILE, length - begin)
                    shift = run * length + begin
                    _add(input_gradient, at + run * run_step + begin, tile, gradient, places, shift, meeting, 0, count)


@compiled
def _pool_band(
    values: np.ndarray,
    first: int,
    width: int,
    columns: int,
    batch: int,
    window: tuple[int, int],
    largest: np.ndarray,
    winners: np.ndarray,
    at: int,
    which: np.ndarray,
) -> None:
    """Write the largest of each of a row of windows, and which of the window's it is.

    Args:
        values: hold the band from ``first`` on, its rows ``width`` elements apart.
        columns: windows of a row.
        window: its height and width.
        largest, winners: to be written from ``at`` on.
        which: [batch], to be written over: numbers as wide as the values, since LLVM takes no vectors of two widths
            without AVX-512.
    """
    tall, wide = window
    images, to = unsigned(batch), unsigned(at)
    for column in range(columns):
        corner = first + column * wide * batch
        start = unsigned(corner)
        for image in range(images):
            largest[to + image] = values[start + image]
            which[image] = 0
        for place in range(1, tall * wide):
            there = unsigned(corner + place // wide * width + place % wide * batch)
            here = values.dtype.type(place)
            for image in range(images):
                best, value = largest[to + image], values[there + image]
                larger = value > best or value != value
                largest[to + image] = value if larger else best
                which[image] = here if larger else which[image]
        for image in range(images):
            winners[to + image] = np.uint8(which[image])
        to += images


@compiled
def _unpool_band(
    slopes: np.ndarray,
    winners: np.ndarray,
    at: int,
    columns: int,
    batch: int,
    window: tuple[int, int],
    input_gradient: np.ndarray,
    first: int,
    width: int,
) -> None:
    """Write the gradient of each of a row of windows to its winner, and zero to the others; as `_pool_band`."""
    tall, wide = window
    images, there = unsigned(batch), unsigned(at)
    nothing = slopes.dtype.type(0)
    for column in range(columns):
        for place in range(tall * wide):
            to = unsigned(first + place // wide * width + (column * wide + place % wide) * batch)
            here = np.uint8(place)  # as narrow as the winners
            for image in range(images):
                input_gradient[to + image] = slopes[there + image] if winners[there + image] == here else nothing
        there += images


@compiled
def pool(
    values: np.ndarray,
    shape: tuple[int, int, int, int],
    window: tuple[int, int],
    largest: np.ndarray,
    winners: np.ndarray,
) -> None:
    """Write the largest of each window, and which it is.

    Args:
        values: maps of ``shape``: channels, height, width, batch.
        window: its height and width; windows lie side by side.
        largest, winners: [channels * windows * batch].
    """
    channels, height, width, batch = shape
    tall, wide = window
    rows, columns = height // tall, width // wide
    which = np.empty(batch, values.dtype)
    for channel in range(channels):
        for row in range(rows):
            first = (channel * height + row * tall) * width * batch
            at = (channel * rows + row) * columns * batch
            _pool_band(values, first, width * batch, columns, batch, window, largest, winners, at, which)


@compiled
def unpool(
    slopes: np.ndarray,
    winners: np.ndarray,
    shape: tuple[int, int, int, int],
    window: tuple[int, int],
    input_gradient: np.ndarray,
) -> None:
    """Write each window's gradient to its winner, and zero to the others: maps of ``shape``, as for `pool`."""
    channels, height, width, batch = shape
    tall, wide = window
    rows, columns = height // tall, width // wide
    for channel in range(channels):
        for row in range(rows):
            first = (channel * height + row * tall) * width * batch
            at = (channel * rows + row) * columns * batch
            _unpool_band(slopes, winners, at, columns, batch, window, input_gradient, first, width * batch)


@_contracted
def convolve_pooled(
    inputs: np.ndarray,
    weights: np.ndarray,
    bias: np.ndarray,
    starts: np.ndarray,
    places: np.ndarray,
    geometry: Geometry,
    batch: int,
    window: tuple[int, int],
    largest: np.ndarray,
    winners: np.ndarray,
) -> None:
    """What `pool` makes of the outputs of `convolve`, with the arguments of the two."""
    rows, runs, length, row_step, run_step = geometry
    tall, wide = window
    width = runs * length
    columns = width // batch // wide
    band, which = np.empty(tall * width, inputs.dtype), np.empty(batch, inputs.dtype)
    for row in range(rows // tall):
        for f in range(len(starts) - 1):
            band[:] = bias[f]
            for y in range(tall):
                for run in range(runs):
                    for begin in range(0, length, _TILE):
                        tile = min(_TILE, length - begin)
                        shift = (row * tall + y) * row_step + run * run_step + begin
                        at = y * width + run * length + begin
                        _add(band, at, tile, inputs, places, shift, weights, starts[f], starts[f + 1])
            at = (f * (rows // tall) + row) * columns * batch
            _pool_band(band, 0, width, columns, batch, window, largest, winners, at, which)


@_reordered
def to_weights_pooled(
    inputs: np.ndarray,
    slopes: np.ndarray,
    winners: np.ndarray,
    starts: np.ndarray,
    places: np.ndarray,
    geometry: Geometry,
    batch: int,
    window: tuple[int, int],
    weight_gradient: np.ndarray,
) -> None:
    """What `to_weights` makes of what `unpool` makes of gradients ``slopes``, with the arguments of the two."""
    rows, runs, length, row_step, run_step = geometry
    tall, wide = window
    width = runs * length
    columns = width // batch // wide
    band = np.zeros(tall * width, inputs.dtype)  # what no window covers stays zero
    for row in range(rows // tall):
        for f in range(len(starts) - 1):
            at = (f * (rows // tall) + row) * columns * batch
            _unpool_band(slopes, winners, at, columns, batch, window, band, 0, width)
            for y in range(tall):
                for run in range(runs):
                    for begin in range(0, length, _TILE):
                        tile = min(_TILE, length - begin)
                        shift = (row * tall + y) * row_step + run * run_step + begin
                        at = y * width + run * length + begin
                        _multiply(inputs, band, at, tile, places, shift, starts[f], starts[f + 1], weight_gradient)
