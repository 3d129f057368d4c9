"""Replicas trained as one model: each is what it is alone, whoever its companions are, resumed or not."""

import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sharpminima.base.errors import TrainingError
from sharpminima.base.stop import STOP, Stopped
from sharpminima.catalogue.recipes import RecipeSettings
from sharpminima.data import Split
from sharpminima.nets.compaction import compact
from sharpminima.nets.masks import Masks, prunable_parameters
from sharpminima.nets.models import build_model
from sharpminima.nets.resume import ResumeFile
from sharpminima.runtime.rng import generator
from sharpminima.training import (
    HISTORY_COLUMNS,
    FlatModel,
    FlatReplicas,
    Group,
    Optimiser,
    RecipePolicy,
    train_replicas,
)
from sharpminima.training import flat as flat_module
from sharpminima.training.augment import draw_crops, pad_crop_flip

from .cases import NETS, Interrupting, build, images_of

PLAIN = RecipeSettings(lr=0.1, batch_size=20, max_epochs=4)
HEAVY = RecipeSettings(lr=0.05, batch_size=20, max_epochs=4, momentum=0.9, weight_decay=1e-2)
# Rates fall and trainings end at different epochs.
STOPPING = RecipeSettings(lr=0.1, batch_size=20, max_epochs=14, momentum=0.5, patience=1, stop_after=2)


