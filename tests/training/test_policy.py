"""The dense recipe's schedule on scripted validation losses."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from sharpminima.catalogue.recipes import RecipeSettings
from sharpminima.nets.evaluation import Evaluation
from sharpminima.training import FlatModel, RecipePolicy


def feed(settings: RecipeSettings, losses: list[float]) -> tuple[RecipePolicy, list[float]]:
    """Learning rates of the epochs, until the policy is done or the losses run out."""
    policy, flat, rates = RecipePolicy(settings), FlatModel(nn.Linear(2, 2)), []
    for epoch, loss in enumerate(losses, start=1):
        if policy.done:
            break
        rates.append(policy.lr)
        with torch.no_grad():
            flat.values.fill_(epoch)
        policy.after_epoch(flat, epoch, Evaluation(loss=loss, wrong=0, samples=1))
    return policy, rates


def test_plateau_lowers_the_rate_then_stops() -> None:
    settings = RecipeSettings(lr=1.0, patience=2, stop_after=5, max_epochs=100)
    policy, rates = feed(settings, [3.0, 2.0, 2.0, 2.5, 2.1, 2.1, 2.1, 2.1])
    assert rates == [1.0, 1.0, 1.0, 1.0, 0.1, 0.1, 0.01]
    assert policy.done
    assert policy.best.epoch == 2
    assert policy.best.snapshot["values"][0] == 2


def test_an_improvement_starts_the_count_again() -> None:
    settings = RecipeSettings(lr=1.0, patience=2, stop_after=4, max_epochs=100)
    policy, rates = feed(settings, [3.0, 3.1, 2.9, 3.0, 2.8, 2.9])
    assert rates == [1.0] * 6
    assert not policy.done


def test_steps_cosine_and_constant_last_max_epochs() -> None:
    steps = RecipeSettings(lr=1.0, schedule="steps", milestones=(2, 4), max_epochs=6)
    policy, rates = feed(steps, [1.0 + i for i in range(9)])
    torch.testing.assert_close(rates, [1.0, 1.0, 0.1, 0.1, 0.01, 0.01])
    assert policy.done
    cosine = RecipeSettings(lr=1.0, schedule="cosine", max_epochs=6)
    policy, rates = feed(cosine, [1.0 + i for i in range(9)])
    torch.testing.assert_close(rates, [1.0, 0.9330127018922193, 0.75, 0.5, 0.25, 0.0669872981077807])
    assert policy.done
    constant = RecipeSettings(lr=1.0, schedule="constant", max_epochs=5, patience=1, stop_after=1)
    policy, rates = feed(constant, [1.0 + i for i in range(9)])
    assert rates == [1.0] * 5
    assert policy.done


def test_the_net_that_counts_is_the_best_or_the_last() -> None:
    losses = [3.0, 1.0, 2.0]
    for state, epoch in (("best", 2), ("last", 3)):
        policy, _ = feed(RecipeSettings(schedule="constant", max_epochs=3, state=state), losses)
        assert (policy.best.epoch, policy.best.loss) == (epoch, losses[epoch - 1])
        assert policy.best.snapshot["values"][0] == epoch
    assert "state" not in RecipeSettings().model_dump()  # older records are without
    with pytest.raises(ValidationError, match="state: last: schedule plateau goes on after its best epoch"):
        RecipeSettings(state="last")
