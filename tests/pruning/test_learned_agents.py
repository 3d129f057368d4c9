"""REINFORCE against exact gradients and known optima; agents on a net whose useless units are known."""

import copy
import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sharpminima.data import Split
from sharpminima.nets.compaction import removable_units
from sharpminima.pruning import METHODS, Run
from sharpminima.pruning.engine.reinforce import log_probability, reinforced, surrogate
from sharpminima.pruning.structured.learned_agents import Agent, Agents
from sharpminima.training import FlatModel


def draws_of(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Free(nn.Module):
    """A logit an action."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits, dtype=torch.float64))

    def forward(self, state: Tensor) -> Tensor:
        return self.logits


def crooked(actions: Tensor) -> float:
    """A reward in which no action counts by itself."""
    a, b, c = actions.tolist()
    return 3.0 * (a and not b) - 2.0 * (b and c) + 0.5 * c


def test_the_estimate_is_the_gradient_on_average() -> None:
    """Of the expected reward, a sum over all eight actions; M / (M - 1) makes up for a mean of the same M."""
    policy = Free([0.3, -0.5, 1.0])
    every = [torch.tensor(each) for each in itertools.product([False, True], repeat=3)]
    chances = torch.stack([log_probability(policy.logits, each).exp() for each in every])
    assert chances.sum().item() == pytest.approx(1.0)
    expected = (chances * torch.tensor([crooked(each) for each in every])).sum()
    (exact,) = torch.autograd.grad(expected, policy.logits)
    draws, found = draws_of(0), []
    for _ in range(1500):
        actions = torch.rand(3, 3, generator=draws, dtype=torch.float64) < policy.logits.detach().sigmoid()
        rewards = torch.tensor([crooked(each) for each in actions], dtype=torch.float64)
        advantages = (rewards - rewards.mean()) * 3 / 2
        (estimate,) = torch.autograd.grad(-surrogate(policy.logits, actions, advantages), policy.logits)
        found.append(estimate)
    estimates = torch.stack(found)
    error = estimates.std(0) / len(found) ** 0.5
    assert ((estimates.mean(0) - exact).abs() < 3 * error).all()


def test_the_best_of_all_actions_is_learned() -> None:
    """The policy itself comes to the best of 256 actions, whose reward has a trap: all of them together."""
    wanted = torch.tensor([True, False, True, True, False, False, True, False])

    def reward(actions: Tensor) -> float:
        return 6.0 if actions.all() else float((actions == wanted).sum())

    policy = Free([0.0] * 8)
    how: dict[str, Any] = {"updates": 100, "samples": 5, "lr": 0.2, "draws": draws_of(0)}
    assert torch.equal(reinforced(policy, torch.zeros(()), reward, **how), wanted)
    assert torch.equal(policy.logits > 0, wanted)


def test_what_was_met_is_not_lost() -> None:
    """With a rate of almost 0 the policy stays, and the best of its draws is the answer."""
    met: list[Tensor] = []

    def reward(actions: Tensor) -> float:
        met.append(actions)
        return crooked(actions)

    found = reinforced(Free([0.0] * 3), torch.zeros(()), reward, updates=4, samples=3, lr=1e-9, draws=draws_of(0))
    assert crooked(found) == max(crooked(each) for each in met)
    assert len(met) == 4 * 3 + 1


def thirds() -> tuple[nn.Module, Split]:
    """Of eight hidden units one sees class 0 and one class 1; the others are too small to matter."""
    images = torch.randn(60, 1, 2, 2, generator=draws_of(1))
    first = images[:, 0, 0, 0]
    labels = torch.where(first > 0.4, 0, torch.where(first < -0.4, 1, 2))
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        for layer in (net[1], net[3]):
            layer.weight.copy_(0.01 * torch.randn(layer.weight.shape, generator=draws_of(2)))
            layer.bias.zero_()
        net[1].weight[2, 0], net[1].weight[5, 0] = 3.0, -3.0
        net[3].weight[0, 2], net[3].weight[1, 5], net[3].bias[2] = 1.0, 1.0, 1.2
    return net, Split(images, labels)


def a_policy(strength: float, **chosen: Any) -> tuple[Agents, FlatModel, Run]:
    net, part = thirds()
    run = Run(net, part, part, part, (0.5,), seed=0, augment=False)
    flat = FlatModel(copy.deepcopy(net))
    settings = METHODS["learned_agents"].settings(batch_size=10, epochs=2, **chosen)
    return Agents(run, settings, flat, strength, "learned_agents"), flat, run


def test_the_reward_by_hand() -> None:
    """Without unit 2 the images of class 0 are wrong and the others are not; log(8 / kept) is the rest."""
    policy, _, run = a_policy(0.3, updates=1)
    (group,) = removable_units(run.model)
    everything = torch.ones(8, dtype=torch.bool)
    assert policy.reward(run.model, group, everything) == 0.0
    without = everything.clone()
    without[[0, 2]] = False
    drop = float((policy.sample.labels == 0).double().mean())
    assert policy.reward(run.model, group, without) == pytest.approx((0.3 - drop) / 0.3 * math.log(8 / 6))
    without[2] = True
    assert policy.reward(run.model, group, without) == pytest.approx(math.log(8 / 7))
    none = torch.zeros(8, dtype=torch.bool)
    first = torch.arange(8) == 0
    assert policy.reward(run.model, group, none) == policy.reward(run.model, group, first) < 0


@pytest.mark.parametrize("strength", [0.05, 0.3])
def test_the_agent_keeps_what_decides_the_class(strength: float) -> None:
    """The best of all 255 subsets is the two units, which is worth log 4."""
    policy, flat, run = a_policy(strength)
    (group,) = removable_units(run.model)
    subsets = [torch.tensor(each) for each in itertools.product([False, True], repeat=8) if any(each)]
    best = max(policy.reward(run.model, group, each) for each in subsets)
    assert best == pytest.approx(math.log(4))
    assert policy.keep["1"].nonzero().flatten().tolist() == [2, 5]
    assert not flat.model[3].weight[:, ~policy.keep["1"]].any()


def test_an_agent_sees_only_weights_and_is_drawn_by_its_seed() -> None:
    weights = torch.randn(6, 5, generator=draws_of(0))
    first, again, other = (Agent(5, 4, 1.0, seed)(weights) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    torch.testing.assert_close(Agent(5, 4, 1.0, 0)(3 * weights + 2), first, atol=1e-5, rtol=1e-4)


def test_larger_bounds_let_more_leave() -> None:
    """At .05 the two units stay, at 5 one of them is worth more than the images that it decides."""
    net, part = thirds()
    run = Run(net, part, part, part, (0.7, 0.8), seed=0, augment=False)
    recipe = {"batch_size": 10, "max_epochs": 1}
    chosen = {"strengths": [0.05, 5.0], "epochs": 1, "batch_size": 10, "recipe": recipe, "dense": None}
    pruned = METHODS["learned_agents"].prune(run, METHODS["learned_agents"].settings(**chosen))
    few, many = (event["survivors"] for event in pruned.events)
    assert few == 2 * (4 + 1 + 3)
    assert many == 4 + 1 + 3
    assert [state.reached for state in pruned.levels.values()] == [True, True]
