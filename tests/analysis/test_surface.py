import copy
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from sharpminima.analysis import (
    MEASURES,
    Plane,
    hessian_along_line,
    loss_barrier,
    loss_surface,
    loss_surface_around,
    psp_entropy,
)
from sharpminima.analysis.plane import _meter
from sharpminima.analysis.plane._grid import coordinates
from sharpminima.analysis.psp.entropy import collect_statistics
from sharpminima.base.errors import AnalysisError
from sharpminima.base.stop import STOP, Stopped
from sharpminima.nets.evaluation import evaluate

from . import cases


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def pruned_pair(build=cases.mlp):
    """Two nets with the same masks, and the masks of their weights."""
    center, target = build(0), build(1)
    draw = torch.Generator().manual_seed(2)
    masks = {
        name: torch.rand(parameter.shape, generator=draw) < 0.6
        for name, parameter in center.named_parameters()
        if name.endswith("weight")
    }
    with torch.no_grad():
        for model in (center, target):
            for name, mask in masks.items():
                model.get_parameter(name).mul_(mask)
    return center, target, masks


def all_measures(model, images, labels, definition="joint"):
    """Every measure of one model, by the public functions."""
    evaluation = evaluate(model, images, labels)
    first = psp_entropy(model, images, labels)
    second = psp_entropy(model, images, labels, order=2, definition=definition)
    return {
        "loss": evaluation.loss,
        "error": evaluation.error_percent,
        "psp_norm": first.norm,
        "psp_norm_with_output": first.norm_with_output,
        "psp_entropy_1": first.mean,
        "psp_entropy_1_live": first.mean_live,
        "psp_entropy_2": second.mean,
        "psp_entropy_2_live": second.mean_live,
    }


@pytest.mark.parametrize("definition", ["joint", "agreement"])
def test_every_point_by_hand(definition):
    center, target, masks = pruned_pair(cases.conv_net)
    images, labels = cases.data(30)
    options = {"masks": masks, "seed": 7}
    result = loss_surface(
        center,
        target,
        images,
        labels,
        grid=(3, 2),
        span=(-0.25, 1.25),
        measures=tuple(MEASURES),
        definition=definition,
        batch_size=11,
        **options,
    )
    assert result.x.tolist() == [-0.25, 0.5, 1.25]
    assert result.y.tolist() == [-0.25, 1.25]
    # The random direction, from the plane's own point (0, 1); its properties are tested below.
    origin = weights(center)
    second = weights(Plane(center, target, **options).model_at(0.0, 1.0)) - origin
    for row, y in enumerate(result.y.tolist()):
        for column, x in enumerate(result.x.tolist()):
            model = copy.deepcopy(center)
            point = origin + x * (weights(target) - origin) + y * second
            nn.utils.vector_to_parameters(point, model.parameters())
            for name, value in all_measures(model, images, labels, definition).items():
                found = result.values[name][row, column].item()
                assert found == pytest.approx(value, rel=1e-9), (name, x, y)
    assert result.center_values == pytest.approx(all_measures(center, images, labels, definition), rel=1e-12)
    assert result.target_values == pytest.approx(all_measures(target, images, labels, definition), rel=1e-12)
    assert result.distance == pytest.approx((weights(target) - origin).norm().item())
    assert (result.seed, result.masked) == (7, True)
    assert all(value.shape == (2, 3) and value.dtype == torch.float64 for value in result.values.values())


def test_second_direction():
    center, target, masks = pruned_pair()
    origin, first = weights(center), weights(target) - weights(center)
    kept = torch.cat([masks.get(n, torch.ones_like(p)).flatten().bool() for n, p in center.named_parameters()])
    for given_masks in (masks, None):
        second = weights(Plane(center, target, masks=given_masks, seed=1).model_at(0.0, 1.0)) - origin
        assert abs(float(first @ second)) < 1e-12 * float(first @ first)
        assert float(second.norm()) == pytest.approx(float(first.norm()), rel=1e-12)
        assert second[kept].all()
        assert bool((second[~kept] == 0).all()) == (given_masks is not None)
        assert bool(second[~kept].all()) == (given_masks is None)


