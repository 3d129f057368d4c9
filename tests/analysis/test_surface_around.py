"""Surfaces around one net, and where BatchNorm's statistics come from."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import update_bn

from sharpminima.analysis import (
    Plane,
    hessian_along_line,
    hessian_eigenvalues,
    loss_barrier,
    loss_surface,
    loss_surface_around,
)
from sharpminima.base.errors import AnalysisError
from sharpminima.base.stop import STOP, Stopped
from sharpminima.nets.batchnorm import recalibrate

from . import cases


def loss_of(model, images, labels):
    model.eval()
    with torch.no_grad():
        return float(F.cross_entropy(model(images), labels))


def moved(model, direction, step):
    """A copy of the model, ``step`` times the direction [P] away."""
    flat = nn.utils.parameters_to_vector(model.parameters()).detach() + step * direction
    copied = cases.conv_net()
    nn.utils.vector_to_parameters(flat, copied.parameters())
    return copied


def norm_net(seed=0):
    """A net with BatchNorm whose running statistics are its own."""
    net = cases.seeded(
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3), nn.BatchNorm1d(3)
        ),
        seed,
    )
    draws = torch.Generator().manual_seed(seed)
    for norm in (net[1], net[5]):
        norm.running_mean.normal_(0, 0.5, generator=draws)
        norm.running_var.uniform_(0.5, 2, generator=draws)
    return net


def test_given_directions():
    model, (images, labels) = cases.conv_net(1), cases.data(20)
    draws = torch.Generator().manual_seed(0)
    first = torch.randn(93, generator=draws, dtype=torch.float64)
    second = {"out.weight": torch.randn(3, 5, generator=draws)}
    flat = torch.zeros(93, dtype=torch.float64)
    flat[75:90] = second["out.weight"].flatten()
    found = loss_surface_around(
        model, images, labels, directions=(first, second), grid=(3, 5), span=(-0.5, 0.5), measures=("loss", "psp_norm")
    )
    assert found.values["loss"].shape == (5, 3)
    for i, y in enumerate(found.y.tolist()):
        for j, x in enumerate(found.x.tolist()):
            expected = loss_of(moved(model, x * first + y * flat, 1.0), images, labels)
            assert found.values["loss"][i, j] == pytest.approx(expected, rel=1e-12)
    assert found.values["loss"][2, 1] == found.center_values["loss"] == loss_of(model, images, labels)
    assert found.values["psp_norm"].std() > 0
    assert (found.directions, found.target_values, found.batch_norm) == ("given", {}, "nearer")
    assert (found.distance, found.second_distance) == pytest.approx((float(first.norm()), float(flat.norm())))
    line = loss_surface_around(model, images, labels, directions=[first], grid=(3, 1), span=(-0.5, 0.5))
    torch.testing.assert_close(line.values["loss"][0], found.values["loss"][2])


def test_random_directions_have_the_lengths_of_the_filters(monkeypatch):
    model, (images, labels) = cases.conv_net(1), cases.data(20)
    masks, kept = cases.random_masks(model, 0.5)
    with torch.no_grad():
        for name, mask in masks.items():
            model.get_parameter(name).mul_(mask)
    planes = []
    around = Plane.around
    monkeypatch.setattr(Plane, "around", lambda *args, **options: planes.append(around(*args, **options)) or planes[-1])
    found = loss_surface_around(model, images, labels, grid=(3, 3), masks=masks, seed=4)
    again = loss_surface_around(model, images, labels, grid=(3, 3), masks=masks, seed=4)
    other = loss_surface_around(model, images, labels, grid=(3, 3), masks=masks, seed=5)
    assert torch.equal(found.values["loss"], again.values["loss"])
    assert not torch.equal(found.values["loss"], other.values["loss"])
    first, second = planes[0].axes()
    assert abs(torch.nn.functional.cosine_similarity(first, second, dim=0)) < 0.9
    for axis in (first, second):
        assert not axis[~torch.from_numpy(kept)].any()
        start = 0
        for parameter in model.parameters():
            part = axis[start : start + parameter.numel()].view(parameter.shape)
            start += parameter.numel()
            if parameter.dim() == 1:
                assert not part.any()
            else:
                torch.testing.assert_close(part.flatten(1).norm(dim=1), parameter.flatten(1).norm(dim=1).detach())
    assert (found.masked, found.directions) == (True, "random")


def test_eigenvectors_have_their_curvatures():
    model, (images, labels) = cases.conv_net(1), cases.data(20)
    step = 1e-3
    found = loss_surface_around(model, images, labels, directions="eigenvectors", grid=(3, 3), span=(-step, step))
    values = found.values["loss"]
    expected = hessian_eigenvalues(model, images, labels, k=2, tol=1e-6).eigenvalues
    curvatures = [values[1].diff().diff() / step**2, values[:, 1].diff().diff() / step**2]
    np.testing.assert_allclose(torch.cat(curvatures), expected, rtol=1e-2)
    assert found.distance == pytest.approx(1)


def test_surface_around_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    model, (images, labels) = cases.conv_net(1), cases.data(20)
    options = {"grid": (3, 2)}
    whole = loss_surface_around(model, images, labels, **options)
    file, done = tmp_path / "state", []
    with pytest.raises(Stopped):
        loss_surface_around(
            model, images, labels, resume=file, **options,
            progress=lambda at, _: monkeypatch.setattr(STOP, "raised", at == 4),
        )  # fmt: skip
    monkeypatch.setattr(STOP, "raised", False)
    again = loss_surface_around(model, images, labels, resume=file, progress=lambda *at: done.append(at), **options)
    assert done == [(5, 6), (6, 6)]
    assert torch.equal(again.values["loss"], whole.values["loss"])


def test_recalibrated_statistics_are_those_of_the_batches():
    model, (images, _) = norm_net(), cases.data(24)
    expected = norm_net()
    expected.train()
    update_bn([batch[None] for batch in images.split(8)] and list(images.split(8)), expected)
    model.eval()
    recalibrate(model, images, 8)
    for name, buffer in model.named_buffers():
        torch.testing.assert_close(buffer, expected.get_buffer(name))
    assert not any(module.training for module in model.modules())
    assert model[1].momentum == 0.1
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with pytest.raises(AnalysisError, match="3 images in batches of 2: one image has no variance"):
        recalibrate(model, images[:3], 2)
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("batch_norm", ["nearer", "interpolated", "recalibrated"])
def test_where_the_statistics_come_from(batch_norm, masked):
    center, target, (images, labels) = norm_net(0), norm_net(1), cases.data(24)
    masks = None
    if masked:  # a channel that no weight reaches
        masks = {"0.weight": torch.ones(4, 1, 2, 2), "0.bias": torch.ones(4)}
        masks["0.weight"][1], masks["0.bias"][1] = 0, 0
        with torch.no_grad():
            for net in (center, target):
                net[0].weight[1], net[0].bias[1] = 0, 0
    found = loss_barrier(center, target, images, labels, points=5, masks=masks, batch_size=8, batch_norm=batch_norm)
    assert found.batch_norm == batch_norm
    for x, loss in zip(found.x.tolist(), found.loss.tolist(), strict=True):
        net = norm_net()
        state = {name: (1 - x) * value + x * target.state_dict()[name] for name, value in center.state_dict().items()}
        net.load_state_dict(state)
        if batch_norm == "nearer":
            near = center if x <= 0.5 else target
            net.load_state_dict({**state, **dict(near.named_buffers())})
        elif batch_norm == "recalibrated":
            net.train()
            update_bn(list(images.split(8)), net)
        assert loss == pytest.approx(loss_of(net, images, labels), rel=1e-9)


@pytest.mark.slow
def test_eigenvalues_along_a_line_with_recalibrated_statistics():
    center, target, (images, labels) = norm_net(0), norm_net(1), cases.data(24)
    options = {"points": 3, "k": 1, "batch_size": 8}
    found = hessian_along_line(center, target, images, labels, batch_norm="recalibrated", **options)
    middle = Plane(center, target).model_at(0.5)
    recalibrate(middle, images, 8)
    expected = hessian_eigenvalues(middle, images, labels, k=1, batch_size=8).eigenvalues
    torch.testing.assert_close(found.eigenvalues[1], expected)
    assert found.batch_norm == "recalibrated"
    usual = hessian_along_line(center, target, images, labels, **options)
    assert (usual.batch_norm, bool((usual.eigenvalues - found.eigenvalues).abs().min() > 1e-3)) == ("nearer", True)


def test_surface_around_with_recalibrated_statistics():
    model, (images, labels) = norm_net(), cases.data(24)
    found = loss_surface_around(
        model, images, labels, directions=[torch.ones(109)], grid=(1, 1), batch_size=8, batch_norm="recalibrated"
    )
    assert found.center_values["loss"] == loss_of(model, images, labels)
    recalibrate(model, images, 8)
    assert float(found.values["loss"]) == pytest.approx(loss_of(model, images, labels), rel=1e-12)


def test_errors():
    model, (images, labels) = cases.conv_net(1), cases.data(20)

    def fails(message, **options):
        with pytest.raises(AnalysisError, match=message):
            loss_surface_around(model, images, labels, **{"grid": (2, 2), **options})

    fails("directions are 'filter'; there are 'random', 'eigenvectors', or give two", directions="filter")
    fails("basis of at least 6 vectors, .*and memory is 1e-07 GB", directions="eigenvectors", memory=100)
    fails("takes two directions; one was given", directions=[torch.ones(93)])
    fails(r"first direction is \[92\]; give a tensor \[93\]", directions=[torch.ones(92), torch.ones(93)])
    fails("second direction has conv.x, which the model", directions=[torch.ones(93), {"conv.x": torch.ones(1)}])
    fails(r"out.bias of the second direction has shape \[2\], the parameter \[3\]",
          directions=[torch.ones(93), {"out.bias": torch.ones(2)}])  # fmt: skip
    fails("first direction is zero", directions=[torch.zeros(93), torch.ones(93)])
    fails("batch_norm is 'own'; there are 'nearer', 'interpolated', 'recalibrated'", batch_norm="own")
    fails("around one net there is nothing to interpolate", batch_norm="interpolated")
    fails("the grid is 0 x 2", grid=(0, 2))
    fails("samples is 1; give at least 2", samples=1)
    masks, _ = cases.random_masks(model, 0.5)
    fails("weights other than zero where the masks remove", masks=masks)
    with torch.no_grad():
        for name, mask in masks.items():
            model.get_parameter(name).mul_(mask)
    fails("the first direction moves weights that the masks remove", masks=masks, directions=[torch.ones(93)] * 2)


def test_wide_layers_of_a_surface_may_be_sampled(monkeypatch):
    from sharpminima.analysis.psp import entropy

    center, target, (images, labels) = cases.mlp(1), cases.mlp(2), cases.data(40)
    options = {"grid": (2, 1), "span": (0.25, 0.75), "measures": ("psp_entropy_2",)}
    exact = loss_surface(center, target, images, labels, **options)
    monkeypatch.setattr(entropy, "MAX_STATES", 0)
    with pytest.raises(AnalysisError, match="too many to count them all"):
        loss_surface(center, target, images, labels, **options)
    found = loss_surface(center, target, images, labels, samples=3000, **options)
    torch.testing.assert_close(found.values["psp_entropy_2"], exact.values["psp_entropy_2"], rtol=0.03, atol=0)
