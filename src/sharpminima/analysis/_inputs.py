"""What every analysis asks of its model, images, labels and masks."""

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from sharpminima.base.errors import AnalysisError


@contextlib.contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put ``model`` in eval mode, then every module back in the mode that it had."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def check_images(images: Tensor, labels: Tensor, batch_size: int) -> None:
    """Check that images are float [N, C, H, W] and labels int64 [N], N at least 1.

    Raises:
        AnalysisError: they are not, or the batch size is below 1.
    """
    if images.dim() != 4:
        raise AnalysisError(f"images have shape {list(images.shape)}; give [N, C, H, W]")
    if not images.is_floating_point():
        raise AnalysisError(f"images are {images.dtype}; normalise them to floating point first")
    if labels.dim() != 1 or labels.dtype != torch.int64:
        raise AnalysisError(f"labels are {labels.dtype} {list(labels.shape)}; give int64 class numbers [N]")
    if len(images) != len(labels):
        raise AnalysisError(f"there are {len(images)} images but {len(labels)} labels; give one label an image")
    if len(images) == 0:
        raise AnalysisError("there are no images; give at least one")
    if batch_size < 1:
        raise AnalysisError(f"the batch size is {batch_size}; give at least 1")


@torch.no_grad()
def count_outputs(model: nn.Module, images: Tensor) -> int:
    """The number of classes of ``model``: the width of its logits, from one forward pass in eval mode.

    Raises:
        AnalysisError: the model cannot take such images, or its output is not [N, classes].
    """
    try:
        with eval_mode(model):
            logits = model(images[:1])
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise AnalysisError(
            f"the model cannot take images of shape {list(images.shape[1:])}, {images.dtype}, "
            f"on {images.device} ({reason})"
        ) from error
    if logits.dim() != 2:
        raise AnalysisError(f"the model's output has shape {list(logits.shape)}; logits [N, classes] are needed")
    return logits.shape[1]


def count_labels(labels: Tensor, classes: int) -> Tensor:
    """Samples of each class, int64 [classes].

    Raises:
        AnalysisError: a label is outside 0 ... classes - 1.
    """
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest >= classes:
        raise AnalysisError(f"labels run from {lowest} to {highest}, but the model has the classes 0 to {classes - 1}")
    return torch.bincount(labels, minlength=classes)


def check_finite_weights(model: nn.Module, role: str = "the model") -> None:
    """Check that no parameter holds NaN or infinity.

    Raises:
        AnalysisError: one does; it is named.
    """
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            raise AnalysisError(f"parameter {name} of {role} holds NaN or infinity; the training diverged")


def surviving(model: nn.Module, masks: Mapping[str, Tensor] | None) -> Tensor:
    """Which of the model's P parameters survive: bool [P], flattened in the order of ``named_parameters``.

    Args:
        masks: parameter name -> tensor of 0 (removed) and 1 (kept), of the parameter's shape; a parameter
            without a mask survives whole.

    Raises:
        AnalysisError: a mask has no parameter, another shape or other values, or nothing survives.
    """
    masks = masks or {}
    parameters = dict(model.named_parameters())
    unknown = sorted(set(masks) - set(parameters))
    if unknown:
        raise AnalysisError(f"there are masks for {', '.join(unknown)}, which the model does not have")
    kept = []
    for name, parameter in parameters.items():
        mask = masks.get(name, torch.ones_like(parameter, dtype=torch.bool))
        if mask.shape != parameter.shape:
            raise AnalysisError(
                f"the mask of {name} has shape {list(mask.shape)}, the parameter {list(parameter.shape)}"
            )
        if not ((mask == 0) | (mask == 1)).all():
            raise AnalysisError(f"the mask of {name} holds other values than 0 and 1")
        kept.append(mask.to(parameter.device).bool().flatten())
    survivors = torch.cat(kept) if kept else torch.zeros(0, dtype=torch.bool)
    if not survivors.any():
        raise AnalysisError("no parameter survives; there is nothing to analyse")
    return survivors
