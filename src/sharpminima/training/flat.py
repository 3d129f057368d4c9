"""All parameters of a model as one vector, and the net that stands for them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from sharpminima.catalogue.recipes import PspEntropySettings
from sharpminima.nets.compaction import (
    Compacted,
    NotCompactable,
    PooledReLU,
    compact,
    pooled_first,
    traced,
    traced_alike,
    with_pooled_relus,
)
from sharpminima.nets.evaluation import Evaluation, evaluate
from sharpminima.nets.fused import fused
from sharpminima.nets.masks import Masks
from sharpminima.nets.modes import eval_mode
from sharpminima.nets.preactivations import watch_modules, watch_preactivations
from sharpminima.runtime.precision import is_bfloat16, passes
from sharpminima.training.soft_entropy import SoftEntropy

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
        entropy: after `regularise`, the PSP-entropy that is a part of `objective`, with its running estimates.
    """

    values: Tensor
    gradients: Tensor
    mask: Tensor | None
    unmasked: Tensor | None
    entropy: SoftEntropy | None
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
        graph = _graph_of(model) if compaction else None
        self._net = model if graph is None else graph  # the same modules and parameters
        self._compaction = graph is not None
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
        self.entropy, self._beta = None, 0.0
        self._relus: dict[str, nn.Module] = {}  # of `network`, where nothing else is one: known after a first pass
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
        keep = {name: self.view(mask, name) > 0 for name in self._slices}
        if self.entropy is None:
            return compact(model, keep, sparse=_SPARSE)
        smaller = compact(model, keep, sparse=_SPARSE, observed=True)
        assert isinstance(smaller.model, fx.GraphModule)  # of `compact`
        return replace(smaller, model=with_pooled_relus(smaller.model))

    def like(self, model: nn.Module) -> "FlatModel":
        """A model of the same kind for the compacted net ``model``."""
        flat = FlatModel(model)
        if self.entropy is not None:
            flat._net = model  # as it is: what is fused shows no ReLUs
        return flat

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

    def regularise(self, settings: PspEntropySettings, images: Tensor, classes: int) -> None:
        """Make PSP-entropy a part of `objective`, from now on.

        The net runs as its author wrote it, or as what is equal and still shows what its ReLUs take. Of a compacted net
        the entropy is that of the whole: units that are always 0 have none, and count among the neurons. Order 2 takes
        pairs of the whole net's neurons, and runs it.

        Args:
            images: of which the first shows how many neurons there are.
            classes: of the labels.
        """
        model = self.model  # its buffers are the latest
        neurons: list[int] = []
        with (
            torch.no_grad(),
            eval_mode(model),
            watch_preactivations(_watched(model), lambda _, z: neurons.append(z[0].numel())),
        ):
            model(images[:1])
        self._beta, self._small, self._relus = settings.beta, None, {}
        self._net = with_pooled_relus(traced(model)) if self._compaction else model
        self._compaction = self._compaction and settings.order == 1
        self.entropy = SoftEntropy(
            classes,
            tau=settings.tau,
            order=settings.order,
            pairs=settings.pairs,
            rare=settings.rare,
            neurons=sum(neurons),
        )
        if self.mask is not None:
            self.set_mask_vector(self.mask)

    def objective(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """`loss`, and what a step minimises: less beta times the PSP-entropy in bits, after `regularise`."""
        if self.entropy is None:
            loss = self.loss(images, labels)
            return loss, loss
        seen, names = self.entropy.over(labels), []

        def add(name: str, z: Tensor) -> None:
            names.append(name)
            seen.add(z, name)

        with self._watching(add):
            loss = self.loss(images, labels)
        seen.end()
        if not self._relus and isinstance(self.network, fx.GraphModule):
            modules = dict(self.network.named_modules())
            self._relus = {name: modules[name] for name in names} if modules.keys() >= set(names) else {}
        return loss, loss.sub(seen.mean(), alpha=self._beta)

    def _watching(self, sink: Callable[[str, Tensor], None]) -> AbstractContextManager[Any]:
        """Hand on what enters the ReLUs; of a graph, which takes the same way each time, by what is known of it."""
        if self._relus:
            return watch_modules(self._relus, sink)
        return watch_preactivations(_watched(self.network), sink, _is_pooled_relu)

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
        if self.entropy is not None:
            self.entropy.reset()  # another net, maybe of fewer units
            self._relus = {}
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
        parameters, buffers = _first_names(self._model.named_parameters), _first_names(self._model.named_buffers)
        for name, tensor in self._model.state_dict().items():
            if name in parameters:
                stored = self.view(snapshot["values"], parameters[name])
            else:
                stored = snapshot[f"buffer:{buffers[name]}"]
            state[name] = stored.detach().to("cpu", copy=True).contiguous().view(tensor.shape)
        return state


def _graph_of(model: nn.Module) -> fx.GraphModule | None:
    """The net as `reordered` has it; None where nothing can be left out of it.

    That is where its graph cannot be traced, where a layer acts several times, and where it does something else in
    evaluation.
    """
    try:
        return pooled_first(traced_alike(model))
    except NotCompactable:
        return None


def _first_names(named: Callable[..., Iterator[tuple[str, Tensor]]]) -> dict[str, str]:
    """Every name of a module's tensors -> the first of that tensor's, where layers share one."""
    first = {id(tensor): name for name, tensor in named()}
    return {name: first[id(tensor)] for name, tensor in named(remove_duplicate=False)}


def _watched(network: nn.Module) -> nn.Module:
    """The net whose ReLUs count: of one that computes its weights, what it computes with them."""
    inner = getattr(network, "watched", network)
    assert isinstance(inner, nn.Module)
    return inner


def _is_pooled_relu(module: nn.Module) -> bool:
    return isinstance(module, PooledReLU)


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
