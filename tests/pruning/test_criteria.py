"""Each score worked by hand, on nets of a few weights."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sharpminima.catalogue.methods.choices import CRITERIA
from sharpminima.data import Split
from sharpminima.pruning.engine.criteria import Candidate, keep_scored

SIGMOID = 1.0 / (1.0 + math.exp(-1.0))


def linear(weights: list[list[float]]) -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False)).double()
    model[1].weight.data = torch.tensor(weights, dtype=torch.float64)
    return model


def candidate(model: nn.Module, mask: torch.Tensor) -> Candidate:
    """One image (1, 2) of class 0."""
    image = torch.tensor([[[[1.0, 2.0]]]], dtype=torch.float64)
    sample = Split(image, torch.tensor([0]))
    return Candidate(model, {"1.weight": mask}, sample, torch.Generator().manual_seed(0), 1)


WEIGHTS = [[1.0, 0.5], [-1.0, 1.0]]
ALL = torch.ones(2, 2, dtype=torch.bool)


def test_magnitude_and_random() -> None:
    found = candidate(linear(WEIGHTS), ALL)
    assert CRITERIA["magnitude"](found)["1.weight"].tolist() == [[1.0, 0.5], [1.0, 1.0]]
    first, second = (CRITERIA["random"](candidate(linear(WEIGHTS), ALL))["1.weight"] for _ in range(2))
    assert torch.equal(first, second)
    assert first.unique().numel() == 4


def test_first_order_scores() -> None:
    """Logits 2 and 1, so p0 = sigmoid(1); dL/dw_0j = (p0 - 1) x_j and dL/dw_1j = (1 - p0) x_j, with x = (1, 2)."""
    slope = 1.0 - SIGMOID
    g = torch.tensor([[-slope, -2 * slope], [slope, 2 * slope]], dtype=torch.float64)
    w = torch.tensor(WEIGHTS, dtype=torch.float64)
    expected = {"gradient": g.abs(), "snip": (g * w).abs(), "taylor": (g * w).square(), "force": (g * w).abs()}
    for name, scores in expected.items():
        torch.testing.assert_close(CRITERIA[name](candidate(linear(WEIGHTS), ALL))["1.weight"], scores)


def test_what_is_removed_does_not_act_and_only_force_scores_it() -> None:
    """Without w_00 the logits are 1 and 1: p0 = 1/2."""
    mask = torch.tensor([[False, True], [True, True]])
    snip = CRITERIA["snip"](candidate(linear(WEIGHTS), mask))["1.weight"]
    force = CRITERIA["force"](candidate(linear(WEIGHTS), mask))["1.weight"]
    assert snip.tolist() == [[0.0, 0.5], [0.5, 1.0]]
    assert force.tolist() == [[0.5, 0.5], [0.5, 1.0]]


def hessian(model: nn.Module, temperature: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Full Hessian [4, 4] and gradient [4] of the loss of the one image."""
    image = torch.tensor([[1.0, 2.0]], dtype=torch.float64)

    def loss(flat: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(image @ flat.view(2, 2).T / temperature, torch.tensor([0]))

    w = model[1].weight.detach().flatten()
    return torch.autograd.functional.hessian(loss, w), torch.autograd.functional.jacobian(loss, w)


def test_grasp_keeps_what_carries_the_gradient() -> None:
    model = linear(WEIGHTS)
    h, g = hessian(model, 200.0)
    expected = model[1].weight.detach() * (h @ g).view(2, 2)
    torch.testing.assert_close(CRITERIA["grasp"](candidate(model, ALL))["1.weight"], expected)


def test_obd_of_one_layer_is_the_hessian() -> None:
    """The logits are linear in the weights, so nothing is left out: the diagonal is p0 (1 - p0) x_j^2."""
    model = linear(WEIGHTS)
    h, _ = hessian(model)
    curvature = SIGMOID * (1 - SIGMOID)
    torch.testing.assert_close(h.diagonal(), torch.tensor([1.0, 4.0, 1.0, 4.0], dtype=torch.float64) * curvature)
    expected = h.diagonal().view(2, 2) * model[1].weight.detach().square() / 2
    torch.testing.assert_close(CRITERIA["obd"](candidate(model, ALL))["1.weight"], expected)


def test_taylor_averages_squares_over_mini_batches() -> None:
    """Equal rows, so p = 1/2 and dL/dw_0j = (1/2 - [class 0]) x_j: the classes pull to and fro, on average not at all.

    A mini-batch of an image x and one 2 x of the other class has (g w)^2 = x_j^2 / 16, w being 1. There are two.
    """
    model = linear([[1.0, 1.0], [1.0, 1.0]])
    images = torch.tensor([1.0, 2.0, 2.0, 1.0], dtype=torch.float64)[:, None, None, None] * torch.tensor([1.0, 2.0])
    sample = Split(images, torch.tensor([0, 1, 0, 1]))
    expected = torch.tensor([[1.0, 4.0], [1.0, 4.0]], dtype=torch.float64) / 16

    def scores(batches: int) -> torch.Tensor:
        found = Candidate(model, {"1.weight": ALL}, sample, torch.Generator(), batches)
        return CRITERIA["taylor"](found)["1.weight"]

    torch.testing.assert_close(scores(2), expected)
    assert not scores(1).any()


def test_mini_batches_have_all_classes_and_two_images_at_least() -> None:
    sample = Split(torch.arange(12.0).view(12, 1, 1, 1), torch.arange(3).repeat_interleave(4))
    found = Candidate(nn.Identity(), {}, sample, torch.Generator(), 4).mini_batches()
    assert [part.labels.tolist() for part in found] == [[0, 1, 2]] * 4
    assert torch.equal(torch.cat([part.images for part in found]).sort(0).values, sample.images)
    many = Candidate(nn.Identity(), {}, sample, torch.Generator(), 100).mini_batches()
    assert [part.labels.tolist() for part in many] == [[0, 1, 2]] * 4  # as many as a class has images
    for labels, parts in (([2, 0, 1, 0, 2, 1, 0], 2), ([0, 0, 0, 0, 1], 1), ([0, 0, 0, 0], 2)):
        sample = Split(torch.zeros(len(labels), 1, 1, 1), torch.tensor(labels))
        found = Candidate(nn.Identity(), {}, sample, torch.Generator(), 20).mini_batches()
        assert [set(part.labels.tolist()) for part in found] == [set(labels)] * parts


def test_what_has_left_comes_back_only_where_it_may() -> None:
    """An image (0, 1): of four weights two score 0, one of them removed, and zero; three are to stay."""
    model = linear([[0.0, 1.0], [1.0, 1.0]])
    sample = Split(torch.tensor([[[[0.0, 1.0]]]], dtype=torch.float64), torch.tensor([0]))
    mask = torch.tensor([[False, True], [True, True]])
    found = Candidate(model, {"1.weight": mask}, sample, torch.Generator(), 1)
    kept = keep_scored(CRITERIA["force"], found, 3, "global")
    assert torch.equal(kept["1.weight"], mask)
    kept = keep_scored(CRITERIA["force"], found, 3, "global", reviving=True)
    assert kept["1.weight"].tolist() == [[True, True], [False, True]]


def test_synflow_of_two_layers() -> None:
    """R = sum over paths of products of |w|; a weight's score is the flow through it, whatever its sign."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    model[1].weight.data = torch.tensor([[1.0, -2.0], [3.0, 0.5]], dtype=torch.float64)
    model[1].bias.data = torch.zeros(2, dtype=torch.float64)
    model[3].weight.data = torch.tensor([[-4.0, 5.0]], dtype=torch.float64)
    model[3].bias.data = torch.zeros(1, dtype=torch.float64)
    masks = {name: torch.ones_like(p, dtype=torch.bool) for name, p in model.named_parameters() if p.ndim > 1}
    sample = Split(torch.zeros(1, 1, 1, 2, dtype=torch.float64), torch.tensor([0]))
    scores = CRITERIA["synflow"](Candidate(model, masks, sample, torch.Generator(), 1))
    assert scores["1.weight"].tolist() == [[4.0, 8.0], [15.0, 2.5]]
    assert scores["3.weight"].tolist() == [[12.0, 17.5]]
    # Flow is conserved: what enters the hidden units leaves them.
    assert scores["1.weight"].sum(1).tolist() == scores["3.weight"][0].tolist()


@pytest.mark.parametrize("name", sorted(CRITERIA))
def test_scoring_leaves_the_net_alone(name: str) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2)).double()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    masks = {key: torch.ones_like(p, dtype=torch.bool) for key, p in model.named_parameters() if p.ndim > 1}
    sample = Split(torch.randn(6, 1, 1, 2, dtype=torch.float64), torch.tensor([0, 1] * 3))
    scores = CRITERIA[name](Candidate(model, masks, sample, torch.Generator().manual_seed(0), 2))
    assert {key: score.shape for key, score in scores.items()} == {key: mask.shape for key, mask in masks.items()}
    assert all(score.isfinite().all() and not score.requires_grad for score in scores.values())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
