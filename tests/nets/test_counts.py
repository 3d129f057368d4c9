import json
from dataclasses import asdict
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

from sharpminima.base.errors import AnalysisError
from sharpminima.nets.counts import count_net
from sharpminima.nets.masks import prunable_parameters
from sharpminima.nets.models import MODELS, build_model
from sharpminima.nets.models.resnet import ResNetCifar


def with_weights(layer, weight, bias=None):
    layer.weight.data = torch.tensor(weight, dtype=torch.float32).view_as(layer.weight)
    if layer.bias is not None:
        layer.bias.data = torch.tensor(bias, dtype=torch.float32)
    return layer


def filled(model, value=1.0):
    """``model`` with all parameters the same, BatchNorm's shifts too."""
    for parameter in model.parameters():
        nn.init.constant_(parameter, value)
    return model


@pytest.mark.parametrize(
    ("name", "parameters", "multiply_adds"),
    [
        ("lenet300", 266_610, 784 * 300 + 300 * 100 + 100 * 10),
        ("lenet5", 431_080, 24**2 * 20 * 25 + 8**2 * 50 * 20 * 25 + 800 * 500 + 500 * 10),
        ("mlp3x400", 638_810, 637_600),
        (
            "resnet32",
            464_154,
            # 3 n - 2 places a row of taps over n pixels padded by 1; 3 n / 2 - 1 at stride 2 over n.
            94**2 * 16 * (3 + 10 * 16)
            + (47**2 * 16 + 46**2 * 9 * 32) * 32
            + (23**2 * 32 + 22**2 * 9 * 64) * 64
            + 64 * 10,
        ),
    ],
)
def test_dense_nets(name, parameters, multiply_adds):
    model = filled(build_model(name))
    found = count_net(model, MODELS[name].shape)
    assert found.parameters == found.nonzero == found.effective == parameters
    assert (
        found.prunable
        == found.nonzero_prunable
        == sum(dict(model.named_parameters())[n].numel() for n in prunable_parameters(model))
    )
    assert found.compression == 1.0
    assert found.flops_dense == found.flops_nonzero == found.flops_effective == 2 * multiply_adds
    assert list(found.density_per_layer) == prunable_parameters(model)
    assert set(found.density_per_layer.values()) == {1.0}


def test_units_that_are_dead_or_fed_by_bias_alone():
    """2-3-2: unit 0 is live; unit 1 has a bias but no input; unit 2 has no way out; output 1 is as unit 1."""
    model = nn.Sequential(
        with_weights(nn.Linear(2, 3), [[2, 0], [0, 0], [3, -4]], [5, 6, 7]),
        nn.ReLU(),
        with_weights(nn.Linear(3, 2), [[-1, 8, 0], [0, 0, 0]], [9, 10]),
    )
    found = count_net(model, (2,))
    assert found.parameters == found.prunable == 17
    assert found.nonzero == 3 + 3 + 2 + 2
    assert found.effective == len(["2", "5", "-1", "9"])
    assert found.compression == 1.7
    assert (found.flops_dense, found.flops_nonzero, found.flops_effective) == (24, 10, 4)
    assert found.density_per_layer == {"0.weight": 0.5, "0.bias": 1.0, "2.weight": 2 / 6, "2.bias": 1.0}


def test_masks_remove_whatever_the_value():
    model = filled(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)))
    masks = {"0.weight": torch.tensor([[True, False], [False, False]])}
    found = count_net(model, (2,), masks=masks)
    assert found.nonzero == 9 - 3
    assert found.effective == len(["0.weight", "0.bias", "2.weight", "2.bias"])
    assert found.density_per_layer["0.weight"] == 0.25


def test_a_cut_net_has_nothing_effective():
    model = filled(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)))
    nn.init.zeros_(model[2].weight)
    found = count_net(model, (2,))
    assert (found.nonzero, found.effective, found.flops_effective) == (7, 0, 0)


def test_an_empty_net_has_no_compression():
    found = count_net(filled(nn.Sequential(nn.Linear(2, 1)), 0.0), (2,))
    assert found.nonzero == found.effective == 0
    assert found.compression is None
    json.dumps(asdict(found), allow_nan=False)


