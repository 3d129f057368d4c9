"""Any loss and data together with memory budgets, resume files, BatchNorm's choices and printed results."""

import math

import pytest
import torch
from torch import nn

from sharpminima.analysis import (
    HessianEigenvalues,
    hessian_along_line,
    hessian_density,
    hessian_eigenvalues,
    hessian_trace,
    loss_barrier,
    loss_surface,
    loss_surface_around,
)
from sharpminima.base.stop import STOP, Stopped
from sharpminima.nets.batchnorm import recalibrate
from sharpminima.runtime.rng import generator


def net(seed=0):
    draws = generator(seed, "test")
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draws))
        model[1].running_mean.copy_(torch.randn(5, generator=draws))
    return model.double().eval()


def batches(count=3):
    draws = generator(7, "test")
    return [(torch.randn(6, 4, generator=draws).double(), torch.randn(6, 2, generator=draws).double())] * count


def stopped_at(step, monkeypatch):
    monkeypatch.setattr(STOP, "raised", False)
    return lambda done, _: monkeypatch.setattr(STOP, "raised", done == step)


@pytest.mark.parametrize(("which", "step"), [("LA", 5), ("SA", 5), ("BE", 5), ("LM", 105)])
def test_runs_of_any_loss_go_on_to_the_same_bits(tmp_path, which, step, monkeypatch):
    options = {"criterion": nn.MSELoss(), "k": 2, "which": which, "max_iterations": 100}
    whole = hessian_eigenvalues(net(), batches(), **options)
    file = tmp_path / "state"
    with pytest.raises(Stopped):
        hessian_eigenvalues(net(), batches(), resume=file, progress=stopped_at(step, monkeypatch), **options)
    monkeypatch.setattr(STOP, "raised", False)
    steps = []
    again = hessian_eigenvalues(net(), batches(), resume=file, progress=lambda *at: steps.append(at), **options)
    assert steps[0][0] == step + 1  # the run that is finished is not run again
    assert steps[0][1] == (100 if which in ("LA", "SA") else 200)
    for name in ("eigenvalues", "eigenvectors", "residuals"):
        assert torch.equal(getattr(again, name), getattr(whole, name))
    assert (again.iterations, again.hvps) == (whole.iterations, whole.hvps)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "other",
    [
        {"criterion": nn.L1Loss()},
        {"criterion": lambda outputs, targets: nn.functional.mse_loss(outputs, targets) + outputs.square().mean()},
        {"criterion": None, "loss_fn": lambda model, batch: model(batch[0]).square().mean()},
        {"data": batches(2)},
        {"data": [(x + 1, y) for x, y in batches()]},
        {"matrix": "gauss_newton"},
        {"which": "SA"},
        {"parameters": ["0"]},
        {"scaling": "parameter"},
    ],
)
def test_a_file_of_another_loss_or_matrix_is_ignored(tmp_path, other, monkeypatch):
    given = {"criterion": nn.MSELoss(), "data": batches(), "k": 2}
    file = tmp_path / "state"

    def run(options, **more):
        options = {**given, **options}
        return hessian_eigenvalues(net(), options.pop("data"), **options, **more)

    with pytest.raises(Stopped):
        run({}, resume=file, progress=stopped_at(6, monkeypatch))
    monkeypatch.setattr(STOP, "raised", False)
    steps = []
    found = run(other, resume=file, progress=lambda done, _: steps.append(done))
    assert steps[0] == 1
    assert torch.equal(found.eigenvectors, run(other).eigenvectors)


def test_a_density_of_any_loss_goes_on(tmp_path, monkeypatch):
    options = {"criterion": nn.MSELoss(), "probes": 6, "steps": 4}
    whole = hessian_density(net(), batches(), **options)
    file = tmp_path / "state"
    with pytest.raises(Stopped):
        hessian_density(net(), batches(), resume=file, progress=stopped_at(4, monkeypatch), **options)
    monkeypatch.setattr(STOP, "raised", False)
    done = []
    again = hessian_density(net(), batches(), resume=file, progress=lambda *at: done.append(at), **options)
    assert done == [(6, 6)]
    assert torch.equal(again.nodes, whole.nodes)


