"""VGG for CIFAR-10; Simonyan and Zisserman, "Very deep convolutional networks", ICLR 2015.

With BatchNorm, no biases in convolutions, and global average pooling before one linear layer, as in Mikler's thesis.
"""

from torch import nn

_STAGES = {13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}  # convolutions a stage


class Vgg(nn.Sequential):
    """VGG-13, -16 or -19: 9,413,066, 14,724,042 or 20,035,018 parameters for 10 classes."""

    def __init__(self, depth: int, num_classes: int = 10) -> None:
        layers: list[nn.Module] = []
        channels = 3
        for filters, count in zip((64, 128, 256, 512, 512), _STAGES[depth], strict=True):
            for _ in range(count):
                layers += [nn.Conv2d(channels, filters, 3, padding=1, bias=False), nn.BatchNorm2d(filters), nn.ReLU()]
                channels = filters
            layers.append(nn.MaxPool2d(2))
        # The last stage is pooled globally.
        super().__init__(*layers[:-1], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, num_classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
