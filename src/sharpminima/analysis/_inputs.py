"""What every analysis asks of its model, images, labels, masks and numbers."""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from sharpminima.base.errors import AnalysisError, SharpminimaError
from sharpminima.nets.activations import Activations, check_activations
from sharpminima.nets.kinds import check_kind
from sharpminima.nets.masks import checked_masks
from sharpminima.nets.modes import eval_mode, measuring, ordinary, reason_of, same_buffers
from sharpminima.nets.preactivations import check_functions, rows_of, watch_preactivations

FEW = 4  # images that show what a model does with any
_T = TypeVar("_T")
_TRIALS = 3  # of whether a model draws random numbers: another thread may draw them, but does not every time


def given(**values: Any) -> dict[str, Any]:
    """Those of the named values that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def check_images(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Check that images are float [N, C, H, W] and labels int64 [N], N at least 1.

    Returns:
        Both, without a graph; also of what was made in inference mode.

    Raises:
        AnalysisError: they are not.
    """
    check_valued(images=images, labels=labels)
    if images.dim() != 4:
        raise AnalysisError(f"images have shape {list(images.shape)}; give [N, C, H, W]")
    if not images.is_floating_point():
        raise AnalysisError(f"images are {images.dtype}; normalise them to floating point first")
    return check_labelled(images, labels)


def check_tensor(what: str, value: Any) -> None:
    """Check that a value is a tensor.

    Raises:
        AnalysisError: it is not; ``what``, in the singular, names it.
    """
    if not isinstance(value, Tensor):
        raise AnalysisError(f"{what} is a {type(value).__name__}; give a tensor (torch.as_tensor makes one)")


def check_valued(**tensors: Any) -> None:
    """Check that each of the named values is a tensor, and not on the meta device.

    Raises:
        AnalysisError: one is not; it is named.
    """
    for what, value in tensors.items():
        if not isinstance(value, Tensor):
            raise AnalysisError(f"the {what} are a {type(value).__name__}; give a tensor (torch.as_tensor makes one)")
        if value.is_meta:
            raise AnalysisError(f"the {what} are on the meta device, where they have no values; give them on another")


