"""Units leave with all that belongs to them, and the net is really smaller."""

import pytest
import torch
from torch import nn
from training.cases import NETS, build, images_of

from sharpminima.base.errors import ConfigError
from sharpminima.models import build_model
from sharpminima.nets.compaction import compact
from sharpminima.nets.counts import count_net
from sharpminima.nets.masks import apply_masks, count
from sharpminima.pruning.engine.distribution import survivors_at
from sharpminima.pruning.engine.units import UnitCosts, keep_best_units, unit_masks, units_of


def test_what_a_unit_takes_along() -> None:
    model = build("batchnorm")  # 6 filters - BatchNorm - ReLU - 4 filters - ReLU - flatten - 3
    groups = units_of(model)
    assert [(g.name, g.count, list(g.makers), list(g.norms), list(g.readers)) for g in groups] == [
        ("0", 6, ["0"], ["1"], ["3"]),
        ("3", 4, ["3"], [], ["6"]),
    ]
    assert groups[1].readers["6"].tolist() == torch.arange(64).view(4, 16).tolist()
    keep = {"0": torch.tensor([1, 1, 0, 1, 1, 1]).bool(), "3": torch.tensor([0, 1, 1, 1]).bool()}
    masks = unit_masks(model, groups, keep)
    assert set(masks) == {"0.weight", "1.weight", "1.bias", "3.weight", "3.bias", "6.weight"}
    assert not masks["0.weight"][2].any()
    assert masks["1.weight"].tolist() == masks["1.bias"].tolist() == keep["0"].tolist()
    assert not masks["3.weight"][:, 2].any()
    assert not masks["3.weight"][0].any()
    assert not masks["6.weight"][:, :16].any()
    assert count(masks)[0] == 5 * 9 + 5 + 5 + 3 * 5 * 9 + 3 + 3 * 48


@pytest.mark.parametrize("kind", NETS)
def test_the_smaller_net_computes_the_same(kind: str) -> None:
    model = build(kind).eval()
    scores = {g.name: torch.rand(g.count, generator=torch.Generator().manual_seed(1)) for g in units_of(model)}
    masks = keep_best_units(model, scores, 0.6, "global", 0.1)
    apply_masks(model, masks)
    compacted = compact(model, {name: mask for name, mask in masks.items() if name in dict(model.named_parameters())})
    left = {g.name: int(masks[f"{g.name}.weight"].flatten(1).any(1).sum()) for g in units_of(model)}
    for name, module in compacted.model.named_modules():
        if name in left and isinstance(module, nn.Linear):
            assert module.weight.shape[0] == left[name]
    assert compacted.parameter_count < sum(p.numel() for p in model.parameters())
    images = images_of(kind, 8, 0).images
    torch.testing.assert_close(compacted.model.eval()(images), model(images))


@pytest.mark.parametrize("kind", NETS)
def test_costs_are_those_of_the_masks(kind: str) -> None:
    """Survivors of random numbers of units, and multiply-adds where no tap falls on padding."""
    model, images = build(kind), images_of(kind, 1, 0).images
    groups, draws = units_of(model), torch.Generator().manual_seed(0)
    costs = UnitCosts(model, groups, images)
    for _ in range(5):
        kept = {g.name: int(torch.randint(1, g.count + 1, (), generator=draws)) for g in groups}
        masks = unit_masks(model, groups, {g.name: torch.arange(g.count) < kept[g.name] for g in groups})
        assert costs.weights(kept) == count(masks)[0]
        assert sum(costs.layers(kept).values()) == count({n: m for n, m in masks.items() if m.ndim > 1})[0]
        if kind in ("linear", "batchnorm"):
            counted = count_net(model, images.shape[1:], masks)
            assert 2 * costs.multiplications(kept) == counted.flops_nonzero
    assert model.training


def test_a_layer_over_the_width_costs_at_every_row() -> None:
    """A linear layer on 5 maps of 8x8 multiplies 40 times."""
    rows = nn.Sequential(nn.Linear(8, 2), nn.Flatten(), nn.Linear(80, 3))
    model = nn.Sequential(nn.Conv2d(1, 6, 1), nn.ReLU(), nn.Conv2d(6, 5, 1), nn.ReLU(), rows)
    groups = units_of(model)
    assert [group.name for group in groups] == ["0"]
    costs = UnitCosts(model, groups, torch.zeros(1, 1, 8, 8))
    counted = count_net(model, (1, 8, 8), unit_masks(model, groups, {"0": torch.arange(6) < 4}))
    assert 2 * costs.multiplications({"0": 4}) == counted.flops_nonzero == 2 * (64 * (4 + 20) + 40 * 16 + 240)


