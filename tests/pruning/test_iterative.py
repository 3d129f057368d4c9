"""Rounds: what they keep, what they go back to, and at which rate they train."""

import dataclasses
import itertools

import pytest
import torch
from pydantic import ValidationError

from sharpminima.catalogue.methods.choices import CRITERIA, Criterion
from sharpminima.catalogue.methods.iterative import ITERATIVE, shared_rounds
from sharpminima.catalogue.recipes import RecipeSettings
from sharpminima.nets.evaluation import Evaluation
from sharpminima.nets.masks import count
from sharpminima.pruning import METHODS
from sharpminima.pruning.engine.criteria import Candidate
from sharpminima.pruning.engine.schedule import survivor_counts
from sharpminima.pruning.iterative import gimp
from sharpminima.pruning.iterative.gimp import Excerpt
from sharpminima.testing.task import small_run
from sharpminima.training import FlatModel

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
    policy, found = Excerpt(RECIPE, first, 8, 0), []
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


def rounds_of(name: str, monkeypatch: pytest.MonkeyPatch, **changes: object) -> tuple[list[dict], list[tuple]]:
    """What the dense training and each round returned, and (start, masks) of each round."""
    returned, rounds = [], []
    train_dense, train_round = gimp.train_dense, gimp.train_round

    def first(*arguments: object) -> dict:
        returned.append(train_dense(*arguments))
        return returned[-1]

    def then(run: object, settings: object, start: dict, masks: dict, resume: object) -> dict:
        rounds.append((start, masks))
        returned.append(train_round(run, settings, start, masks, resume))
        return returned[-1]

    monkeypatch.setattr(gimp, "train_dense", first)
    monkeypatch.setattr(gimp, "train_round", then)
    METHODS[name].prune(small_run(), METHODS[name].settings(recipe=RECIPE, **changes))
    return returned, rounds


