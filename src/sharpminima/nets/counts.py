"""What every pruned net is measured by: parameters, live paths, multiply-adds; for one model, without data.

A unit, one output of a layer, is *live* when it lies on a path of non-zero weights from the input to the
output. A weight is *effective* when it is non-zero, its input unit is reached from the input and its output
unit reaches the output; a bias, or a shift of BatchNorm, when it is non-zero and its unit is live: what
biases alone feed is a constant. One forward and one backward pass of path counts decides all of them at once,
through any residual connection: weights 0 or 1, an input of ones, and every count cut to 0 or 1 after each
layer, so that no depth overflows. (Path counts: as in SynFlow, Tanaka et al., NeurIPS 2020.)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from sharpminima.base.errors import AnalysisError
from sharpminima.nets.masks import checked_masks, prunable_parameters
from sharpminima.nets.modes import copied, measuring, reason_of

_LAYERS = (
    nn.Linear,
    nn.Conv2d,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.ReLU,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.Flatten,
    nn.Identity,
    nn.Dropout,
)
# Their functions are looked at as any others are.
_OF_FUNCTIONS = (
    *(nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh, nn.Sigmoid, nn.Hardtanh),
    *(nn.Hardswish, nn.Hardsigmoid, nn.Softplus, nn.Softsign, nn.LayerNorm, nn.GroupNorm),
)
# Of one tensor element by element, and not constant; a number that they make of 0 is a constant, and no path.
_ALIKE = frozenset(
    [
        *("relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "tanh", "sigmoid", "hardtanh", "clamp"),
        *("clamp_min", "clamp_max", "hardswish", "hardsigmoid", "softplus", "softsign", "abs", "square", "exp", "neg"),
        *("dropout", "float", "double", "half", "bfloat16"),
    ]
)
# Functions and methods, by name, that hand on each count as it is, move it, or add counts up.
_HANDED_ON = frozenset(
    [
        *("relu", "contiguous", "clone", "flatten", "unflatten", "reshape", "reshape_as", "view", "view_as", "squeeze"),
        *("unsqueeze", "permute", "transpose", "movedim", "flip", "expand", "expand_as", "repeat", "chunk", "split"),
        *("unbind", "select", "narrow", "index_select", "__getitem__", "cat", "concat", "stack", "mean", "sum"),
        *("avg_pool2d", "adaptive_avg_pool2d"),
    ]
)
_QUESTIONS = frozenset(["size", "dim", "numel", "stride", "is_contiguous", "__len__", "new_zeros", "zeros_like"])
_ATTRIBUTES = frozenset(["shape", "ndim", "dtype", "device", "layout", "is_cuda", "requires_grad", "T", "mT"])
_SUMS = frozenset(("add", "sub", "rsub", "__rsub__"))  # no difference cancels: the weights are any


@dataclass(frozen=True)
class Counts:
    """Counts for one net and one image. FLOPs are two for each multiply-add of Linear and Conv2d layers."""

    parameters: int  # all parameters
    prunable: int  # weights and biases of Linear and Conv2d
    nonzero: int  # of all parameters
    nonzero_prunable: int  # of the prunable ones
    effective: int | None  # of all parameters: on a live path; None: live paths are not known
    compression: float | None  # parameters / nonzero; None where nothing is left
    flops_dense: int  # taps that fall on padding are not counted, nor are biases, BatchNorm, activations
    flops_nonzero: int  # the same, of non-zero weights
    flops_effective: int | None  # the same, of effective weights
    density_per_layer: dict[str, float]  # prunable parameter -> non-zero share, in [0, 1]


@measuring(gradients=True)
def count_net(
    model: nn.Module,
    input_shape: Sequence[int],
    masks: Mapping[str, Tensor] | None = None,
    *,
    unknown_paths: bool = False,
) -> Counts:
    """Count what ``model`` holds and what of it can act.

    Args:
        model: built of the layers of ``torch.nn`` that the package's nets use, between which tensors are added,
            multiplied, moved and pooled; it is not changed.
        input_shape: (channels, height, width) of one image.
        masks: parameter name -> tensor of 0 and 1; a parameter under 0 counts as zero, whatever its value.
        unknown_paths: count also what has other layers or functions, without what is effective.

    A parameter that several layers share counts once, and its multiply-adds in each of them.

    Raises:
        AnalysisError: the model has a layer or a function for which path counts are not defined here, or cannot take
            images of that shape; a mask does not fit.

    >>> count_net(nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1)), (3,)).parameters
    11
    """
    if any(parameter.is_meta for parameter in model.parameters()):
        raise AnalysisError("the model is on the meta device, where weights have no values; load it onto another")
    alive = {name: (p.detach() != 0).cpu() for name, p in model.named_parameters()}
    for name, mask in checked_masks(masks or {}, dict(model.named_parameters())).items():
        alive[name] &= mask.cpu()
    effective: dict[str, Tensor] | None
    try:
        effective, positions = _live_paths(model, input_shape, alive)
    except AnalysisError:
        if not unknown_paths:
            raise
        effective, positions = None, _positions(model, input_shape)
    prunable = prunable_parameters(model)
    parameters = sum(a.numel() for a in alive.values())
    nonzero = sum(int(a.sum()) for a in alive.values())
    return Counts(
        parameters=parameters,
        prunable=sum(alive[name].numel() for name in prunable),
        nonzero=nonzero,
        nonzero_prunable=sum(int(alive[name].sum()) for name in prunable),
        effective=None if effective is None else sum(int(e.sum()) for e in effective.values()),
        compression=parameters / nonzero if nonzero else None,
        flops_dense=_flops({name: torch.ones_like(a) for name, a in alive.items()}, positions),
        flops_nonzero=_flops(alive, positions),
        flops_effective=None if effective is None else _flops(effective, positions),
        density_per_layer={name: float(alive[name].double().mean()) for name in prunable},
    )


def _flops(selected: dict[str, Tensor], positions: dict[str, Tensor]) -> int:
    return sum(2 * int((selected[name] * uses).sum()) for name, uses in positions.items())


class _Cut(torch.autograd.Function):
    """Path counts to 0 or 1: forward, is the unit reached; backward, is it reached and reaches the output."""

    @staticmethod
    def forward(ctx: Any, counts: Tensor) -> Tensor:
        reached = counts > 0
        ctx.save_for_backward(reached)
        return reached.to(counts.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (reached,) = ctx.saved_tensors
        return ((gradient > 0) & reached).to(gradient.dtype)


class _Known(TorchFunctionMode):
    """Lets through, outside of known layers, what leaves counts right, and refuses all else.

    What depends on neither the images nor a parameter is a constant: it is no path, and as a factor it cuts where it is
    zero.
    """

    def __init__(self) -> None:
        super().__init__()
        self._inside = 0

    def watch(self, module: nn.Module, hooks: Sequence[Callable[..., Tensor | None]]) -> None:
        """Let the module do what it does, and ``hooks`` after it."""
        module.register_forward_pre_hook(lambda *_: self._enter(1))
        for hook in hooks:
            module.register_forward_hook(hook)
        module.register_forward_hook(lambda *_: self._enter(-1))

    def _enter(self, step: int) -> None:
        if not torch.is_grad_enabled():
            raise AnalysisError(_unknown("a part of the model that runs without gradients"))
        self._inside += step

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Called in place of each function of torch."""
        kwargs = kwargs or {}
        if self._inside or not any(_is_live(leaf) for leaf in tree_leaves((args, kwargs))):
            return func(*args, **kwargs)
        if "input" in kwargs:  # what torch calls the first argument
            args, kwargs = (kwargs["input"], *args), {key: value for key, value in kwargs.items() if key != "input"}
        name = getattr(func, "__name__", str(func))
        is_in_place = name.endswith("_") and not name.endswith("__")
        if is_in_place and not _is_live(args[0]):
            raise AnalysisError(_unknown(f"function {name!r} on a constant"))
        name = name[:-1] if is_in_place else name
        asked = getattr(getattr(func, "__self__", None), "__name__", "") if name == "__get__" else name
        if asked in (_ATTRIBUTES if name == "__get__" else _QUESTIONS):
            return func(*args, **kwargs)
        if name in _HANDED_ON or (name == "pad" and not (kwargs.get("value") or any(args[3:]))):
            return func(*tree_map(_without_constant, args), **tree_map(_without_constant, kwargs))
        if name in _SUMS and kwargs.keys() <= {"alpha", "other"}:
            one, other = (_path(term) for term in (*args, *(kwargs[key] for key in kwargs.keys() & {"other"})))
            return one.add_(other) if is_in_place else one + other
        if name in ("mul", "multiply") and not kwargs:
            one, other = (_factor(side) for side in args)
            return one.mul_(other) if is_in_place else one * other
        if name in ("to", "type_as"):
            return args[0]
        if name in _ALIKE and _is_live(args[0]) and not any(map(_is_live, tree_leaves((args[1:], kwargs)))):
            return args[0]
        if name in ("layer_norm", "group_norm"):
            return _mixed_layer(*args, **kwargs) if name == "layer_norm" else _mixed_groups(*args, **kwargs)
        if name == "div" and _is_live(args[0]) and not _is_live(args[1]) and not kwargs:
            return args[0]
        if func in (F.max_pool2d, torch.max_pool2d):
            return _average_pooled(*args, **kwargs)
        raise AnalysisError(_unknown(f"function {name!r}"))