def test_the_fewest_units_that_bring_the_level() -> None:
    """64-16-9-3: without any, 1024 + 16 + 144 + 9 + 27 = 1220. The first five units leave 85 each."""
    model = build("linear")
    scores = {"1": torch.arange(16.0), "3": 100 + torch.arange(9.0)}
    _, size = count(keep_best_units(model, scores, 1e-9, "global", 0.1))
    assert size == 1220
    unit = 64 + 1 + 9
    for level, leaving in [(0.05, 1), (unit / size, 1), (unit / size + 0.001, 2), (0.5, 9)]:
        masks = keep_best_units(model, scores, level, "global", 0.1)
        assert masks["1.bias"].tolist() == [n >= leaving for n in range(16)]
        assert masks["3.bias"].all()


def test_no_layer_loses_its_last_unit_and_layers_may_share_evenly() -> None:
    model = build("linear")
    scores = {"1": torch.arange(16.0), "3": 100 + torch.arange(9.0)}
    least = keep_best_units(model, scores, 0.999, "global", 0.1)
    assert least["1.bias"].nonzero().tolist() == [[15]]
    assert least["3.bias"].nonzero().tolist() == [[8]]
    even = keep_best_units(model, scores, 0.55, "layerwise", 0.1)
    assert int(even["1.bias"].sum()) / 16 == pytest.approx(int(even["3.bias"].sum()) / 9, abs=0.1)


def test_no_layer_falls_under_the_floor_unless_the_level_asks_for_it() -> None:
    """64-16-9-3, and the second layer's scores under all others: without a floor it would be down to one at once."""
    model = build("linear")
    scores = {"1": 100 + torch.arange(16.0), "3": torch.arange(9.0)}

    def left(level: float, floor: float, distribution: str = "global") -> tuple[int, int]:
        masks = keep_best_units(model, scores, level, distribution, floor)
        return int(masks["1.bias"].sum()), int(masks["3.bias"].sum())

    _, size = count(keep_best_units(model, scores, 1e-9, "global", 0.0))
    assert left(0.5, 0.0) == (9, 1)
    assert left(0.5, 0.3) == (8, 3)  # 2.7 of 9 units: three
    at_floor = 1 - (5 * 65 + 5 * 3 + 3 + 3 * 3) / size  # 4.8 of 16: five
    assert left(at_floor, 0.3) == (5, 3)
    # From there on it is as low as the level needs: (4, 3) at a quarter, (3, 2) at three sixteenths.
    assert [left(at_floor + more, 0.3) for more in (0.005, 0.06)] == [(4, 3), (4, 2)]
    assert left(0.999, 0.3) == (1, 1)
    assert left(0.5, 0.3, "layerwise") == left(0.5, 0.0, "layerwise")


def test_scores_choose_above_the_floor_that_a_level_allows() -> None:
    """LeNet-300 at 98 % has no room for a tenth of its units: 6 and 2 stay whatever their scores, not as many alone."""
    model = build_model("lenet300", seed=0)
    draws = torch.Generator().manual_seed(0)
    scores = {group.name: torch.rand(group.count, generator=draws) for group in units_of(model)}
    first, second = scores
    left = {}
    for higher in scores:
        moved = {**scores, higher: scores[higher] + 1}
        masks = keep_best_units(model, moved, 0.98, "global", 0.1)
        survivors, size = count(masks)
        assert survivors <= survivors_at(0.98, size)
        left[higher] = tuple(int(masks[f"{name}.bias"].sum()) for name in scores)
        for score, name, number in zip(moved.values(), scores, left[higher], strict=True):
            assert masks[f"{name}.bias"].nonzero().flatten().tolist() == sorted(score.topk(number).indices.tolist())
    assert left == {first: (6, 2), second: (6, 36)}


def test_a_net_without_units_is_refused() -> None:
    for net in (
        nn.Sequential(nn.Flatten(), nn.Linear(4, 2)),
        nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Flatten(), nn.Linear(48, 3)),  # units of each row of an image
    ):
        with pytest.raises(ConfigError, match="no filters or hidden units"):
            units_of(net)
