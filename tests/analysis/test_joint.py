"""The counts behind the joint entropies, and the draws of tuples."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch

from sharpminima.analysis.psp import _bits
from sharpminima.analysis.psp._joint import JointStates, draw_tuples, entropy_terms, pair_histogram
from sharpminima.analysis.psp._states import pack


def random_states(samples, neurons, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(samples, neurons, generator=draw) < torch.rand(neurons, generator=draw)


def plain_histogram(states, order):
    """How many joint states of all tuples occur on 0, 1, ... samples; without the entry of 0."""
    found = Counter()
    columns = states.T.int().tolist()
    for chosen in itertools.combinations(columns, order):
        found.update(Counter(zip(*chosen, strict=True)).values())
    return [found[count] for count in range(1, len(states) + 1)]


def bit_histogram(states, order):
    return joint_states(states)._tuple_histogram(order)[1:].tolist()


def joint_states(states):
    return JointStates(pack(states), torch.ones(states.shape[1], dtype=torch.bool))


@pytest.mark.parametrize("samples", [1, 2, 63, 64, 65, 257, 330])
@pytest.mark.parametrize("order", [2, 3, 4, 6])
def test_counts_against_plain_loops(samples, order):
    states = random_states(samples, 8, samples)
    assert bit_histogram(states, order) == plain_histogram(states, order)


@pytest.mark.parametrize("samples", [1, 5, 64, 130])
@pytest.mark.parametrize("order", [2, 3])
def test_counts_of_neurons_with_the_same_or_opposite_states(samples, order):
    few = random_states(samples, 4, samples)
    states = torch.cat([few, ~few[:, :2], few[:, 1:], torch.ones(samples, 2, dtype=torch.bool)], dim=1)
    assert bit_histogram(states, order) == plain_histogram(states, order)


def test_of_equal_and_opposite_rows_one_stands_for_all():
    rows = np.array([[0b01], [0b10], [0b01], [0b11]], np.uint64)
    alike, weights = _bits.distinct(rows, 2)
    assert sorted(zip(alike[:, 0].tolist(), weights.tolist(), strict=True)) == [(0b01, 3), (0b11, 1)]


@pytest.mark.slow
def test_matrix_products_give_the_same_counts(monkeypatch):
    for samples, neurons in ((1, 2), (31, 37), (100, 70), (257, 100)):
        states = random_states(samples, neurons, neurons)
        expected = bit_histogram(states, 2)
        assert pair_histogram(states)[1:].tolist() == expected
        for block in (1, 33 * neurons):
            monkeypatch.setattr("sharpminima.analysis.psp._joint._BLOCK", block)
            assert pair_histogram(states)[1:].tolist() == expected


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_the_same_sums():
    states = random_states(1001, 300)
    whole = torch.ones(300, dtype=torch.bool)
    on_cuda = JointStates(pack(states).cuda(), whole.cuda())
    for order in (2, 3):
        assert on_cuda.entropy_sum(order) == joint_states(states).entropy_sum(order)


def counted_pairs(states, weights, start=0, stop=None):
    """What `plain_histogram` gives for pairs, each as often as its weights say, from matrix products."""
    together = states.double().T @ states.double()
    i, j = torch.triu_indices(*together.shape, offset=1)
    mine = (i >= start) & (i < (len(together) if stop is None else stop))
    i, j = i[mine], j[mine]
    n11, first, second = together[i, j], together.diagonal()[i], together.diagonal()[j]
    counts = torch.cat([n11, first - n11, second - n11, len(states) - first - second + n11]).long()
    times = (weights[i] * weights[j]).double().repeat(4)
    return torch.bincount(counts, times, minlength=len(states) + 1)[1:].long().tolist()


def kernel_histogram(states, weights, start, stop):
    rows = np.ascontiguousarray(_bits.transpose(pack(states).numpy(), states.shape[1]).T)
    histogram = np.zeros(len(states) + 1, np.int64)
    _bits.add_tuples(rows, _bits.tiles_of(rows), weights.numpy(), len(states), 2, start, stop, histogram)
    return histogram[1:].tolist()


@pytest.mark.parametrize("neurons", [2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 23, 64, 77])
@pytest.mark.parametrize("samples", [2, 63, 64, 65, 200, 257])
def test_pairs_of_any_number_of_neurons_and_words(neurons, samples):
    states = random_states(samples, neurons, neurons)
    weights = torch.randint(1, 9, (neurons,), generator=torch.Generator().manual_seed(samples))
    assert kernel_histogram(states, weights, 0, neurons) == counted_pairs(states, weights)


@pytest.mark.parametrize("samples", [1, 100])
def test_pairs_of_a_task_are_those_that_begin_in_it(samples):
    states, weights = random_states(samples, 30), torch.arange(1, 31)
    for start in range(0, 30, 3):
        for stop in (start + 1, start + 2, min(start + 5, 30), 30):
            assert kernel_histogram(states, weights, start, stop) == counted_pairs(states, weights, start, stop)


def test_tiles_hold_the_rows_side_by_side():
    rows = np.arange(1, 23, dtype=np.uint64).reshape(11, 2)
    tiles = _bits.tiles_of(rows)
    assert tiles.shape == (2, 2, 8)
    assert tiles.ctypes.data % 64 == 0
    side_by_side = tiles.transpose(0, 2, 1).reshape(16, 2)
    assert np.array_equal(side_by_side[:11], rows)
    assert not side_by_side[11:].any()
    assert _bits.tiles_of(rows[:0]).shape == (0, 2, 8)


@pytest.mark.slow
def test_pairs_of_many_neurons():
    states = random_states(70, 4396)
    assert bit_histogram(states, 2) == counted_pairs(states, torch.ones(4396, dtype=torch.long))


def test_the_sum_does_not_depend_on_the_threads():
    states = joint_states(random_states(200, 600))
    threads = torch.get_num_threads()
    sums = []
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            draws = torch.Generator().manual_seed(0)
            sums.append((states.entropy_sum(2), states.sample_entropies(3, 3000, draws).sum()))
    finally:
        torch.set_num_threads(threads)
    assert sums[0] == sums[1]


def test_only_the_chosen_neurons_count():
    states = random_states(50, 11)
    chosen = torch.tensor([0, 1, 1, 0, 1, 1, 0, 0, 1, 0, 1]).bool()
    some = JointStates(pack(states), chosen)
    assert some.neurons == 6
    assert some.entropy_sum(3) == joint_states(states[:, chosen]).entropy_sum(3)


def test_entropies_of_drawn_tuples():
    states = random_states(90, 30)
    draws = torch.Generator().manual_seed(3)
    for order in (2, 3, 5):
        found = joint_states(states).sample_entropies(order, 40, draws.manual_seed(order))
        tuples = draw_tuples(30, order, 40, draws.manual_seed(order))
        columns = states.T.int().tolist()
        for entropy, chosen in zip(found.tolist(), tuples.tolist(), strict=True):
            counts = Counter(zip(*(columns[i] for i in chosen), strict=True)).values()
            assert entropy == pytest.approx(-sum(n / 90 * math.log2(n / 90) for n in counts), abs=1e-13)


def test_tuples_are_drawn_uniformly():
    drawn = draw_tuples(6, 3, 40_000, torch.Generator().manual_seed(0))
    found = Counter(map(tuple, drawn.tolist()))
    assert set(found) == set(itertools.combinations(range(6), 3))
    expected = 40_000 / 20
    chi_square = sum((count - expected) ** 2 / expected for count in found.values())
    assert chi_square < 43.8  # the 0.1 % level at 19 degrees of freedom
    assert draw_tuples(4, 4, 5, torch.Generator()).tolist() == [[0, 1, 2, 3]] * 5


def test_entropy_terms_vanish_at_both_ends():
    terms = entropy_terms(4)
    assert terms.tolist() == pytest.approx([0, 0.5, 0.5, 0.75 * math.log2(4 / 3), 0])
    assert (terms[0], terms[4]) == (0.0, 0.0)
