"""Operators of the Hessian, the Gauss-Newton and the empirical Fisher matrix against the full matrices."""

import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse.linalg as sparse
import torch
from torch import nn
from torch.nn import functional as F

from sharpminima.analysis import (
    MATRICES,
    WHICH,
    FisherVectorProduct,
    GaussNewtonVectorProduct,
    HessianVectorProduct,
    hessian_density,
    hessian_diagonal,
    hessian_eigenvalues,
    hessian_trace,
)
from sharpminima.base.errors import AnalysisError
from sharpminima.nets.checkpoint import load_checkpoint
from sharpminima.nets.masks import apply_masks
from sharpminima.nets.models import build_model
from sharpminima.nets.sparse import SparseConv2d

from . import cases
from .idioms import idiom, samples
from .test_any_loss import CASES, batches_of, built, called, full, mean_loss

MASKS = Path(__file__).parents[2] / "benchmarks" / "masks"


def jacobian(net, outputs):
    """Rows of derivatives of each entry of the outputs, by autograd, [entries, P]."""
    parameters = list(net.parameters())
    rows = [
        torch.autograd.grad(entry, parameters, retain_graph=True, materialize_grads=True) for entry in outputs.flatten()
    ]
    return torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])


def matrices(net, case, tensor_of):
    """The three full matrices; ``tensor_of`` gives the outputs that the loss has as one tensor [N, ...]."""
    net.eval()
    criterion = case.criterion or F.cross_entropy
    given = called(net, case.inputs)
    z = tensor_of(given)
    loss_of = (lambda z: criterion(z, case.targets)) if z is given else case.of_tensor
    slopes = jacobian(net, z)
    leaf = z.detach().requires_grad_()
    gradient = torch.autograd.grad(loss_of(leaf), leaf, create_graph=True)[0]
    curvature = torch.stack([torch.autograd.grad(g, leaf, retain_graph=True)[0].flatten() for g in gradient.flatten()])
    by_sample = len(z) * gradient.detach().flatten(1)  # of each sample's own loss
    own = torch.einsum("nc,ncp->np", by_sample, slopes.view(len(z), -1, slopes.shape[1]))
    return {
        "hessian": full(net, mean_loss(case)),
        "gauss_newton": slopes.T @ curvature @ slopes,
        "fisher": own.T @ own / len(z),
    }


def whole(given):
    return given


PLAIN = ["tabular", "segmentation", "regression", "soft labels", "multi-label", "two inputs", "inputs by name"]


@pytest.mark.slow
@pytest.mark.parametrize("name", PLAIN)
def test_products_are_those_of_the_full_matrices(name):
    case = CASES[name]
    net = built(case)
    for matrix, expected in matrices(net, case, whole).items():
        assert expected.norm() > 1e-3
        for data in ((case.inputs, case.targets), (batches_of(case),)):
            product = MATRICES[matrix](net, *data, criterion=case.criterion)
            torch.testing.assert_close(product(torch.eye(len(expected)).double()), expected, rtol=0, atol=1e-12)
            torch.testing.assert_close(product(expected[0]), expected @ expected[0], rtol=0, atol=1e-12)


def test_matrices_of_outputs_in_structures_are_those_of_the_tensor_in_them():
    plain, wrapped = CASES["tabular"], CASES["dataclass"]
    net = built(wrapped)
    weights = wrapped.targets["weight"]

    def loss(outputs, y):
        return (F.cross_entropy(outputs, y["class"], reduction="none") * y["weight"]).mean()

    inner = net.net
    for matrix in ("gauss_newton", "fisher"):
        found = MATRICES[matrix](net, wrapped.inputs, wrapped.targets, criterion=wrapped.criterion)
        expected = MATRICES[matrix](inner, plain.inputs, wrapped.targets, criterion=loss)
        vectors = torch.randn(3, found.dimension, generator=torch.Generator().manual_seed(0)).double()
        torch.testing.assert_close(found(vectors), expected(vectors), rtol=0, atol=1e-13)
    assert weights.std() > 0.1


