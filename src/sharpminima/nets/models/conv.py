"""Conv-2, Conv-4 and Conv-6: Frankle and Carbin, "The lottery ticket hypothesis", ICLR 2019, figure 2."""

from itertools import pairwise

from torch import nn


class ConvN(nn.Sequential):
    """Pairs of 3x3 convolutions (64, 128, 256 filters), each pair with 2x2 max pooling, then 256-256-classes; ReLU.

    For 3x32x32 images and 10 classes 4,301,642, 2,425,930 and 2,262,602 parameters.
    """

    def __init__(self, depth: int, num_classes: int = 10) -> None:
        layers: list[nn.Module] = []
        channels, size = 3, 32
        for filters in (64, 128, 256)[: depth // 2]:
            for fan_in in (channels, filters):
                layers += [nn.Conv2d(fan_in, filters, 3, padding=1), nn.ReLU()]
            layers.append(nn.MaxPool2d(2))
            channels, size = filters, size // 2
        layers.append(nn.Flatten())
        for fan_in, fan_out in pairwise((channels * size**2, 256, 256)):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
        super().__init__(*layers, nn.Linear(256, num_classes))