def test_removed_weights_stay_zero_all_over_the_plane():
    center, target, masks = pruned_pair()
    moved = Plane(center, target, masks=masks).model_at(0.3, -0.7)
    for name, mask in masks.items():
        assert not moved.get_parameter(name)[~mask].any()


def test_ends_are_the_checkpoints_to_the_bit():
    center, target = cases.lenet5(), cases.lenet5()
    with torch.no_grad():
        for parameter in target.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    images, labels = cases.data_for("lenet5", 30)
    result = loss_surface(center, target, images, labels, grid=(41, 1), span=(-0.5, 1.5), measures=["error", "loss"])
    assert result.y.tolist() == [0.0]
    columns = {x: column for column, x in enumerate(result.x.tolist())}
    for x, model, values in ((0.0, center, result.center_values), (1.0, target, result.target_values)):
        assert torch.equal(weights(Plane(center, target).model_at(x)), weights(model))
        assert values["loss"] == evaluate(model, images, labels).loss
        assert result.values["loss"][0, columns[x]].item() == values["loss"]
        assert result.values["error"][0, columns[x]].item() == values["error"]
    assert list(result.values) == ["error", "loss"]


def test_ends_are_exact_in_float64_too():
    # center + (target - center) is not always target in the weights' own precision.
    center, target, masks = pruned_pair()
    with torch.no_grad():
        for parameter in target.parameters():
            parameter.div_(3)
    assert not torch.equal(weights(center) + (weights(target) - weights(center)), weights(target))
    plane = Plane(center, target, masks=masks)
    assert torch.equal(weights(plane.model_at(0.0)), weights(center))
    assert torch.equal(weights(plane.model_at(1.0)), weights(target))


def test_default_grid_lacks_the_ends_but_reports_them():
    axis = coordinates(51, (-0.5, 1.5)).tolist()
    assert 0.0 not in axis
    assert len(axis) == 51


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60))
@settings(max_examples=80)
def test_axis_hits_zero_and_one_to_the_last_bit(before, between, after):
    # Equal steps of 1 / between, so that 0 and 1 are members whatever linspace rounds to.
    span = (-before / between, 1 + after / between)
    axis = coordinates(before + between + after + 1, span).tolist()
    assert axis[before] == 0.0
    assert str(axis[before]) == "0.0"
    assert axis[before + between] == 1.0
    assert axis == sorted(axis)


@pytest.mark.parametrize("step", [1e-12, 1e-10, 1e-3, 0.7, 1e7 / 3])
@pytest.mark.parametrize("member", [0.0, 1.0])
def test_axis_of_any_span_has_zero_or_one_to_the_last_bit_and_no_point_twice(step, member):
    for before, after in ((1, 1), (2, 3), (13, 9), (14, 33), (5, 48)):
        axis = coordinates(before + 1 + after, (member - before * step, member + after * step)).tolist()
        assert axis[before] == member
        assert len(set(axis)) == len(axis)
        assert axis == sorted(axis)


def test_batchnorm_statistics_come_from_the_nearer_end():
    center, target = cases.resnet8(0), cases.resnet8(1)
    images, labels = cases.data(5, (3, 32, 32), 10)
    plane = Plane(center, target)
    for x, nearer in ((-1.0, center), (0.5, center), (0.51, target), (2.0, target)):
        moved = plane.model_at(x, 0.5)
        for name, buffer in moved.named_buffers():
            assert torch.equal(buffer, nearer.get_buffer(name)), (x, name)
    result = loss_surface(center, target, images, labels, grid=(3, 1), measures=["loss"])
    assert result.x.tolist() == [-0.5, 0.5, 1.5]
    by_hand = copy.deepcopy(target)
    point = -0.5 * weights(center) + 1.5 * weights(target)
    nn.utils.vector_to_parameters(point, by_hand.parameters())
    assert result.values["loss"][0, 2].item() == pytest.approx(evaluate(by_hand, images, labels).loss, rel=1e-9)
    assert result.target_values["loss"] == evaluate(target, images, labels).loss


