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
"""

import copy
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

_CHANNELWISE = (nn.ReLU, nn.MaxPool2d, nn.AvgPool2d, nn.BatchNorm2d, nn.Identity, nn.Dropout)
Keep = dict[str, Tensor]


@dataclass
class _Layer:
    """A Conv2d or Linear of the net."""

    name: str
    module: nn.Conv2d | nn.Linear
    source: "_Layer | None" = None  # the layer whose units are its inputs; None: the images, or a residual stream
    consumer: "_Layer | None" = None  # the only layer that reads its units; None: several, or the output
    norms: tuple[str, ...] = ()  # BatchNorms between it and its consumer
    selects: bool = False  # reads the flattened images, so that single pixels may be left out

    def spread(self, units: Tensor) -> Tensor:
        """Units of the source [U] as inputs of this layer [U * positions]: a flattened map gives several a unit."""
        inputs = self.module.weight.shape[1]
        return units.repeat_interleave(inputs // len(units))


class Selected(nn.Module):
    """A linear layer that reads some of its inputs only."""

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
    parameters: dict[str, tuple[str, tuple[Tensor, ...]]]  # its name -> (full name, indices of its rows and columns)
    buffers: dict[str, tuple[str, Tensor]]  # its name -> (full name, indices of its channels)

    @property
    def parameter_count(self) -> int:
        """Parameters of the compacted net."""
        return sum(parameter.numel() for parameter in self.model.parameters())


def compact(model: nn.Module, *masks: Keep) -> Compacted:
    """Leave out the dead units of ``model``.

    Args:
        model: a net that ``torch.fx`` can trace; unchanged.
        masks: parameter name -> bool, True where it survives; parameters not named all survive. Where several
            replicas share the net, one each: a unit is left out if it is dead in all of them.

    Returns:
        A net with parameters of its own. Where no unit of a layer is alive, one is kept: no layer is empty.
    """
    graph = fx.symbolic_trace(model)
    layers = _layers(graph)
    alive = [_alive(layers, each) for each in masks]
    inputs, units = (_either(sides) for sides in zip(*alive, strict=True))
    small = copy.deepcopy(graph)
    _pool_first(small)
    parameters: dict[str, tuple[str, tuple[Tensor, ...]]] = {}
    buffers: dict[str, tuple[str, Tensor]] = {}
    for layer in layers:
        rows, columns = units[layer.name].nonzero().flatten(), inputs[layer.name].nonzero().flatten()
        smaller = _slice(layer.module, rows, columns)
        name = layer.name
        if layer.selects and len(columns) < layer.module.weight.shape[1]:
            small.set_submodule(name, Selected(smaller, columns))
            name = f"{name}.linear"
        else:
            small.set_submodule(name, smaller)
        parameters[f"{name}.weight"] = (f"{layer.name}.weight", (rows, columns))
        if layer.module.bias is not None:
            parameters[f"{name}.bias"] = (f"{layer.name}.bias", (rows,))
        for norm_name in layer.norms:
            norm = small.get_submodule(norm_name)
            small.set_submodule(norm_name, _slice_norm(norm, rows))
            for kind, _ in norm.named_parameters():
                parameters[f"{norm_name}.{kind}"] = (f"{norm_name}.{kind}", (rows,))
            for kind, buffer in norm.named_buffers():
                if buffer.ndim:
                    buffers[f"{norm_name}.{kind}"] = (f"{norm_name}.{kind}", rows)
    whole = dict(model.named_parameters())
    for name, parameter in small.named_parameters():
        if name not in parameters:
            parameters[name] = (name, tuple(torch.arange(size) for size in whole[name].shape[:1]))
            assert parameter.shape == whole[name].shape
    return Compacted(small, parameters, buffers)


def _pool_first(graph: fx.GraphModule) -> None:
    """Swap max(relu(z)) for relu(max(z)): the same values and gradients, and a ReLU on a quarter of the elements.

    Where the largest z of a window is not positive, both give 0 and no gradient; else both pass it to the same z.
    """
    modules = dict(graph.named_modules())

    def kind(node: fx.Node) -> type | None:
        return type(modules[node.target]) if node.op == "call_module" else None

    for pool in graph.graph.nodes:
        relu = pool.args[0] if pool.args and isinstance(pool.args[0], fx.Node) else None
        if kind(pool) is nn.MaxPool2d and relu is not None and kind(relu) is nn.ReLU and len(relu.users) == 1:
            relu.target, pool.target = pool.target, relu.target
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
            if reader in found:
                layer.consumer, found[reader].source, layer.norms = found[reader], layer, tuple(norms)
                break
            if isinstance(module, nn.BatchNorm2d):
                norms.append(reader.target)
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


def _alive(layers: Iterable[_Layer], masks: Keep) -> tuple[Keep, Keep]:
    """Inputs and units to keep, by layer."""
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
            needed = read.view(len(needed), -1).any(1) & ~zero[layer.name]
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


def _slice(module: nn.Conv2d | nn.Linear, rows: Tensor, columns: Tensor) -> nn.Conv2d | nn.Linear:
    smaller = copy.deepcopy(module)
    device = module.weight.device
    smaller.weight = nn.Parameter(module.weight.detach()[rows.to(device)][:, columns.to(device)].clone())
    if module.bias is not None:
        smaller.bias = nn.Parameter(module.bias.detach()[rows.to(device)].clone())
    if isinstance(smaller, nn.Linear):
        smaller.out_features, smaller.in_features = len(rows), len(columns)
    else:
        smaller.out_channels, smaller.in_channels = len(rows), len(columns)
    return smaller


def _slice_norm(norm: nn.BatchNorm2d, rows: Tensor) -> nn.BatchNorm2d:
    smaller = copy.deepcopy(norm)
    smaller.num_features = len(rows)
    for name, parameter in norm.named_parameters():
        setattr(smaller, name, nn.Parameter(parameter.detach()[rows.to(parameter.device)].clone()))
    for name, buffer in norm.named_buffers():
        if buffer.ndim:
            smaller.register_buffer(name, buffer[rows.to(buffer.device)].clone())
    return smaller
