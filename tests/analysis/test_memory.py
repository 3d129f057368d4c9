"""Analyses within a memory budget: the same numbers as without, and as much memory as they say."""

import re
import sys

import numpy as np
import pytest
import torch

from sharpminima.analysis import (
    HessianVectorProduct,
    hessian_along_line,
    hessian_density,
    hessian_eigenvalues,
    hessian_trace,
)
from sharpminima.analysis.hessian import _lanczos
from sharpminima.analysis.hessian._lanczos import (
    COLUMNS,
    Basis,
    Plan,
    largest_eigenpairs,
    plan_basis,
    plan_quadrature,
    quadrature,
)
from sharpminima.base.errors import AnalysisError
from sharpminima.base.stop import STOP, Stopped
from sharpminima.runtime import memory
from sharpminima.runtime.rng import generator

from . import cases
from .peaks import run_measured
from .test_hessian import rotated

SPECTRA = {
    "uniform": np.linspace(-3, 1, 300),
    "outliers": np.r_[[100, 50, 49, 20, 10], np.linspace(0, 1, 200)],
    "top-zero": np.r_[np.zeros(150), np.full(50, -2.0)],
    "negative": np.linspace(-5, -1, 60),
    "zero": np.zeros(60),
}


@pytest.mark.slow
@pytest.mark.parametrize("spectrum", SPECTRA.values(), ids=SPECTRA)
@pytest.mark.parametrize("block_size", [1, 3])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-9), (torch.float32, 3e-6)])
def test_thick_restarts_in_few_vectors(spectrum, block_size, dtype, error):
    matrix = torch.as_tensor(rotated(spectrum), dtype=torch.float64)
    plan = Plan(size=5 + 3 * block_size + 1, dtype=dtype, columns=17)
    vectors, iterations, *_ = largest_eigenpairs(
        lambda vectors: vectors.double() @ matrix,
        len(matrix),
        5,
        block_size=block_size,
        tol=1e-10,
        max_iterations=5000,
        rounding=1e-14 if dtype == torch.float64 else 16 * torch.finfo(dtype).eps,
        generator=generator(0, "test"),
        plan=plan,
    )
    scale = max(1, np.abs(spectrum).max())
    assert vectors.dtype == torch.float64
    assert iterations < 5000
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(5), atol=error)
    values = (vectors @ matrix * vectors).sum(dim=1)
    np.testing.assert_allclose(values, np.sort(spectrum)[::-1][:5], atol=error * scale)
    assert (vectors @ matrix - values[:, None] * vectors).norm(dim=1).max() <= 10 * error * scale


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scaling", [None, "parameter"])
def test_eigenvalues_within_a_budget(dtype, scaling):
    model, (images, labels) = cases.conv_net(1), cases.data(30)
    budget = 9 * 93 * dtype.itemsize  # k + 3 + 1 vectors
    found = hessian_eigenvalues(
        model.to(dtype), images.to(dtype), labels, tol=1e-5, memory=budget, scaling=scaling, max_iterations=2000
    )
    whole = hessian_eigenvalues(model.double(), images.double(), labels, tol=1e-8, scaling=scaling)
    assert found.converged.all()
    assert found.iterations > whole.iterations  # it has restarted
    torch.testing.assert_close(found.eigenvalues, whole.eigenvalues, rtol=1e-5, atol=0)
    assert found.residuals.max() <= 1e-5 * found.eigenvalues[0]


