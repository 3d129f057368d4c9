"""The smaller net, without the dead units of the whole one."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from sharpminima.nets.compaction.dead import Keep, alive, either
from sharpminima.nets.compaction.graph import Layer, kind_of, layers_of, reordered, traced
from sharpminima.nets.compaction.streams import Streams
from sharpminima.nets.sparse import SparseConv2d, SparseLinear, batch_last, is_offered, is_worth


class Selected(nn.Module):
    """A linear layer that reads some of its inputs only."""

    inputs: Tensor

    def __init__(self, linear: nn.Linear, inputs: Tensor) -> None:
        super().__init__()
        self.linear = linear
        self.register_buffer("inputs", inputs, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Features [N, all inputs] to [N, outputs]."""
        return self.linear(features.index_select(1, self.inputs))


@dataclass(frozen=True)
class Compacted:
    """A compacted net, and where its tensors lie in the full one."""

    model: nn.Module
    # Its name -> (full name, place of each element in the flattened full parameter)
    parameters: dict[str, tuple[str, Tensor]]
    buffers: dict[str, tuple[str, Tensor]]  # its name -> (full name, indices of its channels)

    @property
    def parameter_count(self) -> int:
        """Parameters of the compacted net."""
        return sum(parameter.numel() for parameter in self.model.parameters())


def compact(
    model: nn.Module, *masks: Keep, sparse: tuple[type[nn.Module], ...] = (), observed: bool = False
) -> Compacted:
    """Leave out the dead units of ``model``.

    Args:
        model: a net that ``torch.fx`` can trace; unchanged.
        masks: parameter name -> bool, True where it survives; parameters not named all survive. Where several
            replicas share the net, one each: a unit is left out if it is dead in all of them.
        sparse: for one mask, let layers of these kinds (Conv2d, Linear) that have few survivors compute with those
            only, where that is offered.
        observed: keep all that a ReLU of the whole net sees, but zeros: units that nothing reads stay, and every
            pooling stays behind its ReLU.

    Returns:
        A net with parameters of its own. Where no unit of a layer is alive, one is kept: no layer is empty.

    Raises:
        NotCompactable: see there.
    """
    small = copy.deepcopy(traced(model) if observed else reordered(model))
    layers = layers_of(small)
    kept = [alive(layers, each, observed) for each in masks]
    inputs, units = (either(sides) for sides in zip(*kept, strict=True))
    norms = {} if observed else _leave_streams(small, layers, masks, inputs, units)
    whole = dict(model.named_parameters())
    chosen: Keep = {}  # the mask of what is left, of layers that become sparse
    for layer in layers:
        if isinstance(layer.module, sparse):
            left = masks[0].get(f"{layer.name}.weight")
            if left is not None and is_offered(layer.module, left.device):
                left = left[units[layer.name]]
                left = left if layer.selects else left[:, inputs[layer.name]]
                if is_worth(left):
                    chosen[layer.name] = left
    parameters: dict[str, tuple[str, Tensor]] = {}
    buffers: dict[str, tuple[str, Tensor]] = {}
    for layer in layers:
        name, module = layer.name, layer.module
        rows, columns = units[name].nonzero().flatten(), inputs[name].nonzero().flatten()
        places = torch.arange(module.weight.numel()).view(module.weight.shape)[rows]
        bias_places = rows
        if name in chosen:
            left = chosen[name]
            places = (places if layer.selects else places[:, columns])[left]
            small.set_submodule(name, _sparse(module, places, bias_places, left))
        else:
            places = places[:, columns]
            smaller = _slice(module, places, bias_places)
            if layer.selects and isinstance(smaller, nn.Linear) and len(columns) < module.weight.shape[1]:
                small.set_submodule(name, Selected(smaller, columns))
                name = f"{name}.linear"
            else:
                small.set_submodule(name, smaller)
        parameters[f"{name}.weight"] = (f"{layer.name}.weight", places)
        if module.bias is not None:
            parameters[f"{name}.bias"] = (f"{layer.name}.bias", bias_places)
        norms.update(dict.fromkeys(layer.norms, units[layer.name]))
    for norm_name, some in norms.items():
        norm, rows = small.get_submodule(norm_name), some.nonzero().flatten()
        assert isinstance(norm, nn.BatchNorm2d)  # of `layers_of` and `Streams`
        small.set_submodule(norm_name, _slice_norm(norm, rows))
        for kind, _ in norm.named_parameters():
            parameters[f"{norm_name}.{kind}"] = (f"{norm_name}.{kind}", rows)
        for kind, buffer in norm.named_buffers():
            if buffer.ndim:
                buffers[f"{norm_name}.{kind}"] = (f"{norm_name}.{kind}", rows)
    for name, parameter in small.named_parameters():
        if name not in parameters:
            parameters[name] = (name, torch.arange(parameter.numel()).view(parameter.shape))
            assert parameter.shape == whole[name].shape
    _pool_batch_last(small)
    return Compacted(small, parameters, buffers)


