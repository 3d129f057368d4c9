"""Pruning during training: when and how much."""

import pytest

from sharpminima.catalogue.methods.choices import CRITERIA
from sharpminima.nets.masks import count
from sharpminima.pruning import METHODS
from sharpminima.pruning.gradual import agp
from sharpminima.pruning.gradual.agp import Tightening
from sharpminima.testing.task import small_run
from sharpminima.training import FlatModel


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


@pytest.mark.parametrize("criterion", CRITERIA)
def test_any_criterion_distribution_and_schedule(criterion: str) -> None:
    settings = METHODS["agp"].settings(
        batch_size=20, epochs=2, updates=3, batches=2, criterion=criterion, distribution="erk", schedule="iterative"
    )
    assert count(agp.search(small_run(), 0.9, settings, None).masks) == (80, 804)
