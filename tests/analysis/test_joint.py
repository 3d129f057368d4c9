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


@pytest.mark.slow
def test_more_neurons_than_a_row_meets_at_once():
    states = random_states(70, _bits._COLUMNS + 300)
    together = states.double().T @ states.double()
    i, j = torch.triu_indices(*together.shape, offset=1)
    n11, first, second = together[i, j], together.diagonal()[i], together.diagonal()[j]
    counts = torch.cat([n11, first - n11, second - n11, 70 - first - second + n11]).long()
    assert bit_histogram(states, 2) == torch.bincount(counts, minlength=71)[1:].tolist()


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
