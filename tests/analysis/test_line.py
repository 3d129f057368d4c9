import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sharpminima.analysis import Plane, hessian_along_line, hessian_eigenvalues, loss_barrier
from sharpminima.base.errors import AnalysisError
from sharpminima.base.stop import STOP, Stopped
from sharpminima.nets.evaluation import evaluate

from . import cases


def two_units(first: float, second: float) -> nn.Module:
    """Logits [z, 3/4] of an image 1, where z is the sum of the squares of the two given weights."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 2)).double()
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[first], [second]]))
        net[1].bias.zero_()
        net[3].weight.copy_(torch.tensor([[first, second], [0.0, 0.0]]))
        net[3].bias.copy_(torch.tensor([0.0, 0.75]))
    return net


def nats(z: float) -> float:
    """Cross-entropy of the logits [z, 3/4] with label 0."""
    return math.log1p(math.exp(0.75 - z))


def test_barrier_of_two_nets_whose_units_are_swapped():
    # z is (1 - x)^2 + x^2 on the line: 1 at both ends, 1/2 in the middle, below 3/4 from x = 0.15 to 0.85.
    images, labels = torch.ones(4, 1, 1, 1).double(), torch.zeros(4, dtype=torch.int64)
    found = loss_barrier(two_units(1, 0), two_units(0, 1), images, labels, points=5)
    assert found.x.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert found.loss.tolist() == pytest.approx([nats((1 - x) ** 2 + x**2) for x in found.x.tolist()])
    assert found.error.tolist() == [0, 100, 100, 100, 0]
    assert found.barrier == pytest.approx(nats(0.5) - nats(1))
    assert found.loss_excess.tolist() == pytest.approx([value - nats(1) for value in found.loss.tolist()], abs=1e-15)
    assert found.barrier_at == 0.5
    assert (found.error_barrier, found.instability) == (100, 100)
    assert found.error_barrier_at == 0.25
    assert found.distance == pytest.approx(2)


def test_barrier_is_measured_above_the_line_between_unequal_ends():
    # The second net is a little worse: z is 0.8 there, and (1 - x)^2 + 0.8 x^2 between.
    images, labels = torch.ones(4, 1, 1, 1).double(), torch.zeros(4, dtype=torch.int64)
    labels[0] = 1  # always wrong at the ends, right where z is below 3/4
    found = loss_barrier(two_units(1, 0), two_units(0, math.sqrt(0.8)), images, labels, points=5)

    def mean(z):
        return (3 * nats(z) + math.log1p(math.exp(z - 0.75))) / 4

    middle = mean(0.25 + 0.2) - (mean(1) + mean(0.8)) / 2
    assert found.loss_excess[2].item() == pytest.approx(middle)
    assert found.barrier == pytest.approx(max(found.loss_excess.tolist()))
    assert found.error.tolist() == [25, 75, 75, 75, 25]
    assert (found.error_barrier, found.instability) == (50, 50)


def test_a_convex_loss_has_no_barrier():
    center, target = (cases.seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), seed) for seed in (0, 1))
    images, labels = cases.data(20)
    found = loss_barrier(center, target, images, labels, points=7)
    assert found.barrier == 0
    assert found.barrier_at in (0, 1)
    assert (found.loss_excess[1:-1] < 0).all()
    assert found.loss[0] == evaluate(center, images, labels).loss
    assert found.loss[-1] == evaluate(target, images, labels).loss


def test_barrier_errors():
    center, target = cases.mlp(0), cases.mlp(1)
    images, labels = cases.data(6)
    with pytest.raises(AnalysisError, match="points is 2; a barrier lies between the ends"):
        loss_barrier(center, target, images, labels, points=2)
    with pytest.raises(AnalysisError, match="labels run from 1 to 3"):
        loss_barrier(center, target, images, labels + 1)


@pytest.mark.parametrize("masked", [False, True])
def test_eigenvalues_along_the_line_are_those_of_its_points(masked):
    center, target = cases.mlp(0), cases.mlp(1)
    masks, _ = cases.random_masks(center, 0.5)
    with torch.no_grad():
        for model in (center, target):
            for name, mask in masks.items():
                model.get_parameter(name).mul_(mask)
    images, labels = cases.data(15)
    options = {"k": 3, "masks": masks if masked else None, "scaling": "parameter" if masked else None}
    calls = []
    found = hessian_along_line(
        center, target, images, labels, points=3, progress=lambda *counts: calls.append(counts), **options
    )
    assert found.x.tolist() == [0, 0.5, 1]
    assert calls == [(1, 3), (2, 3), (3, 3)]
    hvps = 0
    for row, model in enumerate((center, Plane(center, target).model_at(0.5), target)):
        expected = hessian_eigenvalues(model, images, labels, **options)
        assert torch.equal(found.eigenvalues[row], expected.eigenvalues)
        assert torch.equal(found.residuals[row], expected.residuals)
        assert torch.equal(found.converged[row], expected.converged)
        hvps += expected.hvps
    assert (found.hvps, found.space, found.dimension) == (hvps, expected.space, expected.dimension)
    assert found.scaling == options["scaling"]
    assert found.distance == Plane(center, target).distance


@pytest.fixture
def _no_signal():
    yield
    STOP.raised = False


@pytest.mark.usefixtures("_no_signal")
def test_a_stopped_line_resumes_to_the_same_bits(tmp_path):
    center, target = cases.mlp(0), cases.mlp(1)
    images, labels = cases.data(15)
    expected = hessian_along_line(center, target, images, labels, points=4, k=2)

    def stopping(done, total):
        STOP.raised = done == 2

    path, calls = tmp_path / "line.resume", []
    with pytest.raises(Stopped, match=r"its state is in .*line\.resume"):
        hessian_along_line(center, target, images, labels, points=4, k=2, resume=path, progress=stopping)
    STOP.raised = False

    def counting(done, total):
        calls.append(done)

    other = hessian_along_line(center, target, images, labels, points=4, k=1, progress=counting)
    assert calls == [1, 2, 3, 4]
    torch.testing.assert_close(other.eigenvalues[:, 0], expected.eigenvalues[:, 0], rtol=1e-6, atol=0)
    calls.clear()
    found = hessian_along_line(center, target, images, labels, points=4, k=2, resume=path, progress=counting)
    assert calls == [3, 4]
    assert not path.exists()
    assert torch.equal(found.eigenvalues, expected.eigenvalues)
    assert torch.equal(found.converged, expected.converged)
    assert found.hvps == expected.hvps


@pytest.mark.usefixtures("_no_signal")
def test_a_stopped_line_of_other_code_is_not_gone_on_from(tmp_path):
    images, labels = cases.data(15)

    def run(layer, progress):
        ends = (
            cases.seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 6), layer(), nn.Linear(6, 3)), seed)
            for seed in range(2)
        )
        return hessian_along_line(*ends, images, labels, points=3, k=1, resume=tmp_path / "line", progress=progress)

    def stopping(done, total):
        STOP.raised = True

    for layer, expected in ((nn.ReLU, [2, 3]), (nn.Tanh, [1, 2, 3])):
        with pytest.raises(Stopped):
            run(nn.ReLU, stopping)
        STOP.raised, calls = False, []
        run(layer, lambda done, total: calls.append(done))  # noqa: B023
        assert calls == expected


@pytest.mark.usefixtures("_no_signal")
def test_a_line_is_not_gone_on_from_by_a_loss_of_equal_values_and_other_derivatives(tmp_path):
    """One of them leaves the graph at the hidden layer."""
    images, labels = cases.data(8)
    ends = [
        cases.seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.Tanh(), nn.Linear(6, 3)), seed)
        for seed in range(2)
    ]

    def whole(net, batch):
        return F.cross_entropy(net(batch[0]), batch[1])

    def head(net, batch):
        return F.cross_entropy(net[3](net[:3](batch[0]).detach()), batch[1])

    def run(loss, **options):
        return hessian_along_line(*ends, [(images, labels)], loss_fn=loss, points=3, k=1, **options).eigenvalues

    def stopping(done, total):
        STOP.raised = True

    with pytest.raises(Stopped):
        run(whole, resume=tmp_path / "line", progress=stopping)
    STOP.raised = False
    assert torch.equal(run(head, resume=tmp_path / "line"), run(head))


@pytest.mark.usefixtures("_no_signal")
@pytest.mark.parametrize("batch_norm", ["nearer", "recalibrated"])
def test_a_line_is_not_gone_on_from_by_a_loss_that_differs_between_the_ends_alone(batch_norm, tmp_path):
    images, labels = cases.data(8)
    ends = [
        cases.seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)), seed)
        for seed in range(2)
    ]
    middle = loss_barrier(*ends, images, labels, points=3, batch_norm=batch_norm).loss[1]
    went_on = []

    def plain(net, batch):
        return F.cross_entropy(net(batch[0]), batch[1])

    def bent(net, batch):
        loss = plain(net, batch)
        return torch.where((loss - middle).abs() < 1e-9, loss.square(), loss)

    def run(loss, **options):
        options |= {"points": 5, "k": 1, "batch_norm": batch_norm}
        return hessian_along_line(*ends, [(images, labels)], loss_fn=loss, **options).eigenvalues

    def stopping(done, total):
        STOP.raised = done == 4

    path = tmp_path / "line"
    with pytest.raises(Stopped):
        run(plain, resume=path, progress=stopping)
    STOP.raised = False
    kept = path.read_bytes()
    found = run(bent, resume=path)
    assert torch.equal(found, run(bent))
    assert (found != run(plain)).flatten().tolist() == [False, False, True, False, False]
    path.write_bytes(kept)
    assert torch.equal(run(plain, resume=path, progress=lambda done, total: went_on.append(done)), run(plain))
    assert went_on == [5]


@pytest.mark.usefixtures("_no_signal")
def test_sigterm_ends_a_product():
    STOP.raised = True
    with pytest.raises(Stopped, match="in a Hessian-vector product"):
        hessian_eigenvalues(cases.mlp(), *cases.data(6))


def test_line_errors():
    center, target = cases.mlp(0), cases.mlp(1)
    images, labels = cases.data(6)
    with pytest.raises(AnalysisError, match="points is 1; the ends are two"):
        hessian_along_line(center, target, images, labels, points=1)
    with pytest.raises(AnalysisError, match="at x = 0 of the line: k is 0"):
        hessian_along_line(center, target, images, labels, k=0)
    with pytest.raises(AnalysisError, match="the same weights"):
        hessian_along_line(center, center, images, labels)
