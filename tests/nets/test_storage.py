"""Masks in the form that is the shortest, there and back; nets by the byte; and what computes them."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from training.cases import build, images_of

from sharpminima.nets.compaction import compact
from sharpminima.nets.masks import apply_masks
from sharpminima.nets.sparse import SparseConv2d
from sharpminima.nets.storage import FORMS, packed_mask, stored_bytes, unpacked_mask
from sharpminima.pruning.engine.structures import kernels_of, positions_of

SHAPES = [(8, 6, 3, 3), (3, 5, 1, 4), (12, 20), (33,)]


def draws(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def structured(form: str, shape: tuple[int, ...], density: float, seed: int) -> Tensor:
    """A random mask of a form."""
    weight = torch.zeros(shape)
    if form == "kernels":
        places = kernels_of(weight).places
    elif form == "positions":
        places = positions_of(weight, 99).places
    elif form == "shifts":
        keys = torch.rand(shape, generator=draws(seed)).flatten(2)
        there = torch.rand(shape[:2], generator=draws(seed + 1)) < density
        return ((keys == keys.amax(2, keepdim=True)) & there[..., None]).view(shape)
    else:
        return torch.rand(shape, generator=draws(seed)) < density
    return (torch.rand(int(places.max()) + 1, generator=draws(seed)) < density)[places]


@settings(max_examples=80)
@given(
    form=st.sampled_from(["kernels", "positions", "shifts", "weights"]),
    shape=st.sampled_from(SHAPES),
    density=st.sampled_from([0.0, 0.03, 0.3, 1.0]),
    seed=st.integers(0, 100),
)
def test_every_form_there_and_back(form: str, shape: tuple[int, ...], density: float, seed: int) -> None:
    mask = structured(form if len(shape) == 4 else "weights", shape, density, seed)
    assert torch.equal(unpacked_mask(packed_mask(mask)), mask)
    for encode, decode in FORMS.values():
        if (bits := encode(mask)) is not None:
            assert torch.equal(decode(bits, mask.shape), mask)


def test_the_shortest_form_by_hand() -> None:
    """Of 50 x 20 kernels of 25: a bit a kernel, a position or a weight; 5 bits a kernel; 15 bits a survivor."""
    shape = (50, 20, 5, 5)
    expected = {"kernels": 1000, "positions": 500, "shifts": 5 * 1000, "weights": 25_000}
    for form, bits in expected.items():
        packed = packed_mask(structured(form, shape, 0.5, 0))
        assert (packed.form, len(packed.index)) == (form, math.ceil(bits / 8))
    few = torch.zeros(shape, dtype=torch.bool)
    few[0, 0] = True
    few[0, 0, 0, 0] = False  # 24 survivors, no structure
    packed = packed_mask(few)
    assert (packed.form, len(packed.index)) == ("numbers", (64 + 24 * 15) / 8)


def test_a_net_by_the_byte() -> None:
    """The convolution has a kernel in two, the first linear layer every third unit; what reads the others is gone."""
    model = build("convolutional").float()
    masks = {"conv2.weight": (torch.arange(48).view(8, 6) % 2 == 0)[..., None, None].expand(8, 6, 3, 3)}
    masks["fc1.weight"] = (torch.arange(12) % 3 == 0)[:, None].expand(12, 72)
    masks["fc1.bias"] = torch.arange(12) % 3 == 0
    # Channels 1, 3 and 5 are read by nobody: they leave, and of the rest every kernel is there.
    values = (3 * 9 + 3) + (8 * 3 * 9 + 8) + (4 * 72 + 4) + (4 * 3 + 3)
    assert stored_bytes(model, masks) == 4 * values
    masks["conv2.weight"] = masks["conv2.weight"].clone()
    masks["conv2.weight"][0] = masks["conv2.weight"][0].roll(1, 0)  # the first filter reads the others
    values = (6 * 9 + 6) + (24 * 9 + 8) + (4 * 72 + 4) + (4 * 3 + 3)
    assert stored_bytes(model, masks) == 4 * values + 48 // 8


def test_a_net_without_a_graph_is_stored_whole() -> None:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x) if x.sum() > 0 else self.fc(-x)

    mask = torch.eye(4).bool()
    assert stored_bytes(Loop(), {"fc.weight": mask}) == 4 * (4 + 4) + 2


@pytest.mark.parametrize("kind", ["convolutional", "batchnorm", "residual"])
@pytest.mark.parametrize("form", ["kernels", "positions", "shifts"])
def test_the_compact_net_computes_as_the_masked_one_with_survivors_only(kind: str, form: str) -> None:
    """Each convolution multiplies its survivors, whatever their structure; outputs are equal to rounding."""
    model, images = build(kind), images_of(kind, 6, 2).images
    masks = {
        name: structured(form, tuple(p.shape), 0.4, place)
        for place, (name, p) in enumerate(model.named_parameters())
        if p.ndim == 4
    }
    apply_masks(model, masks)
    small = compact(model, masks, sparse=(nn.Conv2d, nn.Linear)).model.eval()
    sparse = {name for name, module in small.named_modules() if isinstance(module, SparseConv2d)}
    survivors = {name: int(masks[f"{name}.weight"].sum()) for name in sparse}
    assert sparse
    for name in sparse:
        weight = small.get_parameter(f"{name}.weight")
        assert len(weight) <= survivors[name]  # but those of dead units
    torch.testing.assert_close(small(images), model.eval()(images), rtol=1e-12, atol=1e-12)
    dense = {name for name, module in small.named_modules() if isinstance(module, nn.Conv2d)}
    whole = {name: math.prod(small.get_parameter(f"{name}.weight").shape) for name in dense}
    assert all(size < 2 * int(masks[f"{name}.weight"].sum()) for name, size in whole.items())