def test_padding_and_stride():
    """3x3 taps, padding 1, stride 2 over 4x4: rows 0, 1, 2 of the kernel meet a pixel 1, 2, 2 times."""
    model = filled(nn.Conv2d(1, 1, 3, stride=2, padding=1, bias=False))
    assert count_net(model, (1, 4, 4)).flops_dense == 2 * 5 * 5
    corner = with_weights(model, [[1, 0, 0], [0, 0, 0], [0, 0, 1]])
    found = count_net(corner, (1, 4, 4))
    assert (found.nonzero, found.effective) == (2, 2)
    assert found.flops_effective == 2 * (1 * 1 + 2 * 2)


def test_a_tap_that_meets_padding_only_is_not_effective():
    found = count_net(filled(nn.Conv2d(2, 3, 3, padding=1, bias=False)), (2, 1, 1))
    assert (found.nonzero, found.effective) == (54, 6)
    assert found.flops_dense == found.flops_effective == 2 * 6


def test_groups_dilation_and_same_padding():
    """Dilation 2 over 4x4, padded by 2: taps meet 2, 4 and 2 pixels of a row; 2 groups of 2 channels."""
    model = filled(nn.Conv2d(4, 6, 3, dilation=2, padding="same", groups=2, bias=False))
    assert count_net(model, (4, 4, 4)).flops_dense == 2 * 6 * 2 * 8 * 8


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1)])
def test_every_input_of_a_pooling_window_can_act(pool):
    """3x3 taps, padding 1, over 2x2, one window: each of the 9 taps meets a pixel at one of the 4 places."""
    model = filled(nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.ReLU(), pool, nn.Flatten(), nn.Linear(1, 1)))
    assert count_net(model, (1, 2, 2)).effective == 9 + 1 + 1 + 1


def test_channels_that_die_in_a_batchnorm():
    """Two channels; the second has gamma 0, so that its shift is a constant."""
    model = filled(nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.BatchNorm2d(2), nn.ReLU(), nn.Conv2d(2, 1, 1)))
    model[1].weight.data[1] = 0
    found = count_net(model, (1, 3, 3))
    assert (found.parameters, found.nonzero) == (9, 8)
    assert found.effective == len(["first kernel", "gamma", "beta", "last kernel", "last bias"])
    assert found.prunable == 5


def test_a_negative_gamma_and_running_statistics_change_nothing():
    model = filled(nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.ReLU(), nn.Conv2d(2, 1, 1)), -1.0)
    model[1].running_mean.fill_(100.0)
    assert count_net(model, (1, 3, 3)).effective == 11


class Residual(nn.Module):
    """x + f(x) between two layers of one unit; f has three units."""

    def __init__(self):
        super().__init__()
        self.first, self.inner, self.outer, self.last = (nn.Linear(*s) for s in ((1, 1), (1, 3), (3, 1), (1, 1)))
        self.relu = nn.ReLU()

    def forward(self, x):
        x = self.first(x)
        return self.last(self.relu(x + self.outer(self.relu(self.inner(x)))))


@pytest.mark.parametrize(
    ("cut", "effective"),
    [
        (None, 2 + 6 + 4 + 2),
        ("inner.weight", 2 + 2),  # the shortcut keeps first and last; the inner units have biases alone
        ("outer.weight", 2 + 2),
        ("first.weight", 0),
    ],
)
def test_shortcut(cut, effective):
    model = filled(Residual())
    if cut:
        nn.init.zeros_(model.get_parameter(cut))
    assert count_net(model, (1,)).effective == effective


def test_resnet_without_a_branch():
    """A block whose branch is cut hands on its shortcut: 16 channels, and 16 new ones without a path."""
    model = filled(ResNetCifar(8))
    block = model.stage2[0]
    nn.init.zeros_(block.conv2.weight)
    branch = sum(p.numel() for p in block.parameters())
    kernels_that_see_new_channels = 3 * 3 * 16 * 64
    found = count_net(model, (3, 32, 32))
    assert found.nonzero == found.parameters - 3 * 3 * 32 * 32
    assert found.effective == found.parameters - branch - kernels_that_see_new_channels


