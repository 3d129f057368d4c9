"""Auxiliary losses, and the choice of units by gradients: against sums by hand, and a net with units of no use."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from training.cases import NETS, build, images_of

from sharpminima.nets.masks import count
from sharpminima.pruning import METHODS, Run
from sharpminima.pruning.engine.auxiliary import Classified, reading_order, taps_of
from sharpminima.pruning.engine.units import units_of
from sharpminima.pruning.structured.dcp import Choice, Discriminating, search
from sharpminima.testing.task import small_run
from sharpminima.training import FlatModel


def settings(**changes: Any) -> Any:
    return METHODS["dcp"].settings(**{"dense": None, "batch_size": 20, "epochs": 2, **changes})


def run_of(kind: str, level: float = 0.5) -> Run:
    part = images_of(kind, 60, 0)
    return replace(small_run(), model=build(kind), training=part, validation=part, test=part, levels=(level,))


def a_policy(kind: str, level: float = 0.5, **changes: Any) -> tuple[Discriminating, FlatModel, Classified]:
    run, chosen = run_of(kind, level), settings(**changes)
    net = Classified(run, "dcp", chosen.losses)
    flat = FlatModel(net)
    return Discriminating(run, chosen, flat, level), flat, net


def test_classifiers_read_evenly_and_later_losses_weigh_more() -> None:
    """Four layers read units; the first has no classifier."""
    layers = [layer for _ in range(4) for layer in (nn.Linear(6, 6), nn.ReLU())]
    net = nn.Sequential(nn.Sequential(nn.Flatten(), layers[0]), *layers[1:], nn.Linear(6, 2))
    groups = units_of(net)
    order = reading_order(net, groups, torch.ones(1, 6))
    assert order == {"2": 0, "4": 1, "6": 2, "8": 3}
    taps = taps_of(groups, order, 3)
    assert [(tap.layer, tap.place, tap.weight) for tap in taps] == [("4", 1, 1 / 4), ("6", 2, 9 / 16), ("8", 3, 1.0)]
    assert [tap.layer for tap in taps_of(groups, order, 1)] == ["6"]


def test_the_auxiliary_loss_by_hand_leaves_batchnorm_alone() -> None:
    """One classifier, of the means of 4 maps behind ReLU; it is the last layer that reads units, so its weight is 1."""
    run = run_of("batchnorm")
    net = Classified(run, "dcp", 3)
    (tap,) = net.taps
    assert (tap.layer, tap.weight) == ("6", 1.0)
    images, labels = run.training.images, run.training.labels
    before = copy.deepcopy(net.state_dict())
    found = net.train().auxiliary_loss(images, labels)
    maps = nn.Sequential(*list(copy.deepcopy(net.model))[:5])(images)
    expected = F.cross_entropy(maps.mean((2, 3)) @ net.of("6.weight").T + net.of("6.bias"), labels)
    torch.testing.assert_close(found, expected)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_units_are_judged_by_the_first_classifier_behind_all_that_read_them() -> None:
    net = Classified(run_of("convolutional"), "dcp", 3)
    behind = {group.name: None if (tap := net.behind(group)) is None else tap.layer for group in net.groups}
    assert behind == {"conv1": "fc1", "conv2": "fc2", "fc1": None}
    residual = Classified(run_of("residual"), "dcp", 3)
    (stream, *_) = residual.groups
    assert "fc" in stream.readers
    assert residual.behind(stream) is None


@pytest.mark.parametrize("kind", ["linear", "batchnorm"])
def test_the_unit_of_the_largest_gradient_comes_back_first(kind: str) -> None:
    """Against the loss as a function of one unit's weights after another, by central differences."""
    policy, _, net = a_policy(kind)
    model, group = net.model.eval(), net.groups[0]
    choice = Choice(model, group, lambda parameters: torch.optim.SGD(parameters, 0.0))
    policy.original.eval()
    losses = policy.losses(model, group, choice)
    (weight,) = choice.weights.values()

    def loss() -> float:
        with torch.no_grad():
            return sum(each().item() for each in losses)

    gradient = torch.zeros_like(weight)
    with torch.no_grad():
        for place in range(weight.numel()):
            sides = []
            for step in (1e-5, -1e-5):
                weight.view(-1)[place] = step
                sides.append(loss())
            weight.view(-1)[place] = 0.0
            gradient.view(-1)[place] = (sides[0] - sides[1]) / 2e-5
    norms = gradient.square().flatten(2).sum(2).sqrt().sum(0)
    choice.add(losses, 1)
    assert choice.chosen.nonzero().flatten().tolist() == [int(norms.argmax())]
    first = int(norms.argmax())
    assert torch.equal(weight[:, first], choice.whole[next(iter(choice.whole))][:, first])
    assert int(weight.flatten(2).any(2).any(0).sum()) == 1


def test_a_fit_moves_what_has_come_back_and_the_bias_alone() -> None:
    policy, _, net = a_policy("convolutional", lr=0.1)
    group = net.groups[1]
    before = copy.deepcopy(net.state_dict())
    keep = policy.chosen(net.model, group, 3)
    assert int(keep.sum()) == 3
    weight, whole = net.model.fc1.weight.unflatten(1, (8, 9)), before["model.fc1.weight"].unflatten(1, (8, 9))
    assert not weight[:, ~keep].any()
    assert (weight[:, keep] != whole[:, keep]).all()
    assert not torch.equal(net.model.fc1.bias, before["model.fc1.bias"])
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"model.fc1.weight", "model.fc1.bias"}


def test_a_fit_lowers_the_loss() -> None:
    """What is chosen at a rate of next to nothing, which is no fit, has a higher sum of losses."""

    def after(lr: float) -> Tensor:
        policy, _, net = a_policy("convolutional", lr=lr)
        group = net.groups[0]
        policy.chosen(net.model, group, 2)
        kept = Choice(net.model, group, lambda parameters: torch.optim.SGD(parameters, 0.0))
        with torch.no_grad():
            for name, weight in kept.weights.items():
                weight.copy_(kept.whole[name])
            net.model.eval()
            policy.original.eval()
            return torch.stack([each() for each in policy.losses(net.model, group, kept)]).sum()

    assert after(0.1) < after(1e-9) - 0.02


@pytest.mark.parametrize("kind", NETS)
def test_layers_have_their_turns_behind_the_first_part(kind: str) -> None:
    run = run_of(kind)
    found = search(run, 0.5, settings(epochs=3, begin=0.5, samples_per_class=7, units=8), None)
    survivors, size = count(found.masks)
    assert survivors <= round(0.5 * size)
    assert [row["sparsity"] > 0 for row in found.history] == [False, True, True]
    assert found.state.keys() == run.model.state_dict().keys()


def test_a_unit_that_nothing_hears_leaves() -> None:
    """It is always 0: its weights in the next layer have no gradient."""
    run = small_run()
    model = run.model
    with torch.no_grad():
        model[1].weight[5] = 0.0
        model[1].bias[5] = 0.0
    policy_settings = settings(samples_per_class=20, lr=0.02)
    found = search(replace(run, model=model), 1 / 12, policy_settings, None)
    assert (~found.masks["1.bias"]).nonzero().flatten().tolist() == [5]
