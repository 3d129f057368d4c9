"""Attention over the positions of kernels: by hand, and on a task that one position solves."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from training.cases import build, images_of

from sharpminima.data import Split
from sharpminima.nets.compaction import compact
from sharpminima.nets.masks import apply_masks, count
from sharpminima.nets.sparse import SparseConv2d
from sharpminima.nets.storage import packed_mask
from sharpminima.pruning import METHODS, Run
from sharpminima.pruning.engine.distribution import survivors_at
from sharpminima.pruning.mask_learning.shift_attention import Attending, search


def run_of(model: nn.Module, part: Split, level: float) -> Run:
    return Run(model, part, part, part, (level,), seed=0, augment=False)


def settings(**chosen: Any) -> Any:
    return METHODS["shift_attention"].settings(**{"batch_size": 10, "epochs": 3, **chosen})


def test_attention_by_hand() -> None:
    """A = -1, 0, 1 of a kernel: std sqrt(2/3); at T = 2 the softmax of 2 A / std. A of one value is even."""
    net = nn.Sequential(nn.Conv2d(1, 2, (1, 3), bias=False), nn.Conv2d(2, 1, 1), nn.Flatten(), nn.Linear(4, 2))
    attending = Attending(run_of(net, images_of("linear", 20, 0), 0.5), settings(begin=2.0, end=2.0))
    with torch.no_grad():
        attending.of("0.weight").copy_(torch.tensor([[-1.0, 0.0, 1.0], [5.0, 5.0, 5.0]]).view(2, 1, 1, 3))
    assert attending.attended == ["0.weight"]
    exponents = torch.tensor([-2.0, 0.0, 2.0]) * 1.5**0.5
    expected = torch.stack([exponents.exp() / exponents.exp().sum(), torch.full((3,), 1 / 3)])
    torch.testing.assert_close(attending.attention("0.weight").flatten(1), expected)
    start = net[0].weight.detach() * 3**0.5
    torch.testing.assert_close(attending.weights()["0.weight"].flatten(1), start.flatten(1) * expected)
    attending.eval()
    assert attending.attention("0.weight").flatten(1).tolist() == [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]


def test_the_temperature_grows_exponentially() -> None:
    """Six steps, from 1 to 32: doubled from each to the next."""
    run = run_of(build("convolutional"), images_of("convolutional", 20, 0), 0.5)
    attending, seen = Attending(run, settings(begin=1.0, end=32.0)), []
    for _ in range(6):
        attending(run.training.images[:10])
        seen.append(attending.temperature)
    assert seen == pytest.approx([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])


@pytest.mark.parametrize("pixel", [(0, 2), (2, 1)])
def test_the_position_that_decides_the_class_stays(pixel: tuple[int, int]) -> None:
    """A kernel sees 3x3 pixels of noise, the sign of one of which is the class: it ends there, wherever it began."""
    images = torch.randn(200, 1, 3, 3, generator=torch.Generator().manual_seed(1))
    part = Split(images, (images[:, 0, pixel[0], pixel[1]] > 0).long())
    net = nn.Sequential(nn.Conv2d(1, 1, 3, bias=False), nn.Flatten(), nn.Linear(1, 2))
    expected = torch.zeros(1, 1, 3, 3, dtype=torch.bool)
    expected[:, :, pixel[0], pixel[1]] = True
    with torch.no_grad():
        net[0].weight.fill_(0.3)
        net[2].weight.copy_(torch.tensor([[-1.0], [1.0]]))
    for seed in range(2):
        run = replace(run_of(net, part, 0.5), seed=seed)
        found = search(run, 0.5, settings(epochs=10, rate=30.0, begin=0.3), None)
        assert torch.equal(found.masks["0.weight"], expected)
        assert torch.equal(found.state["0.weight"] != 0, expected)


@pytest.mark.parametrize("kind", ["convolutional", "residual"])
@pytest.mark.parametrize("level", [0.2, 0.9])
def test_a_weight_a_kernel_at_most_is_a_shift_and_a_product(kind: str, level: float) -> None:
    """At .2 kernels have one weight and linear layers their share, at .9 fewer; the compact form computes the same."""
    run = run_of(build(kind), images_of(kind, 20, 1), level)
    recipe = {"batch_size": 10, "max_epochs": 1}
    state = METHODS["shift_attention"].prune(run, settings(epochs=1, recipe=recipe)).levels[level]
    convolutions = {name: mask for name, mask in state.masks.items() if mask.ndim == 4 and mask[0, 0].numel() > 1}
    weights_of = torch.cat([mask.flatten(2).sum(2).flatten() for mask in convolutions.values()])
    assert weights_of.max() == 1
    assert bool((weights_of == 1).all()) == (level == 0.2)
    survivors, size = count(state.masks)
    assert survivors <= survivors_at(level, size)
    linear = [mask for mask in state.masks.values() if mask.ndim == 2]
    assert sum(int(mask.sum()) for mask in linear) == pytest.approx((1 - level) * sum(m.numel() for m in linear), abs=2)
    assert packed_mask(convolutions["conv2.weight" if kind == "convolutional" else "conv1.weight"]).form == "shifts"
    model = build(kind)
    model.load_state_dict(state.state)
    apply_masks(model, state.masks)
    small = compact(model, state.masks, sparse=(nn.Conv2d,)).model.eval()
    assert any(isinstance(module, SparseConv2d) for module in small.modules())
    images = run.test.images
    torch.testing.assert_close(small(images), model.eval()(images), rtol=1e-10, atol=1e-12)
