"""Usual and unusual nets: what is measured of each agrees with a slow way that knows no tricks."""

import sys

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from sharpminima.analysis import MATRICES, HessianVectorProduct, loss_barrier
from sharpminima.nets.evaluation import evaluate, gradient_norm

from . import cases
from .idioms import IDIOMS, Of, idiom, samples
from .test_operators import jacobian


def reference(net, images, labels, vectors):
    """Products by double backward through the net itself, without its backward hooks, and the gradient, flat."""
    net.eval()
    values = {name: parameter.detach().requires_grad_() for name, parameter in net.named_parameters()}
    inputs = list(values.values())
    for module in net.modules():
        module._backward_hooks.clear()
    with pytest.MonkeyPatch.context() as patch, sdpa_kernel(SDPBackend.MATH):
        patch.setattr(torch.backends.mkldnn, "enabled", False)  # its recurrent layers have no second derivatives
        patch.setattr(nn.Hardsigmoid, "forward", lambda _, x: (x + 3).clamp(0, 6) / 6)  # nor has torch's
        for module in (torch, sys.modules["torch.nn.utils.weight_norm"]):  # whose second derivatives are wrong
            patch.setattr(module, "_weight_norm", weight_norm)
        loss = F.cross_entropy(functional_call(net, values, (images,)), labels)
        gradient = torch.autograd.grad(loss, inputs, create_graph=True, allow_unused=True, materialize_grads=True)
        flat = torch.cat([part.flatten() for part in gradient])
        rows = [
            torch.autograd.grad(flat @ vector, inputs, retain_graph=True, allow_unused=True, materialize_grads=True)
            for vector in vectors
        ]
    return torch.stack([torch.cat([part.flatten() for part in row]) for row in rows]), flat.detach()


def weight_norm(v, g, dim=0):
    """v at length g over all axes but one, or over all (-1), written out."""
    axes = [axis for axis in range(v.dim()) if axis != dim]
    return g * v / v.square().sum(axes, keepdim=dim >= 0).sqrt()


def masks_of(net):
    """Masks of a third of every parameter of a matrix or a kernel."""
    draw = torch.Generator().manual_seed(5)
    return {n: torch.rand(p.shape, generator=draw) < 0.7 for n, p in net.named_parameters() if p.ndim > 1}


