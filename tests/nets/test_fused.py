"""BatchNorm, addition and ReLU as one operation: the numbers of the three, and where it takes their place."""

import copy

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from sharpminima.catalogue.models import MODELS
from sharpminima.nets.compaction import compact, reordered
from sharpminima.nets.fused import fused, normalised, normalised_twice
from sharpminima.nets.models import build_model

HALF = torch.bfloat16
ROUNDING = 2.0**-8  # of bfloat16, relative


def maps(shape: tuple[int, ...], seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=random).add(0.5).to(HALF).contiguous(memory_format=torch.channels_last)


def a_norm(channels: int, **options: object) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels, **options)  # type: ignore[arg-type]
    random = torch.Generator().manual_seed(0)
    for parameter in norm.parameters():
        nn.init.normal_(parameter, 0.7, 0.5, generator=random)
    return norm


# One pixel less and one more than whole tiles; more channels than a tile; several parts.
SHAPES = [(4, 16, 8, 8), (3, 20, 5, 7), (2, 7, 1, 9), (2, 600, 2, 2), (130, 16, 16, 16)]


@pytest.mark.slow
@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_values_gradients_and_statistics_are_those_of_the_three_operations(shape: tuple[int, ...], adds: bool) -> None:
    norm = a_norm(shape[1])
    plain = copy.deepcopy(norm).double()
    inputs = [maps(shape, 1).requires_grad_()] + [maps(shape, 2).requires_grad_()] * adds
    slope = maps(shape, 3)
    found = normalised(inputs[0], norm, *inputs[1:])
    found.backward(slope)
    exact = [each.detach().double().requires_grad_() for each in inputs]
    values = plain(exact[0]) + (exact[1] if adds else 0.0)
    values.mul((found.detach() > 0).double()).backward(slope.double())  # a value close to 0 may round to either side
    assert found.dtype == HALF
    torch.testing.assert_close(found.double(), F.relu(values), rtol=ROUNDING, atol=1e-5)
    for mine, its in zip(inputs, exact, strict=True):
        assert mine.grad.dtype == HALF
        torch.testing.assert_close(mine.grad.double(), its.grad, rtol=ROUNDING, atol=1e-4)
    for mine, its in zip(norm.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad.double(), its.grad, rtol=1e-4, atol=1e-3)
    for mine, its in zip(norm.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(mine.to(its.dtype), its, rtol=1e-5, atol=1e-6)


def test_the_gradients_of_two_readers_are_added() -> None:
    shape = (3, 20, 5, 7)
    slopes = [maps(shape, 3), maps(shape, 4)]
    found = []
    for slope in ([*slopes], [(slopes[0].float() + slopes[1].float()).to(HALF)], [slopes[0], None], [None, slopes[0]]):
        norm, features = a_norm(20), maps(shape, 1).requires_grad_()
        both = normalised_twice(features, norm)
        read = [(values, each) for values, each in zip(both, slope, strict=False) if each is not None]
        torch.autograd.backward(*zip(*read, strict=True))
        found.append([features.grad, *(parameter.grad for parameter in norm.parameters())])
    for one, same in ((found[0], found[1]), (found[2], found[3])):
        assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not torch.equal(found[0][0], found[2][0])


def test_a_cumulative_average_of_the_statistics_is_kept() -> None:
    norm = a_norm(16, momentum=None)
    plain = copy.deepcopy(norm)
    for seed in range(3):
        normalised(maps((4, 16, 8, 8), seed), norm)
        plain(maps((4, 16, 8, 8), seed).float())
    torch.testing.assert_close(norm.state_dict(), plain.state_dict(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["float32", "evaluation", "batch last", "without statistics"])
def test_elsewhere_the_three_operations_are_done(kind: str) -> None:
    norm = a_norm(16, track_running_stats=kind != "without statistics")
    features, other = maps((4, 16, 8, 8), 1), maps((4, 16, 8, 8), 2)
    if kind == "float32":
        features, other = features.float(), other.float()
    norm.train(kind != "evaluation")
    if kind == "batch last":
        features = features.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2)
    assert torch.equal(normalised(features, norm, other), F.relu(copy.deepcopy(norm)(features) + other))


def test_nan_is_passed_on() -> None:
    features = maps((4, 16, 8, 8), 1)
    features[0, 3, 0, 0] = float("nan")
    found = normalised(features, a_norm(16))
    assert found[:, 3].isnan().all()
    assert not found[:, :3].isnan().any()


def test_the_threads_make_no_difference() -> None:
    def computed(threads: int) -> list[Tensor]:
        torch.set_num_threads(threads)
        norm, features = a_norm(16), maps((130, 16, 16, 16), 1).requires_grad_()
        found = normalised(features, norm)
        found.backward(maps((130, 16, 16, 16), 2))
        return [found.detach(), features.grad, *(p.grad for p in norm.parameters()), *norm.buffers()]

    try:
        one, several = computed(1), computed(3)
    finally:
        torch.set_num_threads(1)
    assert all(torch.equal(a, b) for a, b in zip(one, several, strict=True))


@pytest.mark.parametrize(
    ("name", "places"), [("resnet32", 31), ("wrn16-4", 13), ("lenet5-bn", 2), ("vgg16", 13), ("lenet300", 0)]
)
def test_it_takes_its_place_in_the_nets_and_changes_none_of_their_names(name: str, places: int) -> None:
    net = build_model(name, seed=1)
    found = fused(net)
    assert places_in(found) == places_in(fused(reordered(net))) == places
    assert places > 0 or found is net
    assert found.state_dict().keys() == net.state_dict().keys()
    assert all(a is b for a, b in zip(net.parameters(), found.parameters(), strict=True))
    images = torch.randn(2, *MODELS[name].shape, generator=torch.Generator().manual_seed(0))
    for mode in (True, False):
        twin = copy.deepcopy(net).train(mode)
        pooled_first = fused(reordered(copy.deepcopy(twin)))
        expected = copy.deepcopy(twin)(images)
        assert torch.equal(found.train(mode)(images), expected)
        assert torch.equal(pooled_first(images), expected)


def places_in(net: nn.Module) -> int:
    """How often it takes the place of three operations."""
    nodes = getattr(net, "graph", fx.Graph()).nodes
    return sum(node.target in (normalised, normalised_twice) for node in nodes)


class Functional(nn.Module):
    """As users write theirs; with ``noisy`` it computes something else in evaluation."""

    def __init__(self, noisy: bool = False) -> None:
        super().__init__()
        self.conv, self.bn, self.noisy = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), noisy
        self.other, self.between = nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4)

    def forward(self, images: Tensor) -> Tensor:
        both = F.relu(self.other(images) + self.bn(self.conv(images)))
        both = F.dropout(both, 0.5, self.training) if self.noisy else both
        return self.between(both).sigmoid().mean((2, 3))


def test_a_net_of_functions_takes_it_too() -> None:
    net = Functional()
    found = fused(net)
    assert places_in(found) == 1  # no ReLU is behind `between`
    images = torch.randn(2, 1, 5, 5)
    assert torch.equal(found(images), copy.deepcopy(net)(images))


def test_a_net_whose_graph_depends_on_its_mode_stays_as_it_is() -> None:
    net = Functional(noisy=True)
    assert fused(net) is net


def test_a_net_that_its_own_forward_pass_changes_stays_as_it_is() -> None:
    class Counting(nn.Sequential):
        seen = 0

        def forward(self, images: Tensor) -> Tensor:
            self.seen += 1
            return super().forward(images * self.seen)

    net = Counting(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU())
    fused(net)
    assert net.seen == 0


def test_a_compacted_net_takes_it() -> None:
    net = build_model("resnet32", seed=1)
    masks = {name: torch.ones_like(p, dtype=torch.bool) for name, p in net.named_parameters()}
    masks["stage1.0.conv1.weight"][3] = False
    small = compact(net, masks).model
    found = fused(small)
    assert places_in(found) == 31
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(found(images), copy.deepcopy(small)(images))
