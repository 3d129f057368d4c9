"""Entries that do not keep what their kind promises are found out; those that do are held to it beside their code."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from sharpminima.catalogue.models import MODELS, Model
from sharpminima.nets.compaction import Compacted
from sharpminima.pruning import METHODS
from sharpminima.testing import CheckFailed, check_model, models
from sharpminima.testing.methods import check_is_written, check_levels, check_repeats
from sharpminima.testing.task import small_run

SETTINGS = METHODS["snip"].settings(recipe={"batch_size": 20, "max_epochs": 3})


@pytest.fixture(scope="module")
def pruned():
    return METHODS["snip"].prune(small_run(), SETTINGS)


def changed(pruned, **changes):
    """With the highest level's net changed."""
    return replace(pruned, levels=pruned.levels | {0.8: replace(pruned.levels[0.8], **changes)})


def test_what_is_wrong_with_a_level_is_said(pruned):
    check_levels(METHODS["snip"], pruned)
    state, masks = pruned.levels[0.8].state, pruned.levels[0.8].masks
    zero = {name: torch.zeros_like(values) for name, values in state.items()}
    for wrong, says in (
        (
            replace(pruned, levels={0.5: pruned.levels[0.5]}),
            r"snip: levels \[0\.5\] returned, \[0\.5, 0\.8\] asked for",
        ),
        (changed(pruned, masks=pruned.levels[0.5].masks), "snip, level 0.8: 402 weights survive, 161 asked for"),
        (
            changed(pruned, state=pruned.levels[0.5].state),
            "snip, level 0.8: removed weights of 1.weight.* are not zero",
        ),
        (changed(pruned, state=zero), "snip, level 0.8: an error of .*: the net is dead"),
        (changed(pruned, facts={"epoch": 1, "event": 2}), "snip, level 0.8: facts lack gradient_norm"),
        (replace(pruned, epochs=0), "snip: 0 epochs, and a history of"),
    ):
        with pytest.raises(CheckFailed, match=says):
            check_levels(METHODS["snip"], wrong)
    assert state.keys() > masks.keys()


def test_other_bits_are_said(pruned):
    lower = {name: values + 1 for name, values in pruned.levels[0.8].state.items()}
    with pytest.raises(CheckFailed, match=r"snip, run again, level 0\.8: other bits in 1\.weight"):
        check_repeats(METHODS["snip"], SETTINGS, changed(pruned, state=lower))
    with pytest.raises(CheckFailed, match=r"snip, level 0\.8, written and read: facts differ"):
        check_is_written(METHODS["snip"], changed(pruned, facts={"pair": (1, 2)}))


class Centred(nn.Module):
    """Depends on the batch, also in eval mode."""

    def forward(self, images):
        return images - images.mean(0)


class Spare(nn.Linear):
    """Has a parameter that nothing reads."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.spare = nn.Parameter(torch.ones(2))


def test_what_is_wrong_with_a_net_is_said():
    def own(build):
        return Model("own", (1, 4, 4), build)

    with pytest.raises(CheckFailed, match=r"lenet5: is said to be NetFacts\(.*; it is NetFacts\("):
        check_model(replace(MODELS["lenet5"], known=MODELS["lenet3"].known))
    with pytest.raises(CheckFailed, match=r"own: outputs \[3, 5\], \[3, 10\] expected"):
        check_model(own(lambda num_classes: nn.Sequential(nn.Flatten(), nn.Linear(16, 5))))
    with pytest.raises(CheckFailed, match="own: in eval mode an image's outputs depend on the other images"):
        check_model(own(lambda num_classes: nn.Sequential(Centred(), nn.Flatten(), nn.Linear(16, num_classes))))
    with pytest.raises(CheckFailed, match=r"own: no gradient for 1\.spare"):
        check_model(own(lambda num_classes: nn.Sequential(nn.Flatten(), Spare(16, num_classes))))


def test_a_fault_of_compaction_is_not_put_down_to_the_net(monkeypatch):
    """Whether the smaller net computes something else, or fails."""

    def build(num_classes):
        return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Flatten(), nn.Linear(24, num_classes))

    model = Model("own", (1, 4, 4), build)
    check_model(model)
    for wrong in (build(10), nn.Linear(3, 10)):
        monkeypatch.setattr(models, "compact", lambda *_, wrong=wrong, **__: Compacted(wrong, {}, {}))
        with pytest.raises(CheckFailed, match=r"own: .* a fault of sharpminima\.nets\.compaction, not of the model"):
            check_model(model)