def test_what_a_basis_takes():
    def plan(dimension, **options):
        return plan_basis(
            dimension,
            **({"k": 5, "block_size": 1, "rounding": 2e-6, "dtype": None, "memory": None, "most": 500} | options),
            device="cpu",
        )

    # The recorded eigenvalues are of a basis in float64, computed with as a whole, where it fits.
    assert plan(431_080, dtype=torch.float64) == Plan(40, torch.float64, 431_080)
    assert plan(1_728_000, dtype=torch.float64) == Plan(40, torch.float64, 1_728_000)
    assert plan(2_300_000, dtype=torch.float64) == Plan(40, torch.float32, COLUMNS)
    assert plan(431_080) == plan(431_080, dtype=torch.float32) == Plan(40, torch.float32, COLUMNS)
    assert plan(431_080, rounding=1e-15) == Plan(40, torch.float64, 431_080)
    resnet18 = plan(11_173_962)
    assert (resnet18.size, resnet18.dtype) == (24, torch.float32)
    assert plan(2_300_000, rounding=1e-15).dtype == torch.float64
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_lanczos, "available_memory", lambda device: None)
        assert plan(132_863_336).size == 20  # VGG-11: 10.6 GB, by default as many as ARPACK takes
        assert plan(132_863_336, memory=5e9).size == 9
        # Within a number that is given, all that fit: a restart costs products.
        assert plan(11_173_962, memory=2.4e9) == Plan(53, torch.float32, COLUMNS)
        assert plan(11_173_962, memory=2.4e9, most=50).size == 50
        assert plan(11_173_962, memory=2.4e9, most=30).size == 40
        in_float64 = plan(431_080, memory=1e9, dtype=torch.float64)
        assert in_float64 == Plan(191, torch.float64, 431_080)
        assert 8 * 431_080 * (191 + _lanczos._kept(191, 5)) <= 1e9 < 8 * 431_080 * (192 + _lanczos._kept(192, 5))
        assert plan(90, memory=1e9).size == 90
        patch.setattr(_lanczos, "available_memory", lambda device: 9e8)
        with pytest.raises(AnalysisError, match=r"basis of 191 vectors of 431,080 parameters and the copy of 98 that"):
            plan(431_080, memory=1e9, dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_basis_that_holds_all_never_restarts(dtype, monkeypatch):
    model, (images, labels) = cases.mlp(1).to(dtype), cases.data(30)
    held, rotate = [], Basis.rotate

    def spied(basis, rotation):
        if rotation.shape[1] > 10:  # what a restart keeps: the end keeps k
            held.append(len(rotation))
        rotate(basis, rotation)

    monkeypatch.setattr(Basis, "rotate", spied)

    def found(memory):
        held.clear()
        result = hessian_eigenvalues(
            model, images.to(dtype), labels, k=10, tol=1e-4, which="SA", basis=dtype, memory=memory
        )
        assert result.converged.all()
        return result, list(held)

    (usual, restarts), (whole, none) = found(None), found(1e6)
    assert restarts == [40]
    assert none == []
    assert whole.iterations > 40
    torch.testing.assert_close(usual.eigenvalues, whole.eigenvalues, rtol=0, atol=1e-5)


def test_a_basis_in_float32_of_float32_products():
    model, (images, labels) = cases.conv_net(1).float(), cases.data(30)
    images, options = images.float(), {"k": 2, "tol": 1e-2}
    exact, usual = (
        hessian_eigenvalues(model, images, labels, basis=basis, **options) for basis in (torch.float64, None)
    )
    assert usual.converged.all()
    assert not torch.equal(usual.eigenvectors, exact.eigenvectors)
    torch.testing.assert_close(usual.eigenvalues, exact.eigenvalues, rtol=2e-6, atol=0)
    torch.testing.assert_close(usual.eigenvectors.norm(dim=1), torch.ones(2).double(), rtol=0, atol=1e-12)
    other = cases.conv_net(2).float()
    line = hessian_along_line(model, other, images, labels, points=2, basis=torch.float64, **options)
    assert torch.equal(line.eigenvalues[0], exact.eigenvalues)
    with pytest.raises(AnalysisError, match=r"the basis is torch\.float16; give torch\.float32 or torch\.float64"):
        hessian_eigenvalues(model, images, labels, basis=torch.float16)


@pytest.mark.parametrize("dimension", [121, 1_727, 431_080, 11_173_962])
@pytest.mark.parametrize("rounding", [2e-6, 1e-15])
def test_the_memory_that_an_error_names_suffices(dimension, rounding, monkeypatch):
    monkeypatch.setattr(_lanczos, "available_memory", lambda device: None)
    options = {"rounding": rounding, "device": "cpu"}
    for plan in (
        lambda memory: plan_basis(dimension, 5, 1, dtype=None, memory=memory, most=500, **options),
        lambda memory: plan_quadrature(dimension, 41, 4, memory=memory, **options),
    ):
        with pytest.raises(AnalysisError) as error:
            plan(10.0)
        named = float(re.search(r"give memory=(\S+) or more", str(error.value))[1])
        assert plan(named)
        with pytest.raises(AnalysisError):
            plan(0.99 * named)
    # What is left of the device is less than the basis takes, but as much as the least one.
    least = 9 * dimension * (4 if rounding > 1e-9 else 8)
    monkeypatch.setattr(_lanczos, "available_memory", lambda device: 2.2 * least)
    with pytest.raises(AnalysisError) as error:
        plan_basis(dimension, 5, 1, dtype=None, memory=3.0 * least, most=500, **options)
    named = float(re.search(r"at least ([^)]+)\)", str(error.value))[1])
    assert plan_basis(dimension, 5, 1, dtype=None, memory=named, most=500, **options)


def test_what_does_not_fit_is_said_before_it_is_allocated(monkeypatch):
    model, data = cases.mlp().float(), cases.data(6)
    data = data[0].float(), data[1]
    with pytest.raises(AnalysisError, match=r"basis of at least 9 vectors, 4.36e-06 GB, .* give memory=4.36e\+03 or"):
        hessian_eigenvalues(model, *data, memory=4000)
    with pytest.raises(AnalysisError, match="memory is 'much'; give a number"):
        hessian_eigenvalues(model, *data, memory="much")
    with pytest.raises(AnalysisError, match=r"40 steps over 121 parameters take .* fewer steps"):
        hessian_density(model, *data, memory=4000)
    monkeypatch.setattr(_lanczos, "available_memory", lambda device: 3000)
    with pytest.raises(AnalysisError, match=r"10 vectors of 121 parameters takes 4.84e-06 GB, and cpu has 3e-06"):
        hessian_eigenvalues(model, *data, memory=5000)
    with pytest.raises(AnalysisError, match=r"a sketch of 20 vectors takes .* give fewer products"):
        hessian_trace(model, *data, memory=0)


_PEAK = """
import sys, torch
from torch import nn
from sharpminima.analysis import hessian_eigenvalues
from sharpminima.runtime.rng import generator
torch.set_num_threads(1)

draws = generator(0, "test")
net = nn.Sequential(nn.Flatten(), nn.Linear(3072, 800), nn.ReLU(), nn.Linear(800, 10))
images = torch.randn(8, 3, 32, 32, generator=draws)
labels = torch.arange(8)
hessian_eigenvalues(net, images, labels, k=1, max_iterations=1)
before = peak()
found = hessian_eigenvalues(net, images, labels, k=2, memory=float(sys.argv[1]), max_iterations=60)
assert found.converged.all()
print(found.dimension, peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_peak_memory_is_what_is_said():
    # The first call has taken what a product takes, and a basis of its own; the second may take as much as it is told.
    dimension, grown = run_measured(_PEAK, "120e6")
    assert grown <= 120e6 + 4 * 8 * dimension


@pytest.mark.parametrize("options", [{}, {"memory": 9 * 4 * 93}, {"graphs": 20_000, "batch_size": 5}])
def test_eigenvalues_go_on_to_the_same_bits(tmp_path, options, monkeypatch):
    model, (images, labels) = cases.conv_net(1).float(), cases.data(30)
    images, options = images.float(), {"tol": 1e-5, "max_iterations": 400, **options}
    whole = hessian_eigenvalues(model, images, labels, **options)
    steps = []

    def stop(done, most):
        steps.append((done, most))
        monkeypatch.setattr(STOP, "raised", done == 13)

    file = tmp_path / "state"
    with pytest.raises(Stopped):
        hessian_eigenvalues(model, images, labels, progress=stop, resume=file, **options)
    assert file.exists()
    assert steps == [(number, 400) for number in range(1, 14)]
    monkeypatch.setattr(STOP, "raised", False)
    steps.clear()
    other = hessian_eigenvalues(model, images, labels, resume=file, seed=1, **options)  # others ignore the file
    assert not torch.equal(other.eigenvectors, whole.eigenvectors)
    with pytest.raises(Stopped):
        hessian_eigenvalues(model, images, labels, progress=stop, resume=file, **options)
    monkeypatch.setattr(STOP, "raised", False)
    steps.clear()
    again = hessian_eigenvalues(model, images, labels, progress=lambda *at: steps.append(at), resume=file, **options)
    assert steps[0] == (14, 400)
    for name in ("eigenvalues", "eigenvectors", "residuals"):
        assert torch.equal(getattr(again, name), getattr(whole, name))
    assert (again.iterations, again.hvps) == (whole.iterations, whole.hvps)
    assert not file.exists()


@pytest.mark.parametrize("which", ["LA", "BE"])
def test_sigterm_in_the_last_products_keeps_the_vectors(which, tmp_path, monkeypatch):
    model, (images, labels) = cases.conv_net(1).float(), cases.data(30)
    images, options = images.float(), {"k": 3, "which": which, "tol": 1e-5}
    whole = hessian_eigenvalues(model, images, labels, **options)
    file = tmp_path / "state"
    with monkeypatch.context() as patch:
        stop_after(patch, whole.hvps - 1)
        with pytest.raises(Stopped):
            hessian_eigenvalues(model, images, labels, resume=file, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    made = stop_after(monkeypatch, None)
    again = hessian_eigenvalues(model, images, labels, resume=file, **options)
    assert sum(made) == 3  # those of the residuals alone
    for name in ("eigenvalues", "eigenvectors", "residuals"):
        assert torch.equal(getattr(again, name), getattr(whole, name))
    assert (again.iterations, again.hvps) == (whole.iterations, whole.hvps)
    assert not list(tmp_path.iterdir())


def test_quadrature_in_float32_and_fewer_at_once():
    matrix = torch.as_tensor(rotated(np.linspace(-2, 5, 120)), dtype=torch.float64)
    starts = torch.randn(3, 120, generator=generator(0, "test"), dtype=torch.float64)
    options = {"steps": 12, "rounding": 2e-6}
    expected = quadrature(lambda vectors: vectors @ matrix, starts, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_lanczos, "COLUMNS", 50)
        found = quadrature(lambda vectors: vectors @ matrix, starts, dtype=torch.float32, **options)
    for part, its_expected in zip(found, expected, strict=True):
        torch.testing.assert_close(part, its_expected, rtol=0, atol=1e-5)
    # ResNet-18, 40 steps: one probe at a time takes 2 GB instead of the 15 of four.
    assert plan_quadrature(11_173_962, 40, 4, rounding=2e-6, memory=2.1e9, device="cpu") == (1, torch.float32)
    assert plan_quadrature(431_080, 40, 4, rounding=2e-6, memory=None, device="cpu") == (4, torch.float64)


def test_density_and_trace_within_a_budget(tmp_path):
    model, (images, labels) = cases.conv_net(1).float(), cases.data(30)
    images = images.float()
    whole = hessian_density(model, images, labels, probes=3, steps=10, sigma=0.1)
    least = 93 * (10 * 4 + 24)
    part = hessian_density(model, images, labels, probes=3, steps=10, sigma=0.1, memory=least)
    torch.testing.assert_close(part.nodes, whole.nodes, rtol=0, atol=1e-4)
    torch.testing.assert_close(part.density, whole.density, rtol=0, atol=1e-2)
    assert part.hvps == whole.hvps == 30

    trace = np.trace(cases.full_hessian(model.double(), images.double(), labels))
    done = []
    exact = hessian_trace(model.float(), images, labels, products=300, memory=0, progress=lambda *at: done.append(at))
    assert exact.trace == pytest.approx(trace, rel=1e-5)
    few = hessian_trace(model, images, labels, products=60, memory=0)
    assert abs(few.trace - trace) < 4 * few.standard_error + 1e-5
    assert exact.hvps == done[-1][0] <= done[-1][1] == 186


def test_density_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    model, (images, labels) = cases.conv_net(1), cases.data(30)
    whole = hessian_density(model, images, labels, probes=6, steps=5)
    file = tmp_path / "state"
    with pytest.raises(Stopped):
        hessian_density(
            model, images, labels, probes=6, steps=5, resume=file,
            progress=lambda done, _: monkeypatch.setattr(STOP, "raised", True),
        )  # fmt: skip
    monkeypatch.setattr(STOP, "raised", False)
    done = []
    again = hessian_density(model, images, labels, probes=6, steps=5, resume=file, progress=lambda *at: done.append(at))
    assert done == [(6, 6)]
    assert torch.equal(again.nodes, whole.nodes)
    assert torch.equal(again.density, whole.density)
    assert again.hvps == whole.hvps
    assert not file.exists()


def test_a_density_in_another_dtype_ignores_the_file(tmp_path, monkeypatch):
    model, (images, labels) = cases.conv_net(1).float(), cases.data(30)
    options = {"probes": 2, "steps": 5}
    coarse = 93 * (5 * 4 + 24) * 2  # two probes at once, as without a number, but in float32
    whole = hessian_density(model, images.float(), labels, memory=coarse, **options)
    file = tmp_path / "state"
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(Stopped):
            hessian_density(model, images.float(), labels, resume=file, **options)
    made = stop_after(monkeypatch, None)
    again = hessian_density(model, images.float(), labels, memory=coarse, resume=file, **options)
    assert len(made) == 5
    assert torch.equal(again.nodes, whole.nodes)


@pytest.mark.parametrize("memory", [None, 93 * (5 * 4 + 24)])
def test_density_goes_on_within_a_group_of_probes(tmp_path, monkeypatch, memory):
    model, (images, labels) = cases.conv_net(1).float(), cases.data(30)
    options = {"probes": 3, "steps": 5, "memory": memory}
    whole = hessian_density(model, images.float(), labels, **options)
    file = tmp_path / "state"
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(Stopped):
            hessian_density(model, images.float(), labels, resume=file, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["state-steps-0"]
    made = stop_after(monkeypatch, None)
    again = hessian_density(model, images.float(), labels, resume=file, **options)
    assert torch.equal(again.nodes, whole.nodes)
    assert torch.equal(again.weights, whole.weights)
    assert again.hvps == whole.hvps == 15
    assert len(made) == (2 if memory is None else 12)  # passes: the first three are not made again
    assert not list(tmp_path.iterdir())


def stop_after(monkeypatch, most):
    """Let SIGTERM come in the pass of products after so many; what has been asked for them."""
    made, real = [], HessianVectorProduct._products

    def products(self, vectors):
        monkeypatch.setattr(STOP, "raised", len(made) == most)
        found = real(self, vectors)
        made.append(len(vectors))
        return found

    monkeypatch.setattr(HessianVectorProduct, "_products", products)
    monkeypatch.setattr(STOP, "raised", False)
    return made


@pytest.mark.parametrize("memory", [None, 0])
@pytest.mark.parametrize("most", [3, 7])  # in the sketch, and behind it
def test_trace_goes_on_to_the_same_bits(tmp_path, monkeypatch, memory, most):
    model, (images, labels) = cases.conv_net(1).float(), cases.data(30)
    options = {"products": 15 if memory == 0 else 60, "memory": memory}
    whole = hessian_trace(model, images.float(), labels, **options)
    file, steps = tmp_path / "state", []
    with monkeypatch.context() as patch:
        stop_after(patch, most)
        with pytest.raises(Stopped):
            hessian_trace(model, images.float(), labels, resume=file, progress=lambda *at: steps.append(at), **options)
    together = 1 if memory == 0 else 4
    assert steps == [(together * number, options["products"]) for number in range(1, most + 1)]
    assert file.exists()
    monkeypatch.setattr(STOP, "raised", False)
    other = hessian_trace(model, images.float(), labels, resume=tmp_path / "other", seed=1, **options)
    assert other.trace != whole.trace
    steps.clear()
    again = hessian_trace(model, images.float(), labels, resume=file, progress=lambda *at: steps.append(at), **options)
    assert steps[0] == (together * (most + 1), options["products"])
    assert steps[-1] == (options["products"], options["products"])
    assert (again.trace, again.standard_error, again.captured) == (whole.trace, whole.standard_error, whole.captured)
    assert again.hvps == whole.hvps == options["products"]
    assert not list(tmp_path.iterdir())


def test_memory_that_is_left(tmp_path, monkeypatch):
    info = tmp_path / "meminfo"
    info.write_text("MemTotal:       24000000 kB\nMemAvailable:   1000 kB\n")
    monkeypatch.setattr(memory, "_MEMINFO", info)
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    assert memory.available_memory("cpu") == 1_024_000
    for name, text in (
        ("memory.max", "900000"),
        ("memory.current", "700000"),
        ("memory.stat", "anon 5\ninactive_file 100\n"),
    ):
        (tmp_path / name).write_text(text)
    assert memory.available_memory("cpu") == 200_100
    (tmp_path / "memory.max").write_text("max")
    assert memory.available_memory("cpu") == 1_024_000
    info.unlink()
    assert memory.available_memory("cpu") is None
