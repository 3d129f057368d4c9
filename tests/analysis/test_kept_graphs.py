"""Graphs that are kept from product to product: the same products, within the bytes that are given."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sharpminima.analysis import FisherVectorProduct, HessianVectorProduct, hessian_eigenvalues
from sharpminima.analysis.hessian import _lanczos
from sharpminima.analysis.hessian._convolution import OwnConvolutions
from sharpminima.base.errors import AnalysisError
from sharpminima.runtime.rng import generator

from . import cases

CONVOLUTIONS = {
    "plain": (F.conv2d, (5, 4, 9, 8), (6, 4, 3, 3), {"bias": True}),
    "stride and padding": (F.conv2d, (5, 4, 9, 8), (6, 4, 3, 2), {"stride": (2, 1), "padding": (1, 0)}),
    "dilation": (F.conv2d, (5, 4, 9, 8), (6, 4, 3, 3), {"dilation": 2, "bias": True}),
    "groups": (F.conv2d, (5, 4, 9, 8), (8, 1, 3, 3), {"groups": 4, "padding": 1}),
    "lines": (F.conv1d, (5, 4, 9), (6, 4, 3), {"padding": 1, "bias": True}),
    "volumes": (F.conv3d, (5, 2, 5, 4, 6), (3, 2, 3, 3, 3), {"padding": 1}),
    "padding by name": (F.conv2d, (5, 4, 9, 8), (6, 4, 3, 3), {"padding": "same"}),
    "one image": (F.conv2d, (4, 9, 8), (6, 4, 3, 3), {}),
}


def second_derivatives(function, inputs, weight, bias, options, needs):
    """Gradients of a quadratic form of the gradients of a function of a convolution."""
    leaves = [leaf.clone().requires_grad_(need) for leaf, need in zip((inputs, weight, bias), needs, strict=True)]
    wanted = [leaf for leaf in leaves if leaf.requires_grad]
    output = function(leaves[0], leaves[1], leaves[2] if options.get("bias") else None, **without_bias(options))
    gradients = torch.autograd.grad(output.sin().sum(), wanted, create_graph=True, allow_unused=True)
    form = sum((g * torch.arange(g.numel(), dtype=g.dtype).view_as(g).cos()).sum() for g in gradients if g is not None)
    return [output, *gradients, *torch.autograd.grad(form, wanted, allow_unused=True)]


def without_bias(options):
    return {name: value for name, value in options.items() if name != "bias"}


@pytest.mark.parametrize("needs", [(True, True, True), (False, True, True), (True, True, False), (True, False, False)])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_second_derivatives_of_convolutions_are_those_of_torch(name, needs):
    function, shape, kernel, options = CONVOLUTIONS[name]
    draws = generator(0, "convolution", name)
    inputs, weight = (torch.randn(*size, generator=draws, dtype=torch.float64) for size in (shape, kernel))
    bias = torch.randn(kernel[0], generator=draws, dtype=torch.float64)
    expected = second_derivatives(function, inputs, weight, bias, options, needs)
    with OwnConvolutions():
        found = second_derivatives(function, inputs, weight, bias, options, needs)
    assert any(part is not None and part.any() for part in expected[1:])
    for one, other in zip(found, expected, strict=True):
        if other is None:
            assert one is None or not one.any()
        else:
            torch.testing.assert_close(one, other)


BATCHES = 6  # of 5 images, of `net_and_data`


def net_and_data():
    return (cases.conv_net(1), *cases.data(5 * BATCHES))


def kept_with(graphs, vectors=None):
    """Products with so many bytes, and how many of the batches are kept."""
    product = HessianVectorProduct(*net_and_data(), batch_size=5, graphs=graphs)
    images = product(torch.ones(product.dimension, dtype=torch.float64) if vectors is None else vectors)
    return images, product._graphs


def test_as_many_batches_are_kept_as_fit():
    expected, _ = kept_with(1e-9)
    _, whole = kept_with(1e9)
    one = whole.bytes // BATCHES
    assert len(whole._kept) == BATCHES
    assert one > 5 * 12 * 8  # at least the features of the images
    for kept in (0, 1, 3, BATCHES):
        images, graphs = kept_with(one * kept + one // 2)
        assert (len(graphs._kept), graphs.bytes) == (kept, kept * one)
        torch.testing.assert_close(images, expected, rtol=1e-10, atol=1e-12)


def test_kept_graphs_serve_every_product():
    product = HessianVectorProduct(*net_and_data(), batch_size=5, graphs=1e9)
    plain = HessianVectorProduct(*net_and_data(), batch_size=5)
    vectors = torch.randn(3, plain.dimension, generator=generator(0, "vectors"), dtype=torch.float64)
    for vector in (*vectors, *vectors):
        torch.testing.assert_close(product(vector), plain(vector), rtol=1e-10, atol=1e-12)
    assert torch.equal(product(vectors[0]), product(vectors[0]))
    assert torch.equal(product(vectors), plain(vectors))  # several at once take no graph


def test_bytes_are_what_a_graph_holds():
    # A linear layer and cross-entropy: the images in float64, and of the logits a few tensors.
    net = nn.Sequential(nn.Linear(5000, 2)).double()
    images = torch.randn(40, 5000, generator=generator(0, "images"), dtype=torch.float64)
    loader = [(images[:20], torch.zeros(20, dtype=torch.int64)), (images[20:], torch.ones(20, dtype=torch.int64))]
    product = HessianVectorProduct(net, loader, graphs=1e9)
    product(torch.ones(product.dimension, dtype=torch.float64))
    held = 8 * images.numel()
    assert held <= product._graphs.bytes <= 1.1 * held
    tensors = HessianVectorProduct(net, images, torch.zeros(40, dtype=torch.int64), graphs=1e9)
    tensors(torch.ones(product.dimension, dtype=torch.float64))
    assert tensors._graphs.bytes <= 0.1 * held  # tensors are in memory anyhow


def test_eigenvalues_with_kept_graphs():
    options = {"batch_size": 5, "tol": 1e-8}
    plain = hessian_eigenvalues(*net_and_data(), **options)
    kept = hessian_eigenvalues(*net_and_data(), graphs=1e9, **options)
    torch.testing.assert_close(kept.eigenvalues, plain.eigenvalues, rtol=1e-9, atol=1e-12)
    assert kept.converged.all()
    assert float(plain.eigenvalues[0]) > 0.01


def test_what_cannot_be_kept_is_said(monkeypatch):
    with pytest.raises(AnalysisError, match=r"graphs of fisher are not kept: .* leave graphs out"):
        FisherVectorProduct(*net_and_data(), graphs=1e9)
    with pytest.raises(AnalysisError, match="graphs is 'many'; give a number"):
        hessian_eigenvalues(*net_and_data(), graphs="many")
    monkeypatch.setattr(_lanczos, "available_memory", lambda device: 10_000)
    with pytest.raises(AnalysisError, match=r"graphs of the 30 samples takes .* GB left; give fewer bytes as graphs="):
        kept_with(1e9)
    _, graphs = kept_with(9000)  # no more than that is taken
    assert graphs.bytes <= 9000