def test_models_are_left_alone():
    center, target = cases.resnet8(0), cases.resnet8(1).eval()
    images, labels = cases.data(10, (3, 32, 32), 10)
    before = copy.deepcopy((center.state_dict(), target.state_dict()))
    loss_surface(center, target, images, labels, grid=(2, 1), measures=["loss", "psp_norm"])
    for model, state in zip((center, target), before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert center.training
    assert not target.training
    # Nor does the plane follow what becomes of them.
    plane = Plane(center, target)
    old = weights(center)
    with torch.no_grad():
        center.conv1.weight.zero_()
    assert torch.equal(weights(plane.model_at(0.0)), old)


def test_deterministic_in_the_seed():
    center, target, masks = pruned_pair()
    images, labels = cases.data(12)
    first, again, other = (
        loss_surface(center, target, images, labels, grid=(2, 2), masks=masks, seed=seed) for seed in (0, 0, 1)
    )
    assert list(first.values) == ["loss", "error", "psp_norm", "psp_entropy_1", "psp_entropy_2"]
    for name in first.values:
        assert torch.equal(first.values[name], again.values[name])
    assert not torch.equal(first.values["loss"], other.values["loss"])
    assert first.center_values == other.center_values


def test_batch_size_does_not_matter():
    center, target, _ = pruned_pair()
    images, labels = cases.data(12)
    whole = loss_surface(center, target, images, labels, grid=(2, 2))
    parts = loss_surface(center, target, images, labels, grid=(2, 2), batch_size=5)
    for name in whole.values:
        torch.testing.assert_close(whole.values[name], parts.values[name], rtol=1e-12, atol=0)


def pruned_pair_with_dead_units(build):
    """A pair whose masks leave units without weights, units that nothing reads, and a constant one."""
    center, target = build(0), build(1)
    layers = [name for name, module in center.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    masks = {name: torch.ones_like(parameter) for name, parameter in center.named_parameters()}
    masks[f"{layers[0]}.weight"][0] = 0
    masks[f"{layers[0]}.bias"][0] = 0
    masks[f"{layers[1]}.weight"][:3] = 0
    masks[f"{layers[1]}.bias"][:2] = 0
    masks[f"{layers[2]}.weight"][:, 3] = 0
    with torch.no_grad():
        for model in (center, target):
            for name, mask in masks.items():
                model.get_parameter(name).mul_(mask)
    return center, target, masks


@pytest.mark.parametrize("build", [cases.mlp, cases.conv_net])
@pytest.mark.parametrize("definition", ["joint", "agreement"])
def test_neurons_that_are_not_computed_are_counted(build, definition, monkeypatch):
    center, target, masks = pruned_pair_with_dead_units(build)
    images, labels = cases.data(30)
    computed = []

    def spied(model, *data, **options):
        computed.append(sum(parameter.numel() for parameter in model.parameters()))
        return collect_statistics(model, *data, **options)

    monkeypatch.setattr(_meter, "collect_statistics", spied)
    options = {"masks": masks, "seed": 3, "definition": definition}
    result = loss_surface(center, target, images, labels, grid=(2, 2), measures=tuple(MEASURES), **options)
    whole = sum(parameter.numel() for parameter in center.parameters())
    assert computed[:2] == [whole] * 2  # the ends
    assert all((count < whole - 20) == (definition == "joint") for count in computed[2:])
    plane = Plane(center, target, masks=masks, seed=3)
    for row, y in enumerate(result.y.tolist()):
        for column, x in enumerate(result.x.tolist()):
            for name, value in all_measures(plane.model_at(x, y), images, labels, definition).items():
                assert result.values[name][row, column].item() == pytest.approx(value, rel=1e-12), (name, x, y)


def test_a_layer_whose_neurons_are_all_zero_but_one():
    # What is computed of the first layer is one neuron, so that it has no pairs; the whole has.
    center, target = cases.mlp(0), cases.mlp(1)
    masks = {"1.weight": torch.zeros(6, 12), "1.bias": torch.zeros(6), "3.weight": torch.zeros(4, 6)}
    masks |= {"1.weight": masks["1.weight"].index_fill(0, torch.tensor([2]), 1.0), "3.bias": torch.zeros(4)}
    with torch.no_grad():
        for model in (center, target):
            for name, mask in masks.items():
                model.get_parameter(name).mul_(mask)
    images, labels = cases.data(30)
    result = loss_surface(center, target, images, labels, grid=(2, 1), masks=masks, measures=tuple(MEASURES))
    plane = Plane(center, target, masks=masks)
    for column, x in enumerate(result.x.tolist()):
        for name, value in all_measures(plane.model_at(x), images, labels).items():
            assert result.values[name][0, column].item() == pytest.approx(value, rel=1e-12), name
    assert result.values["psp_entropy_2"].min() > 0


def interrupted_after(points):
    """A progress function that stands for a SIGTERM after so many points."""

    def progress(done, total):
        STOP.raised = done == points

    return progress


@pytest.fixture
def _no_signal():
    yield
    STOP.raised = False


def _goes_on_with_the_first_alone(run, first, other):
    """A map of three points of ``first``, stopped after one, is gone on from by it, and made anew by ``other``."""
    for kind, expected in ((first, [2, 3]), (other, [1, 2, 3])):
        with pytest.raises(Stopped):
            run(first, interrupted_after(1), "map")
        STOP.raised, calls = False, []
        found = run(kind, lambda done, total: calls.append(done), "map")  # noqa: B023
        assert calls == expected
        (measure,) = found.values
        assert torch.equal(found.values[measure], run(kind, None, "other").values[measure])


@pytest.mark.usefixtures("_no_signal")
@pytest.mark.parametrize("bounds", [(0.5, torch.inf), (5.0, 14.0)])
def test_a_stopped_map_knows_a_loss_that_differs_beside_the_ends_alone(bounds, tmp_path):
    """It is another where it is large, or neither small nor large."""
    least, largest = bounds
    ends = [cases.seeded(lambda: nn.Linear(6, 3), seed) for seed in range(2)]
    draws = torch.Generator().manual_seed(0)
    batches = [tuple(torch.randn(23, size, generator=draws, dtype=torch.float64) / 9 for size in (6, 3))]

    def cut(outputs, targets):
        loss = F.mse_loss(outputs, targets)
        return torch.where((least < loss) & (loss < largest), least, loss)

    def run(criterion, **options):
        return loss_surface(*ends, batches, criterion=criterion, grid=(5, 5), span=(-9, 9), **options).values["loss"]

    with pytest.raises(Stopped):
        run(F.mse_loss, resume=tmp_path / "map", progress=interrupted_after(20))
    STOP.raised = False
    found = run(cut, resume=tmp_path / "map")
    assert torch.equal(found, run(cut))
    cuts = found == least
    assert torch.equal(found[~cuts], run(F.mse_loss)[~cuts])
    assert 5 < cuts.sum() < 25


def test_an_axis_of_a_tiny_span_has_points_of_its_own():
    net, (images, labels) = cases.mlp(), cases.data(6)
    options = {"grid": (5, 1), "span": (-5e-10, 5e-10), "directions": [1e9 * torch.ones(121, dtype=torch.float64)]}
    surface = loss_surface_around(net, images, labels, **options)
    assert surface.x.tolist() == pytest.approx([-5e-10, -2.5e-10, 0, 2.5e-10, 5e-10], rel=1e-9)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.5
    assert surface.values["loss"][0, -1] == pytest.approx(evaluate(net, images, labels).loss, rel=1e-9)


class Masked(nn.Module):
    """Its buffer is one value for all places."""

    def __init__(self, value):
        super().__init__()
        self.linear = nn.Linear(6, 3)
        self.register_buffer("mask", torch.full((1, 1), value).double().expand(3, 6))

    def forward(self, x):
        return F.linear(x, self.linear.weight * self.mask)


def test_a_buffer_of_one_value_for_many_places_is_taken():
    center, target = cases.seeded(lambda: Masked(1.0)), cases.seeded(lambda: Masked(2.0), 1)
    x, y = torch.randn(9, 6, dtype=torch.float64), torch.arange(9) % 3
    barrier = loss_barrier(center, target, x, y, points=3)
    ends = [F.cross_entropy(net(x), y).item() for net in (center, target)]
    assert barrier.loss[[0, -1]].tolist() == pytest.approx(ends, rel=1e-12)
    assert [net.mask.stride() for net in (center, target)] == [(0, 0)] * 2
    assert [net.mask.unique().tolist() for net in (center, target)] == [[1.0], [2.0]]
    moved = cases.seeded(lambda: Masked(3.0))
    Plane(center, target, batch_norm="interpolated").move(moved, 0.25, 0.0)
    assert moved.mask.unique().tolist() == [1.25]


@pytest.mark.usefixtures("_no_signal")
def test_a_stopped_map_knows_a_predicate_by_what_it_chooses(tmp_path):
    center, target = cases.conv_net(0), cases.conv_net(1)
    images, labels = cases.data(12)

    def run(kind, progress, file):
        options = {"grid": (3, 1), "measures": ["psp_entropy_1"], "progress": progress, "resume": tmp_path / file}
        return loss_surface(
            center, target, images, labels, activations=lambda module: isinstance(module, kind), **options
        )

    _goes_on_with_the_first_alone(run, nn.Linear, nn.Conv2d)


@pytest.mark.usefixtures("_no_signal")
def test_a_stopped_map_resumes_to_the_same_bits(tmp_path, monkeypatch):
    center, target, masks = pruned_pair(cases.conv_net)
    images, labels = cases.data(12)
    options = {"grid": (3, 2), "masks": masks}
    expected = loss_surface(center, target, images, labels, **options)
    path = tmp_path / "map.resume"
    with pytest.raises(Stopped, match=r"its state is in .*map\.resume"):
        loss_surface(center, target, images, labels, resume=path, progress=interrupted_after(4), **options)
    STOP.raised = False
    # Any other argument makes the file another's: all its points are measured.
    others = ({"seed": 1}, {"batch_size": 5}, {"masks": None}, {"span": (-1.0, 2.0)}, {"measures": ["loss"]})
    calls = []
    for other in others:
        copied = shutil.copy(path, tmp_path / "other.resume")
        changed = {**options, **other, "resume": copied, "progress": lambda done, total: calls.append(done)}
        loss_surface(center, target, images, labels, **changed)
        assert calls == [1, 2, 3, 4, 5, 6], other
        calls.clear()
    result = loss_surface(
        center, target, images, labels, resume=path, progress=lambda done, total: calls.append(done), **options
    )
    assert calls == [5, 6]
    assert not path.exists()
    for name in expected.values:
        assert torch.equal(result.values[name], expected.values[name])
    assert result.center_values == expected.center_values


@pytest.mark.usefixtures("_no_signal")
@pytest.mark.parametrize("measures", [["loss"], ["error"]])
def test_a_stopped_map_of_other_code_is_not_gone_on_from(tmp_path, measures):
    """The weights are the same, and the file tells the nets apart by what they give."""
    images, labels = cases.data(12)

    def run(layer, progress, file):
        center, target = (
            cases.seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 6), layer(), nn.Linear(6, 3)), seed)
            for seed in range(2)
        )
        options = {"grid": (3, 1), "measures": measures, "progress": progress, "resume": tmp_path / file}
        return loss_surface(center, target, images, labels, **options)

    _goes_on_with_the_first_alone(run, nn.ReLU, nn.Tanh)


