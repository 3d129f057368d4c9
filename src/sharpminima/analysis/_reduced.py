"""Smaller nets with the derivatives, or the pre-activations, that an analysis asks for."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sharpminima.nets.compaction import Compacted, NotCompactable, compact, zero_masks


def reduced(model: nn.Module, masks: Mapping[str, Tensor] | None) -> tuple[nn.Module, Tensor]:
    """A net in eval mode with the derivatives of ``model``, and where its parameters stand among the model's.

    Without masks all derivatives are meant, with masks those with respect to surviving parameters. What has no place
    in the net has a derivative of zero, of any order. With masks, convolutions of few survivors compute with those
    only; they have derivatives of any order too. A net that cannot be compacted is copied.

    Returns:
        The net, and for each element of its parameters the place among the model's P (int64); both are flattened in
        the order of ``named_parameters``.
    """
    whole = copy.deepcopy(model).eval()
    parameters = dict(whole.named_parameters())
    starts, total = {}, 0
    for name, parameter in parameters.items():
        starts[name] = total
        total += parameter.numel()
    try:
        # A removed weight that is not zero keeps its units: the net computes with it.
        keep = (
            zero_masks(whole)
            if masks is None
            else {
                name: mask.to(parameters[name].device).bool() | (parameters[name] != 0) for name, mask in masks.items()
            }
        )
        compacted = compact(whole, keep, sparse=() if masks is None else (nn.Conv2d,))
    except NotCompactable:
        return whole, torch.arange(total)
    places = []
    for name, _ in compacted.model.named_parameters():
        full_name, inside = compacted.parameters[name]
        places.append(starts[full_name] + inside.flatten())
    return compacted.model.eval(), torch.cat(places)


def channels_last(net: nn.Module) -> nn.Module:
    """The net with its kernels channels last in memory, in place: faster on a CPU."""
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's types leave it out


class Observed:
    """A net of the same outputs and pre-activations as ``model``, without the units that masks make exactly zero.

    Their pre-activations are 0 on every image, whatever the surviving weights are. After the model has changed,
    `follow` it. A net that cannot be compacted is copied. On a CPU, kernels lie channels last, which is faster.

    Args:
        model: removed weights are zero in it.
        survivors: parameter name -> bool, True where it survives; every parameter is named.
    """

    def __init__(self, model: nn.Module, survivors: Mapping[str, Tensor]) -> None:
        self._whole = model
        indicator = copy.deepcopy(model)
        with torch.no_grad():
            for name, parameter in indicator.named_parameters():
                parameter.copy_(survivors[name])
        try:
            compacted = compact(copy.deepcopy(model).eval(), zero_masks(indicator), observed=True)
        except NotCompactable:
            every = {name: (name, torch.arange(p.numel()).view(p.shape)) for name, p in model.named_parameters()}
            compacted = Compacted(copy.deepcopy(model), every, {})
        self.net = compacted.model.eval()
        device = next(model.parameters()).device
        self._parameters = {name: (full, places.to(device)) for name, (full, places) in compacted.parameters.items()}
        self._buffers = {name: (full, rows.to(device)) for name, (full, rows) in compacted.buffers.items()}
        if device.type == "cpu":
            self.net = channels_last(self.net)

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
