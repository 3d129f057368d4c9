"""Post-synaptic potentials: what enters each ReLU of a net."""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from sharpminima.analysis._inputs import eval_mode
from sharpminima.base.errors import AnalysisError

_RELUS = frozenset([F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_])  # nn.ReLU calls F.relu


@contextlib.contextmanager
def capture_preactivations(model: nn.Module, sink: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Hand the input of every ReLU to ``sink(name, z)`` while ``model`` runs inside this context.

    A ReLU is a call of ``nn.ReLU``, ``F.relu``, ``torch.relu`` or ``Tensor.relu``, in place or not, wherever in
    the model it stands. ``z`` [N, neurons] is its input, flattened (a neuron of a convolution is one (channel,
    row, column)). The calls come in the order of the forward pass, one a ReLU and pass, also under
    ``torch.func.functional_call``. ``z`` may be overwritten after the call (by an in-place ReLU): clone what
    you keep.

    ``name`` is the qualified name of an ``nn.ReLU``, and of a functional ReLU that of the module that calls it
    with ``.relu`` behind it (``relu`` in the model itself). What runs again in the same pass is told apart by
    ``_1``, ``_2``, ..., where no module has that name. So names are the same in every pass that takes the same
    way through the model.

    Raises:
        AnalysisError: no ReLU runs in a forward pass of the model, or a part of it is compiled (TorchScript,
            ``torch.compile``), so that its ReLUs cannot be seen.

    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    >>> with capture_preactivations(net, lambda name, z: print(name, list(z.shape))):
    ...     _ = net(torch.ones(5, 2))
    1 [5, 3]
    """
    modules = dict(model.named_modules())
    for name, module in modules.items():
        if _is_compiled(module):
            raise AnalysisError(
                f"{f'module {name} of the model' if name else 'the model'} is compiled, so its ReLUs cannot be seen; "
                "give the model that it was made from"
            )
    running: list[str] = []  # qualified names, the innermost last
    taken: set[str] = set()

    def enter(name: str) -> None:
        if not running:
            taken.clear()
        running.append(name)

    def leave(name: str, output: Any) -> None:
        running.pop()
        if name == "" and not taken and output is not None:
            raise AnalysisError(
                "no ReLU runs in the model's forward pass, so there are no pre-activations; "
                "its hidden layers must end in nn.ReLU, F.relu, torch.relu or Tensor.relu"
            )

    def intercept(z: Tensor) -> None:
        if running:
            name = _name(running[-1], modules, taken)
            taken.add(name)
            sink(name, z.flatten(1))

    with contextlib.ExitStack() as stack:
        for name, module in modules.items():
            stack.enter_context(module.register_forward_pre_hook(lambda *_, name=name: enter(name)))
            after = module.register_forward_hook(lambda *call, name=name: leave(name, call[-1]), always_call=True)
            stack.enter_context(after)
        stack.enter_context(_Relus(intercept))
        yield


def _is_compiled(module: nn.Module) -> bool:
    in_place = getattr(module, "_compiled_call_impl", None) is not None  # module.compile()
    return in_place or isinstance(module, torch.jit.ScriptModule) or type(module).__name__ == "OptimizedModule"


def _name(path: str, modules: dict[str, nn.Module], taken: set[str]) -> str:
    """A name for the ReLU that the module at ``path`` runs now, other than those that are ``taken``."""
    own = path if isinstance(modules[path], nn.ReLU) else ""
    base = own or f"{path}.relu".lstrip(".")
    for number in itertools.count():
        name = f"{base}_{number}" if number else base
        if name not in taken and (name == own or name not in modules):
            return name
    raise AssertionError("unreachable")


class _Relus(TorchFunctionMode):
    """Hands the input of every ReLU to a function, then runs it."""

    def __init__(self, intercept: Callable[[Tensor], None]) -> None:
        super().__init__()
        self._intercept = intercept

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _RELUS:
            self._intercept(args[0] if args else kwargs["input"])
        return func(*args, **kwargs)


@torch.no_grad()
def preactivations(
    model: nn.Module, images: Tensor, *, batch_size: int = 1000
) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    """Yield the pre-activations and the logits of one batch after another, in eval mode, without gradients.

    Each item is ``({name of the ReLU: z [B, neurons]}, logits [B, classes])``, layers in the order of the
    forward pass and named as in `capture_preactivations`, on the images' device. Memory: one batch of all
    hidden neurons. Each module's mode is restored after every batch.

    Args:
        images: normalised float images [N, C, H, W].

    Raises:
        AnalysisError: as for `capture_preactivations`.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> for z, logits in preactivations(net, torch.ones(5, 1, 2, 2), batch_size=3):
    ...     print(list(z["2"].shape), list(logits.shape))
    [3, 3] [3, 2]
    [2, 3] [2, 2]
    """
    for batch in images.split(batch_size):
        layers: dict[str, Tensor] = {}

        def keep(name: str, z: Tensor, layers: dict[str, Tensor] = layers) -> None:
            layers[name] = z.clone()

        with eval_mode(model), capture_preactivations(model, keep):
            logits = model(batch)
        yield layers, logits
