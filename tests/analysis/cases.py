"""Small nets and random images that the tests of the analyses share; float64 unless said otherwise."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sharpminima.nets.models import MODELS, build_model
from sharpminima.nets.models.resnet import ResNetCifar


class ConvNet(nn.Module):
    """A convolution of 2 x 3 x 2 neurons and 5 units, both with in-place ReLUs; 3 classes, 93 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 2)
        self.first = nn.ReLU(inplace=True)
        self.hidden = nn.Linear(12, 5)
        self.second = nn.ReLU(inplace=True)
        self.out = nn.Linear(5, 3)

    def forward(self, images: Tensor) -> Tensor:
        features = self.first(self.conv(images)).flatten(1)
        return self.out(self.second(self.hidden(features)))


def seeded(build, seed: int = 0) -> nn.Module:
    """``build()`` with weights that depend on ``seed`` alone, float64, in training mode."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return build().double()


def mlp(seed: int = 0) -> nn.Module:
    """12-6-4-3 on 1x4x3 images; 121 parameters."""
    return seeded(
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3)),
        seed,
    )


def conv_net(seed: int = 0) -> nn.Module:
    """`ConvNet` on 1x4x3 images."""
    return seeded(ConvNet, seed)


def identity_net(classes: int, neurons: int) -> nn.Module:
    """A net whose pre-activations are the pixels; its one ReLU is named "1"."""
    return seeded(lambda: nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(neurons, classes)))


def lenet5() -> nn.Module:
    """LeNet-5 as it is trained: float32."""
    return build_model("lenet5", seed=1)


def resnet8(seed: int = 0) -> nn.Module:
    """A ResNet of depth 8 whose BatchNorms have running statistics of their own."""
    net = seeded(lambda: ResNetCifar(8), seed)
    draw = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0.0, 0.3, generator=draw)
            module.running_var.uniform_(0.5, 2.0, generator=draw)
    return net


def data(samples: int, shape=(1, 4, 3), classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Normal images and labels in a random order; every class occurs."""
    draw = torch.Generator().manual_seed(seed)
    images = torch.randn(samples, *shape, generator=draw, dtype=torch.float64)
    labels = torch.arange(samples) % classes
    return images, labels[torch.randperm(samples, generator=draw)]


def data_for(name: str, samples: int) -> tuple[Tensor, Tensor]:
    """`data` for a net of the registry, float32, 10 classes."""
    images, labels = data(samples, MODELS[name].shape, 10)
    return images.float(), labels


def images_of_states(states: Tensor) -> Tensor:
    """Images [N, 1, 1, neurons] for `identity_net` that put its neurons into ``states`` [N, neurons]."""
    return (states.double() * 2 - 1)[:, None, None, :]


def full_hessian(model, images, labels) -> np.ndarray:
    """The Hessian of the mean cross-entropy, row by row: the gradient of each entry of the gradient."""
    model.eval()
    parameters = list(model.parameters())
    loss = F.cross_entropy(model(images), labels)
    gradient = torch.autograd.grad(loss, parameters, create_graph=True)
    rows = [
        torch.cat([part.flatten() for part in torch.autograd.grad(entry, parameters, retain_graph=True)])
        for entry in torch.cat([part.flatten() for part in gradient])
    ]
    return torch.stack(rows).numpy()


def random_masks(model, density, seed=0):
    """Masks for the weights of ``model`` (its biases survive), and whether each parameter survives, [P]."""
    draw = torch.Generator().manual_seed(seed)
    masks = {
        name: (torch.rand(parameter.shape, generator=draw) < density).to(torch.uint8)
        for name, parameter in model.named_parameters()
        if name.endswith("weight")
    }
    kept = [masks.get(name, torch.ones_like(p)).flatten().bool() for name, p in model.named_parameters()]
    return masks, torch.cat(kept).numpy()
