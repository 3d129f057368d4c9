"""One rewiring of each method by hand, on a layer of six weights."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from sharpminima.catalogue.registry import loaded
from sharpminima.nets.masks import Masks
from sharpminima.pruning import METHODS, Run
from sharpminima.pruning.dynamic.dsr import Reparameterizing
from sharpminima.pruning.dynamic.evolutionary import Evolving
from sharpminima.pruning.dynamic.rewiring import Dynamic, drop_smallest, grow_best, share_out
from sharpminima.pruning.dynamic.rigl import Rigging, cosine
from sharpminima.pruning.dynamic.sparse_momentum import Redistributing
from sharpminima.testing.task import small_run, small_split
from sharpminima.training import FlatModel, Optimiser

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


def test_set_drops_what_is_closest_to_zero_of_each_sign_and_grows_elsewhere() -> None:
    """Of 3 and 2 one leaves, of -.1 none, of .5 none, of -4 none; of four negative ones the two largest would."""
    policy, flat, before = a_policy(Evolving, "set", drop=0.5)
    after = policy.rewired(flat, before)
    assert ints(after) == {"1.weight": [[1, 1, 0, 1]], "2.weight": KEEP["2.weight"]}
    policy.after_step(flat)  # step 11: no rewiring
    assert policy.masks(flat)["1.weight"].tolist() == before["1.weight"].tolist()
    flat.set_masks({"1.weight": torch.ones(1, 4).bool(), "2.weight": torch.tensor([[1], [1], [1], [0]]).bool()})
    flat.view(flat.values, "2.weight").copy_(torch.tensor([[-0.5], [-0.1], [4.0], [0.0]]))
    after = policy.rewired(flat, policy.masks(flat))
    assert ints(after) == {"1.weight": [[1, 1, 1, 1]], "2.weight": [[1], [0], [1], [1]]}  # no room in the first


def test_a_newcomer_of_set_takes_its_initial_value() -> None:
    policy, flat, _ = a_policy(Evolving, "set", drop=0.5)
    initial = policy.parts(flat, policy._initial)["1.weight"][0, 3].item()
    policy.steps = 9
    policy.after_step(flat)
    expected = [3.0, pytest.approx(-0.1), 0.0, pytest.approx(initial)]
    assert flat.view(flat.values, "1.weight")[0].tolist() == expected


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


def test_sparse_momentum_shares_out_by_means_before_dropping_and_spares_what_is_nearly_dense() -> None:
    """Means of |momentum| before: (.1 + .9 + .1) / 3 of ten times, and .2; after dropping the first would be .1.

    The first layer, due more than half, is 10 % sparse: of its nine, a tenth of nine may leave, which is none.
    """
    model = nn.Sequential(nn.Flatten(), nn.Linear(10, 1, bias=False), nn.Linear(1, 10, bias=False))
    run = dataclasses.replace(small_run(), model=model)
    flat = FlatModel(model, dense_gradients=True)
    settings = METHODS["sparse_momentum"].settings(batch_size=20, epochs=4, momentum=0.9, drop=1.0, until=0.5)
    policy = Redistributing(run, settings, flat, 0.35, "sparse_momentum")
    assert [int(mask.sum()) for mask in policy.masks(flat).values()] == [7, 6]  # equal densities at the start
    few = torch.arange(10).view(10, 1) < 4
    flat.set_masks({"1.weight": torch.arange(10).view(1, 10) > 0, "2.weight": few})
    flat.view(flat.values, "1.weight").copy_(torch.arange(10.0).view(1, 10))
    flat.view(flat.values, "2.weight").copy_(torch.arange(1.0, 11.0).view(10, 1) * few)
    flat.view(policy._momentum, "1.weight").fill_(3.0)
    flat.view(policy._momentum, "2.weight").copy_(torch.tensor([[8.0], [0], [0], [0], [1], [9], [0], [7], [0], [0]]))
    policy.steps = 10  # share: a half
    after = policy.rewired(flat, policy.masks(flat))
    # Means: 3 and 2, so the first is due .6 of what comes back, but nearly dense: none leaves there, two of the other.
    # Of those two it gets one, all it has room for; without its first weight, 8, the other's mean would be 0.
    assert int(after["1.weight"].sum()) == 10
    assert after["2.weight"].flatten().int().tolist() == [0, 0, 1, 1, 0, 1, 0, 0, 0, 0]


def test_a_newcomer_of_sparse_momentum_keeps_its_momentum() -> None:
    """Places that are out gather SGD's momentum from the dense gradient; once in, they move by it."""
    policy, flat, _ = a_policy(Redistributing, "sparse_momentum", momentum=0.5)
    optimiser = Optimiser(flat, policy.update_groups)
    flat.gradients.zero_()
    flat.view(flat.unmasked, "2.weight").fill_(1.0)
    for _ in range(2):
        optimiser.step(0.1)
    assert flat.view(flat.values, "2.weight")[3].item() == 0.0
    flat.set_masks({name: torch.ones_like(mask) for name, mask in policy.masks(flat).items()})
    optimiser.step(0.1)
    assert flat.view(flat.values, "2.weight")[3].item() == pytest.approx(-0.1 * (1 + 0.5 * 1.5))


