"""The layers of a net, as its graph shows them: which one alone reads the units of another."""

import copy
import threading
from collections import Counter
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import Tensor, fx, nn

from sharpminima.nets.compaction.nodes import CHANNELWISE, Layout, flattens, layouts_of, reads
from sharpminima.nets.modes import same_buffers
from sharpminima.nets.sparse import SparseConv2d, batch_last


class NotCompactable(ValueError):
    """The graph of a net cannot be traced, or a layer or a parameter of it is used in several places, changed or empty.

    Hooks, and weights that are computed from other parameters (pruning and parametrisations of torch), do not show in
    the graph.
    """


@dataclass
class Layer:
    """A Conv2d or Linear of the net."""

    name: str
    module: nn.Conv2d | nn.Linear
    source: "Layer | None" = None  # the layer whose units are its inputs; None: the images, or a residual stream
    consumer: "Layer | None" = None  # the only layer that reads its units; None: several, or the output
    norms: tuple[str, ...] = ()  # BatchNorms between it and its consumer
    selects: bool = False  # reads the flattened images, so that single pixels may be left out
    rectified: bool = False  # an nn.ReLU, and nothing that shifts before it, takes its units

    def spread(self, units: Tensor) -> Tensor:
        """Units of the source [U] as inputs of this layer [U * positions]: a flattened map gives several a unit."""
        inputs = self.module.weight.shape[1]
        return units.repeat_interleave(inputs // len(units))


_TRACING = threading.Lock()


class _Tracer(fx.Tracer):
    """A tracer that leaves other threads alone.

    While it traces, torch.fx replaces ``nn.Module.__call__`` for the whole process: a net that another thread runs
    would be traced, too, and two tracings at once would leave the replacement behind for good.
    """

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        elsewhere = threading.get_ident() != self._thread
        return forward(*args, **kwargs) if elsewhere else super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: Any) -> Any:
        elsewhere = threading.get_ident() != self._thread
        return attr_val if elsewhere else super().getattr(attr, attr_val, parameter_proxy_cache)


def traced(model: nn.Module) -> fx.GraphModule:
    for name, module in model.named_modules():
        if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
            raise NotCompactable(f"module {name!r} has hooks, or a forward of its own")
        if isinstance(module, nn.Conv2d | nn.Linear) and "weight" not in module._parameters:
            raise NotCompactable(f"the weight of layer {name!r} is computed from other parameters")
    try:
        with _TRACING, same_buffers(model):  # a net that writes one would be left with a proxy
            graph = fx.GraphModule(model, _Tracer().trace(model), type(model).__name__)
    except Exception as error:  # whatever the model's own code makes of a proxy
        raise NotCompactable(f"the graph of the model cannot be traced: {error}") from error
    called = Counter(node.target for node in graph.graph.nodes if node.op == "call_module")
    several = [name for name, count in called.items() if count > 1 and list(graph.get_submodule(name).parameters())]
    if several or any(node.op == "get_attr" for node in graph.graph.nodes):
        raise NotCompactable("the model uses a layer several times, or a parameter outside its layer")
    if len(dict(model.named_parameters())) < len(dict(model.named_parameters(remove_duplicate=False))):
        raise NotCompactable("layers of the model share a parameter")
    return graph


def traced_alike(model: nn.Module) -> fx.GraphModule:
    """The graph of a net that does the same in training and evaluation; one of another would do in both as in one.

    Raises:
        NotCompactable: it does not (``F.dropout(x, training=self.training)``), or cannot be traced.
    """
    other = copy.deepcopy(model).train(not model.training)
    graph = traced(model)
    if graph.code != traced(other).code:
        raise NotCompactable("the model does something else in evaluation than in training")
    return graph


def reordered(model: nn.Module) -> fx.GraphModule:
    """The same net with max(relu(z)) as relu(max(z)): equal values and gradients, and a ReLU on fewer elements.

    Where the largest z of a window is not positive, both give 0 and no gradient; else both pass it to the same z.
    Its modules are the model's own.
    """
    return pooled_first(traced(model))


