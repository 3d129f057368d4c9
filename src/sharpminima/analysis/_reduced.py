"""Smaller nets with the derivatives, or the pre-activations, that an analysis asks for."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from sharpminima.nets.compaction import Compacted, NotCompactable, compact, zero_masks
from sharpminima.nets.modes import copied


@dataclass(frozen=True)
class Reduced:
    """A net in eval mode with the derivatives of a model, and where its parameters stand among the model's."""

    net: nn.Module
    # For each element of the net's parameters the place among the model's P (int64); both are flattened in the order of
    # ``named_parameters``. What has no place in the net has a derivative of zero, of any order.
    places: Tensor
    layout: torch.memory_format  # of the net's kernels, and for its images
    # Its graph, which tells all that happens: each layer is called once, and nothing has hooks. None: it is not known.
    graph: fx.GraphModule | None = None


def reductions(
    model: nn.Module, masks: Mapping[str, Tensor] | None, dtype: torch.dtype | None = None
) -> Iterator[Reduced]:
    """Nets with the derivatives of ``model``, the fastest first and a copy of the whole one last.

    Without masks all derivatives are meant, with masks those with respect to surviving parameters: then convolutions of
    few survivors compute with those only, which have derivatives of any order too. Not every net goes in every layout
    (``view`` takes one), nor can every net be compacted.

    Args:
        dtype: of the nets; None: the model's own.
    """
    whole = whole_of(model, dtype).net
    parameters = dict(whole.named_parameters())
    starts, total = {}, 0
    for name, parameter in parameters.items():
        starts[name] = total
        total += parameter.numel()
    for sparse in ((),) if masks is None else ((nn.Conv2d,), ()):
        try:
            # A removed weight that is not zero keeps its units: the net computes with it.
            keep = (
                zero_masks(whole)
                if masks is None
                else {name: mask | (parameters[name] != 0) for name, mask in masks.items()}
            )
            compacted = compact(whole, keep, sparse=sparse)
        except NotCompactable:
            break
        places = []
        for name, _ in compacted.model.named_parameters():
            full_name, inside = compacted.parameters[name]
            places.append(starts[full_name] + inside.flatten())
        graph = compacted.model.eval()
        assert isinstance(graph, fx.GraphModule)  # of `compact`
        yield from _layouts(graph, torch.cat(places), graph)
    yield from _layouts(whole, torch.arange(total))


def whole_of(model: nn.Module, dtype: torch.dtype | None = None) -> Reduced:
    """A copy of the whole net, in the layout that every net takes."""
    net = copied(model).eval().to(dtype=dtype).requires_grad_()
    places = torch.arange(sum(parameter.numel() for parameter in net.parameters()))
    return Reduced(laid_out(net, torch.contiguous_format), places, torch.contiguous_format)


def _layouts(net: nn.Module, places: Tensor, graph: fx.GraphModule | None = None) -> Iterator[Reduced]:
    """The net in each layout, in place: channels last is faster on a CPU."""
    for layout in layouts_of(net):
        yield Reduced(laid_out(net, layout), places, layout, graph)


def layouts_of(net: nn.Module) -> tuple[torch.memory_format, ...]:
    """Layouts in memory to try for a net, the fastest first; kernels of volumes know no channels last."""
    every = list(net.parameters())
    flat = every[0].device.type == "cpu" and all(parameter.dim() != 5 for parameter in every)
    return (torch.channels_last, torch.contiguous_format) if flat else (torch.contiguous_format,)


def laid_out(net: nn.Module, layout: torch.memory_format) -> nn.Module:
    """The net with its kernels in this layout, in place."""
    return net.to(memory_format=layout)  # type: ignore[call-overload] # torch's types leave it out


class Observed:
    """A net of the same outputs and pre-activations as ``model``, without the units that masks make exactly zero.

    Their pre-activations are 0 on every image, whatever the surviving weights are. After the model has changed,
    `follow` it. A net that cannot be compacted is copied. On a CPU, kernels lie channels last where the net takes
    them so, which is faster.

    Args:
        model: removed weights are zero in it.
        survivors: parameter name -> bool, True where it survives; every parameter is named.
        is_same: whether a net does on a few images what the model does. The first net that does is taken, or else a
            copy of the whole model.
    """

    def __init__(self, model: nn.Module, survivors: Mapping[str, Tensor], is_same: Callable[[nn.Module], bool]) -> None:
        self._whole = model
        device = next(model.parameters()).device
        for compacted in _observed(model, survivors):
            net = compacted.model.eval()
            # Short of any, the whole net in the layout that every net takes.
            if any(is_same(laid_out(net, layout)) for layout in layouts_of(net)):
                break
        self.net = net
        self._parameters = {name: (full, places.to(device)) for name, (full, places) in compacted.parameters.items()}
        self._buffers = {name: (full, rows.to(device)) for name, (full, rows) in compacted.buffers.items()}

    @torch.no_grad()
    def follow(self) -> None:
        """Take over the model's parameters and buffers as they are now."""
        parameters = dict(self._whole.named_parameters())
        for name, parameter in self.net.named_parameters():
            full, places = self._parameters[name]
            parameter.copy_(parameters[full].reshape(-1)[places])
        buffers = dict(self._whole.named_buffers())
        for name, buffer in self.net.named_buffers():
            full, rows = self._buffers.get(name, (name, None))
            if full in buffers:  # else one of the smaller net's own
                buffer.copy_(buffers[full] if rows is None else buffers[full][rows])


def _observed(model: nn.Module, survivors: Mapping[str, Tensor]) -> Iterator[Compacted]:
    indicator = copied(model)
    with torch.no_grad():
        for name, parameter in indicator.named_parameters():
            parameter.copy_(survivors[name])
    with contextlib.suppress(NotCompactable):
        yield compact(copied(model).eval(), zero_masks(indicator), observed=True)
    every = {name: (name, torch.arange(p.numel()).view(p.shape)) for name, p in model.named_parameters()}
    yield Compacted(copied(model), every, {})
