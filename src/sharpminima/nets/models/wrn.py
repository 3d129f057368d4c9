"""Wide residual networks for CIFAR-10; Zagoruyko and Komodakis, "Wide residual networks", BMVC 2016. No dropout."""

from torch import Tensor, nn


class _Block(nn.Module):
    """BatchNorm - ReLU - 3x3 convolution, twice; a 1x1 projection where the width changes."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.projects = channels_in != channels_out
        if self.projects:
            self.projection = nn.Conv2d(channels_in, channels_out, 1, stride=stride, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Features [N, C, H, W] to [N, C', H / stride, W / stride]; a projection reads the activated features."""
        active = self.relu1(self.bn1(features))
        residual = self.conv2(self.relu2(self.bn2(self.conv1(active))))
        return residual + (self.projection(active) if self.projects else features)


class WideResNet(nn.Module):
    """WRN-depth-width, depth 6 n + 4.

    For 10 classes WRN-16-4 has 2,748,890 parameters (Mikler's thesis says 2,752,570), WRN-16-8 10,961,370 and WRN-28-10
    36,479,194 (as there).
    """

    def __init__(self, depth: int, width: int, num_classes: int = 10) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        stages = []
        channels_in = 16
        for channels, stride in ((16 * width, 1), (32 * width, 2), (64 * width, 2)):
            stage = [_Block(channels_in, channels, stride)]
            stage += [_Block(channels, channels, 1) for _ in range(blocks - 1)]
            stages.append(nn.Sequential(*stage))
            channels_in = channels
        self.stage1, self.stage2, self.stage3 = stages
        self.bn = nn.BatchNorm2d(channels_in)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(channels_in, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, 3, 32, 32] to logits [N, classes]."""
        features = self.stage3(self.stage2(self.stage1(self.conv1(images))))
        return self.fc(self.relu(self.bn(features)).mean(dim=(2, 3)))