@pytest.mark.usefixtures("_no_signal")
def test_a_killed_map_goes_on_from_what_was_saved_when_due(tmp_path):
    center, target, _ = pruned_pair()
    images, labels = cases.data(9)
    path = tmp_path / "map.resume"

    def killed(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loss_surface(center, target, images, labels, grid=(3, 2), resume=path, save_every_s=0.0, progress=killed)
    calls = []
    loss_surface(
        center,
        target,
        images,
        labels,
        grid=(3, 2),
        resume=path,
        progress=lambda done, total: calls.append(done),
    )
    assert calls == [3, 4, 5, 6]


@pytest.mark.usefixtures("_no_signal")
def test_sigterm_without_a_resume_file():
    with pytest.raises(Stopped, match="nothing was kept"):
        loss_surface(cases.mlp(0), cases.mlp(1), *cases.data(6), grid=(2, 1), progress=interrupted_after(1))


def test_progress_counts_the_points():
    calls = []
    loss_surface(
        cases.mlp(0),
        cases.mlp(1),
        *cases.data(6),
        grid=(3, 2),
        measures=["loss"],
        progress=lambda done, total: calls.append((done, total)),
    )
    assert calls == [(point, 6) for point in range(1, 7)]


def test_loss_of_a_net_without_relu():
    center, target = (cases.seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), seed) for seed in (0, 1))
    images, labels = cases.data(6)
    result = loss_surface(center, target, images, labels, grid=(1, 1), measures=["loss"])
    assert result.values["loss"].item() == evaluate(center, images, labels).loss


