"""Nets as users write them: small, float64, on 1x6x6 images and 3 classes. Each is named by its idiom."""

import functools
import types
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

from . import cases


class Of(nn.Module):
    """A net of named layers and a function of it and the images."""

    def __init__(self, forward: Callable, **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.function = forward

    def forward(self, images: Tensor) -> Tensor:
        return self.function(self, images)


def convolutional(*between: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), *between, nn.Flatten(), nn.Linear(16, 3))


def changed(change: Callable[[nn.Sequential], object]) -> nn.Module:
    """A usual net to which something was done."""
    net = convolutional(nn.ReLU())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older weight norm is deprecated
        change(net)
    return net


def viewing() -> nn.Module:
    return Of(
        lambda net, x: net.out(F.relu(net.conv(x)).view(x.size(0), -1)),
        conv=nn.Conv2d(1, 4, 3, stride=2),
        out=nn.Linear(16, 3),
    )


def tokens(x: Tensor) -> Tensor:
    return x.flatten(1).unflatten(1, (9, 4))


def transformer(**options: object) -> nn.Module:
    layer = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.1, **options)
    return Of(lambda net, x: net.out(net.layer(tokens(x)).mean(1)), layer=layer, out=nn.Linear(4, 3))


def recurrent(kind: type) -> nn.Module:
    return Of(
        lambda net, x: net.out(net.rnn(tokens(x))[0][:, -1]), rnn=kind(4, 3, batch_first=True), out=nn.Linear(3, 3)
    )


class Doubled(nn.Linear):
    def forward(self, features: Tensor) -> Tensor:
        return 2 * super().forward(features)


class Square(torch.autograd.Function):
    """Has a second derivative, but no rule for forward mode or vmap."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, gradient):
        return 2 * ctx.saved_tensors[0] * gradient


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.out = nn.Linear(36, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.third = nn.Linear(6, 6)
        self.third.weight = self.second.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.third(F.relu(self.second(F.relu(self.first(x.flatten(1))))))))


class Proxied(nn.Module):
    """Takes another way where it is traced."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.relu, self.out = nn.Linear(36, 5), nn.ReLU(), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        features = self.relu(self.hidden(x.flatten(1)))
        return self.out(
            features * 3 if type(x) is Tensor or torch._C._functorch.is_functorch_wrapped_tensor(x) else features
        )


