"""AMC: bounds and states by hand, and the best of all allocations of a small net."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training.cases import build, images_of

from sharpminima.data import Split
from sharpminima.nets.masks import apply_masks, count
from sharpminima.pruning import METHODS, Run
from sharpminima.pruning.engine.distribution import survivors_at
from sharpminima.pruning.engine.units import unit_masks
from sharpminima.pruning.structured.amc import FEATURES, Channels, numbers_of_units

QUICK: dict[str, Any] = {"episodes": 40, "warm_up": 20, "hidden": 16, "agent_batch": 8, "samples_per_class": 30}


def draws_of(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def channels_of(kind: str, share: float, lower: float = 0.2, reward: str = "error") -> Channels:
    model, sample = build(kind), images_of(kind, 20, 1)
    whole = Channels(model, sample, 1, lower, reward)
    return Channels(model, sample, round(share * whole.costs.weights(whole.all)), lower, reward)


@pytest.mark.parametrize("kind", ["linear", "convolutional", "batchnorm", "residual"])
@pytest.mark.parametrize("share", [0.2, 0.4])
def test_every_episode_spends_the_budget_and_no_more(kind: str, share: float) -> None:
    """Whatever the actions: one more unit of any layer would be too many; the reward is that of the masked net."""
    channels, draws = channels_of(kind, share), draws_of(0)
    for _ in range(2):
        episode = channels.play(lambda state: float(torch.rand((), generator=draws)))
        kept = episode.outcome
        assert channels.costs.weights(kept) <= channels.budget
        assert all(kept[name] >= least for name, least in channels.least.items())
        for name, number in kept.items():
            if number < channels.all[name]:
                assert channels.costs.weights({**kept, name: number + 1}) > channels.budget
        model = build(kind).eval()
        keep = channels.keep(kept)
        model.load_state_dict(channels.weights(keep), strict=False)
        apply_masks(model, unit_masks(model, channels.groups, keep))
        wrong = (model(channels.sample.images).argmax(1) != channels.sample.labels).double().mean()
        assert episode.reward == pytest.approx(-float(wrong))


def test_bounds_by_hand() -> None:
    """64-16-9-3 with half of 1,220 weights: at .2 the second layer keeps 1 unit, so that the first may have 9 of 16."""
    channels = channels_of("linear", 0.5)
    first, second = channels.groups
    assert channels.least == {"1": 3, "3": 1}
    assert channels.costs.weights({"1": 9, "3": 1}) == 9 * 64 + 9 + 9 + 1 + 3
    assert channels.costs.weights({"1": 8, "3": 1}) <= channels.budget == 610 < 9 * 66 + 9 + 9 + 4
    kept = dict(channels.least)
    highest = max(n for n in range(1, 17) if channels.costs.weights({"1": n, "3": 1}) <= 610)
    assert highest == 9
    assert [channels.bounded(kept, first, share) for share in (0.0, 0.08, 0.1, 0.5, 1.0)] == [3, 3, 4, 6, 9]
    assert channels.bounded({"1": highest, "3": 1}, second, 1.0) == 1
    assert channels.bounded({"1": 4, "3": 1}, second, 1.0) == 9
    # The level needs less than .2: no more than half of the budget is spoken for.
    narrow = channels_of("linear", 0.1)
    assert narrow.least == {"1": 1, "3": 1}


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_every_action_is_felt_at_any_budget(share: float) -> None:
    """Of 64-300-100-3, a twentieth of its weights too: shares of the units would be cut off at the budget, mostly."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU())
        net.append(nn.Linear(100, 3)).double()
    size = sum(parameter.numel() for parameter in net.parameters())
    channels = Channels(net, images_of("linear", 20, 1), round(share * size), 0.2, "error")
    first, second = channels.groups
    shares = [number / 10 for number in range(11)]
    found = [channels.bounded(channels.least, first, each) for each in shares]
    assert found[0] == channels.least["1"]
    assert found == sorted(set(found))
    kept = {**channels.least, "1": found[2]}
    then = [channels.bounded(kept, second, each) for each in shares]
    assert then == sorted(set(then))
    assert channels.costs.weights({**kept, "3": then[-1]}) <= channels.budget


def test_states_by_hand() -> None:
    """The second layer knows what the first has saved, what is left behind it, and what share the first got."""
    channels = channels_of("linear", 0.5)
    seen: list[Tensor] = []

    def choose(state: Tensor) -> float:
        seen.append(state)
        return 0.34  # of the way from 3 units to 9

    episode = channels.play(choose)
    assert torch.equal(torch.stack(seen), episode.states)
    first, second = seen
    assert len(first) == FEATURES
    assert ((episode.states >= 0) & (episode.states <= 1)).all()
    assert first[-3:].tolist() == pytest.approx([0.0, 16 * 9 / 1220, 1.0])
    assert second[-3:].tolist() == pytest.approx([1 - channels.costs.weights({"1": 5, "3": 9}) / 1220, 0.0, 5 / 16])
    assert first[:1].tolist() + second[:1].tolist() == [0.0, 1.0]


def test_flops_in_the_reward() -> None:
    channels, with_flops = channels_of("linear", 0.5), channels_of("linear", 0.5, reward="error_flops")
    kept = {"1": 4, "3": 5}
    flops = 2 * (4 * 64 + 4 * 5 + 5 * 3)
    assert channels.reward(kept) < 0
    assert with_flops.reward(kept) == pytest.approx(channels.reward(kept) * math.log(flops))


def wide_and_narrow() -> tuple[nn.Module, Split]:
    """Classes are the signs of two pixels: the first layer needs four units, the second, four too, which it has not."""
    images = torch.randn(120, 1, 2, 2, generator=draws_of(1))
    labels = (images[:, 0, 0, 0] > 0).long() + 2 * (images[:, 0, 0, 1] > 0).long()
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    optimiser = torch.optim.Adam(net.parameters(), lr=0.03)
    for _ in range(100):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(images), labels).backward()
        optimiser.step()
    return net, Split(images, labels)


def test_the_best_of_all_allocations_is_found() -> None:
    """Of all pairs of numbers of units within the budget that leave no room: the agent's has as little error as any."""
    net, part = wide_and_narrow()
    run = Run(net, part, part, part, (0.5,), seed=0, augment=False)
    channels, kept = numbers_of_units(run, 0.5, METHODS["amc"].settings(**QUICK))
    rewards = {}
    for pair in itertools.product(range(1, 9), repeat=2):
        numbers = dict(zip(channels.all, pair, strict=True))
        if channels.costs.weights(numbers) <= channels.budget and channels.filled(numbers) == numbers:
            rewards[pair] = channels.reward(numbers)
    assert len(rewards) >= 3
    assert min(rewards.values()) < max(rewards.values())
    assert channels.reward(kept) == max(rewards.values())


@pytest.mark.parametrize("kind", ["convolutional", "residual"])
def test_a_net_ends_with_what_was_asked_for(kind: str) -> None:
    part = images_of(kind, 30, 1)
    run = Run(build(kind), part, part, part, (0.8,), seed=0, augment=False)
    recipe = {"batch_size": 10, "max_epochs": 1}
    few = {**QUICK, "episodes": 6, "warm_up": 3}
    chosen = METHODS["amc"].settings(batch_size=10, epochs=1, recipe=recipe, dense=recipe, **few)
    state = METHODS["amc"].prune(run, chosen).levels[0.8]
    survivors, size = count(state.masks)
    assert state.reached
    assert 0.7 * survivors_at(0.8, size) < survivors <= survivors_at(0.8, size)