def test_depth_does_not_overflow():
    layers = [layer for _ in range(200) for layer in (nn.Linear(60, 60), nn.ReLU())]
    found = count_net(filled(nn.Sequential(*layers)), (60,))
    assert found.effective == found.parameters == 200 * 61 * 60


@pytest.mark.parametrize(
    ("norm", "images"), [(nn.BatchNorm1d(3), (2,)), (nn.BatchNorm1d(3).requires_grad_(False), (2,))]
)
def test_a_batchnorm_behind_a_linear_layer_cuts_as_one_behind_a_convolution(norm, images):
    model = filled(nn.Sequential(nn.Linear(2, 3), norm, nn.ReLU(), nn.Linear(3, 1)))
    assert count_net(model, images).effective == 6 + 3 + 3 + 3 + 3 + 1
    norm.weight.data[1] = 0
    assert count_net(model, images).effective == 4 + 2 + 2 + 2 + 2 + 1


class Functional(nn.Module):
    """Two layers of 2 units on two pixels, joined by a function, and one that reads so many values."""

    def __init__(self, join, read=2):
        super().__init__()
        self.a, self.b, self.last, self.join = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(read, 1), join
        self.register_buffer("shift", torch.tensor([0.0, -3.0]))

    def forward(self, x):
        return self.last(self.join(self, self.a(x), self.b(x)))


ALL = 6 + 6 + 3


@pytest.mark.parametrize(
    ("join", "effective"),
    [
        (lambda net, a, b: F.relu(a - b), ALL),
        (lambda net, a, b: F.relu(torch.sub(a, b, alpha=2)), ALL),
        (lambda net, a, b: a.clone().sub_(b).relu_(), ALL),
        (lambda net, a, b: a + b.flip(1), ALL),
        (lambda net, a, b: 1 - (a + 2) * 3 / 4, 6 + 3),
        (lambda net, a, b: -a + net.shift, 6 + 3),
        (lambda net, a, b: a * net.shift, 3 + 2),
        (lambda net, a, b: a * 0 + b, 6 + 3),
        (lambda net, a, b: F.dropout(a, training=net.training) * b, ALL),
        (lambda net, a, b: torch.stack([a, b]).mean(0), ALL),
        (lambda net, a, b: torch.cat([a[:, :1], b[:, 1:]], 1), 3 + 3 + 3),
        (lambda net, a, b: torch.cat([a[:, :1], torch.ones(1, 1)], 1), 3 + 2),
        (lambda net, a, b: F.pad(a[:, 1:], (1, 0)), 3 + 2),
        (lambda net, a, b: F.gelu(a.float()).to(b) + torch.sigmoid(b).clamp(0.1, 0.9), ALL),
        (lambda net, a, b: F.layer_norm(a, (2,)), 6 + 3),
        (lambda net, a, b: F.gelu(input=a) + F.layer_norm(input=b, normalized_shape=(2,)), ALL),
        (
            lambda net, a, b: F.max_pool2d(torch.stack([a, b], 1)[None], (2, 1))[0, :, 0] + 0 * a.view(a.size(0), -1),
            ALL,
        ),
    ],
)
def test_functions_whose_paths_are_known(join, effective):
    model = filled(Functional(join))
    assert count_net(model, (2,)).effective == effective
    nn.init.zeros_(model.a.weight)
    nn.init.zeros_(model.b.weight)
    assert count_net(model, (2,)).effective == 0  # constants alone reach nothing


