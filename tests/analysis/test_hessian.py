from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from sharpminima.analysis import HessianVectorProduct, hessian_eigenvalues
from sharpminima.analysis.hessian import _lanczos
from sharpminima.analysis.hessian._lanczos import largest_eigenpairs
from sharpminima.base.errors import AnalysisError
from sharpminima.base.stop import STOP, Stopped
from sharpminima.nets.checkpoint import load_checkpoint
from sharpminima.nets.models import build_model
from sharpminima.nets.resume import ResumeFile
from sharpminima.nets.sparse import SparseConv2d
from sharpminima.runtime.rng import generator

from . import cases

MASKS = Path(__file__).parents[2] / "benchmarks" / "masks"


@pytest.mark.parametrize("build", [cases.mlp, cases.conv_net])
@pytest.mark.parametrize("masked", [False, True])
def test_against_the_full_hessian(build, masked):
    model = build(1)
    images, labels = cases.data(30)
    masks, kept = cases.random_masks(model, 0.3)
    if masked:
        prune(model, masks)
    result = hessian_eigenvalues(model, images, labels, masks=masks if masked else None, tol=1e-8, batch_size=7)
    hessian = cases.full_hessian(model, images, labels)
    if not masked:
        kept = np.ones_like(kept)
    expected = np.linalg.eigh(hessian[np.ix_(kept, kept)])[0][::-1]

    np.testing.assert_allclose(result.eigenvalues, expected[:5], rtol=1e-6)
    assert result.converged.all()
    vectors = result.eigenvectors.numpy()
    assert vectors.shape == (5, len(kept))
    assert not vectors[:, ~kept].any()
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(5), atol=1e-7)
    products = vectors @ hessian
    products[:, ~kept] = 0
    measured = np.linalg.norm(products - result.eigenvalues.numpy()[:, None] * vectors, axis=1)
    np.testing.assert_allclose(result.residuals, measured, atol=1e-13)
    assert (measured <= 1e-8 * expected[0]).all()
    assert (result.dimension, result.space) == (kept.sum(), "surviving" if masked else "all")
    assert result.hvps == result.iterations + 5
    assert result.eigenvalues.dtype == result.eigenvectors.dtype == result.residuals.dtype == torch.float64


@pytest.mark.parametrize("build", [cases.mlp, cases.conv_net])
def test_product_is_exact(build):
    model = build()
    images, labels = cases.data(20)
    masks, kept = cases.random_masks(model, 0.5)
    hessian = cases.full_hessian(model, images, labels)
    vector = torch.randn(int(kept.sum()), generator=generator(0, "test"), dtype=torch.float64)
    product = HessianVectorProduct(model, images, labels, masks=masks, batch_size=6)
    np.testing.assert_allclose(product(vector), hessian[np.ix_(kept, kept)] @ vector.numpy(), atol=1e-14)
    assert product.calls == 1
    everything = HessianVectorProduct(model, images, labels)
    assert (product.dimension, everything.dimension) == (kept.sum(), len(kept))
    expanded = product.expand(vector)
    assert torch.equal(expanded[torch.from_numpy(kept)], vector)
    assert not expanded[~torch.from_numpy(kept)].any()


def prune(model, masks):
    with torch.no_grad():
        for name, mask in masks.items():
            model.get_parameter(name).mul_(mask)


def dead_units(build):
    """A net with units that are zero, one that is a constant, one that leads nowhere, and the masks that made them."""
    model = build(2)
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    masks = {name: torch.ones_like(parameter) for name, parameter in model.named_parameters()}
    masks[f"{layers[0]}.weight"][0] = 0
    masks[f"{layers[0]}.bias"][0] = 0
    masks[f"{layers[1]}.weight"][:3] = 0
    masks[f"{layers[1]}.bias"][:2] = 0
    masks[f"{layers[2]}.weight"][:, 3] = 0
    prune(model, masks)
    return model, masks, torch.cat([mask.flatten().bool() for mask in masks.values()])


