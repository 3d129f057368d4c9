"""Joint counts of binary neurons by population counts over bits: the CPU's kernels.

The states of one class are held twice, as ``rows`` uint64 [neurons, words] and ``columns`` [words, neurons]: bit
s % 64 of word s // 64 is the state on sample s, and the bits behind the last sample are 0. Of a pair, n11 is the
population count of the AND of both. The other three joint counts follow from it and the neurons' own counts.
Only the histogram of all the counts is kept, as their entropies need no more.
"""

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from sharpminima.runtime.compiled import compiled

_COLUMNS = 4096  # neurons that a row meets at once: their words stay in the second-level cache


def _count_ones(context: Any, word: Any) -> Any:
    """The number of ones in a word: the processor's own instruction, of vectors where it has one."""
    return types.uint64(types.uint64), lambda context, builder, signature, arguments: builder.ctpop(arguments[0])


_ones: Any = intrinsic(_count_ones)  # of one word: the context is numba's own


@compiled
def transpose(packed: np.ndarray, neurons: int) -> np.ndarray:
    """``columns`` of states that are packed along the neurons, uint8 [samples, ceil(neurons / 8)]."""
    samples, places = packed.shape
    columns = np.zeros(((samples + 63) // 64, places * 8), np.uint64)
    for sample in range(samples):
        row = columns[sample // 64]
        shift = np.uint64(sample % 64)
        for place in range(places):
            states = np.uint64(packed[sample, place])
            for bit in range(8):
                row[8 * place + bit] |= ((states >> np.uint64(bit)) & np.uint64(1)) << shift
    return columns[:, :neurons]


@compiled
def _all_samples(samples: int, words: int) -> np.ndarray:
    part = np.zeros(words, np.uint64)
    for sample in range(samples):
        part[sample // 64] |= np.uint64(1) << np.uint64(sample % 64)
    return part


def distinct(rows: np.ndarray, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of which none is another or its complement, and how many of the given ones each stands for: int64.

    The joint counts of a pair are the same four numbers whichever of its rows are complemented.
    """
    there = _all_samples(samples, rows.shape[1])
    on = (rows[:, :1] & np.uint64(1)) == 1
    alike = np.ascontiguousarray(np.where(on, rows, ~rows & there))
    as_bytes = alike.view(np.dtype((np.void, alike.dtype.itemsize * alike.shape[1]))).ravel()
    _, first, weights = np.unique(as_bytes, return_index=True, return_counts=True)
    return alike[first], weights


@compiled
def _size(part: np.ndarray) -> np.int64:
    size = np.uint64(0)
    for word in part:
        size += _ones(word)
    return np.int64(size)


@compiled
def sizes(rows: np.ndarray) -> np.ndarray:
    """Samples on which each row is 1: int64 [rows]."""
    counts = np.empty(len(rows), np.int64)
    for i in range(len(rows)):
        counts[i] = _size(rows[i])
    return counts


@compiled
def _count(row: np.ndarray, columns: np.ndarray, start: int, stop: int, counts: np.ndarray) -> None:
    """Into ``counts``: samples on which ``row`` and each of the columns from start to stop are both 1."""
    length, words = stop - start, len(row)
    for t in range(length):
        counts[t] = np.uint64(0)
    whole = words // 4 * 4
    for w in range(0, whole, 4):
        a, b, c, d = row[w], row[w + 1], row[w + 2], row[w + 3]
        of_a, of_b = columns[w, start:stop], columns[w + 1, start:stop]
        of_c, of_d = columns[w + 2, start:stop], columns[w + 3, start:stop]
        for t in range(length):
            counts[t] += _ones(a & of_a[t]) + _ones(b & of_b[t]) + _ones(c & of_c[t]) + _ones(d & of_d[t])
    for w in range(whole, words):
        a, of_a = row[w], columns[w, start:stop]
        for t in range(length):
            counts[t] += _ones(a & of_a[t])


@compiled
def _fold(counts: np.ndarray, total: int, times: int, histogram: np.ndarray) -> None:
    """Add ``counts`` to ``histogram`` so many times, with each count n also total - n; empty ``counts``."""
    for n in range(total + 1):
        histogram[n] += times * counts[n]
    for n in range(total + 1):
        histogram[total - n] += times * counts[n]
    counts[: total + 1] = 0


@compiled
def _add_pairs(
    part: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    weights: np.ndarray,
    start: int,
    stop: int,
    histogram: np.ndarray,
) -> None:
    """Add the joint counts, on the samples of ``part``, of the pairs i < j with start <= i < stop, each as often as
    the product of its weights says."""
    neurons, words = rows.shape
    size = _size(part)
    if size == 1:  # one of the four counts of every pair is 1
        rest = weights[start:].sum()
        for i in range(start, stop):
            rest -= weights[i]
            histogram[1] += weights[i] * rest
        return
    active = np.empty(neurons - start, np.uint64)
    _count(part, columns, start, neurons, active)
    both, second_only = np.zeros(size + 1, np.uint32), np.zeros(size + 1, np.uint32)
    counts = np.empty(min(_COLUMNS, neurons - start), np.uint64)
    row = np.empty(words, np.uint64)
    for left in range(start, neurons, _COLUMNS):
        right = min(left + _COLUMNS, neurons)
        for i in range(start, min(stop, right)):
            first = max(left, i + 1)
            for w in range(words):
                row[w] = part[w] & rows[i, w]
            _count(row, columns, first, right, counts)
            of_second, times = active[first - start : right - start], weights[first:right]
            for t in range(right - first):
                n11 = counts[t]
                both[n11] += times[t]
                second_only[of_second[t] - n11] += times[t]
            # n10 = n1 - n11 and n00 = n0 - n01, where n1 and n0 belong to the row.
            on = np.int64(active[i - start])
            _fold(both, on, weights[i], histogram)
            _fold(second_only, size - on, weights[i], histogram)


@compiled
def _split(parts: np.ndarray, number: int, row: np.ndarray, halves: np.ndarray) -> int:
    """Split each of the parts of the samples by the state of one more neuron into ``halves``; how many there are."""
    words, many = len(row), 0
    for p in range(number):
        for state in range(2):
            kept = np.uint64(0)
            for w in range(words):
                word = parts[p, w] & (row[w] if state else ~row[w])
                halves[many, w] = word
                kept |= word
            if kept:  # else the next one takes its place
                many += 1
    return many


@compiled
def add_tuples(
    rows: np.ndarray,
    columns: np.ndarray,
    weights: np.ndarray,
    samples: int,
    order: int,
    start: int,
    stop: int,
    histogram: np.ndarray,
) -> None:
    """Add the joint counts of all tuples i < j < ... of ``order`` >= 2 neurons with start <= i < stop.

    All but the last two neurons of a tuple split the samples into parts; on each, the last two are a pair.
    Memory: a part takes a bit a sample, and there are at most order - 1 times min(2^(order - 2), samples) + 1.

    Args:
        weights: int64 [neurons]; for pairs, how many neurons each stands for, of more only ones.
        histogram: int64 [samples + 1]; the number of joint states that occur on 0, 1, ... samples, where the
            entry of 0 need not be right.
    """
    neurons, words = rows.shape
    depth = order - 2
    limit = samples if depth > 62 else min(samples, 1 << depth)
    parts = np.empty((depth + 1, limit + 1, words), np.uint64)
    numbers = np.ones(depth + 1, np.int64)
    parts[0, 0] = _all_samples(samples, words)
    if depth == 0:
        _add_pairs(parts[0, 0], rows, columns, weights, start, stop, histogram)
        return
    chosen = np.empty(depth, np.int64)
    for first in range(start, min(stop, neurons - order + 1)):
        chosen[0] = first
        level = 0
        while level >= 0:
            numbers[level + 1] = _split(parts[level], numbers[level], rows[chosen[level]], parts[level + 1])
            level += 1
            if level < depth:
                chosen[level] = chosen[level - 1] + 1
                continue
            for p in range(numbers[depth]):
                _add_pairs(parts[depth, p], rows, columns, weights, chosen[depth - 1] + 1, neurons, histogram)
            # The next choice in lexicographic order with the same first neuron.
            level = depth - 1
            while level > 0 and chosen[level] == neurons - order + level:
                level -= 1
            if level == 0:
                break
            chosen[level] += 1


@compiled
def tuple_entropies(
    rows: np.ndarray, samples: int, tuples: np.ndarray, terms: np.ndarray, entropies: np.ndarray
) -> None:
    """Into ``entropies`` float64 [T]: the joint entropies of the neurons ``tuples`` int64 [T, order], order >= 2.

    Args:
        terms: float64 [samples + 1]; what a joint state that occurs on 0, 1, ... samples adds to the entropy.
    """
    words, order = rows.shape[1], tuples.shape[1]
    limit = samples if order > 62 else min(samples, 1 << order)
    here, there = np.empty((limit + 1, words), np.uint64), np.empty((limit + 1, words), np.uint64)
    everything = _all_samples(samples, words)
    for t in range(len(tuples)):
        here[0] = everything
        number = 1
        for neuron in tuples[t]:
            number = _split(here, number, rows[neuron], there)
            here, there = there, here
        entropy = 0.0
        for p in range(number):
            entropy += terms[_size(here[p])]
        entropies[t] = entropy
