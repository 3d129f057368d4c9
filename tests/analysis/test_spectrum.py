import math

import numpy as np
import pytest
import torch
from torch import nn

from sharpminima.analysis import hessian_density, hessian_trace
from sharpminima.analysis.hessian._lanczos import quadrature
from sharpminima.base.errors import AnalysisError
from sharpminima.runtime.rng import generator

from . import cases


def problem(masked=False, scaling=None):
    """A net's data, the options of a space, and the full Hessian there."""
    model = cases.conv_net(1)
    images, labels = cases.data(30)
    masks, kept = cases.random_masks(model, 0.4)
    if not masked:
        masks, kept = None, np.ones_like(kept)
    hessian = cases.full_hessian(model, images, labels)
    if scaling:
        weights = torch.cat([parameter.detach().flatten() for parameter in model.parameters()]).abs().numpy()
        hessian = weights[:, None] * hessian * weights
    options = {"masks": masks, "scaling": scaling, "batch_size": 16}
    return (model, images, labels), options, hessian[np.ix_(kept, kept)]


SPACES = pytest.mark.parametrize(("masked", "scaling"), [(False, None), (True, None), (False, "parameter")])


@pytest.mark.slow
@SPACES
def test_trace_is_within_its_error(masked, scaling):
    data, options, hessian = problem(masked, scaling)
    errors, deviations = [], []
    for seed in range(40):
        found = hessian_trace(*data, products=12, seed=seed, **options)
        errors.append(found.trace - np.trace(hessian))
        deviations.append(found.standard_error)
    # No bias, and errors as large as stated.
    assert abs(np.mean(errors)) < 3 * np.std(errors) / math.sqrt(40)
    assert 0.6 < np.std(errors) / np.sqrt(np.mean(np.square(deviations))) < 1.6
    assert found.space == ("surviving" if masked else "all")
    assert (found.dimension, found.rank, found.probes, found.hvps) == (len(hessian), 4, 4, 12)
    assert found.scaling == scaling


def test_trace_gains_from_the_sketch():
    data, options, hessian = problem()
    few, many = (hessian_trace(*data, products=count, **options) for count in (12, 60))
    assert abs(many.trace - np.trace(hessian)) < 4 * many.standard_error
    assert many.standard_error < few.standard_error / 4
    assert many.captured > 0.8 * np.trace(hessian)


def test_trace_is_exact_where_the_sketch_spans_the_space():
    data, options, hessian = problem(masked=True)
    found = hessian_trace(*data, products=3 * len(hessian), **options)
    assert found.trace == pytest.approx(np.trace(hessian), rel=1e-12)
    assert (found.standard_error, found.probes, found.hvps) == (0.0, 0, 2 * len(hessian))


def test_trace_of_a_float32_net_in_float64():
    (model, images, labels), options, hessian = problem()
    found = hessian_trace(model.float(), images.float(), labels, products=400, dtype=torch.float64, **options)
    assert found.trace == pytest.approx(np.trace(hessian), rel=1e-6)


@SPACES
def test_density_has_the_moments_of_its_probes(masked, scaling):
    data, options, hessian = problem(masked, scaling)
    found = hessian_density(*data, probes=6, steps=5, seed=3, **options)
    draws = torch.randint(0, 2, (6, len(hessian)), generator=generator(3, "hessian-density"), dtype=torch.float64)
    signs = (2 * draws - 1).numpy() / math.sqrt(len(hessian))
    images = signs
    for power in range(2 * 5):
        moments = (found.weights * found.nodes**power).sum(dim=1)
        np.testing.assert_allclose(moments, (signs * images).sum(axis=1), rtol=1e-8)
        images = images @ hessian
    assert found.nodes.shape == found.weights.shape == (6, 5)
    assert found.hvps == 30
    assert (found.dimension, found.scaling) == (len(hessian), scaling)
    assert found.space == ("surviving" if masked else "all")


@pytest.mark.slow
def test_moments_are_within_their_error_of_the_spectrum():
    data, options, hessian = problem()
    found = hessian_density(*data, probes=100, steps=8, **options)
    eigenvalues = np.linalg.eigvalsh(hessian)
    for power in (1, 2, 3):
        moments = (found.weights * found.nodes**power).sum(dim=1)
        error = moments.std() / 10
        assert abs(moments.mean() - (eigenvalues**power).mean()) < 3 * error


@pytest.mark.slow
def test_density_is_that_of_the_smoothed_spectrum():
    data, options, hessian = problem()
    found = hessian_density(*data, probes=30, steps=40, sigma=0.02, points=600, **options)
    eigenvalues = torch.from_numpy(np.linalg.eigvalsh(hessian))
    kernels = torch.exp(-(((found.grid[:, None] - eigenvalues) / 0.02) ** 2) / 2) / (0.02 * math.sqrt(2 * math.pi))
    deviations = (found.density - kernels.mean(dim=1)) / found.standard_error.clamp(min=1e-9)
    assert deviations.abs().max() < 5
    assert deviations.square().mean().sqrt() < 1.5
    assert float(torch.trapezoid(found.density, found.grid)) == pytest.approx(1, abs=1e-3)
    assert found.grid[0] == pytest.approx(float(found.nodes.min()) - 0.08)
    assert found.sigma == 0.02
    assert found.standard_error.min() >= 0