def test_dsr_moves_its_threshold() -> None:
    """Aim: one of five. Under .3 one leaves; under .6 two, too many; under .05 none, too few."""
    for threshold, left, moved in [(0.3, 1, 0.3), (0.6, 2, 0.3), (0.05, 0, 0.1), (100.0, 0, 50.0)]:
        policy, flat, before = a_policy(Reparameterizing, "dsr", drop=0.2, threshold=threshold)
        after = policy.rewired(flat, before)
        stayed = sum(int((after[name] & before[name]).sum()) for name in NAMES)
        assert sum(int(mask.sum()) for mask in after.values()) == 5
        assert stayed == 5 - left
        assert policy.threshold == pytest.approx(moved)


def test_dsr_keeps_a_weight_in_each_tensor_and_brings_nothing_back_at_once() -> None:
    """All of 2.weight is under 4.5, and so is all but one of 1.weight: the largest of the first stays."""
    policy, flat, before = a_policy(Reparameterizing, "dsr", drop=0.6, threshold=4.5)
    flat.view(flat.values, "1.weight").copy_(torch.tensor([[9.0, -0.1, 8.0, 0.0]]))
    after = policy.rewired(flat, before)
    assert after["2.weight"][2].item()  # -4 stays
    assert not after["2.weight"][0].item()  # .5 has left, and two other places are free
    assert not after["1.weight"][0, 1].item()
    assert sum(int(mask.sum()) for mask in after.values()) == 5
    flat.set_masks({"1.weight": torch.ones(1, 4).bool(), "2.weight": torch.ones(4, 1).bool()})
    after = policy.rewired(flat, policy.masks(flat))  # nowhere else: all come back
    assert sum(int(mask.sum()) for mask in after.values()) == 8


def test_dsr_never_empties_a_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    """A threshold that removes a whole tensor at each rewiring, which is every ten steps."""
    assert METHODS["dsr"].settings().every == 100
    assert METHODS["dsr"].settings().distribution == "erk"  # plain nets hardly learn from equal densities
    smallest: list[int] = []
    rewired = Reparameterizing.rewired

    def watching(self: Reparameterizing, flat: FlatModel, masks: Masks) -> Masks:
        self.threshold = float(flat.view(flat.values, "3.weight").abs().max()) * 1.01
        after = rewired(self, flat, masks)
        smallest.append(min(int(mask.sum()) for mask in after.values()))
        return after

    monkeypatch.setattr(Reparameterizing, "rewired", watching)
    settings = settings_of("dsr").model_copy(update={"every": 10, "recipe": None})
    METHODS["dsr"].prune(small_run(), settings)
    assert len(smallest) >= 8
    assert min(smallest) >= 1


def test_dsr_brings_nothing_in_the_last_epoch() -> None:
    """Of 40 steps: rewirings every 8 up to step 30, after which ten are left."""
    policy, flat, _ = a_policy(Reparameterizing, "dsr", every=8)
    policy.rewired = lambda flat, masks: rewirings.append(policy.steps) or masks
    rewirings: list[int] = []
    policy.steps = 0
    for _ in range(40):
        policy.after_step(flat)
    assert rewirings == [8, 16, 24]


@pytest.mark.parametrize("name", ["set", "dsr", "sparse_momentum", "rigl"])
def test_every_tensor_starts_with_a_weight(name: str) -> None:
    """Three of 804 survive; the second layer has 36, of which an equal share is none."""
    run = small_run()
    flat = FlatModel(run.model, dense_gradients=True)
    settings = METHODS[name].settings(batch_size=20, epochs=2, distribution="layerwise")
    policy = loaded(METHODS[name].code)(run, settings, flat, 1 - 3 / 804, name)
    assert [int(mask.sum()) for mask in policy.masks(flat).values()] == [2, 1]


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
