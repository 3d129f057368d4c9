"""Rounds: what they keep, what they go back to, and at which rate they train."""

import itertools

import pytest
import torch
from pydantic import ValidationError

from sharpminima.catalogue.recipes import RecipeSettings
from sharpminima.nets.masks import count
from sharpminima.pruning import METHODS
from sharpminima.pruning.engine.schedule import survivor_counts
from sharpminima.pruning.iterative import gimp
from sharpminima.pruning.iterative.gimp import Excerpt
from sharpminima.testing.task import small_run

from .test_scored import WEIGHTS

RECIPE = RecipeSettings(batch_size=20, max_epochs=8, schedule="steps", milestones=(4, 6))


def test_counts_of_the_schedules_by_hand() -> None:
    """Of 1000 down to 200: at once, by thirds of the way in logarithms, by 800 (1 - k/4)^3 more than at the end."""
    assert survivor_counts("one-shot", 1000, 200, 4) == [200]
    assert survivor_counts("iterative", 1000, 8, 3) == [200, 40, 8]
    assert survivor_counts("cubic", 1000, 200, 4) == [200 + 338, 200 + 100, 200 + 12, 200]  # 337.5, 100, 12.5


@pytest.mark.parametrize(
    ("first", "rates"),
    [
        (0, [0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001]),  # learning rates rewound to the start
        (2, [0.1, 0.1, 0.01, 0.01, 0.001, 0.001, 0.001, 0.001]),  # by three quarters
        (8, [0.001] * 8),  # not at all: fine-tuning at the last rate
    ],
)
def test_rates_of_a_round(first: int, rates: list[float]) -> None:
    policy, found = Excerpt(RECIPE, first, 8), []
    for epoch in range(8):
        found.append(policy.lr)
        policy._set_rate(epoch + 1)
    assert found == pytest.approx(rates)


@pytest.mark.parametrize(
    ("share", "epochs", "whole"),
    [(0, 10, 0), (1, 10, 10), (0.75, 10, 8), (0.95, 10, 9), (0.95, 4, 3), (0.01, 10, 1), (0.95, 1, 1)],
)
def test_shares_in_whole_epochs(share: float, epochs: int, whole: int) -> None:
    """A share that is neither none nor all stays so: rewinding by .95 of ten epochs is not rewinding to W0."""
    assert gimp.whole_epochs(share, epochs) == whole


def rounds_of(name: str, monkeypatch: pytest.MonkeyPatch, **changes: object) -> tuple[dict, list[tuple]]:
    """The dense training, and (start, masks) of each round."""
    dense, rounds = {}, []
    train_dense, train_round = gimp.train_dense, gimp.train_round

    def first(*arguments: object) -> dict:
        dense.update(train_dense(*arguments))
        return dense

    def then(run: object, settings: object, start: dict, masks: dict, resume: object) -> dict:
        rounds.append((start, masks))
        return train_round(run, settings, start, masks, resume)

    monkeypatch.setattr(gimp, "train_dense", first)
    monkeypatch.setattr(gimp, "train_round", then)
    METHODS[name].prune(small_run(), METHODS[name].settings(recipe=RECIPE, **changes))
    return dense, rounds


def test_rounds_keep_their_share_and_the_last_meets_the_level(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 804 weights 70 % a round; the level 0.5 leaves the common path after one round, 0.8 after four."""
    _, rounds = rounds_of("weight_rewinding", monkeypatch)
    assert WEIGHTS == 804
    assert [count(masks)[0] for _, masks in rounds] == [563, 402, 394, 276, 193, 161]
    common = [masks for _, masks in rounds if count(masks)[0] != 402]
    for before, after in itertools.pairwise(common):
        assert not any((after[key] & ~before[key]).any() for key in after)


def test_what_rounds_start_from(monkeypatch: pytest.MonkeyPatch) -> None:
    initial = small_run().model.state_dict()

    def is_initial(state: dict) -> bool:
        return all(torch.equal(state[key], initial[key]) for key in initial)

    for name, start in [("weight_rewinding", 0), ("stable_weight_rewinding", 1), ("sgimp", 2)]:
        with monkeypatch.context() as patch:
            dense, rounds = rounds_of(name, patch)
        assert all(state is dense["origin"] for state, _ in rounds)
        assert is_initial(dense["origin"]) == (start == 0)
        assert not torch.equal(dense["origin"]["1.weight"], dense["last"]["1.weight"])
    with monkeypatch.context() as patch:
        dense, rounds = rounds_of("finetune", patch)
    assert rounds[0][0] is dense["last"]
    assert rounds[2][0]["1.weight"].count_nonzero() == rounds[0][1]["1.weight"].count_nonzero()  # survivors go on


def test_the_first_round_keeps_the_largest_of_the_trained_net(monkeypatch: pytest.MonkeyPatch) -> None:
    dense, rounds = rounds_of("weight_rewinding", monkeypatch)
    trained = torch.cat([dense["last"][key].abs().flatten() for key in rounds[0][1]])
    kept = torch.cat([mask.flatten() for mask in rounds[0][1].values()])
    assert trained[kept].min() >= trained[~kept].max()


def test_any_criterion_and_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    _, rounds = rounds_of("gimp", monkeypatch, criterion="snip", distribution="layerwise", keep=0.4)
    assert [int(mask.sum()) for mask in rounds[0][1].values()] == [384, 18]


def test_a_training_of_unknown_length_is_refused() -> None:
    with pytest.raises(ValidationError, match="rewinding needs a training of known length"):
        METHODS["gimp"].settings(recipe=RecipeSettings())