class Frozen(nn.Module):
    """Features without a graph below a head."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.backbone, self.relu, self.out, self.how = nn.Linear(36, 5), nn.ReLU(), nn.Linear(5, 3), how

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "detach":
            return self.out(self.relu(self.backbone(x.flatten(1))).detach())
        with torch.no_grad():
            features = self.relu(self.backbone(x.flatten(1)))
        return self.out(features)


def with_idle(net: nn.Module) -> None:
    net.register_parameter("idle", nn.Parameter(torch.ones(3)))


def with_own_forward(net: nn.Module) -> None:
    net[3].forward = types.MethodType(lambda self, x: F.linear(x, self.weight) * 2, net[3])


def frozen(net: nn.Module) -> None:
    net[0].requires_grad_(False)


IDIOMS: dict[str, Callable[[], nn.Module]] = {
    "view": viewing,
    "reshape": lambda: Of(
        lambda net, x: net.out(F.relu(net.conv(x)).reshape(len(x), -1)),
        conv=nn.Conv2d(1, 4, 3, 2),
        out=nn.Linear(16, 3),
    ),
    "group norm": lambda: convolutional(nn.GroupNorm(2, 4), nn.ReLU()),
    "batch norm": lambda: convolutional(nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5)),
    "instance norm": lambda: convolutional(nn.InstanceNorm2d(4), nn.ReLU()),
    "layer norm": lambda: convolutional(nn.LayerNorm([4, 2, 2]), nn.ReLU()),
    "silu": lambda: convolutional(nn.SiLU()),
    "mish": lambda: convolutional(nn.Mish()),
    "gelu": lambda: convolutional(nn.GELU()),
    "hard sigmoid": lambda: convolutional(nn.Hardsigmoid()),
    "hard swish": lambda: convolutional(nn.Hardswish()),
    "softplus": lambda: convolutional(nn.Softplus()),
    "leaky relu": lambda: convolutional(nn.LeakyReLU(0.1)),
    "prelu": lambda: convolutional(nn.PReLU(4)),
    "transformer": lambda: transformer(batch_first=True),
    "attention": lambda: Of(
        lambda net, x: net.out(F.scaled_dot_product_attention(*[net.mix(tokens(x))] * 3).mean(1)),
        mix=nn.Linear(4, 4),
        out=nn.Linear(4, 3),
    ),
    "lstm": lambda: recurrent(nn.LSTM),
    "gru": lambda: recurrent(nn.GRU),
    "pruned by torch": lambda: changed(lambda net: prune.l1_unstructured(net[0], "weight", 0.5)),
    "weight norm": lambda: changed(lambda net: nn.utils.weight_norm(net[0])),
    "weight norm, parametrised": lambda: changed(lambda net: parametrizations.weight_norm(net[3])),
    "spectral norm": lambda: changed(lambda net: nn.utils.spectral_norm(net[3])),
    "spectral norm, parametrised": lambda: changed(lambda net: parametrizations.spectral_norm(net[0])),
    "hook of the net": lambda: changed(lambda net: net.register_forward_hook(lambda *call: call[-1] * 3)),
    "pre-hook of the net": lambda: changed(lambda net: net.register_forward_pre_hook(lambda _, x: (x[0] * 2,))),
    "hook of a layer": lambda: changed(lambda net: net[0].register_forward_hook(lambda *call: call[-1] * 3)),
    "backward hook": lambda: changed(
        lambda net: net[3].register_full_backward_hook(lambda _, gradients, __: tuple(g * 2 for g in gradients))
    ),
    "forward of a layer replaced": lambda: changed(with_own_forward),
    "layer that inherits": lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 5), nn.ReLU(), Doubled(5, 3)),
    "function of its own": lambda: Of(
        lambda net, x: net.out(Square.apply(net.hidden(x.flatten(1)))), hidden=nn.Linear(36, 4), out=nn.Linear(4, 3)
    ),
    "tied": Tied,
    "type of its input": Proxied,
    "looks at its features": lambda: Of(
        lambda net, x: net.out(h if (h := F.relu(net.hidden(x.flatten(1)))).sum() > 0 else -h),
        hidden=nn.Linear(36, 4),
        out=nn.Linear(4, 3),
    ),
    "part without gradient": functools.partial(Frozen, "no_grad"),
    "part detached": functools.partial(Frozen, "detach"),
    "idle parameter": lambda: changed(with_idle),
    "frozen parameters": lambda: changed(frozen),
    "depthwise": lambda: convolutional(nn.ReLU(), nn.Conv2d(4, 4, 1, groups=4), nn.ReLU()),
    "transposed": lambda: nn.Sequential(nn.ConvTranspose2d(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(98, 3)),
    "residual": lambda: Of(
        lambda net, x: net.out((net.conv(x) + x).relu().flatten(1)),
        conv=nn.Conv2d(1, 1, 3, padding=1),
        out=nn.Linear(36, 3),
    ),
    "concatenated": lambda: Of(
        lambda net, x: net.out(torch.cat([F.relu(net.a(x)), F.relu(net.b(x))], 1).flatten(1)),
        a=nn.Conv2d(1, 2, 3, 2),
        b=nn.Conv2d(1, 2, 3, 2),
        out=nn.Linear(16, 3),
    ),
    "squeeze and excite": lambda: Of(
        lambda net, x: net.out(
            ((h := F.relu(net.conv(x))) * net.gate(h.mean((2, 3)))[:, :, None, None].sigmoid()).flatten(1)
        ),
        conv=nn.Conv2d(1, 4, 3, 2),
        gate=nn.Linear(4, 4),
        out=nn.Linear(16, 3),
    ),
}


def idiom(name: str) -> nn.Module:
    """The net of that idiom, with weights of its own, float64."""
    net = cases.seeded(IDIOMS[name], 3)
    draw = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=draw, dtype=torch.float64))
    return net


def samples(count: int = 12) -> tuple[Tensor, Tensor]:
    """Images and labels for the nets."""
    draw = torch.Generator().manual_seed(0)
    return torch.randn(count, 1, 6, 6, generator=draw, dtype=torch.float64), torch.arange(count) % 3
