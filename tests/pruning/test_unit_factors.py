"""Factors on units where they are read: noise that is folded into weights, units that leave."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from training.cases import NETS, build, images_of

from sharpminima.nets.compaction import Units
from sharpminima.nets.masks import apply_masks
from sharpminima.pruning.engine.unit_factors import NoisyUnits, pooled, scaled
from sharpminima.testing.task import small_run


class Given(NoisyUnits):
    """Factors of .5 to 1.5 by unit, with noise of a given spread; the first unit of each group is to leave."""

    def __init__(self, model: nn.Module, spread: float, *, stay: bool = False) -> None:
        super().__init__(replace(small_run(), model=model), "given", pixels=True)
        self.spread, self.stay = spread, stay

    def drawn(self, group: Units, images: int, draws: torch.Generator) -> Tensor:
        return self.mean(group) + self.spread * torch.randn(images, group.count, generator=draws)

    def mean(self, group: Units) -> Tensor:
        return torch.linspace(0.5, 1.5, group.count, dtype=torch.float64)

    def margin(self, group: Units) -> Tensor:
        return torch.arange(group.count) + 1.0 * self.stay


@pytest.mark.parametrize("kind", NETS)
def test_without_spread_factors_are_those_of_the_weights_in_eval_mode(kind: str) -> None:
    """The net with factors on its activations, BatchNorm's statistics fixed, against weights times the means."""
    net, images = Given(build(kind), 0.0, stay=True), images_of(kind, 5, 0).images
    net.train()
    net.model.eval()
    by_activation = net(images)
    plain = build(kind).eval()
    assert not torch.allclose(by_activation, plain(images))
    torch.testing.assert_close(net.eval()(images), by_activation)
    plain.load_state_dict(net.folded())
    torch.testing.assert_close(plain(images), by_activation)


@pytest.mark.parametrize("kind", NETS)
def test_units_that_leave_are_nothing_in_eval_mode_and_in_the_masks(kind: str) -> None:
    net, images = Given(build(kind), 0.0), images_of(kind, 5, 0).images
    outputs = net.eval()(images)
    without = build(kind).eval()
    without.load_state_dict(net.folded())
    masks = net.masks()
    apply_masks(without, masks)
    torch.testing.assert_close(without(images), outputs)
    assert [group.name for group in net.groups if group.name == "pixels"] == ["pixels"] * (kind == "linear")
    for group in net.groups:
        for reader, inputs in group.readers.items():
            assert not masks[f"{reader}.weight"][:, inputs[0]].any()
            assert masks[f"{reader}.weight"][:, inputs[-1]].any()


def test_all_readers_of_a_unit_see_one_draw_and_each_image_has_its_own() -> None:
    net = Given(build("residual"), 0.3)
    (group, *_) = [group for group in net.groups if len(group.readers) > 1]
    one, other, *_ = group.readers
    images = images_of("residual", 4, 0).images
    net.train()(images)
    first = net.factors(group, one, images)
    assert torch.equal(first, net.factors(group, other, images))
    assert not torch.equal(first[0], first[1])
    net(images)
    assert not torch.equal(first, net.factors(group, one, images))
    assert net.eval().factors(group, one, images) is None


def test_the_last_unit_of_a_group_stays() -> None:
    net = Given(build("linear"), 0.0)
    net.margin = lambda group: -1.0 - torch.arange(group.count)  # type: ignore[method-assign]
    assert all(keep.tolist() == [True] + [False] * (len(keep) - 1) for keep in net.keep().values())


def test_what_is_scaled_is_pooled_as_much() -> None:
    maps = torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    inputs, factors = torch.tensor([[1], [3]]), torch.tensor([[2.0, 3.0]])
    torch.testing.assert_close(pooled(scaled(maps, inputs, factors), inputs), pooled(maps, inputs) * factors)
    torch.testing.assert_close(pooled(maps, inputs), maps.mean((2, 3))[:, [1, 3]])
    assert torch.equal(scaled(maps, inputs, factors)[:, [0, 2]], maps[:, [0, 2]])
