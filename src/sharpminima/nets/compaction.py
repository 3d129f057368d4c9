"""Exact compaction: the smaller net that computes the same function and the same gradients of its survivors.

A unit (a filter, or a unit of a linear layer) is dead when

- nothing of it reaches the output: all its outgoing weights are removed, or lead to dead units only; or
- it is exactly zero: its bias is removed, and so is every incoming weight, or those left come from units that are
  exactly zero themselves.

The output does not depend on a dead unit, so the gradients of its parameters are exactly zero, and leaving it out
changes nothing but the order of sums. Only these removals are made. A unit that is a constant other than zero (a
bias without input) stays: its bias and its outgoing weights go on learning. So does every channel that enters a
residual addition, and every unit behind a BatchNorm that is needed, since the shift makes it more than zero.
Parameters of dead units are not forgotten: the full vector keeps them, and weight decay, momentum and LOBSTER's
decay go on acting on them (`sharpminima.training.flat`).

Of what is left, layers with few survivors compute with those only (`sharpminima.nets.sparse`).
"""

import copy
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from sharpminima.nets.sparse import SparseConv2d, SparseLinear, batch_last, is_offered, is_worth

_CHANNELWISE = (
    nn.ReLU,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.BatchNorm2d,
    nn.Identity,
    nn.Dropout,
)
Keep = dict[str, Tensor]


class NotCompactable(ValueError):
    """The graph of a net cannot be traced, or a layer or a parameter of it is used in several places."""


@dataclass
class _Layer:
    """A Conv2d or Linear of the net."""

    name: str
    module: nn.Conv2d | nn.Linear
    source: "_Layer | None" = None  # the layer whose units are its inputs; None: the images, or a residual stream
    consumer: "_Layer | None" = None  # the only layer that reads its units; None: several, or the output
    norms: tuple[str, ...] = ()  # BatchNorms between it and its consumer
    selects: bool = False  # reads the flattened images, so that single pixels may be left out
    rectified: bool = False  # an nn.ReLU, and nothing that shifts before it, takes its units

    def spread(self, units: Tensor) -> Tensor:
        """Units of the source [U] as inputs of this layer [U * positions]: a flattened map gives several a unit."""
        inputs = self.module.weight.shape[1]
        return units.repeat_interleave(inputs // len(units))


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
    small = copy.deepcopy(_traced(model) if observed else reordered(model))
    layers = _layers(small)
    alive = [_alive(layers, each, observed) for each in masks]
    inputs, units = (_either(sides) for sides in zip(*alive, strict=True))
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
        for norm_name in layer.norms:
            norm = small.get_submodule(norm_name)
            assert isinstance(norm, nn.BatchNorm2d)  # of `_layers`
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


def zero_masks(model: nn.Module) -> Keep:
    """Masks under which `compact` keeps the derivatives with respect to *all* parameters, of any order.

    They remove the weights and biases of units that are exactly zero before their ReLU, no others. A ReLU passes no
    gradient at 0, so nothing depends on those, nor on the weights that read the unit. Units with a gradient all stay,
    also those whose outgoing weights are zero.

    Raises:
        NotCompactable: see there.
    """
    masks: Keep = {}
    for layer in _layers(_traced(model)):
        module = layer.module
        if layer.rectified:
            fed = module.weight.detach().flatten(1).any(1)
            masks[f"{layer.name}.weight"] = fed.view(-1, *[1] * (module.weight.ndim - 1)).expand_as(module.weight)
            if module.bias is not None:
                masks[f"{layer.name}.bias"] = module.bias.detach() != 0
    return masks


def _traced(model: nn.Module) -> fx.GraphModule:
    try:
        graph = fx.symbolic_trace(model)
    except Exception as error:  # whatever the model's own code makes of a proxy
        raise NotCompactable(f"the graph of the model cannot be traced: {error}") from error
    called = Counter(node.target for node in graph.graph.nodes if node.op == "call_module")
    several = [name for name, count in called.items() if count > 1 and list(graph.get_submodule(name).parameters())]
    if several or any(node.op == "get_attr" for node in graph.graph.nodes):
        raise NotCompactable("the model uses a layer several times, or a parameter outside its layer")
    if len(dict(model.named_parameters())) < len(dict(model.named_parameters(remove_duplicate=False))):
        raise NotCompactable("layers of the model share a parameter")
    return graph


def reordered(model: nn.Module) -> fx.GraphModule:
    """The same net with max(relu(z)) as relu(max(z)): equal values and gradients, and a ReLU on fewer elements.

    Where the largest z of a window is not positive, both give 0 and no gradient; else both pass it to the same z.
    Its modules are the model's own.
    """
    graph = _traced(model)
    for pool in graph.graph.nodes:
        relu = pool.args[0] if pool.args and isinstance(pool.args[0], fx.Node) else None
        pools_relu = _kind(graph, pool) is nn.MaxPool2d and _kind(graph, relu) is nn.ReLU
        if relu is not None and pools_relu and len(relu.users) == 1:
            relu.target, pool.target = pool.target, relu.target
    graph.recompile()
    return graph


def _kind(graph: fx.GraphModule, node: fx.Node | None) -> type | None:
    """The class of the module that a node calls."""
    return type(graph.get_submodule(str(node.target))) if node is not None and node.op == "call_module" else None


def _pool_batch_last(graph: fx.GraphModule) -> None:
    """Let a sparse convolution do the pooling right behind it, or the pooling take its maps as they lie."""
    for pool in graph.graph.nodes:
        if _kind(graph, pool) in (nn.MaxPool2d, nn.AvgPool2d) and _kind(graph, pool.args[0]) is SparseConv2d:
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


def _layers(graph: fx.GraphModule) -> list[_Layer]:
    """The layers in the order of the forward pass, linked where one alone reads the units of another."""
    modules = dict(graph.named_modules())
    found: dict[fx.Node, _Layer] = {}
    for node in graph.graph.nodes:
        module = modules.get(node.target) if node.op == "call_module" else None
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1):
            found[node] = _Layer(node.target, module)
    for node, layer in found.items():
        norms: list[str] = []
        reader = node
        while len(reader.users) == 1:
            (reader,) = reader.users
            module = modules.get(reader.target) if reader.op == "call_module" else None
            layer.rectified |= isinstance(module, nn.ReLU) and not norms
            if reader in found:
                layer.consumer, found[reader].source, layer.norms = found[reader], layer, tuple(norms)
                break
            if isinstance(module, nn.BatchNorm2d):
                norms.append(str(reader.target))
            elif not (isinstance(module, _CHANNELWISE) or _flattens(reader, module)):
                break
    for node in graph.graph.nodes:
        if node.op == "placeholder" and len(node.users) == 1:
            (reader,) = node.users
            module = modules.get(reader.target) if reader.op == "call_module" else None
            if _flattens(reader, module) and len(reader.users) == 1:
                (reader,) = reader.users
                if reader in found and isinstance(found[reader].module, nn.Linear):
                    found[reader].selects = True
    return list(found.values())


