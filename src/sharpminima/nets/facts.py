"""The sizes of a net, found by building it: what the catalogue says of the built-in ones, and asks of others."""

from functools import cache

import torch
from torch import nn

from sharpminima.catalogue.brought import running
from sharpminima.catalogue.models import Model, NetFacts, unlabelled
from sharpminima.nets.compaction import NotCompactable, removable_units
from sharpminima.nets.masks import prunable_parameters
from sharpminima.nets.usable import check_prunable


@cache
def net_facts(model: Model) -> NetFacts:
    """Build the net, without values, and count.

    Raises:
        PluginError: a plug-in's net cannot be built or run in this way, or has nothing to prune.
    """
    with torch.device("meta"):
        net = model().eval()
        check_prunable(model.name, net)
        image = torch.empty(1, *model.shape)
    multiplications = outputs = 0

    def count(layer: nn.Linear | nn.Conv2d, _: object, output: torch.Tensor) -> None:
        nonlocal multiplications, outputs
        multiplications += layer.weight[0].numel() * output.numel()
        outputs += output.numel()

    hooks = [layer.register_forward_hook(count) for layer in net.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    # What asks a tensor for its values cannot be run without them, and may be right all the same.
    stated = "state the sizes of a net that can only be run with values: known=NetFacts(...)"
    with running("model", unlabelled(model.name), stated, there=f"mend it there, or {stated}"):
        net(image)
    for hook in hooks:
        hook.remove()
    state = {name: values.numel() for name, values in net.state_dict().items()}
    return NetFacts(
        parameters=sum(parameter.numel() for parameter in net.parameters()),
        state=sum(state.values()),
        prunable=sum(state[name] for name in prunable_parameters(net)),
        multiplications=multiplications,
        outputs=outputs,
        has_units=_has_units(net),
    )


def _has_units(net: nn.Module) -> bool:
    try:
        return bool(removable_units(net))
    except NotCompactable:
        return False