def test_rounds_keep_their_share_and_the_last_meets_the_level(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 804 weights 70 % a round; the level 0.5 leaves the common path after one round, 0.8 after four."""
    _, rounds = rounds_of("weight_rewinding", monkeypatch)
    assert WEIGHTS == 804
    assert [count(masks)[0] for _, masks in rounds] == [563, 402, 394, 276, 193, 161]
    common = [masks for _, masks in rounds if count(masks)[0] != 402]
    for before, after in itertools.pairwise(common):
        assert not any((after[key] & ~before[key]).any() for key in after)


def test_each_round_removes_a_weight_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine tenths of four weights are four: rounds that keep those would train on for ever."""
    assert shared_rounds(6, 0.9, 1) == [5, 4, 3, 2]
    assert shared_rounds(6, 0.9, 5) == shared_rounds(6, 0.5, 3) == []  # what the level's own round does
    kept: list[int] = []
    train_round = gimp.train_round

    def counted(run: object, settings: object, start: dict, masks: dict, resume: object) -> dict:
        kept.append(count(masks)[0])
        assert len(kept) < 50, "rounds without an end"
        return train_round(run, settings, start, masks, resume)

    monkeypatch.setattr(gimp, "train_round", counted)
    recipe = {"batch_size": 100, "max_epochs": 1, "schedule": "constant"}
    run = dataclasses.replace(small_run(), levels=(0.9985,))
    METHODS["gimp"].prune(run, METHODS["gimp"].settings(keep=0.8, recipe=recipe))
    assert kept[-4:] == [4, 3, 2, 1]
    assert all(after < before for before, after in itertools.pairwise(kept))


@pytest.mark.parametrize("name", [method.name for method in ITERATIVE])
@pytest.mark.parametrize("levels", [(0.5, 0.8), (0.5, 0.6, 0.7, 0.8, 0.9)])
def test_the_plan_has_every_training(name: str, levels: tuple[float, ...]) -> None:
    """Of .7 a round: 4 and 6 rounds are shared, and each level has one more."""
    settings = METHODS[name].settings(recipe={"batch_size": 100, "max_epochs": 2, "schedule": "constant"})
    pruned = METHODS[name].prune(dataclasses.replace(small_run(), levels=levels), settings)
    assert settings.planned_epochs(levels) == (len(pruned.history), len(pruned.history))
    if settings.retrain == 1.0:
        assert len(pruned.history) == {2: 2 * (1 + 4 + 2), 5: 2 * (1 + 6 + 5)}[len(levels)]


def test_rounds_that_rewind_as_far_as_they_train_start_from_the_dense_training(monkeypatch: pytest.MonkeyPatch) -> None:
    initial = small_run().model.state_dict()
    for name, numbers, from_initial in [
        ("weight_rewinding", {}, True),
        ("stable_weight_rewinding", {}, False),
        ("gimp", {"rewind": 1.0, "retrain": 0.5}, True),
        ("gimp", {"rewind": 0.75, "retrain": 0.5}, False),
    ]:
        with monkeypatch.context() as patch:
            (dense, *_), rounds = rounds_of(name, patch, **numbers)
        assert all(state is dense["origin"] for state, _ in rounds)
        assert all(torch.equal(dense["origin"][key], initial[key]) for key in initial) == from_initial
        assert not torch.equal(dense["origin"]["1.weight"], dense["last"]["1.weight"])


def test_stable_rewinding_within_the_round_before_is_refused() -> None:
    settings = METHODS["stable_weight_rewinding"].settings
    recipe = {"schedule": "constant", "max_epochs": 4}
    assert settings(recipe=recipe).retrain == 0.95  # 3 epochs back of 3
    with pytest.raises(
        ValidationError, match=r"rounds of 4 epochs that are set back by 3 begin within the round before"
    ):
        settings(recipe=recipe, retrain=1.0)
    METHODS["sgimp"].settings(recipe=recipe)  # which does so by design


@pytest.mark.parametrize(
    ("name", "numbers", "epoch"),
    [("sgimp", {}, 2), ("gimp", {"rewind": 0.25, "retrain": 0.5}, 2), ("finetune", {}, 8), ("lr_rewinding", {}, 8)],
)
def test_other_rounds_start_from_the_round_before(
    name: str, numbers: dict, epoch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They go back within it: to the state after an epoch of its own, which has its mask."""
    kept: list[dict] = []
    after_epoch = Excerpt.after_epoch

    def noted(policy: Excerpt, flat: FlatModel, number: int, validation: Evaluation) -> None:
        after_epoch(policy, flat, number, validation)
        if number == epoch:
            kept.append(flat.state_dict(flat.snapshot()))

    monkeypatch.setattr(Excerpt, "after_epoch", noted)
    (dense, *_), rounds = rounds_of(name, monkeypatch, **numbers)
    if name != "gimp":  # whose dense training is longer than its rounds
        assert all(torch.equal(rounds[0][0][key], kept[0][key]) for key in kept[0])
    (_, before), (second, _) = rounds[0], rounds[2]  # rounds[1] is the level that left the common path
    assert all(torch.equal(second[key], kept[1][key]) for key in second)
    assert not torch.equal(second["1.weight"], dense["origin"]["1.weight"])
    assert not second["1.weight"][~before["1.weight"]].any()


def test_the_first_round_keeps_the_largest_of_the_trained_net(monkeypatch: pytest.MonkeyPatch) -> None:
    (dense, *_), rounds = rounds_of("weight_rewinding", monkeypatch)
    trained = torch.cat([dense["last"][key].abs().flatten() for key in rounds[0][1]])
    kept = torch.cat([mask.flatten() for mask in rounds[0][1].values()])
    assert trained[kept].min() >= trained[~kept].max()


def test_any_criterion_and_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    _, rounds = rounds_of("gimp", monkeypatch, criterion="snip", distribution="layerwise", keep=0.4)
    assert [int(mask.sum()) for mask in rounds[0][1].values()] == [384, 18]


def smallest(candidate: Candidate) -> dict[str, torch.Tensor]:
    """A score that is highest where a weight is zero, as what has left is."""
    return {name: -weight.abs() for name, weight in candidate.weights().items()}


REVIVING = Criterion("force", "", smallest, revives=True)


def test_what_has_left_stays_away_from_rounds_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """By criteria, too, that let it come back before training."""
    monkeypatch.setitem(CRITERIA, "force", REVIVING)
    _, rounds = rounds_of("gimp", monkeypatch, criterion="force")
    shared = [masks for _, masks in rounds if count(masks)[0] != 402]
    assert len(shared) == 5
    for before, after in itertools.pairwise(shared):
        assert not any((after[key] & ~before[key]).any() for key in after)


@pytest.mark.parametrize("schedule", ["plateau", "cosine"])
def test_a_schedule_that_rounds_cannot_go_back_to_is_refused(schedule: str) -> None:
    with pytest.raises(ValidationError, match=f"rewinding needs schedule: steps or constant.*{schedule} given"):
        METHODS["gimp"].settings(recipe=RecipeSettings(schedule=schedule))
