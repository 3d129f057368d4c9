"""Least squares layer by layer: sums against brute force, and nets whose answer is known."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import lars_path
from torch import Tensor, nn

from sharpminima.data import Split
from sharpminima.nets.masks import count
from sharpminima.pruning import METHODS, Run
from sharpminima.pruning.engine.activations import (
    columns_of,
    contributions,
    rows_at,
    rows_of,
    second_moments,
    without_columns,
)
from sharpminima.pruning.engine.units import units_of
from sharpminima.pruning.structured.lasso_channels import LassoChannels, chosen_by_lasso
from sharpminima.pruning.structured.layer_by_layer import LayerByLayer
from sharpminima.pruning.structured.thinet import ThiNet, removed_greedily
from sharpminima.training import FlatModel

KINDS = [(ThiNet, "thinet"), (LassoChannels, "lasso_channels")]


def draws_of(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def run_of(model: nn.Module, *shape: int, level: float = 0.5) -> Run:
    part = Split(torch.randn(30, *shape, generator=draws_of(1)), torch.arange(30) % 3)
    return Run(model, part, part, part, (level,), seed=0, augment=False)


def a_policy(kind: type[LayerByLayer], name: str, run: Run, **settings: Any) -> tuple[LayerByLayer, FlatModel]:
    flat = FlatModel(copy.deepcopy(run.model))
    chosen = METHODS[name].settings(batch_size=10, epochs=2, **settings)
    return kind(run, chosen, flat, run.levels[0], name), flat


def test_rows_times_weights_are_what_layers_compute() -> None:
    net = nn.Sequential(nn.Conv2d(2, 3, 2, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(27, 4)).double()
    images = torch.randn(5, 2, 4, 4, generator=draws_of(0), dtype=torch.float64)
    rows = rows_at(net, ["0", "3"], images)
    maps = rows["0"] @ net[0].weight.flatten(1).T + net[0].bias
    torch.testing.assert_close(maps.view(5, 9, 3).transpose(1, 2).flatten(2), net[0](images).flatten(2))
    torch.testing.assert_close(rows["3"] @ net[3].weight.T + net[3].bias, net(images))
    assert net.training


@pytest.mark.parametrize("padding_mode", ["zeros", "reflect", "replicate", "circular"])
def test_rows_have_the_padding_of_their_layer(padding_mode: str) -> None:
    """Unequal sides, so that an order of axes that is wrong shows."""
    layer = nn.Conv2d(
        2, 3, 3, stride=2, padding=(1, 2), dilation=(1, 2), padding_mode=padding_mode, bias=False
    ).double()
    images = torch.randn(5, 2, 6, 9, generator=draws_of(0), dtype=torch.float64)
    sums = rows_of(layer, images) @ layer.weight.flatten(1).T
    torch.testing.assert_close(sums.transpose(1, 2), layer(images).flatten(2))


@pytest.mark.parametrize("convolutional", [False, True])
def test_contributions_are_those_of_units_left_alone(convolutional: bool) -> None:
    """Against the layer's output where all units but one are zero."""
    draws = draws_of(0)
    if convolutional:
        layer, inputs = nn.Conv2d(4, 3, 2, bias=False).double(), torch.arange(4)[:, None]
        images = torch.randn(6, 4, 3, 3, generator=draws, dtype=torch.float64)
    else:
        layer, inputs = nn.Linear(8, 3, bias=False).double(), torch.arange(8).view(4, 2)  # a flattened map of two
        images = torch.randn(6, 8, generator=draws, dtype=torch.float64)
    given = []
    for unit in inputs:
        alone = torch.zeros_like(images)
        alone[:, unit] = images[:, unit]
        given.append(layer(alone).flatten())
    expected = torch.stack(given) @ torch.stack(given).T
    rows = rows_of(layer, images).flatten(0, 1)
    found = contributions(rows, layer.weight.flatten(1), columns_of(layer, inputs))
    torch.testing.assert_close(found, expected)