@pytest.mark.parametrize("build", [cases.mlp, cases.conv_net])
@pytest.mark.parametrize("masked", [False, True])
def test_products_without_dead_units_are_exact(build, masked):
    model, masks, kept = dead_units(build)
    images, labels = cases.data(20)
    product = HessianVectorProduct(model, images, labels, masks=masks if masked else None, batch_size=9)
    hessian = torch.from_numpy(cases.full_hessian(model, images, labels))
    if masked:
        hessian = hessian[kept][:, kept]
    # Really computed by a smaller net, which still has the curvature of a unit that leads nowhere, or not.
    computed = sum(parameter.numel() for parameter in product._net.parameters())
    needed = int((hessian != 0).any(1).sum())
    assert needed <= computed < len(kept) - 10
    assert (product.dimension, len(hessian)) == ((int(kept.sum()),) * 2 if masked else (len(kept),) * 2)
    vectors = torch.randn(6, product.dimension, generator=generator(0, "test"), dtype=torch.float64)
    torch.testing.assert_close(product(vectors), vectors @ hessian, rtol=0, atol=1e-14)


def test_masks_over_weights_that_are_not_zero_remove_no_unit():
    model, masks, kept = dead_units(cases.conv_net)
    with torch.no_grad():
        model.conv.weight[0] = 1.0
    images, labels = cases.data(20)
    hessian = torch.from_numpy(cases.full_hessian(model, images, labels))[kept][:, kept]
    product = HessianVectorProduct(model, images, labels, masks=masks)
    vector = torch.ones(product.dimension, dtype=torch.float64)
    torch.testing.assert_close(product(vector), hessian @ vector, rtol=0, atol=1e-14)


class Tied(nn.Module):
    """Uses one layer twice and a parameter of its own, so that it cannot be compacted."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.out, self.relu = nn.Linear(12, 12), nn.Linear(12, 3), nn.ReLU()
        self.gain = nn.Parameter(torch.full((12,), 1.5))

    def forward(self, images):
        features = self.relu(self.hidden(images.flatten(1)))
        return self.out(self.relu(self.hidden(features)) * self.gain)


class Deciding(nn.Module):
    """Looks at its images, so that it cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(12, 3)

    def forward(self, images):
        return self.out(images.flatten(1) if images.sum() > 1e9 else images.flatten(1) * 2)


@pytest.mark.parametrize("build", [Tied, Deciding])
def test_nets_that_cannot_be_compacted(build):
    model = cases.seeded(build)
    images, labels = cases.data(10)
    with torch.no_grad():
        next(model.parameters())[0] = 0
    product = HessianVectorProduct(model, images, labels)
    hessian = torch.from_numpy(cases.full_hessian(model, images, labels))
    torch.testing.assert_close(product(torch.eye(len(hessian)).double()), hessian, rtol=0, atol=1e-13)


def test_several_vectors_at_once():
    model, (images, labels) = cases.mlp(), cases.data(10)
    product = HessianVectorProduct(model, images, labels)
    vectors = torch.randn(7, product.dimension, generator=generator(0, "test"), dtype=torch.float64)
    together = product(vectors)
    assert product.calls == 7
    for vector, found in zip(vectors, together, strict=True):
        torch.testing.assert_close(product(vector), found, rtol=0, atol=1e-14)


def test_products_in_float64_of_a_float32_net():
    model, (images, labels) = cases.mlp().float(), cases.data(10)
    images = images.float()
    options = {"k": 3, "tol": 1e-11}
    result = hessian_eigenvalues(model, images, labels, dtype=torch.float64, **options)
    assert result.converged.all()
    assert next(model.parameters()).dtype == torch.float32
    expected = np.linalg.eigvalsh(cases.full_hessian(model.double(), images.double(), labels))[::-1]
    np.testing.assert_allclose(result.eigenvalues, expected[:3], rtol=1e-10)
    assert (result.residuals <= 1e-11 * expected[0]).all()


