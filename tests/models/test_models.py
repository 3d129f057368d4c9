import pytest
import torch
from torch import nn

from sharpminima.errors import ConfigError
from sharpminima.models import INPUT_SHAPES, MODELS, build_model


@pytest.mark.parametrize(("name", "count"), [("lenet300", 266_610), ("lenet5", 431_080), ("resnet32", 464_154)])
def test_parameter_counts(name, count):
    assert sum(p.numel() for p in build_model(name).parameters()) == count


def test_kernel_weights_of_mlp3x400():
    layers = [m for m in build_model("mlp3x400").modules() if isinstance(m, nn.Linear)]
    assert sum(layer.weight.numel() for layer in layers) == 637_600


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("classes", [10, 7])
def test_output_shape(name, classes):
    model = build_model(name, num_classes=classes).eval()
    assert model(torch.zeros(3, *INPUT_SHAPES[name])).shape == (3, classes)


def test_every_model_has_an_input_shape():
    assert list(MODELS) == list(INPUT_SHAPES)


@pytest.mark.parametrize("name", MODELS)
def test_seed_alone_decides(name):
    torch.manual_seed(1)
    first = build_model(name, seed=3).state_dict()
    torch.manual_seed(2)
    again, other = build_model(name, seed=3).state_dict(), build_model(name, seed=4).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


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
    model(torch.zeros(1, *INPUT_SHAPES[name]))
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
