"""Which channels of a net stand and fall together: layers whose outputs meet in an addition share their units.

Channels are followed through the graph from the layers that make them to those that read them. An addition joins its
sides channel by channel, padding brings channels that nothing else makes (the shortcut of a ResNet's option A), a
concatenation puts them side by side. What goes on into anything else, the output before all, must stay.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from sharpminima.nets.compaction.graph import layers_of, traced
from sharpminima.nets.compaction.nodes import (
    Layout,
    adds,
    channel_pads,
    concatenated,
    layouts_of,
    reads,
)


@dataclass(frozen=True, eq=False)
class Units:
    """Units that can be left out of a net: all that makes them and all that reads them is known.

    Where layers meet in an addition, a unit is a channel of all of them. All places are int64.
    """

    name: str  # of the first layer that makes them
    count: int
    makers: Mapping[str, Tensor]  # Conv2d or Linear -> which of its outputs they are [count]
    norms: Mapping[str, Tensor]  # BatchNorm that they pass -> which of its channels they are [count]
    readers: Mapping[str, Tensor]  # layer -> which of its inputs they feed [count, positions]; several if flattened


class Streams:
    """The channels of a graph by number, joined where they meet.

    Attributes:
        makers, norms: layer -> the channels of its output [C].
        readers: layer -> the channels of its input [C], of which a flattened map feeds several inputs each.
        pads: node of ``F.pad`` -> the channels that it puts before and behind.
    """

    def __init__(self, graph: fx.GraphModule) -> None:
        self.makers: dict[str, Tensor] = {}
        self.norms: dict[str, Tensor] = {}
        self.readers: dict[str, Tensor] = {}
        self.pads: dict[fx.Node, tuple[Tensor, Tensor]] = {}
        self._modules = dict(graph.named_modules())
        self._joined: list[int] = []  # channel -> an earlier one that it was joined with, or itself
        self._pinned: set[int] = set()
        self._layouts = layouts_of(graph)
        self._channels: dict[fx.Node, Tensor | None] = {}  # None: nothing of it can be left out
        self._of_rows: set[str] = set()  # linear layers of which several rows may belong to an image
        for node in graph.graph.nodes:
            self._channels[node] = self._follow(node)
        self.first = torch.tensor([self._root(channel) for channel in range(len(self._joined))], dtype=torch.int64)
        self.pinned = torch.zeros(len(self._joined), dtype=torch.bool)
        self.pinned[[self._root(channel) for channel in self._pinned]] = True
        self.pinned = self.pinned[self.first]

    def _follow(self, node: fx.Node) -> Tensor | None:
        """The channels of what ``node`` gives."""
        module = self._modules.get(str(node.target)) if node.op == "call_module" else None
        channels = self._channels[node.all_input_nodes[0]] if node.all_input_nodes else None
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1):
            return self._make(node, module, channels)
        if self._layouts[node] in (None, Layout.MIXED) or isinstance(module, nn.Conv2d):
            pass
        elif (parts := concatenated(node)) is not None:
            sides = [side for part in parts if (side := self._channels[part]) is not None]
            if len(sides) == len(parts):
                return torch.cat(sides)
        elif adds(node):
            sides = [side for each in node.all_input_nodes if (side := self._channels[each]) is not None]
            if len(sides) == 2 and len(sides[0]) == len(sides[1]):
                for one, other in zip(*(side.tolist() for side in sides), strict=True):
                    self._join(one, other)
                return sides[0]
        elif channels is not None:
            if (pads := channel_pads(node)) is not None:
                before, behind = (self._new(count) for count in pads)
                self.pads[node] = (before, behind)
                return torch.cat([before, channels, behind])
            if isinstance(module, nn.BatchNorm2d):
                self.norms[str(node.target)] = channels
            return channels
        self._pin(node)
        return None

    def _make(self, node: fx.Node, layer: nn.Conv2d | nn.Linear, channels: Tensor | None) -> Tensor:
        """The channels that a layer makes; those that it reads are its readers', or stay."""
        name = str(node.target)
        if channels is not None and reads(layer, self._layouts[node.all_input_nodes[0]], len(channels)):
            self.readers[name] = channels
        else:
            self._pin(node)
        if self._layouts[node] is Layout.LAST:
            self._of_rows.add(name)
        self.makers[name] = self._new(layer.weight.shape[0])
        return self.makers[name]

    def _pin(self, node: fx.Node) -> None:
        """Nothing that ``node`` takes can be left out."""
        for each in node.all_input_nodes:
            if (lost := self._channels[each]) is not None:
                self._pinned.update(lost.tolist())

    def _new(self, count: int) -> Tensor:
        first = len(self._joined)
        self._joined += range(first, first + count)
        return torch.arange(first, first + count)

    def _root(self, channel: int) -> int:
        while self._joined[channel] != channel:
            self._joined[channel] = channel = self._joined[self._joined[channel]]
        return channel

    def _join(self, one: int, other: int) -> None:
        first, second = sorted((self._root(one), self._root(other)))
        self._joined[second] = first

    def units(self) -> list[Units]:
        """What can be left out, in the order of the layers that make it first.

        Units that an image may have several times over, in rows that are not told apart, stay: what scores or scales
        units takes one value or one map an image.
        """
        parts: dict[int, list[tuple[int, str, int]]] = {}  # of joined channels: (kind, layer, place)
        for kind, layers in enumerate((self.makers, self.norms, self.readers)):
            for name, channels in layers.items():
                for place, first in enumerate(self.first[channels].tolist()):
                    if not self.pinned[first]:
                        parts.setdefault(first, []).append((kind, name, place))
        alike: dict[tuple[tuple[int, str], ...], list[list[int]]] = {}
        for uses in parts.values():
            where = tuple((kind, name) for kind, name, _ in uses)
            if self._of_rows & {name for kind, name in where if kind == 0}:
                continue
            if {0, 2} <= {kind for kind, _ in where} and len({*where}) == len(where):
                alike.setdefault(where, []).append([place for *_, place in uses])
        order = {name: number for number, name in enumerate(self.makers)}
        groups: list[Units] = []
        for where, units in sorted(alike.items(), key=lambda item: (order[item[0][0][1]], item[1][0][0])):
            places = dict(zip(where, torch.tensor(units).T.unbind(), strict=True))
            makers, norms, readers = ({n: p for (k, n), p in places.items() if k == kind} for kind in range(3))
            name = where[0][1]
            name += "'" * sum(group.name.rstrip("'") == name for group in groups)  # its channels go different ways
            groups.append(Units(name, len(units), makers, norms, {n: self._inputs(n, p) for n, p in readers.items()}))
        return groups

    def _inputs(self, layer: str, places: Tensor) -> Tensor:
        """The inputs of ``layer`` [count, positions] that channels at ``places`` of what it reads feed."""
        inputs = self._modules[layer].weight.shape[1]
        assert isinstance(inputs, int)
        positions = inputs // len(self.readers[layer])
        return places[:, None] * positions + torch.arange(positions)

    def gone(self, *masks: Mapping[str, Tensor]) -> Tensor:
        """Which channels are exactly zero under each of ``masks``, with all that makes them removed [channels].

        Of no layer all are.
        """
        left = self.pinned.clone()
        for layer in (*self.makers, *self.norms):
            module = self._modules[layer]
            channels = self.makers[layer] if layer in self.makers else self.norms[layer]
            kept = torch.zeros(len(channels), dtype=torch.bool)
            for name in ("weight", "bias"):
                parameter = getattr(module, name)
                if parameter is None:
                    kept |= layer in self.norms  # what it gives is no more than centred
                    continue
                for each in masks:
                    mask = each.get(f"{layer}.{name}")
                    kept |= True if mask is None else mask.cpu().reshape(len(channels), -1).any(1)
            left[self.first[channels[kept]]] = True
        made = torch.cat([*self.makers.values(), torch.zeros(0, dtype=torch.int64)])
        nobody = torch.ones(len(left), dtype=torch.bool)
        nobody[self.first[made]] = False
        left |= nobody  # padding that no layer adds to
        for channels in self.makers.values():
            if not left[self.first[channels]].any():
                left[self.first[channels[0]]] = True
        return ~left[self.first]


def removable_units(model: nn.Module) -> list[Units]:
    """All units of ``model`` that can be left out, by groups that are made and read by the same layers.

    Raises:
        NotCompactable: see there.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> [(units.name, units.count, list(units.readers)) for units in removable_units(net)]
    [('1', 3, ['3'])]
    """
    return Streams(traced(model)).units()


def removable_pixels(model: nn.Module) -> list[Units]:
    """The pixels of the images as units that no layer makes, where a linear layer alone reads them; else none.

    Raises:
        NotCompactable: see there.

    >>> (pixels,) = removable_pixels(nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
    >>> pixels.count, list(pixels.makers), {name: list(inputs.shape) for name, inputs in pixels.readers.items()}
    (4, [], {'1': [4, 1]})
    """
    groups = []
    layers = layers_of(traced(model))
    taken = {layer.name for layer in layers}  # other units are called after a layer that makes them
    for layer in layers:
        if layer.selects:
            count, name = layer.module.weight.shape[1], "pixels"
            while name in taken:
                name += "_"
            taken.add(name)
            groups.append(Units(name, count, {}, {}, {layer.name: torch.arange(count)[:, None]}))
    return groups
