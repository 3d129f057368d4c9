"""Deep deterministic policy gradient: Lillicrap, Hunt, Pritzel, Heess, Erez, Tassa, Silver, Wierstra, "Continuous
control with deep reinforcement learning", ICLR 2016, as He, Lin, Liu, Wang, Li, Han, "AMC", ECCV 2018, use it.

An actor mu(s) in [0, 1] is trained to have a high Q(s, mu(s)), and a critic to have

    Q(s, a) = r - b + gamma Q'(s', mu'(s')),

the last term but where s is the last of its episode. Q' and mu' follow Q and mu slowly; b is a moving average of the
rewards of batches, drawn from what is remembered. Every step has its episode's reward, and gamma is 1.
"""

import copy
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sharpminima.base.stop import STOP
from sharpminima.nets.resume import ResumeFile, save_or_stop

_KEPT = 0.5  # of the moving average of rewards from batch to batch
_START = 0.003  # of the last layers' weights, at most: all actions start at .5


@dataclass(frozen=True)
class Episode:
    """One way through all steps."""

    states: Tensor  # [steps, features]
    actions: Tensor  # [steps], in [0, 1]
    reward: float
    outcome: Any = None  # what the actions led to


class _Step(NamedTuple):
    """What is remembered of a step."""

    state: Tensor
    action: Tensor
    reward: float  # of its episode
    after: Tensor  # the state that followed
    goes_on: bool  # whether one followed


