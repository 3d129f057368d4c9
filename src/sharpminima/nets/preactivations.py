"""What enters each ReLU of a net while it runs: its pre-activations."""

import contextlib
import itertools
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sharpminima.base.errors import AnalysisError
from sharpminima.nets.activations import (
    Activations,
    can_be_neurons,
    check_activations,
    chosen_by,
    input_of,
    kind_of,
    name_of,
    public,
)
from sharpminima.nets.kinds import check_kind


@contextlib.contextmanager
def capture_preactivations(
    model: nn.Module, sink: Callable[[str, Tensor], None], activations: Activations = "relu"
) -> Iterator[None]:
    """Hand the input of every ReLU to ``sink(name, z)`` while ``model`` runs inside this context.

    A ReLU is a call of ``nn.ReLU``, ``F.relu``, ``torch.relu`` or ``Tensor.relu``, in place or not, wherever in
    the model it stands; likewise what has its sign and its zeros: ``clamp(min=0)``, ``clamp_min(0)``, ReLU6,
    ``F.threshold(z, 0, 0)``. ``z`` [N, neurons] is its input, flattened (a neuron of a convolution is one (channel,
    row, column); what has one value an image is one neuron). Single numbers, integers and weights that are clamped are
    no neurons. The calls come in the order of the forward pass, one a ReLU and pass, also under
    ``torch.func.functional_call``. ``z`` may be overwritten after the call (by an in-place ReLU): clone what you keep.

    ``name`` is the qualified name of an ``nn.ReLU``, and of a functional ReLU that of the module that calls it
    with ``.relu`` (or another name of the function) behind it (``relu`` in the model itself). What runs again in the
    same pass is told apart by ``_1``, ``_2``, ..., where no module has that name. So names are the same in every pass
    that takes the same way through the model.

    Args:
        activations: "relu"; "all", with the inputs of other activations too (LeakyReLU, GELU, SiLU, tanh, ...), whose
            states are the signs of these; or a predicate of modules: the first input of a module of which it is true
            counts too, and nothing inside of the module does.

    Warns:
        UserWarning: other activations than those asked for run beside them, or recurrent layers, which torch runs as
            one operation; they are named, and left out.

    Raises:
        AnalysisError: no such activation runs in a forward pass of the model, or a part of it, or a function that a
            module holds, is compiled (TorchScript, ``torch.compile``), so that its ReLUs cannot be seen.

    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    >>> with capture_preactivations(net, lambda name, z: print(name, list(z.shape))):
    ...     _ = net(torch.ones(5, 2))
    1 [5, 3]
    """
    check_kind(model)
    check_activations(activations)
    check_functions(model)
    with watch_preactivations(model, lambda name, z: sink(name, rows_of(z)), activations) as watched:
        yield
    warn_caller(watched.left_out())


def rows_of(z: Tensor) -> Tensor:
    """Pre-activations [N, ...] as [N, neurons]; of one value an image, [N], one neuron."""
    return z.flatten(1) if z.ndim > 1 else z.reshape(-1, 1)