def test_parameter_scaling_is_the_hessian_of_relative_changes():
    model, (images, labels) = cases.conv_net(), cases.data(20)
    masks, kept = cases.random_masks(model, 0.5)
    prune(model, masks)
    weights = torch.cat([parameter.detach().flatten() for parameter in model.parameters()]).abs().numpy()
    hessian = weights[:, None] * cases.full_hessian(model, images, labels) * weights
    for chosen, rows in ((None, np.ones_like(kept)), (masks, kept)):
        found = hessian_eigenvalues(model, images, labels, k=3, masks=chosen, scaling="parameter", tol=1e-8)
        expected = np.linalg.eigvalsh(hessian[np.ix_(rows, rows)])[::-1]
        np.testing.assert_allclose(found.eigenvalues, expected[:3], rtol=1e-6)
        assert found.scaling == "parameter"


def test_parameter_scaling_does_not_see_the_scale_of_relu_layers():
    model, (images, labels) = cases.conv_net(), cases.data(20)
    rescaled = cases.conv_net()
    with torch.no_grad():
        for parameter in rescaled.conv.parameters():
            parameter.mul_(8)
        rescaled.hidden.weight.div_(8)
        # A unit of its own scale each.
        factors = torch.linspace(0.2, 5, 5, dtype=torch.float64)
        rescaled.hidden.weight.mul_(factors[:, None])
        rescaled.hidden.bias.mul_(factors)
        rescaled.out.weight.div_(factors)
    torch.testing.assert_close(model(images), rescaled(images))

    def largest(net, scaling):
        return hessian_eigenvalues(net, images, labels, tol=1e-9, scaling=scaling).eigenvalues

    torch.testing.assert_close(largest(model, "parameter"), largest(rescaled, "parameter"), rtol=1e-9, atol=0)
    assert largest(rescaled, None)[0] > 2 * largest(model, None)[0]


@pytest.mark.parametrize("block_size", [2, 4])
def test_blocks_find_the_same_eigenvalues_in_fewer_steps(block_size):
    model, (images, labels) = cases.mlp(), cases.data(20)
    alone = hessian_eigenvalues(model, images, labels, tol=1e-7)
    found = hessian_eigenvalues(model, images, labels, tol=1e-7, block_size=block_size)
    torch.testing.assert_close(found.eigenvalues, alone.eigenvalues, rtol=1e-9, atol=0)
    assert found.converged.all()
    assert found.iterations < alone.iterations
    assert found.hvps <= block_size * found.iterations + 5
    assert (alone.block_size, found.block_size) == (1, block_size)


@pytest.mark.slow
def test_as_few_steps_as_the_blocks_hold_vectors():
    net, (images, labels) = cases.mlp(), cases.data(30)
    found = hessian_eigenvalues(net, images, labels, k=5, block_size=2, max_iterations=3)
    assert (found.iterations, len(found.eigenvalues)) == (3, 5)
    # An operator of rank 1: the second block has one vector, so that k of them take a step more.
    single = torch.zeros(30, 30, dtype=torch.float64)
    single[0, 0] = 1
    vectors, iterations, _, products = largest_eigenpairs(
        lambda block: block @ single,
        30,
        6,
        block_size=3,
        tol=1e-6,
        max_iterations=2,
        rounding=1e-14,
        generator=generator(0, "test"),
    )
    assert (len(vectors), iterations, products) == (6, 3, 7)


def test_a_block_finds_a_multiple_eigenvalue_at_once():
    # The 3 is double among a spread of others: a single vector sees one copy of it.
    matrix = rotated(np.r_[[3, 3, 2.5], np.linspace(0, 1, 300)])
    values, _ = lanczos(matrix, 3, 2)
    np.testing.assert_allclose(values, [3, 3, 2.5], atol=1e-8)


def test_a_parameter_outside_the_graph_has_no_curvature():
    model = cases.mlp()
    model.register_parameter("idle", nn.Parameter(torch.ones(3, dtype=torch.float64)))
    images, labels = cases.data(6)
    product = HessianVectorProduct(model, images, labels)
    result = product(torch.ones(product.dimension))
    assert product.dimension == 124
    assert not result[:3].any()
    assert result[3:].any()


