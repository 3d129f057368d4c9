"""Masks: one boolean tensor a prunable parameter, True where the parameter survives."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sharpminima.base.errors import AnalysisError

Masks = dict[str, Tensor]
"""Parameter name -> bool tensor of the parameter's shape; a parameter that is not named is never pruned.

Where survivors are counted, weights that are not named are among them (`completed`); biases and BatchNorm are not.
"""


def prunable_parameters(model: nn.Module, *, include_batchnorm: bool = False) -> list[str]:
    """Names of the parameters that pruning may remove, in the order of ``named_parameters``.

    Weights and biases of Linear and Conv2d, as in the public code of LOBSTER. That code lists BatchNorm2d
    too; there a shift that starts at 0 falls under the first threshold and is masked for ever, so
    ``include_batchnorm`` is off unless asked for.
    """
    kinds = (nn.Linear, nn.Conv2d, nn.BatchNorm2d) if include_batchnorm else (nn.Linear, nn.Conv2d)
    chosen = {
        f"{module_name}.{name}" if module_name else name
        for module_name, module in model.named_modules()
        if isinstance(module, kinds)
        for name, _ in module.named_parameters(recurse=False)
    }
    return [name for name, _ in model.named_parameters() if name in chosen]


def all_masks(model: nn.Module, *, biases: bool = False) -> Masks:
    """Masks of all that may be removed, nothing of which is."""
    parameters = dict(model.named_parameters())
    names = [name for name in prunable_parameters(model) if biases or parameters[name].ndim > 1]
    return {name: torch.ones(parameters[name].shape, dtype=torch.bool) for name in names}


def completed(masks: Masks, model: nn.Module) -> Masks:
    """The masks, and behind them those of the weights that they do not name, nothing of which is removed.

    >>> net = nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 1))
    >>> masks = completed({"0.weight": torch.tensor([[True, False]])}, net)
    >>> masks["1.weight"], count(masks)
    (tensor([[True]]), (2, 3))
    """
    return masks | {name: mask for name, mask in all_masks(model).items() if name not in masks}


def count(masks: Masks) -> tuple[int, int]:
    """(survivors, size) of ``masks``, parameters."""
    return sum(int(m.sum()) for m in masks.values()), sum(m.numel() for m in masks.values())


def sparsity(masks: Masks) -> float:
    """Share of the masked parameters that is removed, in [0, 1]."""
    survivors, size = count(masks)
    return 1.0 - survivors / size


def checked_masks(masks: Mapping[str, Tensor], tensors: Mapping[str, Tensor], of: str = "the model") -> Masks:
    """The masks as bool, on the device of what they mask.

    Args:
        masks: name -> tensor of 0 (removed; -0.0 is one) and 1 (kept) of any dtype.
        tensors: name -> what may be masked: a model's parameters, or a state dict.
        of: what these belong to, for the message.

    Raises:
        AnalysisError: a mask has nothing to mask, another shape or other values; it is named.

    >>> checked_masks({"weight": torch.tensor([0.0, 1.0])}, {"weight": torch.zeros(2)})
    {'weight': tensor([False,  True])}
    """
    if not isinstance(masks, Mapping):
        raise AnalysisError(f"the masks are a {type(masks).__name__}; give a dictionary, parameter name -> mask")
    unknown = sorted(str(name) for name in masks if name not in tensors)
    if unknown:
        raise AnalysisError(
            f"there are masks for {', '.join(unknown)}, which {of} does not have; leave them out (a parameter under "
            "several names has one mask, under the first)"
        )
    return {name: _checked(name, mask, tensors[name]) for name, mask in masks.items()}


def _checked(name: str, mask: Any, masked: Tensor) -> Tensor:
    if not isinstance(mask, Tensor):
        raise AnalysisError(
            f"the mask of {name} is a {type(mask).__name__}; give a tensor (torch.as_tensor makes one of an array), or "
            "leave out the name of what is kept whole"
        )
    if mask.shape != masked.shape:
        raise AnalysisError(
            f"the mask of {name} has shape {list(mask.shape)}, the parameter {list(masked.shape)}; give it the latter"
        )
    if mask.dtype != torch.bool and not ((mask == 0) | (mask == 1)).all():
        raise AnalysisError(
            f"the mask of {name} holds other values than 0 and 1; give 0 where a value is removed, and 1 where it stays"
        )
    return mask.detach().to(masked.device).bool()


@torch.no_grad()
def apply_masks(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Set the removed parameters of ``model`` to zero, in place.

    Raises:
        AnalysisError: as `checked_masks`.
    """
    parameters = dict(model.named_parameters())
    for name, mask in checked_masks(masks, parameters).items():
        parameters[name].mul_(mask)


def random_masks(masks: Masks, *, layerwise: bool, generator: torch.Generator) -> Masks:
    """Draw a random structure with exactly as many removed parameters as ``masks``.

    Args:
        masks: the structure whose count is matched.
        layerwise: match the count of every tensor by itself; otherwise only the total, survivors spread
            evenly over all tensors (the reading of "random structures of the same sparsity" used by default).
        generator: a CPU generator; the draw uses nothing else.
    """
    if layerwise:
        return {
            name: _random_mask(mask.numel(), int(mask.sum()), generator).view(mask.shape)
            for name, mask in masks.items()
        }
    survivors, size = count(masks)
    flat = _random_mask(size, survivors, generator).split([m.numel() for m in masks.values()])
    return {name: part.view(mask.shape) for (name, mask), part in zip(masks.items(), flat, strict=True)}


def _random_mask(size: int, survivors: int, generator: torch.Generator) -> Tensor:
    mask = torch.zeros(size, dtype=torch.bool)
    mask[torch.randperm(size, generator=generator)[:survivors]] = True
    return mask


def pack_bits(mask: Tensor) -> Tensor:
    """Bool [n] to uint8 [ceil(n / 8)], first element in the lowest bit."""
    padded = torch.zeros(-(-mask.numel() // 8) * 8, dtype=torch.uint8)
    padded[: mask.numel()] = mask.flatten().bool()
    weights = torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8)
    return (padded.view(-1, 8) * weights).sum(dim=1, dtype=torch.uint8)


def unpack_bits(packed: Tensor, size: int) -> Tensor:
    """The inverse of `pack_bits`: uint8 [ceil(size / 8)] to bool [size]."""
    shifts = torch.arange(8, dtype=torch.uint8)
    return ((packed[:, None] >> shifts) & 1).flatten()[:size].bool()
