"""The usual CIFAR-10 augmentation on whole batches: pad by 4, crop at random, flip at random."""

import torch
from torch import Tensor
from torch.nn import functional as F

_PADDING = 4  # pixels on each side


def draw_crops(images: int, generator: torch.Generator) -> Tensor:
    """One row an image [images, 3]: vertical and horizontal offset in 0..8, and 1 for a horizontal flip."""
    offsets = torch.randint(0, 2 * _PADDING + 1, (images, 2), generator=generator)
    flips = torch.randint(0, 2, (images, 1), generator=generator)
    return torch.cat([offsets, flips], dim=1)


def pad_crop_flip(images: Tensor, crops: Tensor) -> Tensor:
    """Apply `draw_crops` rows [..., 3] to normalised images [..., C, H, W]; the border is zero after normalisation.

    The usual torchvision pipeline pads with black before normalising. Zero (the mean) is the choice of most resident
    loaders; the difference is one constant on a border that a crop shows in part.
    """
    if images.ndim > 4:
        return pad_crop_flip(images.flatten(0, -4), crops.flatten(0, -2)).view(images.shape)
    count, channels, height, width = images.shape
    padded = F.pad(images, (_PADDING,) * 4)
    rows = crops[:, 0, None] + torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device).expand(count, width)
    columns = torch.where(crops[:, 2, None] == 1, columns.flip(1), columns) + crops[:, 1, None]
    sample = torch.arange(count, device=images.device)[:, None, None, None]
    channel = torch.arange(channels, device=images.device)[None, :, None, None]
    return padded[sample, channel, rows[:, None, :, None], columns[:, None, None, :]]
