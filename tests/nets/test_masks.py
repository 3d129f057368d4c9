"""Masks: what may be pruned, counting, random structures, bit packing."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sharpminima.base.errors import AnalysisError
from sharpminima.nets.masks import (
    apply_masks,
    completed,
    count,
    pack_bits,
    prunable_parameters,
    random_masks,
    sparsity,
    unpack_bits,
)
from sharpminima.nets.models import build_model


def some_masks() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = {"a": (7, 11), "b": (13,), "c": (3, 2, 5, 5)}
    return {name: torch.rand(shape, generator=generator) < 0.3 for name, shape in shapes.items()}


def test_prunable_parameters_are_weights_and_biases_of_linear_and_conv() -> None:
    assert prunable_parameters(build_model("lenet5")) == [
        f"{layer}.{kind}" for layer in ("conv1", "conv2", "fc1", "fc2") for kind in ("weight", "bias")
    ]
    resnet = build_model("resnet32")
    names = prunable_parameters(resnet)
    assert not [name for name in names if "bn" in name]
    with_batchnorm = prunable_parameters(resnet, include_batchnorm=True)
    assert with_batchnorm == [name for name, _ in resnet.named_parameters()]


def test_weights_without_a_mask_are_counted_as_survivors() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 1))
    some = {"2.bias": torch.zeros(1, dtype=torch.bool), "2.weight": torch.tensor([[True, False, False]])}
    whole = completed(some, net)
    assert list(whole) == ["2.bias", "2.weight", "0.weight"]
    assert whole["2.weight"] is some["2.weight"]
    assert count(whole) == (7, 10)
    assert list(some) == ["2.bias", "2.weight"]
    assert completed(whole, net) == whole


def test_count_and_sparsity() -> None:
    masks = {"a": torch.tensor([True, False, False]), "b": torch.tensor([[True, False]])}
    assert count(masks) == (2, 5)
    assert sparsity(masks) == pytest.approx(0.6)


def test_apply_masks_sets_exact_zeros() -> None:
    model = build_model("lenet300")
    masks = {"1.weight": torch.zeros(300, 784, dtype=torch.bool)}
    masks["1.weight"][3, 5] = True
    kept = model[1].weight[3, 5].item()
    apply_masks(model, masks)
    assert model[1].weight.count_nonzero() == 1
    assert model[1].weight[3, 5].item() == kept
    assert model[3].weight.count_nonzero() == 30_000


@pytest.mark.parametrize("layerwise", [False, True])
def test_random_masks_match_the_count(layerwise: bool) -> None:
    masks = some_masks()
    drawn = random_masks(masks, layerwise=layerwise, generator=torch.Generator().manual_seed(3))
    assert count(drawn) == count(masks)
    assert {name: m.shape for name, m in drawn.items()} == {name: m.shape for name, m in masks.items()}
    same_counts = all(int(drawn[name].sum()) == int(masks[name].sum()) for name in masks)
    assert same_counts == layerwise
    again = random_masks(masks, layerwise=layerwise, generator=torch.Generator().manual_seed(3))
    assert all(torch.equal(drawn[name], again[name]) for name in masks)


def test_global_random_masks_spread_over_tensors_by_their_size() -> None:
    masks = {"large": torch.zeros(90_000, dtype=torch.bool), "small": torch.ones(10_000, dtype=torch.bool)}
    drawn = random_masks(masks, layerwise=False, generator=torch.Generator().manual_seed(0))
    # Hypergeometric: 1,000 expected in the small tensor, standard deviation 28.
    assert abs(int(drawn["small"].sum()) - 1_000) < 150


@settings(max_examples=50)
@given(st.lists(st.booleans(), min_size=1, max_size=70))
def test_bits_round_trip(bits: list[bool]) -> None:
    mask = torch.tensor(bits)
    packed = pack_bits(mask)
    assert packed.dtype == torch.uint8
    assert len(packed) == -(-len(bits) // 8)
    assert torch.equal(unpack_bits(packed, len(bits)), mask)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32])
def test_masks_of_any_dtype_are_applied_and_packed(dtype: torch.dtype) -> None:
    layer = torch.nn.Linear(3, 1).half()
    torch.nn.init.ones_(layer.weight)
    mask = torch.tensor([[1.0, -0.0, 1.0]]).to(dtype)
    apply_masks(layer, {"weight": mask})
    assert layer.weight.tolist() == [[1, 0, 1]]
    assert unpack_bits(pack_bits(mask), 3).tolist() == [True, False, True]


def test_masks_that_do_not_fit_are_refused() -> None:
    layer = torch.nn.Linear(3, 1)
    for masks, message in (
        ({"wieght": torch.ones(1, 3)}, "masks for wieght, which the model does not have"),
        ({"weight": torch.ones(3)}, r"the mask of weight has shape \[3\], the parameter \[1, 3\]; give it the latter"),
        ({"weight": [[1, 1, 1]]}, "the mask of weight is a list; give a tensor"),
        (
            {"bias": torch.tensor([float("nan")])},
            "the mask of bias holds other values than 0 and 1; give 0 where",
        ),
    ):
        with pytest.raises(AnalysisError, match=message):
            apply_masks(layer, masks)
