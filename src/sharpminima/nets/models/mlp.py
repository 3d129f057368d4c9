"""The fully connected net of Mikler's thesis (2021): three hidden layers of 400 units."""

from itertools import pairwise

from torch import nn


class MLP3x400(nn.Sequential):
    """784-400-400-400-10, ReLU: 637,600 kernel weights for 28x28 images and 10 classes."""

    def __init__(self, num_classes: int = 10) -> None:
        widths = [784, 400, 400, 400]
        layers: list[nn.Module] = [nn.Flatten()]
        for fan_in, fan_out in pairwise(widths):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
        super().__init__(*layers, nn.Linear(widths[-1], num_classes))
