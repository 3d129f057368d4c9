from dataclasses import replace

import pytest
import torch
from torch import nn

from sharpminima.base.errors import ConfigError
from sharpminima.catalogue.models import Model
from sharpminima.nets.compaction import removable_units
from sharpminima.nets.counts import count_net
from sharpminima.nets.models import MODELS, build_model
from sharpminima.testing.models import check_facts, check_gradients, check_outputs, check_seed, check_without_units

COUNTS = {
    "lenet300": 266_610,
    "lenet5": 431_080,
    # The biases of 20 and 50 filters less, two BatchNorm parameters a filter more.
    "lenet5-bn": 431_080 + 20 + 50,
    "lenet3": 61_706,
    "mlp3x400": 637_600 + 3 * 400 + 10,
    "conv2": 4_301_642,
    "conv4": 2_425_930,
    "conv6": 2_262_602,
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
    "resnet20-projection": 272_282,
    "resnet56-projection": 855_578,
    "resnet110-projection": 1_730_522,
    "wrn16-4": 2_748_890,
    "wrn16-8": 10_961_370,
    "wrn28-10": 36_479_194,
    "vgg13": 9_413_066,
    "vgg16": 14_724_042,
    "vgg19": 20_035_018,
}
LARGE = ("wrn28-10", "wrn16-8", "vgg19", "vgg16")


def test_every_model_is_counted():
    assert list(COUNTS) == list(MODELS)


@pytest.mark.parametrize(("name", "count"), COUNTS.items())
def test_parameter_counts(name, count):
    assert sum(p.numel() for p in build_model(name).parameters()) == count


def test_kernel_weights_of_mlp3x400():
    layers = [m for m in build_model("mlp3x400").modules() if isinstance(m, nn.Linear)]
    assert sum(layer.weight.numel() for layer in layers) == 637_600


@pytest.mark.parametrize("name", [name for name in MODELS if name not in LARGE])
@pytest.mark.parametrize("classes", [10, 7])
def test_one_output_a_class(name, classes):
    check_outputs(MODELS[name], classes)


@pytest.mark.parametrize("name", MODELS)
def test_the_catalogue_says_what_the_built_net_is(name):
    check_facts(MODELS[name])
    assert MODELS[name].facts is MODELS[name].known


@pytest.mark.parametrize("name", ["lenet300", "lenet5", "lenet5-bn", "lenet3", "mlp3x400", "resnet20", "wrn16-4"])
def test_every_parameter_has_a_gradient(name):
    check_gradients(MODELS[name])


def test_facts_that_the_catalogue_lacks_are_those_of_the_built_net():
    unknown = replace(MODELS["resnet20"], name="other", known=None)
    assert unknown.facts == MODELS["resnet20"].known


def test_a_linear_layer_multiplies_at_each_row_of_an_image():
    """Of 7 rows of 9 pixels each, 2 units take all 9."""
    facts = Model("rows", (1, 7, 9), lambda num_classes: nn.Sequential(nn.Linear(9, 2), nn.Flatten())).facts
    assert (facts.multiplications, facts.outputs, facts.has_units) == (7 * 9 * 2, 7 * 2, False)


def test_a_net_that_cannot_be_traced_has_no_units():
    class Untraceable(nn.Sequential):
        def forward(self, images):
            return super().forward(images[: len(images)])

    def build(num_classes):
        return Untraceable(nn.Flatten(), nn.Linear(784, 5), nn.ReLU(), nn.Linear(5, num_classes))

    facts = Model("untraceable", (1, 28, 28), build).facts
    assert (facts.parameters, facts.multiplications, facts.outputs) == (3985, 3970, 15)
    assert not facts.has_units


@pytest.mark.parametrize("name", [name for name in MODELS if name not in LARGE])
def test_seed_alone_decides(name):
    check_seed(MODELS[name])
    torch.manual_seed(1)
    first = build_model(name, seed=3).state_dict()
    torch.manual_seed(2)
    again = build_model(name, seed=3).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)


def test_global_random_state_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    build_model("lenet5", seed=9)
    assert torch.equal(torch.rand(3), expected)


def test_unknown_model():
    with pytest.raises(ConfigError, match="no model 'lenet4'; there are lenet300"):
        build_model("lenet4")


def hidden_neurons(name):
    """Outputs of each ReLU for one image."""
    model, sizes = build_model(name).eval(), []
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(lambda _module, _inputs, output: sizes.append(output.numel()))
    model(torch.zeros(1, *MODELS[name].shape))
    return sizes


def test_hidden_neurons():
    assert hidden_neurons("lenet300") == [300, 100]
    assert hidden_neurons("lenet5") == [11_520, 3_200, 500]
    assert hidden_neurons("mlp3x400") == [400, 400, 400]
    assert hidden_neurons("resnet32") == [16 * 32**2] * 11 + [32 * 16**2] * 10 + [64 * 8**2] * 10


def test_resnet_shortcut_is_option_a():
    """Without the residual branches every stage hands on its input: subsampled, zeros on both sides."""
    model = build_model("resnet32").eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bn2.weight"):
            nn.init.zeros_(parameter)
    features = torch.rand(2, 16, 32, 32)
    out = model.stage3(model.stage2(model.stage1(features)))
    assert torch.equal(out[:, 24:40], features[:, :, ::4, ::4])
    assert not out[:, :24].any()
    assert not out[:, 40:].any()


def test_batchnorm_is_configurable():
    norms = [m for m in build_model("vgg13", bn_momentum=0.01, bn_eps=1e-3).modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 10
    assert {(m.momentum, m.eps) for m in norms} == {(0.01, 1e-3)}
    plain = next(m for m in build_model("resnet20").modules() if isinstance(m, nn.BatchNorm2d))
    assert (plain.momentum, plain.eps) == (0.1, 1e-5)


@pytest.mark.parametrize(
    ("name", "layers"),
    [("lenet3", 4), ("conv4", 6), ("vgg13", 10), ("resnet20", 12), ("resnet20-projection", 12), ("wrn16-4", 10)],
)
def test_units_can_be_left_out_alone_or_joined_by_shortcuts(name, layers):
    """One group a layer within a block; one a width for what the shortcuts of a ResNet join."""
    assert len(removable_units(build_model(name))) == layers


@pytest.mark.parametrize(
    "name", ["lenet3", "lenet5-bn", "conv2", "vgg13", "resnet20", "resnet20-projection", "wrn16-4"]
)
def test_a_net_without_some_units_computes_the_same(name):
    check_without_units(MODELS[name])


@pytest.mark.parametrize("name", ["lenet3", "lenet5-bn", "conv2", "vgg13", "resnet20-projection", "wrn16-4"])
def test_live_paths_of_a_full_net_are_all_its_parameters(name):
    """A fresh net: shifts of BatchNorm start at 0, and count as removed."""
    model = build_model(name)
    found = count_net(model, MODELS[name].shape)
    shifts = sum(m.bias.numel() for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    assert found.parameters == COUNTS[name]
    assert found.effective == found.nonzero == COUNTS[name] - shifts