def test_errors():
    center, target, masks = pruned_pair()
    images, labels = cases.data(9)

    def fails(message, center=center, target=target, images=images, labels=labels, **options):
        with pytest.raises(AnalysisError, match=message):
            loss_surface(center, target, images, labels, **options)

    fails("different parameters or buffers", target=cases.conv_net())
    fails("different parameters or buffers", target=copy.deepcopy(target).float())
    fails("the same weights", target=copy.deepcopy(center))
    fails("no measure accuracy; there are loss, error", measures=["loss", "accuracy"])
    fails("no measure given", measures=[])
    fails("no definition 'exact'", definition="exact")
    fails("grid is 0 x 5", grid=(0, 5))
    fails("span is 1.0 to 1.0; it must rise", span=(1.0, 1.0))
    fails("span is inf; give a finite number", span=(0.0, float("inf")))
    fails("9 images but 8 labels", labels=labels[:8])
    fails("labels run from 1 to 3", labels=labels + 1, measures=["loss"])
    fails("masks for other", masks={"other": labels})
    fails("center has weights other than zero where the masks", center=cases.mlp(5), masks=masks)
    fails("target has weights other than zero where the masks", target=cases.mlp(5), masks=masks)
    fails(r"at the point \(0, 0\) of the plane: class 2 has no images", labels=labels % 2)
    fails(
        r"at the point \(-1e\+200, 0\) of the plane: the loss is (nan|inf)",
        grid=(2, 1),
        span=(-1e200, 1e200),
        measures=["loss"],
    )
    broken = copy.deepcopy(target)
    broken[1].bias.data[2] = float("inf")
    fails("parameter 1.bias of the target holds NaN or infinity", target=broken)


