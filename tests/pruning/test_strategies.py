"""Where each control starts: its structure, its weights, and what depends on the replica."""

import pytest
import torch
from torch import Tensor

from sharpminima.nets.masks import Masks, count, prunable_parameters
from sharpminima.nets.models import build_model
from sharpminima.pruning import STRATEGIES
from sharpminima.pruning.strategies import masked_net


def lobster_like() -> tuple[dict[str, Tensor], Masks]:
    init = build_model("lenet300", seed=7).state_dict()
    random = torch.Generator().manual_seed(0)
    densities = dict(zip(prunable_parameters(build_model("lenet300")), (0.02, 0.5, 0.1, 0.9, 0.6, 1.0), strict=True))
    return init, {name: torch.rand(init[name].shape, generator=random) < d for name, d in densities.items()}


def begin(name: str, replica: int) -> tuple[dict[str, Tensor], Masks]:
    init, masks = lobster_like()
    model, found = masked_net(STRATEGIES[name], "lenet300", 10, init, masks, seed=0, replica=replica)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    for key, mask in found.items():
        assert not state[key][~mask].any()
    return state, found


@pytest.mark.parametrize("name", ["rewind", "rewind-long"])
def test_rewind_resets_survivors_to_their_initial_values(name: str) -> None:
    init, masks = lobster_like()
    state, found = begin(name, 0)
    for key, mask in masks.items():
        assert torch.equal(found[key], mask)
        assert torch.equal(state[key][mask], init[key][mask])


@pytest.mark.parametrize("name", ["reinit", "reinit-long"])
def test_reinit_keeps_the_mask_and_draws_new_weights(name: str) -> None:
    init, masks = lobster_like()
    (first, found), (again, _), (second, _) = begin(name, 0), begin(name, 0), begin(name, 1)
    key = "1.weight"
    assert torch.equal(found[key], masks[key])
    assert torch.equal(first[key], again[key])
    assert not torch.equal(first[key], second[key])
    assert not (first[key] == init[key])[masks[key]].any()
    # PyTorch's default for a layer of 784 inputs: uniform within 1/28.
    assert float(first[key].abs().max()) <= 1 / 28


@pytest.mark.parametrize(("name", "layerwise"), [("random-structure", False), ("random-structure-layerwise", True)])
def test_random_structures_match_the_count(name: str, layerwise: bool) -> None:
    _, masks = lobster_like()
    (state, found), (_, other) = begin(name, 0), begin(name, 1)
    assert count(found) == count(masks) == count(other)
    assert not torch.equal(found["1.weight"], other["1.weight"])
    same = all(int(found[key].sum()) == int(masks[key].sum()) for key in masks)
    assert same == layerwise
    assert state["1.weight"].count_nonzero() == found["1.weight"].sum()


def test_which_strategies_draw() -> None:
    assert {name for name, strategy in STRATEGIES.items() if not strategy.draws} == {"rewind", "rewind-long"}


def test_random_structures_spread_over_weights_without_a_mask_too() -> None:
    """A mask that is not there removes nothing, as one of ones does."""
    init, masks = lobster_like()
    whole = {**masks, "1.weight": torch.ones_like(masks["1.weight"])}
    some = {name: mask for name, mask in masks.items() if name != "1.weight"}
    for given in (whole, {**some, "1.weight": whole["1.weight"]}, some):
        _, found = masked_net(STRATEGIES["random-structure"], "lenet300", 10, init, given, seed=0, replica=0)
        assert count(found) == count(whole)
        assert 0.8 < found["1.weight"].double().mean() < 0.95


@pytest.mark.parametrize("name", ["shuffle-weights", "shuffle-masks"])
def test_shuffles_keep_each_layers_values_and_move_what_they_say(name: str) -> None:
    init, masks = lobster_like()
    (state, found), (again, _), (other, _) = begin(name, 0), begin(name, 0), begin(name, 1)
    for key, mask in masks.items():
        assert torch.equal(state[key][found[key]].sort().values, init[key][mask].sort().values)
        assert torch.equal(found[key], mask) == (name == "shuffle-weights" or bool(mask.all()))
        assert torch.equal(state[key], again[key])
    key = "1.weight"
    assert not torch.equal(state[key], init[key] * masks[key])
    assert not torch.equal(state[key], other[key])


def test_the_thesis_shuffle_of_masks_alone_is_a_random_structure_layerwise() -> None:
    """Table 3.1: shuffle masks in each layer and reinitialise: as many survivors a layer, new weights."""
    init, masks = lobster_like()
    state, found = begin("random-structure-layerwise", 0)
    for key, mask in masks.items():
        assert int(found[key].sum()) == int(mask.sum())
    assert (state["1.weight"] == init["1.weight"])[found["1.weight"]].double().mean() < 0.01
