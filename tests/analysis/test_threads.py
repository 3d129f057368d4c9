"""Measures called from several threads, and beside a thread that runs a net."""

import threading
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import nn

from sharpminima.analysis import hessian_eigenvalues, psp_entropy
from sharpminima.nets.compaction.graph import traced

from . import cases
from .idioms import convolutional, samples


def net():
    return cases.seeded(lambda: convolutional(nn.ReLU()))


def measured(model):
    images, labels = samples()
    return hessian_eigenvalues(model, images, labels, k=2).eigenvalues, psp_entropy(model, images, labels).mean


def test_measures_of_several_threads_take_turns():
    shared = net().train()
    eigenvalues, entropy = measured(shared)
    with ThreadPoolExecutor(4) as threads:
        of_threads = list(threads.map(measured, [shared, net(), shared, net()]))
    for theirs, its_entropy in of_threads:
        assert torch.equal(theirs, eigenvalues)
        assert its_entropy == entropy
    assert shared.training
    assert net()(samples()[0]).shape == (len(samples()[0]), 3)  # torch's own call of a module is back


def test_a_net_that_another_thread_runs_while_one_is_traced_is_left_alone():
    tracing, ran = threading.Event(), threading.Event()

    class Slow(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, images):
            tracing.set()
            assert ran.wait(10)
            return self.layer(images)

    other, images = nn.Sequential(nn.Linear(3, 2), nn.ReLU()), torch.ones(1, 3)
    expected = other(images)
    with ThreadPoolExecutor(1) as thread:
        graph = thread.submit(traced, Slow())
        assert tracing.wait(10)
        try:
            output = other(images)
        finally:
            ran.set()
        assert [node.op for node in graph.result().graph.nodes] == ["placeholder", "call_module", "output"]
    assert torch.equal(output, expected)


def test_a_default_device_changes_nothing():
    model, expected = net(), measured(net())
    images, labels = samples()
    torch.set_default_device("meta")
    try:
        eigenvalues = hessian_eigenvalues(model, images, labels, k=2).eigenvalues
        entropy = psp_entropy(model, images, labels).mean
    finally:
        torch.set_default_device(None)
    assert torch.equal(eigenvalues, expected[0])
    assert entropy == expected[1]