@pytest.mark.parametrize("matrix", ["gauss_newton", "fisher"])
@pytest.mark.parametrize(
    "name", ["view", "transformer", "lstm", "function of its own", "hard sigmoid", "tied", "part detached"]
)
def test_nets_without_forward_mode_or_layouts(name, matrix):
    net, (images, labels) = idiom(name), samples(6)
    product = MATRICES[matrix](net, images, labels)
    vectors = torch.randn(2, product.dimension, generator=torch.Generator().manual_seed(6)).double()
    net.eval()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.backends.mkldnn, "enabled", False)
        patch.setattr(nn.Hardsigmoid, "forward", lambda _, x: (x + 3).clamp(0, 6) / 6)
        logits = net(images)
        slopes = jacobian(net, logits).view(6, 3, -1).detach()
    p = logits.detach().softmax(1)
    if matrix == "gauss_newton":
        curvature = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
        expected = torch.einsum("ncp,ncd,ndq->pq", slopes, curvature, slopes) / 6
    else:
        own = torch.einsum("nc,ncp->np", p - F.one_hot(labels, 3), slopes)
        expected = own.T @ own / 6
    assert expected.norm() > 1e-3
    torch.testing.assert_close(product(vectors), vectors @ expected, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(product(vectors[0]), expected @ vectors[0], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("matrix", MATRICES)
def test_masks_scaling_and_blocks(matrix):
    case = CASES["tabular"]
    net = built(case)
    masks, kept = cases.random_masks(net, 0.6)
    with torch.no_grad():
        for key, mask in masks.items():
            net.get_parameter(key).mul_(mask)
    expected = matrices(net, case, whole)[matrix]
    sizes = {n: p.numel() for n, p in net.named_parameters()}

    def rows(*names):
        return torch.cat([torch.full((size,), n in names) for n, size in sizes.items()])

    kept = torch.from_numpy(kept)
    weights = torch.cat([p.detach().flatten() for p in net.parameters()]).abs()
    last = rows("2.weight", "2.bias")
    for options, chosen, space in (
        ({"masks": masks}, kept, "surviving"),
        ({"parameters": "2"}, last, "chosen"),
        ({"parameters": ["0.bias", "2.weight"]}, rows("0.bias", "2.weight"), "chosen"),
        ({"parameters": "2", "masks": masks}, last & kept, "chosen"),
    ):
        for scaling in (None, "parameter"):
            product = MATRICES[matrix](net, case.inputs, case.targets, scaling=scaling, **options)
            matrix_of = expected if scaling is None else weights[:, None] * expected * weights
            block = matrix_of[chosen][:, chosen]
            torch.testing.assert_close(product(torch.eye(len(block)).double()), block, rtol=0, atol=1e-12)
            assert (product.space, product.dimension) == (space, len(block))


def test_blocks_that_are_not_there():
    net, (images, labels) = cases.mlp(), cases.data(6)
    for name, message in (
        ("9", r"no parameter or layer '9'; there are 1.weight, 1.bias"),
        (["1", "1.w"], "no parameter or layer '1.w'"),
        ([], "no parameter or layer given"),
        ("0", "no parameter or layer '0'"),  # Flatten has no parameters
        (list(net.parameters()), "^parameters are given as Parameter; give names .*: 1.weight, 1.bias"),
        (net[1].weight, "^parameters are given as Tensor; give names"),  # a tensor is an iterable of rows
        ([net[1]], "^parameters are given as Linear; give names"),
    ):
        with pytest.raises(AnalysisError, match=message):
            HessianVectorProduct(net, images, labels, parameters=name)
    with pytest.raises(AnalysisError, match="no parameter of those that are chosen survives"):
        HessianVectorProduct(net, images, labels, parameters="5.weight", masks={"5.weight": torch.zeros(3, 4)})


@pytest.mark.parametrize("matrix", MATRICES)
def test_scipy_takes_the_operator(matrix):
    case = CASES["tabular"]
    net = built(case)
    expected = matrices(net, case, whole)[matrix].numpy()
    product = MATRICES[matrix](net, case.inputs, case.targets)
    operator = product.linear_operator()
    assert (operator.shape, operator.dtype) == (expected.shape, np.float64)
    np.testing.assert_allclose(operator @ np.eye(len(expected)), expected, atol=1e-12)
    np.testing.assert_allclose(operator.T @ expected[0], expected @ expected[0], atol=1e-12)
    found = sparse.eigsh(operator, k=2, which="LA", return_eigenvectors=False)
    np.testing.assert_allclose(found, np.linalg.eigvalsh(expected)[-2:], rtol=1e-8)
    columns = torch.eye(len(expected)).double()[:, :3]
    torch.testing.assert_close(product @ columns, torch.from_numpy(expected)[:, :3], rtol=0, atol=1e-12)


def test_without_scipy_the_cure_is_named(monkeypatch):
    product = HessianVectorProduct(cases.mlp(), *cases.data(6))
    monkeypatch.setitem(sys.modules, "scipy.sparse.linalg", None)
    with pytest.raises(AnalysisError, match="not installed: pip install scipy"):
        product.linear_operator()


def test_vectors_by_parameter_and_back():
    net, (images, labels) = cases.mlp(), cases.data(6)
    masks, _ = cases.random_masks(net, 0.5)
    product = HessianVectorProduct(net, images, labels, masks=masks, parameters=["1", "5"])
    vectors = torch.arange(2.0 * product.dimension).double().view(2, -1) + 1
    parts = product.by_parameter(vectors)
    assert {name: part.shape[1:] for name, part in parts.items()} == {n: p.shape for n, p in net.named_parameters()}
    assert not parts["3.weight"].any()
    assert not parts["1.weight"][:, ~masks["1.weight"].bool()].any()
    assert torch.equal(product.flatten(parts), vectors)
    del parts["3.weight"], parts["3.bias"]
    assert torch.equal(product.flatten(parts), vectors)
    with pytest.raises(AnalysisError, match=r"no parameter 9\.weight"):
        product.flatten({"9.weight": torch.ones(2)})
    with pytest.raises(AnalysisError, match=r"direction of 1.bias has shape \[5\], its parameter \[6\]"):
        product.flatten({"1.bias": torch.ones(5)})
    several = {"1.weight": torch.ones(2, 6, 12), "1.bias": torch.ones(3, 6)}
    for directions in (several, {"1.weight": torch.ones(6, 12), "1.bias": torch.ones(3, 6)}, dict(parts, **several)):
        with pytest.raises(AnalysisError, match=r"direction of 1\.bias has the axes \[3\] before .* give all the same"):
            product.flatten(directions)
    assert product.flatten({}).shape == (product.dimension,)


@pytest.mark.parametrize("k", [1, 4, 5])
@pytest.mark.parametrize("which", WHICH)
@pytest.mark.parametrize("matrix", ["hessian", "fisher"])
def test_eigenvalues_of_each_end(matrix, which, k):
    case = CASES["tabular"]
    net = built(case)
    expected = np.linalg.eigvalsh(matrices(net, case, whole)[matrix].numpy())[::-1]
    found = hessian_eigenvalues(net, case.inputs, case.targets, matrix=matrix, which=which, k=k, tol=1e-8)
    chosen = {
        "LA": expected[:k],
        "SA": expected[::-1][:k],
        "LM": expected[np.argsort(-np.abs(expected), kind="stable")][:k],
        "BE": np.r_[expected[: k - k // 2], expected[len(expected) - k // 2 :]],
    }[which]
    np.testing.assert_allclose(found.eigenvalues, chosen, atol=1e-7 * expected[0])
    vectors = found.eigenvectors
    torch.testing.assert_close(vectors @ vectors.T, torch.eye(k).double(), rtol=0, atol=1e-6)
    assert found.converged.all()
    assert (found.which, found.matrix) == (which, matrix)
    parts = found.by_parameter()
    assert torch.equal(torch.cat([part.flatten(1) for part in parts.values()], dim=1), vectors)
    assert {name: part.shape[1:] for name, part in parts.items()} == {n: p.shape for n, p in net.named_parameters()}


def test_both_ends_of_a_matrix_of_one_eigenvalue_are_orthogonal():
    # A mean of squares with inputs of ones: the block over a bias is the identity.
    net = cases.seeded(lambda: nn.Linear(2, 6))
    x, y = torch.zeros(4, 2).double(), torch.ones(4, 6).double()
    options = {"criterion": lambda z, y: 3 * F.mse_loss(z, y), "parameters": "bias"}
    for which in ("BE", "LM"):
        found = hessian_eigenvalues(net, x, y, which=which, k=6, **options)
        torch.testing.assert_close(found.eigenvalues, torch.ones(6).double())
        torch.testing.assert_close(found.eigenvectors @ found.eigenvectors.T, torch.eye(6).double())


@pytest.mark.parametrize("matrix", MATRICES)
def test_traces_and_densities(matrix):
    case = CASES["tabular"]
    net = built(case)
    expected = matrices(net, case, whole)[matrix]
    options = {"matrix": matrix, "parameters": "0"}
    block = expected[:25, :25]
    found = hessian_trace(net, batches_of(case), products=75, **options)
    assert found.trace == pytest.approx(float(block.trace()), rel=1e-9)
    assert (found.matrix, found.space, found.dimension) == (matrix, "chosen", 25)
    density = hessian_density(net, case.inputs, case.targets, probes=4, steps=25, **options)
    values = torch.linalg.eigvalsh(block)
    assert float(density.nodes.max()) == pytest.approx(float(values[-1]), rel=1e-6)
    # Unbiased in each power: signs find the trace exactly where the matrix is diagonal, else within their error.
    means = (density.weights * density.nodes).sum(dim=1)
    assert abs(float(means.mean()) - float(values.mean())) < 4 * float(means.std()) / 2
    assert density.matrix == matrix


def test_names_that_are_not_offered():
    net, (images, labels) = cases.mlp(), cases.data(6)
    with pytest.raises(AnalysisError, match="no matrix 'ggn'; there are hessian, gauss_newton, fisher"):
        hessian_trace(net, images, labels, matrix="ggn")
    with pytest.raises(AnalysisError, match="no eigenvalues 'SM'; there are LA, SA, LM, BE"):
        hessian_eigenvalues(net, images, labels, which="SM")


def test_what_has_no_gauss_newton_or_fisher_matrix():
    net, (images, labels) = cases.mlp(), cases.data(6)
    for product, name in ((GaussNewtonVectorProduct, "Gauss-Newton"), (FisherVectorProduct, "empirical Fisher")):
        with pytest.raises(AnalysisError, match=f"the {name} matrix is made of the outputs .*give a criterion"):
            product(net, images, labels, loss_fn=lambda net, batch: F.cross_entropy(net(batch[0]), batch[1]))
    weighted = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 5.0]).double())
    with pytest.raises(AnalysisError, match="not the mean of its samples' losses"):
        FisherVectorProduct(net, [(images, labels)], criterion=weighted)
    # Of given batches, the Gauss-Newton matrix of such a loss is as good as its Hessian.
    assert GaussNewtonVectorProduct(net, [(images, labels)], criterion=weighted)(torch.ones(121)).any()
    pooled = cases.seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 2), nn.Flatten(0)))
    halves = [(images[:1], torch.ones(1, 2).double())]
    with pytest.raises(AnalysisError, match=r"outputs have shapes \[2\] for 1 samples"):
        FisherVectorProduct(pooled, halves, criterion=lambda z, y: F.mse_loss(z, y[0]))


