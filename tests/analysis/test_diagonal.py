"""Diagonals of the matrices of curvature against those of the full ones."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sharpminima.analysis import (
    MATRICES,
    FisherVectorProduct,
    GaussNewtonVectorProduct,
    HessianVectorProduct,
    hessian_diagonal,
)
from sharpminima.analysis.hessian import _rows
from sharpminima.base.errors import AnalysisError
from sharpminima.base.stop import STOP, Stopped

from . import cases
from .idioms import idiom, samples
from .test_any_loss import CASES, batches_of, built
from .test_operators import PLAIN, matrices, whole


@pytest.mark.slow
@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("name", PLAIN)
def test_exact_diagonals(name, matrix):
    case = CASES[name]
    net = built(case)
    expected = matrices(net, case, whole)[matrix].diagonal()
    for data in ((case.inputs, case.targets), (batches_of(case),)):
        found = hessian_diagonal(net, *data, matrix=matrix, method="exact", criterion=case.criterion)
        torch.testing.assert_close(found.diagonal, expected, rtol=1e-9, atol=1e-13)
        assert (found.method, found.probes, found.matrix) == ("exact", 0, matrix)
        assert not found.standard_error.any()


@pytest.mark.parametrize("room", [1, 60, 1 << 24])  # derivatives at once: one column, a few, all
def test_a_diagonal_does_not_depend_on_how_much_is_computed_at_once(room, monkeypatch):
    case = CASES["tabular"]
    net = built(case)
    monkeypatch.setattr(_rows, "_ELEMENTS", room)
    expected = matrices(net, case, whole)["gauss_newton"].diagonal()
    found = GaussNewtonVectorProduct(net, case.inputs, case.targets, batch_size=4).diagonal()
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-13)


def test_losses_that_are_not_convex_have_diagonals_of_either_sign():
    case = CASES["regression"]
    net = built(case)
    case = type(case)(case.build, case.inputs, case.targets, lambda z, y: (z - y).square().sin().mean())
    expected = matrices(net, case, whole)["gauss_newton"].diagonal()
    assert expected.min() < 0 < expected.max()
    found = hessian_diagonal(net, case.inputs, case.targets, matrix="gauss_newton", criterion=case.criterion)
    torch.testing.assert_close(found.diagonal, expected, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("matrix", ["gauss_newton", "fisher"])
@pytest.mark.parametrize("name", ["function of its own", "lstm", "view"])
def test_nets_without_transforms(name, matrix):
    net, (images, labels) = idiom(name), samples(5)
    product = MATRICES[matrix](net, images, labels)
    by_products = product(torch.eye(product.dimension).double()).diagonal()
    torch.testing.assert_close(product.diagonal(), by_products, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("matrix", MATRICES)
def test_masks_blocks_and_scaling(matrix):
    case = CASES["tabular"]
    net = built(case)
    masks, _ = cases.random_masks(net, 0.6)
    options = {"matrix": matrix, "masks": masks, "parameters": "0", "scaling": "parameter"}
    found = hessian_diagonal(net, case.inputs, case.targets, method="exact", **options)
    product = MATRICES[matrix](net, case.inputs, case.targets, masks=masks, parameters="0", scaling="parameter")
    by_products = product(torch.eye(product.dimension).double()).diagonal()
    torch.testing.assert_close(found.diagonal, product.expand(by_products), rtol=1e-9, atol=1e-13)
    assert not found.by_parameter()["2.weight"].any()
    assert not found.by_parameter()["0.weight"][~masks["0.weight"].bool()].any()
    assert found.by_parameter()["0.weight"].shape == net[0].weight.shape


@pytest.mark.parametrize("matrix", MATRICES)
def test_random_signs_find_the_diagonal_within_their_error(matrix):
    case = CASES["tabular"]
    net = built(case)
    expected = matrices(net, case, whole)[matrix].diagonal()
    found = hessian_diagonal(net, case.inputs, case.targets, matrix=matrix, method="hutchinson", probes=400)
    away = (found.diagonal - expected).abs() / found.standard_error
    assert 0.3 < float(away.square().mean().sqrt()) < 2
    assert float(away.max()) < 5
    assert (found.probes, found.hvps) == (400, 400)
    fewer = hessian_diagonal(net, case.inputs, case.targets, matrix=matrix, method="hutchinson", probes=25)
    assert 2 < float((fewer.standard_error / found.standard_error).mean()) < 8
    again = hessian_diagonal(net, case.inputs, case.targets, matrix=matrix, method="hutchinson", probes=25)
    assert torch.equal(again.diagonal, fewer.diagonal)


def test_the_way_of_each_matrix_and_what_is_not_offered():
    case = CASES["tabular"]
    net = built(case)
    assert hessian_diagonal(net, case.inputs, case.targets, probes=2).method == "hutchinson"
    assert hessian_diagonal(net, case.inputs, case.targets, matrix="fisher").method == "exact"
    for options, message in (
        ({"method": "diag"}, "no method 'diag'; there are exact, hutchinson"),
        ({"probes": 1}, "probes is 1; give at least 2"),
        ({"matrix": "ggn"}, "no matrix 'ggn'"),
    ):
        with pytest.raises(AnalysisError, match=message):
            hessian_diagonal(net, case.inputs, case.targets, **options)
    weighted = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 5.0]).double())
    with pytest.raises(AnalysisError, match="not the mean of its samples' losses"):
        hessian_diagonal(net, [(case.inputs, case.targets)], matrix="gauss_newton", criterion=weighted)


def test_samples_of_very_many_outputs_are_refused(monkeypatch):
    case = CASES["segmentation"]
    net = built(case)
    monkeypatch.setattr(_rows, "MOST_OUTPUTS", 47)
    with pytest.raises(
        AnalysisError, match=r"a sample has 48 outputs, above 47: .* of 1.84e-05 GB.*give method='hutch"
    ):
        hessian_diagonal(net, case.inputs, case.targets, matrix="gauss_newton")
    assert FisherVectorProduct(net, case.inputs, case.targets).diagonal().any()


def test_outputs_without_a_row_for_each_sample_are_refused():
    pooled = cases.seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 2), nn.Flatten(0)))
    batches = [(cases.data(1)[0], torch.ones(1, 2).double())]
    options = {"matrix": "gauss_newton", "criterion": lambda z, y: F.mse_loss(z, y[0])}
    message = r"\[2\] for 1 samples; the exact diagonal of the Gauss-Newton matrix .*, or method='hutchinson'"
    with pytest.raises(AnalysisError, match=message):
        hessian_diagonal(pooled, batches, **options)
    assert hessian_diagonal(pooled, batches, method="hutchinson", probes=2, **options).diagonal.any()


def test_batches_without_a_row_for_each_sample_are_refused():
    net, x, y = cases.mlp(), *cases.data(6)

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, images, factor):
            return self.net(images * factor)

    batches = [((x, torch.tensor(2.0).double()), y)]
    product = GaussNewtonVectorProduct(Scaled(), batches, criterion=F.cross_entropy)
    with pytest.raises(AnalysisError, match="not every tensor of a batch has a row for each"):
        product.diagonal()


@pytest.mark.parametrize(
    ("matrix", "method", "most"),
    [
        ("hessian", "hutchinson", 10),
        ("hessian", "exact", 0),
        ("gauss_newton", "exact", 6),
        ("fisher", "hutchinson", 10),
    ],
)
def test_a_stopped_diagonal_goes_on_to_the_same_bits(matrix, method, most, tmp_path, monkeypatch):
    net, (x, y) = cases.mlp(), cases.data(6)
    options = {"matrix": matrix, "method": method, "probes": 10, "batch_size": 2}
    told = []
    whole = hessian_diagonal(net, x, y, progress=lambda *at: told.append(at), **options)
    assert len(told) > 2
    assert told[-1] == (most or whole.dimension,) * 2
    file = tmp_path / "resume.safetensors"

    def stop(done, _):
        monkeypatch.setattr(STOP, "raised", done == told[1][0])

    with pytest.raises(Stopped):
        hessian_diagonal(net, x, y, progress=stop, resume=file, **options)
    monkeypatch.setattr(STOP, "raised", False)
    rest = []
    gone_on = hessian_diagonal(net, x, y, progress=lambda *at: rest.append(at), resume=file, **options)
    assert rest == told[2:]
    assert torch.equal(gone_on.diagonal, whole.diagonal)
    assert torch.equal(gone_on.standard_error, whole.standard_error)
    assert gone_on.hvps == whole.hvps
    assert not file.exists()


def test_a_product_that_stops_halfway_keeps_what_was_done(tmp_path, monkeypatch):
    net, (x, y) = cases.mlp(), cases.data(6)
    file = tmp_path / "resume.safetensors"
    product = hessian_diagonal(net, x, y, probes=8)
    calls = []

    def stopping(self, vectors):
        calls.append(len(vectors))
        if len(calls) == 2:
            raise Stopped("in a product")
        return products(self, vectors)

    products = HessianVectorProduct._products
    with monkeypatch.context() as patched:
        patched.setattr(HessianVectorProduct, "_products", stopping)
        with pytest.raises(Stopped, match="in a product"):
            hessian_diagonal(net, x, y, probes=8, resume=file)
    rest = []
    gone_on = hessian_diagonal(net, x, y, probes=8, resume=file, progress=lambda *at: rest.append(at))
    assert rest == [(8, 8)]
    assert torch.equal(gone_on.diagonal, product.diagonal)


@pytest.mark.parametrize("matrix", ["gauss_newton", "fisher"])
@pytest.mark.parametrize("of", [torch.float32, torch.bfloat16])
def test_exact_diagonals_in_another_dtype_than_the_nets(matrix, of):
    case = CASES["tabular"]
    net, inputs = built(case).to(of), case.inputs.to(of)
    found = hessian_diagonal(net, inputs, case.targets, matrix=matrix, dtype=torch.float64)
    assert next(net.parameters()).dtype == of
    exact = type(case)(case.build, inputs.double(), case.targets)
    expected = matrices(net.double(), exact, whole)[matrix].diagonal()
    torch.testing.assert_close(found.diagonal, expected, rtol=1e-9, atol=1e-13)


def test_an_exact_diagonal_of_a_half_net_is_computed_in_float32():
    case = CASES["tabular"]
    net, inputs = built(case).to(torch.bfloat16), case.inputs.to(torch.bfloat16)
    found = hessian_diagonal(net, inputs, case.targets, matrix="fisher").diagonal
    exact = hessian_diagonal(net, inputs, case.targets, matrix="fisher", dtype=torch.float64).diagonal
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-7)


def with_activation(layer):
    """One and the same weights, whatever stands between the layers."""
    return cases.seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 6), layer, nn.Linear(6, 3)))


@pytest.mark.parametrize("matrix", ["hessian", "fisher"])
def test_a_resume_file_of_another_net_with_the_same_weights_is_ignored(matrix, tmp_path, monkeypatch):
    (x, y), file = cases.data(40), tmp_path / "state"
    # What the code of the nets gives for the first samples does not tell them apart.
    x[:4] = 0
    net, other = with_activation(nn.ReLU()), with_activation(nn.LeakyReLU(0.1))
    options = {"matrix": matrix, "method": "hutchinson", "probes": 12}

    def stop(done, _):
        monkeypatch.setattr(STOP, "raised", done == 8)

    with pytest.raises(Stopped):
        hessian_diagonal(net, x, y, progress=stop, resume=file, **options)
    monkeypatch.setattr(STOP, "raised", False)
    assert file.exists()
    told = []
    found = hessian_diagonal(other, x, y, progress=lambda *at: told.append(at), resume=file, **options)
    assert told[0] == (4, 12)  # from the beginning
    assert torch.equal(found.diagonal, hessian_diagonal(other, x, y, **options).diagonal)
