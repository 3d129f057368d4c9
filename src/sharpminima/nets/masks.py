"""Masks: one boolean tensor a prunable parameter, True where the parameter survives."""

import torch
from torch import Tensor, nn

Masks = dict[str, Tensor]
"""Parameter name -> bool tensor of the parameter's shape; a parameter that is not named is never pruned."""


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


def count(masks: Masks) -> tuple[int, int]:
    """(survivors, size) of ``masks``, parameters."""
    return sum(int(m.sum()) for m in masks.values()), sum(m.numel() for m in masks.values())


def sparsity(masks: Masks) -> float:
    """Share of the masked parameters that is removed, in [0, 1]."""
    survivors, size = count(masks)
    return 1.0 - survivors / size


@torch.no_grad()
def apply_masks(model: nn.Module, masks: Masks) -> None:
    """Set the removed parameters of ``model`` to zero, in place."""
    parameters = dict(model.named_parameters())
    for name, mask in masks.items():
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
    padded[: mask.numel()] = mask.flatten()
    weights = torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8)
    return (padded.view(-1, 8) * weights).sum(dim=1, dtype=torch.uint8)


def unpack_bits(packed: Tensor, size: int) -> Tensor:
    """The inverse of `pack_bits`: uint8 [ceil(size / 8)] to bool [size]."""
    shifts = torch.arange(8, dtype=torch.uint8)
    return ((packed[:, None] >> shifts) & 1).flatten()[:size].bool()
