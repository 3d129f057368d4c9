"""ResNets for CIFAR-10; He et al., "Deep residual learning for image recognition", CVPR 2016, section 4.2."""

from torch import Tensor, nn
from torch.nn import functional as F


class _Block(nn.Module):
    """Two 3x3 convolutions with BatchNorm around a shortcut: without parameters (option A), or projected."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, projection: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.relu2 = nn.ReLU()
        self.stride = stride
        self.new_channels = channels_out - channels_in
        self.projects = projection and self.new_channels > 0
        if self.projects:
            self.projection = nn.Conv2d(channels_in, channels_out, 1, stride=stride, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Features [N, C, H, W] to [N, C', H / stride, W / stride]."""
        residual = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(features)))))
        if self.projects:
            return self.relu2(residual + self.projection(features))
        shortcut = features[:, :, :: self.stride, :: self.stride]
        if self.new_channels:
            # Option A: new channels are zeros, half of them on either side.
            before = self.new_channels // 2
            shortcut = F.pad(shortcut, (0, 0, 0, 0, before, self.new_channels - before))
        return self.relu2(residual + shortcut)


class ResNetCifar(nn.Module):
    """A ResNet of depth 6 n + 2 with 16, 32 and 64 channels.

    Shortcuts are option A; with ``projection`` 1x1 convolutions without BatchNorm where the width changes, as in
    Mikler's thesis, which adds 2,560 parameters.

    Convolutions and the classifier start Kaiming normal (fan in), as in the usual CIFAR-10 code. Depth 32
    has 464,154 parameters for 10 classes.
    """

    def __init__(self, depth: int, num_classes: int = 10, *, projection: bool = False) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        stages = []
        channels_in = 16
        for channels, stride in ((16, 1), (32, 2), (64, 2)):
            stage = [_Block(channels_in, channels, stride, projection)]
            stage += [_Block(channels, channels, 1) for _ in range(blocks - 1)]
            stages.append(nn.Sequential(*stage))
            channels_in = channels
        self.stage1, self.stage2, self.stage3 = stages
        self.fc = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, 3, 32, 32] to logits [N, classes]."""
        features = self.relu(self.bn1(self.conv1(images)))
        features = self.stage3(self.stage2(self.stage1(features)))
        return self.fc(features.mean(dim=(2, 3)))
