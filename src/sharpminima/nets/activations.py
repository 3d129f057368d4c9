"""Which calls of a forward pass are activations: ReLUs under all their names, and others."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._ops import OpOverload, OpOverloadPacket
from torch.nn import functional as F

from sharpminima.base.errors import AnalysisError

Activations = str | Callable[[nn.Module], bool]
"""What counts as a layer of neurons: "relu" (ReLUs alone), "all" (other activations too, by the sign of what enters
them), or a predicate of modules, whose inputs count beside those of ReLUs."""

OFFERED = ("relu", "all")

_RELUS = frozenset([F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, F.relu6])  # nn.ReLU calls F.relu
_CLAMPS = frozenset([torch.clamp, torch.clamp_, Tensor.clamp, Tensor.clamp_])
_CLIPS = frozenset([torch.clip, torch.clip_, Tensor.clip, Tensor.clip_])
_CLAMP_MINS = frozenset([torch.clamp_min, torch.clamp_min_, Tensor.clamp_min, Tensor.clamp_min_])
_HARDTANHS = frozenset([F.hardtanh, F.hardtanh_])  # nn.ReLU6 is one
_THRESHOLDS = frozenset([F.threshold, torch.threshold, torch.threshold_])
_OTHERS = frozenset(
    [
        *(F.gelu, F.silu, F.mish, F.elu, F.elu_, F.hardswish, F.hardsigmoid, F.softplus, F.logsigmoid, F.softsign),
        *(F.celu, torch.celu, torch.celu_, F.selu, torch.selu, torch.selu_, F.rrelu, torch.rrelu, torch.rrelu_),
        *(F.leaky_relu, F.leaky_relu_, F.prelu, torch.prelu, Tensor.prelu, F.tanhshrink, F.softshrink),
        *(F.hardshrink, torch.hardshrink, Tensor.hardshrink, *_HARDTANHS, *_THRESHOLDS),
        *(F.sigmoid, torch.sigmoid, torch.sigmoid_, Tensor.sigmoid, Tensor.sigmoid_, torch.special.expit),
        *(F.tanh, torch.tanh, torch.tanh_, Tensor.tanh, Tensor.tanh_),
    ]
)


_FUSED = frozenset(
    [
        *(torch.rnn_relu, torch.rnn_relu_cell, torch.rnn_tanh, torch.rnn_tanh_cell),
        *(torch.lstm, torch.lstm_cell, torch.gru, torch.gru_cell),
    ]
)


def check_activations(activations: Activations) -> None:
    """Check that such activations are offered.

    Raises:
        AnalysisError: they are not.
    """
    if not callable(activations) and activations not in OFFERED:
        offered = " and ".join(repr(each) for each in OFFERED)
        raise AnalysisError(
            f"activations are {activations!r}; there are {offered}, or give a function of a module that tells"
        )


def chosen_by(activations: Activations, model: nn.Module) -> list[str]:
    """The names of the modules that a predicate chooses; none of activations by name."""
    return [name for name, module in model.named_modules() if activations(module)] if callable(activations) else []


def identified(activations: Activations, model: nn.Module) -> str | list[str]:
    """What identifies activations of a model, in any process: their name, or the modules that a predicate chooses."""
    return chosen_by(activations, model) if callable(activations) else activations


def kind_of(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    """ "relu" for a call that is 0 up to 0 and rises behind, "other" for another activation, None for what is none.

    "fused" is a recurrent layer that torch runs as one operation, so that its activations cannot be seen.
    """
    if func in _RELUS:
        return "relu"
    if func in _CLAMPS | _CLIPS:
        lowest, highest = _argument(args, kwargs, 1, "min", None), _argument(args, kwargs, 2, "max", None)
        return "relu" if _is_zero(lowest) and (highest is None or _is_above_zero(highest)) else None
    if func in _CLAMP_MINS:
        return "relu" if _is_zero(_argument(args, kwargs, 1, "min", None)) else None
    if func in _HARDTANHS:
        lowest, highest = _argument(args, kwargs, 1, "min_val", -1.0), _argument(args, kwargs, 2, "max_val", 1.0)
        return "relu" if _is_zero(lowest) and _is_above_zero(highest) else "other"
    if func in _THRESHOLDS:
        edge, value = _argument(args, kwargs, 1, "threshold", None), _argument(args, kwargs, 2, "value", None)
        return "relu" if _is_zero(edge) and _is_zero(value) else "other"
    if func in _FUSED:
        return "fused"
    return "other" if func in _OTHERS else None


def public(func: Callable[..., Any]) -> Callable[..., Any]:
    """The function of ``torch`` or ``torch.nn.functional`` of this name, of an operator of ``torch.ops.aten``."""
    func = func.overloadpacket if isinstance(func, OpOverload) else func
    if isinstance(func, OpOverloadPacket) and str(func).startswith("aten."):
        name = func.__name__
        return cast(Callable[..., Any], getattr(torch, name, getattr(F, name, func)))
    return func


def input_of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor | None:
    """What enters a call: its first argument, or the one named so; None if that is no tensor."""
    entering = _argument(args, kwargs, 0, "input", next(iter(kwargs.values()), None))
    return entering if isinstance(entering, Tensor) else None


def can_be_neurons(func: Callable[..., Any], z: Tensor, weights: Iterable[Tensor | None]) -> bool:
    """Whether what enters a call may hold pre-activations: not a single number, integers, or a weight that is bounded.

    Args:
        weights: of the module that calls.
    """
    if z.ndim == 0 or not z.is_floating_point():
        return False
    bounds = func in _CLAMPS | _CLIPS | _CLAMP_MINS
    return not (bounds and (isinstance(z, nn.Parameter) or any(z is weight for weight in weights)))


def name_of(func: Callable[..., Any]) -> str:
    """A function's name, the same in place or not."""
    return str(getattr(func, "__name__", "activation")).rstrip("_")


def _argument(args: Sequence[Any], kwargs: Mapping[str, Any], place: int, name: str, usual: Any) -> Any:
    return args[place] if len(args) > place else kwargs.get(name, usual)


def _is_zero(bound: Any) -> bool:
    return _is_number(bound) and bool(bound == 0)


def _is_above_zero(bound: Any) -> bool:
    return _is_number(bound) and bool(bound > 0)


def _is_number(bound: Any) -> bool:
    return isinstance(bound, int | float) or (isinstance(bound, Tensor) and bound.ndim == 0)