class Scaled(nn.Linear):
    """A layer with a setting that its parameters do not show."""

    def __init__(self, scale):
        super().__init__(6, 6)
        self.scale = scale

    def forward(self, x):
        return super().forward(self.scale * x)


@pytest.mark.parametrize(
    ("own", "other"),
    [
        (nn.ReLU, nn.Tanh),
        (lambda: nn.LeakyReLU(0.01), lambda: nn.LeakyReLU(0.02)),
        (nn.GELU, lambda: nn.GELU(approximate="tanh")),
        (lambda: nn.BatchNorm1d(6, eps=1e-5), lambda: nn.BatchNorm1d(6, eps=1e-4)),
        (lambda: Scaled(1.0), lambda: Scaled(1.0001)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_target_of_other_code_is_refused(own, other, dtype):
    """Its weights would be measured in the center's: no number would be its own."""

    def built(seed, layer):
        return cases.seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 6), layer(), nn.Linear(6, 3)), seed).to(
            dtype
        )

    images, labels = cases.data(20)
    images = images.to(dtype)
    center, target, same = built(0, own), built(1, other), built(1, own)
    for net, ok in ((target, False), (same, True)):
        for measure in (
            lambda net: loss_surface(center, net, images, labels, grid=(3, 1), measures=("loss",)),
            lambda net: loss_barrier(center, net, [(images, labels)], points=3),
            lambda net: hessian_along_line(center, net, images, labels, points=2, k=1),
        ):
            if ok:
                measure(net)
            else:
                with pytest.raises(AnalysisError, match="other outputs in the center than in the target"):
                    measure(net)
    surface = loss_surface(center, same, images, labels, grid=(3, 1), measures=("loss",))
    assert surface.target_values["loss"] == evaluate(same, images, labels).loss


def test_no_direction_is_left():
    center, target = (cases.seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(1, 1, bias=False)), s) for s in (0, 1))
    with pytest.raises(AnalysisError, match="no direction is orthogonal"):
        Plane(center, target)