def check_labelled(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Check that there is an int64 label, [N], to each of N images, which may be inputs of any shape.

    Returns:
        Both, without a graph; also of what was made in inference mode.

    Raises:
        AnalysisError: there is not, or there are no images.
    """
    check_valued(images=images, labels=labels)
    if labels.dim() != 1 or labels.dtype != torch.int64:
        raise AnalysisError(f"labels are {labels.dtype} {list(labels.shape)}; give int64 class numbers [N]")
    count = len(images) if images.dim() else 0
    if count != len(labels):
        raise AnalysisError(f"there are {count} images but {len(labels)} labels; give one label an image")
    if count == 0:
        raise AnalysisError("there are no images; give at least one")
    if images.device != labels.device:
        raise AnalysisError(f"images are on {images.device}, labels on {labels.device}; give both on one device")
    return ordinary(images), ordinary(labels)


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
    return bool((first - second).abs().max() <= rounding_of(first) * first.abs().max())


def agree_closely(first: Tensor, second: Tensor) -> bool:
    """Whether two results of the same code, weights and data are the same up to rounding; NaN and infinity are."""
    share = torch.finfo(first.dtype).eps ** (2 / 3)  # kernels of another layout in memory may round otherwise
    if first.is_cuda:
        share = max(share, 1e-2)  # as `rounding_of`
    if first.shape != second.shape:
        return False
    both = first.isfinite() & second.isfinite()
    first, second = first[both], second[both]
    return not len(first) or bool((first - second).abs().max() <= share * first.abs().max())


def rounding_of(*results: Tensor) -> float:
    """The relative difference of two results of one computation that is rounding; of several, that of the coarsest."""
    share = math.sqrt(max(torch.finfo(result.dtype).eps for result in results))
    # Kernels may take TF32, and others for other batches.
    return max(share, 1e-2) if any(result.is_cuda for result in results) else share


def check_model(model: nn.Module, images: Tensor, activations: Activations | None = None) -> int:
    """Check that ``model`` is a function of one image at a time; the number of its classes.

    From passes over few images in eval mode: twice, and a part of them alone.

    Args:
        activations: whose inputs are checked too, as for `capture_preactivations`; None: none.

    Raises:
        AnalysisError: as `check_kind`; the model cannot take such images or changes them in place, its output is not
            [N, classes], it draws random numbers or changes its weights, or an image's output depends on the others of
            its batch; the rows of pre-activations are not those of the images, in their order.
    """
    check_kind(model)
    if activations is not None:
        check_activations(activations)
    few = images[:FEW]
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.device != images.device:
            raise AnalysisError(f"images are on {images.device}, the model on {tensor.device}; move one of them")
    with trying(model):
        (logits,) = check_repeatable(lambda: (_of_copies(model, few),), images.device)
        part = len(few) // 2
        if part and not agree(logits[:part], logits_of(model, few[:part])):
            raise AnalysisError(
                "an image's output depends on the other images of its batch, also in eval mode, so what is measured "
                "would depend on the batch size; let BatchNorm keep running statistics (track_running_stats=True), and "
                "attention take the batch first (batch_first=True)"
            )
        if activations is not None:
            check_rows(model, few, activations)
    return logits.shape[1]


@measuring(gradients=False)
def check_rows(model: nn.Module, images: Tensor, activations: Activations) -> None:
    """Check that each pre-activation has a row an image, in their order, from passes over few of them in eval mode.

    Raises:
        AnalysisError: one has not, or none runs.
    """
    check_functions(model)
    few = images[:FEW]
    part, alone = len(few) // 2, dict[str, Tensor]()

    def check(name: str, z: Tensor) -> None:
        cure = "[images, neurons] are needed, in the order of the images (batch_first=True)"
        z = rows_of(z)
        if len(z) != count:
            raise AnalysisError(f"the ReLU {name} ran on {list(z.shape)} values in a batch of {count} images; {cure}")
        if count == part:
            alone[name] = z.clone()
            return
        known = alone.get(name, z[:part])
        if known.numel() and not (z.shape[1] == known.shape[1] and agree(known, z[:part])):
            raise AnalysisError(f"an image's values in the ReLU {name} depend on the others of its batch; {cure}")

    with eval_mode(model), watch_preactivations(model, check, activations):
        for count in sorted({part, len(few)} - {0}):
            logits_of(model, few[:count])


def _of_copies(model: nn.Module, few: Tensor) -> Tensor:
    """Logits of images that a model must leave as they are."""
    images = few.clone()
    logits = logits_of(model, images)
    check_unchanged([few], [images])
    return logits


def check_repeatable(
    compute: Callable[[], tuple[Tensor, ...]], device: torch.device, what: str = "the model"
) -> tuple[Tensor, ...]:
    """Check that a model gives the same twice, and draws no random numbers; what it gives.

    Raises:
        AnalysisError: it does not.
    """
    for _ in range(_TRIALS):
        before = _random_state(device)
        outputs = compute()
        drawn = not torch.equal(before, _random_state(device))
        same = all(agree(first, second) for first, second in zip(outputs, compute(), strict=True))
        if same and not drawn:
            return outputs
        if not same:
            break
    raise AnalysisError(
        f"{what} {'draws random numbers' if drawn else 'gives other outputs for the same images'} in eval "
        "mode, so what is measured would be chance; let dropout and noise depend on self.training"
    )


def check_unchanged(before: Sequence[Tensor], after: Sequence[Tensor], what: str = "the model") -> None:
    """Check that copies of a model's inputs are what they were before it ran.

    Raises:
        AnalysisError: they are not.
    """
    for kept, used in zip(before, after, strict=True):
        if kept.shape != used.shape or ((kept != used) & ((kept == kept) | (used == used))).any():  # NaN is the same
            raise AnalysisError(
                f"{what} changes its images in place, so the measure would see other images in the next pass; let it "
                "compute in a copy, as x * 0.5 in place of x.mul_(0.5), or begin with x.clone()"
            )


@contextlib.contextmanager
def trying(model: nn.Module) -> Iterator[None]:
    """A model in eval mode, for passes without gradients that show what it does; it stays as it is.

    Raises:
        AnalysisError: as `same_weights`.
    """
    # Weights are those of one mode, and without what torch scales in each pass.
    with measuring(gradients=False), eval_mode(model), same_weights(model), same_buffers(model):
        yield


@contextlib.contextmanager
def same_weights(model: nn.Module) -> Iterator[None]:
    """Check that a model has the weights afterwards that it has now; else they are put back.

    Raises:
        AnalysisError: it has others.
    """
    dense = {name: weight for name, weight in model.named_parameters() if weight.layout == torch.strided}
    held = {name: weight.detach().clone() for name, weight in dense.items()}
    changed = []
    try:
        yield
    finally:
        for name, values in held.items():
            weight = dense[name].detach()
            if not ((weight == values) | ((weight != weight) & (values != values))).all():  # NaN is the same
                weight.copy_(values)
                changed.append(name)
    if changed:
        raise AnalysisError(
            f"the model changes its weights when it is run ({', '.join(changed[:4])}), so each pass would measure "
            "another net; let it compute with changed ones and keep its own (torch.nn.utils.parametrize)"
        )


def _random_state(device: torch.device) -> Tensor:
    own = torch.get_rng_state()
    return torch.cat([own, torch.cuda.get_rng_state(device)]) if device.type == "cuda" else own


def count_labels(labels: Tensor, classes: int) -> Tensor:
    """Samples of each class, int64 [classes].

    Raises:
        AnalysisError: a label is outside 0 ... classes - 1, or there is none.
    """
    if labels.numel() == 0:
        raise AnalysisError("a batch has no samples; leave it out")
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest >= classes:
        raise AnalysisError(f"labels run from {lowest} to {highest}, but the model has the classes 0 to {classes - 1}")
    return torch.bincount(labels, minlength=classes)


@torch.no_grad()
def check_finite_weights(model: nn.Module, role: str = "the model") -> None:
    """Check that parameters are dense and real, so that there are derivatives, and hold no NaN or infinity.

    Raises:
        AnalysisError: one is not, or does; it is named.
    """
    for name, parameter in model.named_parameters():
        fault = None
        if parameter.layout != torch.strided:
            fault = f"sparse ({parameter.layout}); hold it dense (.to_dense()), and give masks of what is removed"
        elif parameter.is_complex():
            fault = f"{parameter.dtype}; hold its real and imaginary parts (torch.view_as_real)"
        elif not parameter.is_floating_point():
            fault = f"{parameter.dtype}, which has no derivatives; hold it as a buffer (register_buffer)"
        if fault is not None:
            raise AnalysisError(f"parameter {name} of {role} is {fault}")
        if not parameter.isfinite().all():
            raise AnalysisError(f"parameter {name} of {role} holds NaN or infinity; the training diverged")


def surviving(model: nn.Module, masks: Mapping[str, Tensor] | None) -> Tensor:
    """Which of the model's P parameters survive: bool [P], flattened in the order of ``named_parameters``.

    Args:
        masks: parameter name -> tensor of 0 (removed) and 1 (kept), of the parameter's shape; a parameter
            without a mask survives whole.

    Raises:
        AnalysisError: the model has no parameters; a mask has none, another shape or other values; or nothing survives.
    """
    parameters = dict(model.named_parameters())
    kept = checked_masks({} if masks is None else masks, parameters)
    every = [kept.get(name, torch.ones_like(p, dtype=torch.bool)).flatten() for name, p in parameters.items()]
    if not every:
        raise AnalysisError("the model has no parameters; give one that has weights")
    survivors = torch.cat(every)
    if not survivors.any():
        raise AnalysisError("no parameter survives; there is nothing to analyse")
    return survivors
