"""Every method that prunes by a score, on a tiny task."""

import dataclasses
import itertools
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from sharpminima.base.stop import STOP, Stopped
from sharpminima.catalogue.methods.choices import CRITERIA, DISTRIBUTIONS
from sharpminima.catalogue.methods.scored import ScoredSettings
from sharpminima.catalogue.recipes import RecipeSettings
from sharpminima.cli import app
from sharpminima.nets.masks import Masks, all_masks, count
from sharpminima.nets.resume import ResumeFile
from sharpminima.pruning import METHODS, Run
from sharpminima.pruning.engine import criteria
from sharpminima.pruning.engine.criteria import Candidate
from sharpminima.pruning.engine.distribution import keep_best
from sharpminima.pruning.engine.method import Pruned
from sharpminima.pruning.engine.trainings import broken_at
from sharpminima.pruning.scored import by_criterion
from sharpminima.pruning.scored.by_criterion import find_masks
from sharpminima.testing.task import small_net, small_split
from sharpminima.training import RecipePolicy

RECIPE = RecipeSettings(batch_size=20, max_epochs=6)
LEVELS = (0.5, 0.8)
WEIGHTS = 64 * 12 + 12 * 3


def a_run(resume: ResumeFile | None = None, seed: int = 0) -> Run:
    return Run(
        small_net(),
        small_split(1, 200),
        small_split(2, 80),
        small_split(3, 80),
        LEVELS,
        seed=seed,
        augment=False,
        resume=resume,
    )


def settings(name: str, **changes: object) -> ScoredSettings:
    return METHODS[name].settings(recipe=RECIPE, dense=RECIPE, batches=5, **changes)


def same(first: Pruned, second: Pruned) -> bool:
    return all(
        torch.equal(state[name], second.levels[level].state[name])
        for level in first.levels
        for state in [first.levels[level].state]
        for name in state
    )


@pytest.mark.parametrize("name", sorted(CRITERIA))
def test_a_method_prunes_to_the_level_and_learns(name: str) -> None:
    run = a_run()
    before = {key: value.clone() for key, value in run.model.state_dict().items()}
    pruned = METHODS[name].prune(run, settings(name))
    assert list(pruned.levels) == list(LEVELS)
    for level, state in pruned.levels.items():
        assert count(state.masks) == (round((1 - level) * WEIGHTS), WEIGHTS)
        assert state.reached
        assert all(not state.state[key][~mask].any() for key, mask in state.masks.items())
    best = min(row["validation_error_percent"] for row in pruned.history)
    assert best < 50.0  # chance: 67 %
    assert all(torch.equal(before[key], value) for key, value in run.model.state_dict().items())
    assert same(pruned, METHODS[name].prune(a_run(), settings(name)))


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("rounds", [1, 7])
def test_criterion_distribution_and_rounds_recombine(distribution: str, rounds: int) -> None:
    for name in ("snip", "synflow", "force", "magnitude"):
        run = a_run()
        chosen = settings(name, distribution=distribution, rounds=rounds)
        masks = find_masks(run.model, CRITERIA[name], 0.9, chosen, run)
        assert count(masks) == (80, WEIGHTS)


def test_biases_are_removed_only_where_asked_for() -> None:
    run = a_run()
    assert set(find_masks(run.model, CRITERIA["snip"], 0.5, settings("snip"), run)) == {"1.weight", "3.weight"}
    masks = find_masks(run.model, CRITERIA["snip"], 0.5, settings("snip", biases=True), run)
    assert count(masks) == (round(0.5 * (WEIGHTS + 15)), WEIGHTS + 15)


def test_a_weight_that_left_comes_back_by_force_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("snip", "synflow", "force"):
        rounds: list[Masks] = []

        def keep(*arguments: Any, rounds: list[Masks] = rounds) -> Masks:
            rounds.append(keep_best(*arguments))
            return rounds[-1]

        monkeypatch.setattr(criteria, "keep_best", keep)
        run = a_run()
        find_masks(run.model, CRITERIA[name], 0.9, settings(name, rounds=7), run)
        survivors = [count(masks)[0] for masks in rounds]
        assert survivors == [round(WEIGHTS * (80 / WEIGHTS) ** (k / 7)) for k in range(1, 8)]
        back = sum(int((new[key] & ~old[key]).sum()) for old, new in itertools.pairwise(rounds) for key in new)
        assert (back > 0) == (name == "force")


def test_each_round_sees_images_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []
    keep = by_criterion.keep_scored

    def noted(criterion: Any, candidate: Candidate, *arguments: Any, **how: Any) -> Masks:
        seen.append(candidate.sample.images)
        return keep(criterion, candidate, *arguments, **how)

    monkeypatch.setattr(by_criterion, "keep_scored", noted)
    run = a_run()
    find_masks(run.model, CRITERIA["force"], 0.9, settings("force", rounds=3), run)
    assert len(seen) == 3
    assert not any(torch.equal(one, other) for one, other in itertools.combinations(seen, 2))


