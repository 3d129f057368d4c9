"""Loss and error of a model on images that are already in memory."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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


@torch.no_grad()
def evaluate(model: nn.Module, images: Tensor, labels: Tensor, *, batch_size: int = 1000) -> Evaluation:
    """Mean cross-entropy and top-1 errors of ``model`` in eval mode; its mode is restored.

    Args:
        images: normalised float images [N, C, H, W] on the model's device.
        labels: int64 class numbers [N] on the same device.
        batch_size: images a forward pass; the losses are summed in float64.
    """
    was_training = model.training
    model.eval()
    loss = torch.zeros((), dtype=torch.float64, device=images.device)
    wrong = torch.zeros((), dtype=torch.int64, device=images.device)
    for batch, target in zip(images.split(batch_size), labels.split(batch_size), strict=True):
        logits = model(batch)
        loss += F.cross_entropy(logits, target, reduction="sum").double()
        wrong += (logits.argmax(dim=1) != target).sum()
    model.train(was_training)
    return Evaluation(loss=loss.item() / len(labels), wrong=int(wrong), samples=len(labels))


@torch.no_grad()
def predict(model: nn.Module, images: Tensor, *, batch_size: int = 1000) -> Tensor:
    """Top-1 class of each image in eval mode: int64 [N]; arguments as for `evaluate`."""
    was_training = model.training
    model.eval()
    classes = [model(batch).argmax(dim=1) for batch in images.split(batch_size)]
    model.train(was_training)
    return torch.cat(classes)


def gradient_norm(model: nn.Module, images: Tensor, labels: Tensor, *, batch_size: int = 1000) -> float:
    """L2 norm of the gradient of the mean cross-entropy in eval mode, over the parameters that are not zero.

    A removed parameter is zero, and the net cannot move along it; ``.grad`` fields are left alone.
    """
    was_training = model.training
    model.eval()
    parameters = list(model.parameters())
    total = [torch.zeros_like(p, dtype=torch.float64) for p in parameters]
    for batch, target in zip(images.split(batch_size), labels.split(batch_size), strict=True):
        loss = F.cross_entropy(model(batch), target, reduction="sum") / len(labels)
        for accumulated, gradient in zip(total, torch.autograd.grad(loss, parameters), strict=True):
            accumulated += gradient
    model.train(was_training)
    squares = [(g * (p != 0)).square().sum() for g, p in zip(total, parameters, strict=True)]
    return float(torch.stack(squares).sum().sqrt())
