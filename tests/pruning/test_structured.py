"""Scores of units by hand, and zeros that may recover."""

import copy
import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from training.cases import build, images_of

from sharpminima.nets.compaction import compact
from sharpminima.nets.counts import count_net
from sharpminima.nets.evaluation import Evaluation
from sharpminima.nets.masks import Masks, apply_masks
from sharpminima.pruning import METHODS, Run
from sharpminima.pruning.engine.units import unit_masks, units_of
from sharpminima.pruning.structured.l1_filters import Filters
from sharpminima.pruning.structured.skeletonization import Relevance
from sharpminima.pruning.structured.soft_filter import SoftZeros
from sharpminima.pruning.structured.taylor_channels import TaylorScores
from sharpminima.pruning.structured.unit_scores import UnitScores, search
from sharpminima.testing.task import small_run
from sharpminima.training import FlatModel

from .test_penalty import IMAGES, LABELS, Split, two_layers


def a_policy(kind: type[UnitScores], name: str, level: float, **settings: Any) -> tuple[Any, FlatModel]:
    part = Split(IMAGES, LABELS)
    model = two_layers()
    flat = FlatModel(model)
    run = Run(model, part, part, part, (level,), seed=0, augment=False)
    return kind(run, METHODS[name].settings(batch_size=1, epochs=2, **settings), flat, level), flat


def test_l1_of_incoming_weights() -> None:
    policy, flat = a_policy(Filters, "l1_filters", 0.5)
    assert {layer: score.tolist() for layer, score in policy.scores(flat).items()} == {"1": [7.0, 1.0]}


def test_taylor_squares_what_the_loss_loses_without_a_unit() -> None:
    """Columns of the second layer: .1 g00 + .3 g10 = .1 - .6 and -2 g01 = 2, squared; half of it over two batches."""
    policy, flat = a_policy(TaylorScores, "taylor_channels", 0.5, every=2, begin=0.5)
    flat.view(flat.gradients, "3.weight").copy_(torch.tensor([[1.0, -1.0], [-2.0, 5.0]]))
    for step in range(4):  # of four steps the last two count, which end in the only removal
        policy.steps = step
        policy.before_step(flat, IMAGES, LABELS)
        if step == 2:
            flat.gradients.zero_()
    assert policy.scores(flat)["1"].tolist() == pytest.approx([0.25 / 2, 4.0 / 2])


def test_relevance_is_what_the_linear_error_loses_with_a_units_output() -> None:
    """Against a factor on the hidden units; smoothed over two mini-batches by .8 and .2, and whole again."""
    policy, flat = a_policy(Relevance, "skeletonization", 0.5, every=2, begin=0.5)

    def relevance(images: Tensor, labels: Tensor) -> Tensor:
        alpha = torch.ones(2, requires_grad=True)
        net = flat.model
        outputs = (net[3](net[2](net[1](net[0](images))) * alpha)).softmax(1)
        targets = F.one_hot(labels, 2)
        error = (targets - outputs).abs().sum(1).mean()
        return -torch.autograd.grad(error, alpha)[0]

    batches = [(IMAGES, LABELS), (IMAGES[1:], LABELS[:1])]
    for step, (images, labels) in enumerate(batches, start=2):
        policy.steps = step
        policy.before_step(flat, images, labels)
    first, second = (relevance(*batch) for batch in batches)
    expected = (0.8 * 0.2 * first + 0.2 * second) / (1 - 0.8**2)
    torch.testing.assert_close(policy.scores(flat)["1"], expected)
    flat_before = flat.values.clone()
    policy.masks["1.weight"][1] = False
    scores = policy.scores(flat)["1"]
    assert scores[1] < scores[0]
    assert torch.equal(flat.values, flat_before)


