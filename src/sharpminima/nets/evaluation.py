"""Loss and error of a model on images that are already in memory."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sharpminima.base.errors import AnalysisError
from sharpminima.nets.modes import copied, eval_mode, measuring, ordinary


@dataclass(frozen=True)
class Evaluation:
    """What a model does on a set of images."""

    loss: float  # mean cross-entropy, nats
    wrong: int  # images whose top-1 class is not the label
    samples: int  # images

    @property
    def error_percent(self) -> float:
        """Top-1 error, percent."""
        return 100.0 * self.wrong / self.samples


@measuring(gradients=False)
def evaluate(model: nn.Module, images: Tensor, labels: Tensor, *, batch_size: int = 1000) -> Evaluation:
    """Mean cross-entropy and top-1 errors of ``model`` in eval mode; each module's mode is restored.

    Autocast is off: the model computes in its own precision, and losses of less than float32 in that.

    Args:
        images: normalised float images [N, C, H, W] on the model's device.
        labels: int64 class numbers [N] on the same device.
        batch_size: images a forward pass; the losses are summed in float64.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> _ = [nn.init.zeros_(parameter) for parameter in net.parameters()]
    >>> result = evaluate(net, torch.ones(2, 1, 2, 2), torch.tensor([0, 1]))
    >>> round(result.loss, 4), result.error_percent  # both classes are as likely
    (0.6931, 50.0)
    """
    loss = torch.zeros((), dtype=torch.float64, device=images.device)
    wrong = torch.zeros((), dtype=torch.int64, device=images.device)
    with eval_mode(model):
        for batch, target in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            logits = at_least_float32(model(batch))
            loss += F.cross_entropy(logits, target, reduction="sum").double()
            wrong += (logits.argmax(dim=1) != target).sum()
    return Evaluation(loss=loss.item() / len(labels), wrong=int(wrong), samples=len(labels))


@measuring(gradients=False)
def predict(model: nn.Module, images: Tensor, *, batch_size: int = 1000) -> Tensor:
    """Top-1 class of each image in eval mode: int64 [N]; arguments as for `evaluate`."""
    with eval_mode(model):
        return torch.cat([model(batch).argmax(dim=1) for batch in images.split(batch_size)])


@measuring(gradients=True)
def gradient_norm(model: nn.Module, images: Tensor, labels: Tensor, *, batch_size: int = 1000) -> float:
    """L2 norm of the gradient of the mean cross-entropy in eval mode, over the parameters that are not zero.

    A removed parameter is zero, and the net cannot move along it; -0.0 is zero. Frozen parameters count, and those that
    the loss does not depend on have a gradient of zero. ``.grad`` fields, hooks and modes of the model are left alone.

    Raises:
        AnalysisError: the loss depends on no parameter.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(1, 2, bias=False))
    >>> _ = nn.init.zeros_(net[1].weight)
    >>> gradient_norm(net, torch.ones(2, 1, 1, 1), torch.tensor([0, 0]))  # no weight is left
    0.0
    """
    net = model if _is_plain(model) else copied(model).requires_grad_()
    parameters = list(net.parameters())
    total = [torch.zeros_like(p, dtype=torch.float64) for p in parameters]
    with eval_mode(net):
        for batch, target in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            logits = at_least_float32(net(ordinary(batch)))
            loss = F.cross_entropy(logits, target, reduction="sum") / len(labels)
            if not loss.requires_grad:
                raise AnalysisError("the loss depends on no parameter of the model; it has no gradient")
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
            for accumulated, gradient in zip(total, gradients, strict=True):
                if gradient is not None:
                    accumulated += gradient
    squares = [(g * (p != 0)).square().sum() for g, p in zip(total, parameters, strict=True)]
    return float(torch.stack(squares).sum().sqrt())


def _is_plain(model: nn.Module) -> bool:
    """Whether a gradient of the model's own parameters is that of the loss: none frozen, no hook that changes it."""
    modules = list(model.modules())
    hooked = any(module._backward_hooks or module._backward_pre_hooks for module in modules)
    return not hooked and all(
        p.requires_grad and not p.is_inference() and not p._backward_hooks for p in model.parameters()
    )


def at_least_float32(logits: Tensor) -> Tensor:
    """The same logits, in float32 where they have less: sums of losses need it."""
    return logits if torch.finfo(logits.dtype).bits >= 32 else logits.float()
