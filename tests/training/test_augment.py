"""The batched crop and flip against a plain loop over images."""

import torch
from torch.nn import functional as F

from sharpminima.training.augment import draw_crops, pad_crop_flip


def test_pad_crop_flip_equals_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(40, 3, 32, 32, generator=generator)
    crops = draw_crops(40, generator)
    found = pad_crop_flip(images, crops)
    for image, (top, left, flip), result in zip(images, crops.tolist(), found, strict=True):
        expected = F.pad(image, (4, 4, 4, 4))[:, top : top + 32, left : left + 32]
        assert torch.equal(result, expected.flip(2) if flip else expected)


def test_draws_cover_all_offsets_and_both_flips() -> None:
    crops = draw_crops(2_000, torch.Generator().manual_seed(0))
    assert set(crops[:, 0].tolist()) == set(range(9)) == set(crops[:, 1].tolist())
    assert set(crops[:, 2].tolist()) == {0, 1}
