"""BatchNorms that are folded into convolutions: the same products."""

import pytest
import torch
from torch import nn

from sharpminima.analysis import FisherVectorProduct, GaussNewtonVectorProduct, HessianVectorProduct
from sharpminima.analysis.hessian._products import double_backward
from sharpminima.runtime.rng import generator

from . import cases

SHAPES = {1: (2, 9), 2: (2, 5, 4), 3: (2, 3, 4, 5)}
CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def normed(axes: int = 2, *, bias: bool = True, affine: bool = True, groups: int = 1, smooth: bool = True) -> nn.Module:
    """A net of two convolutions, the first of which has a BatchNorm behind it whose statistics are its own."""
    net = cases.seeded(
        lambda: nn.Sequential(
            CONVOLUTIONS[axes](2, 4, 2, bias=bias, groups=groups),
            NORMS[axes](4, affine=affine),
            nn.Tanh() if smooth else nn.ReLU(),
            CONVOLUTIONS[axes](4, 2, 2),
            nn.Flatten(),
            nn.LazyLinear(3),
        )
    )
    net(cases.data(3, SHAPES[axes])[0])  # the lazy layer takes its size
    draws = generator(0, "statistics")
    norm = net[1]
    norm.running_mean.normal_(0.5, 0.5, generator=draws)
    norm.running_var.uniform_(0.2, 2.0, generator=draws)
    if affine:
        nn.init.normal_(norm.weight, 1.0, 0.5, generator=draws)
        nn.init.normal_(norm.bias, 0.0, 0.5, generator=draws)
    return net


def hessian_of(net: nn.Module, images, labels) -> torch.Tensor:
    """By double backward through the whole net: float64 [P, P]."""
    net = net.eval()
    parameters = {name: parameter.detach() for name, parameter in net.named_parameters()}
    sizes = [parameter.numel() for parameter in parameters.values()]
    units = torch.eye(sum(sizes), dtype=torch.float64).split(sizes, dim=1)
    directions = {
        name: part.reshape(-1, *parameter.shape)
        for (name, parameter), part in zip(parameters.items(), units, strict=True)
    }

    def loss(values):
        return nn.functional.cross_entropy(torch.func.functional_call(net, values, (images,)), labels)

    return double_backward(loss, parameters, directions)


def is_folded(product) -> bool:
    return product._way.folding is not None


def norms_of(net: nn.Module) -> int:
    return sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in net.modules())