def one_step(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[TaylorScores, FlatModel]:
    """Importance of one mini-batch, in training mode as the search has it."""
    flat, part = FlatModel(model), Split(images, labels)
    run = Run(model, part, part, part, (0.5,), seed=0, augment=False)
    policy = TaylorScores(run, METHODS["taylor_channels"].settings(batch_size=len(labels), epochs=1), flat, 0.5)
    flat.backward(flat.loss(images, labels))
    policy.before_step(flat, images, labels)
    return policy, flat


@pytest.mark.parametrize("kind", ["linear", "convolutional", "batchnorm"])
def test_taylor_is_the_gate_behind_batchnorm_and_the_whole_filter_without(kind: str) -> None:
    """(gamma g_gamma + beta g_beta)^2, or (sum g w + g_b b)^2."""
    split = images_of(kind, 40, 3)
    policy, flat = one_step(build(kind), split.images, split.labels)
    found = policy.scores(flat)
    for group in units_of(flat.model):
        layer = next(iter(group.norms), group.name)
        products = {
            key: (flat.view(flat.values, f"{layer}.{key}") * flat.view(flat.gradients, f"{layer}.{key}"))
            for key in ("weight", "bias")
        }
        expected = (products["weight"].flatten(1).sum(1) if layer == group.name else products["weight"]) + products[
            "bias"
        ]
        torch.testing.assert_close(found[group.name], expected.square())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "steps", "seed", "least"),
    [("batchnorm", 30, 4, 0.9), ("batchnorm", 30, 9, 0.7), ("residual", 5, 9, 0.7)],  # 4: the images it has learnt from
)
def test_taylor_ranks_by_what_the_loss_really_changes_by(kind: str, steps: int, seed: int, least: float) -> None:
    """A net with BatchNorm, trained briefly: rank correlation with the squared change without each unit, in turn."""
    model, split = build(kind), images_of(kind, 200, 4)
    flat = FlatModel(model)
    for _ in range(steps):
        flat.backward(flat.loss(split.images, split.labels))
        flat.values.add_(flat.gradients, alpha=-0.1)
    split = images_of(kind, 200, seed)
    policy, flat = one_step(copy.deepcopy(model), split.images, split.labels)
    scores, groups, changes = policy.scores(flat), units_of(model), []
    loss = flat.loss(split.images, split.labels).item()
    for group in groups:
        for unit in range(group.count):
            keep = {other.name: torch.ones(other.count, dtype=torch.bool) for other in groups}
            keep[group.name][unit] = False
            smaller = copy.deepcopy(model)
            apply_masks(smaller, unit_masks(model, groups, keep))
            changes.append((F.cross_entropy(smaller(split.images), split.labels).item() - loss) ** 2)
    predicted = torch.cat([scores[group.name] for group in groups])
    ranks = torch.stack([each.argsort().argsort().double() for each in (predicted, torch.tensor(changes))])
    assert torch.corrcoef(ranks)[0, 1] > least
    single, flat32 = one_step(copy.deepcopy(model).float(), split.images.float(), split.labels)
    for name, score in single.scores(flat32).items():  # rounding would leave nothing in common
        torch.testing.assert_close(score.double(), scores[name], rtol=1e-2, atol=1e-2 * float(scores[name].max()))


def test_taylor_removes_in_steps_and_nothing_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Masks] = []
    set_masks = FlatModel.set_masks

    def noted(flat: FlatModel, masks: Masks) -> None:
        seen.append(masks)
        set_masks(flat, masks)

    monkeypatch.setattr(FlatModel, "set_masks", noted)
    run = replace(small_run(), levels=(0.8,))  # 200 images
    method = METHODS["taylor_channels"]
    recipe = {"batch_size": 20, "max_epochs": 1}
    method.prune(run, method.settings(batch_size=20, epochs=4, every=5, begin=0.5, recipe=recipe))
    # Twelve units; a fifth of the level a removal, of which the recipe sees the last.
    assert [int(masks["1.bias"].sum()) for masks in seen] == [9, 7, 4, 2]
    for before, after in itertools.pairwise(seen):
        assert not (after["1.bias"] & ~before["1.bias"]).any()


def test_soft_zeros_may_recover() -> None:
    policy, flat = a_policy(SoftZeros, "soft_filter", 0.5)
    policy.after_epoch(flat, 1, Evaluation(1.0, 0, 1))
    weight = flat.view(flat.values, "1.weight")
    assert weight.tolist() == [[3.0, 4.0], [0.0, 0.0]]
    assert flat.mask is None
    weight[1] = 9.0  # trained on, it is now the larger
    policy.after_epoch(flat, 2, Evaluation(1.0, 0, 1))
    assert weight.tolist() == [[0.0, 0.0], [9.0, 9.0]]
    assert policy.done


@pytest.mark.parametrize("kind", ["convolutional", "linear"])
def test_soft_zeros_recover_without_batchnorm(kind: str) -> None:
    """Biases stay, so that a zeroed unit can still have a gradient: an epoch later many are no longer zero."""
    zeroed, moved = [], []

    class Noted(SoftZeros):
        def after_epoch(self, flat: FlatModel, epoch: int, validation: Evaluation) -> None:
            moved.append(torch.cat([weight.any(1) for weight in self.incoming(flat).values()]))
            super().after_epoch(flat, epoch, validation)
            zeroed.append(torch.cat([~weight.any(1) for weight in self.incoming(flat).values()]))

    split = images_of(kind, 300, 5)
    run = Run(build(kind), split, split, split, (0.7,), seed=0, augment=False)
    search(run, 0.7, METHODS["soft_filter"].settings(batch_size=10, epochs=6), None, name="soft_filter", policy=Noted)
    revived = sum(int((before & now).sum()) for before, now in zip(zeroed, moved[1:], strict=False))
    assert revived > 0.3 * sum(int(each.sum()) for each in zeroed[:-1]) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.dial == "units"])
def test_units_leave_a_resnet_down_to_the_level(name: str) -> None:
    """Blocks and shortcuts shrink, and what the level leaves is what the net then holds."""
    model, split = build("residual"), images_of("residual", 30, 1)
    run = Run(model, split, split, split, (0.9,), seed=0, augment=False, compaction=True)
    recipe = {"batch_size": 10, "max_epochs": 1}
    short = {"batch_size": 10, "epochs": 1, "recipe": recipe, "dense": recipe, "episodes": 6, "warm_up": 3}
    fields = METHODS[name].settings.model_fields
    chosen = METHODS[name].settings(**{key: value for key, value in short.items() if key in fields})
    (state,) = METHODS[name].prune(run, chosen).levels.values()
    assert state.reached
    model.load_state_dict(state.state)
    counts = count_net(model, (3, 8, 8))
    assert counts.effective <= compact(model, state.masks).parameter_count < 0.12 * counts.parameters
