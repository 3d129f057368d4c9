"""All parameters of a model as one vector, and plain SGD on it."""

import torch
from torch import Tensor, nn

from sharpminima.masks import Masks

_ALIGNMENT = 16  # elements: every parameter starts on a 64-byte boundary, as if allocated by itself


class FlatModel:
    """A model whose parameters and gradients are views of two vectors, so that an update is a few operations.

    Small nets spend their time in the overhead of an operation a parameter; one vector has it once. The vectors
    have gaps (always zero) that keep each parameter aligned.

    Attributes:
        values: all parameters [P].
        gradients: all gradients [P]; ``backward`` adds into them.
        mask: 1.0 where a parameter survives, else 0.0 [P]; None for a dense net.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._slices: dict[str, tuple[int, torch.Size]] = {}
        size = 0
        for name, parameter in model.named_parameters():
            self._slices[name] = (size, parameter.shape)
            size += -(-parameter.numel() // _ALIGNMENT) * _ALIGNMENT
        first = next(model.parameters())
        self.values = torch.zeros(size, dtype=first.dtype, device=first.device)
        self.gradients = torch.zeros_like(self.values)
        self.mask: Tensor | None = None
        for name, parameter in model.named_parameters():
            view = self.view(self.values, name)
            view.copy_(parameter.data)
            parameter.data = view
            parameter.grad = self.view(self.gradients, name)

    @property
    def sparsity(self) -> float:
        """Share of all parameters that the mask removes."""
        if self.mask is None:
            return 0.0
        parameters = sum(shape.numel() for _, shape in self._slices.values())
        return 1.0 - int(self.mask.count_nonzero()) / parameters

    def view(self, vector: Tensor, name: str) -> Tensor:
        """The part of a vector [P] that belongs to parameter ``name``, in the parameter's shape.

        Convolution kernels lie channels last, the order in which the CPU and CUDA libraries are fastest.
        """
        start, shape = self._slices[name]
        part = vector[start : start + shape.numel()]
        if len(shape) == 4:
            filters, channels, height, width = shape
            return part.view(filters, height, width, channels).permute(0, 3, 1, 2)
        return part.view(shape)

    def indicator(self, names: list[str]) -> Tensor:
        """1.0 at the parameters ``names``, else 0.0 [P]."""
        vector = torch.zeros_like(self.values)
        for name in names:
            self.view(vector, name).fill_(1.0)
        return vector

    def set_masks(self, masks: Masks) -> None:
        """Remove what ``masks`` do not keep: zero now, and zero gradients from here on."""
        mask = self.indicator(list(self._slices))
        for name, keep in masks.items():
            self.view(mask, name).copy_(keep)
        self.mask = mask
        self.values.mul_(mask)

    def snapshot(self) -> dict[str, Tensor]:
        """A copy of the parameters and of the model's buffers."""
        copy = {"values": self.values.clone()}
        copy.update({f"buffer:{name}": b.clone() for name, b in self.model.named_buffers()})
        return copy

    def restore(self, snapshot: dict[str, Tensor]) -> None:
        """Put a `snapshot` back."""
        self.values.copy_(snapshot["values"])
        for name, buffer in self.model.named_buffers():
            buffer.copy_(snapshot[f"buffer:{name}"])

    def state_dict(self, snapshot: dict[str, Tensor]) -> dict[str, Tensor]:
        """A `snapshot` as a state dict of the model, on the CPU."""
        state = {}
        for name, tensor in self.model.state_dict().items():
            stored = self.view(snapshot["values"], name) if name in self._slices else snapshot[f"buffer:{name}"]
            state[name] = stored.detach().to("cpu", copy=True).contiguous().view(tensor.shape)
        return state


class Sgd:
    """SGD with momentum and weight decay, the same arithmetic as ``torch.optim.SGD``, on a `FlatModel`.

    Removed parameters have their gradient masked first, so weights, gradients and momentum all stay zero there.
    """

    def __init__(self, flat: FlatModel, *, momentum: float = 0.0, weight_decay: float = 0.0) -> None:
        self._flat = flat
        self._momentum = momentum
        self._weight_decay = weight_decay
        self.buffer = torch.zeros_like(flat.values) if momentum else None

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """One update at learning rate ``lr``."""
        flat, update = self._flat, self._flat.gradients
        if flat.mask is not None:
            update.mul_(flat.mask)
        if self._weight_decay:
            update = update.add(flat.values, alpha=self._weight_decay)
        if self.buffer is not None:
            update = self.buffer.mul_(self._momentum).add_(update)
            if flat.mask is not None:
                # A mask set since the last step must not leave momentum that would revive a weight.
                update.mul_(flat.mask)
        flat.values.add_(update, alpha=-lr)