@contextlib.contextmanager
def watch_preactivations(
    model: nn.Module, sink: Callable[[str, Tensor], None], activations: Activations = "relu"
) -> Iterator["_Capture"]:
    """`capture_preactivations` of a model that is known to fit, pass after pass: each z as it lies, without a warning.

    Yields:
        What follows the model: ``left_out()`` says which activations were; ``layer`` is what the layer at hand is known
        by in passes that take other ways through the model; ``whole`` is False where a part of it is called alone.
    """
    capture = _Capture(model, sink, activations)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # it hides a transformer's activation
    try:
        with contextlib.ExitStack() as stack:
            for name, module in capture.modules.items():
                before = module.register_forward_pre_hook(
                    lambda _, args, kwargs, name=name: capture.enter(name, args, kwargs), with_kwargs=True
                )
                after = module.register_forward_hook(
                    lambda *call, name=name: capture.leave(name, call[-1]), always_call=True
                )
                stack.enter_context(before)
                stack.enter_context(after)
            stack.enter_context(_not_compiled())
            stack.enter_context(_seeing(capture))
            stack.enter_context(_Calls(capture.call))
            yield capture
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextlib.contextmanager
def watch_modules(modules: Mapping[str, nn.Module], sink: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Hand on what enters these modules, in the order of their calls: a tenth of the time of looking at every call."""
    hooks = [
        module.register_forward_pre_hook(lambda _, args, name=name: sink(name, args[0]))
        for name, module in modules.items()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def warn_caller(said: str) -> None:
    """Warn of what is said, if anything, at the line outside of this package that has called it."""
    if said:
        frame, level, own = sys._getframe(), 1, __name__.partition(".")[0]
        while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in (own, "contextlib", "torch"):
            frame, level = frame.f_back, level + 1
        warnings.warn(said, stacklevel=level)


def check_functions(model: nn.Module) -> None:
    """Check that no module of a model holds a function that is compiled.

    Raises:
        AnalysisError: one does; both are named.
    """
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, torch.jit.ScriptFunction):
                where = f"{path}.{name}".lstrip(".")
                raise AnalysisError(
                    f"{where} of the model is a function that is compiled, so its ReLUs cannot be seen; give the "
                    "function that it was made from"
                )


class _Capture:
    """Follows a forward pass, and hands on the inputs of the activations that are asked for."""

    def __init__(self, model: nn.Module, sink: Callable[[str, Tensor], None], activations: Activations) -> None:
        self.modules = dict(model.named_modules())
        self.skipped: set[str] = set()  # activations that were not asked for
        self.fused: set[str] = set()  # recurrent layers, whose activations cannot be seen
        self.layer = ""  # of a sink that runs
        self._sink, self._activations = sink, activations
        self._chosen = set(chosen_by(activations, model))
        self._running: list[str] = []  # qualified names, the innermost last
        self._returned: list[str] = [""]  # in the caller of each of these, and in the innermost: what returned last
        self._taken: set[str] = set()
        self._layers: set[str] = set()
        self.handing = False  # a sink runs

    @property
    def whole(self) -> bool:
        """Whether the model itself is called, not a part of it."""
        return self._running[:1] == [""]

    def left_out(self) -> str:
        """What is said of activations that did not count; empty where there are none."""
        said = []
        if self.skipped:
            said.append(
                f"only the ReLUs' pre-activations count; left out are those of {', '.join(sorted(self.skipped))} "
                '(activations="all" takes them too, by their sign)'
            )
        if self.fused:
            said.append(
                f"activations within {', '.join(sorted(self.fused))} do not count: torch runs it as one operation"
            )
        return "; ".join(said)

    def enter(self, path: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """A module is called."""
        if not self._running:
            self._taken.clear()
            self._layers.clear()
        chosen, behind = path in self._chosen and not self._inside(), self._returned[-1]
        self._running.append(path)  # `leave` comes also where the sink fails
        self._returned.append("")
        if chosen:
            z = input_of(args, kwargs)
            if z is None or not z.is_floating_point():
                what = "tensor" if z is None else f"floating point but {z.dtype}"
                raise AnalysisError(f"module {path} takes no {what}, so it has no pre-activation")
            self._hand_on(path, path, z, behind)

    def leave(self, path: str, output: Any) -> None:
        """A module has returned; its output is None where it failed."""
        self._running.pop()
        self._returned.pop()
        self._returned[-1] = path
        if path == "" and not self._taken and output is not None:
            others = f"; those of {', '.join(sorted(self.skipped))} count with " if self.skipped else ""
            raise AnalysisError(
                "no ReLU runs in the model's forward pass, so there are no pre-activations; "
                "its hidden layers must end in nn.ReLU, F.relu, torch.relu or Tensor.relu"
                + (f'{others}activations="all"' if others else "")
            )

    def call(self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """A function of torch is called."""
        func = public(func)
        if self.handing or not self._running or self._inside() or (kind := kind_of(func, args, kwargs)) is None:
            return
        z, path, function = input_of(args, kwargs), self._running[-1], name_of(func)
        if z is None or not can_be_neurons(func, z, self.modules[path]._parameters.values()):
            return
        own = path if type(self.modules[path]).__module__ == "torch.nn.modules.activation" else ""
        base = own or f"{path}.{function}".lstrip(".")
        if kind == "fused":
            self.fused.add(f"{base} ({type(self.modules[path]).__name__})")
        elif kind == "other" and self._activations != "all":
            self.skipped.add(f"{base} ({type(self.modules[own]).__name__})" if own else base)
        else:
            self._hand_on(own, base, z, self._returned[-2 if own else -1])

    def _inside(self) -> bool:
        return not self._chosen.isdisjoint(self._running)

    def _hand_on(self, own: str, base: str, z: Tensor, behind: str) -> None:
        name = next(
            each for each in _numbered(base) if each not in self._taken and (each == own or each not in self.modules)
        )
        self.layer = next(each for each in _numbered(f"{base} behind {behind}") if each not in self._layers)
        self._taken.add(name)
        self._layers.add(self.layer)
        with _silent():
            self._sink(name, z)


def _numbered(base: str) -> Iterator[str]:
    return (f"{base}_{number}" if number else base for number in itertools.count())


@contextlib.contextmanager
def _not_compiled() -> Iterator[None]:
    """What ``torch.compile`` made of the model, or of what calls it, runs as it was written.

    Its tracing would take the sink for a part of the model, and compiled kernels would get addresses of no memory.

    Raises:
        AnalysisError: what is compiled begins outside of the watching, where it cannot be stopped any more.
    """
    if "torch._dynamo" not in sys.modules:  # nothing is compiled yet, and its import takes a second
        yield
        return
    try:
        stance = torch.compiler.set_stance("force_eager")
    except RuntimeError as error:
        raise AnalysisError(
            "a model cannot be watched inside of what torch.compile compiles; compile the model alone"
        ) from error
    with stance:
        yield


class _Active(threading.local):
    """The captures of a thread that see a pass, the innermost last."""

    def __init__(self) -> None:
        self.captures: list[_Capture] = []


_ACTIVE = _Active()


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """What a sink calls is not the model's: no capture that was there before hands it on, one around it neither."""
    before = [(capture, capture.handing) for capture in _ACTIVE.captures]
    for capture, _ in before:
        capture.handing = True
    try:
        yield
    finally:
        for capture, handing in before:
            capture.handing = handing


@contextlib.contextmanager
def _seeing(capture: _Capture) -> Iterator[None]:
    _ACTIVE.captures.append(capture)
    try:
        yield
    finally:
        _ACTIVE.captures.remove(capture)


class _Calls(TorchFunctionMode):
    """Tells of every call of a function of torch, then runs it."""

    def __init__(self, intercept: Callable[[Callable[..., Any], Sequence[Any], Mapping[str, Any]], None]) -> None:
        super().__init__()
        self._intercept = intercept

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        self._intercept(func, args, kwargs)
        return func(*args, **kwargs)
