"""One vector for all parameters; SGD on it agrees with torch's, and removed weights stay exactly zero."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from sharpminima.nets.masks import apply_masks, prunable_parameters
from sharpminima.nets.models import build_model
from sharpminima.training import FlatModel, Sgd


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
    sgd = Sgd(flat, momentum=momentum, weight_decay=weight_decay)
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
    sgd = Sgd(flat, momentum=momentum, weight_decay=weight_decay)
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
                if sgd.buffer is not None:
                    assert not flat.view(sgd.buffer, name)[~keep].any()


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
    Sgd(flat).step(0.1)
    assert not torch.equal(model[1].running_mean, before["1.running_mean"])
    flat.restore(snapshot)
    for name, value in before.items():
        assert torch.equal(model.state_dict()[name], value)