@pytest.mark.parametrize(
    ("join", "name"),
    [
        (lambda net, a, b: F.softmax(a @ b.T, 1) @ b, "matmul"),
        (lambda net, a, b: F.prelu(a, net.shift[:1]), "prelu"),
        (lambda net, a, b: a.clamp(max=b), "clamp"),
        (lambda net, a, b: torch.maximum(a, b), "maximum"),
        (lambda net, a, b: a / b, "div"),
        (lambda net, a, b: F.linear(a, net.b.weight), "linear"),
        (lambda net, a, b: F.pad(a, (1, 0), value=1.0)[:, :2], "pad"),
        (lambda net, a, b: a.detach() + b, "detach"),
    ],
)
def test_functions_that_would_be_counted_wrongly_are_refused(join, name):
    model = filled(Functional(join))
    with pytest.raises(AnalysisError, match=rf"function '{name}': its live paths are not known"):
        count_net(model, (2,))
    found = count_net(model, (2,), unknown_paths=True)
    assert (found.effective, found.flops_effective) == (None, None)
    assert (found.parameters, found.nonzero, found.flops_dense, found.flops_nonzero) == (15, 15, 20, 20)
    json.dumps(asdict(found), allow_nan=False)


def test_what_is_wrong_is_said_of_nets_of_unknown_paths_too():
    model = nn.Sequential(nn.Linear(3, 2), nn.PReLU(), nn.Linear(2, 1))
    assert count_net(model, (3,), unknown_paths=True).flops_dense == 16
    for shape, masks in (((2,), None), ((3,), {"9.weight": torch.ones(1)})):
        with pytest.raises(AnalysisError, match=r"cannot take images|which the model does not have"):
            count_net(model, shape, masks, unknown_paths=True)


def test_parts_out_of_sight_are_refused():
    def without_gradients(net, a, b):
        with torch.no_grad():
            return net.b(b)

    def written_into(net, a, b):
        return torch.zeros_like(a).add_(a)

    for join, says in ((without_gradients, "without gradients"), (written_into, "'add_' on a constant")):
        with pytest.raises(AnalysisError, match=rf"{says}: its live paths are not known"):
            count_net(filled(Functional(join)), (2,))


def test_a_layer_that_computes_something_of_its_own_is_refused():
    class Squared(nn.Linear):
        def forward(self, x):
            return super().forward(x) ** 2

    with pytest.raises(AnalysisError, match=r"layer '0' \(Squared.*its live paths are not known"):
        count_net(nn.Sequential(Squared(2, 2)), (2,))


@pytest.mark.parametrize(
    "layer", [nn.GELU(), nn.Sigmoid(), nn.Tanh(), nn.Softplus(), nn.LeakyReLU(), nn.Hardtanh(), nn.ReLU6(inplace=True)]
)
def test_a_unit_without_inputs_is_on_no_path_whatever_its_activation_makes_of_0(layer):
    """Unit 0 of four has no input, unit 1 no output; two have both: 2 x 2 weights to each side, shifts of theirs."""
    model = filled(nn.Sequential(nn.Linear(2, 4), layer, nn.Linear(4, 2)))
    with torch.no_grad():
        model[0].weight[0] = 0
        model[2].weight[:, 1] = 0
    assert count_net(model, (2,)).effective == 4 + 2 + 4 + 2


@pytest.mark.parametrize(("norm", "reached"), [(nn.LayerNorm(4), 4), (nn.GroupNorm(2, 4), 2), (nn.GroupNorm(4, 4), 1)])
def test_a_normalisation_over_units_joins_the_paths_of_all(norm, reached):
    """The output reads unit 0 alone, which depends on so many others: each of two weights and a shift."""
    model = filled(nn.Sequential(nn.Linear(2, 4), norm, nn.Linear(4, 1)))
    with torch.no_grad():
        model[2].weight[0, 1:] = 0
    assert count_net(model, (2,)).effective == 3 * reached + 2 + 2  # scale and shift of unit 0, the output's two
    nn.init.zeros_(norm.weight)
    assert count_net(model, (2,)).effective == 0  # constants alone reach the output