def test_batchnorm_uses_its_running_statistics_and_keeps_them():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3)).double()
    with torch.no_grad():
        (
            model[1].running_mean.copy_(torch.tensor([0.3, -0.2])),
            model[1].running_var.copy_(torch.tensor([0.5, 2])),
        )
    images, labels = cases.data(12)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    result = hessian_eigenvalues(model.train(), images, labels, k=3, tol=1e-8, batch_size=5)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    expected = np.linalg.eigh(cases.full_hessian(model, images, labels))[0][::-1]
    np.testing.assert_allclose(result.eigenvalues, expected[:3], rtol=1e-6)


@pytest.mark.slow
def test_resnet_in_one_batch_and_in_many():
    model = cases.resnet8()
    images, labels = cases.data(4, (3, 32, 32), 10)
    vector = torch.randn(sum(p.numel() for p in model.parameters()), generator=generator(0, "test"))
    whole = HessianVectorProduct(model, images, labels)(vector.double())
    parts = HessianVectorProduct(model, images, labels, batch_size=3)(vector.double())
    torch.testing.assert_close(whole, parts)
    # Central difference of the gradient along the vector.
    step, gradients = 1e-6, []
    model.eval()
    start = nn.utils.parameters_to_vector(model.parameters()).detach()
    for sign in (1, -1):
        nn.utils.vector_to_parameters(start + sign * step * vector.double() / vector.norm(), model.parameters())
        gradient = torch.autograd.grad(F.cross_entropy(model(images), labels), list(model.parameters()))
        gradients.append(torch.cat([part.flatten() for part in gradient]))
    difference = (gradients[0] - gradients[1]) / (2 * step) * vector.norm()
    assert (difference - whole).norm() < 1e-5 * whole.norm()


@pytest.mark.slow
def test_lenet5_converges_in_float32():
    model = cases.lenet5()
    images, labels = cases.data_for("lenet5", 20)
    result = hessian_eigenvalues(model, images, labels, k=2, tol=1e-3)
    assert result.converged.all()
    assert result.iterations < 60
    again = hessian_eigenvalues(model.double(), images.double(), labels, k=2, tol=1e-3, seed=5)
    torch.testing.assert_close(result.eigenvalues, again.eigenvalues, rtol=1e-4, atol=0)


@pytest.mark.slow
def test_layers_of_survivors_have_the_second_derivatives_of_dense_ones():
    masks = load_checkpoint(MASKS / "lenet5-99.57.safetensors").masks[0]
    model = build_model("lenet5", seed=0).double()
    prune(model, masks)
    images, labels = cases.data_for("lenet5", 12)
    surviving = HessianVectorProduct(model, images.double(), labels, masks=masks)
    assert any(isinstance(module, SparseConv2d) for module in surviving._net.modules())
    dense = HessianVectorProduct(model, images.double(), labels)
    assert not any(isinstance(module, SparseConv2d) for module in dense._net.modules())
    vectors = torch.randn(2, surviving.dimension, generator=generator(0, "test"), dtype=torch.float64)
    kept = torch.cat([masks.get(name, torch.ones_like(p)).bool().flatten() for name, p in model.named_parameters()])
    torch.testing.assert_close(surviving(vectors), dense(surviving.expand(vectors))[:, kept], rtol=1e-9, atol=1e-14)


