"""The LeNets of the paper, with ReLU; LeCun et al., "Gradient-based learning applied to document recognition", 1998."""

from torch import Tensor, nn


class LeNet300(nn.Sequential):
    """784-300-100-10, fully connected: 266,610 parameters for 28x28 images and 10 classes."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__(
            nn.Flatten(),
            nn.Linear(784, 300),
            nn.ReLU(),
            nn.Linear(300, 100),
            nn.ReLU(),
            nn.Linear(100, num_classes),
        )


class LeNet5(nn.Module):
    """LeNet-5 as Caffe has it: 431,080 parameters for 1x28x28 images and 10 classes.

    Two unpadded 5x5 convolutions (20 and 50 filters), each with ReLU and 2x2 max pooling, then 500 units.
    Hidden neurons, counted at the ReLUs: 11,520 + 3,200 + 500.
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.relu2 = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(800, 500)
        self.relu3 = nn.ReLU()
        self.fc2 = nn.Linear(500, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, 1, 28, 28] to logits [N, classes]."""
        features = self.pool(self.relu1(self.conv1(images)))
        features = self.pool(self.relu2(self.conv2(features)))
        return self.fc2(self.relu3(self.fc1(features.flatten(1))))


class LeNet5BatchNorm(nn.Sequential):
    """`LeNet5` with BatchNorm behind both convolutions, whose biases it makes idle: they are left out. 431,150."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__(
            nn.Conv2d(1, 20, 5, bias=False),
            nn.BatchNorm2d(20),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(20, 50, 5, bias=False),
            nn.BatchNorm2d(50),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(800, 500),
            nn.ReLU(),
            nn.Linear(500, num_classes),
        )


class LeNet3(nn.Sequential):
    """Three convolutions (6, 16 and 120 filters), then 84 units: 61,706 parameters.

    The net of the MNIST example in the public code of DessiLBI (Fu et al., ICML 2020), which we take to be the LeNet-3
    of its experiments; the paper's own table of it was not found.
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__(
            nn.Conv2d(1, 6, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 120, 5),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, num_classes),
        )
