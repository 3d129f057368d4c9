"""Methods of others, by what they return: held to their entry where masks come back, by one error that names them."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sharpminima.base.errors import ConfigError, MethodError
from sharpminima.catalogue.methods.choices import Criterion
from sharpminima.catalogue.methods.method import Dial, Method
from sharpminima.catalogue.methods.scored import criterion_method
from sharpminima.catalogue.methods.search import SearchSettings, SweepSettings, searched_method, swept_method
from sharpminima.nets.masks import Masks, all_masks, count, sparsity
from sharpminima.nets.resume import ResumeFile
from sharpminima.pruning import METHODS, LevelState, Pruned, Run
from sharpminima.pruning.engine.distribution import keep_best, survivors_at
from sharpminima.pruning.engine.search import SearchResult, search_result
from sharpminima.pruning.scored.by_criterion import prune_by
from sharpminima.testing import CheckFailed, check_method
from sharpminima.testing.task import small_run
from sharpminima.training import FlatModel

SIZE, LAST = 804, 36  # weights of the small net, and of its last layer
RECIPE = {"batch_size": 20, "max_epochs": 2}
SETTINGS = SearchSettings(batch_size=20, epochs=1, recipe=RECIPE)


def best(run: Run, survivors: int, names: tuple[str, ...] = ("1.weight", "3.weight")) -> Masks:
    """The largest weights of some tensors."""
    return keep_best({name: run.model.get_parameter(name).abs() for name in names}, survivors, "global")


def returning(masks: Callable[[Run, float], Any]) -> Callable[..., SearchResult]:
    """A search that finds these masks at once, given the run and the level."""

    def search(run: Run, level: float, settings: Any, resume: ResumeFile | None) -> SearchResult:
        return search_result(FlatModel(copy.deepcopy(run.model)), masks(run, level), [])

    return search


def mine(masks: Callable[[Run, float], Any], dial: Dial = "weights") -> Method:
    return searched_method("mine", returning(masks), SearchSettings, "Someone (2026)", "scored", dial)


def exactly(run: Run, level: float) -> Masks:
    return best(run, survivors_at(level, SIZE))


def first_alone(run: Run, level: float) -> Masks:
    """The last layer stays whole, and has no mask; all survivors together are as asked."""
    return best(run, survivors_at(level, SIZE) - LAST, ("1.weight",))


def test_weights_without_a_mask_are_survivors_in_every_count() -> None:
    pruned = mine(first_alone).prune(small_run(), SETTINGS)
    for level, state in pruned.levels.items():
        assert list(state.masks) == ["1.weight", "3.weight"]
        assert state.masks["3.weight"].all()
        assert count(state.masks) == (survivors_at(level, SIZE), SIZE)
        assert state.reached


def test_of_what_has_no_mask_no_level_is_reached() -> None:
    """Of the first layer alone half is removed, which is 48 % of all."""

    def half_of_the_first(run: Run, target: float) -> Masks:
        return best(run, 384, ("1.weight",))

    swept = swept_method("mine", returning(half_of_the_first), SweepSettings, "Someone (2026)", "penalty")
    run = replace(small_run(), levels=(0.4, 0.5))
    pruned = swept.prune(run, SweepSettings(batch_size=20, epochs=1, strengths=[1.0], recipe=RECIPE))
    assert [state.reached for state in pruned.levels.values()] == [True, False]
    assert [event["sparsity"] for event in pruned.events] == [1 - 420 / SIZE]
    assert sparsity(pruned.levels[0.5].masks) == 1 - 420 / SIZE
    units = mine(half_of_the_first, "units").prune(run, SETTINGS)
    assert [state.reached for state in units.levels.values()] == [True, False]


def test_masks_of_numbers_and_of_biases_are_taken() -> None:
    def with_a_bias(run: Run, level: float) -> dict[str, Tensor]:
        bias = {"1.bias": torch.zeros(12, dtype=torch.uint8)}
        return {name: mask.float() for name, mask in best(run, survivors_at(level, SIZE + 12)).items()} | bias

    for level, state in mine(with_a_bias).prune(small_run(), SETTINGS).levels.items():
        assert count(state.masks) == (survivors_at(level, SIZE + 12), SIZE + 12)
        assert {mask.dtype for mask in state.masks.values()} == {torch.bool}
        assert not state.state["1.bias"].any()


WRONG_MASKS = [
    (lambda run, _: None, "the masks are a NoneType; give a dictionary, parameter name -> mask"),
    (lambda run, level: {**exactly(run, level), "3.weigth": torch.ones(3, 12)}, "there are masks for 3.weigth, which"),
    (lambda run, level: {**exactly(run, level), "3.weight": None}, "the mask of 3.weight is a NoneType; give a tensor"),
    (
        lambda run, level: {**exactly(run, level), "3.weight": np.ones((3, 12), dtype=bool)},
        r"the mask of 3.weight is a ndarray; give a tensor \(torch.as_tensor makes one of an array\)",
    ),
    (
        lambda run, level: {**exactly(run, level), "3.weight": torch.ones(36).bool()},
        r"the mask of 3.weight has shape \[36\], the parameter \[3, 12\]; give it the latter",
    ),
    (
        lambda run, level: {**exactly(run, level), "3.weight": torch.full((3, 12), 0.5)},
        "the mask of 3.weight holds other values than 0 and 1; give 0 where a value is removed, and 1 where it stays",
    ),
    (
        lambda run, level: {**exactly(run, level), "3.weight": torch.full((3, 12), float("nan"))},
        "the mask of 3.weight holds other values than 0 and 1",
    ),
]


@pytest.mark.parametrize(("masks", "says"), WRONG_MASKS)
def test_masks_that_do_not_fit_are_refused_before_they_are_trained_with(
    masks: Callable[[Run, float], Any], says: str, tmp_path: Path
) -> None:
    """And before a resume file has them, from which they would come back when the method is mended."""
    file = ResumeFile(tmp_path / "resume.safetensors", fingerprint="x")
    with pytest.raises(MethodError, match=f"^method 'mine': {says}"):
        mine(masks).prune(small_run(file), SETTINGS)
    assert not list(tmp_path.iterdir())
    sweep = swept_method("mine", returning(masks), SweepSettings, "Someone (2026)", "penalty")
    with pytest.raises(MethodError, match=f"^method 'mine': {says}"):
        sweep.prune(small_run(file), SweepSettings(batch_size=20, epochs=1, recipe=RECIPE))
    assert not list(tmp_path.iterdir())
    mended = mine(exactly).prune(small_run(file), SETTINGS)
    assert count(mended.levels[0.8].masks) == (161, SIZE)


def more(run: Run, level: float) -> Masks:
    return best(run, survivors_at(level, SIZE) + 1)


def fewer(run: Run, level: float) -> Masks:
    return best(run, survivors_at(level, SIZE) - 1)


@pytest.mark.parametrize(
    ("dial", "masks", "says"),
    [
        ("weights", more, 'level 0.5: 403 weights survive, 402 asked for; its dial is "weights": keep exactly so many'),
        ("weights", fewer, 'level 0.5: 401 weights survive, 402 asked for; its dial is "weights"'),
        ("weights", lambda run, level: {}, "level 0.5: 804 weights survive, 402 asked for"),
        (
            "weights",
            lambda run, level: best(run, survivors_at(level, SIZE), ("1.weight",)),
            r"level 0.5: 438 weights survive, 402 asked for; .* \(those without a mask survive\)",
        ),
        ("at most", more, 'level 0.5: 403 weights survive, at most 402 may; its dial is "at most"'),
    ],
)
def test_a_method_is_held_to_its_dial_before_it_trains(
    dial: Dial, masks: Callable[[Run, float], Masks], says: str, tmp_path: Path
) -> None:
    file = ResumeFile(tmp_path / "resume.safetensors", fingerprint="x")
    with pytest.raises(MethodError, match=f"^method 'mine': {says}"):
        mine(masks, dial).prune(small_run(file), SETTINGS)
    assert not list(tmp_path.iterdir())


def test_at_most_may_be_fewer_and_units_miss_a_level() -> None:
    assert mine(fewer, "at most").prune(small_run(), SETTINGS).levels[0.5].reached
    assert not mine(more, "units").prune(small_run(), SETTINGS).levels[0.5].reached


def by_hand(change: Callable[[Pruned], Any], dial: Dial = "weights") -> Method:
    """A method of no family, which returns what ``change`` makes of a right result."""

    def prune(run: Run, settings: Any) -> Any:
        return change(mine(exactly, dial).load()(run, settings))

    return Method("own", SearchSettings, "Someone (2026)", "scored", prune, dial)


def level_changed(**changes: Any) -> Callable[[Pruned], Pruned]:
    return lambda pruned: replace(pruned, levels=pruned.levels | {0.8: replace(pruned.levels[0.8], **changes)})


@pytest.mark.parametrize(
    ("dial", "change", "says"),
    [
        ("weights", lambda pruned: None, "returns a NoneType; return a sharpminima.pruning.Pruned"),
        (
            "weights",
            lambda pruned: replace(pruned, levels={0.5: pruned.levels[0.5]}),
            r"levels \[0.5\] returned, \[0.5, 0.8\] asked for; return a state for each",
        ),
        (
            "weights",
            lambda pruned: replace(pruned, levels=pruned.levels | {0.8: None}),
            "level 0.8: a NoneType returned; return a sharpminima.pruning.LevelState",
        ),
        ("weights", level_changed(masks=None), "level 0.8: the masks are a NoneType"),
        ("weights", level_changed(masks={}), "level 0.8: 804 weights survive, 161 asked for"),
        ("weights", level_changed(reached=False), "level 0.8: 161 weights survive, as asked, and it is said not to be"),
        ("at most", level_changed(masks={}), "level 0.8: 804 weights survive, at most 161 may"),
        ("units", level_changed(masks={}), "level 0.8: 804 weights survive, 161 asked for, and it is said to be"),
        ("structures", level_changed(masks={}), "level 0.8: 804 weights survive, 161 asked for, and it is said to be"),
        ("none", level_changed(masks={}), "level 0.8: 804 weights survive, 161 asked for, and it is said to be"),
    ],
)
def test_what_a_method_returns_is_held_to_its_entry(dial: Dial, change: Callable[[Pruned], Any], says: str) -> None:
    with pytest.raises(MethodError, match=f"^method 'own': {says}"):
        by_hand(change, dial).prune(small_run(), SETTINGS)


def test_what_it_returns_is_counted_over_all_weights() -> None:
    def unnamed(pruned: Pruned) -> Pruned:
        return level_changed(masks={"1.weight": pruned.levels[0.8].masks["1.weight"]}, reached=False)(pruned)

    state: LevelState = by_hand(unnamed, "none").prune(small_run(), SETTINGS).levels[0.8]
    assert list(state.masks) == ["1.weight", "3.weight"]
    assert state.masks["3.weight"].all()


def test_a_search_returns_a_result() -> None:
    method = searched_method("mine", lambda *_: None, SearchSettings, "Someone (2026)", "scored")
    with pytest.raises(MethodError, match=r"^method 'mine': its search returns a NoneType; return search_result"):
        method.prune(small_run(), SETTINGS)


def test_masks_by_any_way_to_find_them_are_held_before_they_are_trained_with(tmp_path: Path) -> None:
    settings = METHODS["snip"].settings(recipe=RECIPE)

    def method(masks: Callable[[Run, float], Any]) -> Method:
        def prune(run: Run, settings: Any) -> Pruned:
            return prune_by(run, settings, "mine", lambda model, level: masks(run, level))

        return Method("mine", type(settings), "Someone (2026)", "scored", prune)

    file = ResumeFile(tmp_path / "resume.safetensors", fingerprint="x")
    for masks, says in (*WRONG_MASKS, (more, "level 0.5: 403 weights survive, 402 asked for")):
        with pytest.raises(MethodError, match=f"^method 'mine': {says}"):
            method(masks).prune(small_run(file), settings)
        assert not list(tmp_path.iterdir())
    assert method(first_alone).prune(small_run(), settings).levels[0.8].masks["3.weight"].all()


def test_a_criterion_is_named_with_its_method() -> None:
    def of_the_first(candidate: Any) -> dict[str, Tensor]:
        return {"1.weight": candidate.weights()["1.weight"].abs()}

    method = criterion_method(Criterion("first", "Someone (2026)", of_the_first))
    with pytest.raises(MethodError, match=r"^method 'first': criterion first: there are no scores for 3.weight; give"):
        method.prune(small_run(), method.settings(recipe=RECIPE))


@pytest.mark.parametrize(
    ("method", "says"),
    [
        (mine(more), "method 'mine': level 0.5: 403 weights survive, 402 asked for"),
        (mine(lambda *_: None), "method 'mine': the masks are a NoneType"),
        (
            mine(lambda run, _: {n: torch.zeros_like(m) for n, m in all_masks(run.model).items()}, "at most"),
            "no weight",
        ),
    ],
)
def test_a_check_of_a_method_fails_by_what_it_would_be_refused_for(method: Method, says: str) -> None:
    with pytest.raises(CheckFailed, match=says):
        check_method(method, SETTINGS)


def test_a_dial_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigError, match="method mine: dial 'weight' given, allowed: weights, at most, units, struct"):
        mine(exactly, "weight")  # type: ignore[arg-type]
