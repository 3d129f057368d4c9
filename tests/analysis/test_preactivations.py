import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from sharpminima.analysis import capture_preactivations, preactivations
from sharpminima.base.errors import AnalysisError
from sharpminima.nets.activations import kind_of

from . import cases


def single(model, images, **options):
    (item,) = preactivations(model, images, **options)
    return item


def test_mlp_by_hand():
    net = cases.mlp()
    images, _ = cases.data(5)
    layers, logits = single(net, images)
    first = images.flatten(1) @ net[1].weight.T + net[1].bias
    second = first.clamp(min=0) @ net[3].weight.T + net[3].bias
    assert list(layers) == ["2", "4"]
    torch.testing.assert_close(layers["2"], first)
    torch.testing.assert_close(layers["4"], second)
    torch.testing.assert_close(logits, net(images))
    assert not layers["2"].requires_grad
    assert not logits.requires_grad


def test_in_place_relu_does_not_spoil_the_input():
    net = cases.conv_net()
    images, _ = cases.data(5)
    layers, _ = single(net, images)
    assert (layers["first"] < 0).any()
    torch.testing.assert_close(layers["first"], net.conv(images).flatten(1))


def test_convolution_neurons_are_channel_row_column():
    net = cases.lenet5()
    images, _ = cases.data_for("lenet5", 3)
    layers, _ = single(net.to(memory_format=torch.channels_last), images)
    assert {name: z.shape[1] for name, z in layers.items()} == {"relu1": 11520, "relu2": 3200, "relu3": 500}
    channel, row, column = 7, 3, 20
    neuron = (channel * 24 + row) * 24 + column
    torch.testing.assert_close(layers["relu1"][:, neuron], net.conv1(images)[:, channel, row, column])


def test_resnet_layers_in_order_of_the_forward_pass():
    net = cases.resnet8()
    images, _ = cases.data(2, (3, 32, 32), 10)
    layers, _ = single(net, images)
    assert list(layers) == [
        "relu",
        *(f"stage{stage}.0.{relu}" for stage in (1, 2, 3) for relu in ("relu1", "relu2")),
    ]
    net.eval()
    torch.testing.assert_close(layers["relu"], net.bn1(net.conv1(images)).flatten(1))
    assert layers["stage3.0.relu2"].shape == (2, 64 * 8 * 8)


def test_order_of_first_call_not_of_definition():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.late, self.early, self.flat = nn.ReLU(), nn.ReLU(), nn.Flatten()

        def forward(self, images):
            return self.late(self.early(self.flat(images)) - 1)

    layers, _ = single(Backwards(), cases.data(2)[0])
    assert list(layers) == ["early", "late"]


def test_batches_join_to_the_whole():
    net = cases.mlp()
    images, _ = cases.data(7)
    whole, logits = single(net, images)
    parts = list(preactivations(net, images, batch_size=3))
    assert [len(part[1]) for part in parts] == [3, 3, 1]
    torch.testing.assert_close(torch.cat([part[0]["4"] for part in parts]), whole["4"])
    torch.testing.assert_close(torch.cat([part[1] for part in parts]), logits)


def test_under_functional_call():
    net, other = cases.mlp(0), cases.mlp(1)
    images, _ = cases.data(4)
    seen = {}
    with capture_preactivations(net, lambda name, z: seen.update({name: z.clone()})):
        functional_call(net, dict(other.named_parameters()), (images,))
    expected, _ = single(other, images)
    torch.testing.assert_close(seen, expected)


def test_modes_are_restored_and_hooks_removed():
    net = cases.resnet8().train()
    net.bn1.eval()
    before = {name: module.training for name, module in net.named_modules()}
    statistics = net.stage1[0].bn1.running_mean.clone()
    single(net, cases.data(2, (3, 32, 32), 10)[0])
    assert {name: module.training for name, module in net.named_modules()} == before
    assert torch.equal(net.stage1[0].bn1.running_mean, statistics)
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_no_relu():
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3).double())
    with pytest.raises(AnalysisError, match="no ReLU runs in the model's forward pass"):
        single(net, cases.data(2)[0])
    assert net.training
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in net.modules())


RELUS = {
    "F.relu": F.relu,
    "F.relu in place": lambda x: F.relu(x, inplace=True),
    "F.relu with a name": lambda x: F.relu(input=x),
    "F.relu_": F.relu_,
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "Tensor.relu": lambda x: x.relu(),
    "Tensor.relu_": lambda x: x.relu_(),
}


