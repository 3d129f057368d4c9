"""Units leave with all that belongs to them, and the net is really smaller."""

import pytest
import torch
from torch import nn
from training.cases import NETS, build, images_of

from sharpminima.base.errors import ConfigError
from sharpminima.nets.compaction import compact
from sharpminima.nets.masks import apply_masks, count
from sharpminima.pruning.engine.units import keep_best_units, unit_masks, units_of


def test_what_a_unit_takes_along() -> None:
    model = build("batchnorm")  # 6 filters - BatchNorm - ReLU - 4 filters - ReLU - flatten - 3
    groups = units_of(model)
    assert [(g.layer, g.count, g.norms, g.consumer, g.positions) for g in groups] == [
        ("0", 6, ("1",), "3", 1),
        ("3", 4, (), "6", 16),
    ]
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
    scores = {g.layer: torch.rand(g.count, generator=torch.Generator().manual_seed(1)) for g in units_of(model)}
    masks = keep_best_units(model, scores, 0.6, "global")
    apply_masks(model, masks)
    compacted = compact(model, {name: mask for name, mask in masks.items() if name in dict(model.named_parameters())})
    left = {g.layer: int(masks[f"{g.layer}.weight"].flatten(1).any(1).sum()) for g in units_of(model)}
    for name, module in compacted.model.named_modules():
        if name in left and isinstance(module, nn.Linear):
            assert module.weight.shape[0] == left[name]
    assert compacted.parameter_count < sum(p.numel() for p in model.parameters())
    images = images_of(kind, 8, 0).images
    torch.testing.assert_close(compacted.model.eval()(images), model(images))


def test_the_fewest_units_that_bring_the_level() -> None:
    """64-16-9-3: without any, 1024 + 16 + 144 + 9 + 27 = 1220. The first five units leave 85 each."""
    model = build("linear")
    scores = {"1": torch.arange(16.0), "3": 100 + torch.arange(9.0)}
    _, size = count(keep_best_units(model, scores, 1e-9, "global"))
    assert size == 1220
    unit = 64 + 1 + 9
    for level, leaving in [(0.05, 1), (unit / size, 1), (unit / size + 0.001, 2), (0.5, 9)]:
        masks = keep_best_units(model, scores, level, "global")
        assert masks["1.bias"].tolist() == [n >= leaving for n in range(16)]
        assert masks["3.bias"].all()


def test_no_layer_loses_its_last_unit_and_layers_may_share_evenly() -> None:
    model = build("linear")
    scores = {"1": torch.arange(16.0), "3": 100 + torch.arange(9.0)}
    least = keep_best_units(model, scores, 0.999, "global")
    assert least["1.bias"].nonzero().tolist() == [[15]]
    assert least["3.bias"].nonzero().tolist() == [[8]]
    even = keep_best_units(model, scores, 0.55, "layerwise")
    assert int(even["1.bias"].sum()) / 16 == pytest.approx(int(even["3.bias"].sum()) / 9, abs=0.1)


def test_a_net_without_units_is_refused() -> None:
    with pytest.raises(ConfigError, match="no filters or hidden units"):
        units_of(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))
