"""PSP-entropy in the engine's trainings: exact compacted, in replicas and after a stop, and nothing at beta 0."""

import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sharpminima.analysis import psp_entropy
from sharpminima.base.stop import STOP, Stopped
from sharpminima.catalogue.recipes import PspEntropySettings, RecipeSettings
from sharpminima.data import Split
from sharpminima.nets.compaction import build as building
from sharpminima.nets.masks import Masks, prunable_parameters
from sharpminima.nets.resume import ResumeFile
from sharpminima.runtime.precision import set_precision
from sharpminima.runtime.rng import generator
from sharpminima.training import FlatModel, FlatReplicas, Optimiser, RecipePolicy, train, train_replicas
from sharpminima.training import flat as flat_module

from .cases import NETS, Interrupting, build, images_of

RECIPE = RecipeSettings(lr=0.1, batch_size=20, max_epochs=4)
STOPPING = RecipeSettings(lr=0.1, batch_size=20, max_epochs=14, momentum=0.5, patience=1, stop_after=2)
FIRST = PspEntropySettings(beta=0.3, tau=0.5)
SECOND = PspEntropySettings(beta=-0.3, tau=0.5, order=2, pairs=50)
FALLING = PspEntropySettings(beta=0.2, tau=1.0, tau_end=0.1, anneal_epochs=3)


@pytest.fixture(autouse=True)
def _stop_signal() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    STOP.install()
    yield
    signal.signal(signal.SIGTERM, before)
    STOP.raised = False


