"""PSP-entropy of a layer's soft states, and its gradient, in one pass over memory each: the CPU's kernels.

Pre-activations are float32, at strides that are told; what is kept for the gradient lies a row of neurons an image. A
part is a run of neurons with all images, so that its sums, running estimates and entropies stay in the cache.

Arguments, after `runtime.parallel`'s own: neurons of a part, images, neurons, classes, the strides of an image and of
a neuron in elements, the bits of a float32, and then addresses.
"""

from functools import partial
from typing import Any

import numpy as np
from numba import carray  # type: ignore[attr-defined] # numba's stubs leave it out

from sharpminima.runtime.bfloat16 import float_of
from sharpminima.runtime.compiled import compiled, unsigned
from sharpminima.runtime.elementary import log2, sigmoid
from sharpminima.runtime.parallel import PARTS, next_part, pointer

_contracted = partial(compiled, fastmath=frozenset({"contract"}))
_PART, _IMAGES, _NEURONS, _CLASSES, _OF_IMAGE, _OF_NEURON, _NUMBER, _OWN = range(2, 10)
_TINY = np.float32(np.finfo(np.float32).tiny)


@compiled
def _copy_strided(source: np.ndarray, at: int, by: int, target: np.ndarray) -> None:
    for j in range(len(target)):
        target[j] = source[unsigned(at + j * by)]


@_contracted
def _add_states(z: np.ndarray, at: int, sharpness: np.float32, sums: np.ndarray, states: np.ndarray, to: int) -> None:
    zero = np.float32(0)
    first, kept = unsigned(at), unsigned(to)
    for j in range(unsigned(len(sums))):
        value = z[first + j]
        state = sigmoid(value * sharpness)
        state = zero if value == zero else state
        states[kept + j] = state
        sums[j] += state


@_contracted
def _add_entropies(
    sums: np.ndarray, weights: np.ndarray, running: np.ndarray, slopes: np.ndarray, at: int, entropies: np.ndarray
) -> None:
    images, lacking, newness, one = weights[0], weights[1], weights[2], np.float32(1)
    scale = (one - lacking) / images
    first = unsigned(at)
    for j in range(unsigned(len(sums))):
        mean, before = sums[j] / images, running[first + j]
        running[first + j] = before + newness * (mean - before)
        p = mean + lacking * (before - mean)
        p = one if p > one else p
        rest = one - p
        log_p, log_rest = log2(_TINY if p < _TINY else p), log2(_TINY if rest < _TINY else rest)
        entropies[j] -= p * log_p + rest * log_rest
        slopes[first + j] = (log_rest - log_p) * scale


def entropies(data: Any) -> None:
    """The entropies of a layer in bits, summed over neurons and classes, of each part [parts], float64.

    The number is 1 / tau. Addresses: z; labels [images], int64, each a class; weights [classes, 3], as `layer_entropy`
    has them; running estimates of the frequencies [classes, neurons], which go on; to be written: states
    [images, neurons], slopes [classes, neurons], which are derivatives by a state of the class, and the sums.
    """
    a = carray(data, (_OWN + 7,), np.int64)
    part, images, neurons, classes = a[_PART], a[_IMAGES], a[_NEURONS], a[_CLASSES]
    of_image, of_neuron, sharpness = a[_OF_IMAGE], a[_OF_NEURON], float_of(np.uint32(a[_NUMBER]))
    z = carray(pointer(a[_OWN]), ((images - 1) * of_image + (neurons - 1) * of_neuron + 1,), np.float32)
    labels = carray(pointer(a[_OWN + 1]), (images,), np.int64)
    weights = carray(pointer(a[_OWN + 2]), (classes, 3), np.float32)
    running = carray(pointer(a[_OWN + 3]), (classes * neurons,), np.float32)
    states = carray(pointer(a[_OWN + 4]), (images * neurons,), np.float32)
    slopes = carray(pointer(a[_OWN + 5]), (classes * neurons,), np.float32)
    totals = carray(pointer(a[_OWN + 6]), (a[PARTS],), np.float64)
    while True:
        number = next_part(data)
        if number >= a[PARTS]:
            return
        start = number * part
        width = min(part, neurons - start)
        sums, summed = np.zeros((classes, width), np.float32), np.zeros(width, np.float32)
        row = np.empty(width, np.float32)
        for image in range(images):
            at, to = image * of_image + start * of_neuron, image * neurons + start
            if of_neuron == 1:
                _add_states(z, at, sharpness, sums[labels[image]], states, to)
            else:
                _copy_strided(z, at, of_neuron, row)
                _add_states(row, 0, sharpness, sums[labels[image]], states, to)
        for label in range(classes):
            _add_entropies(sums[label], weights[label], running, slopes, label * neurons + start, summed)
        totals[number] = summed.sum()


@_contracted
def _write_slopes(
    states: np.ndarray, at: int, slopes: np.ndarray, of: int, factor: np.float32, to_z: np.ndarray, to: int, width: int
) -> None:
    first, its, there, one = unsigned(at), unsigned(of), unsigned(to), np.float32(1)
    for j in range(unsigned(width)):
        state = states[first + j]
        to_z[there + j] = factor * (slopes[its + j] * (state * (one - state)))


def gradients(data: Any) -> None:
    """The gradients of z, of `entropies`.

    The number is the gradient of the summed entropy, over tau. Addresses: labels [images]; states [images, neurons];
    slopes [classes, neurons]; to be written: the gradients, at the strides.
    """
    a = carray(data, (_OWN + 4,), np.int64)
    part, images, neurons, classes = a[_PART], a[_IMAGES], a[_NEURONS], a[_CLASSES]
    of_image, of_neuron, factor = a[_OF_IMAGE], a[_OF_NEURON], float_of(np.uint32(a[_NUMBER]))
    labels = carray(pointer(a[_OWN]), (images,), np.int64)
    states = carray(pointer(a[_OWN + 1]), (images * neurons,), np.float32)
    slopes = carray(pointer(a[_OWN + 2]), (classes * neurons,), np.float32)
    to_z = carray(pointer(a[_OWN + 3]), ((images - 1) * of_image + (neurons - 1) * of_neuron + 1,), np.float32)
    while True:
        number = next_part(data)
        if number >= a[PARTS]:
            return
        start = number * part
        width = min(part, neurons - start)
        row = np.empty(width, np.float32)
        for image in range(images):
            at, of, to = image * neurons + start, labels[image] * neurons + start, image * of_image + start * of_neuron
            if of_neuron == 1:
                _write_slopes(states, at, slopes, of, factor, to_z, to, width)
            else:
                _write_slopes(states, at, slopes, of, factor, row, 0, width)
                for j in range(width):
                    to_z[unsigned(to + j * of_neuron)] = row[j]
