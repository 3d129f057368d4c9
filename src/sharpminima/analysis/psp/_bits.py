"""Joint counts of binary neurons by population counts over bits: the CPU's kernels.

The states of one class are held as ``rows`` uint64 [neurons, words]: bit s % 64 of word s // 64 is the state on sample
s, and the bits behind the last sample are 0. Where pairs are counted they are held once more, as ``tiles`` uint64
[ceil(neurons / LANES), words, LANES]: LANES neurons side by side, the last ones filled up with zeros. Of a pair, n11 is
the population count of the AND of both. The other three joint counts follow from it and the neurons' own counts.
Only the histogram of all the counts is kept, as their entropies need no more.
"""

import numpy as np
import torch

from sharpminima.analysis.psp._lanes import LANES, ROWS, meet, ones
from sharpminima.runtime.compiled import compiled


@compiled
def transpose(packed: np.ndarray, neurons: int) -> np.ndarray:
    """The rows' transpose, uint64 [words, neurons], of states that are packed along the neurons: uint8
    [samples, ceil(neurons / 8)]."""
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
        size += ones(word)
    return np.int64(size)


@compiled
def sizes(rows: np.ndarray) -> np.ndarray:
    """Samples on which each row is 1: int64 [rows]."""
    counts = np.empty(len(rows), np.int64)
    for i in range(len(rows)):
        counts[i] = _size(rows[i])
    return counts


def tiles_of(rows: np.ndarray) -> np.ndarray:
    """The tiles of rows."""
    neurons, words = rows.shape
    number = -(-neurons // LANES)
    # Of torch, as numpy's memory does not start where a cache line does: each vector would lie in two.
    tiles = torch.zeros(number, words, LANES, dtype=torch.int64, device="cpu").numpy().view(np.uint64)
    whole = neurons // LANES
    tiles[:whole] = rows[: whole * LANES].reshape(whole, LANES, words).transpose(0, 2, 1)
    tiles[whole:, :, : neurons % LANES] = rows[whole * LANES :].T
    return tiles


@compiled
def _count(part: np.ndarray, tiles: np.ndarray) -> np.ndarray:
    """Samples of ``part`` on which each neuron of the tiles is 1: uint32 [neurons of the tiles]."""
    counts = np.zeros(len(tiles) * LANES, np.uint32)
    for place in range(len(tiles)):
        tile, its_counts = tiles[place], counts[place * LANES : (place + 1) * LANES]
        for w in range(len(part)):
            for lane in range(LANES):
                its_counts[lane] += np.uint32(ones(part[w] & tile[w, lane]))
    return counts


@compiled
def _scatter(
    n11: np.ndarray, n01: np.ndarray, times: np.ndarray, first: int, last: int, both: np.ndarray, second: np.ndarray
) -> None:
    """Add the counts of the lanes from first to last to two histograms, each so many times."""
    for lane in range(first, last):
        both[n11[lane]] += times[lane]
        second[n01[lane]] += times[lane]


@compiled
def _scatter_all(n11: np.ndarray, n01: np.ndarray, times: np.ndarray, both: np.ndarray, second: np.ndarray) -> None:
    """The same of all lanes: a loop of known length, which is unrolled."""
    for lane in range(LANES):
        # All three are read before what is added could have changed them, for all that the compiler knows.
        of_both, of_second, its_times = n11[lane], n01[lane], times[lane]
        both[of_both] += its_times
        second[of_second] += its_times


@compiled
def _fold(counts: np.ndarray, total: int, times: np.uint32, straight: np.ndarray, mirrored: np.ndarray) -> None:
    """Add ``counts`` so many times to two histograms, to the mirrored one with total - n for n; empty ``counts``."""
    # The mirrored one holds n at its last place - n, so that both are walked through forwards.
    mirrored = mirrored[len(mirrored) - 1 - total :]
    for n in range(total + 1):
        added = np.uint64(times) * np.uint64(counts[n])
        straight[n] += added
        mirrored[n] += added
        counts[n] = np.uint32(0)


@compiled
def _add_pairs(
    part: np.ndarray,
    rows: np.ndarray,
    tiles: np.ndarray,
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
    begin = start // LANES
    tiles = tiles[begin:]
    active = _count(part, tiles)
    times = np.zeros(len(active), np.uint32)
    for neuron in range(begin * LANES, neurons):
        times[neuron - begin * LANES] = weights[neuron]
    straight, mirrored = np.zeros(size + 1, np.uint64), np.zeros(size + 1, np.uint64)
    both, second = np.zeros((ROWS, size + 1), np.uint32), np.zeros((ROWS, size + 1), np.uint32)
    n11, n01 = np.empty((ROWS, LANES), np.uint32), np.empty((ROWS, LANES), np.uint32)
    group = np.empty((ROWS, words), np.uint64)
    # Neurons are counted from the first of the tiles on.
    end = neurons - begin * LANES
    for i in range(start - begin * LANES, stop - begin * LANES, ROWS):
        many = min(ROWS, stop - begin * LANES - i)
        for k in range(ROWS):
            for w in range(words):
                group[k, w] = part[w] & rows[begin * LANES + i + min(k, many - 1), w]
        for place in range((i + 1) // LANES, len(tiles)):
            meet(group, tiles[place], n11)
            left = place * LANES
            right = left + LANES
            of_second, its_times = active[left:right], times[left:right]
            for k in range(ROWS):
                for lane in range(LANES):
                    n01[k, lane] = of_second[lane] - n11[k, lane]
            if i + ROWS <= left and right <= end and many == ROWS:
                for k in range(ROWS):
                    _scatter_all(n11[k], n01[k], its_times, both[k], second[k])
                continue
            for k in range(many):
                first, last = max(left, i + k + 1), min(right, end)
                _scatter(n11[k], n01[k], its_times, first - left, last - left, both[k], second[k])
        for k in range(many):
            # n10 = n1 - n11 and n00 = n0 - n01, where n1 and n0 belong to the row.
            on = np.int64(active[i + k])
            _fold(both[k], on, times[i + k], straight, mirrored)
            _fold(second[k], size - on, times[i + k], straight, mirrored)
    for n in range(size + 1):
        histogram[n] += np.int64(straight[n] + mirrored[size - n])


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
    tiles: np.ndarray,
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
        _add_pairs(parts[0, 0], rows, tiles, weights, start, stop, histogram)
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
                _add_pairs(parts[depth, p], rows, tiles, weights, chosen[depth - 1] + 1, neurons, histogram)
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