class Network(nn.Module):
    """Features [..., features] to one number [...], by two hidden layers."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1)
        )
        for parameter in self.layers[-1].parameters():
            nn.init.uniform_(parameter, -_START, _START)

    def forward(self, features: Tensor) -> Tensor:
        """The numbers."""
        numbers: Tensor = self.layers(features).squeeze(-1)
        return numbers


class Agent:
    """Actor, critic, and what they remember.

    Args:
        features: of a state.
        hidden: units of each hidden layer.
        actor_lr, critic_lr: by Adam.
        tau: what Q' and mu' take over of Q and mu in an update.
        batch_size: steps of an update.
        memory: steps that are remembered.
        seed: of the initial weights.
    """

    def __init__(
        self,
        features: int,
        *,
        hidden: int = 300,
        actor_lr: float = 1e-4,
        critic_lr: float = 1e-3,
        tau: float = 0.01,
        batch_size: int = 64,
        memory: int = 1000,
        seed: int = 0,
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self._actor, self._critic = Network(features, hidden), Network(features + 1, hidden)
        self._slow_actor, self._slow_critic = copy.deepcopy(self._actor), copy.deepcopy(self._critic)
        self._actor_optimiser = torch.optim.Adam(self._actor.parameters(), lr=actor_lr)
        self._critic_optimiser = torch.optim.Adam(self._critic.parameters(), lr=critic_lr)
        self._tau, self._batch_size = tau, batch_size
        self._memory: deque[_Step] = deque(maxlen=memory)
        self._average: float | None = None

    @torch.no_grad()
    def act(self, state: Tensor) -> float:
        """mu(s) of a state [features]."""
        return float(self._actor(state).sigmoid())

    def remember(self, episode: Episode) -> None:
        """Keep the steps of an episode."""
        last = len(episode.actions) - 1
        for step in range(last + 1):
            after = episode.states[min(step + 1, last)]
            self._memory.append(_Step(episode.states[step], episode.actions[step], episode.reward, after, step < last))

    def update(self, draws: torch.Generator) -> None:
        """One step of critic and actor on remembered steps."""
        places = torch.randint(len(self._memory), (self._batch_size,), generator=draws).tolist()
        some = [self._memory[place] for place in places]
        states = torch.stack([step.state for step in some])
        actions = torch.stack([step.action for step in some])
        rewards = torch.tensor([step.reward for step in some])
        after = torch.stack([step.after for step in some])
        goes_on = torch.tensor([step.goes_on for step in some])
        mean = float(rewards.mean())
        self._average = mean if self._average is None else _KEPT * self._average + (1 - _KEPT) * mean
        with torch.no_grad():
            then = self._value(self._slow_critic, after, self._slow_actor(after).sigmoid())
            wanted = rewards - self._average + goes_on * then
        self._step(self._critic_optimiser, F.mse_loss(self._value(self._critic, states, actions), wanted))
        self._step(self._actor_optimiser, -self._value(self._critic, states, self._actor(states).sigmoid()).mean())
        with torch.no_grad():
            for slow, fast in ((self._slow_actor, self._actor), (self._slow_critic, self._critic)):
                for one, other in zip(slow.parameters(), fast.parameters(), strict=True):
                    one.lerp_(other, self._tau)

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, as tensors and JSON values; a resume file holds it."""
        return {
            "nets": [net.state_dict() for net in self._nets],
            "optimisers": [optimiser.state_dict() for optimiser in self._optimisers],
            "memory": [list(step) for step in self._memory],
            "average": self._average,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`, to the same bits."""
        for net, saved in zip(self._nets, state["nets"], strict=True):
            net.load_state_dict(saved)
        for optimiser, saved in zip(self._optimisers, state["optimisers"], strict=True):
            # JSON's keys are texts.
            moments = {int(number): moment for number, moment in saved["state"].items()}
            optimiser.load_state_dict({**saved, "state": moments})
        self._memory.extend(_Step(*step) for step in state["memory"])
        self._average = state["average"]

    @property
    def _nets(self) -> tuple[nn.Module, ...]:
        return self._actor, self._critic, self._slow_actor, self._slow_critic

    @property
    def _optimisers(self) -> tuple[torch.optim.Optimizer, ...]:
        return self._actor_optimiser, self._critic_optimiser

    @staticmethod
    def _value(critic: nn.Module, states: Tensor, actions: Tensor) -> Tensor:
        value: Tensor = critic(torch.cat([states, actions[:, None]], 1))
        return value

    @staticmethod
    def _step(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def truncated_normal(mean: float, deviation: float, draws: torch.Generator) -> float:
    """A draw in [0, 1] of a normal distribution that is cut off there.

    >>> truncated_normal(0.25, 1e-6, torch.Generator().manual_seed(0))
    0.25...
    """
    edges = (torch.tensor([0.0, 1.0], dtype=torch.float64) - mean) / deviation
    low, high = torch.special.ndtr(edges)
    uniform = torch.rand((), generator=draws, dtype=torch.float64)
    drawn = mean + deviation * torch.special.ndtri(low + (high - low) * uniform)
    return float(drawn.clamp(0.0, 1.0))


def explored(
    agent: Agent,
    play: Callable[[Callable[[Tensor], float]], Episode],
    *,
    episodes: int,
    warm_up: int,
    noise: float,
    decay: float,
    draws: torch.Generator,
    resume: ResumeFile | None = None,
) -> Episode:
    """The episode of highest reward while an agent is trained, in place.

    Args:
        play: an episode whose actions are what it is given makes of states; it may put bounds to them.
        episodes: in all.
        warm_up: of them, at first, whose actions are uniform draws; the agent is not trained.
        noise: deviation of the truncated normal around the actor's action in the first episode after those.
        decay: of the noise from episode to episode.
        resume: where the state is written when it is due and on SIGTERM; a call goes on from what it holds. Outcomes of
            episodes must then be JSON values.

    Raises:
        Stopped: SIGTERM came; the resume file, where there is one, holds the state.
    """
    best: Episode | None = None
    begin = 0
    if resume is not None and (saved := resume.load()) is not None:
        agent.restore(saved["agent"])
        draws.set_state(saved["draws"])
        best, begin = Episode(**saved["best"]), saved["episode"]
    for number in range(begin, episodes):

        def choose(state: Tensor, number: int = number) -> float:
            if number < warm_up:
                return float(torch.rand((), generator=draws))
            return truncated_normal(agent.act(state), noise * decay ** (number - warm_up), draws)

        episode = play(choose)
        agent.remember(episode)
        for _ in episode.actions if number >= warm_up else ():
            agent.update(draws)
        if best is None or episode.reward > best.reward:
            best = episode
        if STOP.raised or (resume is not None and resume.due()):
            state = {"agent": agent.state(), "draws": draws.get_state(), "best": vars(best), "episode": number + 1}
            save_or_stop(resume, state.copy)
    assert best is not None
    return best