@pytest.mark.parametrize("matrix", ["gauss_newton", "fisher"])
def test_layers_of_survivors_have_the_matrices_of_dense_ones(matrix):
    masks = load_checkpoint(MASKS / "lenet5-99.57.safetensors").masks[0]
    net = build_model("lenet5", seed=0).double()
    apply_masks(net, masks)
    images, labels = cases.data_for("lenet5", 6)
    surviving = MATRICES[matrix](net, images.double(), labels, masks=masks)
    assert any(isinstance(module, SparseConv2d) for module in surviving._net.modules())
    dense = MATRICES[matrix](net, images.double(), labels)
    vectors = torch.randn(2, surviving.dimension, generator=torch.Generator().manual_seed(0)).double()
    kept = surviving.expand(torch.ones(surviving.dimension)).bool()
    expected = dense(surviving.expand(vectors))[:, kept]
    torch.testing.assert_close(surviving(vectors), expected, rtol=1e-9, atol=1e-14)
    if matrix == "fisher":  # a pass for each sample
        torch.testing.assert_close(surviving.diagonal(), dense.diagonal()[kept], rtol=1e-9, atol=1e-16)


class Tempered(nn.Module):
    """Logits times a scalar parameter; a BatchNorm behind a convolution, which can be folded into it."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.conv, self.norm, self.out = nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2), nn.Linear(12, 3)

    def forward(self, images):
        return self.scale * self.out(torch.relu(self.norm(self.conv(images))).flatten(1))


def test_scalar_parameters():
    net, (images, labels) = cases.seeded(Tempered), cases.data(6)
    expected = torch.from_numpy(cases.full_hessian(net, images, labels))
    product = HessianVectorProduct(net, images, labels)
    torch.testing.assert_close(product(torch.eye(len(expected)).double()), expected, rtol=0, atol=1e-13)
    assert product._way.single is not product._way.several  # all vectors in one pass, as of other nets
    diagonal = hessian_diagonal(net, images, labels, method="exact").by_parameter()
    torch.testing.assert_close(diagonal["scale"], expected[0, 0])
    assert diagonal["out.bias"].shape == (3,)
    vectors = hessian_eigenvalues(net, images, labels, k=2)
    assert torch.equal(vectors.by_parameter()["scale"], vectors.eigenvectors[:, 0])
    assert torch.equal(product.flatten(product.by_parameter(expected)), expected)
    assert torch.equal(product.flatten(product.by_parameter(expected[0])), expected[0])
    for matrix in ("gauss_newton", "fisher"):
        product = MATRICES[matrix](net, images, labels)
        by_products = product(torch.eye(len(expected)).double()).diagonal()
        torch.testing.assert_close(product.diagonal(), by_products, rtol=1e-9, atol=1e-13)


class Normed(nn.Module):
    """A layer whose weight is v at length g, written out."""

    def __init__(self, layer, dim):
        super().__init__()
        self.bias = layer.bias
        self.g, self.v = (nn.Parameter(p.detach().clone()) for p in (layer.weight_g, layer.weight_v))
        self.axes = [axis for axis in (0, 1) if axis != dim]

    def forward(self, x):
        lengths = self.v.square().sum(self.axes, keepdim=True).sqrt()
        return F.linear(x.flatten(1), self.g * self.v / lengths, self.bias)


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.parametrize("matrix", MATRICES)
def test_weight_norm_has_the_derivatives_of_its_formula(matrix, dim):
    layer = cases.seeded(lambda: nn.utils.weight_norm(nn.Linear(6, 3), dim=dim))
    draws = torch.Generator().manual_seed(1)
    x, y = torch.randn(20, 6, generator=draws, dtype=torch.float64), torch.arange(20) % 3
    with torch.no_grad():
        layer.weight_g.mul_(1.7)
    written = Normed(layer, dim)
    torch.testing.assert_close(layer(x), written(x))
    found = MATRICES[matrix](layer, x, y)(torch.eye(21 + layer.weight_g.numel()).double())
    expected = MATRICES[matrix](written, x, y)(torch.eye(len(found)).double())
    if matrix == "hessian":
        torch.testing.assert_close(expected, full(written, lambda net: F.cross_entropy(net(x), y)), rtol=0, atol=1e-12)
    torch.testing.assert_close(found, found.T, rtol=0, atol=1e-12)
    assert expected.norm() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


class Product(torch.autograd.Function):
    """x times a gain, whose backward pass takes the gain for a constant."""

    @staticmethod
    def forward(ctx, x, gain):
        ctx.save_for_backward(x, gain)
        return x * gain

    @staticmethod
    def backward(ctx, gradient):
        x, gain = ctx.saved_tensors
        return gradient * gain.detach(), (gradient * x).sum(0)


class Gained(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.out = nn.Linear(12, 4), nn.Linear(4, 3)
        self.gain = nn.Parameter(torch.ones(4))

    def forward(self, x):
        return self.out(Product.apply(self.hidden(x.flatten(1)), self.gain))


def test_second_derivatives_that_are_not_symmetric_are_refused():
    net, (images, labels) = cases.seeded(Gained), cases.data(30)
    hessian = full(net, lambda net: F.cross_entropy(net(images), labels))
    assert (hessian - hessian.T).norm() > 0.1 * hessian.norm()
    with pytest.raises(AnalysisError, match=r"second derivatives are not symmetric.*; write it in torch's operations"):
        HessianVectorProduct(net, images, labels)
    assert GaussNewtonVectorProduct(net, images, labels)(torch.ones(71)).any()  # takes no second derivative of the net
