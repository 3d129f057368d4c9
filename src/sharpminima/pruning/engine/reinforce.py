"""Policies over yes and no, trained by the reward alone: REINFORCE (Williams, "Simple statistical gradient-following
algorithms for connectionist reinforcement learning", Machine Learning 8, 1992).

A policy gives a logit for each of n independent actions a in {0, 1}^n. Of M draws a_i with rewards R_i the gradient of
the expected reward is estimated, up to its scale, by

    1 / M sum_i (R_i - mean R) / (std R) grad log pi(a_i).

The mean is a baseline, and the deviation makes the step independent of the rewards' scale: a few that are far below all
others would otherwise drive the policy to where nothing is drawn any more.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def log_probability(logits: Tensor, actions: Tensor) -> Tensor:
    """log pi of actions [..., n] under logits [n]: [...].

    >>> log_probability(torch.tensor([0.0, 0.0]), torch.tensor([True, False])).exp()
    tensor(0.2500)
    """
    chosen = actions.to(logits.dtype)
    return -F.binary_cross_entropy_with_logits(logits.expand_as(chosen), chosen, reduction="none").sum(-1)


def surrogate(logits: Tensor, actions: Tensor, advantages: Tensor) -> Tensor:
    """What has minus the estimate as its gradient: []; ``actions`` [M, n], ``advantages`` [M], the factors above."""
    return -(advantages * log_probability(logits, actions)).mean()


def advantages_of(rewards: Tensor) -> Tensor:
    """Rewards [M], M > 1, to mean 0 and deviation 1; where all are equal 0.

    >>> advantages_of(torch.tensor([1.0, 2.0, 3.0])), advantages_of(torch.tensor([2.0, 2.0]))
    (tensor([-1.,  0.,  1.]), tensor([0., 0.]))
    """
    return (rewards - rewards.mean()) / rewards.std().clamp_min(1e-12)


def reinforced(
    policy: nn.Module,
    state: Tensor,
    reward: Callable[[Tensor], float],
    *,
    updates: int,
    samples: int,
    lr: float,
    draws: torch.Generator,
) -> Tensor:
    """The actions [n] (bool, CPU) of highest reward that are met while a policy is trained, in place, by Adam.

    They are those that are drawn, and in the end the most probable.

    Args:
        policy: state -> logits [n].
        reward: of actions [n] (bool, CPU).
        updates: of the policy.
        samples: M, the draws of an update, two at least.

    >>> class Free(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.logits = nn.Parameter(torch.zeros(4))
    ...     def forward(self, state):
    ...         return self.logits
    >>> wanted = torch.tensor([True, False, False, True])
    >>> agree = lambda actions: float((actions == wanted).sum())
    >>> how = {"updates": 40, "samples": 5, "lr": 0.2, "draws": torch.Generator().manual_seed(0)}
    >>> reinforced(Free(), torch.zeros(()), agree, **how)
    tensor([ True, False, False,  True])
    """
    optimiser = torch.optim.Adam(policy.parameters(), lr=lr)
    best, most = torch.zeros(0, dtype=torch.bool), -float("inf")
    for _ in range(updates):
        logits = policy(state)
        chances = logits.detach().cpu().double().sigmoid()
        actions = torch.rand(samples, len(chances), generator=draws, dtype=torch.float64) < chances
        rewards = [reward(each) for each in actions]
        highest = max(rewards)
        if highest > most:
            best, most = actions[rewards.index(highest)], highest
        optimiser.zero_grad()
        surrogate(logits, actions.to(logits.device), advantages_of(torch.tensor(rewards).to(logits))).backward()
        optimiser.step()
    with torch.no_grad():
        mode = (policy(state) > 0).cpu()
    return mode if reward(mode) >= most else best
