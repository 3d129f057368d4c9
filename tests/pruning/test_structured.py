"""Scores of units by hand, and zeros that may recover."""

from typing import Any

import pytest
import torch

from sharpminima.nets.evaluation import Evaluation
from sharpminima.pruning import METHODS, Run
from sharpminima.pruning.structured.l1_filters import Filters
from sharpminima.pruning.structured.soft_filter import SoftZeros
from sharpminima.pruning.structured.taylor_channels import TaylorScores
from sharpminima.pruning.structured.unit_scores import UnitScores
from sharpminima.training import FlatModel

from .test_penalty import IMAGES, LABELS, Split, two_layers


def a_policy(kind: type[UnitScores], name: str, level: float) -> tuple[Any, FlatModel]:
    part = Split(IMAGES, LABELS)
    model = two_layers()
    flat = FlatModel(model)
    run = Run(model, part, part, part, (level,), seed=0, augment=False)
    return kind(run, METHODS[name].settings(batch_size=1, epochs=2), flat, level), flat


def test_l1_of_incoming_weights() -> None:
    policy, flat = a_policy(Filters, "l1_filters", 0.5)
    assert {layer: score.tolist() for layer, score in policy.scores(flat).items()} == {"1": [7.0, 1.0]}


def test_taylor_squares_the_sum_over_a_unit_in_the_last_epoch_only() -> None:
    """Of two steps an epoch, four in all: (3 - 8)^2 and (1 + .5)^2 at the third, nothing before; mean over two."""
    policy, flat = a_policy(TaylorScores, "taylor_channels", 0.5)
    flat.view(flat.gradients, "1.weight").copy_(torch.tensor([[1.0, -2.0], [2.0, -1.0]]))
    for step in range(3):
        policy.steps = step
        policy.before_step(flat, IMAGES, LABELS)
    assert policy.scores(flat)["1"].tolist() == pytest.approx([25.0 / 2, 2.25 / 2])


def test_soft_zeros_may_recover() -> None:
    policy, flat = a_policy(SoftZeros, "soft_filter", 0.5)
    policy.after_epoch(flat, 1, Evaluation(1.0, 0, 1))
    weight = flat.view(flat.values, "1.weight")
    assert weight.tolist() == [[3.0, 4.0], [0.0, 0.0]]
    assert flat.mask is None
    weight[1] = 9.0  # trained on, it is now the larger
    policy.after_epoch(flat, 2, Evaluation(1.0, 0, 1))
    assert weight.tolist() == [[0.0, 0.0], [9.0, 9.0]]
    assert policy.done
