"""Compaction is exact: the same function, the same gradients, the same trainings, the same LOBSTER masks."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from sharpminima.catalogue.methods.gradual import LobsterSettings
from sharpminima.catalogue.recipes import RecipeSettings
from sharpminima.nets.compaction import build as building
from sharpminima.nets.compaction import compact
from sharpminima.nets.masks import Masks, prunable_parameters
from sharpminima.nets.models import build_model
from sharpminima.pruning import METHODS, Run
from sharpminima.runtime.rng import generator
from sharpminima.training import FlatModel, Group, Optimiser, RecipePolicy, train
from sharpminima.training import flat as flat_module

from .cases import NETS, build, images_of


@pytest.fixture(autouse=True, scope="module", params=["dense layers", "sparse layers"])
def _always_compact(request: pytest.FixtureRequest) -> Iterator[str]:
    """The nets here are so small that one dead unit would not be worth it, nor a layer of its survivors alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flat_module, "_WORTH", 1.0)
        patch.setattr(building, "is_worth", lambda mask: request.param == "sparse layers")
        yield request.param


def test_a_net_with_few_dead_units_is_left_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flat_module, "_WORTH", 0.8)
    model = build("linear")
    flat = FlatModel(model, compaction=True)
    masks = {name: torch.ones_like(p, dtype=torch.bool) for name, p in model.named_parameters()}
    masks["3.weight"][:, 4] = False
    flat.set_masks(masks)
    assert [id(p) for p in flat.network.parameters()] == [id(p) for p in model.parameters()]


def draw_masks(model: nn.Module, density: float, seed: int) -> Masks:
    """Some layers much sparser than others, so that whole units die on either side."""
    random = torch.Generator().manual_seed(seed)
    parameters = dict(model.named_parameters())
    masks = {}
    for name in prunable_parameters(model):
        share = density * (0.2 if torch.rand(1, generator=random) < 0.5 else 1.0)
        masks[name] = torch.rand(parameters[name].shape, generator=random) < share
    return masks


