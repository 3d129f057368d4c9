"""DessiLBI: its step, the order in which weights enter, and what a level keeps of the weights at the end."""

from pathlib import Path as File

import pytest
import torch
from torch import nn

from sharpminima.data import Split, load_prepared
from sharpminima.nets.evaluation import evaluate
from sharpminima.nets.models import build_model
from sharpminima.pruning import METHODS, Run
from sharpminima.pruning.path.dessilbi import Path, prox, search
from sharpminima.testing.task import small_run
from sharpminima.training import FlatModel

from .test_methods import pruned_by, settings_of

IMAGES, LABELS = torch.tensor([[[[1.0, 2.0]]], [[[3.0, 0.0]]]]), torch.tensor([0, 1])


def a_path(**settings: float) -> tuple[Path, FlatModel]:
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False))
    model[1].weight.data = torch.tensor([[3.0, 4.0], [0.5, -0.5]])
    part = Split(IMAGES, LABELS)
    run = Run(model, part, part, part, (0.5,), seed=0, augment=False)
    flat = FlatModel(model)
    return Path(run, METHODS["dessilbi"].settings(batch_size=1, **settings), flat), flat


def test_prox_by_hand() -> None:
    assert prox(torch.tensor([[3.0, -1.5, 0.5]])).tolist() == [[2.0, -0.5, 0.0]]
    filters = torch.tensor([[3.0, 4.0], [0.3, 0.4]]).view(2, 1, 1, 2)
    assert prox(filters).flatten().tolist() == pytest.approx([3 * 0.8, 4 * 0.8, 0.0, 0.0])


def test_a_step_and_the_order_of_entry_by_hand() -> None:
    """lr .5, nu 2, kappa 1, no loss: W falls by a quarter of W - Gamma, Z rises by it, before W's own step."""
    policy, flat = a_path(lr=0.5, nu=2.0, epochs=6)
    policy.before_step(flat, IMAGES, LABELS)
    policy.after_step(flat)
    assert flat.view(flat.values, "1.weight")[0].tolist() == pytest.approx([3 - 0.75, 4 - 1.0])
    assert policy.support(flat)["1.weight"].sum() == 0  # Z = .75 and 1
    validation = evaluate(flat.model, IMAGES, LABELS)
    policy.after_epoch(flat, 1, validation)
    policy.before_step(flat, IMAGES, LABELS)
    policy.after_step(flat)  # Z = .75 + .5625 = 1.3125 and 1 + .75
    assert flat.view(policy._gamma, "1.weight").flatten().tolist() == pytest.approx([0.3125, 0.75, 0.0, 0.0])
    assert flat.view(flat.values, "1.weight")[0].tolist() == pytest.approx([2.25 - 0.5625, 3 - 0.75])
    policy.after_epoch(flat, 2, validation)
    policy._gamma[:] = 0.0  # what leaves again has entered
    policy.after_epoch(flat, 3, validation)
    first, second, third, fourth = policy.order(flat)["1.weight"].flatten().tolist()
    assert [first, second] == pytest.approx([1.6875 - 2, 2.25 - 2])
    assert third == pytest.approx(fourth)
    assert third < -100
    assert policy.lr == pytest.approx(0.05)  # two of six epochs are over, and a third


def test_z_falls_behind_with_the_rate() -> None:
    policy, flat = a_path(lr=0.5, nu=2.0, epochs=6, kappa=2.0)
    assert policy.lr == 1.0
    policy.lr = 0.1
    policy.before_step(flat, IMAGES, LABELS)
    assert flat.view(policy._z, "1.weight")[0].tolist() == pytest.approx([0.1 / 2 / 2 * 3, 0.1 / 2 / 2 * 4])


def test_the_path_grows_and_levels_are_of_the_weights_at_its_end() -> None:
    """Layerwise: half of 768 and of 36, a fifth of them, what entered first; trained from the end of the path."""
    pruned = pruned_by("dessilbi")
    survivors = [event["survivors"] for event in pruned.events]
    assert survivors == sorted(survivors)
    assert len(survivors) == 6
    assert survivors[-1] > 0
    order = search(small_run(), settings_of("dessilbi"), None)["order"]
    for level, counts in ((0.5, [384, 18]), (0.8, [154, 7])):
        masks = pruned.levels[level].masks
        assert [int(mask.sum()) for mask in masks.values()] == counts
        for key, mask in masks.items():
            assert order[key][mask].min() >= order[key][~mask].max()
    alone = METHODS["dessilbi"].prune(small_run(), settings_of("dessilbi").model_copy(update={"recipe": None}))
    for level, state in alone.levels.items():
        end = search(small_run(), settings_of("dessilbi"), None)["state"]
        for key, mask in state.masks.items():
            assert torch.equal(state.state[key], end[key] * mask)
        assert torch.equal(mask, pruned.levels[level].masks[key])


@pytest.mark.slow
def test_no_layer_of_lenet5_is_empty_at_high_levels(digits: File) -> None:
    data = load_prepared(digits)
    parts = [data.split(part) for part in ("train", "validation", "test")]
    run = Run(build_model("lenet5", seed=0), *parts, (0.95, 0.98), seed=0, augment=False)
    settings = METHODS["dessilbi"].settings(epochs=9, nu=2.0, batch_size=50, recipe={"max_epochs": 3})
    for state in METHODS["dessilbi"].prune(run, settings).levels.values():
        assert state.facts["collapsed"] == []
        model = build_model("lenet5", seed=0)
        model.load_state_dict(state.state)
        assert evaluate(model, parts[2].images, parts[2].labels).error_percent < 50