def _flattens(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a node is ``flatten(1)``, as a module, a method or a function."""
    if isinstance(module, nn.Flatten):
        return module.start_dim == 1 and module.end_dim == -1
    called = (node.op == "call_method" and node.target == "flatten") or (
        node.op == "call_function" and node.target is torch.flatten
    )
    return called and node.args[1:] == (1,) and not node.kwargs


def _alive(layers: Iterable[_Layer], masks: Keep, unread: bool) -> tuple[Keep, Keep]:
    """Inputs and units to keep, by layer; ``unread`` units too, or not."""
    order = list(layers)
    connected: Keep = {}  # [units, inputs]: is any weight of the pair left?
    zero: Keep = {}  # units that are exactly zero
    for layer in order:
        weight = masks.get(f"{layer.name}.weight")
        shape = layer.module.weight.shape[:2]
        connected[layer.name] = torch.ones(shape, dtype=torch.bool)
        if weight is not None:
            connected[layer.name] = weight.cpu().flatten(2).any(2) if weight.ndim > 2 else weight.cpu()
        fed = connected[layer.name]
        if layer.source is not None:
            fed = fed & ~layer.spread(zero[layer.source.name])
        bias = masks.get(f"{layer.name}.bias") if layer.module.bias is not None else torch.zeros(shape[0]).bool()
        biased = torch.ones(shape[0], dtype=torch.bool) if bias is None or layer.norms else bias.cpu()
        zero[layer.name] = ~(fed.any(1) | biased)
    units: Keep = {}
    for layer in reversed(order):
        needed = torch.ones(len(zero[layer.name]), dtype=torch.bool)
        if layer.consumer is not None:
            read = connected[layer.consumer.name][units[layer.consumer.name]].any(0)
            needed = (read.view(len(needed), -1).any(1) | unread) & ~zero[layer.name]
            needed[0] |= not needed.any()
        units[layer.name] = needed
    inputs: Keep = {}
    for layer in order:
        kept = torch.ones(layer.module.weight.shape[1], dtype=torch.bool)
        if layer.source is not None:
            kept = layer.spread(units[layer.source.name])
        elif layer.selects:
            kept = connected[layer.name][units[layer.name]].any(0)
            kept[0] |= not kept.any()
        inputs[layer.name] = kept
    return inputs, units


def _either(sides: Iterable[Keep]) -> Keep:
    """What one of several keeps."""
    merged: Keep = {}
    for side in sides:
        merged = {name: keep | merged.get(name, keep) for name, keep in side.items()}
    return merged


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


@dataclass(frozen=True)
class Units:
    """The units of a layer that can be left out of a net: all that reads them is known."""

    layer: str  # Conv2d or Linear
    count: int
    norms: tuple[str, ...]  # BatchNorms behind it
    consumer: str  # the only layer that reads them
    positions: int  # inputs of the consumer that a unit feeds; more than one behind a flattened map


def removable_units(model: nn.Module) -> list[Units]:
    """Every layer of ``model`` whose units can be left out; the others feed a residual addition or the output.

    Raises:
        NotCompactable: see there.
    """
    found = []
    for layer in _layers(_traced(model)):
        if layer.consumer is not None:
            units = layer.module.weight.shape[0]
            positions = layer.consumer.module.weight.shape[1] // units
            found.append(Units(layer.name, units, layer.norms, layer.consumer.name, positions))
    return found