@pytest.fixture(params=["dense layers", "sparse layers"])
def always_compact(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The nets here are so small that one dead unit would not be worth it, nor a layer of its survivors alone."""
    monkeypatch.setattr(flat_module, "_WORTH", 1.0)
    monkeypatch.setattr(building, "is_worth", lambda mask: request.param == "sparse layers")


def masks_of(model: nn.Module, seed: int) -> Masks:
    """Half of the weights; of some units all that feeds them, and of others all that reads them."""
    random = torch.Generator().manual_seed(seed)
    masks = {n: torch.rand(p.shape, generator=random) < 0.5 for n, p in model.named_parameters()}
    for name in prunable_parameters(model):
        if masks[name].ndim > 1:
            masks[name][:2] = False
            if masks[name].shape[1] > 4:
                masks[name][:, -2:] = False
            if name.replace("weight", "bias") in masks:
                masks[name.replace("weight", "bias")][:2] = False
    return {name: masks[name] for name in prunable_parameters(model)}


def trained(
    kind: str,
    entropy: PspEntropySettings | None,
    *,
    masked: bool = True,
    compaction: bool = False,
    policy: RecipePolicy | None = None,
    resume: ResumeFile | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> FlatModel:
    flat = FlatModel(build(kind, seed).to(dtype), compaction=compaction)
    if masked:
        flat.set_masks(masks_of(flat.model, seed))
    policy = policy or RecipePolicy(RECIPE)
    train(
        flat,
        of_type(images_of(kind, 110, 1), dtype),
        of_type(images_of(kind, 50, 2), dtype),
        policy,
        batch_size=RECIPE.batch_size,
        stream=lambda epoch: generator(0, "order", seed, epoch),
        psp_entropy=entropy,
        resume=resume,
    )
    return flat


def of_type(split: Split, dtype: torch.dtype) -> Split:
    return Split(split.images.to(dtype), split.labels)


def test_a_beta_of_0_is_the_plain_training_to_the_bit() -> None:
    plain = trained("convolutional", None, compaction=True)
    assert torch.equal(trained("convolutional", PspEntropySettings(beta=0.0), compaction=True).values, plain.values)
    assert not torch.equal(trained("convolutional", FIRST, compaction=True).values, plain.values)


PRECISIONS = {"float64": (torch.float64, 1e-7, 1e-10), "float32": (torch.float32, 1e-4, 1e-6)}


@pytest.mark.slow
@pytest.mark.usefixtures("always_compact")
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("settings", [FIRST, SECOND], ids=["first order", "second order"])
@pytest.mark.parametrize("kind", NETS)
def test_the_compacted_net_has_the_value_and_the_gradient_of_the_masked_one(
    kind: str, settings: PspEntropySettings, precision: str
) -> None:
    dtype, rtol, atol = PRECISIONS[precision]
    split, found = of_type(images_of(kind, 20, 3), dtype), []
    for compaction in (False, True):
        flat = FlatModel(build(kind).to(dtype), compaction=compaction)
        flat.set_masks(masks_of(flat.model, 0))
        assert (flat.network is not flat.model) == compaction
        flat.regularise(settings, split.images, 3)
        steps = []
        for few in (20, 7):  # the second with the running estimate of the first
            loss, objective = flat.objective(split.images[:few], split.labels[:few])
            flat.backward(objective)
            steps.append((loss.item(), objective.item(), flat.gradients.clone()))
        found.append(steps)
    for (loss, objective, gradients), (small_loss, small_objective, small_gradients) in zip(*found, strict=True):
        assert abs(objective - loss) > 1e-3
        assert (small_loss, small_objective) == pytest.approx((loss, objective), rel=rtol / 100)
        torch.testing.assert_close(small_gradients, gradients, rtol=rtol, atol=atol)


@pytest.mark.usefixtures("in_bfloat16", "always_compact")
@pytest.mark.parametrize("kind", ["linear", "convolutional"])
def test_in_bfloat16_value_and_gradient_are_those_of_float32_about_and_compacted_too(kind: str) -> None:
    split, found = of_type(images_of(kind, 60, 3), torch.float32), []
    for precision, compaction in (("float32", False), ("bfloat16", False), ("bfloat16", True)):
        set_precision(precision, torch.device("cpu"))
        flat = FlatModel(build(kind).float(), compaction=compaction)
        flat.set_masks(masks_of(flat.model, 0))
        flat.regularise(FIRST, split.images, 3)
        loss, objective = flat.objective(split.images, split.labels)
        flat.backward(objective)
        found.append(((loss - objective).item(), flat.gradients.clone()))
    (value, gradients), *others = found
    for other_value, other_gradients in others:
        assert other_value == pytest.approx(value, rel=1e-2)
        assert (other_gradients - gradients).norm() < 2e-2 * gradients.norm()


@pytest.mark.usefixtures("in_bfloat16")
@pytest.mark.parametrize("settings", [FALLING, SECOND], ids=["first order", "second order"])
def test_a_stopped_training_in_bfloat16_goes_on_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: PspEntropySettings
) -> None:
    monkeypatch.setattr(flat_module, "_WORTH", 1.0)
    train_it = partial(trained, "convolutional", settings, compaction=True, dtype=torch.float32)
    expected, file = train_it(), ResumeFile(tmp_path / "resume", fingerprint="x")
    with pytest.raises(Stopped):
        train_it(policy=Interrupting(RECIPE, 9), resume=file)
    STOP.raised = False
    assert torch.equal(train_it(resume=file).values, expected.values)


@pytest.mark.usefixtures("always_compact")
def test_the_compacted_net_is_smaller_at_the_first_order() -> None:
    flat = FlatModel(build("convolutional"), compaction=True)
    flat.set_masks(masks_of(flat.model, 0))
    flat.regularise(FIRST, images_of("convolutional", 1, 3).images, 3)
    whole, small = (sum(p.numel() for p in net.parameters()) for net in (flat.model, flat.network))
    assert small < whole


@pytest.mark.parametrize("kind", ["linear", "convolutional"])
def test_at_a_small_tau_the_masked_net_has_the_measured_entropy(kind: str) -> None:
    split = images_of(kind, 60, 3)
    for order in (1, 2):
        settings = PspEntropySettings(beta=1.0, tau=1e-9, order=order, pairs=10**6, rare=0)
        flat = FlatModel(build(kind))
        flat.set_masks(masks_of(flat.model, 0))
        flat.regularise(settings, split.images, 3)
        loss, objective = flat.objective(split.images, split.labels)
        measured = psp_entropy(flat.model, split.images, split.labels, order=order)
        assert loss.item() == pytest.approx(F.cross_entropy(flat.model(split.images), split.labels).item())
        assert (loss - objective).item() == pytest.approx(measured.mean, rel=1e-9)


@pytest.mark.usefixtures("always_compact")
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", ["linear", "convolutional"])
def test_a_training_is_the_same_compacted(kind: str, precision: str) -> None:
    dtype, rtol, atol = PRECISIONS[precision]
    whole, small = (trained(kind, FALLING, compaction=compaction, dtype=dtype) for compaction in (False, True))
    torch.testing.assert_close(small.values, whole.values, rtol=rtol, atol=10 * atol)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("settings", [FALLING, SECOND], ids=["first order", "second order"])
@pytest.mark.parametrize("steps", [3, 6, 14])
def test_a_stopped_training_goes_on_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int, settings: PspEntropySettings, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(flat_module, "_WORTH", 1.0)
    train_it = partial(trained, "convolutional", settings, compaction=True, dtype=dtype)
    expected = train_it()
    file = ResumeFile(tmp_path / "resume", fingerprint="x")
    with pytest.raises(Stopped):
        train_it(policy=Interrupting(RECIPE, steps), resume=file)
    STOP.raised = False
    resumed = train_it(policy=Interrupting(RECIPE, None), resume=file)
    assert torch.equal(resumed.values, expected.values)


def states_of(kind: str, settings: PspEntropySettings, seeds: list[int], **how: Any) -> list[dict[str, Tensor]]:
    """The best states of replicas as one model; they end at different epochs."""
    models = [build(kind, seed) for seed in seeds]
    flat = FlatReplicas(models, compaction=True)
    flat.set_masks([masks_of(model, seed) for model, seed in zip(models, seeds, strict=True)])
    return _best(kind, settings, flat, seeds, **how)


def _best(
    kind: str, settings: PspEntropySettings, flat: FlatModel, seeds: list[int], **how: Any
) -> list[dict[str, Tensor]]:
    policies = how.pop("policies", None) or [RecipePolicy(STOPPING) for _ in seeds]
    parts = (images_of(kind, 110, 1), images_of(kind, 50, 2))
    streams = [partial(generator, 0, "order", seed) for seed in seeds]
    options = {"batch_size": STOPPING.batch_size, "momentum": STOPPING.momentum, "psp_entropy": settings}
    train_replicas(flat, *parts, policies, streams=streams, **options, **how)
    return [flat.state_dict(policy.best.snapshot) for policy in policies]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["linear", "batchnorm"])
def test_replicas_are_what_they_are_alone(kind: str) -> None:
    seeds = [0, 1, 2]
    together = states_of(kind, FALLING, seeds)
    for seed, state in zip(seeds, together, strict=True):
        alone = FlatModel(build(kind, seed))
        alone.set_masks(masks_of(alone.model, seed))
        (expected,) = _best(kind, FALLING, alone, [seed])
        for name, tensor in expected.items():
            torch.testing.assert_close(state[name], tensor, rtol=1e-6, atol=1e-8, msg=name)


def test_stopped_replicas_go_on_to_the_same_bits(tmp_path: Path) -> None:
    expected = states_of("linear", FALLING, [0, 1, 2])
    file = ResumeFile(tmp_path / "resume", fingerprint="x")
    with pytest.raises(Stopped):
        states_of("linear", FALLING, [0, 1, 2], resume=file, policies=[Interrupting(STOPPING, 10), *_quiet(2)])
    STOP.raised = False
    for state, wanted in zip(states_of("linear", FALLING, [0, 1, 2], resume=file), expected, strict=True):
        assert all(torch.equal(state[name], tensor) for name, tensor in wanted.items())


def _quiet(count: int) -> list[RecipePolicy]:
    return [RecipePolicy(STOPPING) for _ in range(count)]


def test_the_measured_entropy_goes_where_beta_says() -> None:
    split = images_of("convolutional", 110, 1)
    found = []
    for beta in (-1.0, 0.0, 1.0):
        flat = trained("convolutional", PspEntropySettings(beta=beta, tau=0.3), masked=False)
        found.append(psp_entropy(flat.model, split.images, split.labels).mean)
    assert found[0] < found[1] < found[2]


def test_the_gradient_that_policies_see_has_it_and_the_removed_ones_of_dense_gradients_too() -> None:
    split, unmasked = images_of("linear", 20, 3), []
    for settings in (None, FIRST):
        flat = FlatModel(build("linear"), dense_gradients=True)
        flat.set_masks(masks_of(flat.model, 0))
        if settings is not None:
            flat.regularise(settings, split.images, 3)
        flat.backward(flat.objective(split.images, split.labels)[1])
        Optimiser(flat).step(0.1)
        assert not flat.values[flat.mask == 0].any()
        unmasked.append(flat.unmasked.clone())
    assert (unmasked[0] != unmasked[1])[flat.mask == 0].any()
