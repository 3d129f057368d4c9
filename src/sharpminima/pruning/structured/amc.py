"""AMC: He, Lin, Liu, Wang, Li, Han, "AMC: AutoML for model compression and acceleration on mobile devices", ECCV 2018.

An agent (`sharpminima.pruning.engine.ddpg`) goes through the layers of a trained net and says of each how many of its
units stay: from the share `lower` (action 0) to as many (action 1) as the budget allows if all layers after it keep no
more than `lower`. The units stay whose weights in the next layer have the largest L1 norm, and that layer's weights are
set by least squares to give the sums that it had. The reward of an episode is - error, or - error log FLOPs, of the net
before any training. The net of the best episode is trained on.

State, bounds, reward, units, least squares, noise and all rates are as in the authors' code. Ours: the budget, which is
the level's number of weights, where theirs is FLOPs, in the state too; an action is a place between the two bounds,
where theirs is a share of the units that is cut off at them: at 95 % of LeNet-300 less than a tenth of the first
layer's units may stay, and nearly all shares would be the same net; what an episode leaves over is given back to all
layers alike, so that levels are comparable; `lower` is less where the level needs it; the error is on a sample of
training images; least squares with a slight pull to the weights as they are; layers that residual additions join have
one action; and fewer episodes, since the nets are small.
"""

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from sharpminima.catalogue.methods.structured import AmcSettings
from sharpminima.data import Split
from sharpminima.nets.compaction import Units
from sharpminima.nets.modes import eval_mode
from sharpminima.nets.resume import ResumeFile
from sharpminima.pruning.engine.activations import columns_of, second_moments, without_columns
from sharpminima.pruning.engine.criteria import draw_sample
from sharpminima.pruning.engine.ddpg import Agent, Episode, explored
from sharpminima.pruning.engine.distribution import survivors_at
from sharpminima.pruning.engine.method import Run
from sharpminima.pruning.engine.ranking import highest_first
from sharpminima.pruning.engine.search import SearchPolicy, SearchResult, search_result
from sharpminima.pruning.engine.trainings import Trainings, fit
from sharpminima.pruning.engine.units import UnitCosts, unit_masks, units_of
from sharpminima.runtime.rng import derive_seed, generator
from sharpminima.training import FlatModel

FEATURES = 11


