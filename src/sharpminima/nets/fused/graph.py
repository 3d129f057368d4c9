"""Finding what `normalised` and `pooled` replace in the graph of a net."""

import copy
import operator

import torch
from torch import fx, nn

from sharpminima.nets.compaction.graph import NotCompactable, kind_of, traced_alike
from sharpminima.nets.fused.normalise import normalised, normalised_twice
from sharpminima.nets.fused.pool import pooled


def fused(model: nn.Module) -> nn.Module:
    """The same net with one operation in place of each BatchNorm and the ReLU behind it, with an addition between.

    Likewise of each max-pooling and a ReLU on either side of it. Its modules and parameters, and their names, are the
    model's own. A net whose graph cannot be traced, or differs between training and evaluation, is returned as it is.

    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU())
    >>> [node.op for node in fused(net).graph.nodes if node.op.startswith("call")]
    ['call_module', 'call_function']
    """
    graph = _graph_of(model)
    if graph is None:
        return model
    changed = False
    for norm in list(graph.graph.nodes):
        if kind_of(graph, norm) is nn.BatchNorm2d and len(norm.users) == 1:
            changed |= _normalise(graph, norm)
    for pool in list(graph.graph.nodes):
        if kind_of(graph, pool) is nn.MaxPool2d:
            changed |= _pool(graph, pool)
    if not changed:
        return model
    graph.graph.lint()
    fused_net = fx.GraphModule(model, graph.graph)
    fused_net.train(model.training)
    return fused_net


def _graph_of(model: nn.Module) -> fx.GraphModule | None:
    """Traced from a copy: what its forward pass does to itself stays there."""
    try:
        if isinstance(model, fx.GraphModule):
            return fx.GraphModule(model, copy.deepcopy(model.graph))
        return traced_alike(copy.deepcopy(model))
    except NotCompactable:
        return None


def _normalise(graph: fx.GraphModule, norm: fx.Node) -> bool:
    """Put `normalised` in place of a BatchNorm that one node reads, if a ReLU follows; whether it does.

    A max-pooling between them goes behind: relu(max(z)) is max(relu(z)).
    """
    (last,) = norm.users
    other = None
    if kind_of(graph, last) is nn.MaxPool2d and len(last.users) == 1:
        pool = last
        (relu,) = pool.users
        if not _is_relu(graph, relu):
            return False
        relu.replace_all_uses_with(pool)
        with graph.graph.inserting_before(pool):
            last = graph.graph.call_function(torch.relu, (norm,))
        pool.replace_input_with(norm, last)
        graph.graph.erase_node(relu)
    if _adds(last) and len(last.users) == 1:
        first, second = last.args
        other = second if first is norm else first
        if not isinstance(other, fx.Node) or other is norm:
            return False
        (last,) = last.users
    if not _is_relu(graph, last):
        return False
    with graph.graph.inserting_before(last):
        arguments = (norm.args[0], graph.graph.get_attr(str(norm.target)), other)
        if len(last.users) == 2:
            both = graph.graph.call_function(normalised_twice, arguments)
            for place, reader in enumerate(list(last.users)):
                reader.replace_input_with(last, graph.graph.call_function(operator.getitem, (both, place)))
        else:
            last.replace_all_uses_with(graph.graph.call_function(normalised, arguments))
    for node in (last, *((next(iter(norm.users)),) if other is not None else ()), norm):
        graph.graph.erase_node(node)
    return True


def _pool(graph: fx.GraphModule, pool: fx.Node) -> bool:
    """Put `pooled` in place of a max-pooling with a ReLU right before or behind; whether it does."""
    (before,), behind = pool.args, next(iter(pool.users), None)
    assert isinstance(before, fx.Node)  # what a module without other arguments is called with
    maps, replaced = before, [pool]
    if before.target is normalised:  # ends with a ReLU
        pass
    elif _is_relu(graph, before) and len(before.users) == 1:
        (maps,) = before.all_input_nodes
        replaced = [pool, before]
    elif behind is not None and len(pool.users) == 1 and _is_relu(graph, behind):
        replaced = [behind, pool]
    else:
        return False
    with graph.graph.inserting_before(replaced[0]):
        whole = graph.graph.call_function(pooled, (maps, graph.graph.get_attr(str(pool.target))))
    replaced[0].replace_all_uses_with(whole)
    for node in replaced:
        graph.graph.erase_node(node)
    return True


def _adds(node: fx.Node) -> bool:
    return node.op == "call_function" and node.target in (operator.add, torch.add) and not node.kwargs


def _is_relu(graph: fx.GraphModule, node: fx.Node) -> bool:
    if kind_of(graph, node) is nn.ReLU or (node.op == "call_method" and node.target == "relu"):
        return True
    return node.op == "call_function" and node.target in (torch.relu, nn.functional.relu)
