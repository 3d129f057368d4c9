"""One vector for all parameters; SGD on it agrees with torch's, and removed weights stay exactly zero."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from sharpminima.nets.masks import apply_masks, prunable_parameters
from sharpminima.nets.models import build_model
from sharpminima.training import FlatModel, Group, Optimiser


def small_net(seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(75, 4)
        )


def batch(seed: int, count: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 2, 5, 5, generator=generator), torch.randint(0, 4, (count,), generator=generator)


@pytest.mark.parametrize(("momentum", "weight_decay"), [(0.0, 0.0), (0.9, 0.0), (0.9, 1e-2), (0.0, 1e-2)])
def test_sgd_agrees_with_torch(momentum: float, weight_decay: float) -> None:
    ours, theirs = small_net(0), small_net(0)
    flat = FlatModel(ours)
    sgd = Optimiser(flat, [Group(momentum=momentum, weight_decay=weight_decay)])
    reference = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=momentum, weight_decay=weight_decay)
    for step in range(20):
        images, labels = batch(step)
        lr = 0.1 if step < 10 else 0.03
        reference.param_groups[0]["lr"] = lr
        flat.gradients.zero_()
        F.cross_entropy(ours(images), labels).backward()
        sgd.step(lr)
        reference.zero_grad()
        F.cross_entropy(theirs(images), labels).backward()
        reference.step()
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-5, atol=1e-6)


@settings(max_examples=25)
@given(
    density=st.floats(0.0, 1.0),
    momentum=st.sampled_from([0.0, 0.5, 0.9]),
    weight_decay=st.sampled_from([0.0, 1e-4, 0.1]),
    lr=st.floats(1e-3, 10.0),
    seed=st.integers(0, 5),
)
def test_removed_weights_gradients_and_momentum_stay_zero(
    density: float, momentum: float, weight_decay: float, lr: float, seed: int
) -> None:
    model = small_net(seed)
    generator = torch.Generator().manual_seed(seed)
    parameters = dict(model.named_parameters())
    masks = {n: torch.rand(parameters[n].shape, generator=generator) < density for n in prunable_parameters(model)}
    flat = FlatModel(model)
    sgd = Optimiser(flat, [Group(momentum=momentum, weight_decay=weight_decay)])
    for step in range(6):
        if step == 2:  # in the middle, as gradual methods do: momentum is not zero any more
            flat.set_masks(masks)
        images, labels = batch(step)
        flat.backward(flat.loss(images, labels))
        sgd.step(lr)
        if step >= 2:
            for name, keep in masks.items():
                assert not parameters[name][~keep].any()
                assert not parameters[name].grad[~keep].any()
                if sgd.first is not None:
                    assert not flat.view(sgd.first, name)[~keep].any()


def test_state_round_trip_and_masks() -> None:
    model = build_model("lenet5", seed=4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    flat = FlatModel(model)
    state = flat.state_dict(flat.snapshot())
    for name, value in before.items():
        assert torch.equal(state[name], value)
        assert state[name].is_contiguous()
    masks = {"conv2.weight": torch.zeros(50, 20, 5, 5, dtype=torch.bool)}
    masks["conv2.weight"][3, 4, 1, 2] = True
    flat.set_masks(masks)
    reference = build_model("lenet5", seed=4)
    apply_masks(reference, masks)
    assert torch.equal(model.conv2.weight, reference.conv2.weight)
    assert flat.sparsity == pytest.approx((25_000 - 1) / 431_080)


def test_a_snapshot_is_a_copy_with_buffers() -> None:
    model = small_net(0)
    flat = FlatModel(model)
    snapshot = flat.snapshot()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    F.cross_entropy(model(batch(0)[0]), batch(0)[1]).backward()
    Optimiser(flat).step(0.1)
    assert not torch.equal(model[1].running_mean, before["1.running_mean"])
    flat.restore(snapshot)
    for name, value in before.items():
        assert torch.equal(model.state_dict()[name], value)


@pytest.mark.parametrize(
    "group",
    [
        Group(momentum=0.9, nesterov=True, weight_decay=1e-2),
        Group(kind="adam"),
        Group(kind="adam", weight_decay=1e-2, rate=0.1),
    ],
)
def test_nesterov_and_adam_agree_with_torch(group: Group) -> None:
    """In float64: what BatchNorm makes a gradient of zero is one of rounding, which Adam would blow up."""
    ours, theirs = small_net(0).double(), small_net(0).double()
    flat = FlatModel(ours)
    optimiser = Optimiser(flat, [group])
    if group.kind == "adam":
        reference = torch.optim.Adam(theirs.parameters(), weight_decay=group.weight_decay)
    else:
        reference = torch.optim.SGD(
            theirs.parameters(), lr=1.0, momentum=0.9, weight_decay=group.weight_decay, nesterov=True
        )
    for step in range(20):
        images, labels = batch(step)[0].double(), batch(step)[1]
        lr = 0.02 if step < 10 else 0.01
        reference.param_groups[0]["lr"] = lr * group.rate
        flat.backward(flat.loss(images, labels))
        optimiser.step(lr)
        reference.zero_grad()
        F.cross_entropy(theirs(images), labels).backward()
        reference.step()
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-4, atol=1e-6)


def test_groups_by_hand_and_what_is_in_none_or_frozen_keeps_its_bits() -> None:
    """w 2, g 1, lr .1. SGD at rate 3, decay .5: 2 - .3 (1 + 1). Adam's first step is its rate, whatever g is."""
    model = nn.ModuleDict({name: nn.Linear(1, 1, bias=False) for name in "abcd"})
    flat = FlatModel(model)
    flat.values.fill_(2.0)
    flat.gradients.fill_(1.0)
    frozen = Group(("d.weight",), momentum=0.9, weight_decay=0.5, frozen=True)
    optimiser = Optimiser(
        flat, [Group(("a.weight",), rate=3.0, weight_decay=0.5), Group(("b.weight",), kind="adam", rate=0.5), frozen]
    )
    optimiser.step(0.1)
    found = {name: flat.view(flat.values, f"{name}.weight").item() for name in "abcd"}
    assert found == pytest.approx({"a": 1.4, "b": 1.95, "c": 2.0, "d": 2.0})
    assert found["c"] == found["d"] == 2.0
    frozen.frozen = False
    optimiser.step(0.1)  # g + .5 w = 2, and no momentum from the time before
    assert flat.view(flat.values, "d.weight").item() == pytest.approx(1.8)
    flat.set_masks({"b.weight": torch.zeros(1, 1, dtype=torch.bool)})
    flat.gradients.zero_()
    optimiser.step(0.1)
    assert flat.view(flat.values, "b.weight").item() == 0.0  # Adam's means do not revive it
    assert flat.spans(["a.weight", "b.weight", "d.weight"]) == [slice(0, 32), slice(48, 64)]