class Block(nn.Module):
    """A residual block with a functional ReLU twice, and with an nn.ReLU."""

    def __init__(self, relu):
        super().__init__()
        self.first, self.second = nn.Linear(12, 12), nn.Linear(12, 12)
        self.act, self.function = nn.ReLU(), relu

    def forward(self, x):
        hidden = self.act(self.second(self.function(self.first(x))))
        return self.function(hidden - x)


@pytest.mark.parametrize("relu", RELUS.values(), ids=RELUS)
def test_functional_relus_of_a_residual_net(relu):
    net = cases.seeded(lambda: nn.Sequential(nn.Flatten(), Block(relu), Block(relu), nn.Linear(12, 3)))
    images, _ = cases.data(5)
    layers, logits = single(net, images)
    assert list(layers) == ["1.relu", "1.act", "1.relu_1", "2.relu", "2.act", "2.relu_1"]
    x = images.flatten(1)
    for name in ("1", "2"):
        block = net[int(name)]
        first = block.first(x)
        second = block.second(first.clamp(min=0))
        third = second.clamp(min=0) - x
        for key, expected in ((f"{name}.relu", first), (f"{name}.act", second), (f"{name}.relu_1", third)):
            torch.testing.assert_close(layers[key], expected)
        x = third.clamp(min=0)
    torch.testing.assert_close(logits, net[3](x))


def test_every_name_of_an_activation_is_known():
    of_modules = {
        *("celu", "elu", "gelu", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "logsigmoid"),
        *("mish", "prelu", "relu", "relu6", "rrelu", "selu", "sigmoid", "silu", "softplus", "softshrink", "softsign"),
        *("tanh", "tanhshrink", "threshold", "expit"),
    }
    unknown = [
        f"{getattr(place, '__name__', place)}.{name}"
        for place in (F, torch, torch.special, torch.Tensor)
        for each in of_modules
        for name in (each, f"{each}_")
        if hasattr(place, name) and kind_of(getattr(place, name), (torch.ones(2),), {}) is None
    ]
    assert not unknown


@pytest.mark.parametrize(
    "activation",
    [F.selu_, F.celu_, F.rrelu_, lambda x: x.prelu(x.new_full((1,), 0.5)), lambda x: x.hardshrink()],
    ids=["selu", "celu", "rrelu", "prelu", "hardshrink"],
)
def test_activations_in_place_and_as_methods_count_too(activation, request):
    net = nn.Sequential(nn.Flatten(), Block(activation), nn.Linear(12, 3)).double()
    with pytest.warns(UserWarning, match=r"left out are those of 1\." + request.node.callspec.id):
        single(net, cases.data(2)[0])
    layers, _ = single(net, cases.data(2)[0], activations="all")
    assert len(layers) == 3


def test_a_relu_that_runs_several_times_in_a_pass():
    shared = nn.ReLU(inplace=True)
    net = cases.seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 12), shared, nn.Linear(12, 3), shared))
    images, _ = cases.data(7)
    for layers, logits in preactivations(net, images, batch_size=4):
        assert list(layers) == ["2", "2_1"]
        torch.testing.assert_close(layers["2_1"].clamp(min=0), logits)


def test_names_of_modules_are_not_given_to_functional_relus():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.relu, self.relu_2, self.flat = nn.ReLU(), nn.Identity(), nn.Flatten()

        def forward(self, images):
            hidden = self.flat(images).relu() - 1
            hidden = self.relu(hidden + 2) - 3
            return self.relu(hidden).relu()

    layers, _ = single(Net(), cases.data(2)[0])
    assert list(layers) == ["relu_1", "relu", "relu_3", "relu_4"]


def test_a_pass_that_fails_leaves_nothing_behind():
    net = cases.mlp()
    images, _ = cases.data(3)
    seen = []
    with capture_preactivations(net, lambda name, z: seen.append(name)):
        with pytest.raises(RuntimeError):
            net(images[:, :, :2])
        net(images)
        torch.relu(images)  # outside of the model
    assert seen == ["2", "4"]


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_what_is_compiled_is_named():
    images, _ = cases.data(2)
    images = images.float()
    relu = nn.ReLU()
    traced = torch.jit.trace(relu, images.flatten(1))
    with pytest.raises(AnalysisError, match=r"module 1 of the model is compiled.*give the model that it was made from"):
        single(nn.Sequential(nn.Flatten(), traced), images)
    relu.compile(backend="eager")
    with pytest.raises(AnalysisError, match="the model is compiled"):
        single(relu, images)
    with pytest.raises(AnalysisError, match="the model is compiled"):
        single(torch.compile(nn.Flatten(), backend="eager"), images)
