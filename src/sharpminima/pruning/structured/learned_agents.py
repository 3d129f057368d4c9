"""Pruning agents: Huang, Zhou, You, Neumann, "Learning to prune filters in convolutional neural networks", WACV 2018.

Layer by layer, an agent of its own sees a layer's weights and says of each unit whether it stays. Of the actions A

    R(A) = (b - (p* - p(A))) / b * log(N / N(A))

is the reward, with p* the accuracy before and p(A) the one after, N units of which N(A) stay: what leaves is rewarded
as long as the accuracy falls by less than b, and punished beyond. The agent is trained by REINFORCE. The strength is b.

The reward is as in public code that is not the authors'; that an agent draws several times an update, and layers have
their turns, is from general knowledge of the paper. Ours: the agent's net, one for all units of a layer, of the weights
of each alone; accuracy on a sample of training images without any training of what is left, and p* that of the net
before its first turn; rewards to deviation 1, and fewer updates than the paper's; the actions of highest reward that
were met; at least one unit stays; layers that residual additions join have one agent; and the net trains on between
turns, evenly over the search.
"""

import math

import torch
from torch import Tensor, nn
from torch.func import functional_call

from sharpminima.catalogue.methods.structured import LearnedAgentsSettings
from sharpminima.nets.compaction import Units
from sharpminima.nets.modes import eval_mode
from sharpminima.nets.resume import ResumeFile
from sharpminima.pruning.engine.method import Run
from sharpminima.pruning.engine.reinforce import reinforced
from sharpminima.pruning.engine.search import SearchResult
from sharpminima.pruning.engine.units import incoming
from sharpminima.pruning.structured import in_turns
from sharpminima.pruning.structured.in_turns import InTurns
from sharpminima.runtime.rng import derive_seed, generator
from sharpminima.training import FlatModel


class Agent(nn.Module):
    """Weights of units [units, weights] to the logits that each stays [units].

    Args:
        hidden: units of its two hidden layers.
        start: the logit of all at first, but for small draws.
    """

    def __init__(self, weights: int, hidden: int, start: float, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.layers = nn.Sequential(
                nn.Linear(weights, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1)
            )
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        nn.init.constant_(last.bias, start)

    def forward(self, weights: Tensor) -> Tensor:
        """Weights, to mean 0 and deviation 1 over the layer, to logits."""
        standard = (weights - weights.mean()) / weights.std().clamp_min(1e-12)
        logits: Tensor = self.layers(standard).squeeze(1)
        return logits


class Agents(InTurns):
    """An agent a layer, each trained at its turn."""

    def __init__(self, run: Run, settings: LearnedAgentsSettings, flat: FlatModel, target: float, name: str) -> None:
        super().__init__(run, settings, flat, target, name)
        self._seed = run.seed
        self._before = self.accuracy(self.original, {})
        self.take_turns(flat)

    @torch.no_grad()
    def accuracy(self, model: nn.Module, weights: dict[str, Tensor]) -> float:
        """The share of the sample that the net classifies rightly with ``weights`` in place of its own."""
        with eval_mode(model):
            outputs = functional_call(model, weights, (self.sample.images,))
        return float((outputs.argmax(1) == self.sample.labels).double().mean())

    def reward(self, model: nn.Module, group: Units, keep: Tensor) -> float:
        """R of keeping the units ``keep`` [count], or the first where that is none."""
        keep = at_least_one(keep)
        weights = {}
        for layer, inputs in group.readers.items():
            weight = model.get_parameter(f"{layer}.weight").detach().clone()
            weight[:, inputs[~keep].flatten().to(weight.device)] = 0.0
            weights[f"{layer}.weight"] = weight
        drop = self._before - self.accuracy(model, weights)
        return (self.target - drop) / self.target * math.log(group.count / int(keep.sum()))

    def kept(self, model: nn.Module, group: Units) -> Tensor:
        """What the layer's agent keeps."""
        weights = incoming(model, [group])[group.name]
        role = ("learned_agents", group.name)
        agent = Agent(weights.shape[1], self.settings.hidden, self.settings.begin, derive_seed(self._seed, *role))
        actions = reinforced(
            agent.to(weights),
            weights,
            lambda keep: self.reward(model, group, keep),
            updates=self.settings.updates,
            samples=self.settings.samples,
            lr=self.settings.agent_lr,
            draws=generator(self._seed, *role, "actions"),
        )
        return at_least_one(actions)


def at_least_one(keep: Tensor) -> Tensor:
    """``keep`` [units], or the first unit alone where it is none.

    >>> at_least_one(torch.tensor([False, False]))
    tensor([ True, False])
    """
    return keep if keep.any() else torch.arange(len(keep)) == 0


def search(run: Run, strength: float, settings: LearnedAgentsSettings, resume: ResumeFile | None) -> SearchResult:
    """Let agents prune layer after layer, training on after each."""
    return in_turns.search(run, strength, settings, resume, name="learned_agents", policy=Agents)
