"""torchvision's nets: what is measured of each agrees with a slow way that knows no tricks."""

import math
import sys
import warnings

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from sharpminima.analysis import HessianVectorProduct, loss_barrier, psp_entropy
from sharpminima.base.errors import AnalysisError
from sharpminima.nets.evaluation import evaluate

from . import cases

_CLASSES = 4
_OPTIONS = {
    "googlenet": {"aux_logits": False, "init_weights": False},
    "inception_v3": {"aux_logits": False, "init_weights": False},
    "VisionTransformer": {
        "image_size": 32,
        "patch_size": 8,
        "num_layers": 2,
        "num_heads": 2,
        "hidden_dim": 16,
        "mlp_dim": 32,
    },
    "SwinTransformer": {
        "patch_size": [4, 4],
        "embed_dim": 8,
        "depths": [2, 1],
        "num_heads": [2, 2],
        "window_size": [4, 4],
    },
}
_SMALL = [
    "squeezenet1_1",
    "mobilenet_v3_small",
    "shufflenet_v2_x0_5",
    "mnasnet0_5",
    "regnet_x_400mf",
    "regnet_y_400mf",
    "VisionTransformer",
    "SwinTransformer",
]
_LARGE = [
    "resnet18",
    "mobilenet_v2",
    "efficientnet_b0",
    "densenet121",
    "googlenet",
]
_LARGEST = ["resnext50_32x4d", "inception_v3", "convnext_tiny"]  # over 20 million parameters each
NAMES = [
    *_SMALL,
    *(pytest.param(name, marks=pytest.mark.slow) for name in _LARGE),
    *(pytest.param(name, marks=[pytest.mark.slow, pytest.mark.long]) for name in _LARGEST),
]
_SIDES = {"inception_v3": 80}  # pixels
_SMOOTH = {"efficientnet_b0", "convnext_tiny", "VisionTransformer", "SwinTransformer"}  # no ReLU


@pytest.fixture(scope="module")
def models():
    """``torchvision.models``, which needs none of the operators that a build for another torch does not bring."""
    library = None
    try:
        import torchvision.models
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision.models
    yield torchvision.models
    if library is not None:
        library._destroy()
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]


def built(models, name: str) -> nn.Module:
    """The net with weights, and statistics of its BatchNorms, of its own; float64."""

    def build():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of torchvision's initialisation
            return getattr(models, name)(num_classes=_CLASSES, **_OPTIONS.get(name, {}))

    net = cases.seeded(build)
    draw = torch.Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0.0, 0.2, generator=draw)
            module.running_var.uniform_(0.5, 1.5, generator=draw)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() > 1 and not parameter.any():  # a head that knows nothing yet
                parameter.normal_(0.0, 0.2, generator=draw)
    return net


def samples(name: str):
    side = _SIDES.get(name, 32)
    return cases.data(8, (3, side, side), _CLASSES)


def double_backward(net, images, labels, vector):
    net.eval()
    values = {name: parameter.detach().requires_grad_() for name, parameter in net.named_parameters()}
    inputs = list(values.values())
    with sdpa_kernel(SDPBackend.MATH), pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            nn.Hardsigmoid, "forward", lambda _, x: (x + 3).clamp(0, 6) / 6
        )  # torch's has no second derivative
        loss = F.cross_entropy(functional_call(net, values, (images,)), labels)
        gradient = torch.autograd.grad(loss, inputs, create_graph=True)
        slope = torch.cat([part.flatten() for part in gradient]) @ vector
        return torch.cat([part.flatten() for part in torch.autograd.grad(slope, inputs)])


@pytest.mark.parametrize("name", NAMES)
def test_products_are_those_of_double_backward(models, name):
    net, (images, labels) = built(models, name), samples(name)
    vector = torch.randn(
        sum(parameter.numel() for parameter in net.parameters()),
        generator=torch.Generator().manual_seed(2),
        dtype=torch.float64,
    )
    expected = double_backward(net, images, labels, vector)
    assert expected.norm() > 1e-6 * vector.norm()
    for graphs in (None, 1e9):
        product = HessianVectorProduct(net, images, labels, batch_size=5, graphs=graphs)
        torch.testing.assert_close(product(vector), expected, rtol=1e-7, atol=1e-8 * float(expected.abs().max()))


def signs_of(net, images):
    """Of what enters each ReLU, in the order of the forward pass: bool [N, neurons of it]."""
    seen: list[torch.Tensor] = []

    def note(module, inputs):
        seen.append(inputs[0].flatten(1) > 0)

    handles = [
        module.register_forward_pre_hook(note) for module in net.modules() if isinstance(module, nn.ReLU | nn.ReLU6)
    ]
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        relu = F.relu

        def noted(x, inplace=False):
            if not inside:
                seen.append(x.flatten(1) > 0)
            return relu(x, inplace)

        inside: list[bool] = []
        forward = nn.ReLU.forward

        def within(module, x):
            inside.append(True)
            try:
                return forward(module, x)
            finally:
                inside.pop()

        patch.setattr(nn.ReLU, "forward", within)
        patch.setattr(F, "relu", noted)
        net.eval()(images)
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.filterwarnings("ignore:only the ReLUs' pre-activations count")
@pytest.mark.parametrize("name", NAMES)
def test_psp_entropy_is_that_of_what_enters_the_relus(models, name):
    net, (images, labels) = built(models, name), samples(name)
    images, labels = torch.cat([images, images.flip(3)]), torch.cat([labels, labels])
    if name in _SMOOTH:
        with pytest.raises(AnalysisError, match="ReLU"):
            psp_entropy(net, images, labels)
        return
    signs = torch.cat(signs_of(net, images), dim=1).double()
    shares = torch.stack([signs[labels == number].mean(dim=0) for number in range(_CLASSES)])
    bits = (torch.special.entr(shares) + torch.special.entr(1 - shares)) / math.log(2)
    expected = float(bits.sum(dim=0).mean())
    assert expected > 0.01
    assert psp_entropy(net, images, labels).mean == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_barrier_between_two_of_them(models, name):
    (center, middle, target), (images, labels) = (built(models, name) for _ in range(3)), samples(name)
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for halfway, whole in zip(middle.parameters(), target.parameters(), strict=True):
            step = torch.randn(whole.shape, generator=draw, dtype=torch.float64) * whole.abs().mean() / 2
            whole.add_(step)
            halfway.add_(step / 2)
    barrier = loss_barrier(center, target, images, labels, points=3)
    expected = [evaluate(net, images, labels).loss for net in (center, middle, target)]
    assert len(set(expected)) == 3
    assert barrier.loss.tolist() == pytest.approx(expected, rel=1e-6)