def test_the_model_is_not_changed():
    model = build_model("resnet32")
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    forwards = [vars(module).get("forward") for module in model.modules()]
    with torch.no_grad():
        count_net(model, MODELS["resnet32"].shape)
    assert model.training
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert [vars(module).get("forward") for module in model.modules()] == forwards
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    "layer",
    [
        nn.PReLU(),
        nn.InstanceNorm2d(1),
        nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"),
        nn.MaxPool2d(2, dilation=2),
    ],
)
def test_layers_that_would_be_counted_wrongly_are_refused(layer):
    with pytest.raises(AnalysisError, match=r"layer '0' \(.*its live paths are not known"):
        count_net(nn.Sequential(layer), (1, 4, 4))


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_effective_lies_between_nothing_and_nonzero(name):
    model = build_model(name)
    draws = torch.Generator().manual_seed(0)
    parameters = dict(model.named_parameters())
    masks = {n: torch.rand(parameters[n].shape, generator=draws) < 0.02 for n in prunable_parameters(model)}
    found = count_net(model, MODELS[name].shape, masks)
    assert 0 < found.effective < found.nonzero < found.parameters
    assert 0 < found.flops_effective < found.flops_nonzero < found.flops_dense
    json.dumps(asdict(found), allow_nan=False)


def effective_by_search(weights, biases):
    """Count effective parameters of an MLP by walking every path from every input to every output."""
    layers = len(weights)
    live_weights, live_units = set(), set()

    def walk(layer, unit, path):
        if layer == layers:
            live_weights.update(path)
            live_units.update((step[0], step[1]) for step in path)
            return
        for nxt in range(len(weights[layer])):
            if weights[layer][nxt][unit] != 0:
                walk(layer + 1, nxt, [*path, (layer, nxt, unit)])

    for unit in range(len(weights[0][0])):
        walk(0, unit, [])
    return len(live_weights) + sum(biases[layer][unit] != 0 for layer, unit in live_units)


@given(
    widths=st.lists(st.integers(1, 4), min_size=2, max_size=5),
    density=st.floats(0.1, 0.9),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=150)
def test_random_mlps_agree_with_path_search(widths, density, seed):
    draws = torch.Generator().manual_seed(seed)
    linear = [nn.Linear(*pair) for pair in pairwise(widths)]
    for parameter in (p for layer in linear for p in layer.parameters()):
        kept = torch.rand(parameter.shape, generator=draws) < density
        parameter.data = torch.randn(parameter.shape, generator=draws) * kept
    model = nn.Sequential(*[module for layer in linear for module in (layer, nn.ReLU())][:-1])
    expected = effective_by_search(
        [layer.weight.tolist() for layer in linear], [layer.bias.tolist() for layer in linear]
    )
    assert count_net(model, (widths[0],)).effective == expected


def small() -> nn.Sequential:
    return filled(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)))


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32])
def test_masks_of_any_dtype(dtype):
    found = count_net(small(), (2,), {"0.weight": torch.tensor([[1, 0], [1, 1]]).to(dtype)})
    assert found.nonzero == found.parameters - 1


def test_what_cannot_be_counted_is_refused_with_the_reason():
    pruned = small()
    prune.l1_unstructured(pruned[0], "weight", 0.5)
    twice = nn.Sequential(nn.Linear(2, 2), nn.Identity())
    twice[1].forward = lambda x: (x, x)
    for model, options, message in (
        (small(), {"masks": {"9.weight": torch.ones(1)}}, "masks for 9.weight, which the model does not have"),
        (small(), {"masks": {"0.weight": torch.ones(2)}}, r"mask of 0.weight has shape \[2\]"),
        (small(), {"masks": {"0.bias": torch.full((2,), 0.5)}}, "mask of 0.bias holds other values than 0 and 1"),
        (pruned, {}, "layer '0' computes its weight from weight_orig.*prune.remove"),
        (parametrizations.weight_norm(nn.Linear(2, 1)), {}, "computes its weight from"),
        (small().to("meta"), {}, "on the meta device"),
        (nn.Sequential(nn.Linear(3, 1)), {}, r"cannot take images of \[2\]"),
        (twice, {}, r"cannot take images of \[2\]"),
    ):
        with pytest.raises(AnalysisError, match=message):
            count_net(model, (2,), **options)


def test_a_shared_parameter_counts_once_and_works_in_each_layer():
    tied = filled(nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2, bias=False)))
    tied[2].weight = tied[0].weight
    found = count_net(tied, (2,))
    assert (found.parameters, found.effective, found.flops_dense) == (4, 4, 16)


def test_counts_in_any_mode_of_the_caller():
    with torch.inference_mode():
        assert count_net(small(), (2,)).effective == 9
