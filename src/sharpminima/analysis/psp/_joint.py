"""Joint entropies of tuples of binary neurons: of all tuples, exactly, or of a sample of them.

Counting is the work. On a CPU the states are bits, and counts are population counts of them (`_bits`): on a core
with AVX-512 three times as fast as int8 matrix products, and more than ten times as float32 ones. On CUDA
pairs are counted by int8 matrix products, which are exact in int32; tuples of more neurons on the CPU. Which way
is taken depends on the device alone, and both give the same counts.
"""

import functools
import math
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from sharpminima.analysis.psp import _bits
from sharpminima.analysis.psp._states import unpack

_Result = TypeVar("_Result")

_ROWS = 256  # neurons whose pairs are one task of a thread
_TUPLES = 1024  # tuples of a sample that are one task
_BLOCK = 1 << 22  # pairs that a matrix product counts at once: 40 bytes each
_ALIGNMENT = 32  # of an int8 matrix product on CUDA: neurons and samples are filled up to a multiple


def entropy_terms(samples: int) -> Tensor:
    """-p log2 p at p = 0, 1/samples, ..., 1: float64 [samples + 1], bits; exactly 0 at both ends."""
    p = torch.arange(samples + 1, dtype=torch.float64) / samples
    return -torch.special.xlogy(p, p) / math.log(2)


def draw_tuples(neurons: int, order: int, number: int, draws: torch.Generator) -> Tensor:
    """Tuples of distinct neurons, each tuple drawn uniformly and for itself: int64 [number, order], rising."""
    ends = neurons - torch.arange(order)
    drawn = (torch.rand(number, order, generator=draws, dtype=torch.float64) * ends).long()
    # The j-th number counts the neurons that the first j have left over.
    tuples = drawn[:, :1]
    for j in range(1, order):
        neuron = drawn[:, j]
        for earlier in tuples.unbind(1):  # rising
            neuron = neuron + (neuron >= earlier)
        tuples = torch.cat([tuples, neuron[:, None]], dim=1).sort(dim=1).values
    return tuples


class JointStates:
    """The states of some neurons on the images of one class.

    Memory: two copies of the states as bits, for pairs up to six (on CUDA: one of bytes), one block of pairs, and a
    histogram of ``samples`` + 1 integers a task.

    Args:
        packed: what `pack` gave for the images of the class; uint8 [samples, ceil(all neurons / 8)].
        chosen: bool [all neurons]; which of them are meant.
    """

    def __init__(self, packed: Tensor, chosen: Tensor) -> None:
        self._packed, self._chosen = packed, chosen
        self.samples = len(packed)
        self.neurons = int(chosen.sum())
        self._terms = entropy_terms(self.samples)

    def entropy_sum(self, order: int) -> float:
        """Sum of the joint entropies of all tuples of ``order`` >= 2 distinct neurons, bits.

        The joint counts are integers and only their histogram is kept: the sum is exact up to one float64 dot
        product, and the same on every device, with any number of threads.
        """
        if order == 2 and self._packed.is_cuda:
            histogram = pair_histogram(unpack(self._packed, len(self._chosen))[:, self._chosen]).cpu()
        else:
            histogram = self._tuple_histogram(order)
        return float(histogram.double() @ self._terms)

    def sample_entropies(self, order: int, number: int, draws: torch.Generator) -> Tensor:
        """Joint entropies of ``number`` tuples of ``order`` >= 2 neurons, drawn from all: float64 [number], bits."""
        rows = self._rows
        tuples = draw_tuples(self.neurons, order, number, draws).numpy()
        values = np.empty(number)

        def fill(start: int) -> None:
            part = slice(start, start + _TUPLES)
            _bits.tuple_entropies(rows, self.samples, tuples[part], self._terms.numpy(), values[part])

        _in_threads(fill, range(0, number, _TUPLES))
        return torch.from_numpy(values)

    def _tuple_histogram(self, order: int) -> Tensor:
        rows = self._rows
        weights, step = np.ones(len(rows), np.int64), 1
        total = np.zeros(self.samples + 1, np.int64)
        if order == 2 and len(rows):
            # Of a class of few images many neurons have the same states; pairs of such have two joint states.
            rows, weights = _bits.distinct(rows, self.samples)
            step = _ROWS
            on = _bits.sizes(rows)
            for counts in (on, self.samples - on):
                np.add.at(total, counts, weights * (weights - 1) // 2)

        tiles = _bits.tiles_of(rows)

        def count(start: int) -> np.ndarray:
            histogram = np.zeros(self.samples + 1, np.int64)
            stop = min(start + step, len(rows))
            _bits.add_tuples(rows, tiles, weights, self.samples, order, start, stop, histogram)
            return histogram

        for histogram in _in_threads(count, range(0, len(rows) - order + 1, step)):
            total += histogram
        return torch.from_numpy(total)

    @functools.cached_property
    def _rows(self) -> np.ndarray:
        """See `_bits`."""
        columns = _bits.transpose(self._packed.cpu().numpy(), len(self._chosen))
        return np.ascontiguousarray(columns.compress(self._chosen.cpu().numpy(), axis=1).T)


def _in_threads(function: Callable[[int], _Result], tasks: Iterable[int]) -> list[_Result]:
    """The results of all tasks in their order, from as many threads as torch has; for what holds no lock."""
    if torch.get_num_threads() == 1:
        return [function(task) for task in tasks]
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return list(pool.map(function, tasks))


def pair_histogram(states: Tensor) -> Tensor:
    """How many of the joint counts of all pairs i < j are 0, 1, ..., by int8 matrix products: int64 [samples + 1].

    Args:
        states: 0 and 1 [samples, neurons], any number dtype.
    """
    samples, neurons = states.shape
    padding = (0, -samples % _ALIGNMENT, 0, -neurons % _ALIGNMENT)
    rows = torch.nn.functional.pad(states.T.to(torch.int8), padding).contiguous()
    active = states.sum(dim=0, dtype=torch.int32)
    histogram = torch.zeros(samples + 1, dtype=torch.int64, device=states.device)

    def count(joint: Tensor) -> Tensor:
        return torch.bincount(joint.flatten(), minlength=samples + 1)

    # A block holds rows start ... stop against columns start ... end: each pair to the right of the square
    # stands there once, each pair in the square twice, the diagonal once. So all is counted twice, then
    # the diagonal taken out and the sum halved.
    step = max(1, _BLOCK // max(1, len(rows)) // _ALIGNMENT) * _ALIGNMENT
    for start in range(0, neurons, step):
        stop = min(start + step, neurons)
        both = torch._int_mm(rows[start : start + step], rows[start:].T)[: stop - start, : neurons - start]
        first, second = active[start:stop, None], active[None, start:]
        only_second = second - both
        for joint in (both, first - both, only_second, (samples - first) - only_second):
            histogram += 2 * count(joint) - count(joint[:, : stop - start])
    histogram -= count(active) + count(samples - active)
    # On the diagonal n10 and n01 are 0, which has no entropy.
    histogram[0] -= 2 * neurons
    return histogram // 2