def test_dense_momentum_gathers_where_nothing_survives_and_moves_nothing_there() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False))
    flat = FlatModel(model, dense_gradients=True)
    keep = torch.tensor([[True, False], [True, True]])
    flat.set_masks({"1.weight": keep})
    optimiser = Optimiser(flat, [Group(momentum=0.5, dense=True)])
    for _ in range(2):
        flat.backward(flat.network(torch.ones(1, 1, 1, 2)).sum())
        optimiser.step(0.1)
    assert flat.view(optimiser.first, "1.weight").tolist() == [[1.5, 1.5], [1.5, 1.5]]
    assert flat.view(flat.values, "1.weight")[0, 1].item() == 0.0


def test_the_optimiser_goes_on_from_its_state_to_the_same_bits() -> None:
    def run(steps: range, flat: FlatModel, optimiser: Optimiser) -> None:
        for step in steps:
            flat.backward(flat.loss(*batch(step)))
            optimiser.step(0.01)

    def start() -> tuple[FlatModel, Optimiser]:
        flat = FlatModel(small_net(0))
        return flat, Optimiser(flat, [Group(("0.weight",), momentum=0.9), Group(("4.weight",), kind="adam")])

    whole, half, rest = start(), start(), start()
    run(range(6), *whole)
    run(range(3), *half)
    rest[0].restore(half[0].snapshot())
    rest[1].restore(half[1].state())
    run(range(3, 6), *rest)
    assert torch.equal(whole[0].values, rest[0].values)
