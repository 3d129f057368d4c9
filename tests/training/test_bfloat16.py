"""Training in bfloat16: what stays float32, and what must not depend on it."""

import copy

import pytest
import torch

from sharpminima.nets.masks import Masks
from sharpminima.nets.models import build_model
from sharpminima.pruning.gradual.lobster import largest_threshold
from sharpminima.runtime.precision import set_precision
from sharpminima.testing.task import small_split
from sharpminima.training import FlatModel, FlatReplicas, Group, Optimiser

from .cases import NETS, images_of

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("in_bfloat16")


def net(kind: str, seed: int = 0) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return NETS[kind]().float()


def batch(kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    found = images_of(kind, 64, seed=1)
    return found.images.float(), found.labels


def masks_of(model: torch.nn.Module, survivors: float) -> Masks:
    random = torch.Generator().manual_seed(3)
    weights = {name: p for name, p in model.named_parameters() if p.ndim > 1}
    return {name: torch.rand(p.shape, generator=random) < survivors for name, p in weights.items()}


def gradients(kind: str, *, compaction: bool, masks: Masks | None = None) -> FlatModel:
    flat = FlatModel(net(kind), compaction=compaction)
    if masks is not None:
        flat.set_masks(masks)
    images, labels = batch(kind)
    loss = flat.loss(images, labels)
    assert loss.dtype == torch.float32
    flat.backward(loss)
    return flat


def angle(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float(torch.cosine_similarity(found.flatten(), expected.flatten(), dim=0))


@pytest.mark.parametrize("kind", list(NETS))
def test_gradients_are_float32_and_close_to_those_of_float32(kind: str) -> None:
    found = gradients(kind, compaction=True)
    assert (found.values.dtype, found.gradients.dtype) == (torch.float32, torch.float32)
    assert all(b.dtype in (torch.float32, torch.int64) for b in found.buffers.values())
    set_precision("float32", CPU)
    expected = gradients(kind, compaction=True)
    assert not torch.equal(found.gradients, expected.gradients)
    assert angle(found.gradients, expected.gradients) > 0.99


@pytest.mark.slow
@pytest.mark.parametrize("survivors", [0.5, 0.1])
@pytest.mark.parametrize("kind", list(NETS))
def test_compaction_changes_no_more_than_rounding(kind: str, survivors: float) -> None:
    masks = masks_of(net(kind), survivors)
    whole, small = (gradients(kind, compaction=each, masks=masks) for each in (False, True))
    assert angle(small.gradients, whole.gradients) > 0.99
    assert not small.gradients[small.mask == 0].any()
    for name, buffer in small.buffers.items():
        torch.testing.assert_close(buffer, whole.buffers[name], rtol=0.05, atol=0.01)


def test_momentum_and_steps_smaller_than_bfloat16_resolves_are_kept() -> None:
    flat = gradients("batchnorm", compaction=False)
    sgd, before = Optimiser(flat, [Group(momentum=0.9)]), flat.values.clone()
    assert sgd.first is not None
    assert sgd.first.dtype == torch.float32
    sgd.step(1e-6)
    moved, seen = flat.values != before, flat.values.bfloat16() != before.bfloat16()
    assert int(moved.sum()) > 20 * int(seen.sum())


def test_the_threshold_of_lobster_is_that_of_float32() -> None:
    """Decisions are made on the weights and losses that are reported: those of float32."""
    validation = small_split(2, 80)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 3)
    )
    found = []
    for precision in ("bfloat16", "float32"):
        set_precision(precision, CPU)
        flat = FlatModel(copy.deepcopy(model), compaction=True)
        prunable = flat.indicator(["0.weight", "4.weight"])
        found.append(largest_threshold(flat, prunable, validation, twt=0.3))
    assert found[0] == found[1]
    assert found[0][0] > 0


def test_replicas_are_trained_in_it_too() -> None:
    models = [build_model("lenet5-bn", seed=seed) for seed in range(2)]
    images = torch.randn(2, 8, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(16).view(2, 8) % 10
    together = FlatReplicas(models)
    losses = together.loss(images, labels)
    together.backward(losses)
    assert losses.dtype == torch.float32
    for place, model in enumerate(models):
        alone = FlatModel(copy.deepcopy(model))
        alone.backward(alone.loss(images[place], labels[place]))
        assert angle(together.gradients[place], alone.gradients) > 0.99