@pytest.mark.parametrize("masked", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", IDIOMS)
def test_products_are_those_of_double_backward(name, masked):
    net, (images, labels) = idiom(name), samples()
    modes = [module.training for module in net.modules()]
    masks = masks_of(net) if masked else None
    kept = torch.cat([(masks or {}).get(n, torch.ones(p.shape)).flatten().bool() for n, p in net.named_parameters()])
    if masked:
        with torch.no_grad():
            for key, mask in masks.items():
                net.get_parameter(key).mul_(mask)
    product = HessianVectorProduct(net, images, labels, masks=masks, batch_size=7)
    vectors = torch.randn(2, product.dimension, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    together, alone = product(vectors), product(vectors[0])
    assert [module.training for module in net.modules()] == modes
    expected, _ = reference(net, images, labels, product.expand(vectors))
    assert expected.norm() > 1e-3
    torch.testing.assert_close(together, expected[:, kept], rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(alone, expected[0, kept], rtol=1e-8, atol=1e-10)
    held = HessianVectorProduct(net, images, labels, masks=masks, batch_size=7, graphs=1e9)
    for _ in range(2):  # a graph that is kept serves a second time
        torch.testing.assert_close(held(vectors[0]), expected[0, kept], rtol=1e-8, atol=1e-10)


def test_layers_without_a_rule_for_several_vectors_take_one_after_another(recwarn):
    net = cases.seeded(
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    )
    images, labels = samples()
    product = HessianVectorProduct(net, images, labels)
    vectors = torch.randn(3, product.dimension, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    together = product(vectors)
    assert [str(each.message) for each in recwarn] == []
    # Sums of one and the same size differ in bits where tensors lie otherwise in memory, on some machines.
    torch.testing.assert_close(together, torch.stack([product(vector) for vector in vectors]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", IDIOMS)
def test_gradient_norms_are_those_of_the_net(name):
    net, (images, labels) = idiom(name), samples()
    found = gradient_norm(net, images, labels, batch_size=5)
    _, gradient = reference(
        net, images, labels, torch.zeros(1, sum(p.numel() for p in net.parameters()), dtype=torch.float64)
    )
    # torch's own gradient of a hard sigmoid takes 1/6 in float32, also of float64.
    assert found == pytest.approx(float(gradient.norm()), rel=1e-7 if name == "hard sigmoid" else 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", IDIOMS)
def test_barriers_are_those_of_the_nets_between(name):
    center, target = idiom(name), idiom(name)
    images, labels = samples()
    with torch.no_grad():
        for parameter in target.parameters():
            parameter.mul_(0.5)
    found = loss_barrier(center, target, images, labels, points=3, batch_size=5)
    middle = idiom(name)
    with torch.no_grad():
        for parameter in middle.parameters():
            parameter.mul_(0.75)
    expected = [evaluate(net, images, labels).loss for net in (center, middle, target)]
    torch.testing.assert_close(found.loss, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=0)


class Headed(nn.Module):
    """A frozen layer without a gradient below a head: a traced copy knows nothing of ``no_grad``."""

    def __init__(self, bias):
        super().__init__()
        self.a, self.b = nn.Linear(16, 5, bias=False), nn.Linear(5, 3, bias=bias)

    def forward(self, x):
        with torch.no_grad():
            features = torch.relu(self.a(x.flatten(1)))
        return self.b(features)


def hinge(outputs, targets):
    """Mean squared hinge, zero beyond a margin."""
    return (1 - outputs * (2 * F.one_hot(targets, 3) - 1)).relu().square().sum(1).mean()


def head_is_sure(net):
    with torch.no_grad():
        net.b.bias.copy_(torch.tensor([9.0, -9.0, -9.0]))


def without(labels):
    """Labels of which the first are left out, and a criterion that counts them all the same."""
    return torch.cat([torch.full((4,), -100), labels[4:]]), lambda z, y: F.cross_entropy(z, y, reduction="sum") / len(z)


@pytest.mark.parametrize("matrix", ["hessian", "gauss_newton", "fisher"])
@pytest.mark.parametrize("case", ["zeros", "zeros and a bias", "left out", "flat loss", "usual"])
def test_ways_are_tried_where_the_first_samples_show_nothing(case, matrix):
    draws = torch.Generator().manual_seed(1)
    images, labels = torch.randn(40, 1, 4, 4, generator=draws, dtype=torch.float64), torch.arange(40) % 3
    net, criterion = cases.seeded(lambda: Headed(case not in ("zeros", "usual")), 1), None
    if case.startswith("zeros"):
        images[:4] = 0
    if case == "flat loss":
        criterion = hinge
        head_is_sure(net)
        labels[:4] = 0
    if case == "left out":
        labels, criterion = without(labels)
    net.eval()
    z = net(images)
    rows = jacobian(net, z).view(40, 3, -1)
    of = criterion or F.cross_entropy
    leaf = z.detach().requires_grad_()
    slope = torch.autograd.grad(of(leaf, labels), leaf, create_graph=True)[0]
    if matrix == "fisher":
        expected = torch.einsum("nc,ncp->np", slope.detach() * 40, rows)
        expected = expected.T @ expected / 40
    else:  # the net is linear in what has a gradient
        bends = torch.stack([torch.autograd.grad(s, leaf, retain_graph=True)[0].flatten() for s in slope.flatten()])
        flat = rows.reshape(120, -1)
        expected = flat.T @ bends @ flat
    assert expected.norm() > 0.05
    found = MATRICES[matrix](net, images, labels, criterion=criterion)(torch.eye(len(expected)).double())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_inputs_that_a_net_takes_without_noise_alone_are_no_trial():
    # The logarithm of what noise makes negative is NaN: the trial with the samples as they are decides.
    net = cases.seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 3)))
    logarithm = Of(lambda net, x: net.net(x.log()), net=net)
    images, labels = samples()
    images = images.abs() + 1e-3
    product = HessianVectorProduct(logarithm, images, labels)
    found, expected = product(torch.eye(111).double()), torch.from_numpy(cases.full_hessian(logarithm, images, labels))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert product._way.single is not HessianVectorProduct._kind.backward