def test_an_empty_tensor_is_reported() -> None:
    run = Run(
        small_net(), small_split(1, 200), small_split(2, 80), small_split(3, 80), (0.9988,), seed=0, augment=False
    )
    (state,) = METHODS["magnitude"].prune(run, settings("magnitude", start="init")).levels.values()
    assert count(state.masks)[0] == 1
    assert len(state.facts["collapsed"]) == 1


def plain(*hidden: int) -> nn.Module:
    """4 pixels to 3 classes."""
    sizes = [4, *hidden, 3]
    layers = [layer for fan in itertools.pairwise(sizes) for layer in (nn.Linear(*fan), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *layers[:-1])


class Around(nn.Module):
    """A linear layer that another is added to."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pixels = images.flatten(1)
        return self.outer(pixels + self.inner(pixels))


def test_a_net_breaks_apart_where_nothing_leads_through_it() -> None:
    """One unit without inputs, one without outputs: no tensor is empty, and the net is a constant."""
    net = plain(2)
    masks = all_masks(net)
    assert broken_at(net, (1, 2, 2), masks) == []
    masks["1.weight"][0] = masks["3.weight"][:, 1] = False
    assert broken_at(net, (1, 2, 2), masks) == ["1.weight", "3.weight"]
    masks["1.weight"][:] = False
    assert broken_at(net, (1, 2, 2), masks) == ["1.weight"]


def test_a_net_that_an_addition_holds_together_is_not_broken() -> None:
    net = Around()
    masks = all_masks(net)
    masks["inner.weight"][:] = False
    assert broken_at(net, (1, 2, 2), masks) == []
    masks["outer.weight"][:] = False
    assert broken_at(net, (1, 2, 2), masks) == ["inner.weight", "outer.weight"]


def test_of_other_layers_it_is_not_known_whether_a_net_breaks_apart() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.Softmax(1), nn.Linear(2, 3))
    assert broken_at(net, (1, 2, 2), all_masks(net)) is None
    run = dataclasses.replace(
        a_run(), levels=(0.5,), model=nn.Sequential(nn.Flatten(), nn.Linear(64, 3), nn.Softmax(1))
    )
    (state,) = METHODS["magnitude"].prune(run, settings("magnitude", start="init")).levels.values()
    assert state.facts["collapsed"] is None


def test_a_layer_without_biases_is_no_empty_layer() -> None:
    """Magnitude takes all biases, which are zero, before any weight."""
    run = dataclasses.replace(a_run(), levels=(0.5,))
    with torch.no_grad():
        for module in run.model.modules():
            if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
                module.bias.zero_()
    (state,) = METHODS["magnitude"].prune(run, settings("magnitude", start="init", biases=True)).levels.values()
    assert [name for name, mask in state.masks.items() if not mask.any()] == [
        name for name in state.masks if name.endswith("bias")
    ]
    assert state.facts["collapsed"] == []


def test_scoring_trained_weights_trains_as_the_dense_net_does() -> None:
    pruned = METHODS["magnitude"].prune(a_run(), settings("magnitude"))
    dense = [row for row in pruned.history if row["sparsity"] == 0.0]
    assert len(dense) == RECIPE.max_epochs
    assert pruned.levels[0.5].facts["epochs"] == 2 * RECIPE.max_epochs
    assert pruned.epochs == 2 * RECIPE.max_epochs


@pytest.mark.parametrize("epoch", [2, 9, 15])
def test_it_goes_on_where_it_was_stopped(epoch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = METHODS["magnitude"].prune(a_run(), settings("magnitude"))
    path = tmp_path / "resume.safetensors"
    seen = {"epochs": 0, "after": 0}
    after_epoch = RecipePolicy.after_epoch

    def stop(policy: RecipePolicy, *arguments: object) -> None:
        after_epoch(policy, *arguments)
        seen["epochs"] += 1
        if seen["epochs"] == epoch:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    STOP.install()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(RecipePolicy, "after_epoch", stop)
            with pytest.raises(Stopped):
                METHODS["magnitude"].prune(a_run(ResumeFile(path, fingerprint="x")), settings("magnitude"))
    finally:
        signal.signal(signal.SIGTERM, before)
        STOP.raised = False

    def counted(policy: RecipePolicy, *arguments: object) -> None:
        seen["after"] += 1
        after_epoch(policy, *arguments)

    monkeypatch.setattr(RecipePolicy, "after_epoch", counted)
    found = METHODS["magnitude"].prune(a_run(ResumeFile(path, fingerprint="x")), settings("magnitude"))
    assert seen["after"] == 3 * RECIPE.max_epochs - epoch
    assert same(expected, found)
    assert [row["train_loss"] for row in expected.history] == [row["train_loss"] for row in found.history]
    assert {file.name for file in tmp_path.iterdir()} == {"resume.safetensors"}  # the job removes its own


def test_methods_are_listed_with_paper_and_defaults() -> None:
    found = CliRunner().invoke(app, ["methods"])
    assert found.exit_code == 0, found.output
    for name, method in METHODS.items():
        assert f"{name} ({method.kind}): {method.paper}\n" in found.output
    assert "samples_per_class: 25" in found.output.partition("grasp")[2].partition("synflow")[0]