def test_budgets_hold_for_any_loss_and_both_ends():
    model, data = net().float(), [(x.float(), y.float()) for x, y in batches()]
    options = {"criterion": nn.MSELoss(), "k": 4, "which": "BE", "tol": 1e-5}
    whole = hessian_eigenvalues(model, data, **options)
    few = hessian_eigenvalues(model, data, memory=4 * 47 * 9, max_iterations=2000, **options)
    assert few.converged.all()
    torch.testing.assert_close(few.eigenvalues, whole.eigenvalues, rtol=1e-3, atol=1e-5)
    trace = hessian_trace(model, data, criterion=nn.MSELoss(), products=300, memory=0)
    assert trace.trace == pytest.approx(
        hessian_trace(model, data, criterion=nn.MSELoss(), products=300).trace, rel=1e-4
    )


def test_results_say_the_loss_and_what_they_are(tmp_path):
    found = hessian_eigenvalues(net(), batches(), criterion=nn.MSELoss(), k=3, which="SA", matrix="gauss_newton")
    lines = str(found).splitlines()
    assert lines[0] == "HessianEigenvalues: 3 smallest of gauss_newton, over 47 parameters (all)"
    assert lines[1].endswith(" units of the loss")
    assert found.plot().axes[0].get_ylabel() == "eigenvalue (units of the loss)"
    found.save(tmp_path / "found.safetensors")
    read = HessianEigenvalues.load(tmp_path / "found.safetensors")
    assert read.by_parameter()["0.weight"].shape == (3, 5, 4)
    assert read.shapes == found.shapes
    barrier = loss_barrier(net(0), net(1), batches(), criterion=nn.MSELoss(), points=3)
    assert "no errors" in str(barrier)
    assert math.isnan(barrier.error_barrier)
    assert len(barrier.plot().axes) == 1


@pytest.mark.parametrize("streamed", [True, False])
def test_batch_norm_is_recalibrated_on_any_data(streamed):
    x, y = (torch.cat(parts) for parts in zip(*batches(), strict=True))
    data = (batches(),) if streamed else (x, y)
    options = {"criterion": nn.MSELoss(), "batch_norm": "recalibrated"}
    found = loss_surface(net(0), net(1), *data, grid=(5, 1), batch_size=6, **options)
    middle = net(0)
    with torch.no_grad():
        for parameter, other in zip(middle.parameters(), net(1).parameters(), strict=True):
            parameter.lerp_(other, 0.5)
    recalibrate(middle, x, 6)
    with torch.no_grad():
        assert float(found.values["loss"][0, 2]) == pytest.approx(float(nn.functional.mse_loss(middle(x), y)))
    line = hessian_along_line(net(0), net(1), *data, points=3, k=1, **options)
    recalibrate(middle, x, 6 if streamed else 250)
    expected = hessian_eigenvalues(middle, *data, criterion=nn.MSELoss(), k=1)
    torch.testing.assert_close(line.eigenvalues[1], expected.eigenvalues)
    assert line.unit == "units of the loss"


@pytest.mark.parametrize("directions", ["random", "eigenvectors"])
def test_a_surface_around_one_net_takes_any_loss(directions):
    found = loss_surface_around(net(), batches(), criterion=nn.MSELoss(), grid=(3, 3), directions=directions)
    assert list(found.values) == ["loss"]
    x, y = (torch.cat(parts) for parts in zip(*batches(), strict=True))
    with torch.no_grad():
        assert float(found.values["loss"][1, 1]) == pytest.approx(float(nn.functional.mse_loss(net()(x), y)))
    assert found.values["loss"].max() > found.values["loss"][1, 1]


def test_a_surface_of_another_criterion_ignores_the_file(tmp_path, monkeypatch):
    file, steps = tmp_path / "state", []
    options = {"grid": (5, 1), "resume": file}
    with pytest.raises(Stopped):
        loss_surface(net(0), net(1), batches(), criterion=nn.MSELoss(), progress=stopped_at(3, monkeypatch), **options)
    monkeypatch.setattr(STOP, "raised", False)
    loss_surface(
        net(0), net(1), batches(), criterion=nn.L1Loss(), progress=lambda done, _: steps.append(done), **options
    )
    assert steps == [1, 2, 3, 4, 5]
