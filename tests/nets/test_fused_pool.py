"""Max-pooling and ReLU as one operation: the bits of the two, and where it takes their place."""

import copy

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from sharpminima.nets.compaction import reordered
from sharpminima.nets.fused import fused, pooled
from sharpminima.nets.models import build_model

HALF = torch.bfloat16


def maps(*shape: int) -> Tensor:
    """With many equal values, so that windows have several largest ones."""
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0)).mul(2).round()
    return values.to(HALF).contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "window"),
    [((3, 20, 8, 8), 2), ((2, 5, 9, 7), 2), ((130, 33, 12, 6), (3, 2)), ((1, 1, 2, 2), 2), ((2, 64, 6, 6), (1, 3))],
)
def test_values_and_gradients_are_those_of_both_orders(shape: tuple[int, ...], window: int | tuple[int, int]) -> None:
    pool = nn.MaxPool2d(window)
    slope = None
    found = []
    for way in (
        lambda x: pooled(x, pool),
        lambda x: F.relu(pool(x.float())),
        lambda x: pool(F.relu(x.float())),
    ):
        features = maps(*shape).requires_grad_()
        values = way(features)
        slope = torch.randn(values.shape, generator=torch.Generator().manual_seed(1)) if slope is None else slope
        values.backward(slope.to(values.dtype).to(HALF).to(values.dtype))
        found.append((values.detach().to(HALF), features.grad))
    for values, gradient in found[1:]:
        assert torch.equal(found[0][0], values)
        assert torch.equal(found[0][1], gradient)


def test_nan_of_either_sign_and_infinity_are_passed_on() -> None:
    features = maps(1, 4, 2, 2)
    features[0, :, 1, 0] = torch.tensor([float("nan"), -float("nan"), float("inf"), -float("inf")])
    found = pooled(features, nn.MaxPool2d(2))
    expected = F.relu(F.max_pool2d(features.float(), 2)).to(HALF)
    assert torch.equal(found.isnan(), torch.tensor([True, True, False, False]).view(1, 4, 1, 1))
    assert torch.equal(found[:, 2:], expected[:, 2:])


@pytest.mark.parametrize("pool", [nn.MaxPool2d(3, 2), nn.MaxPool2d(2, padding=1), nn.MaxPool2d(2, ceil_mode=True)])
def test_of_other_windows_the_two_operations_are_done(pool: nn.MaxPool2d) -> None:
    features = maps(2, 4, 7, 7)
    assert torch.equal(pooled(features, pool), F.relu(pool(features)))


@pytest.mark.parametrize(
    ("name", "places"), [("lenet5", 2), ("lenet5-bn", 2), ("conv4", 2), ("vgg16", 4), ("lenet300", 0)]
)
def test_it_takes_its_place_in_the_nets(name: str, places: int) -> None:
    net = build_model(name, seed=1)
    for each in (fused(net), fused(reordered(net))):
        nodes = getattr(each, "graph", fx.Graph()).nodes
        assert sum(node.target is pooled for node in nodes) == places


def test_a_relu_that_others_read_too_stays() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.relu, self.pool = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2)

        def forward(self, images: Tensor) -> Tensor:
            active = self.relu(self.conv(images))
            return self.pool(active).sum((1, 2, 3)) + active.sum((1, 2, 3))

    net, images = Branching(), torch.randn(2, 1, 8, 8)
    found = fused(net)
    assert found is net
    assert torch.equal(found(images), copy.deepcopy(net)(images))