def _is_live(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


def _without_constant(value: Any) -> Any:
    """Zeros in place of a constant tensor that floats, anything else as it is."""
    is_constant = isinstance(value, Tensor) and value.is_floating_point() and not value.requires_grad
    return torch.zeros_like(value) if is_constant else value


def _path(term: Any) -> Any:
    if _is_live(term):
        return term
    return torch.zeros_like(term) if isinstance(term, Tensor) else 0


def _factor(side: Any) -> Any:
    return side if _is_live(side) else (side != 0) * 1.0


def _average_pooled(
    features: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    """In place of a max pooling: all inputs of a window can act, not the first of several equal ones alone."""
    if dilation not in (1, (1, 1)) or return_indices:
        raise AnalysisError(_unknown("function 'max_pool2d' with dilation or indices"))
    return F.avg_pool2d(features, kernel_size, stride, padding, ceil_mode)


def _mixed_layer(
    features: Tensor, shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 0.0
) -> Tensor:
    """In place of a layer normalisation: each output of it depends on all inputs that it is normalised with."""
    axes = tuple(range(-len(shape), 0))
    return _scaled(features.mean(axes, keepdim=True).expand_as(features), weight, bias)


def _mixed_groups(
    features: Tensor, groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 0.0
) -> Tensor:
    """In place of a group normalisation, as `_mixed_layer`."""
    of_groups = features.reshape(len(features), groups, -1)
    mixed = of_groups.mean(-1, keepdim=True).expand_as(of_groups).reshape(features.shape)
    shape = (-1, *[1] * (features.ndim - 2))
    return _scaled(mixed, *(each if each is None else each.view(shape) for each in (weight, bias)))


def _scaled(features: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """The same, cut where the scale is zero; shifts are there for their gradients."""
    features = features if weight is None else features * weight
    return features if bias is None else features + bias


def _unknown(what: str) -> str:
    known = ", ".join(layer.__name__ for layer in _LAYERS)
    return (
        f"{what}: its live paths are not known; build the net of {known} (zero padding, undilated pooling), LayerNorm, "
        "GroupNorm, activations without parameters, and of additions, products, means and what moves values, or teach "
        "sharpminima.nets.counts the rest"
    )


def _positions(model: nn.Module, input_shape: Sequence[int]) -> dict[str, Tensor]:
    """How often one image uses each weight of a Linear or Conv2d of plain weights; broadcasts."""
    net = copied(model).cpu().eval()
    positions: dict[str, Tensor] = {}
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    for module in net.modules():
        weight = module._parameters.get("weight")
        if isinstance(module, nn.Linear | nn.Conv2d) and weight is not None:
            module.register_forward_hook(partial(_count_positions, positions, names[id(weight)]))
    dtype = next(net.parameters()).dtype
    _run(net, torch.ones(1, *input_shape, dtype=dtype))
    return positions


def _run(net: nn.Module, images: Tensor) -> Any:
    """What the net gives.

    Raises:
        AnalysisError: it fails.
    """
    try:
        return net(images)
    except (torch.OutOfMemoryError, AnalysisError):
        raise
    except Exception as error:  # whatever the model's own code raises
        raise AnalysisError(f"the model cannot take images of {list(images.shape[1:])} ({reason_of(error)})") from error


def _live_paths(
    model: nn.Module, input_shape: Sequence[int], alive: dict[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Effective parameters (bool, of their shape), and how often one image uses each weight (broadcasts)."""
    # float64 on the CPU: sums of small non-negative integers, so that zero means no path.
    net = copied(model).cpu().double().eval()
    positions: dict[str, Tensor] = {}
    names = {id(parameter): name for name, parameter in net.named_parameters()}  # of what layers share: the first
    known = _Known()
    for name, module in net.named_modules():
        _check(name, module)
        if isinstance(module, nn.MaxPool2d):
            module.forward = partial(_average_pool, module)  # type: ignore[method-assign] # of this copy
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.forward = partial(_scale, module)  # type: ignore[method-assign]
        if isinstance(module, _LAYERS):
            hooks: list[Callable[..., Tensor | None]] = [lambda _module, _inputs, output: _Cut.apply(output)]
            if isinstance(module, nn.Linear | nn.Conv2d):
                hooks.insert(0, partial(_count_positions, positions, names[id(module.weight)]))
            known.watch(module, hooks)
    parameters = dict(net.named_parameters())
    for name, parameter in parameters.items():
        parameter.requires_grad_(True)
        is_shift = name.rpartition(".")[2] == "bias"  # its gradient says whether its unit is live
        parameter.data = torch.zeros_like(parameter) if is_shift else alive[name].double()
    images = torch.ones(1, *input_shape, dtype=torch.float64, requires_grad=True)
    with known:
        reached = _run(net, images.clone())  # which the net may change in place
    if not isinstance(reached, Tensor):
        raise AnalysisError(f"the model gives {type(reached).__name__}, not one tensor of outputs")
    gradients: Sequence[Tensor | None] = [None]
    if reached.requires_grad:
        gradients = torch.autograd.grad(reached.sum(), list(parameters.values()), allow_unused=True)
    if all(gradient is None for gradient in gradients):
        raise AnalysisError("the model's output depends on none of its parameters; there is nothing to count")
    effective = {
        name: torch.zeros_like(alive[name]) if gradient is None else alive[name] & (gradient > 0)
        for name, gradient in zip(parameters, gradients, strict=True)
    }
    return effective, positions


def _check(name: str, module: nn.Module) -> None:
    """Refuse what the pass would count wrongly rather than not at all."""
    others = sorted(set(dict(module.named_parameters(recurse=False))) - {"weight", "bias"})
    if isinstance(module, nn.Linear | nn.Conv2d) and (others or "weight" not in module._parameters):
        raise AnalysisError(
            f"layer {name!r} computes its weight from {', '.join(others) or 'others'}; make it a plain parameter first "
            "(torch.nn.utils.prune.remove, torch.nn.utils.parametrize.remove_parametrizations, remove_weight_norm)"
        )
    own = next(module.parameters(recurse=False), None) is not None
    is_container = not own and next(module.children(), None) is not None
    padded_otherwise = isinstance(module, nn.Conv2d) and module.padding_mode != "zeros"
    dilated = isinstance(module, nn.MaxPool2d) and module.dilation not in (1, (1, 1))
    # What inherits from a layer may compute something else.
    known = (*_LAYERS, *_OF_FUNCTIONS)
    is_layer = any(isinstance(module, layer) and type(module).forward is layer.forward for layer in known)
    if (is_layer and not padded_otherwise and not dilated) or is_container:
        return
    raise AnalysisError(_unknown(f"layer {name!r} ({module})"))


def _average_pool(pool: nn.MaxPool2d, features: Tensor) -> Tensor:
    return _average_pooled(features, pool.kernel_size, pool.stride, pool.padding, ceil_mode=pool.ceil_mode)


def _scale(norm: nn.BatchNorm1d | nn.BatchNorm2d, features: Tensor) -> Tensor:
    if not norm.affine:
        return features
    shape = (-1, *[1] * (features.ndim - 2))
    return _scaled(features, norm.weight.view(shape), norm.bias.view(shape))


def _count_positions(
    positions: dict[str, Tensor],
    name: str,
    layer: nn.Linear | nn.Conv2d,
    inputs: tuple[Tensor],
    output: Tensor,
) -> None:
    """Add the multiply-adds of each weight for one image: int64 [] (Linear) or [kernel rows, columns]."""
    if isinstance(layer, nn.Linear):
        uses = torch.tensor(output.numel() // layer.out_features)
    else:
        # The gradient of a tap is the number of places where it meets a pixel and not the padding.
        taps = torch.ones(1, 1, *layer.kernel_size, dtype=torch.float64, requires_grad=True)
        pixels = torch.ones(1, 1, *inputs[0].shape[2:], dtype=torch.float64)
        met = F.conv2d(pixels, taps, stride=layer.stride, padding=layer.padding, dilation=layer.dilation)
        (gradient,) = torch.autograd.grad(met.sum(), taps)
        uses = gradient[0, 0].round().long()
    positions[name] = positions.get(name, 0) + uses