def test_least_squares_from_moments_are_those_of_the_rows() -> None:
    """Of 120 images in parts: what is left gives the sums nearest to those of all inputs, but for the slight pull."""
    layer, images = nn.Conv2d(4, 3, 2).double(), torch.randn(120, 4, 3, 3, generator=draws_of(0), dtype=torch.float64)
    rows, weight = rows_of(layer, images).flatten(0, 1), layer.weight.detach().flatten(1)
    moments = second_moments(nn.Sequential(layer), ["0"], images)["0"]
    torch.testing.assert_close(moments, rows.T @ rows)
    keep = torch.ones(16, dtype=torch.bool)
    keep[4:8] = False
    expected = torch.linalg.lstsq(rows[:, keep], rows @ weight.T).solution.T
    found = without_columns(weight, moments, keep)
    torch.testing.assert_close(found[:, keep], expected, atol=1e-3, rtol=1e-3)
    assert not found[:, ~keep].any()


def test_thinet_removes_what_the_search_of_all_would_where_that_is_greedy() -> None:
    """One after another each is the best of those that are left, by the norm of the sum of all that leave."""
    a = torch.randn(5, 40, generator=draws_of(4), dtype=torch.float64)
    removed: list[int] = []
    for number in range(1, 5):
        norms = {unit: a[[*removed, unit]].sum(0).norm().item() for unit in range(5) if unit not in removed}
        removed.append(min(norms, key=lambda unit: norms[unit]))
        assert removed_greedily(a @ a.T, number).nonzero().flatten().tolist() == sorted(removed)


@pytest.mark.parametrize("left", [1, 2, 3, 4, 5])
def test_the_lasso_keeps_what_the_path_of_lars_has(left: int) -> None:
    draws = np.random.default_rng(0)
    x = draws.normal(size=(300, 6))
    y = x @ np.array([3.0, -2.5, 2.0, 1.5, -1.0, 0.5]) + draws.normal(size=300)
    _, _, path = lars_path(x, y, method="lasso")
    (first, *_) = [beta for beta in path.T if np.count_nonzero(beta) == left]
    keep = chosen_by_lasso(torch.from_numpy(x.T @ x), torch.from_numpy(x.T @ y), left)
    assert keep.tolist() == (first != 0).tolist()


def test_of_channels_that_give_nothing_any_may_stay() -> None:
    """Dead units: no strength of the lasso has a beta, and the least squares have no equation."""
    nothing = torch.zeros(3, 3, dtype=torch.float64)
    assert chosen_by_lasso(nothing, nothing[0], 2).tolist() == [True, True, False]
    moments = torch.diag(torch.tensor([0.0, 1.0], dtype=torch.float64))
    weight = torch.tensor([[2.0, 3.0]], dtype=torch.float64)
    assert without_columns(weight, moments, torch.tensor([True, False])).tolist() == [[2.0, 0.0]]


