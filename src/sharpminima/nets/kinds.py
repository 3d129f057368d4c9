"""Which modules are nets whose weights and layers can be seen."""

import torch
from torch import nn

from sharpminima.base.errors import AnalysisError


def is_compiled(module: nn.Module) -> bool:
    """Whether a module hides what it runs: TorchScript, ``torch.compile``."""
    in_place = getattr(module, "_compiled_call_impl", None) is not None  # module.compile()
    return in_place or isinstance(module, torch.jit.ScriptModule) or type(module).__name__ == "OptimizedModule"


def check_kind(model: nn.Module) -> None:
    """Check that ``model`` is a net whose weights and layers can be seen, and where it lies.

    Raises:
        AnalysisError: it is none, or a part of it is a wrapper, compiled, quantised, not initialised, or on the meta
            device or another one than the rest.
    """
    if not isinstance(model, nn.Module):
        raise AnalysisError(f"the model is a {type(model).__name__}; give a torch.nn.Module")
    for name, module in model.named_modules():
        where = f"module {name} of the model" if name else "the model"
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            raise AnalysisError(f"{where} is a {type(module).__name__}; give the net inside, its .module")
        if is_compiled(module):
            raise AnalysisError(
                f"{where} is compiled, so its layers cannot be seen; give the model that it was made from"
            )
        if ".quantized" in type(module).__module__:
            raise AnalysisError(
                f"{where} is quantised, so its weights cannot be seen; give the model that it was made from"
            )
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    for name, tensor in tensors.items():
        if nn.parameter.is_lazy(tensor):
            raise AnalysisError(f"{name} of the model has no shape yet; run the model once on images first")
        if tensor.is_meta:
            raise AnalysisError(f"{name} of the model is on the meta device, where it has no values; load the weights")
    devices = sorted({str(tensor.device) for tensor in tensors.values()})
    if len(devices) > 1:
        raise AnalysisError(f"the model lies on {' and '.join(devices)}; move it onto one device")
