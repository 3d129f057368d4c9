"""What a method has frozen keeps its bits, and what it adds moves by its own rule."""

from typing import Any

import pytest
import torch

from sharpminima.catalogue.methods.search import LearnedSettings, SearchSettings
from sharpminima.catalogue.registry import loaded
from sharpminima.pruning import METHODS
from sharpminima.pruning.engine import reparametrised
from sharpminima.pruning.engine.reparametrised import Learning
from sharpminima.pruning.engine.search import SearchPolicy, rate_after
from sharpminima.testing.task import small_net, small_run
from sharpminima.training import FlatModel, Optimiser

from .test_methods import settings_of

HEAVY = {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}
KERNELS_ONLY = ["shift_attention"]  # what adds nothing to the small net, which is linear
LEARNED = [
    name
    for name, method in METHODS.items()
    if issubclass(method.settings, LearnedSettings) and name not in KERNELS_ONLY
]
FREEZING = ["supermask", "edge_popup", "optimal_masks"]
SEARCHED = [name for name, method in METHODS.items() if issubclass(method.settings, SearchSettings)]


def search_of(name: str, **changes: Any) -> Any:
    settings = settings_of(name)
    target = settings.strengths[0] if "strengths" in type(settings).model_fields else 0.8
    return loaded(METHODS[name].code)(small_run(), target, settings.model_copy(update=changes), None)


@pytest.mark.parametrize("name", LEARNED)
def test_frozen_weights_keep_their_bits_under_momentum_and_decay(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before and after each step; methods that freeze do so in most steps, and their scores do move."""
    frozen, moved = [], []
    step = Optimiser.step

    def watching(self: Optimiser, lr: float) -> None:
        flat = self._flat
        before = {key: value.detach().clone() for key, value in flat.model.named_parameters()}
        step(self, lr)
        own, added = self.groups
        for group in (own, added):
            changed = [key for key in group.names if not torch.equal(flat.model.get_parameter(key), before[key])]
            if group.frozen:
                assert changed == []
                frozen.append(group)
            elif group is added:
                moved.append(bool(changed))

    monkeypatch.setattr(Optimiser, "step", watching)
    search_of(name, **HEAVY)
    assert any(moved)
    assert (len(frozen) > 0) == (name in FREEZING)


@pytest.mark.parametrize("name", ["supermask", "edge_popup"])
def test_the_weights_momentum_and_decay_are_nothing_to_scores_and_to_what_was_at_w0(name: str) -> None:
    plain, heavy = search_of(name), search_of(name, **HEAVY)
    for key, tensor in plain.state.items():
        assert torch.equal(tensor, heavy.state[key])
    assert torch.equal(heavy.state["1.bias"], small_net().state_dict()["1.bias"])
    decayed = search_of(name, added_weight_decay=0.1, added_momentum=0.9)
    assert any(not torch.equal(plain.masks[key], decayed.masks[key]) for key in plain.masks)


@pytest.mark.parametrize("name", LEARNED)
def test_decay_of_weights_leaves_gates_scores_and_thresholds_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step without any gradient: weights shrink by 1 - lr decay unless frozen, what was added stays, to the bit."""
    caught: list[tuple[FlatModel, Learning]] = []
    monkeypatch.setattr(reparametrised, "fit", lambda run, flat, policy, *rest: caught.append((flat, policy)) or [])
    search_of(name, **HEAVY)
    ((flat, policy),) = caught
    before = {key: value.detach().clone() for key, value in flat.model.named_parameters()}
    flat.gradients.zero_()
    Optimiser(flat, policy.update_groups).step(policy.lr)
    for key, value in flat.model.named_parameters():
        if key.startswith("added.") or (policy.own.frozen and key.startswith("model.")):
            assert torch.equal(value, before[key])
        elif policy.own.kind == "adam":
            # Its first step is the rate, whatever the gradient, down to its epsilon.
            torch.testing.assert_close(value, before[key] - policy.lr * before[key].sign(), rtol=0, atol=1e-4)
        else:
            torch.testing.assert_close(value, before[key] * (1 - policy.lr * 0.1 * 1.9))  # Nesterov: 1 + .9


def test_rates_by_hand() -> None:
    def rates(schedule: str, **others: Any) -> list[float]:
        settings = SearchSettings(epochs=6, lr_schedule=schedule, **others)
        return [rate_after(settings, epoch) for epoch in range(6)]

    assert rates("constant") == [1.0] * 6
    assert rates("steps", lr_falls=(1 / 3, 2 / 3)) == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert rates("linear") == pytest.approx([1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])
    assert rates("exponential", lr_last=0.125) == pytest.approx([1, 2**-0.5, 0.5, 2**-1.5, 0.25, 2**-2.5])
    assert rates("cosine") == pytest.approx([1.0, 0.9330127, 0.75, 0.5, 0.25, 0.0669873])
    assert rate_after(SearchSettings(epochs=1, lr_schedule="steps", lr_falls=(0.3,)), 0) == 1.0


@pytest.mark.parametrize("name", SEARCHED)
def test_any_search_takes_a_schedule_and_may_be_all(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rates are in the history; without a recipe the state is that of the search, and no training follows."""
    changes = {"lr_schedule": "linear", "recipe": None, "epochs": 4, "dense": None, "lr_fall": 1.0}
    known = {key: value for key, value in changes.items() if key in METHODS[name].settings.model_fields}
    settings = settings_of(name).model_copy(update=known)
    seen: dict[int, float] = {}
    after_step = SearchPolicy.after_step

    def watching(self: SearchPolicy, flat: FlatModel) -> None:
        after_step(self, flat)
        seen[(self.steps - 1) // self.steps_per_epoch] = self.lr

    monkeypatch.setattr(SearchPolicy, "after_step", watching)
    pruned = METHODS[name].prune(small_run(), settings)
    rates = [seen[epoch] for epoch in range(4)]
    assert rates == pytest.approx([settings.lr * share for share in (1, 0.75, 0.5, 0.25)])
    assert [row["lr"] for row in pruned.history[:4]] == rates
    assert pruned.epochs == 4
    for state in pruned.levels.values():
        assert state.facts["epoch"] == 4
        assert not any(state.state[key][~mask].any() for key, mask in state.masks.items())