def test_density_by_default_integrates_to_one():
    data, options, _ = problem()
    found = hessian_density(*data, probes=2, steps=10, **options)
    assert float(torch.trapezoid(found.density, found.grid)) == pytest.approx(1, abs=1e-3)
    assert found.sigma == pytest.approx(float(found.nodes.max() - found.nodes.min()) / 100)
    assert len(found.grid) == len(found.density) == len(found.standard_error) == 1000


def test_density_of_few_distinct_eigenvalues():
    # All hidden neurons off, uniform softmax: H is (I - 11'/C) / C over the C output biases, and 0 elsewhere.
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 5)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model[1].bias.fill_(-1.0)
    images, labels = cases.data(10, classes=5)
    found = hessian_density(model, images, labels, probes=40, steps=6)
    assert torch.isfinite(found.density).all()
    torch.testing.assert_close(found.weights.sum(dim=1), torch.ones(40).double())
    share = (found.weights * (found.nodes > 0.1)).sum(dim=1)
    assert float(share.mean()) == pytest.approx(4 / 77, abs=4 * float(share.std()) / math.sqrt(40))
    assert found.nodes.max() == pytest.approx(0.2)


@pytest.mark.parametrize("spectrum", [np.zeros(9), np.ones(9), np.r_[[3.0] * 4, [-1.0] * 5], np.arange(9.0)])
def test_quadrature_of_any_spectrum(spectrum):
    draws = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(9, 9, generator=draws, dtype=torch.float64))[0]
    matrix = basis * torch.from_numpy(spectrum) @ basis.T
    starts = torch.randn(3, 9, generator=draws, dtype=torch.float64)
    nodes, weights, _ = quadrature(lambda vectors: vectors @ matrix, starts, 20, rounding=1e-14)
    assert nodes.shape == weights.shape == (3, 9)
    exact = (starts @ torch.linalg.matrix_exp(matrix) * starts).sum(dim=1)
    torch.testing.assert_close((weights * nodes.exp()).sum(dim=1), exact, rtol=1e-10, atol=0)


def test_deterministic_in_the_seed():
    data, options, _ = problem()
    traces = [hessian_trace(*data, products=6, seed=seed, **options).trace for seed in (0, 0, 1)]
    nodes = [hessian_density(*data, probes=2, steps=4, seed=seed, **options).nodes for seed in (0, 0, 1)]
    assert traces[0] == traces[1] != traces[2]
    assert torch.equal(nodes[0], nodes[1])
    assert not torch.equal(nodes[0], nodes[2])


def test_errors():
    data, _, _ = problem()

    def fails(function, message, **options):
        with pytest.raises(AnalysisError, match=message):
            function(*data, **options)

    fails(hessian_trace, "products is 5; give at least 6", products=5)
    fails(hessian_density, "probes is 1; give at least 2", probes=1)
    fails(hessian_density, "steps is 0; give at least 1", steps=0)
    fails(hessian_density, "points is 1; give at least 2", points=1)
    fails(hessian_density, "sigma is 0", sigma=0)
    fails(hessian_density, "sigma is nan", sigma=float("nan"))
    for function in (hessian_trace, hessian_density):
        fails(function, "no parameter survives", masks={n: torch.zeros_like(p) for n, p in data[0].named_parameters()})
        fails(function, "there is no scaling 'x'", scaling="x")
        with pytest.raises(AnalysisError, match="labels run from 1 to 3"):
            function(data[0], data[1], data[2] + 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("values", [(2 / 3, 2 / 3, 2 / 3), (100.0, 100.0, 101.0)])
def test_nodes_that_no_eigenvalue_belongs_to_are_not_seen(values, dtype):
    # The mean over samples of c (w x)^2 / 2 with inputs that are each of one entry: the Hessian is diagonal.
    net = nn.Linear(3, 1, bias=False).to(dtype)
    x = torch.eye(3, dtype=dtype).repeat(10, 1)
    curvature = 3 * torch.tensor(values, dtype=dtype).repeat(10)
    found = hessian_density(net, x, curvature, criterion=lambda z, c: (c * z[:, 0].square()).mean() / 2)
    lowest, highest = values[0], values[-1]
    assert f"eigenvalues seen from {lowest:.4g} to {highest:.4g}" in str(found)
    assert found.sigma == pytest.approx((highest - lowest or highest) / 100, rel=1e-3)
    ends = torch.tensor([lowest - 4 * found.sigma, highest + 4 * found.sigma], dtype=torch.float64)
    torch.testing.assert_close(found.grid[[0, -1]], ends, rtol=1e-6, atol=0)
    assert float(torch.trapezoid(found.density, found.grid)) == pytest.approx(1, abs=1e-3)
