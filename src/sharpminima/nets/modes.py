"""The state in which a net is measured: eval mode, its own precision, gradients on or off whatever the caller's are."""

import contextlib
import copy
import threading
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from sharpminima.base.errors import AnalysisError

_AUTOCAST = ("cpu", "cuda", "mps", "xpu")
# Two measures of one net would put each other's modes back, and numba's threads end the process where two share them.
_ONE_AT_A_TIME = threading.RLock()


@contextlib.contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put ``model`` in eval mode, then modes and buffers back as they were, also after an error.

    A net may count its passes or observe ranges in eval mode, too; what it keeps elsewhere than in buffers stays. The
    weights of embeddings with a largest norm, which torch scales in each pass, come back, too.

    Raises:
        AnalysisError: the model has no eval mode.

    >>> net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2).eval())
    >>> with eval_mode(net):
    ...     net.training
    False
    >>> net.training, net[1].training  # the frozen BatchNorm stays frozen
    (True, False)
    """
    with same_modes(model), same_buffers(model):
        try:
            model.eval()
        except Exception as error:  # whatever the model's own code raises
            raise AnalysisError(
                f"the model cannot be put in eval mode ({reason_of(error)}); give the model that it was made from"
            ) from error
        yield


@contextlib.contextmanager
def same_modes(model: nn.Module) -> Iterator[None]:
    """Put every module of ``model`` back in the mode that it has now, also after an error.

    A module whose ``train`` does more than set the mode (layers that merge their weights for eval mode) is called to
    undo it, and where it does but for rounding, its own weights are put back to the bit.
    """
    modes = [(module, module.training) for module in model.modules()]
    doing = [(module, training) for module, training in modes if type(module).train is not nn.Module.train]
    held = [
        (weight, weight.detach().clone())
        for module, _ in doing
        for weight in module._parameters.values()
        if weight is not None and not nn.parameter.is_lazy(weight)
        if weight.layout == torch.strided and weight.is_floating_point() and weight.numel()
    ]
    try:
        yield
    finally:
        for module, training in doing:
            module.train(training)
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for weight, values in held:
                rounding = torch.finfo(values.dtype).eps ** 0.5 * values.abs().max()
                if (weight - values).abs().max() <= rounding:
                    weight.copy_(values)


@contextlib.contextmanager
def same_buffers(model: nn.Module) -> Iterator[None]:
    """Put the values of now back into every buffer that has others afterwards, also after an error.

    Those of torch's own layers, too: a net may keep a BatchNorm in training mode, or hand its statistics to a function.
    The weights of embeddings with a largest norm, which torch scales in each pass, are held as buffers are.
    """
    every = [
        (module._buffers, name, buffer)
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is None or not nn.parameter.is_lazy(buffer)
    ]
    # Of the meta device there are no values.
    held = [(own, own.detach().clone()) for _, _, own in every if own is not None and not own.is_meta]
    scaled = [
        (weight, weight.detach().clone())
        for module in model.modules()
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.max_norm is not None
        if (weight := module._parameters.get("weight")) is not None
    ]
    try:
        yield
    finally:
        # Not by their versions, which observers of quantisation leave as they are.
        for own, values in (*held, *scaled):
            if own.shape != values.shape:
                own.data = values
            elif not torch.equal(own, values):
                with torch.no_grad():
                    own.copy_(values)
        for buffers, name, buffer in every:
            buffers[name] = buffer


@contextlib.contextmanager
def measuring(*, gradients: bool) -> Iterator[None]:
    """Compute as a measure must, wherever it is called: not in inference mode, without autocast or a default device.

    Measures that several threads call take turns.

    Args:
        gradients: whether the graph is recorded.

    >>> with torch.inference_mode(), measuring(gradients=True):
    ...     torch.ones(1, requires_grad=True).mul(2).requires_grad
    True
    """
    with _ONE_AT_A_TIME, contextlib.ExitStack() as stack:
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.set_grad_enabled(gradients))
        for kind in _AUTOCAST:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


def ordinary(tensor: Tensor) -> Tensor:
    """The same values, without a graph and without the limits of what was made in inference mode."""
    tensor = tensor.detach()
    return tensor.clone() if tensor.is_inference() else tensor


def copied(model: nn.Module) -> nn.Module:
    """A deep copy of ``model`` without its backward hooks, which would change derivatives.

    Raises:
        AnalysisError: a part of the model cannot be copied.

    >>> copied(nn.Linear(2, 1)).in_features
    2
    """
    # What pruning by torch and the older weight norm leave behind a pass is part of its graph: torch copies no such.
    memo = {
        id(value): value.detach().clone()
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    try:
        copy_of_it = copy.deepcopy(model, memo)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise AnalysisError(
            f"the model cannot be copied ({reason_of(error)}); take out of it what is no weight or layer"
        ) from error
    for module in copy_of_it.modules():
        module._backward_hooks.clear()
        module._backward_pre_hooks.clear()
    return copy_of_it


def reason_of(error: BaseException) -> str:
    """What an error of others says, in one line."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