def _leave_streams(
    small: fx.GraphModule, layers: list[Layer], masks: tuple[Keep, ...], inputs: Keep, units: Keep
) -> Keep:
    """Take channels that are zero, and that several layers make or read, out of ``inputs``, ``units`` and padding.

    Returns:
        What BatchNorms keep that have fewer channels then.
    """
    streams = Streams(small)
    gone = streams.gone(*masks)
    for layer in layers:
        if layer.consumer is not None:  # `alive` has decided, by what reads the units too
            gone[streams.makers[layer.name]] = False
    for name, channels in streams.makers.items():
        units[name] = units[name] & ~gone[channels]
    for name, channels in streams.readers.items():
        inputs[name] = inputs[name] & ~gone[channels].repeat_interleave(len(inputs[name]) // len(channels))
    for node, sides in streams.pads.items():
        node.update_arg(1, (0, 0, 0, 0, *(int((~gone[side]).sum()) for side in sides)))
    small.recompile()
    return {name: ~gone[channels] for name, channels in streams.norms.items() if gone[channels].any()}


def _pool_batch_last(graph: fx.GraphModule) -> None:
    """Let a sparse convolution do the pooling right behind it, or the pooling take its maps as they lie."""
    for pool in graph.graph.nodes:
        if kind_of(graph, pool) in (nn.MaxPool2d, nn.AvgPool2d) and kind_of(graph, pool.args[0]) is SparseConv2d:
            convolution = pool.args[0]
            alone = len(convolution.users) == 1
            layer, pooling = graph.get_submodule(convolution.target), graph.get_submodule(pool.target)
            assert isinstance(layer, SparseConv2d)
            assert isinstance(pooling, nn.MaxPool2d | nn.AvgPool2d)
            if alone and layer.takes_over(pooling):
                pool.replace_all_uses_with(convolution)
                graph.graph.erase_node(pool)
                continue
            name = f"{pool.name}_batch_last"  # a module of its own: the net may use one pooling several times
            graph.add_submodule(name, batch_last(pooling))
            pool.target = name
    graph.recompile()


def _taken(parameter: Tensor, places: Tensor) -> Tensor:
    """The elements at ``places`` of the flattened parameter."""
    return parameter.detach().reshape(-1)[places.to(parameter.device)]


def _slice(module: nn.Conv2d | nn.Linear, places: Tensor, bias_places: Tensor) -> nn.Conv2d | nn.Linear:
    smaller = copy.deepcopy(module)
    smaller.weight = nn.Parameter(_taken(module.weight, places))
    if module.bias is not None:
        smaller.bias = nn.Parameter(_taken(module.bias, bias_places))
    if isinstance(smaller, nn.Linear):
        smaller.out_features, smaller.in_features = places.shape
    else:
        smaller.out_channels, smaller.in_channels = places.shape[:2]
    return smaller


def _sparse(
    module: nn.Conv2d | nn.Linear, places: Tensor, bias_places: Tensor, mask: Tensor
) -> SparseConv2d | SparseLinear:
    weight = _taken(module.weight, places)
    bias = None if module.bias is None else _taken(module.bias, bias_places)
    return (
        SparseLinear(weight, bias, mask) if isinstance(module, nn.Linear) else SparseConv2d(module, weight, bias, mask)
    )


def _slice_norm(norm: nn.BatchNorm2d, rows: Tensor) -> nn.BatchNorm2d:
    smaller = copy.deepcopy(norm)
    smaller.num_features = len(rows)
    for name, parameter in norm.named_parameters():
        setattr(smaller, name, nn.Parameter(parameter.detach()[rows.to(parameter.device)].clone()))
    for name, buffer in norm.named_buffers():
        if buffer.ndim:
            smaller.register_buffer(name, buffer[rows.to(buffer.device)].clone())
    return smaller
