"""Kernels and positions within them: what leaves together, how many, and which by hand or by trying all."""

import copy
import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from training.cases import build, images_of

from sharpminima.models import build_model
from sharpminima.nets.masks import all_masks, apply_masks, count
from sharpminima.pruning import METHODS, Run
from sharpminima.pruning.engine.distribution import survivors_at
from sharpminima.pruning.engine.particles import filtered, resampled
from sharpminima.pruning.engine.structures import Structures, keep_best_structures, kernels_of, positions_of
from sharpminima.pruning.structured.intra_kernel import Positions
from sharpminima.pruning.structured.kernels import Kernels
from sharpminima.pruning.structured.structure_rounds import StructureRounds
from sharpminima.training import FlatModel

KINDS = {"kernels": Kernels, "intra_kernel": Positions}


def draws_of(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def run_of(kind: str = "convolutional", level: float = 0.5) -> Run:
    part = images_of(kind, 30, 1)
    return Run(build(kind), part, part, part, (level,), seed=0, augment=False)


def a_policy(name: str, run: Run, **settings: Any) -> tuple[StructureRounds, FlatModel]:
    flat = FlatModel(copy.deepcopy(run.model))
    chosen = METHODS[name].settings(batch_size=10, epochs=2, **settings)
    return KINDS[name](run, chosen, flat, run.levels[0], name), flat


def test_structures_of_layers() -> None:
    """Kernels whole; positions the same in all filters of a channel; weights of linear layers by themselves."""
    weight = torch.zeros(3, 2, 2, 3)
    assert kernels_of(weight).places.flatten(2).tolist() == [[[2 * f] * 6, [2 * f + 1] * 6] for f in range(3)]
    strided = positions_of(weight, 4)
    assert strided.places.flatten(2).tolist() == [[[0, 1, 2, 3, 0, 1], [4, 5, 6, 7, 4, 5]]] * 3
    assert strided.sizes.tolist() == [6, 6, 3, 3] * 2
    assert positions_of(weight, 99).sizes.tolist() == [3] * 12
    columns = positions_of(weight, 3).places
    assert torch.equal(columns, torch.arange(6).view(1, 2, 1, 3).expand(3, 2, 2, 3))
    for linear in (kernels_of(torch.zeros(2, 3)), positions_of(torch.zeros(2, 3), 2)):
        assert linear.places.tolist() == [[0, 1, 2], [3, 4, 5]]


@settings(max_examples=60)
@given(
    distribution=st.sampled_from(["global", "layerwise", "erk"]),
    share=st.floats(0.02, 1.0),
    gone=st.floats(0.0, 0.5),
    stride=st.integers(0, 4),
    seed=st.integers(0, 100),
)
def test_structures_are_whole_and_as_many_as_fit(
    distribution: str, share: float, gone: float, stride: int, seed: int
) -> None:
    """None is in parts or comes back, no tensor is empty, and one more structure of any tensor would be too many."""
    draws = draws_of(seed)
    weights = {"a": torch.zeros(3, 2, 3, 3), "b": torch.zeros(2, 4, 2, 2), "c": torch.zeros(5, 7)}
    structures = {name: positions_of(w, stride) if stride else kernels_of(w) for name, w in weights.items()}
    scores = {}
    for name, each in structures.items():
        scores[name] = torch.rand(len(each.sizes), generator=draws)
        left = torch.rand(len(each.sizes), generator=draws) < gone
        left[0] = False
        scores[name][left] = -torch.inf
    size = count({name: torch.ones_like(w).bool() for name, w in weights.items()})[1]
    asked = round(share * size)
    masks = keep_best_structures(scores, structures, asked, distribution)
    kept = {name: structures[name].mean(mask.double()) for name, mask in masks.items()}
    survivors = count(masks)[0]
    for name, share_of in kept.items():
        assert set(share_of.tolist()) <= {0.0, 1.0}
        assert share_of.any()
        assert not share_of[scores[name].isinf()].any()
        best = scores[name][share_of == 1].min()
        assert (scores[name][share_of == 0] <= best).all()
    if all(int(share_of.sum()) == 1 for share_of in kept.values()):
        return  # no less is possible
    assert survivors <= asked
    others = [
        int(structures[name].sizes[score.masked_fill(kept[name] == 1, -torch.inf).argmax()])
        for name, score in scores.items()
        if (score.isfinite() & (kept[name] == 0)).any()
    ]
    assert not others or survivors + min(others) > asked


def test_the_highest_stay_by_hand() -> None:
    """Two tensors of 2 and 4 structures of 2 and 1 weights, of which 4 weights stay."""
    structures = {"a": Structures.at(torch.tensor([[0, 0, 1, 1]])), "b": Structures.at(torch.arange(4).view(2, 2))}
    scores = {"a": torch.tensor([0.1, 0.9]), "b": torch.tensor([0.2, 0.3, 0.8, 0.4])}

    def kept(distribution: str, survivors: int) -> tuple[list[bool], list[bool]]:
        masks = keep_best_structures(scores, structures, survivors, distribution)
        return masks["a"].flatten().tolist(), masks["b"].flatten().tolist()

    assert kept("global", 4) == ([False, False, True, True], [False, False, True, True])
    assert kept("layerwise", 4) == ([False, False, True, True], [False, False, True, True])
    assert kept("layerwise", 2) == ([False, False, True, True], [False, False, True, False])  # one each, too many
    assert kept("global", 5) == ([False, False, True, True], [False, True, True, True])


def test_what_does_not_fit_goes_to_the_finest() -> None:
    """25 of 52 weights: shares 3.8, 13.5 and 7.7. a has its first 4, which is more; b, by sevens, no more than 7.

    The other 6 are for c, though the second structure of a would fit.
    """
    structures = {
        "a": Structures.at(torch.arange(8)[None] // 4),
        "b": Structures.at(torch.arange(28)[None] // 7),
        "c": Structures.at(torch.arange(16)[None]),
    }
    scores = {name: torch.rand(len(each.sizes), generator=draws_of(0)) for name, each in structures.items()}
    masks = keep_best_structures(scores, structures, 25, "layerwise")
    assert [int(mask.sum()) for mask in masks.values()] == [4, 7, 14]


def test_kernels_leave_by_their_mean_weight() -> None:
    """Against all subsets of a layer's kernels: those with the most of L1 stay."""
    run = run_of()
    policy, flat = a_policy("kernels", run, rounds=1)
    weight = run.model.conv2.weight.detach()
    l1, mask = weight.abs().sum((2, 3)), policy.masks["conv2.weight"]
    kernels = mask.any(3).any(2)
    assert torch.equal(mask, kernels[..., None, None].expand_as(mask))
    number = int(kernels.sum())
    assert 0 < number < 48
    assert torch.equal(kernels, l1 >= l1.flatten().topk(number).values[-1])
    assert not flat.model.conv2.weight[~mask].any()


@pytest.mark.parametrize(("distribution", "filters"), [("global", 20), ("layerwise", 1)])
def test_the_first_convolution_of_lenet5_keeps_filters_to_read(distribution: str, filters: int) -> None:
    """At 95 % one share for all layers would leave it a single filter of 20, and most kernels behind it no input."""
    model = build_model("lenet5", seed=0)
    structures = {name: kernels_of(model.get_parameter(name)) for name in all_masks(model)}
    scores = {name: each.mean(model.get_parameter(name).abs()) for name, each in structures.items()}
    size = count(all_masks(model))[1]
    masks = keep_best_structures(scores, structures, survivors_at(0.95, size), distribution)
    assert int(masks["conv1.weight"].flatten(1).any(1).sum()) == filters
    assert METHODS["kernels"].settings().distribution == METHODS["intra_kernel"].settings().distribution == "global"


def test_positions_are_the_same_in_all_filters() -> None:
    """With stride 2 each channel has one of two offsets, those with the larger mean, or both."""
    run = run_of(level=0.6)
    policy, _ = a_policy("intra_kernel", run, rounds=1)
    mask, weight = policy.masks["conv2.weight"], run.model.conv2.weight.detach()
    assert torch.equal(mask, mask[:1].expand_as(mask))
    means = torch.stack([weight.abs().mean(0).flatten(1)[:, offset::2].mean(1) for offset in (0, 1)], 1)
    kept = torch.stack([mask[0].flatten(1)[:, offset] for offset in (0, 1)], 1)
    number = int(kept.sum())
    assert torch.equal(kept, means >= means.flatten().topk(number).values[-1])
    assert torch.equal(mask[0].flatten(1)[:, 0::2].all(1), kept[:, 0])


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("choice", ["magnitude", "particles"])
def test_rounds_take_the_same_share_and_nothing_comes_back(name: str, choice: str) -> None:
    """Three rounds at steps 0, 2 and 4 of six, to an eighth by halves, each to within a structure; it resumes."""
    run = run_of(level=7 / 8)
    policy, flat = a_policy(name, run, rounds=3, choice=choice, particles=4, generations=3)
    largest = max(int(each.sizes.max()) for each in policy.structures.values())
    size, seen = count(policy.masks)[1], []
    for _ in range(6):
        seen.append(policy.masks)
        policy.after_step(flat)
    for step, masks in enumerate(seen):
        assert size / 2 ** (step // 2 + 1) - largest < count(masks)[0] <= size / 2 ** (step // 2 + 1) + 0.5
        earlier = seen[max(0, step - 1)]
        assert all(not (mask & ~earlier[key]).any() for key, mask in masks.items())
    other, _ = a_policy(name, run, rounds=3, choice=choice, particles=4, generations=3)
    other.restore(policy.state())
    assert other._rounds == 3
    assert all(torch.equal(mask, other.masks[key]) for key, mask in policy.masks.items())


def test_particles_come_as_often_as_their_weights_say() -> None:
    weights = torch.tensor([0.5, 1.5, 0.0, 2.0])
    for draw in (0.0, 0.3, 0.99):
        counts = resampled(weights, draw).bincount(minlength=4)
        assert counts[2] == 0
        assert ((counts - weights).abs() < 1).all()
    mean = torch.stack([resampled(weights, i / 100).bincount(minlength=4) for i in range(100)]).double().mean(0)
    torch.testing.assert_close(mean, weights.double(), atol=0.02, rtol=0)


def test_the_filter_finds_the_best_of_all_masks() -> None:
    """Twelve structures of which four stay: the error counts those that stay but are not of a set; 495 masks."""
    wanted = {1, 5, 6, 10}

    def error(keys: dict[str, Tensor]) -> float:
        return len(set(keys["w"].topk(4).indices.tolist()) - wanted) / 4

    how: dict[str, Any] = {"particles": 20, "mutation": 0.1}
    for seed in range(5):
        found = filtered({"w": torch.zeros(12)}, error, generations=60, draws=draws_of(seed), **how)
        assert set(found["w"].topk(4).indices.tolist()) == wanted
    gone = torch.tensor([-torch.inf] * 4 + [0.0] * 8)
    left = filtered({"w": gone}, error, generations=3, draws=draws_of(0), **how)
    assert left["w"].isinf().tolist() == gone.isinf().tolist()


def test_particles_keep_the_kernels_that_the_net_needs() -> None:
    """Two of four channels decide the class; their kernels are the smallest, so that magnitude would remove them."""
    net = nn.Sequential(nn.Conv2d(4, 2, 1, bias=False), nn.Flatten())
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[0.1, -0.1, 5.0, 5.0], [-0.1, 0.1, 5.0, 5.0]])[..., None, None])
    images = torch.randn(40, 4, 1, 1, generator=draws_of(0))
    images[:, 3] = -images[:, 2]  # what the large kernels see cancels
    labels = (images[:, 1] > images[:, 0]).long().flatten()
    run = run_of()
    part = replace(run.training, images=images, labels=labels)
    run = replace(run, model=net, training=part, validation=part, test=part)
    how: dict[str, Any] = {"rounds": 1, "samples_per_class": 20}
    by_size, _ = a_policy("kernels", run, **how)
    assert by_size.masks["0.weight"].flatten(1).tolist() == [[False, False, True, True]] * 2
    chosen, _ = a_policy("kernels", run, choice="particles", generations=20, **how)

    def wrong(masks: dict[str, Tensor]) -> int:
        smaller = copy.deepcopy(net)
        apply_masks(smaller, masks)
        return int((smaller(images).argmax(1) != labels).sum())

    best = min(
        wrong({"0.weight": torch.tensor([place in kept for place in range(8)]).view(2, 4, 1, 1)})
        for kept in itertools.combinations(range(8), 4)
    )
    assert wrong(chosen.masks) == best == 0
    assert wrong(by_size.masks) > 10


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("kind", ["convolutional", "batchnorm", "residual"])
def test_a_convolutional_net_ends_with_what_was_asked_for(name: str, kind: str) -> None:
    run = run_of(kind, level=0.8)
    recipe = {"batch_size": 10, "max_epochs": 1}
    chosen = METHODS[name].settings(batch_size=10, epochs=1, recipe=recipe, dense=recipe)
    state = METHODS[name].prune(run, chosen).levels[0.8]
    survivors, size = count(state.masks)
    largest = 10 * 5 if name == "intra_kernel" else 9  # the linear layers make up for it to the weight
    assert survivors_at(0.8, size) - largest < survivors <= survivors_at(0.8, size)
    assert state.reached
    assert all(mask.any() for mask in state.masks.values())
    assert state.masks.keys() == all_masks(run.model).keys()
