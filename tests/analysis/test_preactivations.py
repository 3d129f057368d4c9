import pytest
import torch
from torch import nn
from torch.func import functional_call

from sharpminima.analysis import capture_preactivations, preactivations
from sharpminima.errors import AnalysisError

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
    with pytest.raises(AnalysisError, match=r"no nn\.ReLU module.*use nn\.ReLU"):
        single(nn.Flatten(), cases.data(2)[0])


def test_relu_that_runs_twice_is_named_and_the_hooks_are_removed():
    shared = nn.ReLU()
    net = nn.Sequential(nn.Flatten(), shared, nn.Linear(12, 3).double(), shared)
    with pytest.raises(AnalysisError, match=r"ReLU 1 runs twice.*its own nn\.ReLU"):
        single(net, cases.data(2)[0])
    assert not shared._forward_pre_hooks
    assert net.training
