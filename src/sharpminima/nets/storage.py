"""What a pruned net takes when it is stored as what it is.

That is the smaller net without dead units, and of each of its tensors the survivors, and the shortest index of their
places.

A tensor of which whole kernels are left needs a bit a kernel; one whose filters all read the same positions a bit a
position; one with a weight a kernel, shifts and a product, the number of the place in the kernel; any other a bit a
weight, or the number of each survivor. Survivors are stored as they are, without entropy coding.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sharpminima.nets.compaction import NotCompactable, compact
from sharpminima.nets.compaction.build import Selected
from sharpminima.nets.masks import Masks, checked_masks, pack_bits, unpack_bits


@dataclass(frozen=True)
class PackedMask:
    """A mask in the form that takes the fewest bytes."""

    form: str  # a name in `FORMS`
    shape: torch.Size
    index: Tensor  # uint8 [bytes]


def packed_mask(mask: Tensor) -> PackedMask:
    """The shortest index of a mask.

    Args:
        mask: bool, of any shape; kernels and positions are those of [filters, channels, height, width].

    >>> kernels = torch.tensor([True, False, False]).view(3, 1, 1, 1).expand(3, 4, 5, 5)
    >>> packed_mask(kernels).form, len(packed_mask(kernels).index)  # 12 bits
    ('kernels', 2)
    >>> packed_mask(torch.ones(2, 3, dtype=torch.bool)).form
    'dense'
    """
    mask = mask.cpu()
    fitting = [
        PackedMask(name, mask.shape, pack_bits(bits))
        for name, (encode, _) in FORMS.items()
        if (bits := encode(mask)) is not None
    ]
    return min(fitting, key=lambda packed: len(packed.index))


def unpacked_mask(packed: PackedMask) -> Tensor:
    """The mask (bool, CPU).

    >>> mask = torch.tensor([[True, False, False]])
    >>> bool((unpacked_mask(packed_mask(mask)) == mask).all())
    True
    """
    _, decode = FORMS[packed.form]
    return decode(unpack_bits(packed.index, 8 * len(packed.index)), packed.shape)


def _dense(mask: Tensor) -> Tensor | None:
    return torch.zeros(0, dtype=torch.bool) if mask.all() else None


def _from_dense(bits: Tensor, shape: torch.Size) -> Tensor:
    return torch.ones(shape, dtype=torch.bool)


def _kernels(mask: Tensor) -> Tensor | None:
    if mask.ndim != 4:
        return None
    kernels = mask[:, :, 0, 0]
    return kernels.flatten() if torch.equal(mask, kernels[..., None, None].expand_as(mask)) else None


def _from_kernels(bits: Tensor, shape: torch.Size) -> Tensor:
    return bits[: shape[:2].numel()].view(*shape[:2], 1, 1).expand(shape).clone()


def _positions(mask: Tensor) -> Tensor | None:
    return mask[0].flatten() if mask.ndim > 1 and torch.equal(mask, mask[:1].expand_as(mask)) else None


def _from_positions(bits: Tensor, shape: torch.Size) -> Tensor:
    return bits[: shape[1:].numel()].view(1, *shape[1:]).expand(shape).clone()


def _width(codes: int) -> int:
    """Bits of a number that is one of so many."""
    return max(0, codes - 1).bit_length()


def _shifts(mask: Tensor) -> Tensor | None:
    """The place of each kernel's only weight; the number of places where it has none."""
    if mask.ndim != 4:
        return None
    kernels = mask.flatten(2).flatten(0, 1)
    if (kernels.sum(1) > 1).any():
        return None
    size = kernels.shape[1]
    codes = torch.where(kernels.any(1), kernels.byte().argmax(1), size)
    return _bits(codes, _width(size + 1))


def _from_shifts(bits: Tensor, shape: torch.Size) -> Tensor:
    size = shape[2:].numel()
    codes = _codes(bits, _width(size + 1), shape[:2].numel())
    return (codes[:, None] == torch.arange(size)).view(shape)


def _weights(mask: Tensor) -> Tensor:
    return mask.flatten()


def _from_weights(bits: Tensor, shape: torch.Size) -> Tensor:
    return bits[: shape.numel()].view(shape)


def _numbers(mask: Tensor) -> Tensor | None:
    """How many survive, in 64 bits, and where each is; None where a bit a weight is shorter."""
    width = _width(mask.numel())
    if 64 + int(mask.sum()) * width >= mask.numel():
        return None
    places = mask.flatten().nonzero().flatten()
    return torch.cat([_bits(torch.tensor([len(places)]), 64), _bits(places, width)])


def _from_numbers(bits: Tensor, shape: torch.Size) -> Tensor:
    mask = torch.zeros(shape.numel(), dtype=torch.bool)
    mask[_codes(bits[64:], _width(shape.numel()), int(_codes(bits, 64, 1)))] = True
    return mask.view(shape)


def _bits(codes: Tensor, width: int) -> Tensor:
    """Numbers as bits [numbers * width], the lowest first."""
    return ((codes[:, None] >> torch.arange(width)) & 1).bool().flatten()


def _codes(bits: Tensor, width: int, count: int) -> Tensor:
    """The numbers of `_bits`: int64 [count]."""
    return (bits[: count * width].view(count, width).long() << torch.arange(width)).sum(1)


FORMS: Mapping[str, tuple[Callable[[Tensor], Tensor | None], Callable[[Tensor, torch.Size], Tensor]]] = {
    "dense": (_dense, _from_dense),
    "kernels": (_kernels, _from_kernels),
    "positions": (_positions, _from_positions),
    "shifts": (_shifts, _from_shifts),
    "weights": (_weights, _from_weights),
    "numbers": (_numbers, _from_numbers),
}
"""Name -> (mask to bits, or None where it has not that form; bits and a shape to the mask)."""


def stored_bytes(model: nn.Module, masks: Masks | None = None) -> int:
    """Bytes that a net takes: parameters and statistics of BatchNorm that survive, and where they belong.

    Of a net that `sharpminima.nets.compaction.compact` cannot make smaller, the tensors of the whole.

    Args:
        masks: parameter name -> bool, True where it survives; a parameter that is not named survives.

    Raises:
        AnalysisError: a mask does not fit.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> stored_bytes(net), stored_bytes(net, {"1.weight": torch.tensor([[True] * 3 + [False]] * 2)})
    (40, 33)
    """
    whole = dict(model.named_parameters())
    kept = {name: mask.cpu() for name, mask in checked_masks(masks or {}, whole).items()}
    net: nn.Module = model
    places = {name: (name, torch.arange(p.numel()).view(p.shape)) for name, p in whole.items()}
    try:
        small = compact(model, kept)
    except NotCompactable:
        pass
    else:
        net, places = small.model, small.parameters
    size = 0
    for tensor in (*net.parameters(), *net.buffers()):
        size += tensor.numel() * tensor.element_size() if tensor.is_floating_point() else 0
    for name, at in places.values():
        if name in kept:
            mask = kept[name].flatten()[at]
            size += len(packed_mask(mask).index) - int((~mask).sum()) * whole[name].element_size()
    for name, module in net.named_modules():
        if isinstance(module, Selected):  # which pixels it reads
            read = torch.zeros(whole[f"{name}.weight"].shape[1], dtype=torch.bool)
            read[module.inputs.cpu()] = True
            size += len(packed_mask(read).index)
    return size
