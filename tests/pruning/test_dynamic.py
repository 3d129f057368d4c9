"""One rewiring of each method by hand, on a layer of six weights."""

import math

import pytest
import torch
from torch import nn

from sharpminima.nets.masks import Masks
from sharpminima.pruning import METHODS, Run
from sharpminima.pruning.dynamic.dsr import Reparameterizing
from sharpminima.pruning.dynamic.evolutionary import Evolving
from sharpminima.pruning.dynamic.rewiring import Dynamic, drop_smallest, grow_best, share_out
from sharpminima.pruning.dynamic.rigl import Rigging, cosine
from sharpminima.pruning.dynamic.sparse_momentum import Redistributing
from sharpminima.testing.task import small_run, small_split
from sharpminima.training import FlatModel

from .test_methods import settings_of

NAMES = ("1.weight", "2.weight")
WEIGHTS = {"1.weight": [[3.0, -0.1, 2.0, 0.0]], "2.weight": [[0.5], [0.0], [-4.0], [0.0]]}
KEEP = {"1.weight": [[1, 1, 1, 0]], "2.weight": [[1], [0], [1], [0]]}


def a_policy(kind: type[Dynamic], name: str, **changes: object) -> tuple[Dynamic, FlatModel, Masks]:
    """At a given mask, ten steps an epoch, before the first rewiring."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 1, bias=False), nn.Linear(1, 4, bias=False))
    parts = [small_split(seed, 200) for seed in (1, 2, 3)]
    flat = FlatModel(model, dense_gradients=True)
    run = Run(model, *parts, (0.5,), seed=0, augment=False)
    settings = METHODS[name].settings(batch_size=20, epochs=4, **changes)
    policy = kind(run, settings, flat, 0.375, name)
    flat.set_masks({key: torch.tensor(keep).bool() for key, keep in KEEP.items()})
    for key, values in WEIGHTS.items():
        flat.view(flat.values, key).copy_(torch.tensor(values))
    policy.steps = 10
    return policy, flat, policy.masks(flat)


def ints(masks: Masks) -> dict[str, list]:
    return {name: mask.int().tolist() for name, mask in masks.items()}


def test_set_drops_the_smallest_share_of_each_layer_and_grows_elsewhere() -> None:
    policy, flat, before = a_policy(Evolving, "set", drop=0.5)
    after = policy.rewired(flat, before)
    assert ints(after)["1.weight"] == [[1, 0, 1, 1]]  # one of three leaves, the only free place comes
    second = after["2.weight"].flatten().tolist()
    assert second[0] is False  # .5 leaves, 4 stays
    assert second[2] is True
    assert sum(second) == 2
    policy.after_step(flat)  # step 11: no rewiring
    assert policy.masks(flat)["1.weight"].tolist() == before["1.weight"].tolist()


def test_a_newcomer_of_set_takes_its_initial_value() -> None:
    policy, flat, _ = a_policy(Evolving, "set", drop=0.5)
    initial = policy.parts(flat, policy._initial)["1.weight"][0, 3].item()
    policy.steps = 9
    policy.after_step(flat)
    assert flat.view(flat.values, "1.weight").tolist() == [[3.0, 0.0, 2.0, pytest.approx(initial)]]


def test_rigl_grows_where_the_gradient_is_largest_with_zero() -> None:
    policy, flat, _ = a_policy(Rigging, "rigl", drop=1.0, every=10, until=0.5)
    flat.view(flat.unmasked, "1.weight").copy_(torch.tensor([[9.0, 0.1, 9.0, -0.2]]))
    flat.view(flat.unmasked, "2.weight").copy_(torch.tensor([[0.0], [1.0], [9.0], [-2.0]]))
    policy.steps = 9
    policy.after_step(flat)  # step 10 of 20: half of each layer leaves
    assert policy.masks(flat)["1.weight"].int().tolist() == [[1, 0, 1, 1]]
    assert policy.masks(flat)["2.weight"].int().tolist() == [[0], [0], [1], [1]]
    assert flat.view(flat.values, "2.weight").tolist() == [[0.0], [0.0], [-4.0], [0.0]]


def test_the_cosine() -> None:
    assert [cosine(0.3, step, 40) for step in (0, 20, 40, 50)] == pytest.approx([0.3, 0.15, 0.0, 0.0])
    assert cosine(0.3, 10, 40) == pytest.approx(0.15 * (1 + math.sqrt(0.5)))


def test_sparse_momentum_moves_connections_to_the_layer_that_needs_them() -> None:
    """Momentum: (1 - .9) times each gradient. 1.weight drops 1 of 3, 2.weight 1 of 2: two go to 2.weight."""
    policy, flat, before = a_policy(Redistributing, "sparse_momentum", drop=1.0, until=0.5)
    flat.view(flat.unmasked, "2.weight").copy_(torch.tensor([[0.0], [1.0], [5.0], [-2.0]]))
    policy.before_step(flat, torch.empty(0), torch.empty(0))
    assert policy.parts(flat, policy._momentum)["2.weight"].flatten().tolist() == pytest.approx([0.0, 0.1, 0.5, -0.2])
    after = policy.rewired(flat, before)
    assert ints(after) == {"1.weight": [[1, 0, 1, 0]], "2.weight": [[0], [1], [1], [1]]}


def test_dsr_moves_its_threshold() -> None:
    """Aim: one of five. Under .3 one leaves; under .6 two, too many; under .05 none, too few."""
    for threshold, left, moved in [(0.3, 1, 0.3), (0.6, 2, 0.3), (0.05, 0, 0.1), (100.0, 0, 50.0)]:
        policy, flat, before = a_policy(Reparameterizing, "dsr", drop=0.2, threshold=threshold)
        after = policy.rewired(flat, before)
        stayed = sum(int((after[name] & before[name]).sum()) for name in NAMES)
        assert sum(int(mask.sum()) for mask in after.values()) == 5
        assert stayed >= 5 - left
        assert policy.threshold == pytest.approx(moved)


def test_places_are_shared_out_in_proportion_and_within_room() -> None:
    assert share_out({"a": 3.0, "b": 1.0}, {"a": 10, "b": 10}, 8) == {"a": 6, "b": 2}
    assert share_out({"a": 3.0, "b": 1.0}, {"a": 2, "b": 10}, 8) == {"a": 2, "b": 6}
    assert share_out({"a": 0.0, "b": 0.0}, {"a": 2, "b": 2}, 3) == {"a": 2, "b": 1}


def test_what_leaves_and_what_comes() -> None:
    mask = {"a": torch.tensor([True, True, False, False])}
    kept = drop_smallest({"a": torch.tensor([-3.0, 1.0, 9.0, 0.0])}, mask, {"a": 1})
    assert kept["a"].tolist() == [True, False, False, False]
    grown = grow_best({"a": torch.tensor([9.0, 9.0, 1.0, 2.0])}, kept, mask, {"a": 1})
    assert grown["a"].tolist() == [True, False, False, True]


@pytest.mark.parametrize("name", ["set", "dsr", "sparse_momentum", "rigl"])
def test_the_number_of_survivors_never_changes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, moved = [], []
    after_step = Dynamic.after_step

    def watching(self: Dynamic, flat: FlatModel) -> None:
        before = flat.mask.clone()
        after_step(self, flat)
        seen.append(int(flat.mask.count_nonzero()))
        moved.append(int((flat.mask != before).sum()))

    monkeypatch.setattr(Dynamic, "after_step", watching)
    settings = settings_of(name).model_copy(update={"every": 10})
    METHODS[name].prune(small_run(), settings)
    half = len(seen) // 2
    assert len(set(seen[:half])) == len(set(seen[half:])) == 1
    assert sum(count > 0 for count in moved) >= 4
