"""Scores that have no rank are refused wherever something is ranked, and named; all others are ranked as before."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from training.cases import build, images_of

from sharpminima.base.errors import MethodError, RankingError, TrainingError
from sharpminima.catalogue.methods.choices import DISTRIBUTIONS, Criterion
from sharpminima.nets.masks import all_masks, apply_masks, count
from sharpminima.pruning import METHODS, Run
from sharpminima.pruning.dynamic.rewiring import drop_smallest, grow_best
from sharpminima.pruning.engine.criteria import Candidate, keep_scored
from sharpminima.pruning.engine.distribution import keep_best
from sharpminima.pruning.engine.structures import Structures, keep_best_structures
from sharpminima.pruning.engine.units import keep_best_units, units_of
from sharpminima.pruning.scored import by_criterion
from sharpminima.pruning.structured.amc import Channels
from sharpminima.pruning.structured.dcp import Choice
from sharpminima.pruning.structured.lasso_channels import LassoChannels
from sharpminima.pruning.structured.layer_by_layer import LayerByLayer
from sharpminima.pruning.structured.thinet import ThiNet
from sharpminima.testing.task import small_run
from sharpminima.training import FlatModel

NAN = float("nan")
NAN_IN_B = {"a": torch.tensor([[1.0, 2.0], [3.0, 4.0]]), "b": torch.tensor([[0.0, NAN, NAN]])}
SAID = "the scores of b are NaN in 2 of 3 places, which have no rank: the training before diverged"


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_nan_has_no_rank(distribution: str) -> None:
    with pytest.raises(RankingError, match=SAID):
        keep_best(NAN_IN_B, 2, distribution)
    alive = {name: torch.ones_like(score, dtype=torch.bool) for name, score in NAN_IN_B.items()}
    with pytest.raises(RankingError, match=SAID):
        keep_best(NAN_IN_B, 2, distribution, alive)
    alive["b"] = ~NAN_IN_B["b"].isnan()  # what has left is not ranked
    assert count(keep_best(NAN_IN_B, 5, distribution, alive)) == (5, 7)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_infinite_scores_have_a_rank(distribution: str) -> None:
    infinite = {"w": torch.tensor([-torch.inf, torch.inf, 0.0, 1.0])}
    assert keep_best(infinite, 2, distribution)["w"].tolist() == [False, True, False, True]


@pytest.mark.parametrize("distribution", ["global", "layerwise"])
def test_units_without_a_rank_are_refused(distribution: str) -> None:
    model = build("batchnorm")  # 6 filters, and 4
    scores = {group.name: torch.rand(group.count) for group in units_of(model)}
    for wrong, error, says in (
        ({"3": torch.tensor([1.0, NAN, 2.0, 3.0])}, RankingError, "the scores of 3 are NaN in 1 of 4 places"),
        ({"3": torch.rand(6)}, MethodError, r"the scores of 3 have shape \[6\]; give \[4\], one for each place"),
        ({"3": torch.tensor(1.0)}, MethodError, r"the scores of 3 have shape \[\]; give \[4\]"),
        ({"6": torch.rand(3)}, MethodError, "there are scores for 6, of which nothing may leave; leave them out"),
    ):
        with pytest.raises(error, match=says):
            keep_best_units(model, scores | wrong, 0.5, distribution, 0.1)
    with pytest.raises(MethodError, match="there are no scores for 0; give each a tensor of its shape"):
        keep_best_units(model, {"3": scores["3"]}, 0.5, distribution, 0.1)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_structures_without_a_rank_are_refused(distribution: str) -> None:
    structures = {"w": Structures.at(torch.tensor([[0, 0, 1], [2, 2, 1]]))}
    with pytest.raises(RankingError, match="the scores of w are NaN in 1 of 3 places"):
        keep_best_structures({"w": torch.tensor([1.0, NAN, 2.0])}, structures, 4, distribution)
    with pytest.raises(MethodError, match=r"the scores of w have shape \[6\]; give \[3\]"):
        keep_best_structures({"w": torch.rand(6)}, structures, 4, distribution)
    best = {"w": torch.tensor([1.0, torch.inf, -torch.inf])}  # the last has left
    assert keep_best_structures(best, structures, 4, distribution)["w"].tolist() == [[True] * 3, [False] * 2 + [True]]


def test_nothing_leaves_or_comes_back_by_nan() -> None:
    weights, masks = {"w": torch.tensor([1.0, NAN, 2.0])}, {"w": torch.tensor([True, True, False])}
    with pytest.raises(RankingError, match="the scores of w are NaN in 1 of 3 places"):
        drop_smallest(weights, masks, {"w": 1})
    with pytest.raises(RankingError, match="the scores of w are NaN in 1 of 3 places"):
        grow_best({"w": torch.tensor([0.0, 0.0, NAN])}, masks, masks, {"w": 1})


@pytest.mark.parametrize(("policy", "name"), [(LassoChannels, "lasso_channels"), (ThiNet, "thinet")])
def test_channels_of_a_net_that_has_diverged_are_not_chosen(policy: type[LayerByLayer], name: str) -> None:
    """Within an epoch, at the end of which its loss would be refused."""
    flat = FlatModel(build("linear"))
    data = images_of("linear", 30, 1)
    run = Run(flat.model, data, data, data, (0.5,), seed=0, augment=False)
    choosing = policy(run, METHODS[name].settings(batch_size=10, epochs=2), flat, 0.5, name)
    flat.values.fill_(NAN)
    group = choosing.groups[1]
    with pytest.raises(RankingError, match=f"the scores of {group.name} are NaN in 81 of 81 places"):
        choosing.chosen(flat.model, group, 1)


def test_units_of_a_net_that_has_diverged_have_no_order() -> None:
    model = build("linear")
    nn.init.constant_(model[5].weight, NAN)  # what reads the second group
    with pytest.raises(RankingError, match="the scores of 3 are NaN in 9 of 9 places"):
        Channels(model, images_of("linear", 20, 1), 500, 0.2, "error")


def test_units_come_back_by_a_gradient_that_is_a_number() -> None:
    model = build("linear")
    group = units_of(model)[0]
    choice = Choice(model, group, lambda parameters: torch.optim.SGD(parameters, 0.1))
    (weight,) = choice.weights.values()
    with pytest.raises(RankingError, match=f"the scores of {group.name} are NaN in {group.count} of {group.count}"):
        choice.add([lambda: (weight * NAN).sum()], 1)


def scored(code: Callable[[Candidate], Any], *, revives: bool = False, rounds: int = 2, biases: bool = False) -> Any:
    """The masks of a criterion on the small task."""
    run, criterion = small_run(), Criterion("mine", "ours", code, revives=revives)
    settings = METHODS["snip"].settings(rounds=rounds, biases=biases)
    return by_criterion.find_masks(run.model, criterion, 0.8, settings, run)


def sizes(candidate: Candidate) -> dict[str, Tensor]:
    return {name: weight.abs() for name, weight in candidate.weights().items()}


def changed(value: Any) -> Callable[[Candidate], dict[str, Any]]:
    """|w|, but for the second tensor what ``value`` makes of it."""
    return lambda candidate: sizes(candidate) | {"3.weight": value(sizes(candidate)["3.weight"])}


@pytest.mark.parametrize("revives", [False, True])
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda _: None, "the scores are a NoneType; give a dictionary"),
        (lambda _: {}, "there are no scores for 1.weight, 3.weight; give each a tensor of its shape"),
        (lambda c: {"1.weight": sizes(c)["1.weight"]}, "there are no scores for 3.weight; give each a tensor"),
        (lambda c: sizes(c) | {"3.bias": torch.ones(3)}, "there are scores for 3.bias, of which nothing may leave"),
        (changed(lambda score: score.mean()), r"the scores of 3.weight have shape \[\]; give \[3, 12\], one for each"),
        (changed(lambda score: score.mean(1, keepdim=True)), r"the scores of 3.weight have shape \[3, 1\]; give"),
        (changed(lambda score: score.flatten()), r"the scores of 3.weight have shape \[36\]; give \[3, 12\]"),
        (changed(lambda score: score.numpy()), "the scores of 3.weight are a ndarray; give a tensor"),
        (changed(lambda _: None), "the scores of 3.weight are a NoneType; give a tensor"),
        (changed(lambda score: score.cfloat()), "the scores of 3.weight are complex, and have no order; give real"),
        (
            changed(lambda score: torch.full(score.shape, 2**53 + 1)),
            "the scores of 3.weight are whole numbers of more digits than float64 has; give smaller ones",
        ),
    ],
)
def test_what_a_criterion_gives_that_cannot_be_ranked_is_named(wrong: Any, says: str, revives: bool) -> None:
    with pytest.raises(MethodError, match=f"^criterion mine: {says}"):
        scored(wrong, revives=revives)


def test_nan_of_a_criterion_is_named_and_is_a_trials_result() -> None:
    """`tune` notes a training that diverged, and goes on to the next trial."""
    with pytest.raises(TrainingError, match=r"^criterion mine: the scores of 3\.weight are NaN in 36 of 36 places"):
        scored(changed(lambda score: score * NAN))
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    nn.init.constant_(model[1].weight, NAN)
    candidate = Candidate(model, all_masks(model), small_run().training, torch.Generator(), 1)
    with pytest.raises(RankingError, match=r"criterion magnitude: the scores of 1.weight .* its learning rate"):
        keep_scored(METHODS["magnitude"].code, candidate, 2, "global")


@pytest.mark.parametrize("revives", [False, True])
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_scores_of_any_real_dtype_rank_as_their_values_do(distribution: str, revives: bool) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 4), nn.Linear(4, 2))
    masks = all_masks(model)
    masks["1.weight"][:, 0] = False
    apply_masks(model, masks)
    draws = torch.Generator().manual_seed(0)
    values = {name: torch.randint(0, 100, mask.shape, generator=draws) for name, mask in masks.items()}
    candidate = Candidate(model, masks, small_run().training, draws, 1)
    expected = keep_best({name: score.double() for name, score in values.items()}, 9, distribution, masks)
    for dtype in (torch.int64, torch.uint8, torch.float16, torch.bfloat16, torch.float32):
        criterion = Criterion("mine", "ours", lambda _, dtype=dtype: {n: s.to(dtype) for n, s in values.items()})
        found = keep_scored(criterion, candidate, 9, distribution, reviving=revives)
        assert count(found) == (9, 40)
        assert revives or all(torch.equal(found[name], mask) for name, mask in expected.items())


def test_scores_may_carry_a_graph_or_be_truth_values() -> None:
    learnt = {"w": torch.tensor([0.5, 2.0], requires_grad=True)}
    assert keep_best(learnt, 1, "global")["w"].tolist() == [False, True]
    assert keep_best({"w": torch.tensor([False, True])}, 1, "layerwise")["w"].tolist() == [False, True]


@pytest.mark.parametrize("wrong", [{}, [], None, np.ones(3), {"w": np.ones(3)}, {"w": None}])
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_a_search_is_told_what_it_cannot_rank(wrong: Any, distribution: str) -> None:
    with pytest.raises(MethodError, match=r"scores (are a|of w are a)"):
        keep_best(wrong, 1, distribution)