def twins() -> nn.Module:
    """Hidden units 0 and 2 are the same and give little; 1 and 3 give much."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))
    with torch.no_grad():
        net[1].weight.copy_(torch.randn(4, 4, generator=draws_of(2)))
        net[1].weight[2], net[1].bias[2] = net[1].weight[0], net[1].bias[0]
        net[3].weight.copy_(torch.randn(3, 4, generator=draws_of(3)))
        net[3].weight[:, 2] = net[3].weight[:, 0]
        net[3].weight[:, [0, 2]] *= 0.1
    return net


@pytest.mark.parametrize(("kind", "name"), KINDS)
def test_a_unit_that_another_can_stand_for_leaves_without_loss(kind: type[LayerByLayer], name: str) -> None:
    run = run_of(twins(), 1, 2, 2, level=0.25)
    policy, flat = a_policy(kind, name, run)
    kept = policy.keep["1"].tolist()
    assert kept[1]
    assert kept[3]
    assert kept[0] != kept[2]
    images = run.training.images
    torch.testing.assert_close(flat.model(images), run.model(images), rtol=1e-2, atol=1e-2)


def test_the_lasso_makes_up_for_what_layers_before_have_lost() -> None:
    """With all channels kept and inputs scaled by a half before, the weights double."""
    run = run_of(twins(), 1, 2, 2, level=0.25)
    policy, _ = a_policy(LassoChannels, "lasso_channels", run)
    (group,) = units_of(run.model)
    halved = copy.deepcopy(run.model)
    with torch.no_grad():
        halved[1].weight[[1, 3]] *= 0.5
        halved[1].bias[[1, 3]] *= 0.5
    keep = policy.chosen(halved, group, 3)
    assert keep[[1, 3]].all()
    doubled = run.model[3].weight[:, [1, 3]] * 2
    torch.testing.assert_close(halved[3].weight[:, [1, 3]], doubled, rtol=1e-2, atol=1e-2)


def test_the_lasso_makes_up_for_biases_that_have_moved() -> None:
    """The net trains on between turns; a channel that is always 1 can take back what a bias has gained."""
    net = twins()
    with torch.no_grad():
        net[1].weight[1], net[1].bias[1] = 0.0, 1.0
    run = run_of(net, 1, 2, 2, level=0.25)
    policy, _ = a_policy(LassoChannels, "lasso_channels", run)
    (group,) = units_of(run.model)
    moved = copy.deepcopy(run.model)
    with torch.no_grad():
        moved[3].bias += torch.tensor([0.5, -0.5, 1.0])
    policy.chosen(moved, group, 4)
    images = run.training.images
    torch.testing.assert_close(moved(images), run.model(images), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(("kind", "name"), KINDS)
def test_layers_have_their_turns_in_the_order_of_the_forward_pass(kind: type[LayerByLayer], name: str) -> None:
    """Three layers, six steps: after 0, 2 and 4; the same share of each leaves, and a resumed one knows its turn."""
    net = nn.Sequential(
        nn.Conv2d(1, 8, 2), nn.ReLU(), nn.Conv2d(8, 12, 2), nn.ReLU(), nn.Flatten(), nn.Linear(12, 16), nn.Linear(16, 3)
    )
    run = run_of(net, 1, 3, 3, level=0.75)
    policy, flat = a_policy(kind, name, run)
    taken = []
    for _ in range(6):
        taken.append([int(keep.sum()) for keep in policy.keep.values()])
        policy.after_step(flat)
    first, second, third = (int(keep.sum()) for keep in policy.keep.values())
    assert taken == [[first, 12, 16]] * 2 + [[first, second, 16]] * 2 + [[first, second, third]] * 2
    assert [first / 8, second / 12, third / 16] == pytest.approx([0.5] * 3, abs=1 / 8)  # whole units
    survivors = int(sum(weight.count_nonzero() for weight in flat.model.parameters() if weight.ndim > 1))
    assert (
        survivors
        <= count({key: torch.ones(value.shape) for key, value in net.named_parameters() if value.ndim > 1})[0] / 3
    )
    other, _ = a_policy(kind, name, run)
    other.restore(policy.state())
    assert other._turns == 3


def test_the_net_is_nearer_to_the_whole_than_without_least_squares() -> None:
    """One layer of 40 units, of which half leave: the error of the sums is less than by removal alone."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 40), nn.ReLU(), nn.Linear(40, 3))
    run = run_of(net, 1, 2, 2)
    images = run.training.images

    def error(model: nn.Module) -> Tensor:
        return (model(images) - net(images)).norm()

    for kind, name in KINDS:
        policy, flat = a_policy(kind, name, run)
        alone = copy.deepcopy(net)
        with torch.no_grad():
            alone[3].weight[:, ~policy.keep["1"]] = 0.0
        assert error(flat.model) < 0.7 * error(alone)
