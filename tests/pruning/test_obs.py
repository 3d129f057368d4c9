"""The optimal brain surgeon against the paper's own recursion, and what its step leaves of the error."""

import copy
import itertools

import pytest
import torch
from torch import Tensor, nn

from sharpminima.base.errors import ConfigError
from sharpminima.data import Split
from sharpminima.nets.masks import all_masks, count
from sharpminima.pruning import METHODS, Run
from sharpminima.pruning.engine.curvature import UnitCurvature, cotangents, gauss_newton_diagonal
from sharpminima.pruning.engine.distribution import survivors_at
from sharpminima.pruning.scored import obs
from sharpminima.pruning.scored.obs import Surgeon, inverse_diagonal, made_up, operate
from sharpminima.testing.task import small_run

ALPHA = 1e-2


def double(*layers: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(*(layer.double() for layer in layers))


def sample_of(*shape: int) -> Split:
    draws = torch.Generator().manual_seed(1)
    images = torch.randn(7, *shape, generator=draws, dtype=torch.float64)
    return Split(images, torch.arange(7) % 3)


def net_of_one_unit() -> nn.Module:
    return double(nn.Flatten(), nn.Linear(4, 1), nn.Tanh(), nn.Linear(1, 3))


def inverse_by_recursion(net: nn.Module, sample: Split) -> Tensor:
    """H^-1 of the hidden unit's weights and bias from 1 / alpha I, by one update for each image and class."""
    inverse, images = torch.eye(5, dtype=torch.float64) / ALPHA, len(sample.labels)
    for image in sample.images:
        logits = net(image[None])[0]
        p = logits.detach().softmax(0)
        for label in range(3):
            cotangent = -p.clone()
            cotangent[label] += 1
            parameters = [net[1].weight, net[1].bias]
            gradients = torch.autograd.grad(logits, parameters, p[label].sqrt() * cotangent, retain_graph=True)
            x = torch.cat([gradient.flatten() for gradient in gradients])
            moved = inverse @ x
            inverse -= torch.outer(moved, moved) / (images + x @ moved)
    return inverse


def test_scores_and_step_are_those_of_the_papers_recursion() -> None:
    net, sample = net_of_one_unit(), sample_of(1, 2, 2)
    masks = all_masks(net)
    inverse = inverse_by_recursion(net, sample)
    values = torch.cat([net[1].weight[0], net[1].bias]).detach()
    surgeon = Surgeon(net, masks, sample, ALPHA)
    expected = values.square() / (2 * inverse.diagonal())
    torch.testing.assert_close(surgeon.scores()["1.weight"][0], expected[:4])
    kept = copy.deepcopy(masks)
    kept["1.weight"][0, 2] = False
    surgeon.operate(kept)
    moved = values - values[2] / inverse[2, 2] * inverse[:, 2]
    torch.testing.assert_close(
        torch.cat([net[1].weight[0], net[1].bias]).detach(), moved.index_fill(0, torch.tensor([2]), 0)
    )


def test_what_leaves_together_leaves_as_if_one_by_one() -> None:
    """On a quadratic both are the least of the error without them, in any order."""
    draws = torch.Generator().manual_seed(2)
    factor = torch.randn(9, 5, generator=draws, dtype=torch.float64)
    weights = torch.randn(5, generator=draws, dtype=torch.float64)
    at_once = weights.clone()
    at_once[:3] += made_up(factor[:, :3], factor[:, 3:], weights[3:], ALPHA)
    for order in itertools.permutations((3, 4)):
        one_by_one, there = weights.clone(), torch.ones(5, dtype=torch.bool)
        for leaving in order:
            there[leaving] = False
            one_by_one[there] += made_up(factor[:, there], factor[:, [leaving]], one_by_one[[leaving]], ALPHA)
            one_by_one[leaving] = 0.0
        torch.testing.assert_close(one_by_one[:3], at_once[:3])


@pytest.mark.parametrize("rows", [3, 9])
def test_few_rows_and_many_give_the_same(rows: int) -> None:
    draws = torch.Generator().manual_seed(3)
    factor = torch.randn(rows, 6, generator=draws, dtype=torch.float64)
    matrix = factor.T @ factor + ALPHA * torch.eye(6, dtype=torch.float64)
    torch.testing.assert_close(inverse_diagonal(factor, ALPHA), matrix.inverse().diagonal())
    weights = torch.randn(2, generator=draws, dtype=torch.float64)
    expected = matrix[:4, :4].inverse() @ matrix[:4, 4:] @ weights
    torch.testing.assert_close(made_up(factor[:, :4], factor[:, 4:], weights, ALPHA), expected)


def test_the_blocks_of_units_have_the_exact_diagonal() -> None:
    net = double(
        nn.Conv2d(2, 3, 2, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(27, 4), nn.ReLU(), nn.Linear(4, 3)
    )
    sample = sample_of(2, 4, 4)
    weights = {name: parameter.detach() for name, parameter in net.named_parameters()}
    diagonal = gauss_newton_diagonal(net, weights, sample)
    inputs, by_class = cotangents(net, weights, sample)
    deltas = list(by_class)
    for name in ("0", "3", "5"):
        curvature = UnitCurvature(net.get_submodule(name), inputs[name], [delta[name] for delta in deltas])
        for unit, expected in enumerate(diagonal[f"{name}.weight"].flatten(1)):
            found = curvature.factor(unit).square().sum(0)
            torch.testing.assert_close(found[:-1], expected)
            torch.testing.assert_close(found[-1], diagonal[f"{name}.bias"][unit])


@pytest.mark.parametrize("biases", [False, True])
def test_the_net_is_changed_less_than_by_removal_alone(biases: bool) -> None:
    """Exactly the number asked for stays; on what the surgeon saw the net is nearer to the whole than without steps."""
    run = small_run()
    settings = METHODS["obs"].settings(rounds=4, alpha=1e-4, biases=biases, samples_per_class=1000)
    model, images = copy.deepcopy(run.model), run.training.images
    masks = operate(run, settings, model, 0.6)
    assert count(masks)[0] == survivors_at(0.6, count(masks)[1])
    assert ("1.bias" in masks) == biases
    removed = copy.deepcopy(run.model)
    with torch.no_grad():
        for name, mask in masks.items():
            assert not model.get_parameter(name)[~mask].any()
            removed.get_parameter(name).mul_(mask)
        whole = run.model(images).softmax(1)
        assert (model(images).softmax(1) - whole).norm() < 0.9 * (removed(images).softmax(1) - whole).norm()


def test_what_has_left_stays_away_though_a_layers_share_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights 3, 5 and 5 of three layers, 7 and then 6 of which stay (`test_distribution`)."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3, 1), nn.Linear(1, 5), nn.Linear(5, 1)).double()
    seen: list[dict[str, Tensor]] = []
    keep = obs.keep_best

    def noted(*arguments: object) -> dict[str, Tensor]:
        seen.append(keep(*arguments))
        return seen[-1]

    monkeypatch.setattr(obs, "keep_best", noted)
    monkeypatch.setattr(obs, "survivor_counts", lambda *_: [7, 6])
    sample = sample_of(1, 1, 3)
    run = Run(net, sample, sample, sample, (0.5,), seed=0, augment=False)
    chosen = METHODS["obs"].settings(distribution="layerwise", samples_per_class=2)
    masks = operate(run, chosen, net, 0.5)
    assert [int(mask.sum()) for mask in seen[0].values()] == [1, 3, 3]
    assert [int(mask.sum()) for mask in masks.values()] == [1, 3, 2]
    assert not any((masks[name] & ~seen[0][name]).any() for name in masks)


def test_other_layers_are_refused() -> None:
    with pytest.raises(ConfigError, match="no convolution of one group"):
        UnitCurvature(nn.Conv2d(2, 2, 1, groups=2), torch.zeros(1, 2, 1, 1), [])
