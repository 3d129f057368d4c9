"""All parameters of a model as one vector, and the net that stands for them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sharpminima.nets.compaction import Compacted, compact, reordered
from sharpminima.nets.evaluation import Evaluation, evaluate
from sharpminima.nets.fused import fused
from sharpminima.nets.masks import Masks
from sharpminima.runtime.precision import is_bfloat16, passes

_WORTH = 0.8  # a compacted net with more of the parameters than this costs more in traffic than it saves
_SPARSE = (nn.Conv2d, nn.Linear)  # layers that compute with their survivors only, where they are few
_ALIGNMENT = 16  # elements: every parameter starts on a 64-byte boundary, as if allocated by itself


class FlatModel:
    """A model whose parameters and gradients are views of two vectors, so that an update is a few operations.

    Small nets spend their time in the overhead of an operation a parameter; one vector has it once. The vectors
    have gaps (always zero) that keep each parameter aligned.

    With ``compaction``, forward and backward passes run through the smaller net without the dead units of the mask
    (`sharpminima.nets.compaction`); the vectors stay those of the whole net.

    `sharpminima.training.replicas.FlatReplicas` is the same with a leading axis R on every vector and buffer.

    Attributes:
        values: all parameters [P]. After changing them, `push` before the next forward pass.
        gradients: all gradients [P], of the last `backward`; zero where the mask removes.
        mask: 1.0 where a parameter survives, else 0.0 [P]; None for a dense net.
        unmasked: with ``dense_gradients``, the gradients [P] of the last `backward`, those of removed parameters too.
    """

    values: Tensor
    gradients: Tensor
    mask: Tensor | None
    unmasked: Tensor | None
    _small: "_Small | None"
    _net: nn.Module

    def __init__(self, model: nn.Module, *, compaction: bool = False, dense_gradients: bool = False) -> None:
        self._lay_out(model, (), compaction and not dense_gradients)
        if is_bfloat16() and self.values.device.type == "cpu":
            self._net = fused(self._net)
        if dense_gradients:
            self.unmasked = torch.zeros_like(self.values)
        for name, parameter in model.named_parameters():
            view = self.view(self.values, name)
            view.copy_(parameter.data)
            parameter.data = view
            parameter.grad = self.view(self.gradients, name)

    def _lay_out(self, model: nn.Module, replicas: tuple[int, ...], compaction: bool) -> None:
        self._model = model
        self._net = reordered(model) if compaction else model  # the same modules and parameters
        self._compaction = compaction
        self._slices: dict[str, tuple[int, torch.Size]] = {}
        size = 0
        for name, parameter in model.named_parameters():
            self._slices[name] = (size, parameter.shape)
            size += -(-parameter.numel() // _ALIGNMENT) * _ALIGNMENT
        first = next(model.parameters())
        self.values = torch.zeros(*replicas, size, dtype=first.dtype, device=first.device)
        self.gradients = torch.zeros_like(self.values)
        self.mask = None
        self.unmasked = None
        self._small = None

    @property
    def model(self) -> nn.Module:
        """The whole net, parameters and buffers as they are now."""
        if self._small is not None:
            self._small.pull_buffers()
        return self._model

    @property
    def network(self) -> nn.Module:
        """The net to run: the compacted one where there is one."""
        return self._net if self._small is None else self._small.flat.network

    @property
    def sparsity(self) -> float:
        """Share of all parameters that the mask removes."""
        return self.sparsity_of(self.mask)

    def sparsity_of(self, mask: Tensor | None) -> float:
        """`sparsity` of one net with a mask [P]."""
        return 0.0 if mask is None else 1.0 - int(mask.count_nonzero()) / self._parameter_count

    @property
    def _parameter_count(self) -> int:
        return sum(shape.numel() for _, shape in self._slices.values())

    @property
    def buffers(self) -> dict[str, Tensor]:
        """The buffers of the whole net as they are now, to change in place."""
        return dict(self.model.named_buffers())

    def adopt_buffer(self, name: str, buffer: Tensor) -> None:
        """Use ``buffer`` itself as the buffer ``name``."""
        module, _, kind = name.rpartition(".")
        self._model.get_submodule(module).register_buffer(kind, buffer)

    def _compacted(self, model: nn.Module, mask: Tensor) -> Compacted:
        """The net without what the mask [..., P] leaves dead."""
        return compact(model, {name: self.view(mask, name) > 0 for name in self._slices}, sparse=_SPARSE)

    def like(self, model: nn.Module) -> "FlatModel":
        """A model of the same kind for the compacted net ``model``."""
        return FlatModel(model)

    @property
    def replicas(self) -> "Sequence[FlatModel]":
        """The nets one by one: this one."""
        return [self]

    def joined(self, each: Sequence[Tensor]) -> Tensor:
        """What there is one of for each of `replicas`, as one tensor: here the only one."""
        (one,) = each
        return one

    def joined_rates(self, each: Sequence[float]) -> float | Tensor:
        """The learning rates of `replicas` as `Optimiser.step` takes them."""
        (one,) = each
        return one

    def keep(self, places: list[int]) -> None:
        """Go on with the replicas at ``places`` of the present ones: one net stays as it is."""

    def view(self, vector: Tensor, name: str) -> Tensor:
        """The part of a vector [..., P] that belongs to parameter ``name``, in the parameter's shape.

        Convolution kernels lie channels last, the order in which the CPU and CUDA libraries are fastest.
        """
        start, shape = self._slices[name]
        part, leading = vector[..., start : start + shape.numel()], vector.shape[:-1]
        if len(shape) == 4:
            filters, channels, height, width = shape
            return part.view(*leading, filters, height, width, channels).movedim(-1, -3)
        return part.view(*leading, *shape)

    def spans(self, names: Sequence[str] | None) -> list[slice]:
        """Where the parameters ``names`` lie in a vector [..., P], neighbours as one; None: the whole vector."""
        if names is None:
            return [slice(0, self.values.shape[-1])]
        edges = [start for start, _ in self._slices.values()] + [self.values.shape[-1]]
        spans: list[slice] = []
        for start, stop, name in zip(edges, edges[1:], self._slices, strict=False):
            if name in names:
                first = spans.pop().start if spans and spans[-1].stop == start else start
                spans.append(slice(first, stop))
        return spans

    def indicator(self, names: list[str]) -> Tensor:
        """1.0 at the parameters ``names``, else 0.0 [P]."""
        vector = torch.zeros_like(self.values)
        for name in names:
            self.view(vector, name).fill_(1.0)
        return vector

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy [] of images [N, C, H, W] with labels [N]."""
        with passes(images.device):
            logits = self.network(images)
        return F.cross_entropy(logits.to(self.values.dtype), labels)

    def backward(self, loss: Tensor) -> None:
        """Set `gradients` to those of ``loss``, which `network` has computed."""
        if self._small is not None:
            self._small.backward(loss)
            return
        self._differentiate(loss)
        if self.unmasked is not None:
            self.unmasked.copy_(self.gradients)
        if self.mask is not None:
            self.gradients.mul_(self.mask)

    def _differentiate(self, loss: Tensor) -> None:
        self.gradients.zero_()
        loss.backward()

    def push(self) -> None:
        """Give `network` the parameters as they are now."""
        if self._small is not None:
            self._small.push()

    def evaluate(self, images: Tensor, labels: Tensor) -> Evaluation:
        """`evaluate` of the net as it is now."""
        self.push()
        return evaluate(self.network, images, labels)

    def evaluate_each(self, images: Tensor, labels: Tensor) -> list[Evaluation]:
        """`evaluate` of each of `replicas`."""
        return [self.evaluate(images, labels)]

    def set_masks(self, masks: Masks) -> None:
        """Remove what ``masks`` do not keep: zero now, and zero gradients from here on."""
        mask = self.indicator(list(self._slices))
        for name, keep in masks.items():
            self.view(mask, name).copy_(keep)
        self.set_mask_vector(mask)

    @torch.no_grad()
    def set_mask_vector(self, mask: Tensor) -> None:
        """As `set_masks`, from the vector that `mask` was [P]."""
        model = self.model  # before the net that knows the latest buffers goes
        self.mask = mask.to(self.values.device)
        self.values.mul_(self.mask)
        if self._compaction:
            self._small = None
            compacted = self._compacted(model, self.mask)
            if compacted.parameter_count <= _WORTH * self._parameter_count:
                self._small = _Small(self, compacted)

    def snapshot(self) -> dict[str, Tensor]:
        """A copy of the parameters and of the model's buffers."""
        copy = {"values": self.values.clone()}
        copy.update({f"buffer:{name}": buffer.clone() for name, buffer in self.buffers.items()})
        return copy

    @torch.no_grad()
    def restore(self, snapshot: dict[str, Tensor]) -> None:
        """Put a `snapshot` back."""
        self.values.copy_(snapshot["values"])
        for name, buffer in self.buffers.items():
            buffer.copy_(snapshot[f"buffer:{name}"])
        if self._small is not None:
            self._small.push_buffers()
        self.push()

    def state_dict(self, snapshot: dict[str, Tensor]) -> dict[str, Tensor]:
        """A `snapshot` of one net as a state dict of the model, on the CPU."""
        state = {}
        for name, tensor in self._model.state_dict().items():
            stored = self.view(snapshot["values"], name) if name in self._slices else snapshot[f"buffer:{name}"]
            state[name] = stored.detach().to("cpu", copy=True).contiguous().view(tensor.shape)
        return state