@pytest.mark.slow
@settings(max_examples=60)
@given(
    kind=st.sampled_from(sorted(NETS)),
    density=st.sampled_from([0.01, 0.03, 0.1, 0.3, 0.7, 1.0]),
    seed=st.integers(0, 1000),
    training=st.booleans(),
)
def test_same_function_and_same_gradients(kind: str, density: float, seed: int, training: bool) -> None:
    model = build(kind, seed)
    masks = draw_masks(model, density, seed)
    split = images_of(kind, 7, seed)
    whole, small = FlatModel(build(kind, seed)), FlatModel(model, compaction=True)
    outputs = []
    for flat in (whole, small):
        flat.set_masks(masks)
        flat.network.train(training)
        logits = flat.network(split.images)
        flat.backward(F.cross_entropy(logits, split.labels))
        outputs.append(logits.detach())
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(whole.gradients, small.gradients, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", sorted(NETS))
@pytest.mark.parametrize(("momentum", "weight_decay"), [(0.0, 0.0), (0.9, 1e-2)])
def test_a_whole_training_is_the_same(kind: str, momentum: float, weight_decay: float) -> None:
    masks = draw_masks(build(kind), 0.15, 3)
    recipe = RecipeSettings(lr=0.05, batch_size=20, max_epochs=4)
    found = []
    for compaction in (False, True):
        flat = FlatModel(build(kind), compaction=compaction)
        flat.set_masks(masks)
        policy = RecipePolicy(recipe)
        history = train(
            flat,
            images_of(kind, 90, 1),
            images_of(kind, 40, 2),
            policy,
            batch_size=recipe.batch_size,
            momentum=momentum,
            weight_decay=weight_decay,
            stream=lambda epoch: generator(0, "order", epoch),
        )
        images = images_of(kind, 30, 5)
        found.append((flat.values.clone(), history, flat.evaluate(images.images, images.labels), flat.model))
    (whole, history, test, model), (small, small_history, small_test, small_model) = found
    torch.testing.assert_close(whole, small, rtol=1e-9, atol=1e-11)
    for row, other in zip(history, small_history, strict=True):
        assert row == pytest.approx(other, rel=1e-9)
    assert test.wrong == small_test.wrong
    assert test.loss == pytest.approx(small_test.loss, rel=1e-9)
    # Expanded back, it is the same function, running statistics included.
    images = images_of(kind, 30, 5).images
    torch.testing.assert_close(model.eval()(images), small_model.eval()(images), rtol=1e-9, atol=1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["linear", "convolutional"])
def test_a_lobster_run_has_the_same_mask_after_every_event(kind: str) -> None:
    settings_ = LobsterSettings(**{"lambda": 5e-3, "twt": 0.3, "pwe": 1, "max_epochs": 60, "batch_size": 20})
    runs = []
    for compaction in (False, True):
        run = Run(
            build(kind),
            images_of(kind, 200, 1),
            images_of(kind, 80, 2),
            images_of(kind, 80, 3),
            (0.3, 0.6, 0.9999),
            seed=0,
            augment=False,
            compaction=compaction,
        )
        runs.append(METHODS["lobster"].prune(run, settings_))
    whole, small = runs
    assert len(whole.events) >= 3
    assert len(whole.events) == len(small.events)
    for event, other in zip(whole.events, small.events, strict=True):
        assert event == pytest.approx(other, rel=1e-6)
        assert event["survivors"] == other["survivors"]
    for level, state in whole.levels.items():
        for name, mask in state.masks.items():
            assert torch.equal(mask, small.levels[level].masks[name])


def test_parameters_of_dead_units_go_on_decaying() -> None:
    model = build("linear")
    masks = {"3.weight": torch.ones(9, 16, dtype=torch.bool)}
    masks["3.weight"][:, 4] = False  # unit 4 of the first layer reaches nothing
    flat = FlatModel(model, compaction=True)
    flat.set_masks(masks)
    assert len(flat.network.get_submodule("1").bias) == 15
    before = model[1].weight[4].clone()
    split = images_of("linear", 20, 0)
    sgd = Optimiser(flat, [Group(weight_decay=0.5)])
    flat.backward(F.cross_entropy(flat.network(split.images), split.labels))
    sgd.step(0.1)
    torch.testing.assert_close(model[1].weight[4], before * (1 - 0.1 * 0.5))


def hand_masks() -> tuple[nn.Module, Masks]:
    """4 - 4 - 3 - 2, all weights removed but those set below."""
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)
    ).double()
    masks = {name: torch.zeros_like(p, dtype=torch.bool) for name, p in model.named_parameters()}
    masks["1.weight"][0, 0] = True  # unit 0: pixel 0 -> unit 0 -> unit 0 -> output 0
    masks["3.weight"][0, 0] = masks["5.weight"][0, 0] = True
    masks["1.weight"][1, 1] = True  # unit 1: fed by pixel 1, read by nothing
    masks["3.weight"][0, 2] = True  # unit 2: read, but exactly zero
    masks["1.bias"][3] = masks["3.weight"][1, 3] = masks["5.weight"][1, 1] = True  # unit 3: a constant, and it counts
    masks["3.bias"][2] = True  # a constant that nothing reads
    return model, masks


def test_which_units_are_dead() -> None:
    model, masks = hand_masks()
    small = compact(model, masks)
    # Places in the flattened matrices 4 x 4, 3 x 4 and 2 x 3.
    assert small.parameters["1.linear.weight"][1].tolist() == [[0], [12]]
    assert small.parameters["3.weight"][1].tolist() == [[0, 3], [4, 7]]
    assert small.parameters["5.weight"][1].tolist() == [[0, 1], [3, 4]]
    assert sum(p.numel() for p in small.model.parameters()) == (2 * 1 + 2) + (2 * 2 + 2) + (2 * 2 + 2)


def test_a_net_without_any_path_keeps_one_unit_a_layer() -> None:
    model = build_model("lenet5")
    masks = {name: torch.zeros_like(p, dtype=torch.bool) for name, p in model.named_parameters()}
    flat = FlatModel(model, compaction=True)
    flat.set_masks(masks)
    assert sum(p.numel() for p in flat.network.get_submodule("conv1").parameters()) in (0 + 1, 25 + 1)
    assert not flat.network(torch.randn(3, 1, 28, 28)).any()


def test_residual_streams_keep_their_channels() -> None:
    model = build_model("resnet32")
    masks = {
        name: torch.ones_like(dict(model.named_parameters())[name], dtype=torch.bool)
        for name in prunable_parameters(model)
    }
    masks["stage1.0.conv2.weight"][:, :5] = False  # five inner channels of a block reach nothing
    masks["stage1.0.conv1.weight"][7] = False  # an inner channel that is only a shift: it stays
    masks["stage1.1.conv1.weight"][:, 3] = False  # a stream channel that one block does not read: it stays
    network = compact(model, masks).model
    assert network.get_submodule("stage1.0.conv1").out_channels == 11
    assert network.get_submodule("stage1.0.bn1").num_features == 11
    assert network.get_submodule("stage1.0.conv2").in_channels == 11
    assert network.get_submodule("stage1.1.conv1").in_channels == 16