@pytest.fixture(autouse=True, scope="module")
def _always_compact() -> Iterator[None]:
    """The nets here are so small that one dead unit would not be worth it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flat_module, "_WORTH", 1.0)
        yield


@pytest.fixture(autouse=True)
def _stop_signal() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    STOP.install()
    yield
    signal.signal(signal.SIGTERM, before)
    STOP.raised = False


def draw_masks(model: nn.Module, seed: int) -> Masks:
    """Half of the weights, and all of some units, so that what is left still learns."""
    random = torch.Generator().manual_seed(seed)
    parameters = dict(model.named_parameters())
    masks = {}
    for name in prunable_parameters(model):
        parameter = parameters[name]
        masks[name] = torch.rand(parameter.shape, generator=random) < (0.5 if parameter.ndim > 1 else 0.8)
        if parameter.ndim > 1 and len(parameter) > 3:
            gone = torch.rand(len(parameter), generator=random) < 0.35
            masks[name][gone] = False
        elif len(parameter) == len(gone):
            masks[name][gone] = False  # the bias of these units
    return masks


def order(replica: int, epoch: int) -> torch.Generator:
    return generator(0, "order", replica, epoch)


SearchResult = tuple[list[dict[str, Tensor]], list[list[dict[str, Any]]]]


def run(
    kind: str,
    replicas: list[int],
    settings: RecipeSettings,
    *,
    masks: str | None = "different",
    compaction: bool = True,
    alone: bool = False,
    augment: bool = False,
    policies: list[RecipePolicy] | None = None,
    resume: ResumeFile | None = None,
) -> SearchResult:
    """Best states and histories of the replicas named by their numbers."""
    models = [build(kind, replica) for replica in replicas]
    each = (
        None
        if masks is None
        else [draw_masks(m, r if masks == "different" else 0) for m, r in zip(models, replicas, strict=True)]
    )
    flat: FlatModel
    if alone:
        flat = FlatModel(models[0], compaction=compaction)
        if each:
            flat.set_masks(each[0])
    else:
        flat = FlatReplicas(models, compaction=compaction)
        if each:
            flat.set_masks(each)
    policies = policies or [RecipePolicy(settings) for _ in replicas]
    histories = train_replicas(
        flat,
        images_of(kind, 200, 1),
        images_of(kind, 350, 2),
        policies,
        batch_size=settings.batch_size,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        streams=[partial(order, replica) for replica in replicas],
        augment=augment,
        resume=resume,
    )
    return [flat.state_dict(policy.best.snapshot) for policy in policies], histories


def assert_same(state: dict[str, Tensor], history: list, other: dict[str, Tensor], other_history: list) -> None:
    assert state.keys() == other.keys()
    for name, value in state.items():
        if "running" in name:
            # Of a channel that is dead in this replica only, the statistics stand still alone, and move with others.
            moved = value != float(name.endswith("var"))
            torch.testing.assert_close(other[name][moved], value[moved], rtol=1e-8, atol=1e-10)
            continue
        torch.testing.assert_close(other[name], value, rtol=1e-8, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")
    for row, other_row in zip(history, other_history, strict=True):
        assert list(row) == HISTORY_COLUMNS
        assert row == pytest.approx(other_row, rel=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(NETS))
@pytest.mark.parametrize("settings", [PLAIN, HEAVY], ids=["plain", "momentum and decay"])
@pytest.mark.parametrize(
    ("masks", "compaction"), [(None, False), ("shared", True), ("different", False), ("different", True)]
)
def test_a_replica_is_what_it_is_alone(
    kind: str, settings: RecipeSettings, masks: str | None, compaction: bool
) -> None:
    states, histories = run(kind, [0, 1, 2], settings, masks=masks, compaction=compaction)
    assert not all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    for replica in range(3):
        (state,), (history,) = run(kind, [replica], settings, masks=masks, compaction=compaction, alone=True)
        assert_same(state, history, states[replica], histories[replica])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["linear", "batchnorm"])
def test_replicas_stop_by_themselves(kind: str) -> None:
    states, histories = run(kind, [0, 1, 2, 3], STOPPING)
    assert len({len(history) for history in histories}) >= 3
    assert any(len({row["lr"] for row in rows}) > 1 for rows in zip(*histories, strict=False))
    for replica in range(4):
        (state,), (history,) = run(kind, [replica], STOPPING, alone=True)
        assert_same(state, history, states[replica], histories[replica])


@pytest.mark.parametrize("changes", [{"optimiser": "adam", "lr": 0.003}, {"nesterov": True}], ids=["adam", "nesterov"])
def test_replicas_have_the_optimiser_of_their_recipe(changes: dict[str, Any]) -> None:
    settings = STOPPING.model_copy(update=changes)
    states, histories = run("linear", [0, 1, 2], settings)
    for replica in range(3):
        (state,), (history,) = run("linear", [replica], settings, alone=True)
        assert_same(state, history, states[replica], histories[replica])
    (plain,), _ = run("linear", [0], STOPPING, alone=True)
    assert not all(torch.equal(plain[name], states[0][name]) for name in plain)


def test_companions_do_not_matter() -> None:
    states, histories = run("batchnorm", [5, 1, 3], STOPPING)
    fewer, fewer_histories = run("batchnorm", [1, 3], STOPPING)
    for place in (0, 1):
        assert_same(fewer[place], fewer_histories[place], states[place + 1], histories[place + 1])


@pytest.mark.slow
def test_each_has_its_own_crops() -> None:
    states, histories = run("residual", [0, 1], PLAIN, augment=True)
    for replica in (0, 1):
        (state,), (history,) = run("residual", [replica], PLAIN, augment=True, alone=True)
        assert_same(state, history, states[replica], histories[replica])
    images = torch.randn(2, 5, 3, 8, 8)
    crops = torch.stack([draw_crops(5, torch.Generator().manual_seed(replica)) for replica in (0, 1)])
    both = pad_crop_flip(images, crops)
    assert all(torch.equal(both[place], pad_crop_flip(images[place], crops[place])) for place in (0, 1))


def test_removed_weights_gradients_and_momentum_are_exactly_zero() -> None:
    models = [build("convolutional", replica) for replica in range(3)]
    flat = FlatReplicas(models, compaction=True)
    split = images_of("convolutional", 60, 0)
    images, labels = split.images.view(3, 20, 1, 8, 8), split.labels.view(3, 20)
    sgd = Optimiser(flat, [Group(momentum=0.9, weight_decay=1e-2)])
    masks = [draw_masks(model, place) for place, model in enumerate(models)]
    for step in range(6):
        if step == 2:  # momentum is not zero any more
            flat.set_masks(masks)
        if step == 4:
            flat.keep([0, 2])
            sgd.keep([0, 2])
            images, labels, masks = images[[0, 2]], labels[[0, 2]], [masks[0], masks[2]]
        flat.backward(flat.loss(images, labels))
        sgd.step(flat.joined_rates([0.1, 0.2, 0.3][: len(images)]))
        flat.push()
        if step >= 2:
            for place, each in enumerate(masks):
                for name, keep in each.items():
                    for vector in (flat.values, flat.gradients, sgd.first):
                        assert not flat.view(vector[place], name)[~keep].any()


def test_a_unit_is_left_out_where_it_is_dead_in_all() -> None:
    model = build("linear", 0)
    masks = [{"1.weight": torch.ones(16, 64).bool(), "1.bias": torch.ones(16).bool()} for _ in range(2)]
    masks = [{**each, "3.weight": torch.ones(9, 16).bool()} for each in masks]
    masks[0]["3.weight"][:, [2, 4, 7]] = False
    masks[1]["3.weight"][:, [4, 7, 9]] = False
    masks[0]["1.weight"][11], masks[0]["1.bias"][11] = False, False  # dead here because it is zero,
    masks[1]["3.weight"][:, 11] = False  # and there because nothing reads it
    kept = compact(model, *masks).parameters["1.bias"][1].tolist()
    assert kept == [unit for unit in range(16) if unit not in (4, 7, 11)]


def test_when_a_replica_leaves_its_units_go() -> None:
    models = [build("linear", 0), build("linear", 1)]
    masks = [{"3.weight": torch.ones(9, 16).bool()} for _ in models]
    masks[0]["3.weight"][:, [4, 7]] = False
    flat = FlatReplicas(models, compaction=True)
    flat.set_masks(masks)
    assert flat.network.get_submodule("1").out_features == 16
    flat.keep([0])
    assert flat.network.get_submodule("1").out_features == 14


def test_running_statistics_stay_with_their_replica() -> None:
    models = [build("batchnorm", replica) for replica in range(3)]
    flat = FlatReplicas(models, compaction=True)
    flat.set_masks([draw_masks(model, 0) for model in models])
    split = images_of("batchnorm", 60, 0)
    flat.network.train()
    flat.loss(split.images.view(3, 20, 1, 8, 8), split.labels.view(3, 20))
    flat.keep([2, 1])
    kept = [net.snapshot() for net in flat.replicas]
    assert all(net["buffer:1.num_batches_tracked"] == 1 for net in kept)
    for net, replica in zip(kept, (2, 1), strict=True):
        alone = FlatModel(build("batchnorm", replica), compaction=True)
        alone.set_masks(draw_masks(models[0], 0))
        alone.network.train()
        alone.loss(split.images[20 * replica : 20 * replica + 20], split.labels[:20])
        assert alone.snapshot()["buffer:1.running_mean"].any()
        for name, value in alone.snapshot().items():
            torch.testing.assert_close(net[name], value)


# 10 steps an epoch: in the first, at an epoch's last step, and later ones, when some replicas have left.
@pytest.mark.parametrize("steps", [3, 10, 45, 95])
@pytest.mark.parametrize("kind", ["linear", "batchnorm"])
@pytest.mark.slow
def test_a_stopped_batch_resumes_to_the_same_bits(tmp_path: Path, kind: str, steps: int) -> None:
    expected, expected_histories = run(kind, [0, 1, 2, 3], STOPPING)
    lengths = [len(history) for history in expected_histories]
    longest = lengths.index(max(lengths))
    policies = [RecipePolicy(STOPPING) for _ in lengths]
    policies[longest] = Interrupting(STOPPING, steps)
    file = ResumeFile(tmp_path / "resume", fingerprint="x")
    with pytest.raises(Stopped, match="its state is in"):
        run(kind, [0, 1, 2, 3], STOPPING, policies=policies, resume=file)
    STOP.raised = False
    assert (len(file.load()["live"]) < 4) == (10 * min(lengths) < steps)
    states, histories = run(kind, [0, 1, 2, 3], STOPPING, resume=file)
    assert histories == expected_histories
    for state, other in zip(expected, states, strict=True):
        assert all(torch.equal(other[name], value) for name, value in state.items())


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["lenet300", "lenet5", "resnet32"])
def test_a_batch_on_cuda_is_the_loop_on_the_cpu(name: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA device")
    shape = (3, 32, 32) if name == "resnet32" else (1, 28, 28)
    random = torch.Generator().manual_seed(0)
    images, labels = torch.randn(120, *shape, generator=random).double(), torch.randint(0, 10, (120,), generator=random)
    found = []
    for device in ("cpu", "cuda"):
        models = [build_model(name, seed=seed).double().to(device) for seed in range(3)]
        masks = [draw_masks(build_model(name), seed) for seed in range(3)]
        split = Split(images=images.to(device), labels=labels.to(device))
        batches: list[tuple[FlatModel, list[int]]] = []
        if device == "cuda":
            flat = FlatReplicas(models, compaction=True)
            flat.set_masks(masks)
            batches = [(flat, [0, 1, 2])]
        else:
            for replica, (model, mask) in enumerate(zip(models, masks, strict=True)):
                one = FlatModel(model, compaction=True)
                one.set_masks(mask)
                batches.append((one, [replica]))
        histories = []
        for flat, replicas in batches:
            histories += train_replicas(
                flat,
                split,
                split,
                [RecipePolicy(RecipeSettings(max_epochs=2)) for _ in replicas],
                batch_size=40,
                momentum=0.9,
                streams=[partial(order, replica) for replica in replicas],
                augment=name == "resnet32",
            )
        found.append(histories)
    for history, other in zip(*found, strict=True):
        for row, other_row in zip(history, other, strict=True):
            assert row == pytest.approx(other_row, rel=1e-5)


def test_a_replica_that_diverges_is_named() -> None:
    recipe = PLAIN.model_copy(update={"lr": 1e300})
    with pytest.raises(TrainingError, match=r"the loss of replica 2 is (nan|inf)"):
        run("linear", [0, 1], PLAIN, policies=[RecipePolicy(PLAIN), RecipePolicy(recipe)])


def test_replicas_of_a_net_with_dropout_draw_each_for_itself_and_the_same_again() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3)).double()
    split, found = images_of("mlp", 80, 1), []
    for _ in range(2):
        torch.rand(1)  # the caller's generator is elsewhere
        found.append(
            train_replicas(
                FlatReplicas([net, net]),
                split,
                split,
                [RecipePolicy(RecipeSettings(max_epochs=2)) for _ in range(2)],
                batch_size=20,
                streams=[partial(order, 0)] * 2,  # one order, so that the draws alone differ
            )
        )
    assert found[0] == found[1]
    assert found[0][0] != found[0][1]