def test_deterministic_in_the_seed_and_independent_of_it_in_value():
    model, (images, labels) = cases.mlp(), cases.data(15)
    first, again, other = (hessian_eigenvalues(model, images, labels, tol=1e-9, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first.eigenvalues, again.eigenvalues)
    assert torch.equal(first.eigenvectors, again.eigenvectors)
    assert not torch.equal(first.eigenvalues, other.eigenvalues)
    torch.testing.assert_close(first.eigenvalues, other.eigenvalues, rtol=1e-9, atol=0)
    # The sign is fixed too.
    torch.testing.assert_close(first.eigenvectors, other.eigenvectors, rtol=0, atol=1e-6)


def test_batch_size_does_not_matter():
    model, (images, labels) = cases.mlp(), cases.data(15)
    whole = hessian_eigenvalues(model, images, labels)
    parts = hessian_eigenvalues(model, images, labels, batch_size=4)
    torch.testing.assert_close(whole.eigenvalues, parts.eigenvalues, rtol=1e-9, atol=0)


def test_a_budget_that_ends_first_is_reported_not_hidden():
    result = hessian_eigenvalues(cases.mlp(), *cases.data(15), max_iterations=6, tol=1e-10)
    assert result.iterations == 6
    assert not result.converged.all()
    assert torch.equal(result.converged, result.residuals <= 1e-10 * result.eigenvalues.abs().max())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_dead_net_has_the_multiple_eigenvalue_of_its_output_biases(dtype):
    # All hidden neurons off, uniform softmax: H is (I - 11'/C) / C over the C output biases, and 0 elsewhere.
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 10)).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model[1].bias.fill_(-1.0)
    images, labels = cases.data(20, classes=10)
    result = hessian_eigenvalues(model, images.to(dtype), labels, k=10)
    np.testing.assert_allclose(result.eigenvalues, [0.1] * 9 + [0.0], atol=1e-7)
    assert result.converged.all()


def test_all_eigenvalues_of_a_small_space():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).double()
    masks = {"1.weight": torch.zeros(3, 12)}
    images, labels = cases.data(9)
    result = hessian_eigenvalues(model, images, labels, k=3, masks=masks)
    hessian = cases.full_hessian(model, images, labels)[-3:, -3:]
    np.testing.assert_allclose(result.eigenvalues, np.linalg.eigvalsh(hessian)[::-1], atol=1e-14)
    assert (result.dimension, result.iterations) == (3, 3)


def lanczos(matrix, k, block_size=1, tol=1e-10, max_iterations=5000, seed=0):
    matrix = torch.as_tensor(matrix, dtype=torch.float64)
    vectors, iterations, scale, _ = largest_eigenpairs(
        lambda vectors: vectors @ matrix,
        len(matrix),
        k,
        block_size=block_size,
        tol=tol,
        max_iterations=max_iterations,
        rounding=1e-14,
        generator=generator(seed, "test"),
    )
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(k), atol=1e-10)
    assert scale <= matrix.abs().sum(dim=1).max() + 1e-12
    return (vectors @ matrix * vectors).sum(dim=1).numpy(), iterations


def rotated(spectrum, seed=0):
    """A symmetric matrix of this spectrum in a random basis."""
    basis = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(spectrum), len(spectrum))))[0]
    return basis * np.asarray(spectrum) @ basis.T


@pytest.mark.slow
@pytest.mark.parametrize("block_size", [1, 2, 3, 8])
@pytest.mark.parametrize(
    "spectrum",
    [
        np.linspace(-3, 1, 300),  # no gap, the largest magnitude negative: many restarts
        np.r_[[100, 50, 50, 20, 10], np.linspace(0, 1, 200)],
        np.r_[np.full(7, 2.0), np.zeros(150)],
        np.r_[np.zeros(150), np.full(50, -2.0)],
        np.linspace(-5, -1, 60),
        np.zeros(60),
        np.ones(60),
    ],
    ids=["uniform", "outliers", "multiple", "top-zero", "negative", "zero", "identity"],
)
def test_lanczos_on_known_spectra(spectrum, block_size):
    values, iterations = lanczos(rotated(spectrum), 5, block_size)
    np.testing.assert_allclose(values, np.sort(spectrum)[::-1][:5], atol=1e-8)
    assert iterations < 1000


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12), st.integers(1, 4), st.integers(0, 5), st.data())
@settings(max_examples=60)
def test_lanczos_on_any_small_spectrum(spectrum, block_size, seed, data):
    k = data.draw(st.integers(1, len(spectrum)))
    values, iterations = lanczos(rotated(np.array(spectrum, dtype=float), seed), k, block_size, seed=seed)
    np.testing.assert_allclose(values, np.sort(spectrum)[::-1][:k], atol=1e-8)
    assert iterations <= len(spectrum)