class _Small:
    """The compacted net of a `FlatModel`'s mask, and the traffic between the two."""

    def __init__(self, whole: FlatModel, compacted: Compacted) -> None:
        assert whole.mask is not None
        self._whole = whole
        self.flat = whole.like(compacted.model)
        # Only survivors travel: what else the small net holds is zero in both, and stays so.
        device = whole.values.device
        survives = (whole.mask.view(-1, whole.mask.shape[-1]) > 0).any(0)  # in one of the replicas
        positions = torch.full(self.flat.values.shape[-1:], -1, device=device)
        everywhere = torch.where(survives, torch.arange(len(survives), device=device), -1)
        for name, (full_name, places) in compacted.parameters.items():
            self.flat.view(positions, name).copy_(whole.view(everywhere, full_name).reshape(-1)[places.to(device)])
        self._here = (positions >= 0).nonzero().flatten()
        self._there = positions[self._here]
        full_buffers, small_buffers = whole.buffers, self.flat.buffers
        self._buffers = [
            (small_buffers[name], full_buffers[full_name], rows.to(device))
            for name, (full_name, rows) in compacted.buffers.items()
        ]
        # What has no channels (BatchNorm counts its batches) is one tensor for both.
        for name, buffer in small_buffers.items():
            if name not in compacted.buffers and name in full_buffers:
                self.flat.adopt_buffer(name, full_buffers[name])
                assert buffer.shape == full_buffers[name].shape
        whole.gradients.zero_()  # those of dead units stay so
        self.push_buffers()
        self.push()

    def backward(self, loss: Tensor) -> None:
        self.flat.backward(loss)
        self._whole.gradients.index_copy_(-1, self._there, self.flat.gradients.index_select(-1, self._here))

    @torch.no_grad()
    def push(self) -> None:
        self.flat.values.index_copy_(-1, self._here, self._whole.values.index_select(-1, self._there))

    def pull_buffers(self) -> None:
        for small, full, rows in self._buffers:
            full[..., rows] = small

    def push_buffers(self) -> None:
        for small, full, rows in self._buffers:
            small.copy_(full[..., rows])
