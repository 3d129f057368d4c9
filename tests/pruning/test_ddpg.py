"""DDPG on problems whose best actions are known."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from sharpminima.base.stop import STOP, Stopped
from sharpminima.nets.resume import ResumeFile
from sharpminima.pruning.engine.ddpg import Agent, Episode, explored, truncated_normal

HOW: dict[str, Any] = {"episodes": 250, "warm_up": 50, "noise": 0.5, "decay": 0.97}


def draws_of(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def budget(choose: Callable[[Tensor], float]) -> Episode:
    """Two steps: the first action is best at .3, the second where both are 1 together, which the state tells."""
    first = torch.tensor([1.0, 0.0, 0.0])
    one = choose(first)
    second = torch.tensor([0.0, 1.0, one])
    two = choose(second)
    reward = -((one - 0.3) ** 2) - (two - (1 - one)) ** 2
    return Episode(torch.stack([first, second]), torch.tensor([one, two]), reward)


@pytest.mark.slow
def test_the_best_actions_are_learned() -> None:
    agent = Agent(3, hidden=100, actor_lr=1e-3, critic_lr=3e-3, tau=0.02, memory=400, seed=1)
    assert budget(agent.act).actions.tolist() == pytest.approx([0.5, 0.5], abs=0.01)
    best = explored(agent, budget, draws=draws_of(1), **HOW)
    assert budget(agent.act).actions.tolist() == pytest.approx([0.3, 0.7], abs=0.15)
    assert best.reward > -0.005


def test_it_draws_nothing_but_what_it_is_given() -> None:
    """Equal draws give equal agents, whatever the default generator has done."""
    found = []
    for _ in range(2):
        torch.rand(7)
        agent = Agent(3, hidden=8, batch_size=4)
        explored(agent, budget, draws=draws_of(3), **{**HOW, "episodes": 6, "warm_up": 3})
        found.append(agent.act(torch.zeros(3)))
    assert found[0] == found[1] != 0.5


@pytest.mark.parametrize("at", [2, 5, 9])
def test_a_stopped_search_goes_on_to_the_same_agent(at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ten episodes, four without training; stopped after one of these, after the first with, and before the last."""
    how = {**HOW, "episodes": 10, "warm_up": 4}
    played = 0

    def play(choose: Callable[[Tensor], float]) -> Episode:
        nonlocal played
        played += 1
        monkeypatch.setattr(STOP, "raised", played == at)
        return replace(budget(choose), outcome={"one": played})

    def search() -> tuple[Agent, Episode]:
        agent = Agent(3, hidden=8, batch_size=4, memory=6)
        file = ResumeFile(tmp_path / "resume.safetensors", fingerprint="this")
        return agent, explored(agent, play, draws=draws_of(3), **how, resume=file)

    with pytest.raises(Stopped):
        search()
    agent, best = search()
    assert played == 10
    (tmp_path / "resume.safetensors").unlink()
    at, played = 0, 0
    whole, best_of_whole = search()
    state, expected = agent.state(), whole.state()
    torch.testing.assert_close(state, expected, rtol=0, atol=0)
    assert (best.reward, best.outcome) == (best_of_whole.reward, best_of_whole.outcome)
    assert torch.equal(best.actions, best_of_whole.actions)


def test_the_agent_waits_for_the_warm_up() -> None:
    agent, untouched = Agent(3, hidden=8), Agent(3, hidden=8)
    explored(agent, budget, draws=draws_of(0), **{**HOW, "episodes": 5, "warm_up": 5})
    assert agent.act(torch.ones(3)) == untouched.act(torch.ones(3))


@pytest.mark.parametrize(("mean", "deviation"), [(0.9, 0.5), (0.5, 0.1)])
def test_the_noise_is_a_truncated_normal(mean: float, deviation: float) -> None:
    draws = draws_of(0)
    found = [truncated_normal(mean, deviation, draws) for _ in range(1000)]
    expected = stats.truncnorm(-mean / deviation, (1 - mean) / deviation, mean, deviation)
    assert stats.kstest(found, expected.cdf).pvalue > 0.01