@pytest.mark.parametrize(
    ("axes", "options"),
    [
        (2, {}),
        (1, {}),
        (3, {}),
        (2, {"bias": False}),
        (2, {"affine": False}),
        (2, {"bias": False, "affine": False}),
        (2, {"groups": 2}),
        (2, {"smooth": False}),
    ],
)
@pytest.mark.parametrize("graphs", [None, 1e9])
def test_products_are_those_of_the_whole_net(axes, options, graphs):
    net, (images, labels) = normed(axes, **options), cases.data(20, SHAPES[axes])
    product = HessianVectorProduct(net, images, labels, batch_size=6, graphs=graphs)
    assert is_folded(product)
    assert norms_of(product._through.net) == 0
    expected = hessian_of(net, images, labels)
    vectors = torch.randn(5, product.dimension, generator=generator(0, "vectors"), dtype=torch.float64)
    for _ in range(2):
        torch.testing.assert_close(product(vectors[0]), expected @ vectors[0], rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(product(vectors), vectors @ expected, rtol=1e-9, atol=1e-11)


def test_the_gradient_counts():
    # Without the term of the gradient the product of the first net's BatchNorm and kernel would be another one.
    net, (images, labels) = normed(), cases.data(20, SHAPES[2])
    product = HessianVectorProduct(net, images, labels)
    vector = torch.randn(product.dimension, generator=generator(0, "vectors"), dtype=torch.float64)
    whole = product(vector)
    product._gradient = torch.zeros_like(product._gradient)
    assert float((product(vector) - whole).norm()) > 1e-2 * float(whole.norm())


@pytest.mark.parametrize("operator", [GaussNewtonVectorProduct, FisherVectorProduct])
def test_other_matrices(operator):
    net, (images, labels) = normed(), cases.data(20, SHAPES[2])
    product = operator(net, images, labels, batch_size=6)
    assert is_folded(product)
    units = product(torch.eye(product.dimension, dtype=torch.float64))
    whole = operator(net, images, labels, parameters=[name for name, _ in net.named_parameters()])
    assert not is_folded(whole)
    torch.testing.assert_close(units, whole(torch.eye(product.dimension, dtype=torch.float64)), rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(product.diagonal(), units.diagonal(), rtol=1e-9, atol=1e-11)


def test_residual_net_with_masks_and_scaling():
    net, (images, labels) = cases.resnet8(), cases.data(8, (3, 8, 8), 10)
    draws = generator(0, "masks")
    masks = {
        name: torch.rand(parameter.shape, generator=draws) < 0.9
        for name, parameter in net.named_parameters()
        if parameter.dim() == 4
    }
    with torch.no_grad():
        for name, mask in masks.items():
            net.get_parameter(name).mul_(mask)
    kept = torch.cat([masks.get(name, torch.ones(p.shape)).flatten() for name, p in net.named_parameters()]).bool()
    product = HessianVectorProduct(net, images, labels, masks=masks, scaling="parameter", batch_size=3)
    assert is_folded(product)
    assert norms_of(product._through.net) < norms_of(net)
    vectors = torch.randn(2, product.dimension, generator=draws, dtype=torch.float64)
    weights = torch.cat([parameter.detach().flatten() for parameter in net.parameters()]).abs()
    full = torch.zeros(2, len(kept), dtype=torch.float64)
    full[:, kept] = vectors
    whole = HessianVectorProduct(net, images, labels, parameters=[name for name, _ in net.named_parameters()])
    assert not is_folded(whole)
    expected = (whole(full * weights) * weights)[:, kept]
    torch.testing.assert_close(product(vectors), expected, rtol=1e-9, atol=1e-11)


class ReadTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.out = nn.Conv2d(2, 4, 2), nn.BatchNorm2d(4), nn.Linear(48, 3)

    def forward(self, images):
        maps = self.conv(images)
        return self.out((self.norm(maps) * maps).flatten(1))


class CalledTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.out = nn.Conv2d(2, 2, 2, padding=1), nn.BatchNorm2d(2), nn.Linear(84, 3)

    def forward(self, images):
        return self.out(self.norm(self.conv(self.conv(images))).flatten(1))


@pytest.mark.parametrize(
    "build",
    [
        ReadTwice,
        CalledTwice,
        lambda: torch.fx.symbolic_trace(CalledTwice()),
        lambda: nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 4, 2), nn.Flatten(), nn.Linear(48, 3)),
        lambda: nn.Sequential(nn.Conv2d(2, 4, 2), nn.ReLU(), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(48, 3)),
    ],
)
def test_what_is_no_pair_stays(build):
    net, (images, labels) = cases.seeded(build), cases.data(10, SHAPES[2])
    product = HessianVectorProduct(net, images, labels)
    assert not is_folded(product)
    vector = torch.randn(product.dimension, generator=generator(0, "vectors"), dtype=torch.float64)
    torch.testing.assert_close(product(vector), hessian_of(net, images, labels) @ vector, rtol=1e-9, atol=1e-11)


def test_hooks_are_heeded():
    net, (images, labels) = normed(), cases.data(20, SHAPES[2])
    net[1].register_forward_hook(lambda module, inputs, output: 2 * output)
    product = HessianVectorProduct(net, images, labels)
    assert not is_folded(product)
    vector = torch.randn(product.dimension, generator=generator(0, "vectors"), dtype=torch.float64)
    torch.testing.assert_close(product(vector), hessian_of(net, images, labels) @ vector, rtol=1e-9, atol=1e-11)


def test_a_folded_graph_takes_less_memory():
    net, (images, labels) = normed(bias=False), cases.data(20, SHAPES[2])
    folded = HessianVectorProduct(net, images, labels, graphs=1e9)
    whole = HessianVectorProduct(
        net, images, labels, graphs=1e9, parameters=[name for name, _ in net.named_parameters()]
    )
    for product in (folded, whole):
        product(torch.ones(product.dimension, dtype=torch.float64))
    maps = 20 * 4 * 4 * 3 * 8  # of one map behind the first convolution: its BatchNorm reads it, and passes a slope
    assert whole._graphs.bytes - folded._graphs.bytes >= 2 * maps
