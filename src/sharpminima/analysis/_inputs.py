"""What every analysis asks of its model, images, labels, masks and numbers."""

import math
import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sharpminima.base.errors import AnalysisError, SharpminimaError
from sharpminima.nets.masks import checked_masks
from sharpminima.nets.modes import eval_mode, measuring, ordinary, reason_of

FEW = 4  # images that show what a model does with any


def check_whole(**values: Any) -> None:
    """Check that each of the named values is a whole number.

    Raises:
        AnalysisError: one is not; it is named.
    """
    for name, value in values.items():
        try:
            operator.index(value)
        except TypeError:
            raise AnalysisError(f"{name} is {value!r}; give a whole number") from None


def check_number(**values: Any) -> None:
    """Check that each of the named values is a number.

    Raises:
        AnalysisError: one is not; it is named.
    """
    for name, value in values.items():
        try:
            float(value)
        except (TypeError, ValueError):
            raise AnalysisError(f"{name} is {value!r}; give a number") from None


def given(**values: Any) -> dict[str, Any]:
    """Those of the named values that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def check_images(images: Tensor, labels: Tensor, batch_size: int) -> tuple[Tensor, Tensor]:
    """Check that images are float [N, C, H, W] and labels int64 [N], N at least 1.

    Returns:
        Both, without a graph; also of what was made in inference mode.

    Raises:
        AnalysisError: they are not, or the batch size is no whole number from 1 on.
    """
    for what, given in (("images", images), ("labels", labels)):
        if not isinstance(given, Tensor):
            raise AnalysisError(f"the {what} are a {type(given).__name__}; give a tensor (torch.as_tensor makes one)")
        if given.is_meta:
            raise AnalysisError(f"the {what} are on the meta device, where they have no values; give them on another")
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
    if images.device != labels.device:
        raise AnalysisError(f"images are on {images.device}, labels on {labels.device}; give both on one device")
    check_whole(batch_size=batch_size)
    if batch_size < 1:
        raise AnalysisError(f"the batch size is {batch_size}; give at least 1")
    return ordinary(images), ordinary(labels)


def is_compiled(module: nn.Module) -> bool:
    """Whether a module hides what it runs: TorchScript, ``torch.compile``."""
    in_place = getattr(module, "_compiled_call_impl", None) is not None  # module.compile()
    return in_place or isinstance(module, torch.jit.ScriptModule) or type(module).__name__ == "OptimizedModule"


def check_kind(model: nn.Module) -> None:
    """Check that ``model`` is a net whose weights and layers can be seen, and where it lies.

    Raises:
        AnalysisError: it is none, or a part of it is a wrapper, compiled, quantised, not initialised, or on the meta
            device or another one than the rest.
    """
    if not isinstance(model, nn.Module):
        raise AnalysisError(f"the model is a {type(model).__name__}; give a torch.nn.Module")
    for name, module in model.named_modules():
        where = f"module {name} of the model" if name else "the model"
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            raise AnalysisError(f"{where} is a {type(module).__name__}; give the net inside, its .module")
        if is_compiled(module):
            raise AnalysisError(
                f"{where} is compiled, so its layers cannot be seen; give the model that it was made from"
            )
        if ".quantized" in type(module).__module__:
            raise AnalysisError(
                f"{where} is quantised, so its weights cannot be seen; give the model that it was made from"
            )
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    for name, tensor in tensors.items():
        if nn.parameter.is_lazy(tensor):
            raise AnalysisError(f"{name} of the model has no shape yet; run the model once on images first")
        if tensor.is_meta:
            raise AnalysisError(f"{name} of the model is on the meta device, where it has no values; load the weights")
    devices = sorted({str(tensor.device) for tensor in tensors.values()})
    if len(devices) > 1:
        raise AnalysisError(f"the model lies on {' and '.join(devices)}; move it onto one device")


def logits_of(model: nn.Module, images: Tensor) -> Tensor:
    """Logits [N, classes] of one forward pass.

    Raises:
        AnalysisError: the model cannot take such images, or its output is not [N, classes].
    """
    try:
        logits = model(images)
    except (torch.OutOfMemoryError, SharpminimaError):
        raise
    except Exception as error:  # whatever the model's own code raises
        raise AnalysisError(
            f"the model cannot take images of shape {list(images.shape[1:])}, {images.dtype}, "
            f"on {images.device} ({reason_of(error)})"
        ) from error
    if not isinstance(logits, Tensor):
        raise AnalysisError(
            f"the model's output is a {type(logits).__name__}; logits [N, classes] are needed: wrap the model in a "
            "module that returns them alone"
        )
    if logits.dim() != 2 or len(logits) != len(images) or not logits.is_floating_point():
        raise AnalysisError(
            f"the model's output has shape {list(logits.shape)} ({logits.dtype}) for {len(images)} images; "
            "logits [N, classes] are needed"
        )
    return logits


def agree(first: Tensor, second: Tensor) -> bool:
    """Whether two results of one computation are the same up to rounding; what is not finite tells nothing."""
    if not (first.isfinite().all() and second.isfinite().all()):
        return True
    share = math.sqrt(torch.finfo(first.dtype).eps)
    if first.is_cuda:
        share = max(share, 1e-2)  # kernels may take TF32, and others for other batches
    return bool((first - second).abs().max() <= share * first.abs().max())


def check_model(model: nn.Module, images: Tensor) -> int:
    """Check that ``model`` is a function of one image at a time; the number of its classes.

    From passes over few images in eval mode: twice, and a part of them alone.

    Raises:
        AnalysisError: as `check_kind`; the model cannot take such images, its output is not [N, classes], it draws
            random numbers, or an image's output depends on the others of its batch.
    """
    check_kind(model)
    few = images[:FEW]
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.device != images.device:
            raise AnalysisError(f"images are on {images.device}, the model on {tensor.device}; move one of them")
    with measuring(gradients=False), eval_mode(model):
        before = _random_state(images)
        logits = logits_of(model, few)
        drawn = not torch.equal(before, _random_state(images))
        if drawn or not agree(logits, logits_of(model, few)):
            raise AnalysisError(
                f"the model {'draws random numbers' if drawn else 'gives other outputs for the same images'} in eval "
                "mode, so what is measured would be chance; let dropout and noise depend on self.training"
            )
        part = len(few) // 2
        if part and not agree(logits[:part], logits_of(model, few[:part])):
            raise AnalysisError(
                "an image's output depends on the other images of its batch, also in eval mode, so what is measured "
                "would depend on the batch size; let BatchNorm keep running statistics (track_running_stats=True), and "
                "attention take the batch first (batch_first=True)"
            )
    return logits.shape[1]


def _random_state(images: Tensor) -> Tensor:
    own = torch.get_rng_state()
    return torch.cat([own, torch.cuda.get_rng_state(images.device)]) if images.is_cuda else own


def count_labels(labels: Tensor, classes: int) -> Tensor:
    """Samples of each class, int64 [classes].

    Raises:
        AnalysisError: a label is outside 0 ... classes - 1.
    """
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest >= classes:
        raise AnalysisError(f"labels run from {lowest} to {highest}, but the model has the classes 0 to {classes - 1}")
    return torch.bincount(labels, minlength=classes)


@torch.no_grad()
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
    parameters = dict(model.named_parameters())
    kept = checked_masks({} if masks is None else masks, parameters)
    every = [kept.get(name, torch.ones_like(p, dtype=torch.bool)).flatten() for name, p in parameters.items()]
    survivors = torch.cat(every) if every else torch.zeros(0, dtype=torch.bool)
    if not survivors.any():
        raise AnalysisError("no parameter survives; there is nothing to analyse")
    return survivors