def pooled_first(graph: fx.GraphModule) -> fx.GraphModule:
    """`reordered` of a net that is traced already: the graph, changed."""
    for pool in graph.graph.nodes:
        relu = pool.args[0] if pool.args and isinstance(pool.args[0], fx.Node) else None
        pools_relu = kind_of(graph, pool) is nn.MaxPool2d and kind_of(graph, relu) is nn.ReLU
        if relu is not None and pools_relu and len(relu.users) == 1:
            relu.target, pool.target = pool.target, relu.target
    graph.recompile()
    return graph


class PooledReLU(nn.Module):
    """Max-pooling, then ReLU: equal to the ReLU before it, and what enters that is what enters this."""

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, z: Tensor) -> Tensor:
        """Maps to pooled ones."""
        return torch.relu(self.pool(z))


def with_pooled_relus(graph: fx.GraphModule) -> fx.GraphModule:
    """The same net, in place, with each max(relu(z)) as one module that takes z.

    As fast as `reordered`, and what the ReLUs of the net take is still to be seen.
    """
    for pool in list(graph.graph.nodes):
        relu = pool.args[0] if pool.args and isinstance(pool.args[0], fx.Node) else None
        pools_relu = kind_of(graph, pool) is nn.MaxPool2d and kind_of(graph, relu) is nn.ReLU
        if relu is not None and pools_relu and len(relu.users) == 1:
            source = relu.all_input_nodes[0]
            module = graph.get_submodule(str(pool.target))
            assert isinstance(module, nn.MaxPool2d)
            name = f"{pool.name}_of_relu"  # a module of its own: the net may use one pooling several times
            is_sparse = kind_of(graph, source) is SparseConv2d
            graph.add_submodule(name, PooledReLU(batch_last(module) if is_sparse else module))
            pool.target, pool.args = name, (source,)
            graph.graph.erase_node(relu)
    graph.recompile()
    return graph


def kind_of(graph: fx.GraphModule, node: fx.Node | None) -> type | None:
    """The class of the module that a node calls."""
    return type(graph.get_submodule(str(node.target))) if node is not None and node.op == "call_module" else None


def layers_of(graph: fx.GraphModule) -> list[Layer]:
    """The layers in the order of the forward pass, linked where one alone reads the units of another.

    Raises:
        NotCompactable: a layer has no units, or reads none.
    """
    modules, layouts = dict(graph.named_modules()), layouts_of(graph)
    layers: dict[fx.Node, Layer] = {}
    for node in graph.graph.nodes:
        module = modules.get(node.target) if node.op == "call_module" else None
        if _is_plain(module):
            if module.weight.numel() == 0:
                raise NotCompactable(f"layer {node.target!r} has no weights, as it has no units or reads none")
            layers[node] = Layer(node.target, module)
    for node, layer in layers.items():
        norms: list[str] = []
        read = node
        while len(read.users) == 1:
            (reader,) = read.users
            module = modules.get(reader.target) if reader.op == "call_module" else None
            if reader in layers:
                if reads(layers[reader].module, layouts[read], len(layer.module.weight)):
                    layer.consumer, layers[reader].source, layer.norms = layers[reader], layer, tuple(norms)
                break
            if layouts[reader] in (None, Layout.MIXED) or not (
                isinstance(module, CHANNELWISE) or flattens(reader, module)
            ):
                break
            layer.rectified |= isinstance(module, nn.ReLU) and not norms
            if isinstance(module, nn.BatchNorm2d):
                norms.append(str(reader.target))
            read = reader
    for node in graph.graph.nodes:
        if node.op == "placeholder" and len(node.users) == 1:
            (reader,) = node.users
            module = modules.get(reader.target) if reader.op == "call_module" else None
            if flattens(reader, module) and len(reader.users) == 1:
                (reader,) = reader.users
                if reader in layers and isinstance(layers[reader].module, nn.Linear):
                    layers[reader].selects = True
    return list(layers.values())


def _is_plain(module: nn.Module | None) -> TypeGuard[nn.Conv2d | nn.Linear]:
    """Whether it is just such a layer: what inherits from one may compute something else."""
    return (
        module is not None
        and type(module) in (nn.Conv2d, nn.Linear)
        and set(module._parameters) == {"weight", "bias"}
        and getattr(module, "groups", 1) == 1
    )
