"""Convolutions by their surviving weights alone: the CPU's kernels.

Maps lie in memory as [channels, height, width, batch], so that what one weight does to a row of a map is one long run
of multiplications and additions: row y of filter f gains w times the row of the inputs that w meets. Four weights at a
time go over a run, which then is read and written once for the four. A run is taken in tiles that stay in the
first-level cache, whatever the batch. With a horizontal stride a run is one position of all images instead of a row.

All arrays are flat; places, steps and lengths count their elements.
"""

from functools import partial
from typing import NamedTuple

import numpy as np

from sharpminima.compiled import compiled, unsigned

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
def to_weights(
    inputs: np.ndarray,
    gradient: np.ndarray,
    starts: np.ndarray,
    places: np.ndarray,
    geometry: Geometry,
    found: np.ndarray,
) -> None:
    """The gradients of the weights.

    Args:
        inputs, starts, places, geometry: as for `convolve`.
        gradient: of the outputs.
        found: zeros [S], to be added to.
    """
    rows, runs, length, row_step, run_step = geometry
    size = rows * runs * length
    for y in range(rows):
        for run in range(runs):
            for begin in range(0, length, _TILE):
                tile = unsigned(min(_TILE, length - begin))
                shift = y * row_step + run * run_step + begin
                here = (y * runs + run) * length + begin
                for f in range(len(starts) - 1):
                    g = unsigned(f * size + here)
                    k, last = starts[f], starts[f + 1]
                    while k + 4 <= last:
                        p0, p1 = unsigned(places[k] + shift), unsigned(places[k + 1] + shift)
                        p2, p3 = unsigned(places[k + 2] + shift), unsigned(places[k + 3] + shift)
                        s0 = s1 = s2 = s3 = inputs.dtype.type(0)
                        for j in range(tile):
                            slope = gradient[g + j]
                            s0 += slope * inputs[p0 + j]
                            s1 += slope * inputs[p1 + j]
                            s2 += slope * inputs[p2 + j]
                            s3 += slope * inputs[p3 + j]
                        found[k] += s0
                        found[k + 1] += s1
                        found[k + 2] += s2
                        found[k + 3] += s3
                        k += 4
                    while k < last:
                        p0 = unsigned(places[k] + shift)
                        s0 = inputs.dtype.type(0)
                        for j in range(tile):
                            s0 += gradient[g + j] * inputs[p0 + j]
                        found[k] += s0
                        k += 1


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
    found: np.ndarray,
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
        found: zeros, like the inputs, to be added to.
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
                    _add(found, at + run * run_step + begin, tile, gradient, places, shift, meeting, 0, count)
