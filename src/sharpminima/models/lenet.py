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