def test_errors():
    model, (images, labels) = cases.mlp(), cases.data(6)

    def fails(message, images=images, labels=labels, model=model, **options):
        with pytest.raises(AnalysisError, match=message):
            hessian_eigenvalues(model, images, labels, **options)

    fails("k is 122, but the Hessian has 121 eigenvalues", k=122, max_iterations=200)
    fails("k is 0", k=0)
    fails(
        "k is 5, but the Hessian has 3",
        k=5,
        masks={name: torch.zeros_like(p) for name, p in _but_bias(model)},
    )
    fails("max_iterations is 4; 5 eigenvalues take at least 5", max_iterations=4)
    fails("max_iterations is 2; 5 eigenvalues take at least 3", max_iterations=2, block_size=2)
    fails("tol is 0", tol=0)
    fails("block_size is 0; give at least 1", block_size=0)
    fails("no scaling 'filter'; give None or 'parameter'", scaling="filter")
    fails("computed in torch.int64; give torch.float32 or torch.float64", dtype=torch.int64)
    fails("batch_size is 0", batch_size=0)
    fails("masks for 9.weight, 9.x, which the model does not have", masks={"9.x": images, "9.weight": images})
    fails(r"mask of 1.weight has shape \[6\], the parameter \[6, 12\]", masks={"1.weight": torch.ones(6)})
    fails("mask of 1.bias holds other values than 0 and 1", masks={"1.bias": torch.full((6,), 0.5)})
    fails("no parameter survives", masks={name: torch.zeros_like(p) for name, p in model.named_parameters()})
    fails("3 images but 6 labels", images=images[:3])
    fails("labels run from 1 to 3, but the model has the classes 0 to 2", labels=labels + 1)
    fails("a Hessian-vector product holds NaN or infinity", images=images * float("inf"))
    broken = cases.mlp()
    broken[3].weight.data[0, 0] = float("nan")
    fails("parameter 3.weight of the model holds NaN or infinity", model=broken)


def _but_bias(model):
    return [(name, parameter) for name, parameter in model.named_parameters() if name != "5.bias"]


SPECTRA = {
    "each four times": np.repeat(np.r_[3.0, 2.9, 2.7, np.linspace(0, 2.5, 60)], 4),
    "one of them, far": np.r_[[9.0] * 3, [4.0, 3.0, 2.0], np.linspace(-1, 1, 200)],
    "the last of them": np.r_[[9.0, 4.0, 3.0], [2.0] * 4, np.linspace(-1, 1, 200)],
    "near the others": np.r_[np.linspace(2.9, 3.0, 4), [3.0] * 2, np.linspace(0, 2.8, 200)],
    "single": np.r_[[9.0, 5.0, 4.0, 3.0, 2.0], np.linspace(-1, 1, 200)],
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("block_size", [1, 3])
@pytest.mark.parametrize("spectrum", SPECTRA.values(), ids=SPECTRA)
def test_multiple_eigenvalues_are_listed_as_often_as_they_occur(spectrum, block_size, seed):
    values, _ = lanczos(rotated(spectrum), 5, block_size, tol=1e-6, seed=seed)
    np.testing.assert_allclose(values, np.sort(spectrum)[::-1][:5], atol=1e-5)


def test_a_regression_has_each_eigenvalue_once_an_output():
    # Of MSE over 4 outputs, H is 4 copies of X.T X / (2 N), X with a column of ones.
    draws = torch.Generator().manual_seed(0)
    x, y = (torch.randn(400, size, generator=draws, dtype=torch.float64) for size in (100, 4))
    net = cases.seeded(lambda: nn.Linear(100, 4))
    design = torch.cat([x, torch.ones(400, 1).double()], dim=1)
    every = torch.linalg.eigvalsh(design.T @ design / 800).flip(0).repeat_interleave(4)
    for which, expected in (
        ("LA", every[:6]),
        ("LM", every[:6]),
        ("SA", every.flip(0)[:6]),
        ("BE", torch.cat([every[:3], every[-3:]])),
    ):
        found = hessian_eigenvalues(net, x, y, criterion=nn.MSELoss(), k=6, which=which, tol=1e-6)
        assert found.converged.all()
        torch.testing.assert_close(found.eigenvalues, expected, rtol=0, atol=1e-6 * float(every[0]))
        vectors = found.eigenvectors
        torch.testing.assert_close(vectors @ vectors.T, torch.eye(6).double(), rtol=0, atol=1e-6)


def test_a_head_of_zeros_has_each_eigenvalue_once_a_class_but_one():
    # Equal probabilities of C classes: H is (I - 11'/C) / C times the second moments of features and bias.
    net = cases.seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 10)))
    with torch.no_grad():
        for parameter in net[3].parameters():
            parameter.zero_()
    images, labels = cases.data(50, classes=10)
    features = torch.cat([net[:3](images).detach(), torch.ones(50, 1).double()], dim=1)
    moments = torch.linalg.eigvalsh(features.T @ features / 50).flip(0) / 10
    found = hessian_eigenvalues(net, images, labels, k=12, parameters="3", tol=1e-8)
    torch.testing.assert_close(found.eigenvalues, moments.repeat_interleave(9)[:12], rtol=1e-6, atol=0)


