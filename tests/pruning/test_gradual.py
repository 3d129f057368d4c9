"""Pruning during training: when and how much."""

import pytest
from pydantic import ValidationError

from sharpminima.catalogue.methods.choices import CRITERIA
from sharpminima.nets.masks import count
from sharpminima.pruning import METHODS
from sharpminima.pruning.gradual import agp
from sharpminima.pruning.gradual.agp import Tightening
from sharpminima.testing.task import small_run
from sharpminima.training import FlatModel

from .test_iterative import REVIVING


def test_the_mask_follows_the_cubic_schedule() -> None:
    """40 steps; from step 8 to step 32 in 4 updates: 804 - 643 (1 - (1 - k/4)^3) survive."""
    run = small_run()
    settings = METHODS["agp"].settings(batch_size=20, epochs=4, updates=4, begin=0.2, end=0.8)
    flat = FlatModel(run.model)
    policy = Tightening(run, settings, flat, 0.8)
    seen = []
    for _ in range(40):
        policy.after_step(flat)
        seen.append(count(policy.masks)[0])
    assert seen == [804] * 13 + [432] * 6 + [241] * 6 + [171] * 6 + [161] * 9
    assert int((flat.mask > 0).sum()) < flat.values.numel()


@pytest.mark.parametrize(("begin", "end"), [(0.95, 0.5), (0.9, 0.8), (0.5, 0.5)])
def test_a_schedule_that_ends_before_it_begins_is_refused(begin: float, end: float) -> None:
    """Its last removal would be the first, and the level missed."""
    with pytest.raises(ValidationError, match=rf"begin: {begin} is not before end: {end};.*give an end above begin"):
        METHODS["agp"].settings(begin=begin, end=end)


def test_what_has_left_stays_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """By criteria, too, that let it come back before training."""
    monkeypatch.setitem(CRITERIA, "force", REVIVING)
    run = small_run()
    flat = FlatModel(run.model)
    settings = METHODS["agp"].settings(batch_size=20, epochs=4, updates=4, criterion="force")
    policy = Tightening(run, settings, flat, 0.8)
    for _ in range(40):
        before = policy.masks
        policy.after_step(flat)
        assert not any((policy.masks[name] & ~mask).any() for name, mask in before.items())
    assert count(policy.masks)[0] == 161


@pytest.mark.parametrize("criterion", CRITERIA)
def test_any_criterion_distribution_and_schedule(criterion: str) -> None:
    settings = METHODS["agp"].settings(
        batch_size=20, epochs=2, updates=3, batches=2, criterion=criterion, distribution="erk", schedule="iterative"
    )
    assert count(agp.search(small_run(), 0.9, settings, None).masks) == (80, 804)