class Channels:
    """What an agent acts on: the numbers of units of a trained net's layers, within a budget of weights.

    Args:
        budget: weights that may be left.
        lower: share of each layer's units that is left in any case, unless the budget needs less.
    """

    def __init__(self, model: nn.Module, sample: Split, budget: int, lower: float, reward: str) -> None:
        self.model, self.sample, self.budget, self._reward = model, sample, budget, reward
        self.groups = units_of(model)
        self.costs = UnitCosts(model, self.groups, sample.images[:1])
        self.all = {group.name: group.count for group in self.groups}
        self.least = self._least(lower)
        self.readers = list(dict.fromkeys(layer for group in self.groups for layer in group.readers))
        self._weights = {name: self.weight(name).double().flatten(1) for name in self.readers}
        self._moments = second_moments(model, self.readers, sample.images)
        norms = {group.name: self._norms(group) for group in self.groups}
        self._order = {name: highest_first(name, norm) for name, norm in norms.items()}
        self._fixed = self._features()

    def weight(self, layer: str) -> Tensor:
        """The weights of a layer, as they were trained."""
        return self.model.get_parameter(f"{layer}.weight").detach()

    def _least(self, lower: float) -> dict[str, int]:
        """Units that each layer keeps: the share ``lower``, or as much less of it as half the budget needs."""
        share = lower
        while True:
            least = {name: max(1, math.floor(share * count)) for name, count in self.all.items()}
            if 2 * self.costs.weights(least) <= self.budget or set(least.values()) == {1}:
                return least
            share *= 0.9

    def _norms(self, group: Units) -> Tensor:
        """L1 norms of what reads each unit [count] (CPU)."""
        return sum(
            (
                self.weight(layer).abs().transpose(0, 1).flatten(1).sum(1).cpu()[inputs].sum(1)
                for layer, inputs in group.readers.items()
            ),
            start=torch.zeros(group.count),
        )

    def _features(self) -> Tensor:
        """What of the states is known of each layer: its place, kind, sizes and cost [layers, FEATURES - 3]."""
        rows = []
        whole = self.costs.layers(self.all)
        for place, group in enumerate(self.groups):
            layer = self.model.get_submodule(group.name)
            kernel, stride = (layer.kernel_size[0], layer.stride[0]) if isinstance(layer, nn.Conv2d) else (1, 1)
            places = self.costs.places[group.name]
            sizes = (group.count, self.weight(group.name).shape[1], kernel, stride, places)
            rows.append([place, isinstance(layer, nn.Conv2d), *sizes, places * whole[group.name]])
        features = torch.tensor(rows, dtype=torch.float64)
        low, high = features.amin(0), features.amax(0)
        return ((features - low) / (high - low).clamp_min(1e-12)).float()

    def play(self, choose: Callable[[Tensor], float]) -> Episode:
        """An episode: states and actions of all layers, the reward, and the numbers of units by group."""
        states, actions = [], []
        kept, last = dict(self.least), 1.0
        size = self.costs.weights(self.all)
        for place, group in enumerate(self.groups):
            decided = {name: kept[name] if number < place else self.all[name] for number, name in enumerate(self.all)}
            reduced = 1 - self.costs.weights(decided) / size
            rest = sum(self.costs.layers(self.all)[later.name] for later in self.groups[place + 1 :]) / size
            states.append(torch.cat([self._fixed[place], torch.tensor([reduced, rest, last])]))
            actions.append(choose(states[-1]))
            kept[group.name] = self.bounded(kept, group, actions[-1])
            last = kept[group.name] / group.count
        kept = self.filled(kept)
        return Episode(torch.stack(states), torch.tensor(actions), self.reward(kept), kept)

    def bounded(self, kept: dict[str, int], group: Units, share: float) -> int:
        """Units of a layer: at ``share`` 0 the least, at 1 as many as the budget has room for with the others kept."""
        least = self.least[group.name]
        low, high = least, group.count
        while low < high:
            middle = (low + high + 1) // 2
            fits = self.costs.weights({**kept, group.name: middle}) <= self.budget
            low, high = (middle, high) if fits else (low, middle - 1)
        return least + round(share * (low - least))

    def filled(self, kept: dict[str, int]) -> dict[str, int]:
        """As many units more, in proportion to those that are kept, as the budget allows."""
        low, high = 1.0, max(self.all[name] / number for name, number in kept.items())
        for _ in range(30):
            middle = (low + high) / 2
            fits = self.costs.weights(self._times(kept, middle)) <= self.budget
            low, high = (middle, high) if fits else (low, middle)
        filled = self._times(kept, low)
        while more := [
            {**filled, name: filled[name] + 1}
            for name in sorted(kept, key=lambda name: (filled[name] + 1) / kept[name])
            if filled[name] < self.all[name] and self.costs.weights({**filled, name: filled[name] + 1}) <= self.budget
        ]:
            filled = more[0]
        return filled

    def _times(self, kept: dict[str, int], factor: float) -> dict[str, int]:
        return {name: min(self.all[name], math.floor(factor * number)) for name, number in kept.items()}

    def keep(self, kept: dict[str, int]) -> dict[str, Tensor]:
        """Which units stay, by group: bool [count], ``kept`` of each."""
        keep = {}
        for name, order in self._order.items():
            keep[name] = torch.zeros(len(order), dtype=torch.bool)
            keep[name][order[: kept[name]]] = True
        return keep

    def weights(self, keep: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weights of all layers that read units, by least squares for those that stay: parameter name -> weight."""
        weights = {}
        for name in self.readers:
            there = torch.ones(self._weights[name].shape[1], dtype=torch.bool)
            for group in self.groups:
                if name in group.readers:
                    gone = group.readers[name][~keep[group.name]]
                    there[columns_of(self.model.get_submodule(name), gone).flatten()] = False
            weight = without_columns(self._weights[name], self._moments[name], there.to(self._weights[name].device))
            weights[f"{name}.weight"] = weight.view(self.weight(name).shape).to(self.weight(name).dtype)
        return weights

    @torch.no_grad()
    def reward(self, kept: dict[str, int]) -> float:
        """- error of the sample, in [0, 1], or that times the logarithm of the FLOPs."""
        with eval_mode(self.model):
            outputs = functional_call(self.model, self.weights(self.keep(kept)), (self.sample.images,))
        error = float((outputs.argmax(1) != self.sample.labels).double().mean())
        return -error if self._reward == "error" else -error * math.log(2 * self.costs.multiplications(kept))


def numbers_of_units(
    run: Run, level: float, settings: AmcSettings, resume: ResumeFile | None = None
) -> tuple[Channels, dict[str, int]]:
    """The numbers of units of the best episode, and what they are numbers of."""
    model = copy.deepcopy(run.model)
    sample = draw_sample(run.training, settings.samples_per_class, generator(run.seed, "amc", "sample"))
    whole = UnitCosts(model, units_of(model), sample.images[:1])
    size = whole.weights({group.name: group.count for group in units_of(model)})
    channels = Channels(model, sample, survivors_at(level, size), settings.lower, settings.reward)
    agent = Agent(
        FEATURES,
        hidden=settings.hidden,
        actor_lr=settings.actor_lr,
        critic_lr=settings.critic_lr,
        tau=settings.tau,
        batch_size=settings.agent_batch,
        memory=settings.memory * len(channels.groups),
        seed=derive_seed(run.seed, "amc", "agent"),
    )
    best = explored(
        agent,
        channels.play,
        episodes=settings.episodes,
        warm_up=settings.warm_up,
        noise=settings.noise,
        decay=settings.decay,
        draws=generator(run.seed, "amc", "actions"),
        resume=resume,
    )
    return channels, best.outcome


def _pruned(run: Run, level: float, settings: AmcSettings, resume: ResumeFile | None) -> dict[str, Any]:
    channels, kept = numbers_of_units(run, level, settings, resume)
    keep = channels.keep(kept)
    return {"keep": keep, "weights": {name: weight.cpu() for name, weight in channels.weights(keep).items()}}


def search(run: Run, level: float, settings: AmcSettings, resume: ResumeFile | None) -> SearchResult:
    """Let an agent choose the numbers of units, then train on with those."""
    stages = Trainings(resume)
    pruned = stages.run("policy", lambda resume: _pruned(run, level, settings, resume))

    def train(resume: ResumeFile | None) -> dict[str, Any]:
        model = copy.deepcopy(run.model)
        model.load_state_dict(pruned["weights"], strict=False)
        flat = FlatModel(model)
        masks = unit_masks(model, units_of(model), pruned["keep"])
        flat.set_masks(masks)
        history = fit(run, flat, SearchPolicy(run, settings), settings, ("amc", "search"), resume)
        return vars(search_result(flat, masks, history))

    return SearchResult(**stages.run("training", train))