@pytest.mark.parametrize("memory", [None, 9 * 8 * 300])
def test_where_nothing_was_overlooked_the_search_leaves_every_bit(memory, monkeypatch):
    matrix = torch.as_tensor(rotated(np.r_[[9.0, 5.0, 4.0, 3.0, 2.0], np.linspace(-1, 1, 295)]))

    def found():
        plan = None if memory is None else _lanczos.Plan(memory // (8 * 300), torch.float64, 100)
        options = {"block_size": 1, "tol": 1e-6, "max_iterations": 9000, "rounding": 1e-14, "plan": plan}
        return largest_eigenpairs(lambda v: v @ matrix, 300, 5, generator=generator(0, "test"), **options)

    vectors, iterations, scale, products = found()
    monkeypatch.setattr(_lanczos, "_OVERLOOKED", 1.0)  # it ends with its first step
    briefly = found()
    assert torch.equal(vectors, briefly[0])
    assert scale == briefly[2]
    assert iterations == products > briefly[3]
    assert products - briefly[3] < briefly[3] / 3


@pytest.mark.parametrize("memory", [None, 9 * 4 * 505])
def test_a_search_for_copies_goes_on_to_the_same_bits(memory, tmp_path, monkeypatch):
    draws = torch.Generator().manual_seed(0)
    x, y = (torch.randn(200, size, generator=draws) for size in (100, 5))
    net = cases.seeded(lambda: nn.Linear(100, 5)).float()
    options = {"criterion": nn.MSELoss(), "k": 3, "tol": 1e-3, "memory": memory, "max_iterations": 2000}
    whole, file, saved = hessian_eigenvalues(net, x, y, **options), tmp_path / "state", []
    save = ResumeFile.save

    def noted(self, tree):
        saved.append(tree.get("search"))
        save(self, tree)

    def stop(done, _):
        monkeypatch.setattr(STOP, "raised", done % 7 == 0)

    monkeypatch.setattr(ResumeFile, "save", noted)
    for _ in range(whole.hvps):
        try:
            again = hessian_eigenvalues(net, x, y, progress=stop, resume=file, **options)
            break
        except Stopped:
            monkeypatch.setattr(STOP, "raised", False)
    assert any(search is not None for search in saved)
    assert torch.equal(again.eigenvectors, whole.eigenvectors)
    assert torch.equal(again.eigenvalues, whole.eigenvalues)
    assert (again.iterations, again.hvps) == (whole.iterations, whole.hvps)


def test_a_search_ends_with_the_steps():
    spectrum = np.r_[[9.0] * 2, [5.0, 4.0], np.linspace(0, 1, 200)]
    for most in range(5, 40):
        _, iterations = lanczos(rotated(spectrum), 4, tol=1e-8, max_iterations=most)
        assert iterations <= most
